//! Converts a classic command line to the spec of its pipeline, by its row of the command table.

use super::{
    report::CommandError,
    table::{Row, Source},
    terminal,
};
use flowgate_model::{EventGroups, OptionValue};
use flowgate_netlink::{Deletion, DumpFilter, Namespace, Statistics};
use flowgate_pipeline::{
    FormatSpec, Spec, StageSpec, StockStage,
    entries::Batch,
    executor::Shows,
    loader::PluginSpec,
    spec::{self, Dump, Events},
};
use flowgate_syntax::{Command, Output, PluginArgument, Settings, Table};

/// Returns the spec of a command on the kernel. If the kernel may be able to carry it out by itself, the source is a
/// [`Deletion`]; [`entries`] returns the equivalent spec that works on the entries.
///
/// # Errors
/// [`CommandError::Kernel`] for requests that the kernel would refuse from conntrack.
pub(super) fn command(row: &Row, settings: &Settings, namespace: Option<Namespace>) -> Result<Spec, CommandError> {
    let spec = entries(row, settings, namespace);
    // A status filter without a bit (`-L -u UNSET`): the kernel refuses it, and scripts rely on the error.
    let no_status = settings.selection.status.is_some_and(|status| status.mask == 0);
    if row.source == Source::Dump && row.acts.is_none() && row.table == Table::Conntrack && no_status {
        return Err(CommandError::of_errno(row, libc::EINVAL));
    }
    Ok(match deletion(row, settings) {
        Some(deletion) => Spec {
            source: spec::Source::Deletion(deletion),
            selection: spec.selection,
            namespace: spec.namespace,
            ..Spec::flows()
        },
        None => spec,
    })
}

/// Returns the deletion by the kernel alone that is equivalent to a command, if there is one.
fn deletion(row: &Row, settings: &Settings) -> Option<Deletion> {
    match (row.source, row.command, row.table) {
        (Source::Flush, _, Table::Expect) => Some(Deletion::Expectations),
        (Source::Flush, ..) => Some(settings.family.map_or(Deletion::Flows, Deletion::Family)),
        // `-D --quiet`: the kernel reports neither what it deletes nor how many.
        (Source::Dump, Command::Delete, Table::Conntrack)
            if settings.quiet && !settings.dry_run && settings.plugins.is_empty() && settings.query.is_none() =>
        {
            DumpFilter::exact(&settings.selection).map(Deletion::Matching)
        }
        _ => None,
    }
}

/// Returns the spec of a command that works on entries, or on counters.
pub(super) fn entries(row: &Row, settings: &Settings, namespace: Option<Namespace>) -> Spec {
    let mut spec = Spec::new(source(row, settings));
    spec.namespace = namespace;
    if row.selects && row.table != Table::Expect {
        spec.selection = settings.selection.clone();
        spec.query = settings.query.clone();
        spec.aggregation = settings.aggregate.clone().map(flowgate_config::aggregation);
    }
    spec.stages = settings.plugins.iter().map(|argument| plugin(argument).into()).collect();
    if let Some(name) = row.acts {
        spec.stages.push(StageSpec::Stock(acting(name, settings)));
    }
    // Entries that are not shown are not read again.
    spec.shows = if settings.quiet && row.shows == Shows::Reread { Shows::Acted } else { row.shows };
    spec.format = format(row, settings);
    spec.batch = settings.batch as usize;
    spec.dry_run = settings.dry_run;
    spec
}

fn source(row: &Row, settings: &Settings) -> spec::Source {
    let expect = row.table == Table::Expect;
    let batch = || match expect {
        true => Batch::Expectations(Box::new(settings.expectation.clone())),
        false => Batch::Flows(Box::new(settings.template.clone())),
    };
    match row.source {
        Source::Dump => spec::Source::Dump(Dump { table: row.table, family: settings.family, zero: settings.zero }),
        Source::Lookup => spec::Source::Lookup(batch()),
        Source::Given => spec::Source::Given(batch()),
        Source::Events => spec::Source::Events(Events {
            expectations: expect,
            groups: if expect { EventGroups::ALL } else { settings.events },
            buffer: settings.buffer_size.map(|bytes| bytes as usize),
            buffer_max: settings.buffer_max.map(|bytes| bytes as usize),
            reliable: settings.reliable,
            resync: settings.resync,
            all_namespaces: settings.all_netns,
        }),
        Source::Count if expect => spec::Source::Statistics(Statistics::ExpectationCount),
        Source::Count => spec::Source::Statistics(Statistics::FlowCount),
        Source::Statistics if expect => spec::Source::Statistics(Statistics::ExpectationsPerCpu),
        Source::Statistics => spec::Source::Statistics(Statistics::FlowsPerCpu),
        Source::Flush if expect => spec::Source::Deletion(Deletion::Expectations),
        Source::Flush => spec::Source::Deletion(Deletion::Flows),
    }
}

/// Returns the stock stage that carries out the action of a command. It needs no grant, because the user gave the
/// command.
fn acting(name: &'static str, settings: &Settings) -> StockStage {
    let mut stage = StockStage::acting(name);
    if settings.command == Command::Add {
        stage.options.push(OptionValue::new("or-update", "true"));
    }
    if name == "update" { stage.template(settings.template.clone()) } else { stage }
}

fn format(row: &Row, settings: &Settings) -> Option<FormatSpec> {
    if matches!(row.source, Source::Count | Source::Statistics) && !settings.output.contains(Output::COLUMNED) {
        let name = if settings.output.contains(Output::JSON) { "json" } else { "counters" };
        return Some(FormatSpec::Stock { name, options: Vec::new(), labels: false });
    }
    if settings.dry_run {
        // Actions are printed in this format, each as a command line.
        return Some(FormatSpec::stock("save"));
    }
    row.format.filter(|_| !settings.quiet).map(|context| context.format(settings.output, &terminal::columns(settings)))
}

/// Returns the spec of a plugin of the command line.
pub(super) fn plugin(argument: &PluginArgument) -> PluginSpec {
    let PluginArgument { file, options, grants, on_error } = argument;
    let spec = PluginSpec { options: options.clone(), ..PluginSpec::file(file) };
    spec.grants(grants.clone()).on_error(*on_error)
}
