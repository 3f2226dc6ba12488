//! What helps those who run it: `flowgate doctor` and `--explain`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

#[path = "../plugins/mod.rs"]
mod plugins;

mod bulk;
mod doctor;
mod explain;

use flowgate_test_support::{Outcome, Program};

fn flowgate() -> Program {
    Program::new(env!("CARGO_BIN_EXE_flowgate"))
}

fn run(line: &str) -> Outcome {
    flowgate().run(&line.split_whitespace().collect::<Vec<_>>())
}
