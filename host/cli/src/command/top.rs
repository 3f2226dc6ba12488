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
use flowgate_syntax::{Command, Output, ProgramName, Settings, Table};
use flowgate_top::{
    FrameFormat, Model, Origin, Screen, Sort, SortKey,
    filter::Filter,
    frame,
    groups::{self, GroupConsumer},
    messages,
    model::SharedModel,
    row::{self, FlowRow},
    screen::ScreenEnd,
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
    /// The initial condition.
    pub condition: Option<&'a str>,
    /// Keys of groups; `None` for flows.
    pub by: Option<&'a str>,
    /// FrameFormat and number of flows of a single frame; `None` for the screen.
    pub once: Option<(FrameFormat, usize)>,
    /// Speed at which a recording is played.
    pub speed: Speed,
}

/// Shows flows, or groups of them; again with each condition that the user types.
pub(super) fn run(
    context: &mut Context<'_>,
    options: &TopOptions<'_>,
    words: &[OsString],
) -> Result<Exit, CommandError> {
    if options.once.is_none() {
        needs_terminal(options.file)?;
    }
    let mut ui = Ui {
        filter: options.filter.to_owned(),
        condition: options.condition.unwrap_or_default().to_owned(),
        groups: options.by.is_some(),
        ..Ui::new(if options.file.is_some() { Origin::Recording } else { Origin::Kernel }, options.sort)
    };
    loop {
        match show(context, options, words, ui)? {
            End::Exit(exit) => return Ok(exit),
            End::Again(again) => ui = *again,
        }
    }
}

/// Why flows are not shown any more.
enum End {
    /// The command ends.
    Exit(Exit),
    /// There is another condition.
    Again(Box<Ui>),
}

/// Returns the words of the command whose flows are shown.
fn words_of(options: &TopOptions<'_>, condition: &str, words: &[OsString]) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    if !condition.is_empty() {
        all.extend(["--where".into(), condition.into()]);
    }
    if let Some(by) = options.by {
        all.extend(["--by".into(), by.into(), "--count".into(), "--sum".into(), "bytes,packets".into()]);
    }
    all.extend(words.iter().cloned());
    all
}

/// Returns the settings of the command, or the exit status if there is a mistake in them.
fn settings_of(
    context: &Context<'_>,
    options: &TopOptions<'_>,
    words: &[OsString],
) -> Result<Result<Box<Settings>, Exit>, CommandError> {
    let settings = match context.classic(words, (Command::List, Table::Conntrack)) {
        Ok(settings) => settings,
        Err(exit) => return Ok(Err(exit)),
    };
    let known = SortKey::of(options.by.is_some());
    if !known.iter().any(|(key, _)| *key == options.sort.key) {
        let names: Vec<&str> = known.iter().map(|(_, name)| *name).collect();
        let what = if options.by.is_some() { "groups" } else { "flows" };
        let key = options.sort.key;
        return Err(CommandError::Top(format!("{what} are not sorted by {key}, but by {}", names.join(", "))));
    }
    if options.by.is_none() {
        if settings.aggregate.is_some() {
            return Err(CommandError::Top("--by stands in front of --, as in `flowgate top --by src`".into()));
        }
        return Ok(Ok(settings));
    }
    if options.file.is_some() {
        return Err(CommandError::Top(
            "a recording has no dumps to be grouped one by one; `flowgate replay FILE -- --by KEYS` groups all of it"
                .into(),
        ));
    }
    let aggregate = settings.aggregate.as_ref().map(|aggregate| &aggregate.aggregation);
    if aggregate.is_some_and(|aggregation| !groups::groups_by(aggregation)) {
        return Err(CommandError::Top(
            "top groups by what stays as it is, and not by bytes or packets, of which it makes rates".into(),
        ));
    }
    if aggregate.is_some_and(|aggregation| aggregation.top.is_some() || aggregation.measures.len() != 3) {
        return Err(CommandError::Top(
            "groups have their flows, bytes, packets and rates; of --by's other options, top takes --max-groups".into(),
        ));
    }
    Ok(Ok(settings))
}

/// Shows the flows that satisfy the condition of the screen.
fn show(context: &mut Context<'_>, options: &TopOptions<'_>, words: &[OsString], ui: Ui) -> Result<End, CommandError> {
    let recording =
        options.file.map(|file| Ok::<_, CommandError>(Recording::open(RecordingInput::open(file)?)?)).transpose()?;
    let settings = match settings_of(context, options, &words_of(options, &ui.condition, words))? {
        Ok(settings) => settings,
        Err(exit) => return Ok(End::Exit(exit)),
    };
    let command = shown(&settings)?;
    if options.once.is_none() && !settings.plugins.is_empty() {
        // This precedes the start of plugins, whose log lines must not be written over the screen.
        report::start_log_into(|| messages::MessageWriter, false);
    }
    let (loader, namespace) = (context.loader(&settings)?, context.namespace(&settings)?);
    let origin = ui.origin;
    let mut model = Model::new(origin, ui.sort);
    model.set_filter(Filter::new(&ui.filter));
    let model = SharedModel::new(model);
    let board = context.board;
    let mut spec = Spec { format: None, ..lower::entries(command, &settings, namespace.clone()) };
    let aggregation = spec.aggregation.take();
    let loaded = spec.clone().load(&loader, Purpose::Run)?;
    board.clear();
    loaded.user_stages().for_each(|stage| board.add(stage.stats().clone()));
    let pipeline = loaded.pipeline::<Flows>(&loader, &mut *context.sink)?;
    let pipeline = match &aggregation {
        Some(aggregation) => {
            let consumer =
                GroupConsumer::new(model.clone(), loader.grouper(aggregation)?, loader.grouper(aggregation)?);
            pipeline.with_consumer(consumer.reads(), Box::new(consumer))
        }
        None => pipeline.with_consumer(row::READS, Box::new(model.clone())),
    };
    // The identity of a flow must stay as the kernel reported it, because the user may delete the flow.
    let mut pipeline = pipeline.with_counters(context.counters.clone()).with_fixed_identity();
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
    // On a screen the pipeline also ends for another condition.
    let ended = match options.once {
        Some(_) => context.stop.clone(),
        None => Stop::new().map_err(CommandError::Thread)?,
    };
    let title;
    let open = || spec.open_table(&ended);
    let mut kernel;
    let mut player;
    let source: &mut dyn DatagramSource = match recording {
        Some(recording) => {
            title = options.file.map(|file| file.display().to_string()).unwrap_or_default();
            player = play(recording, &settings, options.speed, &ended)?;
            &mut player
        }
        None => {
            title = String::new();
            let source = KernelSource::new(Box::new(open), options.interval, &controls, &ended).within(namespace);
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
        return Ok(End::Exit(if ended.is_stopped() { Exit::Stopped } else { Exit::Success }));
    }
    let name = context.name;
    let screen = Screen {
        model,
        condition: ui.condition.clone(),
        ui,
        board,
        title: flowgate_base::text::clean(&title),
        controls,
        delete: Box::new(|flow: &FlowRow| delete(flow, namespace).map_err(|error| error.to_string())),
        check: Box::new(|condition: &str| check(name, options, condition, words)),
        stop: context.stop,
        ended: &ended,
    };
    run_screen(screen, pipeline, source, command)
}

/// Checks a condition that was typed, and says what is wrong with it.
fn check(name: &ProgramName, options: &TopOptions<'_>, condition: &str, words: &[OsString]) -> Result<(), String> {
    if options.file.is_some_and(|file| file.as_os_str() == "-") {
        return Err("a recording from standard input can be read only once".into());
    }
    let words = words_of(options, condition, words);
    let command = (Command::List, Table::Conntrack);
    let parsed =
        flowgate_syntax::parse_classic(name, &words, command, &flowgate_syntax::SystemEnvironment, &mut Vec::new());
    match parsed {
        Ok(_) => Ok(()),
        Err(error) => Err(flowgate_base::text::clean(String::from_utf8_lossy(&error.message()).trim())),
    }
}

/// Runs the screen and the pipeline concurrently until the user or a failure ends them.
fn run_screen(
    mut screen: Screen<'_>,
    mut pipeline: Pipeline<'_, Flows>,
    source: &mut dyn DatagramSource,
    row: &Row,
) -> Result<End, CommandError> {
    let ended = screen.ended;
    let (ran, shown) = thread::scope(|scope| {
        let terminal = thread::Builder::new()
            .name("screen".into())
            .spawn_scoped(scope, move || {
                let result = screen.run();
                // The pipeline ends with the screen.
                ended.stop();
                result.map(|end| (end, screen.ui))
            })
            .map_err(CommandError::Thread)?;
        let ran = pipeline.run_on(source, &mut Tally::default()).map_err(|error| CommandError::of_run(row, error));
        if ran.is_err() {
            ended.stop();
        }
        // The screen stays open at the end of a recording.
        let shown = terminal.join().unwrap_or_else(|_| Err(io::Error::other("the screen's thread panicked")));
        Ok::<_, CommandError>((ran, shown))
    })?;
    if let (Ok(()), Ok((ScreenEnd::Condition(condition), ui))) = (&ran, &shown) {
        let ui = Ui { condition: condition.clone(), selected: None, offset: 0, paused: None, ..ui.clone() };
        return Ok(End::Again(Box::new(ui)));
    }
    let (messages, older) = messages::take();
    if older > 0 {
        report::line(&format!("{older} older messages are not shown."));
    }
    for message in messages {
        report::line(&message);
    }
    ran?;
    shown.map_err(|error| CommandError::Top(format!("the terminal cannot be used: {}", error_text(&error))))?;
    Ok(End::Exit(Exit::Stopped))
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
    // Groups are a table unless another output is chosen.
    let has_output = !settings.output.is_empty() && (settings.aggregate.is_none() || settings.output != Output::TABLE);
    for (given, option, why) in [
        (settings.zero, "-z", "it sets the kernel's counters to zero, and top compares them from dump to dump"),
        (settings.dry_run, "--dry-run", "there is no place to print what would be done"),
        (
            settings.explain,
            "--explain",
            "`flowgate -L --explain` shows what would be sent to the kernel and to plugins",
        ),
        (has_output, "-o", "the screen has a format of its own; `top --once -o json` prints JSON"),
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
