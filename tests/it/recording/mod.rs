//! Recordings of a real kernel: a recording replays to the output of the live command, byte for byte, in every format,
//! as any user, and from captures of others.
//!
//! Needs root, and `conntrack`, `nft`, `ip` and `ping`: `make setup` installs them.

mod capture;
mod golden;
mod listener;
mod live;
mod refused;

use flowgate_test_support::flowgate;
use flowgate_test_support::{Outcome, Program};
use std::path::Path;

/// Runs it with words separated by blanks; `FILE` stands for the recording.
fn run(program: &Program, file: &Path, line: &str) -> Outcome {
    let file = file.display().to_string();
    let words: Vec<&str> =
        line.split_whitespace().map(|word| if word == "FILE" { file.as_str() } else { word }).collect();
    program.run(&words)
}

/// Standard error without the line about the recording.
fn without_record_line(outcome: &Outcome) -> String {
    outcome
        .errors()
        .lines()
        .filter(|line| !line.contains("have been recorded"))
        .map(|line| format!("{line}\n"))
        .collect()
}
