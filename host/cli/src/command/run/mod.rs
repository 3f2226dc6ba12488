//! `run`: runs the pipeline of a file.
//!
//! `check` compares the file with its plugins, inputs and outputs.

mod check;

use std::io;

use super::{
    entries, policy,
    report::{self, CommandError, Exit},
    serve_metrics, shipping, standard_error,
    table::{self, Row},
};
use crate::args::{Report, RunOptions};
use flowgate_config::{Config, SourceKind};
use flowgate_model::{Expectations, Flows};
use flowgate_netlink::{Namespace, Stop};
use flowgate_pipeline::{
    LoadedSpec, Spec, Tally,
    counters::Counters,
    entries::Entries,
    explain::{Explanation, Title},
    loader::{PluginLoader, Purpose},
    sink::{Several, Sink, SinkError, Tolerant},
    stats::Board,
};
use flowgate_syntax::{Command, LabelMap, Output, Table};

/// Runs the subcommand with the content of its file. `stdout` is for the output of the subcommand itself; the pipeline
/// has its own sinks.
pub(super) fn run(
    options: &RunOptions,
    content: io::Result<Vec<u8>>,
    stop: &Stop,
    (board, counters): (&Board, &Counters),
    stdout: &mut dyn Sink,
) -> Result<Exit, CommandError> {
    let content = content.map_err(|source| CommandError::Pipeline { path: options.file.clone(), source })?;
    if policy::is_policy(&content) {
        return match options {
            RunOptions { dry_run: true, .. } => Err(CommandError::NotAvailable("--dry-run of a policy")),
            RunOptions { check: true, .. } => policy::check(&options.file, content, stdout),
            RunOptions { explain: true, output, .. } => policy::explain(&options.file, content, *output, stdout),
            _ => policy::serve((&options.file, content), stop, (board, counters), options.metrics.as_ref()),
        };
    }
    let (config, mut diagnostics) = Config::of_bytes(&options.file, content);
    report::start_log();
    let inspect = options.check || options.explain;
    let purpose = if inspect { Purpose::Inspect } else { Purpose::Run };
    let mut job = None;
    if let Some(config) = config {
        let loader = loader(&config)?;
        check::surroundings(&config, options.dry_run, &mut diagnostics);
        let mut spec = Spec { dry_run: options.dry_run, ..config.spec() };
        if diagnostics.is_empty() {
            spec.namespace = namespace(&config, inspect)?;
        }
        match spec.load(&loader, purpose) {
            Ok(loaded) => job = Some((config, loader, loaded)),
            Err(problems) => {
                for problem in problems.into_all() {
                    diagnostics.push(check::diagnostic(&config, problem)?);
                }
            }
        }
    }
    diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    diagnostics.iter().for_each(|diagnostic| report::line(&diagnostic.to_string()));
    let Some((config, loader, loaded)) = job.filter(|_| diagnostics.is_empty()) else {
        return Err(CommandError::Diagnostics { path: options.file.clone(), mistakes: diagnostics.len() });
    };
    if inspect || options.dry_run {
        check::notes(&config, &loaded).iter().for_each(|note| report::line(&note.to_string()));
    }
    let row = row(&config)?;
    if options.check {
        stdout.write(format!("{}: no mistakes\n", flowgate_base::text::path_text(&options.file)).as_bytes())?;
        return Ok(Exit::Success);
    }
    if options.explain {
        let explanation = explain(&config, row, &loaded)?;
        let text = if options.output == Report::Json { explanation.json() } else { explanation.text() };
        stdout.write(text.as_bytes())?;
        return Ok(Exit::Success);
    }
    loaded.user_stages().for_each(|stage| board.add(stage.stats().clone()));
    loaded.flow_metrics().for_each(|metric| board.add_metric(metric));
    if !config.metrics.is_empty() && options.metrics.is_none() && !options.dry_run {
        report::line("WARNING: the file has metrics, and nothing serves them; --metrics ADDRESS does.");
    }
    if config.live() {
        standard_error::is_live();
    }
    // The server runs until the pipeline ends.
    let _metrics = serve_metrics(options.metrics.as_ref(), board, counters)?;
    let result = match config.source.table {
        Table::Expect => carry_out::<Expectations>(row, loaded, &loader, stop, counters),
        _ => carry_out::<Flows>(row, loaded, &loader, stop, counters),
    };
    if options.plugin_stats {
        report::text(board.text().as_bytes());
    }
    result
}

/// Returns the network namespace that a file names. If the pipeline is only inspected, a namespace that does not exist
/// is ignored here, because `check` has reported it.
fn namespace(config: &Config, inspect: bool) -> Result<Option<Namespace>, CommandError> {
    match config.source.netns.as_deref().map(|name| Namespace::find(name.as_ref())).transpose() {
        Err(_) if inspect => Ok(None),
        found => Ok(found?),
    }
}

/// Explains the pipeline of a file.
fn explain(config: &Config, row: &Row, loaded: &LoadedSpec) -> Result<Explanation, CommandError> {
    let explained = Explanation::new(loaded).map_err(|error| CommandError::of_errno(row, error.errno()))?;
    let path = config.text.path.display().to_string();
    Ok(Explanation { title: Title::default().line("pipeline", path.as_str()).field("file", path), ..explained })
}

/// Returns the loader of plugins.
fn loader(config: &Config) -> Result<PluginLoader, CommandError> {
    let labels = config.label_map.as_ref().map(LabelMap::labels).unwrap_or_default();
    super::loader(labels, true, config.output.contains(Output::LOCAL_TIME))
}

/// Returns the row of the command table with the messages of this pipeline.
fn row(config: &Config) -> Result<&'static Row, CommandError> {
    let (command, name) = match config.source.kind {
        SourceKind::Dump => (Command::List, "dump"),
        SourceKind::Events => (Command::Events, "event"),
    };
    table::row(command, config.source.table).ok_or(CommandError::NotAvailable(name))
}

fn carry_out<T: Entries>(
    row: &Row,
    loaded: LoadedSpec,
    loader: &PluginLoader,
    stop: &Stop,
    counters: &Counters,
) -> Result<Exit, CommandError> {
    let spec = loaded.spec();
    let (shows, acts, dry_run, live) = (spec.format.is_some(), spec.acts(), spec.dry_run, spec.is_live());
    let warnings = report::warnings();
    let mut sinks = Vec::new();
    if shows || dry_run {
        for sink in &spec.sinks {
            let sink = sink.open(live, stop, warnings.clone(), shipping::shippers())?;
            let tolerant = acts && !dry_run;
            let warnings = live.then(|| warnings.clone());
            sinks.push(if tolerant { Box::new(Tolerant::new(sink, warnings)) } else { sink });
        }
    }
    let mut sinks = Several::new(sinks);
    let mut tally = Tally::default();
    let pipeline = loaded.pipeline::<T>(loader, &mut sinks)?;
    let mut pipeline = pipeline.with_warnings(warnings).with_counters(counters.clone());
    let result = pipeline.run(stop, &mut tally).map_err(|error| CommandError::of_run(row, error));
    let counts = pipeline.resync_counts();
    let (done, refused) = (pipeline.done(), pipeline.refused());
    drop(pipeline);
    let end = sinks.finish();
    result?;
    let end = match end {
        // After a signal, an unreachable peer is not an error.
        Err(error @ SinkError::Undelivered { .. }) if stop.is_stopped() => {
            report::line(&format!("WARNING: {error}."));
            Ok(())
        }
        end => end,
    };
    if let Some(counts) = counts.filter(|_| tally.gaps > 0) {
        entries::report_gaps(tally, counts);
    }
    let exit = match (dry_run, shows) {
        (true, _) => entries::conclude_dry_run(done),
        (false, true) => entries::summarize(row, done, tally.shown),
        (false, false) => {
            report::banner(&format!("{} entries have passed.", tally.shown));
            Exit::of(tally.shown, table::Nothing::Success, live)
        }
    };
    if acts && !dry_run {
        report::banner(&format!("{done} actions have been done, {refused} have been refused."));
    }
    end?;
    Ok(exit)
}
