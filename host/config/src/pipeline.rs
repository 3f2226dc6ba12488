//! The typed content of a pipeline file.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{
    diagnostic::{Diagnostic, Located, SourceText, list, no_such},
    keys::SECTIONS,
    metric::MetricConfig,
    plugin::Plugin,
    reader::{Fields, Reader},
    sinks::SinkConfig,
    source::{SourceConfig, SourceKind},
    stage::StageConfig,
    stock_format::ColumnOptions,
};
use flowgate_model::{Selection, table_column};
use flowgate_query::Query;
use flowgate_syntax::{Aggregate, Command, LabelMap, Output, Settings};

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
    /// The groups that are shown in place of them.
    pub aggregate: Option<Aggregate>,
    /// The metrics of the flows that come out of the last stage.
    pub metrics: Vec<MetricConfig>,
    /// The condition that they satisfy in addition.
    pub query: Option<Query>,
    /// The family of a dump (AF_INET 2, AF_INET6 10); `None` for both.
    pub family: Option<u8>,
    /// The output as `-o` has it.
    pub output: Output,
    /// The names of labels, if the selector or the format needs them.
    pub label_map: Option<LabelMap>,
    /// Maximum number of entries that plugins get at once.
    pub batch: u32,
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
        /// Of output with columns.
        columns: ColumnOptions,
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

impl FormatConfig {
    /// Returns a stock format as it is without further keys.
    fn stock(name: &str) -> Self {
        FormatConfig::Stock { name: name.into(), show: Vec::new(), columns: ColumnOptions::default() }
    }
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
        let stages = reader.stages(source.as_ref());
        let has = |name: &str| reader.sections.contains_key(name);
        let (groups, shows) = (has("aggregate"), has("format"));
        // Metrics are output enough.
        let metrics_alone = has("metric") && !groups && !shows && !has("sink");
        let (mut format, batch) = reader.format();
        if groups && !shows {
            format = FormatConfig::stock("json");
        } else if metrics_alone {
            format = FormatConfig::None;
        }
        let aggregate = reader.aggregate(source.as_ref(), &format);
        let sections = reader.metrics(source.as_ref());
        let sinks = reader.sinks();
        let mut diagnostics = reader.diagnostics;
        diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        let Some(source) = source else { return (None, diagnostics) };
        let output = output(&format);
        let command = if source.kind == SourceKind::Events { Command::Events } else { Command::List };
        match source.selector.parse((command, source.table), output, aggregate.as_ref(), &text) {
            Ok(Settings { selection, query, aggregate, family, mut label_map, .. }) => {
                let mut metrics = Vec::new();
                for section in sections {
                    match section.parse(command, &text) {
                        Ok((metric, labels)) => {
                            metrics.push(metric);
                            label_map = label_map.or(labels);
                        }
                        Err((offset, error)) => diagnostics.push(text.diagnostic(offset, error)),
                    }
                }
                diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
                let config = Config {
                    text,
                    source,
                    stages,
                    aggregate,
                    metrics,
                    format,
                    sinks,
                    selection,
                    query,
                    family,
                    output,
                    label_map,
                    batch,
                };
                (Some(config), diagnostics)
            }
            Err((offset, error)) => {
                diagnostics.push(text.diagnostic(offset, error));
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
    if let FormatConfig::Stock { name, show, .. } = format {
        let names = Output::NAMES.iter().chain(&Output::OWN_NAMES).copied();
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

    /// Reads the format, and the size of batches.
    fn format(&mut self) -> (FormatConfig, u32) {
        let fields = self.sections.remove("format").and_then(|sections| sections.into_iter().next());
        self.format_of(fields.as_ref())
    }

    /// Reads the format of a section, and the maximum number of entries that plugins get at once.
    pub fn format_of(&mut self, fields: Option<&Fields>) -> (FormatConfig, u32) {
        let Some(fields) = fields else {
            return (FormatConfig::stock("text"), flowgate_syntax::DEFAULT_BATCH);
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
                FormatConfig::Stock { name: name.into(), show: show.collect(), columns: self.columns(fields) }
            }
        };
        (format, batch)
    }

    /// Reads the keys of output with columns.
    fn columns(&mut self, fields: &Fields) -> ColumnOptions {
        let mut names: Vec<&str> = Vec::new();
        for name in fields.words("columns").unwrap_or_default() {
            if table_column::by_name(&name.value).is_none() {
                let known: Vec<&str> = table_column::names().collect();
                self.wrong(name.offset, no_such("column", &name.value, &known));
            }
            names.push(&name.value);
        }
        ColumnOptions {
            columns: (!names.is_empty()).then(|| names.join(",")),
            no_header: fields.switch("header") == Some(false),
            ..ColumnOptions::default()
        }
    }
}
