//! The model: what is kept of the flows that come out of a pipeline.
//!
//! Its memory does not grow with what is shown: of all flows there are sums, of the first ten thousand by the present order
//! and filter there are rows, and of each flow 32 bytes to tell from one dump to the next how fast it is and since when it is
//! known.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    filter::Filter,
    row::{self, Name, Rate, Row},
    sort::{Key, Sort},
};
use flowgate_base::clock::now;
use flowgate_model::{Flows, event, field};
use flowgate_pipeline::{RunError, consumer::Consumer, sink::Sink};

/// Most rows that are kept from one dump to the next.
pub const KEPT: usize = 10_000;
/// Most flows whose counters are remembered: at about 50 to 90 bytes each. Of those beyond, it is not known how fast they are.
const REMEMBERED: usize = 4 << 20;
/// Two dumps that are closer together do not tell how fast a flow is, in nanoseconds.
const APART: u64 = 200_000_000;

/// Where the flows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Dumps of the kernel, one after the other, and events in between: a flow that is not in a dump has gone.
    Kernel,
    /// A recording: flows that end are kept.
    Recording,
}

/// What is remembered of a flow.
#[derive(Clone, Copy, Debug)]
struct Known {
    bytes: u64,
    packets: u64,
    /// When these were its counters, and when it was first seen: milliseconds since [`Model::epoch`].
    at: u32,
    first: u32,
    /// The last dump that it was in.
    round: u32,
    /// Whether it began when it was first seen.
    born: bool,
}

/// Keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Same(u64);

impl Hasher for Same {
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

type ByKey<T> = HashMap<u64, T, BuildHasherDefault<Same>>;

/// Sums over the flows of a protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// Flows.
    pub flows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their packets.
    pub packets: u64,
    /// How fast they are together, as far as that is known.
    pub rate: Rate,
}

impl Sum {
    /// Adds another sum.
    pub fn add(&mut self, other: &Self) {
        self.flows += other.flows;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.packets = self.packets.saturating_add(other.packets);
        self.rate.bytes += other.rate.bytes;
        self.rate.packets += other.rate.packets;
    }

    /// Adds a flow.
    fn count(&mut self, row: &Row) {
        let rate = row.rate.unwrap_or_default();
        self.add(&Self { flows: 1, bytes: row.bytes, packets: row.packets, rate });
    }
}

/// Events since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// Flows that began.
    pub new: u64,
    /// Changes.
    pub update: u64,
    /// Flows that ended.
    pub destroy: u64,
    /// Times that events were lost.
    pub gaps: u64,
}

/// What a dump found, until the next one has.
#[derive(Debug, Default)]
struct Found {
    sums: BTreeMap<u8, Sum>,
    /// Flows that passed the filter.
    matching: u64,
    counted: bool,
    dated: bool,
}

/// See the module.
pub struct Model {
    origin: Origin,
    kept: usize,
    sort: Sort,
    filter: Filter,
    hasher: RandomState,
    /// Nanoseconds since 1970 that times are counted from.
    epoch: u64,
    now: u64,
    round: u32,
    known: ByKey<Known>,
    /// The rows that are shown.
    rows: ByKey<Row>,
    found: Found,
    /// The rows of the dump that is under way, and whether the filter passes them.
    next: Vec<(bool, u64, Row)>,
    finding: Found,
    happened: Happened,
    buffer: String,
}

/// What is shown at a moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The flows that pass the filter, in order; no more than are kept.
    pub rows: Vec<Row>,
    /// How many pass it in all.
    pub matching: u64,
    /// Sums by protocol.
    pub sums: BTreeMap<u8, Sum>,
    /// The order: the one that was asked for, or one that is possible instead.
    pub sort: Sort,
    /// Whether there is accounting; unknown as long as there are no flows.
    pub accounting: Option<bool>,
    /// Events.
    pub happened: Happened,
    /// The time, nanoseconds since 1970.
    pub now: u64,
    /// How many dumps there have been.
    pub rounds: u32,
}

impl Snapshot {
    /// The sum over all protocols.
    #[must_use]
    pub fn total(&self) -> Sum {
        self.sums.values().fold(Sum::default(), |mut total, sum| {
            total.add(sum);
            total
        })
    }
}

impl Model {
    /// An empty one.
    #[must_use]
    pub fn new(origin: Origin, sort: Sort) -> Self {
        Self::keeping(origin, sort, KEPT)
    }

    /// An empty one that keeps so many rows.
    #[must_use]
    pub fn keeping(origin: Origin, sort: Sort, kept: usize) -> Self {
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
            found: Found::default(),
            next: Vec::new(),
            finding: Found::default(),
            happened: Happened::default(),
            buffer: String::new(),
        }
    }

    /// Where the flows come from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Sorts otherwise. Where not all flows are kept, those that now come first are found by the next dump.
    pub fn set_sort(&mut self, sort: Sort) {
        self.sort = sort;
    }

    /// Filters otherwise, as [`Model::set_sort`].
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
    }

    /// The order that is in force: without accounting there is none by what it counts.
    fn order(&self) -> Sort {
        let found = self.latest();
        if !self.sort.key.needs_accounting() || found.counted || self.rows.is_empty() && self.next.is_empty() {
            return self.sort;
        }
        Sort { key: if found.dated { Key::Age } else { Key::Timeout }, ..self.sort }
    }

    /// What the last dump found, or the first one has found so far.
    fn latest(&self) -> &Found {
        if self.origin == Origin::Kernel && self.round == 0 { &self.finding } else { &self.found }
    }

    /// Takes a batch.
    pub fn take(&mut self, flows: &Flows) {
        self.now = flows.time;
        if self.epoch == 0 {
            self.epoch = flows.time;
        }
        for at in 0..flows.length as usize {
            match row::kind(flows, at) {
                event::NONE => self.entry(flows, at),
                event::NEW => {
                    self.happened.new += 1;
                    self.event(flows, at, true);
                }
                event::UPDATE => {
                    self.happened.update += 1;
                    self.event(flows, at, false);
                }
                event::DESTROY => {
                    self.happened.destroy += 1;
                    self.destroyed(flows, at);
                }
                event::GAP => self.happened.gaps += 1,
                _ => {}
            }
        }
    }

    fn key(&self, name: &Name) -> u64 {
        self.hasher.hash_one(name)
    }

    /// Milliseconds since the epoch.
    fn moment(&self, time: u64) -> u32 {
        u32::try_from(time.saturating_sub(self.epoch) / 1_000_000).unwrap_or(u32::MAX)
    }

    fn time(&self, moment: u32) -> u64 {
        self.epoch + u64::from(moment) * 1_000_000
    }

    /// Remembers a flow, if there is room. `born`: it begins now.
    fn remember(&mut self, key: u64, counts: (u64, u64), born: bool) -> Option<&mut Known> {
        // A flow that only events speak of must be in the next dump.
        let (at, round) = (self.moment(self.now), self.round.wrapping_sub(1));
        if self.known.len() >= REMEMBERED && !self.known.contains_key(&key) {
            return None;
        }
        let (bytes, packets) = counts;
        Some(self.known.entry(key).or_insert(Known { bytes, packets, at, first: at, round, born }))
    }

    /// Says since when a flow is there: what the kernel says, or else when it was first seen.
    fn date(&self, flow: &mut Row, flows: &Flows, at: usize, known: Option<Known>) {
        (flow.since, flow.born) = match (row::start(flows, at), known) {
            (Some(start), _) => (start, true),
            (None, Some(known)) => (self.time(known.first), known.born),
            (None, None) => (self.now, false),
        };
    }

    /// An entry of a dump.
    fn entry(&mut self, flows: &Flows, at: usize) {
        let name = Name::of(flows, at);
        let key = self.key(&name);
        let mut flow = Row::of(flows, at, name);
        let counts = row::counts(flows, at);
        let (now, round) = (self.now, self.round);
        let moment = self.moment(now);
        let fresh = !self.known.contains_key(&key);
        let known = self.remember(key, counts.unwrap_or_default(), false);
        let mut rate = None;
        let known = known.map(|known| {
            if let (Some((bytes, packets)), false) = (counts, fresh) {
                let time = u64::from(moment.saturating_sub(known.at)) * 1_000_000;
                if time >= APART {
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
        // Between two dumps that are too close together it is as fast as it was.
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
                best(&mut self.next, self.kept, order);
            }
        } else {
            self.keep(key, flow);
        }
    }

    /// A flow that began (`new`) or changed.
    fn event(&mut self, flows: &Flows, at: usize, new: bool) {
        let name = Name::of(flows, at);
        let key = self.key(&name);
        let mut flow = Row::of(flows, at, name);
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

    /// A flow that ended.
    fn destroyed(&mut self, flows: &Flows, at: usize) {
        let name = Name::of(flows, at);
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
        let mut flow = Row::of(flows, at, name);
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
            // What an event about the end no longer says.
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
        sum.count(&Row { rate: None, ..flow.clone() });
        self.found.counted |= flow.is_counted();
        self.found.dated |= flow.has & field::START != 0;
        self.keep(key, flow);
    }

    /// Keeps a row, and when there are twice as many as there should be, only the first ones.
    fn keep(&mut self, key: u64, flow: Row) {
        self.rows.insert(key, flow);
        if self.rows.len() >= 2 * self.kept {
            let (order, buffer, filter) = (self.order(), &mut self.buffer, &self.filter);
            let rows = mem::take(&mut self.rows);
            let mut all: Vec<_> = rows.into_iter().map(|(key, row)| (filter.passes(&row, buffer), key, row)).collect();
            best(&mut all, self.kept, order);
            self.rows = all.into_iter().map(|(_, key, row)| (key, row)).collect();
        }
    }

    /// A dump is complete: what was not in it has gone.
    fn turn(&mut self) {
        if self.origin == Origin::Recording {
            return;
        }
        let (round, order) = (self.round, self.order());
        self.known.retain(|_, known| known.round == round);
        let mut next = mem::take(&mut self.next);
        best(&mut next, self.kept, order);
        self.rows = next.drain(..).map(|(_, key, row)| (key, row)).collect();
        self.next = next;
        self.found = mem::take(&mut self.finding);
        self.round = self.round.wrapping_add(1);
    }

    /// What is to be shown now.
    pub fn snapshot(&mut self) -> Snapshot {
        let (order, buffer, filter) = (self.order(), &mut self.buffer, &self.filter);
        let all = self.rows.len();
        let mut shown: Vec<&Row> = self.rows.values().filter(|row| filter.passes(row, buffer)).collect();
        shown.sort_unstable_by(|left, right| order.compare(left, right));
        let flows: u64 = self.found.sums.values().map(|sum| sum.flows).sum();
        // Where all flows are kept, they have just been counted; else the last dump has done so.
        let matching =
            if all as u64 >= flows { shown.len() as u64 } else { self.found.matching.max(shown.len() as u64) };
        Snapshot {
            rows: shown.into_iter().cloned().collect(),
            matching,
            sums: self.found.sums.clone(),
            sort: order,
            accounting: (flows > 0).then_some(self.found.counted),
            happened: self.happened,
            now: if self.origin == Origin::Kernel { now() } else { self.now },
            rounds: self.round,
        }
    }
}

/// How fast a flow was on average.
fn average(flow: &Row, now: u64) -> Option<Rate> {
    let seconds = flow.age(now) as f64 / 1e9;
    (flow.is_counted() && flow.born && seconds > 0.0)
        .then(|| Rate { bytes: flow.bytes as f64 / seconds, packets: flow.packets as f64 / seconds })
}

/// Leaves the first `count` rows: those that pass the filter before the others, in this order.
fn best(rows: &mut Vec<(bool, u64, Row)>, count: usize, order: Sort) {
    if rows.len() <= count {
        return;
    }
    let compare = |left: &(bool, u64, Row), right: &(bool, u64, Row)| -> Ordering {
        right.0.cmp(&left.0).then_with(|| order.compare(&left.2, &right.2))
    };
    rows.select_nth_unstable_by(count, compare);
    rows.truncate(count);
}

/// A model that a pipeline fills while others look at it.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Model>>);

impl Shared {
    /// Shares a model.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self(Arc::new(Mutex::new(model)))
    }

    /// The model. A panic while it was held leaves what the next dump repairs.
    pub fn lock(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Consumer<Flows> for Shared {
    fn take(&mut self, batch: &mut Flows, _sink: &mut dyn Sink) -> Result<(), RunError> {
        self.lock().take(batch);
        Ok(())
    }

    fn pause(&mut self) {
        self.lock().turn();
    }
}
