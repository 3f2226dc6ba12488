//! Runs the rows of the command table that have entries: a dump, a lookup, what the command line describes, or events,
//! through the pipeline. They come from the kernel, or from elsewhere: a recording, say.

use super::{
    lower, outputs,
    report::{self, CommandError, Exit},
    sources,
    subject::Subject,
    table::{Row, Source, Summary},
};
use flowgate_model::field;
use flowgate_netlink::{DumpKind, Namespace, Stop, source};
use flowgate_pipeline::tell::Tell;
use flowgate_pipeline::{
    Pipeline, RunError, Tally,
    consumer::Consumer,
    counters::Counters,
    executor::{Executor, ExecutorError, Shows},
    format::Format,
    loader::{PluginLoader, Purpose},
    resync::{self, Healed, Kinds, Resync},
    run::{EARLY_ROWS, LookBack},
    sink::Sink,
    stage::{self, Stage},
    stats::Board,
};
use flowgate_syntax::{Command, EventGroups, Settings};

/// A row of the command table, and what is needed to carry it out.
pub(super) struct Job<'a> {
    pub row: &'a Row,
    pub settings: &'a Settings,
    /// The network namespace to work in; none for that of the process.
    pub namespace: Option<&'a Namespace>,
    pub loader: &'a PluginLoader,
    pub stop: &'a Stop,
    pub sink: &'a mut dyn Sink,
    /// Where the stages of the user are told of.
    pub board: &'a Board,
    /// What is received is counted there.
    pub counters: &'a Counters,
    /// Where the entries come from; none for the kernel. Nothing is done to those of a recording.
    pub source: Option<&'a mut (dyn source::Source + 'static)>,
    /// Whether this is a line of a load file.
    pub loading: Loading,
    /// Whether the program is called by a name of its own, and not `conntrack`.
    pub own: bool,
    /// Set to what was done, also when the job fails.
    pub done: &'a mut Done,
}

/// Whether a job is a line of a load file: no summary, and nothing found is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loading {
    /// It is a command of its own.
    No,
    /// It ends with the first action that the kernel refuses.
    UntilRefused,
    /// Actions that the kernel refuses are noted, and the others are done.
    Each {
        /// Whether flows are also made without the flow that they were expected by, if that is not there.
        orphans: bool,
    },
}

/// What a job did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Actions that were done.
    pub done: u64,
    /// How many of these changed an entry, where the command makes entries or changes those that exist.
    pub changed: u64,
    /// Rows whose action was refused, and why.
    pub refused: Vec<(usize, ExecutorError)>,
    /// Rows of which something was left out, and what.
    pub kept: Vec<(usize, String)>,
}

impl Job<'_> {
    /// Carries the row out, on the entries that the command line describes if it describes any (more than one when
    /// lines of a load file were put together).
    pub(super) fn run<T: Subject>(self, given: Option<T>) -> Result<Exit, CommandError> {
        let Job { row, settings, namespace, loader, stop, sink, board, counters, source, loading, own, done } = self;
        let parts = parts::<T>(row, settings, loader, board)?;
        let guarded = parts.guarded;
        let live = source.is_none() && row.source == Source::Events;
        let mut pipeline = join::<T>(parts, settings, namespace, loader, sink)?;
        pipeline.counters = counters.clone();
        if settings.plugins.is_empty() && row.shows == Shows::Entries {
            pipeline.early_rows = pipeline.batch_rows.min(EARLY_ROWS);
        }
        if source.as_ref().is_some_and(|source| source.is_replay()) {
            if guarded && !settings.dry_run {
                report::line("NOTE: nothing is done to the kernel's table here; --dry-run prints what would be.");
            }
            pipeline.executor = pipeline.executor.detached();
        }
        match loading {
            Loading::No => {}
            Loading::UntilRefused => pipeline.executor = pipeline.executor.one_by_one(),
            Loading::Each { .. } => pipeline.executor = pipeline.executor.noting_refusals(),
        }
        if own && settings.command == Command::Add {
            pipeline.executor = pipeline.executor.merging(loading != Loading::Each { orphans: false });
        }
        let mut tally = Tally::default();
        let result = drive(Circumstances { row, settings, namespace, stop }, &mut pipeline, source, given, &mut tally);
        *done = Done {
            done: pipeline.executor.done(),
            changed: pipeline.executor.changed(),
            refused: pipeline.executor.take_refusals(),
            kept: pipeline.executor.take_kept(),
        };
        result?;
        if let Some(resync) = &pipeline.resync {
            tell(tally, resync.healed());
        }
        if loading != Loading::No {
            return Ok(Exit::Success);
        }
        for (_, kept) in &done.kept {
            report::banner(&left_out(kept));
        }
        let exit = conclude(row, settings, pipeline.executor.done(), tally.shown);
        if settings.plugins.is_empty() {
            // The process ends, and with it its sockets and the memory of its plugins, all at once. Nothing is left to be written.
            std::mem::forget(pipeline);
        }
        let exit = if done.kept.is_empty() { exit } else { Exit::Failure };
        if live && own && tally.messages == 0 {
            report::line("The kernel sent no event at all; `flowgate doctor` finds out why.");
        }
        Ok(exit)
    }
}

/// Says what was left out of a flow.
pub(super) fn left_out(what: &str) -> String {
    format!("left out of the flow: {what}")
}

/// What a pipeline runs for, and where.
#[derive(Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub row: &'a Row,
    pub settings: &'a Settings,
    /// The network namespace, if not that of the process.
    pub namespace: Option<&'a Namespace>,
    pub stop: &'a Stop,
}

/// Runs a pipeline on what the row's source yields (`source` instead of the kernel, if there is one), or on the entries that
/// are given if it yields those.
pub(super) fn drive<'a, T: Subject>(
    circumstances: Circumstances<'a>,
    pipeline: &mut Pipeline<'a, T>,
    source: Option<&mut (dyn source::Source + 'static)>,
    given: Option<T>,
    tally: &mut Tally,
) -> Result<(), CommandError> {
    let Circumstances { row, settings, namespace, stop } = circumstances;
    let failed = |error: RunError| CommandError::of_run(row, error);
    if row.source == Source::Given {
        return pipeline.feed(given.unwrap_or_else(|| T::given(settings)), tally).map_err(failed);
    }
    let mut kernel;
    let source = match source {
        Some(source) => source,
        None => {
            if row.source == Source::Events {
                pipeline.look_back = Some(look_back::<T>(settings, namespace, stop));
                pipeline.resync = settings.resync.then(|| resync(settings, namespace, stop));
            }
            kernel = sources::open::<T>(row, settings, namespace, stop, &pipeline.counters, false)?;
            kernel.as_mut()
        }
    };
    pipeline.run(source, tally).map_err(failed)
}

/// Says what a row came to.
pub(super) fn conclude(row: &Row, settings: &Settings, done: u64, shown: u64) -> Exit {
    if settings.dry_run {
        report::banner(&format!("{done} actions have been printed, none was done."));
        return Exit::Success;
    }
    if settings.quiet {
        return Exit::Success;
    }
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

/// Dumps of the table for stages that look back.
fn look_back<'a, T: Subject>(settings: &'a Settings, namespace: Option<&'a Namespace>, stop: &'a Stop) -> LookBack<'a> {
    Box::new(move || sources::table::<T>(DumpKind::FLOWS, settings, namespace, stop))
}

/// What makes up for lost events.
fn resync<'a>(settings: &Settings, namespace: Option<&Namespace>, stop: &Stop) -> Resync<'a> {
    let EventGroups { new, update, destroy } = settings.events;
    Resync::new(Box::new(sources::Flowtable::new(namespace, stop)), Kinds { new, update, destroy })
}

/// Says what was lost and made up for.
pub(super) fn tell(tally: Tally, healed: Healed) {
    let Healed { resyncs, new, update, destroy } = healed;
    report::banner(&format!(
        "{} gaps, {} events known to be lost; {resyncs} resyncs made up for them by {new} NEW, {update} UPDATE and \
         {destroy} DESTROY events.",
        tally.gaps, tally.lost
    ));
}

/// What is joined to a pipeline.
pub(super) struct Parts {
    pub stages: Vec<Stage>,
    pub format: Option<Format>,
    /// What is shown after actions.
    pub shows: Shows,
    /// Whether plugins of the user may act.
    pub guarded: bool,
}

/// The parts of a row.
pub(super) fn parts<T: Subject>(
    row: &Row,
    settings: &Settings,
    loader: &PluginLoader,
    board: &Board,
) -> Result<Parts, CommandError> {
    let mut stages = Vec::new();
    if row.selects
        && let Some(selection) = T::selection(settings)
    {
        stages.push(loader.selecting_stage("match", selection)?);
    }
    for spec in &settings.plugins {
        let stage = lower::prepare(loader, spec, T::STAGE, Purpose::Run)?.into_stage();
        board.add(stage.stats().clone());
        stages.push(stage);
    }
    if let Some(name) = row.acts {
        stages.push(lower::acting_stage(loader, name, T::STAGE, settings)?);
    }
    let format = match row.look {
        _ if settings.dry_run || settings.quiet => None,
        None => None,
        Some(look) => {
            let (name, options) = outputs::format(settings.output, look);
            Some(loader.format(name, T::FORMAT, &options, look.labels)?)
        }
    };
    let guarded = settings.plugins.iter().any(|plugin| plugin.grants.acts());
    // What is not shown need not be read again.
    let shows = if settings.quiet && row.shows == Shows::Reread { Shows::Acted } else { row.shows };
    Ok(Parts { stages, format, shows, guarded })
}

/// Joins parts to a pipeline.
pub(super) fn join<'a, T: Subject>(
    parts: Parts,
    settings: &Settings,
    namespace: Option<&Namespace>,
    loader: &PluginLoader,
    sink: &'a mut dyn Sink,
) -> Result<Pipeline<'a, T>, CommandError> {
    let Parts { stages, format, shows, guarded } = parts;
    let shown = format.as_ref().map_or(0, |format| format.reads());
    // What a dry run prints of an action is up to the format that it prints with.
    let followed = if settings.resync { resync::READS } else { 0 };
    let wanted = stage::needed(&stages, if settings.dry_run { field::ALL } else { shown | followed });
    let mut executor = Executor::new(shows, T::decoder(shown), report::line).within(namespace);
    if guarded {
        executor = executor.guarded();
    }
    if settings.dry_run {
        executor = executor.dry(loader.plan(T::FORMAT)?);
    }
    Ok(Pipeline {
        batch_rows: settings.batch as usize,
        early_rows: settings.batch as usize,
        decoder: T::decoder(wanted),
        stages,
        executor,
        consumer: format.map(|format| Box::new(format) as Box<dyn Consumer<T>>),
        sink,
        on_gap: report::gap,
        on_warning: Tell::new(report::line),
        look_back: None,
        resync: None,
        engine: Some(loader.engine().clone()),
        counters: Counters::default(),
    })
}
