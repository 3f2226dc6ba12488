//! The process: its start, its signals, and its end.
//!
//! One thread runs the command. A second one reads from the kernel if that is worthwhile
//! ([`flowgate_pipeline`]). Threads for the clock, for metrics and for SIGUSR1 exist only if they are needed.

mod memory;
mod signals;
mod stack;

use std::{
    env,
    io::{self, Write as _},
    panic,
};

pub use memory::Checked;

use crate::command::{self, CommandLine, Exit};
use flowgate_base::inherited;
use flowgate_isolation::Role;
use flowgate_netlink::Stop;
use flowgate_pipeline::stats::Board;

/// Exit status of a panic, that of the standard library's runtime.
const PANICKED: u8 = 101;

/// Runs the command line of the process, and ends the process.
pub fn main() -> ! {
    // The panic hook has already printed the panic.
    let status = panic::catch_unwind(run).unwrap_or(PANICKED);
    leave(status)
}

/// Runs the command line of the process and returns the exit status. Does not return if a signal ends the
/// process.
fn run() -> u8 {
    // This precedes the opening of files, and the ignoring of SIGPIPE.
    inherited::record();
    signals::ignore_broken_pipes();
    stack::provide();
    let mut arguments = env::args_os();
    let program = arguments.next().unwrap_or_else(|| "flowgate".into());
    // Started by the spawner, with a channel; by hand, it ends at once.
    if let Some(role) = Role::of(program.as_encoded_bytes()) {
        return command::work(role);
    }
    let arguments: Vec<_> = arguments.collect();
    // This is the only thread yet; threads that it starts inherit its privileges.
    let command_line = CommandLine::parse(&program, &arguments)
        .and_then(|command_line| command_line.give_up_privileges().map(|()| command_line));
    let command_line = match command_line {
        Ok(command_line) => command_line,
        Err(exit) => return status(exit),
    };
    let (stop, board) = (Stop::default(), Board::default());
    if command_line.ends_gracefully() {
        signals::catch(&stop, &board);
    }
    if command_line.has_plugins() {
        signals::print_statistics_on_request(&board);
    }
    let exit = command_line.run(&stop, &board);
    command::drain_standard_error();
    if let Some(signal) = signals::caught().filter(|_| exit != Exit::Stopped) {
        signals::end_by(signal);
    }
    status(exit)
}

/// Returns the exit status. If the reader of the output is gone, the process ends as by SIGPIPE.
fn status(exit: Exit) -> u8 {
    if exit == Exit::BrokenPipe {
        signals::end_by(libc::SIGPIPE);
    }
    exit.status()
}

/// Ends the process at once: files and sinks have been written, and the kernel frees everything else faster than
/// destructors would.
fn leave(status: u8) -> ! {
    command::end_compiling();
    // An error is ignored: the process ends in any case.
    let _ = io::stdout().flush();
    // SAFETY: ends the process; no code runs afterwards that could see an inconsistent state.
    #[allow(unsafe_code)]
    unsafe {
        libc::_exit(i32::from(status))
    }
}
