//! The model: the current state of the flows that a pipeline passes on.
//!
//! Its memory is bounded: sums over all flows, rows for the first ten thousand in the current order that pass the
//! filter, and 32 bytes for each flow, from which its rate and its start are derived between dumps.

mod groups;
mod shared;

pub use shared::SharedModel;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState},
    mem,
};

use super::{
    filter::Filter,
    groups::GroupTable,
    row::{self, FlowIdentity, FlowRow, Rate},
    snapshot::{EventCounts, Snapshot, Sum},
    sort::{Sort, SortKey},
};
use flowgate_base::clock::now;
use flowgate_model::{Flows, event, field};

/// Maximum number of rows that are kept from one dump to the next.
pub const MAX_ROWS: usize = 10_000;
/// Maximum number of flows whose counters are remembered, at about 50 to 90 bytes each. The rate of flows beyond is
/// unknown.
pub(super) const MAX_REMEMBERED: usize = 4 << 20;
/// Number of dumps whose total rate is remembered.
pub const MAX_HISTORY: usize = 120;
/// Minimum time in nanoseconds between two dumps from which rates are computed.
const MIN_DUMP_DISTANCE: u64 = 200_000_000;

/// The origin of the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Repeated dumps of the kernel, and events in between: a flow that is missing in a dump has ended.
    Kernel,
    /// A recording: flows that have ended are kept.
    Recording,
}

/// The remembered counters of a flow.
#[derive(Clone, Copy, Debug)]
struct RememberedFlow {
    bytes: u64,
    packets: u64,
    /// Time of these counters, and time when the flow was first seen: milliseconds since [`Model::epoch`].
    at: u32,
    first: u32,
    /// The last dump that contained it.
    round: u32,
    /// True if it started when it was first seen.
    born: bool,
}

/// A hasher for keys that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

pub(super) type ByKey<T> = HashMap<u64, T, BuildHasherDefault<IdentityHasher>>;

/// The result of a dump, until the next one is complete.
#[derive(Debug, Default)]
struct DumpResult {
    sums: BTreeMap<u8, Sum>,
    /// Number of flows that passed the filter.
    matching: u64,
    counted: bool,
    dated: bool,
}

/// The model; see the module.
pub struct Model {
    origin: Origin,
    kept: usize,
    sort: Sort,
    filter: Filter,
    hasher: RandomState,
    /// Nanoseconds since 1970 that times are relative to.
    epoch: u64,
    now: u64,
    round: u32,
    known: ByKey<RememberedFlow>,
    /// The rows that are shown.
    rows: ByKey<FlowRow>,
    found: DumpResult,
    /// The rows of the current dump, and true for those that pass the filter.
    next: Vec<(bool, u64, FlowRow)>,
    finding: DumpResult,
    events: EventCounts,
    history: VecDeque<Rate>,
    /// The groups of the last dump, in place of flows.
    groups: Option<GroupTable>,
    buffer: String,
}

impl Model {
    /// Returns an empty model.
    #[must_use]
    pub fn new(origin: Origin, sort: Sort) -> Self {
        Self::with_max_rows(origin, sort, MAX_ROWS)
    }

    /// Returns an empty model that keeps at most `kept` rows.
    #[must_use]
    pub fn with_max_rows(origin: Origin, sort: Sort, kept: usize) -> Self {
        Self {
            origin,
            kept: kept.max(1),
            sort,
            filter: Filter::default(),
            hasher: RandomState::new(),
            epoch: 0,
            now: 0,
            round: 0,
            known: ByKey::default(),
            rows: ByKey::default(),
            found: DumpResult::default(),
            next: Vec::new(),
            finding: DumpResult::default(),
            events: EventCounts::default(),
            history: VecDeque::new(),
            groups: None,
            buffer: String::new(),
        }
    }

    /// Returns the origin of the flows.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Changes the order. If not all flows are kept, the first ones in the new order are found by the next dump.
    pub fn set_sort(&mut self, sort: Sort) {
        self.sort = sort;
    }

    /// Changes the filter; see [`Model::set_sort`].
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
    }

    /// Returns the order in effect: without accounting there is no order by counters.
    fn order(&self) -> Sort {
        let found = self.latest();
        if !self.sort.key.needs_accounting() || found.counted || self.rows.is_empty() && self.next.is_empty() {
            return self.sort;
        }
        Sort { key: if found.dated { SortKey::Age } else { SortKey::Timeout }, ..self.sort }
    }

    /// Returns the result of the last dump, or that of the first one so far.
    fn latest(&self) -> &DumpResult {
        if self.origin == Origin::Kernel && self.round == 0 { &self.finding } else { &self.found }
    }

    /// Consumes a batch.
    pub fn take(&mut self, flows: &Flows) {
        self.now = flows.time;
        if self.epoch == 0 {
            self.epoch = flows.time;
        }
        for at in 0..flows.length as usize {
            match row::kind(flows, at) {
                event::NONE => self.entry(flows, at),
                event::NEW => {
                    self.events.new += 1;
                    self.event(flows, at, true);
                }
                event::UPDATE => {
                    self.events.update += 1;
                    self.event(flows, at, false);
                }
                event::DESTROY => {
                    self.events.destroy += 1;
                    self.destroyed(flows, at);
                }
                event::GAP => self.events.gaps += 1,
                _ => {}
            }
        }
    }

    fn key(&self, name: &FlowIdentity) -> u64 {
        self.hasher.hash_one(name)
    }

    /// Returns the time in milliseconds since the epoch.
    fn moment(&self, time: u64) -> u32 {
        u32::try_from(time.saturating_sub(self.epoch) / 1_000_000).unwrap_or(u32::MAX)
    }

    fn time(&self, moment: u32) -> u64 {
        self.epoch + u64::from(moment) * 1_000_000
    }

    /// Remembers a flow, if there is room. `born` is true if it starts now.
    fn remember(&mut self, key: u64, counts: (u64, u64), born: bool) -> Option<&mut RememberedFlow> {
        // A flow that is known only from events must be in the next dump.
        let (at, round) = (self.moment(self.now), self.round.wrapping_sub(1));
        if self.known.len() >= MAX_REMEMBERED && !self.known.contains_key(&key) {
            return None;
        }
        let (bytes, packets) = counts;
        Some(self.known.entry(key).or_insert(RememberedFlow { bytes, packets, at, first: at, round, born }))
    }

    /// Sets the start of a flow: the kernel's, or else the time when it was first seen.
    fn date(&self, flow: &mut FlowRow, flows: &Flows, at: usize, known: Option<RememberedFlow>) {
        (flow.since, flow.born) = match (row::start(flows, at), known) {
            (Some(start), _) => (start, true),
            (None, Some(known)) => (self.time(known.first), known.born),
            (None, None) => (self.now, false),
        };
    }

    /// Consumes an entry of a dump.
    fn entry(&mut self, flows: &Flows, at: usize) {
        let name = FlowIdentity::of(flows, at);
        let key = self.key(&name);
        let mut flow = FlowRow::of(flows, at, name);
        let counts = row::counts(flows, at);
        let (now, round) = (self.now, self.round);
        let moment = self.moment(now);
        let fresh = !self.known.contains_key(&key);
        let known = self.remember(key, counts.unwrap_or_default(), false);
        let mut rate = None;
        let known = known.map(|known| {
            if let (Some((bytes, packets)), false) = (counts, fresh) {
                let time = u64::from(moment.saturating_sub(known.at)) * 1_000_000;
                if time >= MIN_DUMP_DISTANCE {
                    let seconds = time as f64 / 1e9;
                    rate = Some(Rate {
                        bytes: bytes.saturating_sub(known.bytes) as f64 / seconds,
                        packets: packets.saturating_sub(known.packets) as f64 / seconds,
                    });
                    (known.bytes, known.packets, known.at) = (bytes, packets, moment);
                }
            }
            known.round = round;
            *known
        });
        self.date(&mut flow, flows, at, known);
        // If two dumps are too close together, the rate is kept.
        flow.rate = rate.or_else(|| self.rows.get(&key).and_then(|row| row.rate));
        if self.origin == Origin::Recording {
            flow.rate = flow.rate.or_else(|| average(&flow, now));
        }
        let passes = self.filter.passes(&flow, &mut self.buffer);
        let found = if self.origin == Origin::Kernel { &mut self.finding } else { &mut self.found };
        found.sums.entry(name.protocol).or_default().count(&flow);
        found.matching += u64::from(passes);
        found.counted |= flow.is_counted();
        found.dated |= flow.has & field::START != 0;
        if self.origin == Origin::Kernel {
            self.next.push((passes, key, flow));
            if self.next.len() >= 2 * self.kept {
                let order = self.order();
                keep_best(&mut self.next, self.kept, order);
            }
        } else {
            self.keep(key, flow);
        }
    }

    /// Consumes an event of a flow that started (`new`) or changed.
    fn event(&mut self, flows: &Flows, at: usize, new: bool) {
        let name = FlowIdentity::of(flows, at);
        let key = self.key(&name);
        let mut flow = FlowRow::of(flows, at, name);
        let fresh = !self.known.contains_key(&key);
        let known = self.remember(key, row::counts(flows, at).unwrap_or_default(), new).map(|known| *known);
        if let Some(row) = self.rows.get_mut(&key) {
            row.update(flow);
            return;
        }
        self.date(&mut flow, flows, at, known);
        if fresh {
            let passes = self.filter.passes(&flow, &mut self.buffer);
            self.found.matching += u64::from(passes);
            self.found.sums.entry(name.protocol).or_default().count(&flow);
        }
        self.keep(key, flow);
    }

    /// Consumes the end of a flow.
    fn destroyed(&mut self, flows: &Flows, at: usize) {
        let name = FlowIdentity::of(flows, at);
        let key = self.key(&name);
        let known = self.known.remove(&key);
        if self.origin == Origin::Kernel {
            let row = self.rows.remove(&key);
            if known.is_some()
                && let Some(sum) = self.found.sums.get_mut(&name.protocol)
            {
                sum.flows = sum.flows.saturating_sub(1);
                let passed = row.is_some_and(|row| self.filter.passes(&row, &mut self.buffer));
                self.found.matching = self.found.matching.saturating_sub(u64::from(passed));
            }
            return;
        }
        let mut flow = FlowRow::of(flows, at, name);
        let before = self.rows.remove(&key);
        match &before {
            Some(before) => (flow.since, flow.born) = (before.since, before.born),
            None => self.date(&mut flow, flows, at, known),
        }
        if let Some(start) = row::start(flows, at) {
            (flow.since, flow.born) = (start, true);
        }
        flow.ended = Some(row::stop(flows, at).unwrap_or(self.now));
        flow.rate = average(&flow, self.now);
        if let Some(before) = &before {
            // A DESTROY event lacks this.
            flow.has |= before.has & field::MARK;
            flow.mark = if flow.mark == 0 { before.mark } else { flow.mark };
        }
        let sum = self.found.sums.entry(name.protocol).or_default();
        if let Some(before) = &before {
            sum.flows = sum.flows.saturating_sub(1);
            sum.bytes = sum.bytes.saturating_sub(before.bytes);
            sum.packets = sum.packets.saturating_sub(before.packets);
        } else {
            let passes = self.filter.passes(&flow, &mut self.buffer);
            self.found.matching += u64::from(passes);
        }
        sum.count(&FlowRow { rate: None, ..flow.clone() });
        self.found.counted |= flow.is_counted();
        self.found.dated |= flow.has & field::START != 0;
        self.keep(key, flow);
    }

    /// Keeps a row; at twice the limit, only the first rows are kept.
    fn keep(&mut self, key: u64, flow: FlowRow) {
        self.rows.insert(key, flow);
        if self.rows.len() >= 2 * self.kept {
            let (order, buffer, filter) = (self.order(), &mut self.buffer, &self.filter);
            let rows = mem::take(&mut self.rows);
            let mut all: Vec<_> = rows.into_iter().map(|(key, row)| (filter.passes(&row, buffer), key, row)).collect();
            keep_best(&mut all, self.kept, order);
            self.rows = all.into_iter().map(|(_, key, row)| (key, row)).collect();
        }
    }

    /// Completes a dump: flows that are not in it have ended.
    fn complete_dump(&mut self) {
        if self.origin == Origin::Recording {
            return;
        }
        let (round, order) = (self.round, self.order());
        self.known.retain(|_, known| known.round == round);
        let mut next = mem::take(&mut self.next);
        keep_best(&mut next, self.kept, order);
        self.rows = next.drain(..).map(|(_, key, row)| (key, row)).collect();
        self.next = next;
        self.found = mem::take(&mut self.finding);
        // The first dump has nothing to be compared with.
        if self.found.counted && round > 0 {
            self.remember_rate(Sum::of_all(&self.found.sums).rate);
        }
        self.round = self.round.wrapping_add(1);
    }

    /// Returns the state to show now.
    pub fn snapshot(&mut self) -> Snapshot {
        if let Some(groups) = &self.groups {
            return self.snapshot_of(groups);
        }
        let (order, buffer, filter) = (self.order(), &mut self.buffer, &self.filter);
        let all = self.rows.len();
        let mut shown: Vec<&FlowRow> = self.rows.values().filter(|row| filter.passes(row, buffer)).collect();
        shown.sort_unstable_by(|left, right| order.compare(left, right));
        let flows: u64 = self.found.sums.values().map(|sum| sum.flows).sum();
        // If all flows are kept they have just been counted, otherwise the last dump counted them.
        let matching =
            if all as u64 >= flows { shown.len() as u64 } else { self.found.matching.max(shown.len() as u64) };
        Snapshot {
            rows: shown.into_iter().cloned().collect(),
            matching,
            sums: self.found.sums.clone(),
            sort: order,
            accounting: (flows > 0).then_some(self.found.counted),
            events: self.events,
            now: if self.origin == Origin::Kernel { now() } else { self.now },
            rounds: self.round,
            history: self.history.iter().rev().copied().collect(),
            groups: None,
        }
    }

    /// Adds the total rate of a dump to the history.
    fn remember_rate(&mut self, rate: Rate) {
        self.history.truncate(MAX_HISTORY - 1);
        self.history.push_front(rate);
    }
}

/// Returns the average rate of a flow.
fn average(flow: &FlowRow, now: u64) -> Option<Rate> {
    let seconds = flow.age(now) as f64 / 1e9;
    (flow.is_counted() && flow.born && seconds > 0.0)
        .then(|| Rate { bytes: flow.bytes as f64 / seconds, packets: flow.packets as f64 / seconds })
}

/// Keeps the first `count` rows: those that pass the filter before the others, in this order.
fn keep_best(rows: &mut Vec<(bool, u64, FlowRow)>, count: usize, order: Sort) {
    if rows.len() <= count {
        return;
    }
    let compare = |left: &(bool, u64, FlowRow), right: &(bool, u64, FlowRow)| -> Ordering {
        right.0.cmp(&left.0).then_with(|| order.compare(&left.2, &right.2))
    };
    rows.select_nth_unstable_by(count, compare);
    rows.truncate(count);
}
