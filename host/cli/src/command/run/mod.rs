//! `run`: a pipeline that a file describes.
//!
//! * `prepare` checks the file against the plugins that it names, and starts them.
//! * `explain` tells what would run.

mod explain;
mod prepare;

use std::io;

use super::{
    entries::{self, Circumstances, Parts},
    policy, replay,
    report::{self, CommandError, Exit},
    serve_metrics, standard_error,
    subject::Subject,
    table::{self, Row},
};
use crate::args::{Report, RunOptions};
use flowgate_config::{Config, RecordingConfig, SourceKind};
use flowgate_model::{Expectations, Flows};
use flowgate_netlink::{Namespace, Stop, source::Source};
use flowgate_pipeline::{
    Tally,
    counters::Counters,
    executor::Planned,
    loader::{PluginLoader, Purpose},
    resync::Resync,
    sink::{Several, Sink, SinkError, Tolerant},
    stats::Board,
    tell::Tell,
};
use flowgate_recording::{Input, Recording};
use flowgate_syntax::{Command, LabelMap, Output, Settings, Table};
use prepare::Prepared;

/// Carries the subcommand out, with what was in its file. `stdout` is for what it tells itself; the pipeline has its own sinks.
pub(super) fn run(
    options: &RunOptions,
    content: io::Result<Vec<u8>>,
    stop: &Stop,
    (board, counters): (&Board, &Counters),
    stdout: &mut dyn Sink,
) -> Result<Exit, CommandError> {
    let content = content.map_err(|source| CommandError::Pipeline { path: options.file.clone(), source })?;
    if policy::is_policy(&content) {
        return match (options.check, options.explain || options.dry_run) {
            (_, true) => Err(CommandError::NotAvailable("--explain and --dry-run of a policy")),
            (true, _) => policy::check(&options.file, content, stdout),
            _ => policy::serve((&options.file, content), stop, (board, counters), options.metrics.as_ref()),
        };
    }
    let (config, mut mistakes) = Config::of_bytes(&options.file, content);
    report::start_log();
    let purpose = if options.check || options.explain { Purpose::Inspect } else { Purpose::Run };
    let mut job = None;
    if let Some(mut config) = config {
        config.settings.dry_run = options.dry_run;
        config.settings.stats = options.plugin_stats;
        let loader = loader(&config.settings)?;
        let prepared = prepare::prepare(&config, &loader, purpose, &mut mistakes)?;
        job = Some((config, loader, prepared));
    }
    mistakes.iter().for_each(|mistake| report::line(&mistake.to_string()));
    let Some((config, loader, prepared)) = job.filter(|_| mistakes.is_empty()) else {
        return Err(CommandError::Mistakes { path: options.file.clone(), mistakes: mistakes.len() });
    };
    if purpose == Purpose::Inspect || options.dry_run {
        prepared.notes.iter().for_each(|note| report::line(&note.to_string()));
    }
    if options.check {
        stdout.write(format!("{}: no mistakes\n", options.file.display()).as_bytes())?;
        return Ok(Exit::Success);
    }
    if options.explain {
        let told = explain::tell(&config, &prepared);
        let text = if options.output == Report::Json { told.json() } else { told.text() };
        stdout.write(text.as_bytes())?;
        return Ok(Exit::Success);
    }
    for stage in prepared.parts.stages.iter().zip(&prepared.stages).filter(|(_, shown)| shown.file.is_some()) {
        board.add(stage.0.stats().clone());
    }
    if config.live() {
        standard_error::is_live();
    }
    // Until the pipeline ends.
    let _metrics = serve_metrics(options.metrics.as_ref(), board, counters)?;
    let result = match config.source.table {
        Table::Expect => carry_out::<Expectations>(&config, &loader, prepared, stop, counters),
        _ => carry_out::<Flows>(&config, &loader, prepared, stop, counters),
    };
    if config.settings.stats {
        report::text(board.text().as_bytes());
    }
    result
}

/// What loads plugins.
fn loader(settings: &Settings) -> Result<PluginLoader, CommandError> {
    let labels = settings.label_map.as_ref().map(LabelMap::labels).unwrap_or_default();
    let times = [Output::KERNEL_TIMESTAMP, Output::TIMESTAMP];
    super::loader(labels, true, times.iter().any(|&time| settings.output.contains(time)))
}

/// The row of the command table that is like this pipeline: its source, look and summary hold here too.
fn row(config: &Config) -> Result<&'static Row, CommandError> {
    let (command, name) = match config.source.kind {
        SourceKind::Dump => (Command::List, "dump"),
        SourceKind::Events => (Command::Events, "event"),
    };
    table::row(command, config.source.table).ok_or(CommandError::NotAvailable(name))
}

fn carry_out<T: Subject + Planned>(
    config: &Config,
    loader: &PluginLoader,
    prepared: Prepared,
    stop: &Stop,
    counters: &Counters,
) -> Result<Exit, CommandError> {
    let row = row(config)?;
    let mut recording = match &config.source.recording {
        None => None,
        Some(RecordingConfig { file, speed }) => {
            let recording = Recording::open(Input::open(file)?)?;
            let wanted = replay::wanted(&config.settings, &recording)?;
            Some(recording.play(wanted, *speed, stop))
        }
    };
    let source = recording.as_mut().map(|source| source as &mut (dyn Source + 'static));
    let mut sinks = Vec::new();
    if prepared.parts.format.is_some() || config.settings.dry_run {
        for sink in &config.sinks {
            let sink = sink.open(config.live(), stop, report::line)?;
            let tolerant = prepared.acts && !config.settings.dry_run;
            let tell = config.live().then(|| Tell::new(report::line));
            sinks.push(if tolerant { Box::new(Tolerant::new(sink, tell)) } else { sink });
        }
    }
    let mut sinks = Several::new(sinks);
    let mut tally = Tally::default();
    let (shows, acts) = (prepared.parts.format.is_some(), prepared.acts);
    let parts: Parts = prepared.parts;
    let namespace = config.settings.netns.as_deref().map(Namespace::find).transpose()?;
    let namespace = namespace.as_ref();
    let mut pipeline = entries::join::<T>(parts, &config.settings, namespace, loader, &mut sinks)?;
    pipeline.counters = counters.clone();
    let circumstances = Circumstances { row, settings: &config.settings, namespace, stop };
    let result = entries::drive(circumstances, &mut pipeline, source, None, &mut tally);
    let healed = pipeline.resync.as_ref().map(Resync::healed);
    let (done, refused) = (pipeline.executor.done(), pipeline.executor.refused());
    drop(pipeline);
    let end = sinks.finish();
    result?;
    let end = match end {
        // Whoever says that it is enough does not wait for a peer that is away.
        Err(error @ SinkError::Undelivered { .. }) if stop.is_stopped() => {
            report::line(&format!("WARNING: {error}."));
            Ok(())
        }
        end => end,
    };
    if let Some(healed) = healed.filter(|_| tally.gaps > 0) {
        entries::tell(tally, healed);
    }
    let exit = match shows || config.settings.dry_run {
        true => entries::conclude(row, &config.settings, done, tally.shown),
        false => {
            report::banner(&format!("{} entries have passed.", tally.shown));
            Exit::of(tally.shown, table::Nothing::Success, config.live())
        }
    };
    if acts && !config.settings.dry_run {
        report::banner(&format!("{done} actions have been done, {refused} have been refused."));
    }
    end?;
    Ok(exit)
}
