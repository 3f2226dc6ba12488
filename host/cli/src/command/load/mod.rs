//! `-R`: carries out the commands of a load file in order.
//!
//! Under the name `conntrack` it stops at the first line that the kernel refuses, and therefore sends one request at a
//! time. Under its own name it sends requests in batches, and a refused line does not prevent the others. Lines that
//! delete or update share listings of the table (`together`).

mod together;

use std::{collections::VecDeque, fmt};

use super::{
    Context,
    entries::{CommandRun, CompletedActions, Loading, left_out},
    lower,
    report::{self, CommandError, Exit},
    table,
};
use flowgate_model::{Flows, batch, field};
use flowgate_pipeline::executor::ExecutorError;
use flowgate_syntax::{Command, FileLine, LoadFile, LoadedCommand, MAX_REPORTED_LINES, Settings};

/// Carries out a load file. If it fails, `place` is set to the line of the failure.
pub(super) fn run(
    file: &LoadFile,
    context: &mut Context<'_>,
    place: &mut Option<FileLine>,
) -> Result<Exit, CommandError> {
    let each = context.name.has_own_options();
    let mut refused = RefusedLines { file, count: 0 };
    let mut summary = LoadSummary::default();
    for (line, error) in &file.skipped.first {
        refused.report(Some(*line), &error.message());
    }
    refused.count = file.skipped.count;
    summary.refused = file.skipped.count;
    let result = carry_out(file, context, each, (&mut refused, &mut summary), place);
    if refused.count > MAX_REPORTED_LINES {
        report::line(&format!("{} more lines were refused.", refused.count - MAX_REPORTED_LINES));
    }
    let did = file.commands.iter().any(|command| !command.settings.dry_run && !command.settings.explain);
    if each && (did || file.commands.is_empty()) && (result.is_ok() || summary != LoadSummary::default()) {
        report::banner(&summary.to_string());
    }
    let exit = result?;
    Ok(if refused.count == 0 { exit } else { Exit::Failure })
}

/// Carries out the valid lines. Returns a failure if a signal stopped it before the end.
fn carry_out(
    file: &LoadFile,
    context: &mut Context<'_>,
    each: bool,
    (refused, summary): (&mut RefusedLines<'_>, &mut LoadSummary),
    place: &mut Option<FileLine>,
) -> Result<Exit, CommandError> {
    let mut divided = VecDeque::new();
    let mut later: Option<LoadedCommand> = None;
    for (number, command) in file.commands.iter().enumerate() {
        // The signal takes effect between lines.
        if context.stop.is_stopped() {
            return Ok(Exit::Failure);
        }
        *place = refused.at(command.lines.first().copied());
        let row = table::row(command.settings.command, command.settings.table);
        // The next lines share a listing only after all lines of the previous one have been processed.
        let rest = file.commands.get(number..).filter(|_| divided.is_empty()).unwrap_or_default();
        let keys = together::keys(rest);
        if let (Some(row), Some(lines @ [_, ..])) = (row, rest.get(..keys.len())) {
            match together::divide(row, lines, &keys, context) {
                Ok(Some(flows)) => divided.extend(flows.into_iter().map(Some)),
                // The lines turned out not to share a listing: each is carried out by itself.
                Ok(None) => divided.extend(lines.iter().map(|_| None)),
                Err(error @ CommandError::Kernel { .. }) if each && !error.is_refusal() => {
                    summary.refused += 1;
                    refused.report_error(command.lines.first().copied(), &error);
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        context.done = 0;
        let result = if let (Some(Some(mut flows)), Some(row)) = (divided.pop_front(), row) {
            if flows.is_empty() {
                continue;
            }
            let namespace = context.namespace(&command.settings)?;
            let spec = lower::entries(row, &command.settings, namespace);
            context.entries(row, &command.settings, spec, Some(&mut flows), true).map(|_| ())
        } else if !command.settings.explain && matches!(command.settings.command, Command::Create | Command::Add) {
            let mut job = Creation { command, each, orphans: false };
            job.run(context, (&mut *refused, &mut *summary), place, &mut later)
        } else {
            context.command(&command.settings, true).map(|_| ())
        };
        match command.settings.command {
            Command::Delete => summary.deleted += context.done,
            Command::Update => summary.changed += context.done,
            Command::Flush if result.is_ok() => summary.emptied = true,
            _ => {}
        }
        match result {
            // If the privilege is missing, all other lines would fail as well.
            Err(error @ CommandError::Kernel { .. }) if each && !error.is_refusal() => {
                summary.refused += 1;
                refused.report_error(command.lines.first().copied(), &error);
            }
            other => other?,
        }
    }
    if let Some(command) = later {
        // The masters of these flows may have been created by later lines.
        let mut job = Creation { command: &command, each, orphans: true };
        job.run(context, (refused, summary), place, &mut None)?;
    }
    Ok(Exit::Success)
}

/// Summary of a load file.
#[derive(Debug, Default, PartialEq, Eq)]
struct LoadSummary {
    /// True if the table was emptied.
    emptied: bool,
    created: u64,
    changed: u64,
    deleted: u64,
    refused: usize,
}

impl fmt::Display for LoadSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [(self.created, "created"), (self.changed, "changed"), (self.deleted, "deleted")];
        let counts = counts.into_iter().chain([(self.refused as u64, "refused")]).filter(|(count, _)| *count != 0);
        let parts: Vec<String> = (self.emptied.then(|| "table emptied".to_owned()).into_iter())
            .chain(counts.map(|(count, what)| format!("{count} {what}")))
            .collect();
        match parts.is_empty() {
            true => formatter.write_str("nothing created, changed or deleted"),
            false => formatter.write_str(&parts.join(", ")),
        }
    }
}

/// Reports refused lines: the first ones one by one, the others as a number.
struct RefusedLines<'a> {
    file: &'a LoadFile,
    count: usize,
}

impl RefusedLines<'_> {
    /// Returns the place of a line.
    fn at(&self, line: Option<usize>) -> Option<FileLine> {
        line.map(|line| FileLine { file: self.file.name.clone(), line })
    }

    fn report(&mut self, line: Option<usize>, message: &[u8]) {
        self.count += 1;
        if self.count > MAX_REPORTED_LINES {
            return;
        }
        report::banner_bytes(message);
        if let Some(place) = self.at(line) {
            report::line(&format!("in {place}"));
        }
    }

    fn report_error(&mut self, line: Option<usize>, error: &CommandError) {
        self.report(line, error.to_string().as_bytes());
    }
}

/// Creates the flows of a command.
struct Creation<'a> {
    command: &'a LoadedCommand,
    each: bool,
    orphans: bool,
}

impl Creation<'_> {
    /// Creates the flows. Flows whose master does not exist are moved to `later`, unless `orphans` is set.
    fn run(
        &mut self,
        context: &mut Context<'_>,
        (refused, summary): (&mut RefusedLines<'_>, &mut LoadSummary),
        place: &mut Option<FileLine>,
        later: &mut Option<LoadedCommand>,
    ) -> Result<(), CommandError> {
        let Creation { command, each, orphans } = *self;
        let settings = &command.settings;
        let Some(row) = table::row(settings.command, settings.table) else { return Ok(()) };
        let loader = context.loader(settings)?;
        let spec = lower::command(row, settings, context.namespace(settings)?)?;
        let mut done = CompletedActions::default();
        let job = CommandRun {
            row,
            settings,
            spec,
            loader: &loader,
            stop: context.stop,
            sink: &mut *context.sink,
            board: context.board,
            counters: &context.counters,
            source: None,
            own: each,
            loading: if each { Loading::Each { orphans } } else { Loading::UntilRefused },
            done: &mut done,
        };
        let result = job.run::<Flows>();
        summary.created += done.done - done.changed;
        summary.changed += done.changed;
        let line = |row: usize| command.lines.get(row).copied();
        for (number, error) in done.refused {
            let ExecutorError::Refused { errno, .. } = error;
            let has = settings.template.has.get(number).copied().unwrap_or_default();
            if errno == libc::ENOENT && has & field::MASTER != 0 && !orphans {
                put_off(later, command, number);
                continue;
            }
            summary.refused += 1;
            refused.report_error(line(number), &CommandError::of_errno(row, errno));
        }
        for (number, kept) in done.kept {
            refused.report(line(number), left_out(&kept).as_bytes());
        }
        // Requests were sent one at a time, one for each row, so the number of completed requests is the index of the
        // failed row.
        if let (false, Ok(number)) = (each, usize::try_from(done.done)) {
            *place = refused.at(line(number));
        }
        result.map(|_| ())
    }
}

/// Adds a row of a command to `later`.
fn put_off(later: &mut Option<LoadedCommand>, command: &LoadedCommand, row: usize) {
    let later = later.get_or_insert_with(|| LoadedCommand {
        settings: Box::new(Settings { template: Flows::default(), ..(*command.settings).clone() }),
        lines: Vec::new(),
    });
    batch::append(&mut later.settings.template, &batch::copy_row(&command.settings.template, row));
    later.lines.extend(command.lines.get(row));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_name_what_there_is() {
        let summary = LoadSummary { created: 120, deleted: 3, refused: 1, ..LoadSummary::default() };
        assert_eq!(summary.to_string(), "120 created, 3 deleted, 1 refused");
        assert_eq!(
            LoadSummary { emptied: true, changed: 1, ..LoadSummary::default() }.to_string(),
            "table emptied, 1 changed"
        );
        assert_eq!(LoadSummary::default().to_string(), "nothing created, changed or deleted");
    }
}
