//! flowgate: the kernel's connection tracking, streamed through WebAssembly components.
//!
//! This crate is the program:
//!
//! * [`args`]: parses a command line to settings or a subcommand.
//! * [`command`]: carries out settings as a pipeline, and converts its end to an exit status.
//! * [`process`]: the start of the program, its signals and its end.

pub mod args;
pub mod command;
pub mod process;
