//! `flowgate top`: flows on a screen, or one frame of them as text. Its rows come through the pipeline of -L; what ends that
//! pipeline is a model instead of a format.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, IsTerminal as _},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use super::{
    Context, entries, long_name,
    report::{self, CommandError, Exit},
    sources,
    table::{self, Row, Source, Summary},
};
use flowgate_base::io_error::error_text;
use flowgate_model::Flows;
use flowgate_netlink::{
    DumpKind, Namespace, Stop,
    decode::FlowDecoder,
    source::{Source as DatagramSource, SourceError},
};
use flowgate_pipeline::tell::Tell;
use flowgate_pipeline::{
    Pipeline, RunError, Tally, executor::Shows, loader::PluginLoader, sink::Sink, stage, stats::Board,
};
use flowgate_recording::{Input, Recording, Speed};
use flowgate_syntax::{Command, Settings, Table};
use flowgate_top::{
    Form, Model, Origin, Screen, Sort,
    filter::Filter,
    frame, messages,
    model::Shared,
    row::{self, Row as Flow},
    source::{Kernel, Wishes},
    ui::Ui,
};

/// What was asked for.
pub(super) struct Wanted<'a> {
    /// A recording; none for the kernel.
    pub file: Option<&'a Path>,
    /// Between dumps.
    pub interval: Duration,
    /// The order.
    pub sort: Sort,
    /// Words.
    pub filter: &'a str,
    /// One frame, in this form and with so many flows; none for the screen.
    pub once: Option<(Form, usize)>,
    /// How fast a recording is played.
    pub speed: Speed,
}

/// Shows flows.
pub(super) fn run(context: &mut Context<'_>, wanted: &Wanted<'_>, words: &[OsString]) -> Result<Exit, CommandError> {
    if wanted.once.is_none() {
        needs_terminal(wanted.file)?;
    }
    let recording = wanted.file.map(|file| Ok::<_, CommandError>(Recording::open(Input::open(file)?)?)).transpose()?;
    let settings = match context.classic(words, (Command::List, Table::Conntrack)) {
        Ok(settings) => settings,
        Err(exit) => return Ok(exit),
    };
    let row = Row { look: None, ..*shown(&settings)? };
    if wanted.once.is_none() && !settings.plugins.is_empty() {
        // Before the plugins start: their lines must not be written over the screen.
        report::start_log_into(|| messages::Lines, false);
    }
    let (loader, namespace) = (context.loader(&settings)?, context.namespace(&settings)?);
    let namespace = namespace.as_ref();
    let origin = if recording.is_some() { Origin::Recording } else { Origin::Kernel };
    let mut model = Model::new(origin, wanted.sort);
    model.set_filter(Filter::new(wanted.filter));
    let model = Shared::new(model);
    let board = context.board;
    let mut pipeline = pipeline(&row, &settings, namespace, &loader, &mut *context.sink, board)?;
    pipeline.decoder = FlowDecoder::new(stage::needed(&pipeline.stages, row::READS));
    pipeline.consumer = Some(Box::new(model.clone()));
    pipeline.counters = context.counters.clone();
    // What identifies a flow must stay what the kernel said: it may be deleted.
    pipeline.executor = pipeline.executor.guarded();
    if origin == Origin::Recording {
        pipeline.executor = pipeline.executor.detached();
    }
    if wanted.once.is_none() {
        pipeline.executor = pipeline.executor.telling(messages::add);
        pipeline.on_warning = Tell::new(messages::add);
        // The number of gaps is on the screen, and the next dump has what was lost.
        pipeline.on_gap = || {};
    }
    let wishes = Arc::new(Wishes::default());
    let stop = context.stop;
    let title;
    let open = || sources::table::<Flows>(DumpKind::FLOWS, &settings, namespace, stop);
    let mut kernel;
    let mut player;
    let source: &mut dyn DatagramSource = match recording {
        Some(recording) => {
            title = wanted.file.map(|file| file.display().to_string()).unwrap_or_default();
            player = play(recording, &settings, wanted.speed, stop)?;
            &mut player
        }
        None => {
            title = String::new();
            let source = Kernel::new(Box::new(open), wanted.interval, &wishes, stop).within(namespace);
            kernel = if wanted.once.is_some() {
                source.times(2)
            } else {
                let refused = |error| CommandError::of_run(&row, RunError::Source(SourceError::Socket(error)));
                source.with_events(&context.counters).map_err(refused)?
            };
            &mut kernel
        }
    };
    if let Some((form, rows)) = wanted.once {
        let mut tally = Tally::default();
        pipeline.run(source, &mut tally).map_err(|error| CommandError::of_run(&row, error))?;
        drop(pipeline);
        let snapshot = model.lock().snapshot();
        let text = match form {
            Form::Text => frame::text(&snapshot, &board.stages(), rows),
            Form::Json => frame::json(&snapshot, &board.stages(), rows),
        };
        context.sink.write(text.as_bytes())?;
        return Ok(if stop.is_stopped() { Exit::Stopped } else { Exit::Success });
    }
    let screen = Screen {
        model,
        ui: Ui { filter: wanted.filter.to_owned(), ..Ui::new(origin, wanted.sort) },
        board,
        title: flowgate_base::text::clean(&title),
        wishes,
        delete: Box::new(|flow: &Flow| delete(flow, &settings, namespace).map_err(|error| error.to_string())),
        stop,
    };
    show(screen, pipeline, source, &row)
}

/// The pipeline of a row that has no format.
fn pipeline<'a>(
    row: &Row,
    settings: &Settings,
    namespace: Option<&Namespace>,
    loader: &PluginLoader,
    sink: &'a mut dyn Sink,
    board: &Board,
) -> Result<Pipeline<'a, Flows>, CommandError> {
    let parts = entries::parts::<Flows>(row, settings, loader, board)?;
    entries::join(parts, settings, namespace, loader, sink)
}

/// Runs screen and pipeline beside each other, until the user or a failure ends it.
fn show(
    mut screen: Screen<'_>,
    mut pipeline: Pipeline<'_, Flows>,
    source: &mut dyn DatagramSource,
    row: &Row,
) -> Result<Exit, CommandError> {
    let stop = screen.stop;
    let (ran, shown) = thread::scope(|scope| {
        let terminal = thread::Builder::new()
            .name("screen".into())
            .spawn_scoped(scope, move || {
                let result = screen.run();
                // The pipeline ends with the screen.
                stop.stop();
                result
            })
            .map_err(CommandError::Thread)?;
        let ran = pipeline.run(source, &mut Tally::default()).map_err(|error| CommandError::of_run(row, error));
        if ran.is_err() {
            stop.stop();
        }
        // At the end of a recording the screen stays.
        let shown = terminal.join().unwrap_or_else(|_| Err(io::Error::other("the screen's thread panicked")));
        Ok::<_, CommandError>((ran, shown))
    })?;
    let (messages, older) = messages::take();
    if older > 0 {
        report::line(&format!("{older} older messages are not shown."));
    }
    for message in messages {
        report::line(&message);
    }
    ran?;
    shown.map_err(|error| CommandError::Top(format!("the terminal cannot be used: {}", error_text(&error))))?;
    Ok(Exit::Stopped)
}

/// The screen needs a terminal, for keys and for the picture.
fn needs_terminal(file: Option<&Path>) -> Result<(), CommandError> {
    // Where the recording comes from standard input, keys come from the terminal of the process.
    let keys = if file.is_some_and(|file| file.as_os_str() == "-") {
        File::open("/dev/tty").is_ok()
    } else {
        io::stdin().is_terminal()
    };
    let what = match (io::stdout().is_terminal(), keys) {
        (true, true) => return Ok(()),
        (false, _) => "standard output is no terminal",
        (true, false) => "there is no terminal to read keys from",
    };
    Err(CommandError::Top(format!(
        "{what}, which top needs; for one frame as text use `flowgate top --once` (with `-o json` for programs), \
         for all flows `flowgate -L`, for events `flowgate -E`"
    )))
}

/// The row of the command whose flows are shown, if they can be.
fn shown(settings: &Settings) -> Result<&'static Row, CommandError> {
    let command = long_name(settings.command);
    if settings.command != Command::List || settings.table != Table::Conntrack {
        return Err(CommandError::Top(format!(
            "top shows the flows of -L, and not those of --{command}{}; after -- only selectors and plugins are accepted",
            if settings.table == Table::Conntrack { "" } else { " of that table" }
        )));
    }
    for (given, option, why) in [
        (settings.zero, "-z", "it sets the kernel's counters to zero, and top compares them from dump to dump"),
        (settings.dry_run, "--dry-run", "there is no place to print what would be done"),
        (
            settings.explain,
            "--explain",
            "`flowgate -L --explain` shows what would be sent to the kernel and to plugins",
        ),
        (!settings.output.is_empty(), "-o", "the screen has a format of its own; `top --once -o json` prints JSON"),
    ] {
        if given {
            return Err(CommandError::Top(format!("{option} has no use after `top --`: {why}; leave it out")));
        }
    }
    table::row(settings.command, settings.table).ok_or(CommandError::NotAvailable(command))
}

/// A recording as source.
fn play(
    recording: Recording,
    settings: &Settings,
    speed: Speed,
    stop: &Stop,
) -> Result<flowgate_recording::RecordingSource, CommandError> {
    if recording.table() == Table::Expect {
        return Err(CommandError::Top(
            "the recording is of expectations, and top shows flows; use `flowgate replay`".into(),
        ));
    }
    let wanted = flowgate_recording::Wanted {
        kind: recording.kind(),
        new: true,
        update: true,
        destroy: true,
        family: settings.family.unwrap_or(0),
    };
    Ok(recording.play(wanted, speed, stop))
}

/// Deletes one flow, as -D does: through the stock stage and the executor. Whether it was still there.
fn delete(flow: &Flow, settings: &Settings, namespace: Option<&Namespace>) -> Result<bool, CommandError> {
    let row = Row {
        command: Command::Delete,
        table: Table::Conntrack,
        source: Source::Given,
        selects: false,
        acts: Some("delete"),
        shows: Shows::Acted,
        look: None,
        summary: Summary::None,
    };
    let settings = Settings { command: Command::Delete, plugins: Vec::new(), ..settings.clone() };
    let loader = PluginLoader::new(Vec::new(), false, false)?;
    let mut nowhere: Vec<u8> = Vec::new();
    let mut pipeline = pipeline(&row, &settings, namespace, &loader, &mut nowhere, &Board::default())?;
    pipeline.on_warning = Tell::new(messages::add);
    pipeline.executor = pipeline.executor.telling(messages::add);
    let result = pipeline.feed(flow.table(), &mut Tally::default());
    let done = pipeline.executor.done();
    result.map_err(|error| CommandError::of_run(&row, error))?;
    Ok(done > 0)
}
