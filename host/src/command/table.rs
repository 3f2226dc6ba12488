//! The table of classic commands: a row says all that makes a command what it is.

use crate::cli::{Command, Table};

/// Where the entries of a command come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A dump of flows.
    Flows,
    /// A dump of the flows that are being removed.
    Dying,
    /// A dump of the flows that are not in the table yet.
    Unconfirmed,
    /// A dump of expectations.
    Expectations,
}

/// A classic command.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The command.
    pub command: Command,
    /// The table it is about.
    pub table: Table,
    /// Where its entries come from.
    pub source: Source,
    /// Stock stages that the entries pass through, before those of the user.
    pub stages: &'static [&'static str],
    /// Whether XML is closed at the end.
    pub footer: bool,
    /// The rest of the line on standard error that follows the number of entries.
    pub summary: &'static str,
}

/// All rows.
const ROWS: &[Row] = &[
    Row {
        command: Command::List,
        table: Table::Conntrack,
        source: Source::Flows,
        stages: &["match"],
        footer: true,
        summary: "flow entries have been shown.",
    },
    Row {
        command: Command::List,
        table: Table::Dying,
        source: Source::Dying,
        stages: &["match"],
        footer: false,
        summary: "flow entries have been shown.",
    },
    Row {
        command: Command::List,
        table: Table::Unconfirmed,
        source: Source::Unconfirmed,
        stages: &["match"],
        footer: false,
        summary: "flow entries have been shown.",
    },
    Row {
        command: Command::List,
        table: Table::Expect,
        source: Source::Expectations,
        stages: &[],
        footer: true,
        summary: "expectations have been shown.",
    },
];

/// The row of a command.
#[must_use]
pub fn row(command: Command, table: Table) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.command == command && row.table == table)
}
