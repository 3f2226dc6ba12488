//! The typed content of a pipeline file.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{
    diagnostic::{Diagnostic, Located, SourceText, list},
    keys::SECTIONS,
    plugin::Plugin,
    reader::{Fields, Reader},
    sinks::SinkConfig,
};
use flowgate_model::{Flows, Selection};
use flowgate_recording::{Recording, RecordingInput, RecordingKind, Speed};
use flowgate_syntax::{Command, EventGroups, LabelMap, MAX_RECEIVE_BUFFER, Output, Settings, Table};

/// A pipeline file.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file, for places.
    pub text: SourceText,
    /// The source of entries.
    pub source: SourceConfig,
    /// The stages.
    pub stages: Vec<StageConfig>,
    /// The format.
    pub format: FormatConfig,
    /// The sinks.
    pub sinks: Vec<SinkConfig>,
    /// The flows that are selected.
    pub selection: Selection,
    /// The family of a dump (AF_INET 2, AF_INET6 10); `None` for both.
    pub family: Option<u8>,
    /// The output as `-o` has it.
    pub output: Output,
    /// The names of labels, if the selector or the format needs them.
    pub label_map: Option<LabelMap>,
    /// Maximum number of entries that plugins get at once.
    pub batch: u32,
}

/// Kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A dump of the table.
    Dump,
    /// Events.
    Events,
}

/// A recording in place of the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingConfig {
    /// The file.
    pub file: PathBuf,
    /// The speed of the replay.
    pub speed: Speed,
}

/// The source of entries.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    /// Offset of its section.
    pub offset: usize,
    /// The kind of the source, or of the recorded one.
    pub kind: SourceKind,
    /// The recording, if it is one.
    pub recording: Option<RecordingConfig>,
    /// The table.
    pub table: Table,
    /// The selector as written.
    pub select: String,
    /// The events.
    pub events: EventGroups,
    /// Receive buffer in bytes, if given.
    pub buffer: Option<u32>,
    /// Its maximum in bytes, if not the default.
    pub buffer_max: Option<u32>,
    /// True if the kernel keeps events that it cannot deliver.
    pub reliable: bool,
    /// True if a resync makes up for gaps.
    pub resync: bool,
    /// The network namespace, if not that of the process.
    pub netns: Option<String>,
}

/// A stage.
#[derive(Clone, Debug)]
pub struct StageConfig {
    /// Offset of its section.
    pub offset: usize,
    /// Its kind.
    pub kind: StageKind,
    /// Its options, by name.
    pub options: Vec<(Located<String>, Located<String>)>,
    /// The selector of `match`, or the values of `update`, as written.
    pub told: Option<String>,
}

/// The kind of a stage.
#[derive(Clone, Debug)]
pub enum StageKind {
    /// A component.
    Plugin(Box<Plugin>),
    /// The stock stage `match`, and its selector.
    Match(Box<Selection>),
    /// The stock stage `update`, and its values as a batch of one row.
    Update(Box<Flows>),
    /// The stock stage `delete`.
    Delete,
    /// The stock stage `create`.
    Create,
}

/// The format of the output.
#[derive(Clone, Debug)]
pub enum FormatConfig {
    /// A stock format, with these additions.
    Stock {
        /// Its name.
        name: String,
        /// Additional fields.
        show: Vec<String>,
    },
    /// A component.
    Plugin {
        /// The component.
        plugin: Box<Plugin>,
        /// Its options, by name.
        options: Vec<(Located<String>, Located<String>)>,
    },
    /// No output.
    None,
}

impl Config {
    /// Parses the content of a file. Returns what could be understood even if there are mistakes, so that the options
    /// of plugins can be checked as well; `None` only if there is no source.
    #[must_use]
    pub fn of_bytes(path: &Path, bytes: Vec<u8>) -> (Option<Self>, Vec<Diagnostic>) {
        let (text, valid) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(valid))
            }
        };
        let text = SourceText { path: path.into(), text };
        match valid {
            Some(offset) => {
                let diagnostic = text.diagnostic(offset, "this is not UTF-8, which TOML is written in");
                (None, vec![diagnostic])
            }
            None => Self::parse(text),
        }
    }

    /// Returns whether a file names plugins, and whether it names a network namespace: the facts that privileges depend
    /// on, from the keys alone. No other file is opened.
    #[must_use]
    pub fn outline(bytes: &[u8]) -> (bool, bool) {
        let text = String::from_utf8_lossy(bytes);
        let (table, _) = DeTable::parse_recoverable(&text);
        let section = |name: &str| {
            let found = table.get_ref().iter().find(|(key, _)| key.get_ref() == name);
            found.map(|(_, value)| value.get_ref())
        };
        let has = |value: &DeValue<'_>, name: &str| {
            value.as_table().is_some_and(|table| table.keys().any(|key| key.get_ref() == name))
        };
        let stages = section("stage").and_then(DeValue::as_array);
        let plugins = stages.is_some_and(|stages| stages.iter().any(|stage| has(stage.get_ref(), "plugin")))
            || section("format").is_some_and(|format| has(format, "plugin"));
        (plugins, section("source").is_some_and(|source| has(source, "netns")))
    }

    /// The same as [`Config::of_bytes`] for a text.
    #[must_use]
    pub fn parse(text: SourceText) -> (Option<Self>, Vec<Diagnostic>) {
        let mut reader = Reader::read(&text, &SECTIONS);
        if !reader.diagnostics.is_empty() && reader.sections.is_empty() {
            return (None, reader.diagnostics);
        }
        let source = reader.source();
        let stages = reader.stages(source.as_ref().map(|(source, _)| source));
        let (format, batch) = reader.format();
        let sinks = reader.sinks();
        let mut diagnostics = reader.diagnostics;
        diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        let Some((source, select)) = source else { return (None, diagnostics) };
        let output = output(&format);
        let command = if source.kind == SourceKind::Events { Command::Events } else { Command::List };
        let environment = &flowgate_syntax::SystemEnvironment;
        match flowgate_syntax::fragment::parse_selector(command, source.table, &source.select, output, environment) {
            Ok(Settings { selection, family, label_map, .. }) => {
                let config =
                    Config { text, source, stages, format, sinks, selection, family, output, label_map, batch };
                (Some(config), diagnostics)
            }
            Err(error) => {
                diagnostics.push(text.diagnostic(select, format!("`select`: {error}")));
                diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
                (None, diagnostics)
            }
        }
    }

    /// Returns true if the source does not wait for its reader.
    #[must_use]
    pub fn live(&self) -> bool {
        self.source.kind == SourceKind::Events && self.source.recording.is_none()
    }
}

/// Returns the output as `-o` has it.
pub fn output(format: &FormatConfig) -> Output {
    let mut output = Output::default();
    if let FormatConfig::Stock { name, show } = format {
        let names = Output::NAMES.iter().copied().chain([(Output::JSON, "json")]);
        for (bit, _) in names.filter(|(_, known)| known == name || show.iter().any(|word| word == known)) {
            output.insert(bit);
        }
    }
    output
}

impl Reader<'_> {
    /// Returns a path, relative to the file.
    pub fn path(&self, text: &str) -> PathBuf {
        self.text.path.parent().unwrap_or(Path::new("")).join(text)
    }

    /// Returns the key `kind` of a section that must have it.
    pub(super) fn kind(&mut self, fields: &Fields, section: &str) -> Option<Located<String>> {
        let kind = fields.text("kind");
        if kind.is_none() && fields.key("kind").is_none() {
            let kinds = SECTIONS.iter().find(|known| known.name == section).and_then(|section| section.keys.first());
            let words = match kinds.map(|key| key.kind) {
                Some(super::keys::Kind::OneOf(words)) => list(words),
                _ => String::new(),
            };
            self.wrong(fields.offset, format!("`{section}` needs a `kind`: one of {words}"));
        }
        kind
    }

    /// Reports keys that sections of this kind do not have.
    pub(super) fn only(&mut self, section: &str, fields: &Fields, kind: &str) {
        let keys = SECTIONS.iter().find(|known| known.name == section).map_or(&[][..], |section| section.keys);
        for key in keys.iter().filter(|key| !key.only.is_empty() && !key.only.contains(&kind)) {
            if let Some(offset) = fields.key(key.name) {
                let of =
                    if section == "stage" || kind == "plugin" { format!("`{kind}`") } else { format!("kind `{kind}`") };
                self.wrong(
                    offset,
                    format!("`{}` is no key of a {section} of {of}, only of {}", key.name, list(key.only)),
                );
            }
        }
    }

    /// Returns a required key.
    pub(super) fn needed(&mut self, fields: &Fields, name: &str, section: &str, kind: &str) -> Option<Located<String>> {
        let text = fields.text(name);
        if text.is_none() && fields.key(name).is_none() {
            self.wrong(fields.offset, format!("a {section} of `{kind}` needs `{name}`"));
        }
        text
    }

    /// Returns a required path.
    pub(super) fn needed_path(&mut self, fields: &Fields, name: &str, section: &str, kind: &str) -> Option<PathBuf> {
        let path = self.needed(fields, name, section, kind)?;
        Some(self.path(&path.value))
    }

    /// Reads the source, and the place of its selector.
    fn source(&mut self) -> Option<(SourceConfig, usize)> {
        let Some(fields) = self.sections.remove("source").and_then(|sections| sections.into_iter().next()) else {
            self.wrong(0, "there is no `[source]`, which says where entries come from");
            return None;
        };
        let kind = self.kind(&fields, "source")?;
        self.only("source", &fields, &kind.value);
        let table = fields.text("table");
        let recorded = if kind.value == "recording" { Some(self.recording(&fields)?) } else { None };
        let live = if kind.value == "events" { SourceKind::Events } else { SourceKind::Dump };
        let expectations = table.as_ref().is_some_and(|table| table.value == "expect");
        let (buffer, buffer_max) =
            (self.receive_buffer(&fields, "buffer", 0), self.receive_buffer(&fields, "buffer-max", 1));
        if let (Some(buffer), Some(max)) = (fields.count("buffer"), fields.count("buffer-max"))
            && buffer.value > max.value
        {
            self.wrong(
                buffer.offset,
                "`buffer` is above `buffer-max`; the buffer begins with the one and grows to the other",
            );
        }
        let source = SourceConfig {
            offset: fields.offset,
            kind: recorded.as_ref().map_or(live, |(_, kind, _)| *kind),
            table: match recorded.as_ref().map(|(_, _, table)| *table) {
                Some(table) => table,
                None => table.as_ref().and_then(|table| table.value.parse().ok()).unwrap_or(Table::Conntrack),
            },
            recording: recorded.map(|(recording, _, _)| recording),
            select: fields.text("select").map(|select| select.value).unwrap_or_default(),
            events: match fields.words("events") {
                None => EventGroups::ALL,
                Some(words) => {
                    let has = |name: &str| words.iter().any(|word| word.value == name);
                    EventGroups { new: has("new"), update: has("update"), destroy: has("destroy") }
                }
            },
            buffer,
            buffer_max,
            reliable: fields.switch("reliable").unwrap_or(false),
            resync: fields.switch("resync").unwrap_or(kind.value == "events" && !expectations),
            netns: fields.text("netns").map(|netns| netns.value),
        };
        if let (SourceKind::Events, Some(table)) = (source.kind, &table)
            && !source.table.has_events()
        {
            self.wrong(table.offset, format!("the kernel has no events of the table `{}`, only dumps", table.value));
            return None;
        }
        if let Some(offset) = fields.key("events") {
            if source.table == Table::Expect {
                self.wrong(offset, "events of expectations cannot be chosen; leave out `events`");
            } else if source.events == EventGroups::NONE {
                self.wrong(
                    offset,
                    "no events are chosen, so that nothing would ever be shown; leave out `events` for all",
                );
            }
        }
        if let (true, Some(offset)) = (source.resync && expectations, fields.key("resync")) {
            self.wrong(offset, "what was lost can be made up for with events of flows only; leave out `resync`");
        }
        if let Some(netns) = fields.text("netns").filter(|netns| netns.value.is_empty()) {
            self.wrong(
                netns.offset,
                "`netns` is empty; it takes a name (`ip netns`), the number of a process, or a path",
            );
        }
        let select = fields.text("select").map_or(fields.offset, |select| select.offset);
        Some((source, select))
    }

    /// Reads the size of a receive buffer, within the range that the kernel can double.
    pub fn receive_buffer(&mut self, fields: &Fields, name: &str, least: u32) -> Option<u32> {
        let size = fields.count(name)?;
        let bytes = u32::try_from(size.value).ok().filter(|bytes| (least..=MAX_RECEIVE_BUFFER).contains(bytes));
        if bytes.is_none() {
            let what = format!("`{name}` must be from {least}B to {MAX_RECEIVE_BUFFER}B, not {}B", size.value);
            self.wrong(size.offset, what);
        }
        bytes
    }

    /// Reads a recording and what was recorded.
    fn recording(&mut self, fields: &Fields) -> Option<(RecordingConfig, SourceKind, Table)> {
        let file = self.needed(fields, "file", "source", "recording")?;
        let speed = fields.text("speed").map_or(Ok(Speed::Max), |speed| {
            speed.value.parse().map_err(|error: String| self.wrong(speed.offset, format!("`speed`: {error}")))
        });
        let path = self.path(&file.value);
        match RecordingInput::open(&path).and_then(Recording::open) {
            Ok(recording) => {
                let kind = match recording.kind() {
                    RecordingKind::Dump => SourceKind::Dump,
                    RecordingKind::Events => SourceKind::Events,
                };
                let recorded = RecordingConfig { file: path, speed: speed.unwrap_or(Speed::Max) };
                Some((recorded, kind, recording.table()))
            }
            Err(error) => {
                self.wrong(file.offset, error.to_string());
                None
            }
        }
    }

    fn stages(&mut self, source: Option<&SourceConfig>) -> Vec<StageConfig> {
        let sections = self.sections.remove("stage").unwrap_or_default();
        sections.into_iter().filter_map(|fields| self.stage(&fields, source)).collect()
    }

    fn stage(&mut self, fields: &Fields, source: Option<&SourceConfig>) -> Option<StageConfig> {
        let stock = fields.text("stock");
        let kind = match (fields.key("plugin"), fields.key("stock")) {
            (Some(_), Some(offset)) => {
                self.wrong(offset, "a stage is either a `plugin` or a `stock` one, not both");
                return None;
            }
            (None, None) => {
                self.wrong(
                    fields.offset,
                    "a stage needs a `plugin = \"FILE\"`, or `stock` and the name of one that there is",
                );
                return None;
            }
            (Some(_), None) => "plugin".to_string(),
            (None, Some(_)) => stock?.value,
        };
        self.only("stage", fields, &kind);
        let flows = source.is_none_or(|source| source.table != Table::Expect);
        if !flows && matches!(kind.as_str(), "match" | "update") {
            self.wrong(
                fields.offset,
                format!("the stock stage `{kind}` is about flows, and the source yields expectations"),
            );
            return None;
        }
        let kind = match kind.as_str() {
            "match" => {
                let select = self.needed(fields, "select", "stage", "match")?;
                let command = match source.map(|source| source.kind) {
                    Some(SourceKind::Events) => Command::Events,
                    _ => Command::List,
                };
                let table = Table::Conntrack;
                let none = Output::default();
                match flowgate_syntax::fragment::parse_selector(
                    command,
                    table,
                    &select.value,
                    none,
                    &flowgate_syntax::SystemEnvironment,
                ) {
                    Ok(settings) => StageKind::Match(Box::new(settings.selection)),
                    Err(error) => {
                        self.wrong(select.offset, format!("`select`: {error}"));
                        return None;
                    }
                }
            }
            "update" => {
                let set = self.needed(fields, "set", "stage", "update")?;
                match flowgate_syntax::fragment::parse_update(&set.value, &flowgate_syntax::SystemEnvironment) {
                    Ok(settings) => StageKind::Update(Box::new(settings.template)),
                    Err(error) => {
                        self.wrong(set.offset, format!("`set`: {error}"));
                        return None;
                    }
                }
            }
            "delete" => StageKind::Delete,
            "create" => StageKind::Create,
            _ => StageKind::Plugin(self.plugin(fields, "plugin", true)?),
        };
        let told = fields.text("select").or_else(|| fields.text("set")).map(|told| told.value);
        Some(StageConfig { offset: fields.offset, kind, options: self.options(fields), told })
    }

    /// Reads the format, and the size of batches.
    fn format(&mut self) -> (FormatConfig, u32) {
        let fields = self.sections.remove("format").and_then(|sections| sections.into_iter().next());
        self.format_of(fields.as_ref())
    }

    /// Reads the format of a section, and the maximum number of entries that plugins get at once.
    pub fn format_of(&mut self, fields: Option<&Fields>) -> (FormatConfig, u32) {
        let stock = |name: &str, show: Vec<String>| FormatConfig::Stock { name: name.into(), show };
        let Some(fields) = fields else {
            return (stock("text", Vec::new()), flowgate_syntax::DEFAULT_BATCH);
        };
        let batch = fields
            .count("batch")
            .and_then(|batch| u32::try_from(batch.value).ok())
            .unwrap_or(flowgate_syntax::DEFAULT_BATCH);
        if let (Some(_), Some(offset)) = (fields.key("kind"), fields.key("plugin")) {
            self.wrong(offset, "a format has either a `kind` or is a `plugin`, not both");
            return (FormatConfig::None, batch);
        }
        let kind = match (fields.key("plugin"), fields.text("kind")) {
            (Some(_), _) => "plugin".to_string(),
            (None, kind) => kind.map_or("text".to_string(), |kind| kind.value),
        };
        self.only("format", fields, &kind);
        let format = match kind.as_str() {
            "plugin" => match self.plugin(fields, "plugin", true) {
                Some(plugin) => FormatConfig::Plugin { plugin, options: self.options(fields) },
                None => FormatConfig::None,
            },
            "none" => FormatConfig::None,
            name => {
                let show = fields.words("show").unwrap_or_default().iter().map(|word| word.value.clone());
                stock(name, show.collect())
            }
        };
        (format, batch)
    }
}
