//! Groups of flows: each dump is grouped by the stock plugin, and so is what has changed since the dump before, of which
//! rates are made.
//!
//! The change of each flow is computed here, since a sum over a group falls when one of its flows ends.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState},
};

use flowgate_model::{Aggregation, Cells, Counters, Flows, Groups, batch, event, field};
use flowgate_pipeline::{RunError, aggregate::Grouper, cells, consumer::Consumer, sink::Sink};

use super::{
    model::{ByKey, MAX_REMEMBERED, SharedModel},
    row::{self, FlowIdentity, Rate},
    snapshot::EventCounts,
};

/// A group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupRow {
    /// A hash of its keys.
    pub name: u64,
    /// Its keys as text; `None` for flows without a value.
    pub keys: Vec<Option<String>>,
    /// The number of flows in the last dump.
    pub flows: u64,
    /// Their bytes in both directions.
    pub bytes: u64,
    /// Their packets in both directions.
    pub packets: u64,
    /// What its flows have transferred since the dump before, also those that have ended; `None` after the first dump.
    pub rate: Option<Rate>,
}

/// The groups of a dump.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupTable {
    /// The names of the keys.
    pub keys: Vec<String>,
    /// The groups.
    pub rows: Vec<GroupRow>,
}

/// What has been found since the last dump.
#[derive(Clone, Debug, Default)]
pub(super) struct FoundGroups {
    pub table: GroupTable,
    /// The time of the dump, nanoseconds since 1970.
    pub time: u64,
    pub events: EventCounts,
}

/// Measures of the aggregations: flows, bytes, packets.
const MEASURES: usize = 3;

/// The counters of flows, of which it knows by how much they grow from dump to dump.
#[derive(Debug, Default)]
struct Growth {
    hasher: RandomState,
    /// The counters of each flow in the last dump that had it, and the number of that dump.
    known: ByKey<(u64, u64, u32)>,
    round: u32,
}

impl Growth {
    /// Remembers the bytes and packets of a flow, and returns by how much they have grown.
    fn of(&mut self, name: &FlowIdentity, (bytes, packets): (u64, u64), ended: bool) -> (u64, u64) {
        let (key, round) = (self.hasher.hash_one(name), self.round);
        let complete = self.known.len() < MAX_REMEMBERED;
        let before = if ended { self.known.remove(&key) } else { self.known.get(&key).copied() };
        if !ended && (before.is_some() || complete) {
            self.known.insert(key, (bytes, packets, round));
        }
        match before {
            Some((old_bytes, old_packets, _)) => (bytes.saturating_sub(old_bytes), packets.saturating_sub(old_packets)),
            // It began after the last dump, unless there was none, or not all flows are known.
            None if round > 0 && complete => (bytes, packets),
            None => (0, 0),
        }
    }

    /// Forgets flows that neither this dump has nor the one before: one that ended during this dump has its event after
    /// it.
    fn end_dump(&mut self) {
        let round = self.round;
        self.known.retain(|_, (_, _, of)| *of + 1 >= round);
        self.round = round.saturating_add(1);
    }
}

/// A consumer of dumps, and of events in between, that keeps groups in a model.
pub struct GroupConsumer {
    model: SharedModel,
    /// Groups the entries of a dump.
    totals: Grouper,
    /// Groups the rows whose counters have grown, with the growth in place of the counters.
    changes: Grouper,
    growth: Growth,
    hasher: RandomState,
    /// The time of the last dump.
    since: Option<u64>,
    events: EventCounts,
}

impl GroupConsumer {
    /// Returns a consumer that groups by two instances of the plugin, both of the same aggregation: of the number of
    /// flows and the sums of bytes and packets.
    #[must_use]
    pub fn new(model: SharedModel, totals: Grouper, changes: Grouper) -> Self {
        Self {
            model,
            totals,
            changes,
            growth: Growth::default(),
            hasher: RandomState::new(),
            since: None,
            events: EventCounts::default(),
        }
    }

    /// Returns the fields that it reads.
    #[must_use]
    pub fn reads(&self) -> u64 {
        row::READS | self.totals.reads()
    }

    /// Returns by how much the counters of each row have grown, as counters of the original direction.
    fn changes(&mut self, flows: &Flows) -> Counters {
        let rows = flows.length as usize;
        let mut changes = Counters {
            original_packets: Vec::with_capacity(rows),
            original_bytes: Vec::with_capacity(rows),
            reply_packets: vec![0; rows],
            reply_bytes: vec![0; rows],
        };
        for at in 0..rows {
            let kind = row::kind(flows, at);
            let (bytes, packets) = match row::counts(flows, at) {
                Some(counts) if matches!(kind, event::NONE | event::DESTROY) => {
                    self.growth.of(&FlowIdentity::of(flows, at), counts, kind == event::DESTROY)
                }
                _ => (0, 0),
            };
            changes.original_bytes.push(bytes);
            changes.original_packets.push(packets);
        }
        changes
    }

    /// Returns the groups of a dump, with rates if there was one before.
    fn table(&self, totals: &Groups, changes: &Groups, elapsed: Option<u64>) -> GroupTable {
        let mut rates = HashMap::new();
        if let Some(elapsed) = elapsed.filter(|&elapsed| elapsed > 0) {
            let seconds = elapsed as f64 / 1e9;
            for at in 0..changes.length as usize {
                let [_, bytes, packets] = measures(changes, at);
                let rate = Rate { bytes: bytes as f64 / seconds, packets: packets as f64 / seconds };
                if bytes > 0 || packets > 0 {
                    rates.insert(self.name(changes, at), (rate, at));
                }
            }
        }
        let known = elapsed.is_some();
        let group = |groups: &Groups, at: usize, name: u64| {
            let keys = keys(groups).iter().map(|key| cells::text(key, at)).collect();
            let [flows, bytes, packets] = measures(groups, at);
            GroupRow { name, keys, flows, bytes, packets, rate: None }
        };
        let mut rows = Vec::with_capacity(totals.length as usize);
        for at in 0..totals.length as usize {
            let name = self.name(totals, at);
            let rate = rates.remove(&name).map(|(rate, _)| rate);
            rows.push(GroupRow { rate: known.then(|| rate.unwrap_or_default()), ..group(totals, at, name) });
        }
        // Groups of which all flows have ended.
        for (name, (rate, at)) in rates {
            let gone = group(changes, at, name);
            rows.push(GroupRow { flows: 0, bytes: 0, packets: 0, rate: Some(rate), ..gone });
        }
        GroupTable { keys: keys(totals).iter().map(|key| key.name.clone()).collect(), rows }
    }

    /// Returns a hash of the keys of a row.
    fn name(&self, groups: &Groups, at: usize) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for key in keys(groups) {
            cells::bits(key, at).hash(&mut hasher);
            key.reals.get(at).map(|real| real.to_bits()).hash(&mut hasher);
            batch::text(&key.texts, at).hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn keys(groups: &Groups) -> &[Cells] {
    groups.columns.get(..groups.keys as usize).unwrap_or_default()
}

/// Returns flows, bytes and packets of a group.
fn measures(groups: &Groups, at: usize) -> [u64; MEASURES] {
    let mut columns = groups.columns.iter().skip(groups.keys as usize);
    std::array::from_fn(|_| {
        let number = columns.next().and_then(|column| cells::number(column, at)).unwrap_or_default();
        u64::try_from(number.max(0)).unwrap_or(u64::MAX)
    })
}

/// Returns true if the keys of an aggregation can be used: not those that read counters, which the changes replace.
#[must_use]
pub fn groups_by(aggregation: &Aggregation) -> bool {
    aggregation.keys.iter().all(|key| key.program.reads & field::COUNTERS == 0)
}

impl Consumer<Flows> for GroupConsumer {
    fn take(&mut self, batch: &mut Flows, _sink: &mut dyn Sink) -> Result<(), RunError> {
        let mut rows = [0_u64; 256];
        for at in 0..batch.length as usize {
            if let Some(count) = rows.get_mut(usize::from(row::kind(batch, at))) {
                *count += 1;
            }
        }
        let of = |kind: u8| rows.get(usize::from(kind)).copied().unwrap_or_default();
        self.events.add(&EventCounts {
            new: of(event::NEW),
            update: of(event::UPDATE),
            destroy: of(event::DESTROY),
            gaps: of(event::GAP),
        });
        let changes = self.changes(batch);
        if of(event::NONE) > 0 {
            self.totals.add(batch)?;
        }
        if of(event::NONE) > 0 || of(event::DESTROY) > 0 {
            let counters = batch.counters.replace(changes);
            let added = self.changes.add(batch);
            batch.counters = counters;
            added?;
        }
        Ok(())
    }

    fn pause(&mut self) -> Result<(), RunError> {
        let (totals, changes) = (self.totals.take(0, 0)?, self.changes.take(0, 0)?);
        let now = flowgate_base::clock::now();
        let elapsed = self.since.map(|since| now.saturating_sub(since));
        let table = self.table(&totals, &changes, elapsed);
        self.growth.end_dump();
        self.since = Some(now);
        self.model.lock().take_groups(FoundGroups { table, time: now, events: self.events });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch as rows, entry};

    #[test]
    fn what_a_flow_transfers_is_counted_once_whenever_it_ends() {
        // The counters that each of three dumps has of a flow, and at its end; after which dump its event comes.
        for (dumps, end, after) in [
            ([Some(10), Some(30), None], 35, 1),
            // It ended during a dump: before it was visited, and after.
            ([Some(10), None, None], 35, 1),
            ([Some(10), Some(35), None], 35, 1),
            // It began after the first dump, and no dump has it.
            ([None, None, None], 35, 1),
            ([None, Some(20), None], 35, 1),
        ] {
            let name = FlowIdentity::of(&rows(0.0, &[entry(1, None)]), 0);
            let mut growth = Growth::default();
            let mut grown = Vec::new();
            for (number, counts) in dumps.into_iter().enumerate() {
                let mut window = counts.map_or(0, |bytes| growth.of(&name, (bytes, 1), false).0);
                growth.end_dump();
                if number == after {
                    window += growth.of(&name, (end, 1), true).0;
                }
                grown.push(window);
            }
            // The first dump has nothing to be compared with.
            let first = dumps[0].unwrap_or_default();
            assert_eq!(grown.iter().sum::<u64>(), end - first, "{dumps:?}: {grown:?}");
            assert_eq!(grown[0], 0, "{dumps:?}");
        }
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let name = |id| FlowIdentity::of(&rows(0.0, &[entry(id, None)]), 0);
        let mut growth = Growth::default();
        for round in 0..10 {
            assert_eq!(growth.of(&name(round), (7, 1), false).0, if round == 0 { 0 } else { 7 });
            growth.end_dump();
        }
        assert_eq!(growth.known.len(), 2);
    }
}
