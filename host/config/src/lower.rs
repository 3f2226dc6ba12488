//! From a pipeline file to the spec of its pipeline.

use super::{
    Config, FormatConfig, MetricConfig, SourceConfig, SourceKind, StageConfig, StageKind, stock_format::FormatContext,
};
use flowgate_model::Table;
use flowgate_pipeline::{
    FormatSpec, Spec, StageSpec, StockStage,
    aggregate::AggregationSpec,
    executor::Shows,
    flow_metrics::MetricSpec,
    spec::{Dump, Events, RecordingSpec, Source, StockInput},
};
use flowgate_recording::RecordingKind;
use flowgate_syntax::Aggregate;

use super::plugin::option_values;

impl Config {
    /// Returns the spec, in the network namespace of the process: the one that the file names is for the caller to
    /// find.
    #[must_use]
    pub fn spec(&self) -> Spec {
        let mut spec = Spec::new(self.source());
        if self.source.table != Table::Expect {
            spec.selection = self.selection.clone();
            spec.query = self.query.clone();
            spec.aggregation = self.aggregate.clone().map(aggregation);
            spec.metrics = self.metrics.iter().map(MetricConfig::spec).collect();
        }
        for stage in &self.stages {
            spec.shows = match &stage.kind {
                StageKind::Update(_) if self.source.kind == SourceKind::Dump && spec.shows == Shows::Entries => {
                    Shows::Reread
                }
                StageKind::Update(_) | StageKind::Delete | StageKind::Create => Shows::Acted,
                StageKind::Match(..) | StageKind::Plugin(_) => spec.shows,
            };
            spec.stages.push(stage.spec());
        }
        spec.format = self.format.spec(self.output, self.source.format_context());
        spec.sinks = self.sinks.iter().map(|sink| sink.spec.clone()).collect();
        spec.batch = self.batch as usize;
        spec
    }

    fn source(&self) -> Source {
        let source = &self.source;
        if let Some(recording) = &source.recording {
            return Source::Recording(RecordingSpec {
                file: recording.file.clone(),
                speed: recording.speed,
                table: source.table,
                kind: match source.kind {
                    SourceKind::Dump => RecordingKind::Dump,
                    SourceKind::Events => RecordingKind::Events,
                },
                groups: source.events,
                family: self.family,
            });
        }
        match source.kind {
            SourceKind::Dump => Source::Dump(Dump { table: source.table, family: self.family, zero: false }),
            SourceKind::Events => Source::Events(Events {
                expectations: source.table == Table::Expect,
                groups: source.events,
                buffer: source.buffer.map(|bytes| bytes as usize),
                buffer_max: source.buffer_max.map(|bytes| bytes as usize),
                reliable: source.reliable,
                resync: source.resync,
                all_namespaces: false,
            }),
        }
    }
}

/// Returns what groups are shown.
#[must_use]
pub fn aggregation(aggregate: Aggregate) -> AggregationSpec {
    let Aggregate { aggregation, every, text } = aggregate;
    AggregationSpec { aggregation, every, text: Some(text) }
}

impl MetricConfig {
    fn spec(&self) -> MetricSpec {
        let MetricConfig { name, help, aggregate, max_series } = self.clone();
        MetricSpec { name, help, aggregation: aggregation(aggregate), max_series }
    }
}

impl SourceConfig {
    /// Returns what conntrack prints of such entries.
    fn format_context(&self) -> FormatContext {
        match (self.table, self.kind) {
            (Table::Expect, _) => FormatContext::EXPECTATIONS,
            (Table::Dying | Table::Unconfirmed, _) => FormatContext { footer: false, ..FormatContext::LISTING },
            (Table::Conntrack, SourceKind::Dump) => FormatContext::LISTING,
            (Table::Conntrack, SourceKind::Events) => FormatContext::EVENTS,
        }
    }
}

impl StageConfig {
    fn spec(&self) -> StageSpec {
        let stock = match &self.kind {
            StageKind::Plugin(plugin) => return plugin.spec(&self.options).into(),
            StageKind::Match(selection, query) => {
                StockStage::matching((**selection).clone(), query.as_deref().cloned())
            }
            StageKind::Update(template) => {
                StockStage { input: StockInput::Template(template.clone()), ..StockStage::acting("update") }
            }
            StageKind::Delete => StockStage::acting("delete"),
            StageKind::Create => StockStage::acting("create"),
        };
        StageSpec::Stock(StockStage { options: option_values(&self.options), text: self.text.clone(), ..stock })
    }
}

impl FormatConfig {
    /// Returns the format; `output` is what `-o` would ask for.
    #[must_use]
    pub fn spec(&self, output: flowgate_syntax::Output, context: FormatContext) -> Option<FormatSpec> {
        match self {
            FormatConfig::None => None,
            FormatConfig::Stock { columns, .. } => Some(context.format(output, columns)),
            FormatConfig::Plugin { plugin, options } => Some(FormatSpec::Plugin(Box::new(plugin.spec(options)))),
        }
    }
}
