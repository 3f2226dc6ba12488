//! Runs the rows of the command table that have entries: a dump, a lookup, what the command line describes, or events,
//! through the pipeline. They come from the kernel, or from elsewhere: a recording, say.

use super::{
    assemble::{Assembly, UserPlugin},
    outputs,
    report::{self, CommandError, Exit},
    sources,
    subject::Subject,
    table::{Row, Source, Summary},
};
use crate::{
    cli::Settings,
    model::field,
    netlink::{Stop, Table as KernelTable},
    pipeline::{
        Pipeline, RunError, Tally, consumer::Consumer, counters::Counters, executor::Executor, run::LookBack,
        sink::Sink, source, stage, stats::Board,
    },
};

/// A row of the command table, and what is needed to carry it out.
pub(super) struct Job<'a> {
    pub row: &'a Row,
    pub settings: &'a Settings,
    pub assembly: &'a Assembly,
    pub stop: &'a Stop,
    pub sink: &'a mut dyn Sink,
    /// Where the stages of the user are told of.
    pub board: &'a Board,
    /// What is received is counted there.
    pub counters: &'a Counters,
    /// Where the entries come from; none for the kernel.
    pub source: Option<&'a mut (dyn source::Source + 'static)>,
    /// Whether this is a line of a load file: no summary, and nothing found is no failure.
    pub loading: bool,
    /// Set to how many actions were done, also when the job fails.
    pub done: &'a mut u64,
}

impl Job<'_> {
    /// Carries the row out, on the entries that the command line describes if it describes any (more than one when
    /// lines of a load file were put together).
    pub(super) fn run<T: Subject>(self, given: Option<T>) -> Result<Exit, CommandError> {
        let Job { row, settings, assembly, stop, sink, board, counters, source, loading, done } = self;
        let mut pipeline = pipeline::<T>(row, settings, assembly, sink, board)?;
        pipeline.counters = counters.clone();
        if loading {
            pipeline.executor = pipeline.executor.one_by_one();
        }
        let mut tally = Tally::default();
        let failed = |error: RunError| CommandError::of_run(row, error);
        match row.source {
            Source::Given => {
                let result = pipeline.feed(given.unwrap_or_else(|| T::given(settings)), &mut tally);
                *done = pipeline.executor.done();
                result.map_err(failed)?;
            }
            _ => {
                let mut kernel;
                let source = match source {
                    Some(source) => source,
                    None => {
                        if row.source == Source::Events {
                            pipeline.look_back = Some(look_back::<T>(settings, stop));
                        }
                        kernel = sources::open::<T>(row, settings, stop, counters, false)?;
                        kernel.as_mut()
                    }
                };
                pipeline.run(source, &mut tally).map_err(failed)?;
            }
        }
        if loading {
            return Ok(Exit::Success);
        }
        if settings.dry_run {
            report::banner(&format!("{} actions have been printed, none was done.", pipeline.executor.done()));
            return Ok(Exit::Success);
        }
        Ok(match row.summary {
            Summary::None => Exit::Success,
            Summary::Always(text) => {
                report::banner(text);
                Exit::Failure
            }
            Summary::Done(text) => {
                report::banner(&format!("{} {text}", pipeline.executor.done()));
                Exit::Success
            }
            Summary::Shown(text, nothing) => {
                report::banner(&format!("{} {text}", tally.shown));
                Exit::of(tally.shown, nothing, row.source == Source::Events)
            }
        })
    }
}

/// Dumps of the table for stages that look back.
fn look_back<'a, T: Subject>(settings: &'a Settings, stop: &'a Stop) -> LookBack<'a> {
    Box::new(move || sources::table::<T>(KernelTable::Flows, settings, stop))
}

/// The pipeline of a row.
pub(super) fn pipeline<'a, T: Subject>(
    row: &Row,
    settings: &Settings,
    assembly: &Assembly,
    sink: &'a mut dyn Sink,
    board: &Board,
) -> Result<Pipeline<'a, T>, CommandError> {
    let mut stages = Vec::new();
    if row.selects
        && let Some(selection) = T::selection(settings)
    {
        stages.push(assembly.selecting_stage("match", selection)?);
    }
    for spec in &settings.plugins {
        let stage = assembly.user_stage(&UserPlugin::new(spec), T::STAGE)?;
        board.add(stage.stats().clone());
        stages.push(stage);
    }
    if let Some(name) = row.acts {
        stages.push(assembly.acting_stage(name, T::STAGE, settings)?);
    }
    let format = match row.look {
        _ if settings.dry_run => None,
        None => None,
        Some(look) => {
            let (name, options) = outputs::format(settings.output, look);
            Some(assembly.format(name, T::FORMAT, &options, look.labels)?)
        }
    };
    let shown = format.as_ref().map_or(0, |format| format.reads());
    // What a dry run prints of an action is up to the format that it prints with.
    let wanted = stage::needed(&stages, if settings.dry_run { field::ALL } else { shown });
    let mut executor = Executor::new(row.shows, T::decoder(shown), report::line);
    if settings.plugins.iter().any(|plugin| plugin.grants.acts()) {
        executor = executor.guarded();
    }
    if settings.dry_run {
        executor = executor.dry(assembly.plan(T::FORMAT)?);
    }
    Ok(Pipeline {
        batch_rows: settings.batch as usize,
        decoder: T::decoder(wanted),
        stages,
        executor,
        consumer: format.map(|format| Box::new(format) as Box<dyn Consumer<T>>),
        sink,
        on_malformed: |malformed| report::line(&format!("WARNING: {malformed}; skipped.")),
        on_gap: report::gap,
        on_warning: report::line,
        look_back: None,
        counters: Counters::default(),
    })
}
