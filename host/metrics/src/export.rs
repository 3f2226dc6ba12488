//! The exported metrics: stages and counters in the text format of Prometheus, version 0.0.4.

use std::{borrow::Borrow, fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, prometheus_text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use flowgate_base::text::clean;
use flowgate_model::result;
use flowgate_netlink::SocketMemory;
use flowgate_pipeline::{
    counters::{Counters, Counts},
    flow_metrics::FlowMetric,
    stats::{Board, Health, StageStats},
};

/// Value of the header `Content-Type`.
pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The prefix of all names.
pub(super) const PREFIX: &str = "flowgate";

/// A metric with one value for the process: name without prefix and `_total`, help, true for a counter, value.
type ProcessMetric = (&'static str, &'static str, bool, fn(&Counts) -> u64);

const PROCESS: [ProcessMetric; 10] = [
    ("entries", "Entries of the table, from dumps", true, |counts| counts.entries),
    ("gaps", "Times that the kernel lost events because its buffer was full", true, |counts| counts.gaps),
    ("lost_events", "Events that are known to be lost", true, |counts| counts.lost),
    ("resyncs", "Dumps of the table made because events were lost", true, |counts| counts.resyncs),
    ("malformed_messages", "Messages that could not be read", true, |counts| counts.malformed),
    ("datagrams", "Datagrams received from the kernel", true, |counts| counts.datagrams),
    ("received_bytes", "Bytes received from the kernel", true, |counts| counts.bytes),
    ("rows_shown", "Flows, expectations and events that came out of the last stage", true, |counts| counts.shown),
    ("queue_datagrams", "Datagrams that wait between reader and worker", false, |counts| counts.waiting),
    ("queue_limit_datagrams", "Datagrams that can wait there", false, |counts| counts.limit),
];

const EVENTS: (&str, &str) = ("events", "Events by kind");

/// The label of a kind of event, and its count.
type Kind = (&'static str, fn(&Counts) -> u64);

const KINDS: [Kind; 4] = [
    ("new", |counts| counts.new),
    ("update", |counts| counts.update),
    ("destroy", |counts| counts.destroy),
    ("other", |counts| counts.other),
];

/// A metric of the receive buffer for events, absent if no events are received: see [`ProcessMetric`].
type Buffer = (&'static str, &'static str, bool, fn(&SocketMemory) -> u32);

const BUFFER: [Buffer; 3] = [
    ("receive_buffer_bytes", "Size of the kernel's buffer of events", false, |memory| memory.limit),
    ("receive_buffer_used_bytes", "Bytes of the buffer that events take which wait", false, |memory| memory.queued),
    ("receive_dropped_datagrams", "Events that the kernel dropped because its buffer was full", true, |memory| {
        memory.dropped
    }),
];

/// A metric with one value for each stage: see [`ProcessMetric`].
type StageMetric = (&'static str, &'static str, bool, fn(&StageStats) -> f64);

const STAGES: [StageMetric; 14] = [
    ("stage_calls", "Calls with a batch", true, |stage| stage.calls as f64),
    ("stage_seconds", "Time of all calls", true, |stage| seconds(stage.nanoseconds)),
    ("stage_longest_call_seconds", "Time of the longest call", false, |stage| seconds(stage.longest)),
    ("stage_rows_in", "Rows that the stage was to look at", true, |stage| stage.rows_in as f64),
    ("stage_rows_out", "Rows that went on", true, |stage| stage.rows_out as f64),
    ("stage_rows_dropped", "Rows that the stage's verdicts dropped", true, |stage| stage.rows_dropped as f64),
    ("stage_rows_without", "Rows that passed it by, or were dropped, while it did not run", true, |stage| {
        stage.rows_without as f64
    }),
    ("stage_failures", "Failures", true, |stage| stage.failures as f64),
    ("stage_restarts", "Instances after the first", true, |stage| stage.restarts as f64),
    ("stage_ticks", "Ticks given", true, |stage| stage.ticks as f64),
    ("stage_memory_bytes", "Linear memory of the instance", false, |stage| stage.memory as f64),
    ("stage_state_bytes", "Size of what the stage keeps", false, |stage| stage.state_bytes as f64),
    ("stage_log_lines", "Lines written into the log", true, |stage| stage.log_lines as f64),
    ("stage_log_dropped", "Lines for the log that were too many", true, |stage| stage.log_dropped as f64),
];

/// The states of a plugin.
pub(super) const HEALTHS: [Health; 3] = [Health::Running, Health::BackingOff, Health::Quarantined];

const ACTIONS: (&str, &str) = ("stage_actions", "Actions that the stage asked for, by what became of them");
const HEALTH: (&str, &str) = ("stage_health", "1 for the state that the stage is in, 0 for the others");
/// How the names of metrics of flows begin; no other name does.
const FLOW: &str = "flow";
const BUILD: (&str, &str) = ("build_info", "1, with the version as a label");

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// Returns the names of all metrics.
#[must_use]
pub fn names() -> Vec<String> {
    let whole = PROCESS.iter().map(|&(name, _, counter, _)| (name, counter));
    let buffer = BUFFER.iter().map(|&(name, _, counter, _)| (name, counter));
    let stages = STAGES.iter().map(|&(name, _, counter, _)| (name, counter));
    [(BUILD.0, false), (EVENTS.0, true), (ACTIONS.0, true), (HEALTH.0, false)]
        .into_iter()
        .chain(whole)
        .chain(buffer)
        .chain(stages)
        .map(|(name, counter)| format!("{PREFIX}_{name}{}", if counter { "_total" } else { "" }))
        .collect()
}

/// Stages and counters as one collector: all values are read together, when they are scraped.
#[derive(Debug)]
pub(super) struct PipelineCollector {
    pub board: Board,
    pub counters: Counters,
}

/// Returns a registry with this collector only.
pub(super) fn registry(board: Board, counters: Counters) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(PipelineCollector { board, counters }));
    registry
}

/// Returns all metrics as text.
#[must_use]
pub fn text(board: &Board, counters: &Counters) -> String {
    encode(&registry(board.clone(), counters.clone()))
}

/// Returns a registry as text.
pub(super) fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_text::encode(&mut text, registry);
    text
}

impl Collector for PipelineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        build(&mut encoder)?;
        whole(&mut encoder, &self.counters, |_| true)?;
        // The number distinguishes two stages of one plugin.
        let numbered = self.board.stages().into_iter().enumerate();
        let shown: Vec<StageSeries> = numbered
            .map(|(number, stage)| {
                let labels = vec![("plugin", clean(&stage.plugin)), ("stage", number.to_string())];
                StageSeries::new(labels, stage)
            })
            .collect();
        stages(&mut encoder, &shown)?;
        self.board.metrics().iter().try_for_each(|metric| of_flows(&mut encoder, metric))
    }
}

/// Exports a metric of flows.
fn of_flows(encoder: &mut DescriptorEncoder<'_>, metric: &FlowMetric) -> Result<(), fmt::Error> {
    let name = format!("{FLOW}_{}", metric.name());
    let mut family = encoder.encode_descriptor(&name, metric.help(), None, MetricType::Counter)?;
    for (values, value) in metric.read() {
        let labels: Vec<(&str, String)> = metric.labels().iter().map(String::as_str).zip(values).collect();
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Exports the version.
pub(super) fn build(encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    let mut build = encoder.encode_descriptor(BUILD.0, BUILD.1, None, MetricType::Gauge)?;
    ConstGauge::new(1u64).encode(build.encode_family(&version)?)
}

/// Exports the metrics of the process whose names are `wanted`.
pub(super) fn whole(
    encoder: &mut DescriptorEncoder<'_>,
    counters: &Counters,
    wanted: fn(&str) -> bool,
) -> Result<(), fmt::Error> {
    let counts = counters.read();
    for (name, help, counter, value) in PROCESS.into_iter().filter(|(name, ..)| wanted(name)) {
        one(encoder, name, help, counter, value(&counts))?;
    }
    let kinds = KINDS.into_iter().map(|(kind, value)| (kind, value(&counts)));
    family(encoder, EVENTS.0, EVENTS.1, true, split(&Labels::new(), "kind", kinds))?;
    if let Some(memory) = counters.memory() {
        for (name, help, counter, value) in BUFFER {
            one(encoder, name, help, counter, value(&memory).into())?;
        }
    }
    Ok(())
}

/// A stage as it is exported.
#[derive(Debug)]
pub(super) struct StageSeries {
    pub labels: Labels,
    pub stats: StageStats,
    /// The number of plugins in each state of [`HEALTHS`].
    pub health: [u64; HEALTHS.len()],
}

impl StageSeries {
    pub(crate) fn new(labels: Labels, stats: StageStats) -> Self {
        let health = HEALTHS.map(|state| u64::from(state == stats.health));
        StageSeries { labels, stats, health }
    }
}

/// Exports the metrics of stages.
pub(super) fn stages(encoder: &mut DescriptorEncoder<'_>, stages: &[StageSeries]) -> Result<(), fmt::Error> {
    if stages.is_empty() {
        return Ok(());
    }
    for (name, help, counter, value) in STAGES {
        family(encoder, name, help, counter, stages.iter().map(|stage| (&stage.labels, value(&stage.stats))))?;
    }
    family(
        encoder,
        ACTIONS.0,
        ACTIONS.1,
        true,
        stages.iter().flat_map(|StageSeries { labels, stats, .. }| {
            split(labels, "result", result::NAMES.iter().copied().zip(stats.actions))
        }),
    )?;
    family(
        encoder,
        HEALTH.0,
        HEALTH.1,
        false,
        stages.iter().flat_map(|StageSeries { labels, health, .. }| {
            split(labels, "state", HEALTHS.map(Health::name).into_iter().zip(*health))
        }),
    )
}

/// The labels of a stage, or of a tenant.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Returns labels with one more.
pub(super) fn with(labels: &Labels, more: (&'static str, String)) -> Labels {
    labels.iter().cloned().chain([more]).collect()
}

/// Exports the values of a metric, split by one more label.
pub(super) fn split<N>(
    labels: &Labels,
    by: &'static str,
    values: impl IntoIterator<Item = (&'static str, N)>,
) -> Vec<(Labels, N)> {
    values.into_iter().map(|(name, value)| (with(labels, (by, name.to_owned())), value)).collect()
}

/// Exports a metric with a value for each of these labels.
pub(super) fn family<N>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counter: bool,
    values: impl IntoIterator<Item = (impl Borrow<Labels>, N)>,
) -> Result<(), fmt::Error>
where
    ConstCounter<N>: EncodeMetric,
    ConstGauge<N>: EncodeMetric,
{
    let kind = if counter { MetricType::Counter } else { MetricType::Gauge };
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        let one = family.encode_family(labels.borrow())?;
        if counter {
            ConstCounter::new(value).encode(one)?;
        } else {
            ConstGauge::new(value).encode(one)?;
        }
    }
    Ok(())
}

/// Exports a metric with one value.
pub(super) fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counter: bool,
    value: u64,
) -> Result<(), fmt::Error> {
    if counter {
        let kind = MetricType::Counter;
        ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, kind)?)
    } else {
        let kind = MetricType::Gauge;
        ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, kind)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_pipeline::stats::SharedStageStats;

    fn board() -> Board {
        let board = Board::default();
        for plugin in ["a.wasm", "a.wasm", "b\"\n\x1b.wasm"] {
            let stage = SharedStageStats::default();
            stage.lock().plugin = plugin.into();
            stage.lock().nanoseconds = 1_500_000_000;
            board.add(stage);
        }
        board
    }

    #[test]
    fn every_name_is_exported_and_no_other() {
        let text = text(&board(), &Counters::default());
        let exported: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let names = names();
        for name in &exported {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
        // Without an event socket there is no receive buffer.
        let missing: Vec<_> = names.iter().filter(|name| !exported.contains(&name.as_str())).collect();
        assert_eq!(missing.len(), BUFFER.len(), "{missing:?}");
        assert!(missing.iter().all(|name| name.starts_with("flowgate_receive_")));
    }

    #[test]
    fn stages_of_one_plugin_are_told_apart_and_names_are_clean() {
        let text = text(&board(), &Counters::default());
        for line in [
            "flowgate_stage_seconds_total{plugin=\"a.wasm\",stage=\"0\"} 1.5",
            "flowgate_stage_seconds_total{plugin=\"a.wasm\",stage=\"1\"} 1.5",
            "flowgate_stage_actions_total{plugin=\"a.wasm\",stage=\"1\",result=\"not granted\"} 0",
            "flowgate_stage_health{plugin=\"a.wasm\",stage=\"0\",state=\"running\"} 1",
            "flowgate_events_total{kind=\"new\"} 0",
            "flowgate_gaps_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }
}
