//! Explanations of pipelines, made of their [`Spec`]: what one asks of the kernel and of plugins, and how it shows the
//! result.
//!
//! The requests are those that the pipeline sends, and the plugins are loaded and configured, so that what is wrong
//! with them is an error here too. They process no entry.

mod source;
mod text;

use serde::Serialize;

use crate::{
    load::LoadedSpec,
    loader::{LoadedPlugin, PluginLimits},
    sink::{SinkKind, SinkSpec, outbox::WhenFull, syslog::Target},
    spec::{KernelPlan, OnRefusal, Source, Spec, StageSpec},
};
use flowgate_base::{
    text::clean,
    units::{show_size, show_time},
};
use flowgate_model::Table;
use flowgate_netlink::{EncodeError, MAX_REQUESTS, Request, kernel_dump::Query};

/// An explanation of a pipeline, for people ([`Explanation::text`]) or as JSON.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Explanation {
    /// The subject: names and values, such as `tenant` and its name.
    #[serde(flatten)]
    pub title: Title,
    /// The network namespace, if it is not the namespace of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Where entries come from.
    pub source: SourceExplanation,
    /// The conditions of the selection.
    pub selector: Vec<Check>,
    /// The stages.
    pub stages: Vec<PluginExplanation>,
    /// The requests for actions; `None` if there are none.
    pub actions: Option<String>,
    /// The plugin that groups flows; `None` if flows are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregation: Option<PluginExplanation>,
    /// The plugins that group flows for metrics.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<PluginExplanation>,
    /// The format; `None` if nothing is shown.
    pub format: Option<PluginExplanation>,
    /// Maximum number of entries that plugins get at once.
    pub batch: usize,
    /// Where the output goes.
    pub sinks: Vec<SinkExplanation>,
    /// How the run ends, where the caller says that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

/// The heading of an explanation.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Title {
    /// For people: a heading and its text, line by line.
    #[serde(skip)]
    pub lines: Vec<(&'static str, String)>,
    /// For JSON.
    #[serde(flatten)]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

impl Title {
    /// Adds a line for people.
    #[must_use]
    pub fn line(mut self, heading: &'static str, text: impl Into<String>) -> Self {
        self.lines.push((heading, clean(&text.into())));
        self
    }

    /// Adds a field of the JSON object.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.fields.insert(name.into(), value.into());
        self
    }
}

/// Where entries come from.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SourceExplanation {
    /// `dump`, `lookup`, `given`, `events`, `recording`, `statistics`, `count`, `flush` or `bulk`.
    pub kind: &'static str,
    /// The table.
    pub table: &'static str,
    /// The requests to the kernel, message by message; empty if there are none.
    pub requests: Vec<String>,
    /// `IPv4`, `IPv6` or `both`.
    pub family: &'static str,
    /// For people.
    pub text: String,
    /// Properties of a stream of events.
    #[serde(flatten)]
    pub events: Option<EventsExplanation>,
}

/// Properties of a stream of events.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EventsExplanation {
    /// The kinds of events that are shown.
    pub events: Vec<&'static str>,
    /// Initial receive buffer in bytes, if it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer: Option<usize>,
    /// True if lost events are made up for.
    pub resync: bool,
    /// True if the kernel keeps entries until their end has been delivered.
    pub reliable: bool,
}

/// A condition of the selection.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The condition.
    pub condition: String,
    /// `kernel` or `match`. The stage `match` checks again what the kernel checks.
    pub by: &'static str,
    /// Why the kernel does not check it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// A stage or a format.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PluginExplanation {
    /// The name in messages.
    pub plugin: String,
    /// True for stock plugins.
    pub stock: bool,
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The SHA-256 of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The name that the plugin gives itself.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its description of itself.
    pub summary: String,
    /// The input of a stock stage, as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The interfaces that it exports.
    pub interfaces: Vec<&'static str>,
    /// The services of the host that it uses.
    pub services: Vec<String>,
    /// Its options, those with default values included.
    pub options: Vec<OptionExplanation>,
    /// Its grants, as in `--grant`; `none` if it has none.
    pub grants: String,
    /// The handling of a batch when it fails.
    pub on_error: String,
    /// Its limits; none of its own for stock plugins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsExplanation>,
}

/// An option of a plugin.
#[derive(Clone, Debug, Serialize)]
pub struct OptionExplanation {
    /// Its name.
    pub name: String,
    /// Its value; `None` if it has none.
    pub value: Option<String>,
    /// Its purpose, as described by the plugin.
    pub help: String,
}

/// Limits of a plugin, as they are written in files.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LimitsExplanation {
    /// Linear memory.
    pub memory: String,
    /// CPU time of a call.
    pub call: String,
    /// CPU time of its start.
    pub start_up: String,
    /// Bytes that a call returns.
    pub output: String,
    /// Actions of a call.
    pub actions: usize,
    /// Bytes of its state.
    pub state: String,
    /// Failures within `window` after which it is not started again.
    pub restarts: u32,
    /// See `restarts`.
    pub window: String,
}

/// A sink.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SinkExplanation {
    /// `stdout`, `file`, `unix`, `tcp`, `syslog` or `nats`.
    pub kind: &'static str,
    /// Its destination.
    pub to: String,
    /// Properties, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl Explanation {
    /// Explains a pipeline whose plugins have been loaded
    /// ([`Purpose::Inspect`](crate::loader::Purpose::Inspect)).
    ///
    /// # Errors
    /// [`EncodeError`] if what the kernel would be asked for cannot be encoded.
    pub fn new(loaded: &LoadedSpec) -> Result<Self, EncodeError> {
        let spec = loaded.spec();
        let KernelPlan { queries, conditions } = spec.kernel_plan()?;
        let requests: Vec<Request> = queries.iter().map(Query::request).collect();
        let selector = conditions.into_iter().map(|condition| Check {
            condition: condition.name,
            by: if condition.unchecked.is_none() { "kernel" } else { "match" },
            reason: condition.unchecked,
        });
        Ok(Explanation {
            title: Title::default(),
            namespace: spec.namespace.as_ref().map(|namespace| clean(namespace.name())),
            source: source::explain(spec, &requests),
            selector: selector.collect(),
            stages: loaded.stage_plugins.iter().map(plugin).collect(),
            actions: actions(spec),
            aggregation: loaded.aggregator_plugin.as_ref().map(plugin),
            metrics: loaded.metric_plugins.iter().map(plugin).collect(),
            format: loaded.format_plugin.as_ref().map(plugin),
            batch: spec.batch,
            sinks: spec.sinks.iter().map(|sink| explain_sink(sink, spec.is_live())).collect(),
            end: None,
        })
    }

    /// Returns the explanation as one line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        // Such a value can always be serialized.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

fn plugin(plugin: &LoadedPlugin) -> PluginExplanation {
    let description = &plugin.description;
    let value =
        |name: &str| plugin.options.iter().rev().find(|option| option.name == name).map(|option| clean(&option.value));
    let options = description.options.iter().map(|spec| OptionExplanation {
        name: clean(&spec.name),
        value: value(&spec.name),
        help: clean(&spec.help),
    });
    let grants = plugin.grants.to_string();
    PluginExplanation {
        plugin: clean(&plugin.name),
        stock: plugin.file.is_none(),
        file: plugin.file.as_ref().map(|file| clean(&file.display().to_string())),
        sha256: plugin.digest.clone(),
        name: clean(&description.name),
        version: clean(&description.version),
        summary: clean(&description.summary),
        input: plugin.text.as_deref().map(clean),
        interfaces: plugin.interfaces.clone(),
        services: plugin.services.iter().map(|service| clean(service)).collect(),
        options: options.collect(),
        grants: if grants.is_empty() { "none".into() } else { clean(&grants) },
        on_error: plugin.limits.map_or_else(|| "stop".to_string(), |limits| limits.restart.on_error.to_string()),
        limits: plugin.limits.map(limits),
    }
}

fn limits(limits: PluginLimits) -> LimitsExplanation {
    LimitsExplanation {
        memory: show_size(limits.instance.memory as u64),
        call: show_time(limits.instance.call),
        start_up: show_time(limits.instance.start_up),
        output: show_size(limits.instance.output as u64),
        actions: limits.instance.actions,
        state: show_size(limits.state as u64),
        restarts: limits.restart.failures,
        window: show_time(limits.restart.window),
    }
}

/// Returns the description of the requests for actions.
fn actions(spec: &Spec) -> Option<String> {
    if spec.dry_run {
        return Some("none is sent: they are printed as command lines".into());
    }
    if matches!(spec.source, Source::Recording(_)) && spec.acts() {
        return Some("none is sent: the entries are those of a recording".into());
    }
    let stock = |stage: &StageSpec| match stage {
        StageSpec::Stock(stock) if stock.acts() => Some(stock.name),
        _ => None,
    };
    let mut texts: Vec<String> = spec.stages.iter().filter_map(stock).map(|name| stock_actions(spec, name)).collect();
    if spec.has_acting_plugins() {
        texts.push("what components ask for, as far as it is granted to them".into());
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// Returns the description of the requests for the actions of a stock stage.
fn stock_actions(spec: &Spec, name: &str) -> String {
    use crate::executor::Shows;
    let expect = spec.source.is_about_expectations();
    let batched = format!("up to {MAX_REQUESTS} in one datagram, each answer matched to its entry");
    let mut text = match (name, expect) {
        ("delete", true) => "IPCTNL_MSG_EXP_DELETE with the tuple of the expectation".to_string(),
        ("delete", false) => format!("IPCTNL_MSG_CT_DELETE with the tuple, zone and id of each entry, {batched}"),
        ("update", _) => {
            let reread = "; then IPCTNL_MSG_CT_GET, to show what the kernel made of it";
            let reread = if spec.shows == Shows::Reread { reread } else { "" };
            format!("IPCTNL_MSG_CT_NEW with the tuple of each entry and what is to be set, {batched}{reread}")
        }
        (_, true) => "IPCTNL_MSG_EXP_NEW, NLM_F_CREATE | NLM_F_EXCL".to_string(),
        (_, false) if updates_existing(spec) => "IPCTNL_MSG_CT_NEW, NLM_F_CREATE".to_string(),
        (_, false) => "IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL".to_string(),
    };
    match spec.on_refusal {
        OnRefusal::Stop if matches!(spec.source, Source::Given(_)) => {}
        OnRefusal::Stop => text.push_str(
            "; the first that the kernel refuses for another reason than that the entry has gone ends the command",
        ),
        OnRefusal::StopAtOnce => text.push_str("; one after the other, and none after one that is refused"),
        OnRefusal::Note => text.push_str("; those that the kernel refuses are reported, and the others are done"),
    }
    text
}

/// Returns true if creations change entries that exist.
fn updates_existing(spec: &Spec) -> bool {
    let or_update = |stage: &StageSpec| match stage {
        StageSpec::Stock(stock) => stock.options.iter().any(|option| option.name == "or-update"),
        StageSpec::Plugin(_) => false,
    };
    spec.stages.iter().any(or_update)
}

fn explain_sink(spec: &SinkSpec, live: bool) -> SinkExplanation {
    let buffer = || {
        let full = match spec.when_full(live) {
            WhenFull::Drop => "lines are dropped and counted when it is full",
            WhenFull::Wait => "the pipeline waits when it is full",
        };
        let (capacity, linger) = (show_size(spec.buffer.capacity as u64), show_time(spec.buffer.linger));
        vec![
            format!("a buffer of {capacity}, {full}"),
            format!("the end waits up to {linger} for a peer that takes nothing"),
        ]
    };
    let (kind, to, details) = match &spec.kind {
        SinkKind::Stdout => ("stdout", "standard output".to_string(), Vec::new()),
        SinkKind::File(options) => {
            let mut details = vec![if options.append { "appended to" } else { "begins empty" }.to_string()];
            if let Some(rotation) = options.rotation {
                let size = rotation.size.map(|size| format!("at {}", show_size(size)));
                let time = rotation.interval.map(|time| format!("every {}", show_time(time)));
                let when: Vec<String> = size.into_iter().chain(time).collect();
                let packed = if rotation.compress { ", compressed" } else { "" };
                let aged = rotation.keep_time.map(|time| format!(", none older than {}", show_time(time)));
                let aged = aged.unwrap_or_default();
                details.push(format!("rotated {}, {} kept{aged}{packed}", when.join(" and "), rotation.keep));
            }
            ("file", options.path.display().to_string(), details)
        }
        SinkKind::Unix(path) => ("unix", path.display().to_string(), buffer()),
        SinkKind::Tcp(address) => ("tcp", address.clone(), buffer()),
        SinkKind::Syslog { target, facility, severity, app_name, max_message } => {
            let to = match target {
                Target::Local(path) => path.display().to_string(),
                Target::Udp(address) => format!("udp://{address}"),
                Target::Tcp(address) => format!("tcp://{address}"),
            };
            let mut details = vec![format!(
                "facility {facility}, severity {severity}, app-name {app_name}, messages of at most {max_message} bytes"
            )];
            details.extend(buffer());
            ("syslog", to, details)
        }
        SinkKind::Nats(options) => {
            ("nats", options.servers(), options.details(spec.when_full(live), spec.buffer.linger))
        }
    };
    SinkExplanation { kind, to: clean(&to), details }
}

/// Returns the name of a table in explanations.
fn table_name(source: &Source) -> &'static str {
    match source {
        Source::Dump(dump) => dump.table.name(),
        source if source.is_about_expectations() => Table::Expect.name(),
        _ => Table::Conntrack.name(),
    }
}
