//! The state that is shown: rows, sums and counts of events.

use std::collections::BTreeMap;

use super::{
    groups::GroupTable,
    row::{FlowIdentity, FlowRow, Rate},
    sort::Sort,
};

/// Sums over the flows of a protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// Flows.
    pub flows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their packets.
    pub packets: u64,
    /// Their total rate, as far as it is known.
    pub rate: Rate,
}

impl Sum {
    /// Returns the sum of several.
    pub(crate) fn of_all(sums: &BTreeMap<u8, Self>) -> Self {
        sums.values().fold(Self::default(), |mut total, sum| {
            total.add(sum);
            total
        })
    }

    /// Adds another sum.
    pub fn add(&mut self, other: &Self) {
        self.flows += other.flows;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.packets = self.packets.saturating_add(other.packets);
        self.rate.bytes += other.rate.bytes;
        self.rate.packets += other.rate.packets;
    }

    /// Adds a flow.
    pub(crate) fn count(&mut self, row: &FlowRow) {
        let rate = row.rate.unwrap_or_default();
        self.add(&Self { flows: 1, bytes: row.bytes, packets: row.packets, rate });
    }
}

/// Counts of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Flows that started.
    pub new: u64,
    /// Updates.
    pub update: u64,
    /// Flows that ended.
    pub destroy: u64,
    /// Number of gaps.
    pub gaps: u64,
}

impl EventCounts {
    /// Adds other counts.
    pub(crate) fn add(&mut self, other: &Self) {
        self.new += other.new;
        self.update += other.update;
        self.destroy += other.destroy;
        self.gaps += other.gaps;
    }
}

/// The identity of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowName {
    /// A flow.
    Flow(FlowIdentity),
    /// A group, by a hash of its keys.
    Group(u64),
}

/// The state that is shown.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The flows that pass the filter, in order; at most as many as are kept.
    pub rows: Vec<FlowRow>,
    /// The groups that pass the filter, in order, in place of flows.
    pub groups: Option<GroupTable>,
    /// The total number of flows, or of groups, that pass it.
    pub matching: u64,
    /// Sums by protocol; of groups, which do not have them, one with the key 0.
    pub sums: BTreeMap<u8, Sum>,
    /// The order: the requested one, or another if that one is not possible.
    pub sort: Sort,
    /// True if there is accounting; unknown as long as there are no flows.
    pub accounting: Option<bool>,
    /// Counts of events.
    pub events: EventCounts,
    /// The time, nanoseconds since 1970.
    pub now: u64,
    /// Number of dumps so far.
    pub rounds: u32,
    /// The total rates of the last dumps, the oldest first; empty without accounting and for recordings.
    pub history: Vec<Rate>,
}

impl Snapshot {
    /// Returns the number of rows.
    #[must_use]
    pub fn length(&self) -> usize {
        self.groups.as_ref().map_or(self.rows.len(), |groups| groups.rows.len())
    }

    /// Returns the identity of a row.
    #[must_use]
    pub fn name(&self, at: usize) -> Option<RowName> {
        match &self.groups {
            Some(groups) => groups.rows.get(at).map(|row| RowName::Group(row.name)),
            None => self.rows.get(at).map(|row| RowName::Flow(row.name)),
        }
    }

    /// Returns the sum over all protocols.
    #[must_use]
    pub fn total(&self) -> Sum {
        Sum::of_all(&self.sums)
    }
}
