//! The section `[aggregate]`: groups of flows that are shown in place of the flows.

use std::collections::HashMap;

use flowgate_model::Table;
use flowgate_syntax::{AggregationOptions, aggregation::SHORTEST_WINDOW};

use super::{
    FormatConfig, SourceConfig, SourceKind,
    keys::Key,
    reader::{Fields, Reader},
};

/// The section, with the places of its keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AggregateConfig {
    /// What it asks for, as the options of a command line would.
    pub(super) options: AggregationOptions,
    /// Where the section stands.
    pub(super) offset: usize,
    /// Where the texts of its keys stand.
    keys: HashMap<&'static str, usize>,
}

impl AggregateConfig {
    /// Returns what a section asks for that has these keys.
    pub(super) fn new(options: AggregationOptions, fields: &Fields, keys: &[Key]) -> Self {
        let place = |name: &str| fields.text(name).map(|text| text.offset).or(fields.key(name));
        let keys = keys.iter().filter_map(|key| Some((key.name, place(key.name)?))).collect();
        AggregateConfig { options, offset: fields.offset, keys }
    }

    /// Returns where a key stands, or the section if it is not there.
    pub(super) fn place(&self, key: &str) -> usize {
        self.keys.get(key).copied().unwrap_or(self.offset)
    }
}

impl Reader<'_> {
    /// Reads the section.
    pub(super) fn aggregate(
        &mut self,
        source: Option<&SourceConfig>,
        format: &FormatConfig,
    ) -> Option<AggregateConfig> {
        let fields = self.sections.remove("aggregate").and_then(|sections| sections.into_iter().next())?;
        let text = |name: &str| fields.text(name).map(|text| text.value);
        let list = |name: &str| text(name).into_iter().collect();
        let count = |name: &str| fields.count(name).and_then(|count| u32::try_from(count.value).ok());
        let options = AggregationOptions {
            by: text("by"),
            count: fields.switch("count") == Some(true),
            sum: list("sum"),
            min: list("min"),
            max: list("max"),
            avg: list("avg"),
            distinct: list("distinct"),
            sort: text("sort"),
            top: count("top"),
            every: fields.time("every").map(|every| every.value),
            max_groups: count("max-groups"),
            approximate: fields.switch("approximate") == Some(true),
        };
        if !self.check_aggregate(&fields, source, format) {
            // What else is wrong follows from that.
            return None;
        }
        Some(AggregateConfig::new(options, &fields, &super::keys::AGGREGATE))
    }

    /// Checks what else a section needs; returns true if flows can be grouped.
    fn check_aggregate(&mut self, fields: &Fields, source: Option<&SourceConfig>, format: &FormatConfig) -> bool {
        let before = self.diagnostics.len();
        if let Some(every) = fields.time("every").filter(|every| every.value < SHORTEST_WINDOW) {
            self.wrong(every.offset, "`every` is at least 100ms");
        }
        if let (Some(offset), Some(SourceKind::Dump)) = (fields.key("every"), source.map(|source| source.kind)) {
            self.wrong(offset, "`every` is for events; a dump has one result");
        }
        if source.is_some_and(|source| source.table == Table::Expect) {
            self.wrong(fields.offset, "expectations are not grouped; the table is `conntrack`");
        }
        if let FormatConfig::Stock { name, .. } = format
            && !matches!(name.as_str(), "json" | "table" | "csv" | "tsv")
        {
            self.wrong(fields.offset, format!("groups have no format `{name}`; use `table`, `csv`, `tsv` or `json`"));
        }
        self.diagnostics.len() == before
    }
}
