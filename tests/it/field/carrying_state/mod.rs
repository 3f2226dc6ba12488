//! Tables saved, carried to another machine or zone, and loaded again.

mod complete;
mod living_flows;
mod load_files;
mod offloaded;
mod scripts;
mod stopping;

use crate::field::flowgate;
use flowgate_test_support::{Namespace, Outcome, Program};

/// The program under the name `conntrack`.
fn conntrack() -> Program {
    flowgate().called("conntrack")
}

/// Loads a text with these words behind the file.
fn load(program: &Program, text: &str, behind: &[&str]) -> Outcome {
    program.run_with(&[&["-R", "-"], behind].concat(), text.as_bytes())
}

/// Runs a command line of words between blanks.
fn run(program: &Program, line: &str) -> Outcome {
    program.run(&line.split_whitespace().collect::<Vec<_>>())
}

/// How many flows there are.
fn count(namespace: &Namespace) -> usize {
    flowgate_test_support::entries::count(namespace)
}

/// A flow of UDP.
fn udp(port: u16) -> String {
    format!("-I -t 3000 -s 192.0.2.1 -d 198.51.100.1 -p udp --sport {port} --dport 53\n")
}

/// The last line of standard error.
fn last_line(outcome: &Outcome) -> String {
    outcome.errors().lines().last().unwrap_or_default().to_owned()
}
