//! What people really type, in the units in which they really run it: one test a case, by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

#[path = "../plugins/mod.rs"]
mod plugins;

mod carrying_state;
mod command_lines;
mod files;
mod hardened;
mod kernels;
mod names;
mod output;
mod scripts;

use flowgate_test_support::Program;

/// The program under its own name.
#[allow(dead_code, reason = "modules are filled one by one")]
fn flowgate() -> Program {
    Program::new(env!("CARGO_BIN_EXE_flowgate"))
}
