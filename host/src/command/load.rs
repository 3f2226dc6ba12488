//! `-R`: carries out the commands of a load file in order, and stops at the first that fails.

use super::{
    Context,
    entries::Job,
    report::{CommandError, Exit},
    table,
};
use crate::{
    cli::{Command, LoadFile, Place, Settings},
    model::Flows,
    pipeline::batch,
};

/// Most rows of creates that are put together: consecutive ones share a pipeline instead of each having its own.
const TOGETHER: usize = 4096;

/// Carries out a load file. Where it failed is left in `place`.
pub(super) fn run(file: &LoadFile, context: &mut Context<'_>, place: &mut Option<Place>) -> Result<Exit, CommandError> {
    let mut commands = file.commands.iter().enumerate().peekable();
    let at = |index: usize| file.lines.get(index).map(|&line| Place { file: file.name.clone(), line });
    while let Some((index, settings)) = commands.next() {
        *place = at(index);
        if !matches!(settings.command, Command::Create | Command::Add) {
            context.command(settings, true)?;
            continue;
        }
        let mut given = settings.template.clone();
        let same = |next: &(usize, &Settings)| next.1.command == settings.command;
        while (given.length as usize) < TOGETHER
            && let Some((_, next)) = commands.next_if(same)
        {
            batch::append(&mut given, &next.template);
        }
        let Some(row) = table::row(settings.command, settings.table) else { continue };
        let assembly = context.assembly(settings)?;
        let mut done = 0;
        let job = Job {
            row,
            settings,
            assembly: &assembly,
            stop: context.stop,
            sink: &mut *context.sink,
            board: context.board,
            counters: &context.counters,
            source: None,
            loading: true,
            done: &mut done,
        };
        let result = job.run::<Flows>(Some(given));
        // One at a time, each a row: the one after those that were done is the one that failed.
        *place = usize::try_from(done).ok().and_then(|done| at(index + done));
        result?;
    }
    Ok(Exit::Success)
}
