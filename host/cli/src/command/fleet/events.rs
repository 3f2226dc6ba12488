//! Events of the kernel, as an agent writes them for who watches.

use std::{io::Write as _, sync::mpsc, thread};

use flowgate_base::Warnings;
use flowgate_fleet::{
    event_queue::EventWriter,
    table::{Form, TableError, Watching},
};
use flowgate_model::Flows;
use flowgate_netlink::Stop;
use flowgate_pipeline::{
    Spec, Tally,
    loader::Purpose,
    sink::{Sink, SinkError},
};
use flowgate_syntax::{Command, Settings};

use super::{
    rows,
    table::{parse, row},
};
use crate::command::{lower, report::CommandError, table::Row};

/// A sink that hands events on, and never waits.
struct ToWriter<'a>(&'a mut EventWriter);

impl Sink for ToWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.0.write_all(bytes).map_err(SinkError::Stdout)
    }
}

/// Begins to write the events that the words select, on a thread of their own.
pub(super) fn watch(words: &[String], mut out: EventWriter) -> Result<Watching, TableError> {
    let settings = parse(words, Command::Events, Form::Json).map_err(TableError::Refused)?;
    let row = row(Command::Events)?;
    let spec = lower::entries(row, &settings, None);
    let stop = Stop::new().map_err(|error| TableError::Failed(flowgate_base::io_error::error_text(&error)))?;
    let (opened, begun) = mpsc::channel();
    let of_thread = stop.clone();
    let work = move || {
        let at_start = opened.clone();
        // Whoever began it waits for one of the two.
        let ran = run(spec, &settings, row, &mut out, &of_thread, move || drop(at_start.send(Ok(()))));
        if let Err(error) = &ran {
            let _ = opened.send(Err(error.clone()));
        }
        out.end(ran);
    };
    let thread = thread::Builder::new().name("watch".into()).spawn(work);
    thread.map_err(|error| TableError::Failed(flowgate_base::io_error::error_text(&error)))?;
    match begun.recv() {
        Ok(Ok(())) => Ok(Watching::new(move || stop.stop())),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(TableError::Failed("the agent failed at this question".into())),
    }
}

fn run(
    spec: Spec,
    settings: &Settings,
    row: &Row,
    out: &mut EventWriter,
    stop: &Stop,
    opened: impl FnOnce(),
) -> Result<(), TableError> {
    let failed = |error: CommandError| TableError::Failed(error.to_string());
    let loader = rows::loader(settings).map_err(failed)?;
    let loaded = spec.load(&loader, Purpose::Run).map_err(|error| failed(error.into()))?;
    let mut sink = ToWriter(out);
    let pipeline = loaded.pipeline::<Flows>(&loader, &mut sink).map_err(|error| failed(error.into()))?;
    // A gap is an event among the others.
    let mut pipeline = pipeline.with_warnings(Warnings::ignored()).without_gap_warnings();
    let ran = pipeline.run_reporting(stop, &mut Tally::default(), opened);
    ran.map_err(|error| match CommandError::of_run(row, error) {
        CommandError::BrokenPipe | CommandError::Output(_) => TableError::Gone,
        error => TableError::Failed(error.to_string()),
    })
}
