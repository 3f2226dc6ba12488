//! `--confirm-above N`: asks before more than N entries are deleted or changed.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    lower,
    report::{self, CommandError, Exit},
    table::Row,
};
use flowgate_model::Flows;
use flowgate_netlink::{Namespace, Stop};
use flowgate_pipeline::{
    Tally,
    loader::{PluginLoader, Purpose},
    sink::{Sink, SinkError},
};
use flowgate_syntax::{Command, Settings};
use flowgate_top::cells::count;

/// Discards the lines of a dry run.
struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: &[u8]) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Asks the user if more than `limit` actions are to be done. They are counted by a dry run that prints nothing.
/// Returns `None` if the command may run, and otherwise its outcome.
pub(super) fn ask(
    row: &Row,
    settings: &Settings,
    limit: u64,
    (loader, namespace): (&PluginLoader, Option<Namespace>),
    stop: &Stop,
) -> Result<Option<Exit>, CommandError> {
    let counted = Settings { dry_run: true, ..settings.clone() };
    let loaded = lower::entries(row, &counted, namespace).load(loader, Purpose::Run)?;
    let mut nowhere = Nowhere;
    let mut pipeline = loaded.pipeline::<Flows>(loader, &mut nowhere)?.with_warnings(report::warnings());
    pipeline.run(stop, &mut Tally::default()).map_err(|error| CommandError::of_run(row, error))?;
    let actions = pipeline.done();
    drop(pipeline);
    if stop.is_stopped() {
        return Ok(Some(Exit::Failure));
    }
    if actions <= limit {
        return Ok(None);
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(CommandError::Unconfirmed { actions, limit });
    }
    let verb = if settings.command == Command::Delete { "delete" } else { "change" };
    // A terminal that cannot be written to has no answer either.
    let _ = write!(io::stderr(), "{verb} {} flows? [y/N] ", count(actions));
    if answer(stop).is_some_and(|answer| matches!(answer.trim(), "y" | "Y" | "yes")) {
        return Ok(None);
    }
    report::line("nothing was done.");
    Ok(Some(Exit::Failure))
}

/// Reads a line from standard input, a terminal; `None` at its end, or if the user ends the program.
fn answer(stop: &Stop) -> Option<String> {
    let stdin = io::stdin();
    let stopped = stop.descriptor().ok()?;
    loop {
        let waited = [stdin.as_fd(), stopped].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut waited.clone(), PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) if !stop.is_stopped() => continue,
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
        if stop.is_stopped() {
            // The next message begins on a line of its own.
            let _ = writeln!(io::stderr());
            return None;
        }
        let mut line = String::new();
        return match stdin.lock().read_line(&mut line) {
            Ok(1..) => Some(line),
            _ => None,
        };
    }
}
