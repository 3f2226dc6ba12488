//! Aggregations: at the end of the stream, or of each window of it, groups of flows are shown in place of the flows.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use crate::{consumer::Consumer, entries::Entries, format::Format, run::RunError, sink::Sink};
use flowgate_base::clock::now;
use flowgate_model::{Aggregation, Flows, Groups, OptionValue, batch::copy_groups};
use flowgate_runtime::{Instance, Limits, PluginError};

/// An aggregation of the rows that are shown.
#[derive(Clone, Debug)]
pub struct AggregationSpec {
    /// What is computed.
    pub aggregation: Aggregation,
    /// The length of a window; `None` for one result at the end of the stream.
    pub every: Option<Duration>,
    /// The aggregation as it was written, for explanations.
    pub text: Option<String>,
}

/// Memory of the plugin for each group that may be kept: its place in the hash table, and for each key and measure its
/// value, its share of what a growing table leaves behind, and its value in the result.
const GROUP_BYTES: usize = 128;
const COLUMN_BYTES: usize = 192;
/// The bytes of a value in a result, besides those of texts.
const CELL_BYTES: usize = 32;
/// Number of groups that a format gets at once.
const PART: usize = 16_384;

impl AggregationSpec {
    /// Returns the limits of the plugin: as for others, and in addition what the greatest number of groups needs.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let Aggregation { keys, measures, top, max_groups, .. } = &self.aggregation;
        let columns = keys.len() + 2 * measures.len();
        let groups = *max_groups as usize;
        let shown = top.map_or(groups, |top| groups.min(top as usize));
        let usual = Limits::default();
        let memory = groups.saturating_mul(columns.saturating_mul(COLUMN_BYTES).saturating_add(GROUP_BYTES));
        Limits {
            memory: usual.memory.saturating_add(memory),
            output: usual.output.saturating_add(shown.saturating_mul(columns).saturating_mul(CELL_BYTES)),
            // Groups are sorted in one call.
            call: Duration::from_secs(60),
            ..usual
        }
    }

    /// Returns the options of the plugin: a seed that senders of packets do not know.
    pub(crate) fn options() -> Vec<OptionValue> {
        vec![OptionValue::new("seed", RandomState::new().hash_one(0).to_string())]
    }
}

/// A configured plugin that groups flows.
pub struct Grouper {
    instance: Instance,
    reads: u64,
    hidden: Flows,
}

impl Grouper {
    /// Returns a grouper of a plugin that knows what it computes, and reads these fields.
    pub(crate) fn new(instance: Instance, reads: u64) -> Self {
        Grouper { instance, reads, hidden: Flows::default() }
    }

    /// Returns the fields that it reads, as bits of [`field`](flowgate_model::field).
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// Adds the rows of a batch.
    ///
    /// # Errors
    /// The plugin failed, or there are more groups than are kept.
    pub fn add<T: Entries>(&mut self, batch: &mut T) -> Result<(), PluginError> {
        batch.aggregate(&mut self.instance, self.reads, &mut self.hidden)
    }

    /// Returns the groups of the rows that were added since the last call, with rates for the window from `since` to
    /// `until` (nanoseconds) unless both are 0.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn take(&mut self, since: u64, until: u64) -> Result<Groups, PluginError> {
        self.instance.take_groups(since, until)
    }
}

/// Takes the groups of a stream, or of each of its windows.
pub trait GroupsWriter {
    /// Writes groups into a sink.
    ///
    /// # Errors
    /// [`RunError`] if the format or the sink failed.
    fn write_groups(&mut self, groups: &Groups, sink: &mut dyn Sink) -> Result<(), RunError>;
}

impl GroupsWriter for Format {
    fn write_groups(&mut self, groups: &Groups, sink: &mut dyn Sink) -> Result<(), RunError> {
        for part in parts(groups) {
            let bytes = self.instance().render_groups(part.as_ref().unwrap_or(groups))?;
            if !bytes.is_empty() {
                sink.write(&bytes)?;
            }
        }
        Ok(())
    }
}

/// Groups of the rows of a stream, and what writes them.
pub struct Aggregator {
    grouper: Grouper,
    writer: Box<dyn GroupsWriter>,
    window: Option<Window>,
}

/// The windows of a stream, in nanoseconds since 1970.
struct Window {
    length: u64,
    /// The beginning of the current one; `None` before the first one.
    since: Option<u64>,
    /// The time of the last rows.
    last: u64,
    /// True if windows end by the clock, also while nothing comes.
    by_clock: bool,
}

impl Aggregator {
    /// Returns an aggregator that ends windows of this length.
    pub(crate) fn new(grouper: Grouper, every: Option<Duration>, writer: Box<dyn GroupsWriter>) -> Self {
        let window = every.map(|every| Window {
            length: u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1),
            since: None,
            last: 0,
            by_clock: false,
        });
        Aggregator { grouper, writer, window }
    }

    /// Ends the window if it is over at this time.
    fn advance(&mut self, time: u64, sink: &mut dyn Sink) -> Result<(), RunError> {
        let Some(window) = &mut self.window else { return Ok(()) };
        window.last = time.max(window.last);
        let since = *window.since.get_or_insert(time);
        let elapsed = time.saturating_sub(since) / window.length;
        if elapsed == 0 {
            return Ok(());
        }
        // Windows in which nothing came are passed over.
        window.since = Some(since.saturating_add(elapsed.saturating_mul(window.length)));
        let until = since.saturating_add(window.length);
        self.show(since, until, sink)
    }

    /// Shows the groups of a window, or of the whole stream; nothing for a window without flows.
    fn show(&mut self, since: u64, until: u64, sink: &mut dyn Sink) -> Result<(), RunError> {
        let groups = self.grouper.take(since, until)?;
        if self.window.is_some() && groups.flows == 0 {
            return Ok(());
        }
        self.writer.write_groups(&groups, sink)
    }
}

/// Returns the groups in parts that a format can take; `None` for all of them.
fn parts(groups: &Groups) -> impl Iterator<Item = Option<Groups>> + '_ {
    let length = groups.length as usize;
    let all = length <= PART;
    (0..length.div_ceil(PART).max(1)).map(move |part| {
        let start = part * PART;
        (!all).then(|| copy_groups(groups, start..length.min(start + PART)))
    })
}

impl<T: Entries> Consumer<T> for Aggregator {
    fn follow_clock(&mut self) {
        if let Some(window) = &mut self.window {
            (window.by_clock, window.since) = (true, Some(now()));
        }
    }

    fn take(&mut self, batch: &mut T, sink: &mut dyn Sink) -> Result<(), RunError> {
        self.advance(batch.time(), sink)?;
        Ok(self.grouper.add(batch)?)
    }

    fn patience(&self) -> Option<Duration> {
        let window = self.window.as_ref().filter(|window| window.by_clock)?;
        let until = window.since?.saturating_add(window.length);
        Some(Duration::from_nanos(until.saturating_sub(now())))
    }

    fn tick(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        match &self.window {
            Some(window) if window.by_clock => self.advance(now(), sink),
            _ => Ok(()),
        }
    }

    fn end(&mut self, sink: &mut dyn Sink) -> Result<(), RunError> {
        match &self.window {
            None => self.show(0, 0, sink),
            Some(window) => {
                let last = if window.by_clock { now() } else { window.last };
                self.advance(last, sink)?;
                // What is left of the last window.
                match self.window.as_ref().and_then(|window| window.since) {
                    Some(since) => self.show(since, last.max(since + 1), sink),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Adds the rows of a batch to an aggregation.
pub(crate) fn add(
    batch: &mut Flows,
    instance: &mut Instance,
    reads: u64,
    hidden: &mut Flows,
) -> Result<(), PluginError> {
    flowgate_model::batch::project(batch, reads, hidden, |shown| instance.add_flows(shown))
}
