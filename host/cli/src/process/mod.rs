//! The process: how it starts, what signals do to it, and how it ends.
//!
//! One thread carries out the command. A second one reads the kernel where that is worth it ([`flowgate_pipeline`]); those of the
//! clock, of metrics and of SIGUSR1 exist only where they are needed.

mod memory;
mod signals;
mod stack;

use std::{
    env,
    io::{self, Write as _},
    panic,
};

pub use memory::Checked;

use crate::command::{self, Exit};
use flowgate_base::inherited;
use flowgate_netlink::Stop;
use flowgate_pipeline::stats::Board;

/// Exit status of a panic, as the standard library's runtime has it.
const PANICKED: u8 = 101;

/// Carries out the command line of the process, and ends the process.
pub fn main() -> ! {
    // The panic itself has been reported by its hook.
    let status = panic::catch_unwind(run).unwrap_or(PANICKED);
    leave(status)
}

/// Carries out the command line of the process: its exit status. Does not return if a signal is what ends it.
fn run() -> u8 {
    // Before anything is opened, and before SIGPIPE is ignored.
    inherited::record();
    signals::ignore_broken_pipes();
    stack::provide();
    let mut arguments = env::args_os();
    let program = arguments.next().unwrap_or_else(|| "flowgate".into());
    let arguments: Vec<_> = arguments.collect();
    // While this is the only thread: what it gives up, those that it starts do not have.
    let order = command::understand(&program, &arguments).and_then(|order| order.give_up_privileges().map(|()| order));
    let order = match order {
        Ok(order) => order,
        Err(exit) => return status(exit),
    };
    let (stop, board) = (Stop::default(), Board::default());
    if order.has_an_end() {
        signals::catch(&stop, &board);
    }
    if order.has_plugins() {
        signals::print_statistics_on_request(&board);
    }
    let exit = order.carry_out(&stop, &board);
    command::drain_standard_error();
    if let Some(signal) = signals::caught().filter(|_| exit != Exit::Stopped) {
        signals::end_by(signal);
    }
    status(exit)
}

/// The exit status; nobody to read the output ends the process as SIGPIPE does.
fn status(exit: Exit) -> u8 {
    if exit == Exit::BrokenPipe {
        signals::end_by(libc::SIGPIPE);
    }
    exit.status()
}

/// Ends the process at once: files and sinks are written by now, and what else there is, the kernel takes back faster than
/// destructors would.
fn leave(status: u8) -> ! {
    // Nobody to write to is no reason to stay.
    let _ = io::stdout().flush();
    // SAFETY: ends the process; nothing is run that could find something half done.
    #[allow(unsafe_code)]
    unsafe {
        libc::_exit(i32::from(status))
    }
}
