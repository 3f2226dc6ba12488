//! Tells what a pipeline file amounts to: for people, or as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::prepare::{Prepared, Shown, pushed_down};
use flowgate_base::{
    text::clean,
    units::{show_size, show_time},
};
use flowgate_config::{Config, FormatConfig, SinkConfig, SinkKind, SourceKind};
use flowgate_pipeline::sink::outbox::WhenFull;
use flowgate_syntax::EventGroups;

/// What there is to tell.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Told {
    file: String,
    source: Source,
    stages: Vec<Plugin>,
    /// None if nothing is shown.
    format: Option<Plugin>,
    batch: u32,
    sinks: Vec<Sink>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Source {
    kind: &'static str,
    table: &'static str,
    /// The file, if it is a recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    recording: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<&'static str>,
    select: String,
    /// One line for each condition: who checks it.
    conditions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buffer: Option<u32>,
    /// Whether what gaps swallow is made up for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    resync: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reliable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Plugin {
    name: String,
    stock: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    plugin: String,
    version: String,
    summary: String,
    interfaces: Vec<&'static str>,
    services: Vec<String>,
    options: Vec<PluginOption>,
    /// As they would be typed.
    grants: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    told: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Bounds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct PluginOption {
    name: String,
    value: Option<String>,
    help: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Bounds {
    memory: String,
    call: String,
    start_up: String,
    output: String,
    actions: usize,
    state: String,
    restarts: u32,
    window: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Sink {
    kind: &'static str,
    to: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
}

/// All of it.
pub(super) fn tell(config: &Config, prepared: &Prepared) -> Told {
    let source = &config.source;
    let live = config.live();
    let EventGroups { new, update, destroy } = source.events;
    let events = [(new, "new"), (update, "update"), (destroy, "destroy")];
    Told {
        file: config.text.path.display().to_string(),
        source: Source {
            kind: if source.kind == SourceKind::Events { "events" } else { "dump" },
            table: source.table.name(),
            recording: source.recording.as_ref().map(|recording| recording.file.display().to_string()),
            events: events
                .iter()
                .filter(|(wanted, _)| source.kind == SourceKind::Events && *wanted)
                .map(|(_, name)| *name)
                .collect(),
            select: source.select.clone(),
            conditions: pushed_down(&config.settings, source),
            buffer: source.buffer,
            resync: source.resync,
            reliable: source.reliable,
            netns: source.netns.clone(),
        },
        stages: prepared.stages.iter().map(plugin).collect(),
        format: prepared.format.as_ref().map(plugin).filter(|_| !matches!(config.format, FormatConfig::None)),
        batch: config.settings.batch,
        sinks: config.sinks.iter().map(|config| sink(config, live)).collect(),
        notes: prepared.notes.iter().map(ToString::to_string).collect(),
    }
}

fn plugin(shown: &Shown) -> Plugin {
    let value =
        |name: &str| shown.options.iter().rev().find(|option| option.name == name).map(|option| option.value.clone());
    let options = shown.description.options.iter().map(|spec| PluginOption {
        name: clean(&spec.name),
        value: value(&spec.name),
        help: clean(&spec.help),
    });
    Plugin {
        name: shown.name.clone(),
        stock: shown.file.is_none(),
        file: shown.file.clone(),
        sha256: shown.digest.clone(),
        plugin: clean(&shown.description.name),
        version: clean(&shown.description.version),
        summary: clean(&shown.description.summary),
        interfaces: shown.interfaces.clone(),
        services: shown.services.clone(),
        options: options.collect(),
        grants: shown.grants.to_string(),
        told: shown.told.clone(),
        limits: shown.limits.map(|limits| Bounds {
            memory: show_size(limits.instance.memory as u64),
            call: show_time(limits.instance.call),
            start_up: show_time(limits.instance.start_up),
            output: show_size(limits.instance.output as u64),
            actions: limits.instance.actions,
            state: show_size(limits.state as u64),
            restarts: limits.restart.failures,
            window: show_time(limits.restart.window),
        }),
        on_error: shown.limits.map(|limits| limits.restart.on_error.to_string()),
    }
}

fn sink(config: &SinkConfig, live: bool) -> Sink {
    let buffer = || {
        let full = match config.when_full(live) {
            WhenFull::Drop => "lines are dropped and counted when it is full",
            WhenFull::Wait => "the pipeline waits when it is full",
        };
        let (capacity, linger) = (show_size(config.buffer.capacity as u64), show_time(config.buffer.linger));
        vec![
            format!("a buffer of {capacity}, {full}"),
            format!("the end waits up to {linger} for a peer that takes nothing"),
        ]
    };
    let (kind, to, details) = match &config.kind {
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
        SinkKind::Syslog { target, facility, severity, app_name, longest } => {
            use flowgate_pipeline::sink::syslog::Target;
            let to = match target {
                Target::Local(path) => path.display().to_string(),
                Target::Udp(address) => format!("udp://{address}"),
                Target::Tcp(address) => format!("tcp://{address}"),
            };
            let mut details = vec![format!(
                "facility {facility}, severity {severity}, app-name {app_name}, messages of at most {longest} bytes"
            )];
            details.extend(buffer());
            ("syslog", to, details)
        }
    };
    Sink { kind, to, details }
}

impl Told {
    /// One JSON object.
    pub(super) fn json(&self) -> String {
        // Such a value always has a form.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |indent: usize, what: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:indent$}{what}", "");
        };
        let source = &self.source;
        let from = source.recording.as_ref().map_or(String::new(), |file| format!(", recorded in {file}"));
        line(0, &format!("source: {} of {}{from}", source.kind, source.table));
        if !source.events.is_empty() && source.table == "conntrack" {
            line(2, &format!("events: {}", source.events.join(", ")));
        }
        if let Some(buffer) = source.buffer {
            line(2, &format!("receive buffer: {}", show_size(u64::from(buffer))));
        }
        if let Some(netns) = &source.netns {
            line(2, &format!("network namespace: {}", clean(netns)));
        }
        if source.reliable {
            line(2, "reliable: the kernel keeps entries until their end has been delivered");
        }
        if source.resync {
            line(2, "after a gap: the table is compared, and what was lost is made up for");
        }
        line(2, &format!("select: {}", if source.select.is_empty() { "all" } else { &source.select }));
        source.conditions.iter().for_each(|condition| line(4, condition));
        for (index, stage) in self.stages.iter().enumerate() {
            stage.tell(&format!("stage {}", index + 1), &mut line);
        }
        match &self.format {
            Some(format) => format.tell("format", &mut line),
            None => line(0, "format: none, nothing is shown"),
        }
        line(2, &format!("batches of at most {} entries", self.batch));
        if self.format.is_some() {
            for sink in &self.sinks {
                let to = if sink.kind == "stdout" { String::new() } else { format!(" {}", sink.to) };
                line(0, &format!("sink: {}{to}", sink.kind));
                sink.details.iter().for_each(|detail| line(2, detail));
            }
        }
        text
    }
}

impl Plugin {
    fn tell(&self, what: &str, line: &mut impl FnMut(usize, &str)) {
        let of = if self.stock { "stock plugin".to_string() } else { format!("{} {}", self.plugin, self.version) };
        line(0, &format!("{what}: {} ({of}: {})", self.name, self.summary));
        if let Some(file) = &self.file {
            line(2, &format!("file: {file}"));
        }
        if let Some(digest) = &self.sha256 {
            line(2, &format!("sha256: {digest}"));
        }
        line(2, &format!("interfaces: {}", self.interfaces.join(", ")));
        if !self.services.is_empty() {
            line(2, &format!("services: {}", self.services.join(", ")));
        }
        if let Some(told) = &self.told {
            let what = if self.name == "update" { "set" } else { "select" };
            line(2, &format!("{what}: {}", clean(told)));
        }
        for option in &self.options {
            let value = option.value.as_ref().map_or("not given".to_string(), |value| clean(value));
            line(2, &format!("option {} = {value} ({})", option.name, option.help));
        }
        if !self.grants.is_empty() {
            line(2, &format!("grants: {}", self.grants));
        } else if !self.stock {
            line(2, "grants: none");
        }
        if let Some(limits) = &self.limits {
            let Bounds { memory, call, start_up, output, actions, state, restarts, window } = limits;
            line(
                2,
                &format!(
                    "limits: memory {memory}, call {call}, start-up {start_up}, output {output}, {actions} actions a call, state {state}"
                ),
            );
            let on_error = self.on_error.as_deref().unwrap_or_default();
            line(2, &format!("on error: {on_error}; quarantined after {restarts} failures within {window}"));
        }
    }
}
