//! The table of classic commands. A row defines everything that distinguishes a command.

use flowgate_config::FormatContext;
use flowgate_pipeline::executor::Shows;
use flowgate_syntax::{Command, Table};

/// The source of the entries of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A dump of the table.
    Dump,
    /// The one entry that the command line names, from the kernel.
    Lookup,
    /// The entry on the command line itself.
    Given,
    /// Events of the kernel.
    Events,
    /// The kernel's counters.
    Statistics,
    /// The number of entries of the table.
    Count,
    /// None: the table is emptied.
    Flush,
}

/// The outcome of a command that finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// Exit status 0.
    Success,
    /// Exit status 1.
    Failure,
}

/// The line on standard error that ends a successful command: `N entries have been shown.`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summary {
    /// No line.
    None,
    /// The number of entries shown, followed by this text.
    Shown(&'static str, Nothing),
    /// The number of completed actions, followed by this text.
    Done(&'static str),
    /// This text in any case.
    Always(&'static str),
}

/// A classic command.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The command.
    pub command: Command,
    /// The table.
    pub table: Table,
    /// Source of the entries.
    pub source: Source,
    /// True if the stock stage `match` checks the selector of the command line.
    pub selects: bool,
    /// The stock stage that acts on the entries, after the stages of the user.
    pub acts: Option<&'static str>,
    /// Entries that are shown after actions.
    pub shows: Shows,
    /// The format; `None` if entries are not shown.
    pub format: Option<FormatContext>,
    /// The summary.
    pub summary: Summary,
}

const LISTED: FormatContext = FormatContext::LISTING;
const LISTED_OPEN: FormatContext = FormatContext { footer: false, ..LISTED };
const UPDATED: FormatContext = FormatContext { header: false, footer: false, kernel_times: false, ..LISTED };
const DELETED: FormatContext = FormatContext { save: Some("D"), labels: false, ..UPDATED };
const EVENTS: FormatContext = FormatContext::EVENTS;
const EXPECTED: FormatContext = FormatContext::EXPECTATIONS;
const PLAIN: FormatContext =
    FormatContext { header: false, footer: false, save: None, labels: false, kernel_times: false, time: false };

const SHOWN: Summary = Summary::Shown("flow entries have been shown.", Nothing::Success);
const NO_EXPECTATIONS: Summary = Summary::Always("0 expectations have been shown.");

/// Common fields of most rows.
const BASE: Row = Row {
    command: Command::List,
    table: Table::Conntrack,
    source: Source::Dump,
    selects: true,
    acts: None,
    shows: Shows::Entries,
    format: Some(LISTED),
    summary: SHOWN,
};

/// Common fields of most rows for expectations.
const EXPECT: Row =
    Row { table: Table::Expect, source: Source::Given, selects: false, format: None, summary: Summary::None, ..BASE };

/// All rows.
const ROWS: &[Row] = &[
    BASE,
    Row { table: Table::Dying, source: Source::Dump, format: Some(LISTED_OPEN), ..BASE },
    Row { table: Table::Unconfirmed, source: Source::Dump, format: Some(LISTED_OPEN), ..BASE },
    Row {
        command: Command::Get,
        source: Source::Lookup,
        format: Some(LISTED_OPEN),
        summary: Summary::Shown("flow entries have been shown.", Nothing::Failure),
        ..BASE
    },
    Row {
        command: Command::Delete,
        acts: Some("delete"),
        shows: Shows::Acted,
        format: Some(DELETED),
        summary: Summary::Shown("flow entries have been deleted.", Nothing::Failure),
        ..BASE
    },
    Row {
        command: Command::Update,
        acts: Some("update"),
        shows: Shows::Reread,
        format: Some(UPDATED),
        summary: Summary::Shown("flow entries have been updated.", Nothing::Failure),
        ..BASE
    },
    Row {
        command: Command::Create,
        source: Source::Given,
        selects: false,
        acts: Some("create"),
        shows: Shows::Acted,
        format: None,
        summary: Summary::Done("flow entries have been created."),
        ..BASE
    },
    Row {
        command: Command::Add,
        source: Source::Given,
        selects: false,
        acts: Some("create"),
        shows: Shows::Acted,
        format: None,
        summary: Summary::Done("flow entries have been added."),
        ..BASE
    },
    Row {
        command: Command::Events,
        source: Source::Events,
        format: Some(EVENTS),
        summary: Summary::Shown("flow events have been shown.", Nothing::Success),
        ..BASE
    },
    Row {
        command: Command::Flush,
        source: Source::Flush,
        format: None,
        summary: Summary::Always("connection tracking table has been emptied."),
        ..BASE
    },
    Row { command: Command::Count, source: Source::Count, format: Some(PLAIN), summary: Summary::None, ..BASE },
    Row {
        command: Command::Statistics,
        source: Source::Statistics,
        format: Some(PLAIN),
        summary: Summary::None,
        ..BASE
    },
    Row {
        source: Source::Dump,
        format: Some(EXPECTED),
        summary: Summary::Shown("expectations have been shown.", Nothing::Success),
        ..EXPECT
    },
    Row { command: Command::Get, source: Source::Lookup, format: Some(PLAIN), ..EXPECT },
    // conntrack never counts here: it prints 0 and fails even if the expectation was deleted. Scripts rely on that.
    Row { command: Command::Delete, acts: Some("delete"), shows: Shows::Acted, summary: NO_EXPECTATIONS, ..EXPECT },
    Row { command: Command::Create, acts: Some("create"), shows: Shows::Acted, ..EXPECT },
    Row {
        command: Command::Events,
        source: Source::Events,
        format: Some(EXPECTED),
        summary: Summary::Shown("expectation events have been shown.", Nothing::Success),
        ..EXPECT
    },
    Row {
        command: Command::Flush,
        source: Source::Flush,
        summary: Summary::Always("expectation table has been emptied."),
        ..EXPECT
    },
    Row { command: Command::Count, source: Source::Count, format: Some(PLAIN), ..EXPECT },
    Row { command: Command::Statistics, source: Source::Statistics, format: Some(PLAIN), ..EXPECT },
];

/// Returns the row of a command and table, if there is one.
#[must_use]
pub fn row(command: Command, table: Table) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.command == command && row.table == table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_table_has_at_most_one_row() {
        for (index, row) in ROWS.iter().enumerate() {
            let same = |other: &&Row| other.command == row.command && other.table == row.table;
            assert_eq!(ROWS.iter().filter(same).count(), 1, "row {index}: {row:?}");
        }
    }
}
