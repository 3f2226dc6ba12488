//! Metrics of flows: groups whose number of flows, or whose sum, is added up from the start on, for Prometheus.
//!
//! The plugin that groups flows is asked once a second for what has been added since, so that neither a scrape nor the
//! number of events has the pipeline wait for the other.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    aggregate::{AggregationSpec, Grouper},
    cells,
    consumer::Consumer,
    entries::Entries,
    run::RunError,
    sink::Sink,
};
use flowgate_model::{Cells, Groups};

/// A metric of flows.
#[derive(Clone, Debug)]
pub struct MetricSpec {
    /// Its name, without prefix and suffix.
    pub name: String,
    /// What it counts, for people.
    pub help: String,
    /// Keys, which become labels, and one measure: a number of flows or a sum.
    pub aggregation: AggregationSpec,
    /// The number of series beyond which flows of other groups are added to one series.
    pub max_series: usize,
}

/// The series of a metric, shared between the pipeline and those who export them.
#[derive(Debug)]
pub struct FlowMetric {
    name: String,
    help: String,
    labels: Vec<String>,
    max_series: usize,
    series: Mutex<Series>,
}

/// The values of a metric.
#[derive(Debug, Default)]
struct Series {
    /// By the values of labels.
    values: BTreeMap<Vec<String>, u64>,
    /// Of all groups beyond the greatest number, if there are any.
    others: Option<u64>,
}

/// The value of all labels of the series for groups beyond the greatest number.
const OTHER: &str = "other";
/// How often what has been added is made visible.
const PERIOD: Duration = Duration::from_secs(1);
/// The number of rows after which this happens at once. With those of one batch more, there are fewer groups than the
/// plugin may keep.
const MOST_ROWS: usize = 65_536;

/// Returns a key's name as the name of a label: letters, digits and underscores.
#[must_use]
pub fn label_name(key: &str) -> String {
    let mut name: String =
        key.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

impl FlowMetric {
    /// Returns a metric without series.
    #[must_use]
    pub(crate) fn new(spec: &MetricSpec) -> Self {
        FlowMetric {
            name: spec.name.clone(),
            help: spec.help.clone(),
            labels: spec.aggregation.aggregation.keys.iter().map(|key| label_name(&key.name)).collect(),
            max_series: spec.max_series,
            series: Mutex::default(),
        }
    }

    /// Returns the name, without prefix and suffix.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what it counts.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }

    /// Returns the names of the labels.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Returns the values of the labels of each series, and its value.
    #[must_use]
    pub fn read(&self) -> Vec<(Vec<String>, u64)> {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let others = series.others.map(|value| (vec![OTHER.to_owned(); self.labels.len()], value));
        series.values.iter().map(|(labels, value)| (labels.clone(), *value)).chain(others).collect()
    }

    /// Adds groups, whose only measure is the last column.
    fn add(&self, groups: &Groups) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((measure, keys)) = groups.columns.split_last() else { return };
        for row in 0..groups.length as usize {
            let added = added(measure, row);
            // A label without a value is the same as no label.
            let labels: Vec<String> = keys.iter().map(|key| cells::text(key, row).unwrap_or_default()).collect();
            let kept = series.values.len();
            if let Some(value) = series.values.get_mut(&labels) {
                *value = value.saturating_add(added);
            } else if kept < self.max_series {
                series.values.insert(labels, added);
            } else {
                series.others = Some(series.others.unwrap_or_default().saturating_add(added));
            }
        }
    }
}

/// Returns what a row adds to a counter, which cannot become smaller: a negative number is 0, one of more than 64 bits
/// the largest.
fn added(cells: &Cells, row: usize) -> u64 {
    match cells::number(cells, row) {
        None => u64::MAX,
        Some(number) => u64::try_from(number.max(0)).unwrap_or(u64::MAX),
    }
}

/// A plugin that groups the rows of a stream for a metric.
pub(crate) struct Meter {
    pub(crate) grouper: Grouper,
    pub(crate) metric: Arc<FlowMetric>,
}

/// The metrics of a stream, in front of what shows its rows.
pub(crate) struct Metered<'a, T> {
    meters: Vec<Meter>,
    /// The number of rows that are not visible yet, and when the first of them came.
    pending: usize,
    since: Option<Instant>,
    next: Option<Box<dyn Consumer<T> + 'a>>,
}

impl<'a, T> Metered<'a, T> {
    pub(crate) fn new(meters: Vec<Meter>, next: Option<Box<dyn Consumer<T> + 'a>>) -> Self {
        Metered { meters, pending: 0, since: None, next }
    }

    /// Makes what has been added visible.
    fn publish(&mut self) -> Result<(), RunError> {
        self.pending = 0;
        if self.since.take().is_some() {
            for meter in &mut self.meters {
                meter.metric.add(&meter.grouper.take(0, 0)?);
            }
        }
        Ok(())
    }
}

impl<T: Entries> Consumer<T> for Metered<'_, T> {
    fn begin(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        self.next.as_mut().map_or(Ok(()), |next| next.begin(sink))
    }

    fn take(&mut self, batch: &mut T, sink: &mut dyn Sink) -> Result<(), RunError> {
        for meter in &mut self.meters {
            meter.grouper.add(batch)?;
        }
        self.pending += batch.rows();
        self.since.get_or_insert_with(Instant::now);
        if self.pending >= MOST_ROWS {
            self.publish()?;
        }
        self.next.as_mut().map_or(Ok(()), |next| next.take(batch, sink))
    }

    fn follow_clock(&mut self) {
        if let Some(next) = &mut self.next {
            next.follow_clock();
        }
    }

    fn patience(&self) -> Option<Duration> {
        let own = self.since.map(|since| PERIOD.saturating_sub(since.elapsed()));
        let next = self.next.as_ref().and_then(|next| next.patience());
        own.into_iter().chain(next).min()
    }

    fn tick(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        if self.since.is_some_and(|since| since.elapsed() >= PERIOD) {
            self.publish()?;
        }
        self.next.as_mut().map_or(Ok(()), |next| next.tick(sink))
    }

    fn pause(&mut self) -> Result<(), RunError> {
        self.next.as_mut().map_or(Ok(()), |next| next.pause())
    }

    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        self.publish()?;
        self.next.as_mut().map_or(Ok(()), |next| next.end(sink))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_model::{Aggregation, Texts, query::kind};

    fn metric(max_series: usize) -> FlowMetric {
        let aggregation = AggregationSpec { aggregation: Aggregation::default(), every: None, text: None };
        let spec = MetricSpec { name: "bytes".into(), help: "Bytes".into(), aggregation, max_series };
        FlowMetric { labels: vec!["src_24".into(), "proto".into(), "helper".into()], ..FlowMetric::new(&spec) }
    }

    /// Returns groups of three keys: a network, a protocol and a text, which the second one lacks.
    fn groups(values: [u64; 2]) -> Groups {
        let mapped = |address: u64| 0xffff << 32 | address;
        let texts = Texts { ends: vec![3, 3], bytes: b"ftp".to_vec() };
        let columns = vec![
            Cells {
                kind: kind::NETWORK,
                lo: vec![mapped(0x0a00_0100), 1 << 8],
                hi: vec![0, 0x2001_0db8 << 32],
                reals: vec![24.0, 120.0],
                ..Cells::default()
            },
            Cells { kind: kind::PROTOCOL, lo: vec![6, 200], ..Cells::default() },
            Cells { kind: kind::TEXT, has: vec![1, 0], texts, ..Cells::default() },
            Cells { lo: values.to_vec(), ..Cells::default() },
        ];
        Groups { length: 2, columns, keys: 3, ..Groups::default() }
    }

    fn series(metric: &FlowMetric) -> Vec<(String, u64)> {
        metric.read().into_iter().map(|(labels, value)| (labels.join(" "), value)).collect()
    }

    #[test]
    fn series_add_up_and_those_beyond_the_greatest_number_are_one() {
        let known = metric(2);
        known.add(&groups([5, 7]));
        known.add(&groups([10, u64::MAX]));
        let expected = [("10.0.1.0/24 tcp ftp".to_owned(), 15), ("2001:db8::100/120 200 ".to_owned(), u64::MAX)];
        assert_eq!(series(&known), expected);
        let bounded = metric(1);
        bounded.add(&groups([5, 7]));
        bounded.add(&groups([10, 1]));
        let expected = [("10.0.1.0/24 tcp ftp".to_owned(), 15), ("other other other".to_owned(), 8)];
        assert_eq!(series(&bounded), expected);
    }

    #[test]
    fn a_counter_does_not_become_smaller() {
        let metric = metric(5);
        metric.add(&groups([5, 7]));
        let mut negative = groups([5u64.wrapping_neg(), 1]);
        negative.columns[3].hi = vec![u64::MAX, 1];
        metric.add(&negative);
        assert_eq!(metric.read().iter().map(|(_, value)| *value).collect::<Vec<_>>(), [5, u64::MAX]);
    }

    #[test]
    fn labels_are_letters_digits_and_underscores() {
        for (key, label) in [("src/24", "src_24"), ("original.bytes % 3", "original_bytes___3"), ("2 * x", "_2___x")] {
            assert_eq!(label_name(key), label);
        }
    }
}
