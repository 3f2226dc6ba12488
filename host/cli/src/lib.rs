//! flowgate: the kernel's connection tracking, streamed through WebAssembly components.
//!
//! This crate is the program:
//!
//! * [`args`]: a command line becomes settings, or a subcommand.
//! * [`command`]: settings become a pipeline, and its end an exit status.
//! * [`process`]: how the program starts, what signals do to it, how it ends.

pub mod args;
pub mod command;
pub mod process;
