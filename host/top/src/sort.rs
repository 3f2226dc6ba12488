//! The order of flows.

use std::{cmp::Ordering, fmt, str::FromStr};

use super::{groups::GroupRow, row::FlowRow};
use flowgate_model::field;

/// A column that flows can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// Bytes per second.
    Rate,
    /// Packets per second.
    PacketRate,
    /// Bytes.
    Bytes,
    /// Packets.
    Packets,
    /// Age of the flow.
    Age,
    /// Time until the entry expires.
    Timeout,
    /// Number of flows of a group.
    Flows,
}

impl SortKey {
    /// All keys with their names on the command line.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Flows, "flows"),
        (Self::Rate, "rate"),
        (Self::PacketRate, "packet-rate"),
        (Self::Bytes, "bytes"),
        (Self::Packets, "packets"),
        (Self::Age, "age"),
        (Self::Timeout, "timeout"),
    ];

    /// Returns the keys of groups, or of flows, in the order of the columns, with their names on the command line.
    #[must_use]
    pub fn of(groups: bool) -> &'static [(Self, &'static str)] {
        let [keys @ .., _, _] = &Self::ALL;
        if groups { keys } else { Self::ALL.get(1..).unwrap_or_default() }
    }

    /// Returns true if it needs counters.
    #[must_use]
    pub fn needs_accounting(self) -> bool {
        !matches!(self, Self::Age | Self::Timeout | Self::Flows)
    }

    /// Returns the key `by` columns of groups, or of flows, to the right, or to the left if negative.
    #[must_use]
    pub fn moved(self, by: isize, groups: bool) -> Self {
        let keys = Self::of(groups);
        let at = keys.iter().position(|(key, _)| *key == self).unwrap_or_default() as isize;
        let to = usize::try_from((at + by).rem_euclid(keys.len() as isize)).unwrap_or_default();
        keys.get(to).map_or(self, |(key, _)| *key)
    }
}

impl fmt::Display for SortKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::ALL.iter().find(|(key, _)| key == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for SortKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(key, _)| *key);
        found.ok_or_else(|| format!("`{text}` is not one of {}", Self::ALL.map(|(_, name)| name).join(", ")))
    }
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The column.
    pub key: SortKey,
    /// True if the smallest comes first.
    pub reverse: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Self { key: SortKey::Rate, reverse: false }
    }
}

impl Sort {
    /// Compares two flows. Flows without a value in the column come last in either order; flows with equal values are
    /// ordered by bytes and then by identity, so that their order is stable.
    #[must_use]
    pub fn compare(self, left: &FlowRow, right: &FlowRow) -> Ordering {
        let known = |row: &FlowRow| match self.key {
            SortKey::Rate | SortKey::PacketRate => row.rate.is_some(),
            SortKey::Bytes | SortKey::Packets => row.is_counted(),
            SortKey::Age | SortKey::Flows => true,
            SortKey::Timeout => row.has & field::TIMEOUT != 0,
        };
        let rate = |row: &FlowRow| row.rate.unwrap_or_default();
        let order = match self.key {
            SortKey::Rate => rate(right).bytes.total_cmp(&rate(left).bytes),
            SortKey::PacketRate => rate(right).packets.total_cmp(&rate(left).packets),
            SortKey::Bytes => right.bytes.cmp(&left.bytes),
            SortKey::Packets => right.packets.cmp(&left.packets),
            // The oldest first: it started earliest.
            SortKey::Age => left.since.cmp(&right.since),
            SortKey::Timeout => right.timeout.cmp(&left.timeout),
            SortKey::Flows => Ordering::Equal,
        };
        let order = if self.reverse { order.reverse() } else { order };
        known(right)
            .cmp(&known(left))
            .then(order)
            .then_with(|| right.bytes.cmp(&left.bytes))
            .then_with(|| left.name.id.cmp(&right.name.id))
            .then_with(|| left.name.original.source.cmp(&right.name.original.source))
            .then_with(|| left.name.original.source_l4.cmp(&right.name.original.source_l4))
    }

    /// Compares two groups; those with equal values are ordered by bytes, flows and keys.
    #[must_use]
    pub fn compare_groups(self, left: &GroupRow, right: &GroupRow) -> Ordering {
        let rate = |row: &GroupRow| row.rate.unwrap_or_default();
        let order = match self.key {
            SortKey::Rate => rate(right).bytes.total_cmp(&rate(left).bytes),
            SortKey::PacketRate => rate(right).packets.total_cmp(&rate(left).packets),
            SortKey::Bytes => right.bytes.cmp(&left.bytes),
            SortKey::Packets => right.packets.cmp(&left.packets),
            SortKey::Flows => right.flows.cmp(&left.flows),
            SortKey::Age | SortKey::Timeout => Ordering::Equal,
        };
        let order = if self.reverse { order.reverse() } else { order };
        order
            .then_with(|| right.bytes.cmp(&left.bytes))
            .then_with(|| right.flows.cmp(&left.flows))
            .then_with(|| left.keys.cmp(&right.keys))
    }
}
