//! Queries: beside `conntrack -L | awk` that does the same, and beside a listing of as many lines.

use crate::{
    measure::{self, Sink},
    report::Row,
    settings::Settings,
};
use flowgate_test_support::Program;

/// Names of the cases.
pub(crate) const CASES: [&str; 2] = ["--where, beside awk", "--where, beside -L"];

/// Five terms, of which each keeps a part of the flows.
const SELECTIVE: &str = "proto == tcp and dport in {80, 8000..8999} and not src in 10.0.0.0/17 and mark & 0x3 != 0 and \
                         state in {ESTABLISHED, TIME_WAIT, SYN_SENT, CLOSE_WAIT}";
/// The same on the output of conntrack. mawk has no operations on bits.
const AWK: &str = r#"conntrack -L 2>/dev/null | awk '
$1 == "tcp" && ($4 == "ESTABLISHED" || $4 == "TIME_WAIT" || $4 == "SYN_SENT" || $4 == "CLOSE_WAIT") {
    split("", value)
    for (i = 5; i <= NF; i++) if (at = index($i, "=")) { key = substr($i, 1, at - 1); if (!(key in value)) value[key] = substr($i, at + 1) }
    port = value["dport"] + 0
    if ((port == 80 || port >= 8000 && port <= 8999) && value["mark"] % 4 != 0) {
        split(value["src"], byte, ".")
        if (!(byte[1] == 10 && byte[2] == 0 && byte[3] < 128)) print
    }
}'"#;
/// Five terms that are true of every flow, so that every flow is shown.
const TRUE: &str =
    "proto != 255 and mark & 0x40000000 == 0 and timeout < 500000 and status & 0x8000 == 0 and use < 1000000";

/// Runs the selected cases on the table of the network namespace.
///
/// # Errors
/// The two programs do not show the same number of lines.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Row>, String> {
    let Settings { flows, rounds, program: ours, .. } = settings;
    let words = |condition: &str| ["-L", "--where", condition].map(str::to_owned).to_vec();
    let shell = ("/bin/sh", ["-c", AWK].map(str::to_owned).to_vec());
    let listing = (ours.as_str(), vec!["-L".to_owned()]);
    let mut rows = Vec::new();
    for (name, theirs, condition, goal) in [(CASES[0], shell, SELECTIVE, 0.35), (CASES[1], listing, TRUE, 1.05)] {
        if !settings.chooses(name) || settings.before.is_some() {
            continue;
        }
        let own = words(condition);
        let programs = [(theirs.0, theirs.1.as_slice()), (ours.as_str(), own.as_slice())];
        let mut lines = [0; 2];
        for (at, (program, words)) in programs.iter().enumerate() {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            lines[at] = Program::new(*program).must(&words).lines().count();
        }
        if lines[0] != lines[1] || lines[0] == 0 {
            return Err(format!("{name}: {} lines, and {} of flowgate", lines[0], lines[1]));
        }
        let [theirs, ours] = measure::in_turn(programs, *rounds, Sink::Null);
        if name == CASES[1] {
            let nanoseconds = (ours.cpu - theirs.cpu) * 1e6 / f64::from(*flows) / 5.0;
            println!("{name}: {nanoseconds:.1} ns of CPU time a flow and term (goal 3)");
        }
        rows.push(Row { name, lines, theirs, ours, wall: Some(goal), cpu: None, wall_ms: None });
    }
    Ok(rows)
}
