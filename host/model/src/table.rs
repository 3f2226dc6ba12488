//! The tables of connection tracking.

use std::{fmt, str::FromStr};

/// A table of the kernel, as `conntrack` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// The tracked flows.
    Conntrack,
    /// The expectations of helpers.
    Expect,
    /// Flows that have ended and are about to be removed.
    Dying,
    /// Flows whose first packet is still being processed.
    Unconfirmed,
}

impl Table {
    /// All tables, the default first.
    pub const ALL: [Self; 4] = [Self::Conntrack, Self::Expect, Self::Dying, Self::Unconfirmed];
    /// Their names, in the same order.
    pub const NAMES: [&'static str; 4] =
        [Self::Conntrack.name(), Self::Expect.name(), Self::Dying.name(), Self::Unconfirmed.name()];

    /// Returns its name, as in a command, in files and in recordings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conntrack => "conntrack",
            Self::Expect => "expect",
            Self::Dying => "dying",
            Self::Unconfirmed => "unconfirmed",
        }
    }

    /// Returns true if the kernel has events of it, and not only dumps.
    #[must_use]
    pub const fn has_events(self) -> bool {
        matches!(self, Self::Conntrack | Self::Expect)
    }
}

impl FromStr for Table {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|table| table.name() == text);
        found.ok_or_else(|| format!("`{text}` is not one of conntrack, expect, dying and unconfirmed"))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_shown() {
        for (table, name) in Table::ALL.into_iter().zip(Table::NAMES) {
            assert_eq!((table.to_string().as_str(), name.parse()), (name, Ok(table)));
        }
        for wrong in ["", "con", "Conntrack", "conntrack "] {
            let error = wrong.parse::<Table>().unwrap_err();
            assert!(error.starts_with(&format!("`{wrong}` is not one of conntrack, ")), "{error}");
        }
    }
}
