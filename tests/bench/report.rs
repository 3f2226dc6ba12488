//! The figures as a table for readers and a table for programs.

use crate::measure::Figures;
use std::{fmt::Write, path::Path};

/// Goal for the peak memory of flowgate in MiB, whatever the size of the table.
const MEMORY: f64 = 64.0;

/// The result of a case.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Name of the case.
    pub name: &'static str,
    /// Number of lines that the other program and flowgate wrote.
    pub lines: [usize; 2],
    /// Medians of the other program.
    pub theirs: Figures,
    /// Medians of flowgate.
    pub ours: Figures,
    /// Goal for the wall clock, as a share of that of the other program.
    pub wall: Option<f64>,
    /// Goal for the CPU time, as a share of that of the other program.
    pub cpu: Option<f64>,
    /// Goal for the wall clock in milliseconds.
    pub wall_ms: Option<f64>,
}

impl Row {
    /// Returns the missed goals as text; empty if all are reached.
    fn missed(&self) -> String {
        let mut missed = Vec::new();
        let mut check = |what: &str, value: f64, goal: Option<f64>| {
            if let Some(goal) = goal.filter(|goal| value > *goal) {
                missed.push(format!("{what} {value:.2} > {goal}"));
            }
        };
        check("wall", self.ours.wall / self.theirs.wall, self.wall);
        check("cpu", self.ours.cpu / self.theirs.cpu, self.cpu);
        check("wall ms", self.ours.wall, self.wall_ms);
        check("MiB", self.ours.memory, Some(MEMORY));
        missed.join(", ")
    }

    /// Returns the goals as text.
    fn goals(&self) -> String {
        let goals = [("wall", self.wall), ("cpu", self.cpu), ("wall ms", self.wall_ms)];
        goals
            .iter()
            .filter_map(|(what, goal)| goal.map(|goal| format!("{what} <= {goal}")))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Prints the table for readers.
///
/// `other` is the name of the program that flowgate is compared with.
pub(crate) fn print(rows: &[Row], other: &str) {
    println!("\n{:21} {:^28} {:^23} {:^19}", "", "wall, ms", "CPU, ms", "peak memory, MiB");
    println!(
        "{:21} {:>9} {:>9} {:>8} {:>8} {:>8} {:>5} {:>9} {:>9}  to reach",
        "",
        other,
        "flowgate",
        "ratio",
        &other[..other.len().min(8)],
        "flowgate",
        "ratio",
        other,
        "flowgate"
    );
    for row in rows {
        let Row { name, theirs, ours, .. } = row;
        let missed = row.missed();
        println!(
            "{name:21} {:9.1} {:9.1} {:8.2} {:8.0} {:8.0} {:5.2} {:9.1} {:9.1}  {}{}",
            theirs.wall,
            ours.wall,
            ours.wall / theirs.wall,
            theirs.cpu,
            ours.cpu,
            ours.cpu / theirs.cpu,
            theirs.memory,
            ours.memory,
            row.goals(),
            if !missed.is_empty() {
                format!(": MISSED ({missed})")
            } else if row.goals().is_empty() {
                String::new()
            } else if row.theirs.wall.is_nan() {
                ": nothing to compare with".to_owned()
            } else {
                ": reached".to_owned()
            }
        );
        if row.lines[0] != row.lines[1] {
            println!("{:21} {other} wrote {} lines and flowgate {}", "", row.lines[0], row.lines[1]);
        }
    }
    println!("Memory to reach: {MEMORY} MiB at most in every case.");
}

/// Returns the table for programs: a header, then a line per case; times in milliseconds, memory in MiB.
pub(crate) fn tsv(rows: &[Row], other: &str) -> String {
    let mut text = "case".to_owned();
    for figure in ["wall", "cpu", "memory", "lines"] {
        let _ = write!(text, "\t{other}_{figure}\tflowgate_{figure}");
    }
    text += "\tto_reach\tmissed\n";
    for row in rows {
        let Row { name, lines, theirs, ours, .. } = row;
        let _ = writeln!(
            text,
            "{name}\t{:.3}\t{:.3}\t{:.3}\t{:.3}\t{:.3}\t{:.3}\t{}\t{}\t{}\t{}",
            theirs.wall,
            ours.wall,
            theirs.cpu,
            ours.cpu,
            theirs.memory,
            ours.memory,
            lines[0],
            lines[1],
            row.goals(),
            row.missed()
        );
    }
    text
}

/// Writes a table for programs to a file.
pub(crate) fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
    println!("written to {}", path.display());
}
