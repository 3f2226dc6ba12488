//! Runs the rows of the command table that show the entries of a dump.

use super::{
    assemble::{Assembly, Role},
    report::{self, CommandError, Exit},
    table::{Row, Source},
};
use crate::{
    cli::{LabelMap, Output, Settings},
    model::{Expectations, Flows, OptionValue, Selection},
    netlink::{
        Dump, DumpError, DumpFilter, Options, Request, Socket, Stop, Table as KernelTable,
        decode::{ExpectationDecoder, FlowDecoder},
    },
    pipeline::{
        Pipeline, Tally,
        executor::Refusal,
        sink::Sink,
        source::{Datagram, Source as DatagramSource, SourceError},
        stage,
        table::Table,
    },
};

/// Carries out a row.
pub(super) fn run(row: &Row, settings: &Settings, stop: &Stop, sink: &mut dyn Sink) -> Result<Exit, CommandError> {
    let labels = settings.label_map.as_ref().map(LabelMap::labels).unwrap_or_default();
    let local_time = settings.output.contains(Output::KERNEL_TIMESTAMP) || settings.output.contains(Output::TIMESTAMP);
    let assembly = Assembly::new(labels, !settings.plugins.is_empty(), local_time)?;
    let shown = match row.source {
        Source::Expectations => expectations(row, settings, &assembly, stop, sink)?,
        _ => flows(row, settings, &assembly, stop, sink)?,
    };
    report::banner(&format!("{shown} {}", row.summary));
    Ok(Exit::Success)
}

fn flows(
    row: &Row,
    settings: &Settings,
    assembly: &Assembly,
    stop: &Stop,
    sink: &mut dyn Sink,
) -> Result<u64, CommandError> {
    let (plugin, options) = format(settings, row.footer);
    let format = assembly.stock_format(plugin, Role::FlowFormat, &options, true)?;
    let mut stages = Vec::new();
    for name in row.stages {
        // What selects nothing away need not be asked.
        if settings.selection != Selection::default() {
            stages.push(assembly.stock_stage(name, Role::FlowStage, Some(&settings.selection))?);
        }
    }
    for spec in &settings.plugins {
        stages.push(assembly.user_stage(spec, Role::FlowStage)?);
    }
    // A status filter that names no bit (`-u UNSET`): the kernel refuses it, and so scripts know it as an error.
    if row.source == Source::Flows && settings.selection.status.is_some_and(|status| status.mask == 0) {
        return Err(CommandError::of_errno(settings.command, libc::EINVAL));
    }
    let (table, filter) = match row.source {
        Source::Dying => (KernelTable::Dying, DumpFilter::family_only(settings.family.unwrap_or(0))),
        Source::Unconfirmed => (KernelTable::Unconfirmed, DumpFilter::family_only(settings.family.unwrap_or(0))),
        _ if settings.zero => (KernelTable::FlowsAndZero, DumpFilter::plan(&settings.selection).filter),
        _ => (KernelTable::Flows, DumpFilter::plan(&settings.selection).filter),
    };
    let wanted = stage::needed(&stages, format.reads());
    let mut pipeline = Pipeline::<Flows> {
        batch_rows: settings.batch as usize,
        decoder: FlowDecoder::new(wanted),
        stages,
        executor: &mut Refusal::default(),
        format,
        sink,
        on_malformed: &mut |malformed| report::line(&format!("WARNING: {malformed}; skipped.")),
    };
    dump(&mut pipeline, settings, table, &filter, stop)
}

fn expectations(
    row: &Row,
    settings: &Settings,
    assembly: &Assembly,
    stop: &Stop,
    sink: &mut dyn Sink,
) -> Result<u64, CommandError> {
    let (plugin, options) = format(settings, row.footer);
    let format = assembly.stock_format(plugin, Role::ExpectationFormat, &options, true)?;
    let mut stages = Vec::new();
    for spec in &settings.plugins {
        stages.push(assembly.user_stage(spec, Role::ExpectationStage)?);
    }
    let filter = DumpFilter::family_only(settings.family.unwrap_or(0));
    let mut pipeline = Pipeline::<Expectations> {
        batch_rows: settings.batch as usize,
        decoder: ExpectationDecoder::new(),
        stages,
        executor: &mut Refusal::default(),
        format,
        sink,
        on_malformed: &mut |malformed| report::line(&format!("WARNING: {malformed}; skipped.")),
    };
    dump(&mut pipeline, settings, KernelTable::Expectations, &filter, stop)
}

/// Sends a dump of the kernel through a pipeline: how many entries were shown.
fn dump<T: Table>(
    pipeline: &mut Pipeline<'_, T>,
    settings: &Settings,
    table: KernelTable,
    filter: &DumpFilter,
    stop: &Stop,
) -> Result<u64, CommandError> {
    let failed = |error: SourceError| CommandError::of_errno(settings.command, error.errno());
    let socket = Socket::open(&Options::default()).map_err(|error| failed(error.into()))?;
    let dump = Dump::start(socket, &Request::dump(table, filter)).map_err(|error| failed(error.into()))?;
    let mut tally = Tally::default();
    pipeline
        .run(&mut KernelDump { dump, stop: stop.clone() }, &mut tally)
        .map_err(|error| CommandError::of_run(settings.command, error))?;
    Ok(tally.shown)
}

/// A dump of the kernel, as a source.
struct KernelDump {
    dump: Dump,
    stop: Stop,
}

impl DatagramSource for KernelDump {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        match self.dump.next(&mut datagram.buffer, Some(&self.stop)) {
            Ok(Some(length)) => {
                datagram.length = length;
                Ok(true)
            }
            Ok(None) | Err(DumpError::Stopped) => Ok(false),
            Err(DumpError::Socket(error)) => Err(error.into()),
            Err(error) => Err(SourceError::Kernel(error.errno())),
        }
    }
}

/// The stock format for these outputs, and its options.
fn format(settings: &Settings, footer: bool) -> (&'static str, Vec<OptionValue>) {
    let output = settings.output;
    let mut options = Vec::new();
    let mut option = |name: &str, value: &str| {
        options.push(OptionValue { name: name.into(), value: value.into() });
    };
    let mut switches = |names: &[(Output, &str)]| {
        for (bit, name) in names {
            if output.contains(*bit) {
                option(name, "true");
            }
        }
    };
    let plugin = if output.contains(Output::JSON) {
        "json"
    } else if output.contains(Output::SAVE) {
        option("command", "A");
        "save"
    } else if output.contains(Output::XML) {
        switches(&[(Output::TIMESTAMP, "timestamp"), (Output::KERNEL_TIMESTAMP, "ktimestamp")]);
        option("header", "true");
        option("footer", if footer { "true" } else { "false" });
        "xml"
    } else {
        switches(&[
            (Output::EXTENDED, "extended"),
            (Output::ID, "id"),
            (Output::TIMESTAMP, "timestamp"),
            (Output::KERNEL_TIMESTAMP, "ktimestamp"),
        ]);
        "text"
    };
    (plugin, options)
}
