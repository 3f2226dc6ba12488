//! `--explain`: what a command would ask of the kernel and of plugins, and how it would show it, without doing any of it.
//!
//! Plugins are loaded and told their options, so that what is wrong with them comes out; they see no entry.

use std::{fmt::Write as _, path::Path};

use serde::Serialize;

use super::{
    Context, bulk, long_name, lower, outputs,
    report::{CommandError, Exit},
    sources,
    subject::Subject,
    table::{Nothing, Row, Source, Summary},
    tables,
};
use flowgate_base::text::clean;
use flowgate_model::{Expectations, Flows, OptionValue, Selection, family};
use flowgate_netlink::listener;
use flowgate_netlink::{
    DumpFilter, DumpKind, MAX_REQUESTS, Request,
    encode::flows,
    filter::{Condition, ExactFilter},
};
use flowgate_pipeline::{loader::Purpose, sink::SinkError};
use flowgate_syntax::{Command, Output, Settings, Table};

/// What would happen.
#[derive(Debug, Serialize)]
struct Explanation {
    command: &'static str,
    table: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    source: Origin,
    selector: Vec<Check>,
    stages: Vec<Step>,
    actions: Option<String>,
    format: Option<Shape>,
    end: String,
}

/// Where entries come from.
#[derive(Debug, Serialize)]
struct Origin {
    kind: &'static str,
    /// What is asked of the kernel, message by message; empty if it is not asked.
    requests: Vec<String>,
    family: &'static str,
    text: String,
}

/// A condition of the selector.
#[derive(Debug, Serialize)]
struct Check {
    condition: String,
    /// `kernel` or `match`. What the kernel checks, the stage `match` checks once more.
    by: &'static str,
    /// Why not the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// A stage.
#[derive(Debug, Serialize)]
struct Step {
    plugin: String,
    stock: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    text: String,
    /// What it may do, as `--grant` takes it.
    grants: String,
    on_error: String,
    options: Vec<String>,
}

/// The format.
#[derive(Debug, Serialize)]
struct Shape {
    plugin: &'static str,
    options: Vec<String>,
}

impl Context<'_> {
    /// Explains a command. `recording`: the file that stands in for the kernel. `loading`: it is a line of a load file.
    pub(super) fn explain(
        &mut self,
        row: &Row,
        settings: &Settings,
        recording: Option<&Path>,
        loading: bool,
    ) -> Result<Exit, CommandError> {
        let explanation = match settings.table {
            Table::Expect => self.explanation::<Expectations>(row, settings, recording)?,
            _ => self.explanation::<Flows>(row, settings, recording)?,
        };
        let explanation = if loading { explanation.of_line() } else { explanation };
        let text = if settings.output.contains(Output::JSON) {
            serde_json::to_string(&explanation)
                .map_err(|error| CommandError::Output(SinkError::Stdout(error.into())))?
                + "\n"
        } else {
            explanation.text() + if loading { "\n" } else { "" }
        };
        self.sink.write(text.as_bytes())?;
        Ok(Exit::Success)
    }

    fn explanation<T: Subject>(
        &mut self,
        row: &Row,
        settings: &Settings,
        recording: Option<&Path>,
    ) -> Result<Explanation, CommandError> {
        let namespace = self.namespace(settings)?;
        let bulk = if recording.is_none() { bulk::filters(row, settings) } else { None };
        let source = match recording {
            Some(file) => Origin {
                kind: "recording",
                requests: Vec::new(),
                family: family_name(settings.family),
                text: format!("the recording {}", clean(&file.display().to_string())),
            },
            None => match &bulk {
                Some(filters) => by_itself(filters, settings),
                None => origin::<T>(row, settings)?,
            },
        };
        let mut stages = Vec::new();
        if bulk.is_none() && row.selects && T::selection(settings).is_some() {
            stages.push(stock("match", "keeps what the selector means"));
        }
        stages.extend(self.users::<T>(settings)?);
        if let Some(name) = row.acts.filter(|_| bulk.is_none()) {
            let what = match name {
                "delete" => "asks for each entry that is left to be deleted",
                "update" => "asks for each entry that is left to be given the values of the command line",
                _ => "asks for the entry of the command line to be made",
            };
            stages.push(Step { grants: "all".into(), ..stock(name, what) });
        }
        let format = match (row.source, row.look) {
            (_, _) if settings.dry_run => Some(Shape { plugin: "save", options: Vec::new() }),
            (_, _) if settings.quiet => None,
            (_, None) => None,
            (Source::Count | Source::Statistics(_), _) => {
                let plugin = if settings.output.contains(Output::JSON) { "json" } else { "counters" };
                Some(Shape { plugin, options: Vec::new() })
            }
            (_, Some(look)) => {
                let (plugin, options) = outputs::format(settings.output, look);
                Some(Shape { plugin, options: words(&options) })
            }
        };
        Ok(Explanation {
            command: long_name(settings.command),
            table: settings.table.name(),
            namespace: namespace.map(|namespace| namespace.name().to_string()),
            source,
            selector: checks(row, settings, T::selection(settings), recording.is_some()),
            stages,
            actions: actions(row, settings).filter(|_| bulk.is_none()),
            format,
            end: end(row, settings),
        })
    }

    /// The stages of the user, which are loaded.
    fn users<T: Subject>(&mut self, settings: &Settings) -> Result<Vec<Step>, CommandError> {
        if settings.plugins.is_empty() {
            return Ok(Vec::new());
        }
        let loader = self.loader(settings)?;
        let mut steps = Vec::new();
        for spec in &settings.plugins {
            let description = lower::prepare(&loader, spec, T::STAGE, Purpose::Inspect)?.description;
            let grants = spec.grants.to_string();
            steps.push(Step {
                plugin: clean(&spec.file.display().to_string()),
                stock: false,
                name: Some(clean(&description.name)),
                version: Some(clean(&description.version)),
                text: clean(&description.summary),
                grants: if grants.is_empty() { "none".into() } else { grants },
                on_error: spec.on_error.to_string(),
                options: words(&spec.options).iter().map(|option| clean(option)).collect(),
            });
        }
        Ok(steps)
    }
}

/// A stage that the program carries.
fn stock(name: &str, text: &str) -> Step {
    Step {
        plugin: name.into(),
        stock: true,
        name: None,
        version: None,
        text: text.into(),
        grants: "none".into(),
        on_error: "stop".into(),
        options: Vec::new(),
    }
}

fn words(options: &[OptionValue]) -> Vec<String> {
    options.iter().map(|option| format!("{}={}", option.name, option.value)).collect()
}

fn family_name(number: Option<u8>) -> &'static str {
    match number {
        Some(family::IPV4) => "IPv4",
        Some(family::IPV6) => "IPv6",
        _ => "both",
    }
}

/// What is asked of a kernel that deletes by itself.
fn by_itself(filters: &[ExactFilter], settings: &Settings) -> Origin {
    let requests = filters
        .iter()
        .map(|filter| format!("IPCTNL_MSG_CT_DELETE ({} bytes)", flows::delete_matching(filter).len()))
        .collect();
    let text = "no entry is read: the kernel is asked to delete all flows that its filter lets through (Linux 6.12 on; if \
                it refuses to, the table is dumped and each flow deleted)";
    Origin { kind: "bulk", requests, family: family_name(settings.family), text: text.into() }
}

/// What is asked of the kernel. The requests are made, so that what cannot be asked is an error here too.
fn origin<T: Subject>(row: &Row, settings: &Settings) -> Result<Origin, CommandError> {
    let expect = settings.table == Table::Expect;
    let named = |name: &str, request: &Request| format!("{name} ({} bytes)", request.len());
    let of = if expect { "expectations" } else { "flows" };
    let mut family = family_name(settings.family);
    let (kind, requests, text) = match row.source {
        Source::Dump(table) => {
            let dumps = sources::requests::<T>(row, settings)?;
            let name = match table {
                DumpKind::FLOWS if settings.zero => "IPCTNL_MSG_CT_GET_CTRZERO, dump",
                DumpKind::FLOWS | DumpKind::FlowsAndZero => "IPCTNL_MSG_CT_GET, dump",
                DumpKind::Table(Table::Dying) => "IPCTNL_MSG_CT_GET_DYING, dump",
                DumpKind::Table(Table::Unconfirmed) => "IPCTNL_MSG_CT_GET_UNCONFIRMED, dump",
                DumpKind::EXPECTATIONS => "IPCTNL_MSG_EXP_GET, dump",
                DumpKind::CpuStatistics => "IPCTNL_MSG_CT_GET_STATS_CPU, dump",
                DumpKind::ExpectationStatistics => "IPCTNL_MSG_EXP_GET_STATS_CPU, dump",
            };
            let mut requests: Vec<String> = dumps.iter().map(|asked| named(name, &asked.request())).collect();
            let mut text = match table {
                DumpKind::Table(Table::Dying) => "a dump of the flows that are being removed".to_string(),
                DumpKind::Table(Table::Unconfirmed) => "a dump of the flows that are not in the table yet".to_string(),
                _ if dumps.len() > 1 => format!("a dump of the {of} of IPv4, then one of those of IPv6"),
                _ => format!("a dump of the {of}"),
            };
            if settings.zero && table == DumpKind::FLOWS {
                text.push_str(", whose counters are set to zero");
            }
            if table == DumpKind::FLOWS {
                requests.insert(
                    0,
                    named("IPCTNL_MSG_CT_GET_STATS, and no dump if there are no flows", &Request::global_statistics()),
                );
            }
            ("dump", requests, text)
        }
        Source::Lookup => {
            let requests = sources::requests::<T>(row, settings)?;
            let name = if expect { "IPCTNL_MSG_EXP_GET" } else { "IPCTNL_MSG_CT_GET" };
            (
                "lookup",
                requests.iter().map(|asked| named(name, &asked.request())).collect(),
                "the one entry with the tuple of the command line".to_string(),
            )
        }
        Source::Given => {
            ("given", Vec::new(), "the entry that the command line describes; nothing is read".to_string())
        }
        Source::Events => {
            let groups = T::groups(settings);
            let names: Vec<&str> = GROUPS.iter().filter(|(bit, _)| groups & bit != 0).map(|(_, name)| *name).collect();
            family = "both";
            let mut text = format!("events of {of}, as long as no signal ends it: the groups {}", names.join(", "));
            if names.is_empty() {
                text = format!("events of {of}, but of no group: nothing will come");
            }
            if settings.all_netns {
                text.push_str("; of all network namespaces that have an id here (NETLINK_LISTEN_ALL_NSID)");
            }
            let bytes = settings.buffer_size.map_or(listener::EVENT_BUFFER, |bytes| bytes as usize);
            let most = settings.buffer_max.map_or(listener::EVENT_BUFFER_MAX, |bytes| bytes as usize).max(bytes);
            let _ = write!(text, "; a receive buffer of {bytes} bytes is asked for");
            if most > bytes {
                let _ = write!(text, ", which may grow to {most}");
            }
            if settings.reliable {
                text.push_str("; the kernel keeps what it cannot deliver (NETLINK_BROADCAST_ERROR)");
            }
            if settings.resync {
                text.push_str("; after a gap the table is dumped, and the difference is reported as synthetic events");
            }
            ("events", Vec::new(), text)
        }
        Source::Statistics(table) => {
            family = "both";
            let name = if expect { "IPCTNL_MSG_EXP_GET_STATS_CPU, dump" } else { "IPCTNL_MSG_CT_GET_STATS_CPU, dump" };
            let request = Request::dump(table, &DumpFilter::all());
            ("statistics", vec![named(name, &request)], format!("the kernel's counters of {of}, of each CPU"))
        }
        Source::Count if expect => {
            let request = Request::dump(DumpKind::EXPECTATIONS, &DumpFilter::family_only(family::IPV4));
            family = "IPv4";
            (
                "count",
                vec![named("IPCTNL_MSG_EXP_GET, dump", &request)],
                "a dump of the expectations, which are counted".into(),
            )
        }
        Source::Count => {
            family = "both";
            let request = Request::global_statistics();
            ("count", vec![named("IPCTNL_MSG_CT_GET_STATS", &request)], "the kernel's own count of flows".to_string())
        }
        Source::Flush => {
            let request = tables::flush_request(row, settings);
            let name = if expect { "IPCTNL_MSG_EXP_DELETE" } else { "IPCTNL_MSG_CT_DELETE" };
            if expect {
                family = "both";
            }
            let text = match family {
                "both" => format!("no entry is read: the kernel is asked to remove all {of}"),
                family => format!("no entry is read: the kernel is asked to remove all {of} of {family}"),
            };
            ("flush", vec![named(name, &request)], text)
        }
    };
    Ok(Origin { kind, requests, family, text })
}

/// Groups of events, by name.
const GROUPS: [(u32, &str); 6] = {
    use flowgate_netlink::group;
    [
        (group::NEW, "NFNLGRP_CONNTRACK_NEW"),
        (group::UPDATE, "NFNLGRP_CONNTRACK_UPDATE"),
        (group::DESTROY, "NFNLGRP_CONNTRACK_DESTROY"),
        (group::EXPECTATION_NEW, "NFNLGRP_CONNTRACK_EXP_NEW"),
        (group::EXPECTATION_UPDATE, "NFNLGRP_CONNTRACK_EXP_UPDATE"),
        (group::EXPECTATION_DESTROY, "NFNLGRP_CONNTRACK_EXP_DESTROY"),
    ]
};

/// Who checks which condition.
fn checks(row: &Row, settings: &Settings, selection: Option<&Selection>, recording: bool) -> Vec<Check> {
    let Some(selection) = selection.filter(|_| row.selects) else { return Vec::new() };
    let elsewhere = match row.source {
        _ if recording => Some("the kernel is not asked"),
        Source::Events => Some("the kernel has no filter for events"),
        Source::Lookup => Some("the kernel is asked for one entry"),
        Source::Dump(DumpKind::FLOWS) => None,
        _ => Some("the kernel has no filter for this table"),
    };
    let check = |Condition { name, unchecked }: Condition| {
        // A dump of any table takes a family.
        let pushed = name == "family" && matches!(row.source, Source::Dump(_)) && !recording;
        let reason = if pushed { None } else { elsewhere.or(unchecked) };
        Check { condition: name, by: if reason.is_none() { "kernel" } else { "match" }, reason }
    };
    debug_assert!(settings.table != Table::Expect);
    DumpFilter::plan_dumps(selection).1.into_iter().map(check).collect()
}

/// What would be sent for the actions.
fn actions(row: &Row, settings: &Settings) -> Option<String> {
    if settings.dry_run {
        return Some("none is sent: they are printed as command lines".into());
    }
    let expect = settings.table == Table::Expect;
    if row.acts.is_none() && settings.plugins.iter().any(|plugin| plugin.grants.acts()) {
        return Some("what components ask for, as far as it is granted to them".into());
    }
    let batched = format!("up to {MAX_REQUESTS} in one datagram, each answer matched to its entry");
    let mut text = match (row.acts?, expect) {
        ("delete", true) => "IPCTNL_MSG_EXP_DELETE with the tuple of the expectation".to_string(),
        ("delete", false) => format!("IPCTNL_MSG_CT_DELETE with the tuple, zone and id of each entry, {batched}"),
        ("update", _) => {
            let shown =
                if settings.quiet { "" } else { "; then IPCTNL_MSG_CT_GET, to show what the kernel made of it" };
            format!("IPCTNL_MSG_CT_NEW with the tuple of each entry and what is to be set, {batched}{shown}")
        }
        (_, true) => "IPCTNL_MSG_EXP_NEW, NLM_F_CREATE | NLM_F_EXCL".to_string(),
        (_, false) if settings.command == Command::Add => "IPCTNL_MSG_CT_NEW, NLM_F_CREATE".to_string(),
        (_, false) => "IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL".to_string(),
    };
    if row.selects {
        text.push_str(
            "; the first that the kernel refuses for another reason than that the entry has gone ends the command",
        );
    }
    Some(text)
}

/// How it ends.
fn end(row: &Row, settings: &Settings) -> String {
    if settings.dry_run {
        return "`N actions have been printed, none was done.` on standard error".into();
    }
    if settings.quiet {
        return "nothing on standard error; exit status 0 also if nothing was found".into();
    }
    match row.summary {
        Summary::None => "nothing on standard error".into(),
        Summary::Always(text) => format!("`{text}` on standard error, in any case"),
        Summary::Done(text) => format!("`N {text}` on standard error"),
        Summary::Shown(text, Nothing::Failure) => {
            format!("`N {text}` on standard error; exit status 1 if there is none")
        }
        Summary::Shown(text, Nothing::Success) => format!("`N {text}` on standard error"),
    }
}

impl Explanation {
    /// What is different in a line of a load file.
    fn of_line(mut self) -> Self {
        if let Some(actions) = &mut self.actions {
            actions.push_str("; one after the other, and none after one that is refused");
        }
        self.end = "nothing on standard error; the next line follows unless the kernel refuses something".into();
        self
    }

    /// For people: a heading in the first column, what belongs to it beside it.
    fn text(&self) -> String {
        let mut text = String::new();
        let mut section = |heading: &str, lines: Vec<String>| {
            for (index, line) in lines.iter().enumerate() {
                let heading = if index == 0 { heading } else { "" };
                let _ = writeln!(text, "{heading:<10} {line}");
            }
        };
        section("command", vec![format!("--{} {}", self.command, self.table)]);
        section("namespace", self.namespace.iter().map(|name| clean(name)).collect());
        let family = match self.source.family {
            "both" => String::new(),
            family => format!(", of {family} only"),
        };
        let family = if matches!(self.source.kind, "dump" | "recording") { family } else { String::new() };
        let mut source = vec![format!("{}{family}", self.source.text)];
        source.extend(self.source.requests.iter().map(|request| format!("asks: {request}")));
        section("source", source);
        let selector = self.selector.iter().map(|check| match check.reason {
            None => format!("{}: checked by the kernel", check.condition),
            Some(reason) => format!("{}: checked by the stage match ({reason})", check.condition),
        });
        section("selector", selector.collect());
        let stages = self.stages.iter().enumerate().map(|(index, step)| {
            let number = index + 1;
            if step.stock {
                return format!("{number}. {}: {}", step.plugin, step.text);
            }
            let name = step.name.as_deref().unwrap_or_default();
            let version = step.version.as_deref().unwrap_or_default();
            let options =
                if step.options.is_empty() { String::new() } else { format!("; {}", step.options.join(", ")) };
            format!(
                "{number}. {} ({name} {version}): {}{options}; grants: {}; on error: {}",
                step.plugin, step.text, step.grants, step.on_error
            )
        });
        section("stages", if self.stages.is_empty() { vec!["none".into()] } else { stages.collect() });
        section("actions", self.actions.iter().cloned().collect());
        let format = self.format.as_ref().map_or("nothing is shown".to_string(), |shape| {
            if shape.options.is_empty() {
                shape.plugin.to_string()
            } else {
                format!("{} ({})", shape.plugin, shape.options.join(", "))
            }
        });
        section("format", vec![format]);
        section("end", vec![self.end.clone()]);
        text
    }
}
