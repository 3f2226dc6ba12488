//! Recordings of a real kernel: a replay equals the output of the live command byte for byte, in every format, as any
//! user, and for captures made by other programs.
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

/// Runs a program with words separated by spaces; `FILE` stands for the recording.
fn run(program: &Program, file: &Path, line: &str) -> Outcome {
    let file = file.display().to_string();
    let words: Vec<&str> =
        line.split_whitespace().map(|word| if word == "FILE" { file.as_str() } else { word }).collect();
    program.run(&words)
}

/// Returns standard error without the line about the recording.
fn without_record_line(outcome: &Outcome) -> String {
    outcome
        .errors()
        .lines()
        .filter(|line| !line.contains("have been recorded"))
        .map(|line| format!("{line}\n"))
        .collect()
}
