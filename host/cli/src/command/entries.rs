//! Runs commands that have entries through the pipeline. The entries come from a dump, a lookup, the command line, or
//! events, of the kernel or of another source such as a recording.

use super::{
    report::{self, CommandError, Exit},
    table::{Row, Source, Summary},
    terminal::Progress,
};
use flowgate_netlink::{Stop, source};
use flowgate_pipeline::{
    Spec, Tally,
    counters::Counters,
    entries::Entries,
    executor::ExecutorError,
    loader::{PluginLoader, Purpose},
    resync::ResyncCounts,
    sink::Sink,
    spec::{Merge, OnRefusal},
    stats::Board,
};
use flowgate_syntax::{Command, Settings};

/// A row of the command table, and the objects that it needs.
pub(super) struct CommandRun<'a> {
    pub row: &'a Row,
    pub settings: &'a Settings,
    /// The pipeline of the row and the settings.
    pub spec: Spec,
    pub loader: &'a PluginLoader,
    pub stop: &'a Stop,
    pub sink: &'a mut dyn Sink,
    /// Receives the statistics of the stages of plugins from files.
    pub board: &'a Board,
    /// Counts of received data.
    pub counters: &'a Counters,
    /// The source; `None` for the kernel. Actions on the entries of a recording are not carried out.
    pub source: Option<&'a mut (dyn source::Source + 'static)>,
    /// The role of the command in a load file.
    pub loading: Loading,
    /// True if the program is called by a name of its own, and not `conntrack`.
    pub own: bool,
    /// Set to the completed actions, even if the command fails.
    pub done: &'a mut CompletedActions,
}

/// The role of a command in a load file. A line of a load file has no summary, and does not fail if nothing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loading {
    /// The command is not part of a load file.
    No,
    /// The command ends with the first action that the kernel refuses.
    UntilRefused,
    /// Actions that the kernel refuses are recorded, and the others are carried out.
    Each {
        /// True if flows are also created without the master that they name, if that does not exist.
        orphans: bool,
    },
}

/// The actions of a command.
#[derive(Debug, Default)]
pub(super) struct CompletedActions {
    /// Number of completed actions.
    pub done: u64,
    /// Number of these that changed an existing entry, for commands that create entries or change existing ones.
    pub changed: u64,
    /// Rows whose action was refused, with the reason.
    pub refused: Vec<(usize, ExecutorError)>,
    /// Rows of which a part was left out, with that part.
    pub kept: Vec<(usize, String)>,
}

impl CommandRun<'_> {
    /// Runs the command. `T` is the type of its entries.
    pub(super) fn run<T: Entries>(self) -> Result<Exit, CommandError> {
        let CommandRun { row, settings, mut spec, loader, stop, sink, board, counters, source, loading, own, done } =
            self;
        spec.on_refusal = match loading {
            Loading::No => OnRefusal::Stop,
            Loading::UntilRefused => OnRefusal::StopAtOnce,
            Loading::Each { .. } => OnRefusal::Note,
        };
        if own && settings.command == Command::Add {
            spec.merge = Some(Merge { orphans: loading != Loading::Each { orphans: false } });
        }
        let (acting_plugins, has_plugins) = (spec.has_acting_plugins(), spec.has_plugins());
        let live = source.is_none() && row.source == Source::Events;
        let loaded = spec.load(loader, Purpose::Run)?;
        loaded.user_stages().for_each(|stage| board.add(stage.stats().clone()));
        let pipeline = loaded.pipeline::<T>(loader, sink)?;
        let mut pipeline = pipeline.with_warnings(report::warnings()).with_counters(counters.clone());
        let mut tally = Tally::default();
        let listing = own && row.source == Source::Dump && loading == Loading::No;
        let progress = listing.then(|| Progress::start(counters));
        let result = match source {
            Some(source) => {
                if source.is_replay() {
                    if acting_plugins && !settings.dry_run {
                        report::line(
                            "NOTE: nothing is done to the kernel's table here; --dry-run prints what would be.",
                        );
                    }
                    pipeline = pipeline.detached();
                }
                pipeline.run_on(source, &mut tally)
            }
            None => pipeline.run(stop, &mut tally),
        };
        drop(progress);
        *done = CompletedActions {
            done: pipeline.done(),
            changed: pipeline.changed(),
            refused: pipeline.take_refusals(),
            kept: pipeline.take_kept(),
        };
        result.map_err(|error| CommandError::of_run(row, error))?;
        if let Some(counts) = pipeline.resync_counts() {
            report_gaps(tally, counts);
        }
        if loading != Loading::No {
            return Ok(Exit::Success);
        }
        for (_, kept) in &done.kept {
            report::banner(&left_out(kept));
        }
        let exit = conclude(row, settings, pipeline.done(), tally.shown);
        if !has_plugins {
            // The process is about to end, which frees sockets and the memory of plugins at once. No output is left to
            // be written.
            std::mem::forget(pipeline);
        }
        let exit = if done.kept.is_empty() { exit } else { Exit::Failure };
        if live && own && tally.messages == 0 {
            report::line("The kernel sent no event at all; `flowgate doctor` finds out why.");
        }
        Ok(exit)
    }
}

/// Returns the message about a part that was left out of a flow.
pub(super) fn left_out(what: &str) -> String {
    format!("left out of the flow: {what}")
}

/// Prints the summary of a command and returns its outcome.
pub(super) fn conclude(row: &Row, settings: &Settings, done: u64, shown: u64) -> Exit {
    if settings.dry_run {
        return conclude_dry_run(done);
    }
    if settings.quiet {
        return Exit::Success;
    }
    if let (Some(_), Summary::Shown(_, nothing)) = (&settings.aggregate, row.summary) {
        report::banner(&format!("{shown} flow entries have been grouped."));
        return Exit::of(shown, nothing, row.source == Source::Events);
    }
    summarize(row, done, shown)
}

/// Prints the summary of a dry run.
pub(super) fn conclude_dry_run(done: u64) -> Exit {
    report::banner(&format!("{done} actions have been printed, none was done."));
    Exit::Success
}

/// Prints the summary of a row.
pub(super) fn summarize(row: &Row, done: u64, shown: u64) -> Exit {
    match row.summary {
        Summary::None => Exit::Success,
        Summary::Always(text) => {
            report::banner(text);
            Exit::Failure
        }
        Summary::Done(text) => {
            report::banner(&format!("{done} {text}"));
            Exit::Success
        }
        Summary::Shown(text, nothing) => {
            report::banner(&format!("{shown} {text}"));
            Exit::of(shown, nothing, row.source == Source::Events)
        }
    }
}

/// Prints the numbers of lost and of recovered events.
pub(super) fn report_gaps(tally: Tally, counts: ResyncCounts) {
    let ResyncCounts { resyncs, new, update, destroy } = counts;
    report::banner(&format!(
        "{} gaps, {} events known to be lost; {resyncs} resyncs made up for them by {new} NEW, {update} UPDATE and \
         {destroy} DESTROY events.",
        tally.gaps, tally.lost
    ));
}
