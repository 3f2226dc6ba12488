//! What flows are sorted by.

use std::{cmp::Ordering, fmt, str::FromStr};

use super::row::Row;
use flowgate_model::field;

/// A column that can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Bytes a second.
    Rate,
    /// Packets a second.
    PacketRate,
    /// Bytes.
    Bytes,
    /// Packets.
    Packets,
    /// How long the flow has lasted.
    Age,
    /// How long until the entry expires.
    Timeout,
}

impl Key {
    /// All of them, in the order of the columns, with names as on the command line.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Rate, "rate"),
        (Self::PacketRate, "packet-rate"),
        (Self::Bytes, "bytes"),
        (Self::Packets, "packets"),
        (Self::Age, "age"),
        (Self::Timeout, "timeout"),
    ];

    /// Whether it needs counters.
    #[must_use]
    pub fn needs_accounting(self) -> bool {
        !matches!(self, Self::Age | Self::Timeout)
    }

    /// The key so many columns to the right, or to the left.
    #[must_use]
    pub fn moved(self, by: isize) -> Self {
        let count = Self::ALL.len() as isize;
        let at = Self::ALL.iter().position(|(key, _)| *key == self).unwrap_or_default() as isize;
        let to = usize::try_from((at + by).rem_euclid(count)).unwrap_or_default();
        Self::ALL.get(to).map_or(self, |(key, _)| *key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::ALL.iter().find(|(key, _)| key == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for Key {
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
    pub key: Key,
    /// Whether the smallest comes first.
    pub reverse: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Self { key: Key::Rate, reverse: false }
    }
}

impl Sort {
    /// Which of two flows comes first. Flows that the column says nothing about come last, either way; those that are equal in
    /// it are in order of their bytes, and then of their name, so that they do not jump about.
    #[must_use]
    pub fn compare(self, left: &Row, right: &Row) -> Ordering {
        let known = |row: &Row| match self.key {
            Key::Rate | Key::PacketRate => row.rate.is_some(),
            Key::Bytes | Key::Packets => row.is_counted(),
            Key::Age => true,
            Key::Timeout => row.has & field::TIMEOUT != 0,
        };
        let rate = |row: &Row| row.rate.unwrap_or_default();
        let order = match self.key {
            Key::Rate => rate(right).bytes.total_cmp(&rate(left).bytes),
            Key::PacketRate => rate(right).packets.total_cmp(&rate(left).packets),
            Key::Bytes => right.bytes.cmp(&left.bytes),
            Key::Packets => right.packets.cmp(&left.packets),
            // The oldest first: it began earliest.
            Key::Age => left.since.cmp(&right.since),
            Key::Timeout => right.timeout.cmp(&left.timeout),
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
