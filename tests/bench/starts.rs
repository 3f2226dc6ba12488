//! Start-up: commands whose time is mostly that of starting the program, run many times in turn with `conntrack`.

use crate::{measure, report, settings::Settings};
use flowgate_test_support::{Namespace, Program, entries};
use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

/// First word of the command line that makes this program start two others in turn.
pub(crate) const WORD: &str = "--starts";
/// Number of starts of each program for a case.
const STARTS: usize = 40;

/// A case of the comparison.
pub(crate) struct Case {
    pub name: &'static str,
    /// Number of flows in the table.
    flows: u32,
    words: &'static [&'static str],
    /// Goal for the wall clock as a share of that of `conntrack`, for the fastest start and for the median.
    goal: Option<f64>,
}

pub(crate) const CASES: [Case; 4] = [
    Case { name: "start-up: -C", flows: 100, words: &["-C"], goal: Some(1.4) },
    Case { name: "start-up: -L of 100 flows", flows: 100, words: &["-L"], goal: None },
    Case { name: "start-up: -L of 1,000 flows", flows: 1_000, words: &["-L"], goal: Some(1.0) },
    Case { name: "start-up: -V", flows: 0, words: &["-V"], goal: None },
];

/// Fastest and median wall clock of the starts of a program, in milliseconds.
struct Starts {
    quickest: f64,
    median: f64,
}

impl Starts {
    fn of(mut walls: Vec<f64>) -> Self {
        walls.sort_by(f64::total_cmp);
        let at = |index: usize| walls.get(index).copied().unwrap_or(f64::NAN);
        Self { quickest: at(0), median: at(walls.len() / 2) }
    }
}

/// Measures the selected cases, prints them, and writes them to `bench-starts.tsv` in a directory.
///
/// # Errors
/// The message of a program that failed.
pub(crate) fn run(settings: &Settings, directory: &Path) -> Result<(), String> {
    let chosen: Vec<&Case> = CASES.iter().filter(|case| settings.chooses(case.name)).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    println!("\n{STARTS} starts of each program in turn, {}; wall clock, ms\n", settings.program);
    println!("{:28} {:^17} {:^17} {:^15}", "", settings.other_name(), "flowgate", "ratio");
    println!(
        "{:28} {:>8} {:>8} {:>8} {:>8} {:>7} {:>7}  to reach",
        "", "least", "median", "least", "median", "least", "median"
    );
    let mut table =
        format!("case\t{0}_least\t{0}_median\tflowgate_least\tflowgate_median\tto_reach\n", settings.other_name());
    for Case { name, flows, words, goal } in chosen {
        let [theirs, ours] = Namespace::run(|namespace| {
            if *flows > 0 {
                entries::load(namespace, &entries::busy(*flows));
            }
            in_turn([settings.other(), &settings.program], words)
        })?;
        let goal = settings.goal(*goal);
        let (least, median) = (ours.quickest / theirs.quickest, ours.median / theirs.median);
        let reached = goal.map(|goal| {
            let outcome = if least <= goal && median <= goal { "reached" } else { "MISSED" };
            format!("<= {goal}: {outcome}")
        });
        println!(
            "{name:28} {:8.2} {:8.2} {:8.2} {:8.2} {least:7.2} {median:7.2}  {}",
            theirs.quickest,
            theirs.median,
            ours.quickest,
            ours.median,
            reached.unwrap_or_default()
        );
        let _ = writeln!(
            table,
            "{name}\t{:.3}\t{:.3}\t{:.3}\t{:.3}\t{}",
            theirs.quickest,
            theirs.median,
            ours.quickest,
            ours.median,
            goal.map(|goal| goal.to_string()).unwrap_or_default()
        );
    }
    report::write(&directory.join("bench-starts.tsv"), &table);
    Ok(())
}

/// Starts two programs in turn, from a small separate process.
fn in_turn(programs: [&str; 2], words: &[&str]) -> Result<[Starts; 2], String> {
    for program in programs {
        let outcome = Program::new(program).run(words);
        if outcome.status != 0 {
            return Err(format!("{program} {words:?} ended with status {}: {}", outcome.status, outcome.errors()));
        }
    }
    measure::settle();
    let this = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    let output = Command::new(this)
        .arg(WORD)
        .args(programs)
        .args(words)
        .output()
        .map_err(|error| format!("starting this program: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let walls: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    if !output.status.success() || walls.len() != 2 * STARTS {
        return Err(format!("starting {programs:?} {words:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let every_other = |first: usize| Starts::of(walls.iter().skip(first).step_by(2).copied().collect());
    Ok([every_other(0), every_other(1)])
}

/// The separate process of [`in_turn`]: starts both programs, and prints the time of each start.
pub(crate) fn inside() {
    let mut words = std::env::args().skip(2);
    let programs = [(); 2].map(|()| words.next().expect("a program to start"));
    let words: Vec<String> = words.collect();
    for _ in 0..STARTS {
        for program in &programs {
            let mut command = Command::new(program);
            command.args(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let start = Instant::now();
            let status = command.status().unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
            let wall = start.elapsed();
            assert!(status.success(), "{program} ended with {status}");
            println!("{}", wall.as_secs_f64() * 1e3);
        }
    }
}
