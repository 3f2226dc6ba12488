//! Tables that are saved, transferred to another machine or zone, and loaded again.

mod complete;
mod living_flows;
mod load_files;
mod offloaded;
mod scripts;
mod stopping;

use crate::field::flowgate;
use flowgate_test_support::{Namespace, Outcome, Program};

/// Returns the program under the name `conntrack`.
fn conntrack() -> Program {
    flowgate().called("conntrack")
}

/// Loads a text with `-R -`, followed by these words.
fn load(program: &Program, text: &str, behind: &[&str]) -> Outcome {
    program.run_with(&[&["-R", "-"], behind].concat(), text.as_bytes())
}

/// Runs a command line of words separated by spaces.
fn run(program: &Program, line: &str) -> Outcome {
    program.run(&line.split_whitespace().collect::<Vec<_>>())
}

/// Returns the number of flows.
fn count(namespace: &Namespace) -> usize {
    flowgate_test_support::entries::count(namespace)
}

/// Returns the line of a UDP flow.
fn udp(port: u16) -> String {
    format!("-I -t 3000 -s 192.0.2.1 -d 198.51.100.1 -p udp --sport {port} --dport 53\n")
}

/// Returns the last line of standard error.
fn last_line(outcome: &Outcome) -> String {
    outcome.errors().lines().last().unwrap_or_default().to_owned()
}
