//! `-R`: carries out the commands of a load file in order, and stops at the first that fails.

use super::{
    Context,
    entries::Job,
    report::{CommandError, Exit},
    table,
};
use crate::{
    cli::{Command, LoadFile, Settings},
    model::Flows,
    pipeline::batch,
};

/// Most rows of creates that are put together: consecutive ones share a pipeline instead of each having its own.
const TOGETHER: usize = 4096;

/// Carries out a load file.
pub(super) fn run(file: &LoadFile, context: &mut Context<'_>) -> Result<Exit, CommandError> {
    let mut commands = file.commands.iter().peekable();
    while let Some(settings) = commands.next() {
        if !matches!(settings.command, Command::Create | Command::Add) {
            if context.command(settings, true)? != Exit::Success {
                return Ok(Exit::Failure);
            }
            continue;
        }
        let mut given = settings.template.clone();
        let same = |next: &&Settings| next.command == settings.command;
        while (given.length as usize) < TOGETHER
            && let Some(next) = commands.next_if(same)
        {
            batch::append(&mut given, &next.template);
        }
        let Some(row) = table::row(settings.command, settings.table) else { continue };
        let assembly = context.assembly(settings)?;
        let job =
            Job { row, settings, assembly: &assembly, stop: context.stop, sink: &mut *context.sink, loading: true };
        job.run::<Flows>(Some(given))?;
    }
    Ok(Exit::Success)
}
