//! The order of flows.

use std::{cmp::Ordering, fmt, str::FromStr};

use super::row::FlowRow;
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
}

impl SortKey {
    /// All keys, in the order of the columns, with their names on the command line.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Rate, "rate"),
        (Self::PacketRate, "packet-rate"),
        (Self::Bytes, "bytes"),
        (Self::Packets, "packets"),
        (Self::Age, "age"),
        (Self::Timeout, "timeout"),
    ];

    /// Returns true if it needs counters.
    #[must_use]
    pub fn needs_accounting(self) -> bool {
        !matches!(self, Self::Age | Self::Timeout)
    }

    /// Returns the key `by` columns to the right, or to the left if negative.
    #[must_use]
    pub fn moved(self, by: isize) -> Self {
        let count = Self::ALL.len() as isize;
        let at = Self::ALL.iter().position(|(key, _)| *key == self).unwrap_or_default() as isize;
        let to = usize::try_from((at + by).rem_euclid(count)).unwrap_or_default();
        Self::ALL.get(to).map_or(self, |(key, _)| *key)
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
            SortKey::Age => true,
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
}
