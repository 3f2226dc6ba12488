//! The program: signals, and how the process ends. Everything else is the library's.

use std::{process::ExitCode, time::Duration};

use flowgate::{
    command::{self, Exit, report},
    netlink::Stop,
    pipeline::stats::Board,
};
use signal_hook::low_level::emulate_default_handler;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long what is under way may take to end after a signal: a reader that does not read holds up the writing for ever.
const PATIENCE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    match start() {
        Ok(exit) => exit,
        Err(error) => {
            report::banner(&format!("cannot start: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn start() -> std::io::Result<ExitCode> {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_else(|| "flowgate".into());
    let arguments: Vec<_> = arguments.collect();
    // While this is the only thread: what it gives up, those that it starts do not have.
    let order = command::understand(&program, &arguments).and_then(|order| order.give_up_privileges().map(|()| order));
    let order = match order {
        Ok(order) => order,
        Err(exit) => return Ok(end(exit)),
    };
    let stop = Stop::new()?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let board = Board::default();
        let mut tell = order.has_plugins().then(|| signal(SignalKind::user_defined1())).transpose()?;
        let (worker_stop, worker_board) = (stop.clone(), board.clone());
        let mut work = tokio::task::spawn_blocking(move || order.carry_out(&worker_stop, &worker_board));
        let caught = loop {
            tokio::select! {
                done = &mut work => return Ok(end(done.unwrap_or(Exit::Failure))),
                _ = interrupt.recv() => break libc::SIGINT,
                _ = terminate.recv() => break libc::SIGTERM,
                Some(()) = next(&mut tell) => report::text(board.text().as_bytes()),
            }
        };
        stop.stop();
        if let Ok(Ok(Exit::Stopped)) = tokio::time::timeout(PATIENCE.max(board.patience()), work).await {
            return Ok(end(Exit::Stopped));
        }
        // As a program that does not catch the signal: the shell and its scripts see what happened.
        let _ = emulate_default_handler(caught);
        Ok(ExitCode::FAILURE)
    })
}

/// The next signal of a kind that is listened for; never, if it is not.
async fn next(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// The exit status; nobody to read the output ends the process as SIGPIPE does.
fn end(exit: Exit) -> ExitCode {
    if exit == Exit::BrokenPipe {
        let _ = emulate_default_handler(libc::SIGPIPE);
    }
    ExitCode::from(exit.status())
}
