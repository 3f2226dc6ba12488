//! The sections `[[metric]]`: numbers of flows, or sums, that are exported.

use flowgate_model::Table;
use flowgate_pipeline::flow_metrics::label_name;
use flowgate_syntax::{Aggregate, AggregationOptions, Command, LabelMap, Output, Settings};

use super::{
    SourceConfig,
    aggregate::AggregateConfig,
    diagnostic::{Located, SourceText},
    keys::METRIC,
    reader::Reader,
    selector::Selector,
};

/// A metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricConfig {
    /// Its name, without prefix and suffix.
    pub name: String,
    /// What it counts, for people.
    pub help: String,
    /// Its keys and its measure.
    pub aggregate: Aggregate,
    /// The number of series beyond which flows of other groups are added to one.
    pub max_series: usize,
}

/// A section as it was read; its expressions are not parsed.
#[derive(Clone, Debug)]
pub(super) struct MetricSection {
    name: Located<String>,
    help: String,
    aggregate: AggregateConfig,
    max_series: usize,
}

/// Default of `max-series`.
const DEFAULT_MAX_SERIES: usize = 1000;

impl Reader<'_> {
    /// Reads the sections.
    pub(super) fn metrics(&mut self, source: Option<&SourceConfig>) -> Vec<MetricSection> {
        let mut metrics: Vec<MetricSection> = Vec::new();
        for fields in self.sections.remove("metric").unwrap_or_default() {
            if source.is_some_and(|source| source.table == Table::Expect) {
                self.wrong(fields.offset, "metrics are of flows, and the source yields expectations");
            }
            let Some(name) = fields.text("name") else {
                if fields.key("name").is_none() {
                    self.wrong(fields.offset, "a metric needs a `name`");
                }
                continue;
            };
            let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            if name.value.is_empty() || !name.value.bytes().all(right) {
                self.wrong(name.offset, "`name` takes small letters, digits and underscores, as in `bytes_by_port`");
            }
            if metrics.iter().any(|other| other.name.value == name.value) {
                self.wrong(name.offset, format!("there is a metric `{}` already", name.value));
            }
            let sum = fields.text("sum").map(|sum| sum.value);
            let count = fields.switch("count");
            match (&sum, count, fields.key("count")) {
                (Some(_), Some(true), Some(offset)) => {
                    self.wrong(offset, "a metric has either `count` or `sum`; write another one for the other");
                }
                (None, Some(false), Some(offset)) => self.wrong(offset, "a metric without `count` needs a `sum`"),
                _ => {}
            }
            let options = AggregationOptions {
                by: fields.text("by").map(|by| by.value),
                count: sum.is_none(),
                sum: sum.into_iter().collect(),
                ..AggregationOptions::default()
            };
            let most = fields.count("max-series").and_then(|most| usize::try_from(most.value).ok());
            metrics.push(MetricSection {
                help: fields.text("help").map_or_else(|| name.value.replace('_', " "), |help| help.value),
                name,
                aggregate: AggregateConfig::new(options, &fields, &METRIC),
                max_series: most.unwrap_or(DEFAULT_MAX_SERIES),
            });
        }
        metrics
    }
}

impl MetricSection {
    /// Parses the expressions; returns the names of labels if they need them.
    ///
    /// # Errors
    /// The place of the mistake in the file, and what is wrong.
    pub(super) fn parse(
        self,
        command: Command,
        file: &SourceText,
    ) -> Result<(MetricConfig, Option<LabelMap>), (usize, String)> {
        let nothing = Selector { select: Located::new(String::new(), self.aggregate.offset), condition: None };
        let (command, output) = ((command, Table::Conntrack), Output::default());
        let Settings { aggregate, label_map, .. } = nothing.parse(command, output, Some(&self.aggregate), file)?;
        let place = |key: &str| self.aggregate.place(key);
        let Some(aggregate) = aggregate else { return Err((place("by"), "nothing is counted".into())) };
        if aggregate.aggregation.measures.len() > 1 {
            return Err((place("sum"), "`sum` takes one expression; write another metric for another one".into()));
        }
        let mut labels: Vec<String> = Vec::new();
        for key in &aggregate.aggregation.keys {
            let label = label_name(&key.name);
            if labels.contains(&label) {
                return Err((place("by"), format!("`by`: two keys have the label `{label}`")));
            }
            labels.push(label);
        }
        let MetricSection { name, help, max_series, .. } = self;
        Ok((MetricConfig { name: name.value, help, aggregate, max_series }, label_map))
    }
}
