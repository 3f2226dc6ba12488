//! `-R`: carries out the commands of a load file in order.
//!
//! Invoked as `conntrack` it stops at the first line that the kernel refuses, which means one request at a time. Under its own
//! name requests go in batches, and a line that is refused loses only itself: all others are carried out. Lines that delete or
//! update share listings of the table (`together`).

mod together;

use std::collections::VecDeque;

use super::{
    Context,
    entries::{Done, Job, Loading},
    report::{self, CommandError, Exit},
    table,
};
use crate::{
    cli::{Command, LoadFile, LoadedCommand, Place},
    model::Flows,
    pipeline::executor::ExecutorError,
};

/// How many refused lines are told one by one.
const TOLD: usize = 10;

/// Carries out a load file. Where it failed is left in `place`.
pub(super) fn run(file: &LoadFile, context: &mut Context<'_>, place: &mut Option<Place>) -> Result<Exit, CommandError> {
    let each = context.name.has_own_options();
    let mut refused = Refused { file, count: 0 };
    let mut aside = VecDeque::new();
    for (number, command) in file.commands.iter().enumerate() {
        // A signal asks for the end: what has been done is whole lines.
        if context.stop.is_stopped() {
            return Ok(Exit::Failure);
        }
        *place = refused.at(command, 0);
        let row = table::row(command.settings.command, command.settings.table);
        // Only where the flows of all lines before have been taken.
        let rest = file.commands.get(number..).filter(|_| aside.is_empty()).unwrap_or_default();
        let keys = together::keys(rest);
        if let (Some(row), Some(lines @ [_, ..])) = (row, rest.get(..keys.len())) {
            match together::put_aside(row, lines, &keys, context) {
                Ok(Some(flows)) => aside.extend(flows.into_iter().map(Some)),
                // Each by itself, but it is found out only once that they cannot be done together.
                Ok(None) => aside.extend(lines.iter().map(|_| None)),
                Err(error @ CommandError::Kernel { .. }) if each => {
                    refused.tell(command, 0, &error);
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        let result = if let (Some(Some(mut flows)), Some(row)) = (aside.pop_front(), row) {
            if flows.is_empty() {
                continue;
            }
            context.entries(row, &command.settings, Some(&mut flows), true).map(|_| ())
        } else if !command.settings.explain && matches!(command.settings.command, Command::Create | Command::Add) {
            create(command, context, each, &mut refused, place)
        } else {
            context.command(&command.settings, true).map(|_| ())
        };
        match result {
            Err(error @ CommandError::Kernel { .. }) if each => refused.tell(command, 0, &error),
            other => other?,
        }
    }
    if refused.count > TOLD {
        report::line(&format!("{} more lines were refused.", refused.count - TOLD));
    }
    Ok(if refused.count == 0 { Exit::Success } else { Exit::Failure })
}

/// Lines of a file that were refused.
struct Refused<'a> {
    file: &'a LoadFile,
    count: usize,
}

impl Refused<'_> {
    /// The place of a line of a command.
    fn at(&self, command: &LoadedCommand, line: usize) -> Option<Place> {
        command.lines.get(line).map(|&line| Place { file: self.file.name.clone(), line })
    }

    fn tell(&mut self, command: &LoadedCommand, line: usize, error: &CommandError) {
        self.count += 1;
        if self.count > TOLD {
            return;
        }
        report::banner(&error.to_string());
        if let Some(place) = self.at(command, line) {
            report::line(&format!("in {place}"));
        }
    }
}

/// Makes the flows of a command.
fn create(
    command: &LoadedCommand,
    context: &mut Context<'_>,
    each: bool,
    refused: &mut Refused<'_>,
    place: &mut Option<Place>,
) -> Result<(), CommandError> {
    let settings = &command.settings;
    let Some(row) = table::row(settings.command, settings.table) else { return Ok(()) };
    let (assembly, namespace) = (context.assembly(settings)?, context.namespace(settings)?);
    let mut done = Done::default();
    let job = Job {
        row,
        settings,
        namespace: namespace.as_ref(),
        assembly: &assembly,
        stop: context.stop,
        sink: &mut *context.sink,
        board: context.board,
        counters: &context.counters,
        source: None,
        own: each,
        loading: if each { Loading::Each } else { Loading::UntilRefused },
        done: &mut done,
    };
    let result = job.run::<Flows>(None);
    for (line, error) in done.refused {
        let ExecutorError::Refused { errno, .. } = error;
        refused.tell(command, line, &CommandError::of_errno(row, errno));
    }
    // One at a time, each a row: the one after those that were done is the one that failed.
    if let (false, Ok(line)) = (each, usize::try_from(done.done)) {
        *place = refused.at(command, line);
    }
    result.map(|_| ())
}
