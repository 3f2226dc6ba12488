//! `flowgate top`: flows on a screen, or one frame of them as text. Its rows come through the pipeline of -L, which
//! ends in a model instead of a format.

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
    Context, long_name, lower,
    report::{self, CommandError, Exit},
    table::{self, Row},
};
use flowgate_base::{Warnings, io_error::error_text};
use flowgate_model::Flows;
use flowgate_netlink::{
    Namespace, Stop,
    source::{Source as DatagramSource, SourceError},
};
use flowgate_pipeline::{
    Pipeline, RunError, Spec, StockStage, Tally,
    entries::Batch,
    executor::Shows,
    loader::{PluginLoader, Purpose},
    spec::Source,
};
use flowgate_recording::{Recording, RecordingInput, Speed};
use flowgate_syntax::{Command, Settings, Table};
use flowgate_top::{
    FrameFormat, Model, Origin, Screen, Sort,
    filter::Filter,
    frame, messages,
    model::SharedModel,
    row::{self, FlowRow},
    source::{Controls, KernelSource},
    ui::Ui,
};

/// Options of the subcommand.
pub(super) struct TopOptions<'a> {
    /// The recording; `None` for the kernel.
    pub file: Option<&'a Path>,
    /// Time between dumps.
    pub interval: Duration,
    /// Initial order of the flows.
    pub sort: Sort,
    /// Words of the initial filter.
    pub filter: &'a str,
    /// FrameFormat and number of flows of a single frame; `None` for the screen.
    pub once: Option<(FrameFormat, usize)>,
    /// Speed at which a recording is played.
    pub speed: Speed,
}

/// Shows flows.
pub(super) fn run(
    context: &mut Context<'_>,
    options: &TopOptions<'_>,
    words: &[OsString],
) -> Result<Exit, CommandError> {
    if options.once.is_none() {
        needs_terminal(options.file)?;
    }
    let recording =
        options.file.map(|file| Ok::<_, CommandError>(Recording::open(RecordingInput::open(file)?)?)).transpose()?;
    let settings = match context.classic(words, (Command::List, Table::Conntrack)) {
        Ok(settings) => settings,
        Err(exit) => return Ok(exit),
    };
    let command = shown(&settings)?;
    if options.once.is_none() && !settings.plugins.is_empty() {
        // This precedes the start of plugins, whose log lines must not be written over the screen.
        report::start_log_into(|| messages::MessageWriter, false);
    }
    let (loader, namespace) = (context.loader(&settings)?, context.namespace(&settings)?);
    let origin = if recording.is_some() { Origin::Recording } else { Origin::Kernel };
    let mut model = Model::new(origin, options.sort);
    model.set_filter(Filter::new(options.filter));
    let model = SharedModel::new(model);
    let board = context.board;
    let spec = Spec { format: None, ..lower::entries(command, &settings, namespace.clone()) };
    let loaded = spec.clone().load(&loader, Purpose::Run)?;
    loaded.user_stages().for_each(|stage| board.add(stage.stats().clone()));
    let mut pipeline = loaded
        .pipeline::<Flows>(&loader, &mut *context.sink)?
        .with_consumer(row::READS, Box::new(model.clone()))
        .with_counters(context.counters.clone())
        // The identity of a flow must stay as the kernel reported it, because the user may delete the flow.
        .with_fixed_identity();
    if origin == Origin::Recording {
        pipeline = pipeline.detached();
    }
    pipeline = if options.once.is_some() {
        pipeline.with_warnings(report::warnings())
    } else {
        // The screen shows the number of gaps, and the next dump contains the lost flows.
        pipeline.with_warnings(Warnings::new(messages::add)).without_gap_warnings()
    };
    let namespace = namespace.as_ref();
    let controls = Arc::new(Controls::default());
    let stop = context.stop;
    let title;
    let open = || spec.open_table(stop);
    let mut kernel;
    let mut player;
    let source: &mut dyn DatagramSource = match recording {
        Some(recording) => {
            title = options.file.map(|file| file.display().to_string()).unwrap_or_default();
            player = play(recording, &settings, options.speed, stop)?;
            &mut player
        }
        None => {
            title = String::new();
            let source = KernelSource::new(Box::new(open), options.interval, &controls, stop).within(namespace);
            kernel = if options.once.is_some() {
                source.times(2)
            } else {
                let refused = |error| CommandError::of_run(command, RunError::Source(SourceError::Socket(error)));
                source.with_events(&context.counters).map_err(refused)?
            };
            &mut kernel
        }
    };
    if let Some((form, rows)) = options.once {
        let mut tally = Tally::default();
        pipeline.run_on(source, &mut tally).map_err(|error| CommandError::of_run(command, error))?;
        drop(pipeline);
        let snapshot = model.lock().snapshot();
        let text = match form {
            FrameFormat::Text => frame::text(&snapshot, &board.stages(), rows),
            FrameFormat::Json => frame::json(&snapshot, &board.stages(), rows),
        };
        context.sink.write(text.as_bytes())?;
        return Ok(if stop.is_stopped() { Exit::Stopped } else { Exit::Success });
    }
    let screen = Screen {
        model,
        ui: Ui { filter: options.filter.to_owned(), ..Ui::new(origin, options.sort) },
        board,
        title: flowgate_base::text::clean(&title),
        controls,
        delete: Box::new(|flow: &FlowRow| delete(flow, namespace).map_err(|error| error.to_string())),
        stop,
    };
    show(screen, pipeline, source, command)
}

/// Runs the screen and the pipeline concurrently until the user or a failure ends them.
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
        let ran = pipeline.run_on(source, &mut Tally::default()).map_err(|error| CommandError::of_run(row, error));
        if ran.is_err() {
            stop.stop();
        }
        // The screen stays open at the end of a recording.
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

/// Checks that there is a terminal for the keyboard and for the screen.
fn needs_terminal(file: Option<&Path>) -> Result<(), CommandError> {
    // If the recording comes from standard input, keys are read from the controlling terminal.
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

/// Returns the row of the command whose flows are shown, or an error if they cannot be shown.
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

/// Opens a recording as source.
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
    let selection = flowgate_recording::RecordingSelection {
        kind: recording.kind(),
        new: true,
        update: true,
        destroy: true,
        family: settings.family.unwrap_or(0),
    };
    Ok(recording.play(selection, speed, stop))
}

/// Deletes one flow as -D does, through the stock stage and the executor. Returns true if it still existed.
fn delete(flow: &FlowRow, namespace: Option<&Namespace>) -> Result<bool, CommandError> {
    let row = table::row(Command::Delete, Table::Conntrack).ok_or(CommandError::NotAvailable("delete"))?;
    let given = Source::Given(Batch::Flows(Box::new(flow.table())));
    let spec = Spec { shows: Shows::Acted, namespace: namespace.cloned(), ..Spec::new(given) };
    let loader = PluginLoader::new(Vec::new(), false, false)?;
    let loaded = spec.stage(StockStage::acting("delete")).load(&loader, Purpose::Run)?;
    let mut nowhere: Vec<u8> = Vec::new();
    let pipeline = loaded.pipeline::<Flows>(&loader, &mut nowhere)?;
    let mut pipeline = pipeline.with_warnings(Warnings::new(messages::add));
    let result = pipeline.run(&Stop::new().map_err(CommandError::Thread)?, &mut Tally::default());
    result.map_err(|error| CommandError::of_run(row, error))?;
    Ok(pipeline.done() > 0)
}
