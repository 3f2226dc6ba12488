//! The result of parsing a command line: typed, checked, and independent of how options were written.

use std::{ffi::OsString, path::PathBuf};

use super::{aggregation::Aggregate, labels::LabelMap};
use flowgate_base::address::ListenAddress;
use flowgate_model::{Expectations, Flows, OptionValue, Selection};
use flowgate_model::{OnError, grants::Grants};
use flowgate_query::Query;

pub use flowgate_model::{EventGroups, Table};

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// `-L`
    List,
    /// `-G`
    Get,
    /// `-D`
    Delete,
    /// `-I`: creates an entry; fails if it exists.
    Create,
    /// `-A`: creates an entry, or changes it if it exists.
    Add,
    /// `-U`
    Update,
    /// `-E`
    Events,
    /// `-F`
    Flush,
    /// `-C`
    Count,
    /// `-S`
    Statistics,
    /// `-V`
    Version,
    /// `-h`, or an empty command line.
    Help,
}

/// A set of output types, from `-o`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Output(u16);

impl Output {
    /// `xml`
    pub const XML: Self = Self(1 << 0);
    /// `extended`: with the layer-3 protocol.
    pub const EXTENDED: Self = Self(1 << 1);
    /// `timestamp`: when an event was received.
    pub const TIMESTAMP: Self = Self(1 << 2);
    /// `id`
    pub const ID: Self = Self(1 << 3);
    /// `ktimestamp`: when the flow started and ended.
    pub const KERNEL_TIMESTAMP: Self = Self(1 << 4);
    /// `labels`
    pub const LABELS: Self = Self(1 << 5);
    /// `userspace`, which is always in effect.
    pub const USERSPACE: Self = Self(1 << 6);
    /// `save`: as command lines.
    pub const SAVE: Self = Self(1 << 7);
    /// `json`, which `conntrack` does not have.
    pub const JSON: Self = Self(1 << 8);

    /// `complete`, which `conntrack` does not have: with `save`, everything that can be restored.
    pub const COMPLETE: Self = Self(1 << 9);

    /// `table`, which `conntrack` does not have: for people.
    pub const TABLE: Self = Self(1 << 10);
    /// `csv`, which `conntrack` does not have.
    pub const CSV: Self = Self(1 << 11);
    /// `tsv`, which `conntrack` does not have.
    pub const TSV: Self = Self(1 << 12);
    /// The types with columns.
    pub const COLUMNED: Self = Self(Self::TABLE.0 | Self::CSV.0 | Self::TSV.0);

    /// The types that show the local time.
    pub const LOCAL_TIME: Self = Self(Self::KERNEL_TIMESTAMP.0 | Self::TIMESTAMP.0 | Self::TABLE.0);

    /// Bits and names of the types that `conntrack` does not have; they cannot be abbreviated.
    pub const OWN_NAMES: [(Self, &'static str); 5] = [
        (Self::JSON, "json"),
        (Self::COMPLETE, "complete"),
        (Self::TABLE, "table"),
        (Self::CSV, "csv"),
        (Self::TSV, "tsv"),
    ];

    /// Bits and names of the types of which there can be one only.
    pub const FORMS: [(Self, &'static str); 6] = [
        (Self::JSON, "json"),
        (Self::TABLE, "table"),
        (Self::CSV, "csv"),
        (Self::TSV, "tsv"),
        (Self::XML, "xml"),
        (Self::SAVE, "save"),
    ];

    /// Bits and names, in the order in which abbreviations are looked up.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::XML, "xml"),
        (Self::EXTENDED, "extended"),
        (Self::TIMESTAMP, "timestamp"),
        (Self::ID, "id"),
        (Self::KERNEL_TIMESTAMP, "ktimestamp"),
        (Self::LABELS, "labels"),
        (Self::USERSPACE, "userspace"),
        (Self::SAVE, "save"),
    ];

    /// Adds the types of another set.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Returns true if any type of the other set is in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns true if the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the first two types in it of which there can be one only.
    pub fn conflict(self) -> Option<(&'static str, &'static str)> {
        let mut forms = Self::FORMS.iter().filter(|(form, _)| self.contains(*form)).map(|(_, name)| *name);
        Some((forms.next()?, forms.next()?))
    }
}

/// When tables are coloured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ColorChoice {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    /// Names of the choices.
    pub const NAMES: [(Self, &'static str); 3] =
        [(Self::Auto, "auto"), (Self::Always, "always"), (Self::Never, "never")];
}

/// A plugin that the entries pass through: `--plugin FILE[,name=value...]`.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginArgument {
    /// The file of the component.
    pub file: PathBuf,
    /// Its options, in the order given.
    pub options: Vec<OptionValue>,
    /// Its grants: `--grant`.
    pub grants: Grants,
    /// How a failure of it is handled: `--on-error`.
    pub on_error: OnError,
}

/// The protocol that `-h -p` was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelpProtocol {
    /// Its number.
    pub number: u8,
    /// Its name, `unknown` if it has none.
    pub name: String,
    /// True if it has options of its own.
    pub has_options: bool,
}

/// Default maximum number of rows in a batch.
pub const DEFAULT_BATCH: u32 = 1024;

/// The meaning of a command line.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The command.
    pub command: Command,
    /// The table that it applies to.
    pub table: Table,
    /// Layer-3 family of the request (AF_INET 2, AF_INET6 10), from `-f` or an address. `None` stands for both;
    /// commands that have no request for both default to IPv4.
    pub family: Option<u8>,
    /// The flows that the command applies to: for -L, -D, -E and -U, and for -G applied to the kernel's answer. Empty
    /// for the other commands and for expectations. For -U it has no mark, status, timeout and state: these are set,
    /// not compared.
    ///
    /// The kernel's status filter is derived from `selection.status`: value and mask as they are. A mask of 0 means
    /// that `-u` named only UNSET; the kernel rejects that with EINVAL.
    pub selection: Selection,
    /// `--where`: a condition that flows must satisfy in addition.
    pub query: Option<Query>,
    /// `--by` and the like: groups that are shown in place of flows.
    pub aggregate: Option<Aggregate>,
    /// A table of one row for -I, -A, -G and -U; empty for the other commands.
    ///
    /// -I, -A: the flow to create, with both tuples; NAT in `rare.nat`. -G: the original tuple to look up (none if only
    /// the reply was given). -U: the values to set, as the kernel would apply them: the new mark is `(old & !mark_mask)
    /// ^ mark`, the new labels are `(old & !labels_mask) ^ labels` (no labels count as none set), the new status is
    /// `old | status`; timeout, state, TCP flags, vtags and NAT are replaced.
    pub template: Flows,
    /// A table of one row for -I, -D and -G of expectations; empty for the other commands. For -D and -G it has the
    /// expected tuple only.
    pub expectation: Expectations,
    /// The output types.
    pub output: Output,
    /// The columns of output with columns, with commas; `None` for the usual ones.
    pub columns: Option<String>,
    /// True if output with columns has headings.
    pub header: bool,
    /// When tables are coloured.
    pub color: ColorChoice,
    /// The event groups.
    pub events: EventGroups,
    /// Receive buffer of the event socket in bytes, if it was given; any number, also 0.
    pub buffer_size: Option<u32>,
    /// Limit of that buffer, if it is not the default. Under the name `conntrack`, a buffer that was given does not
    /// grow.
    pub buffer_max: Option<u32>,
    /// `--reliable`: the kernel keeps entries whose events it cannot deliver.
    pub reliable: bool,
    /// `--resync`: events are synthesized for lost ones.
    pub resync: bool,
    /// Counters are zeroed as they are read. Never true for the tables dying and unconfirmed.
    pub zero: bool,
    /// Names of labels, if an option needs them and the file could be read.
    pub label_map: Option<LabelMap>,
    /// For help: the protocol whose options are shown.
    pub help_protocol: Option<HelpProtocol>,
    /// The plugins, in order.
    pub plugins: Vec<PluginArgument>,
    /// Maximum number of rows in a batch, 1 to 65536.
    pub batch: u32,
    /// `--dry-run`: changes of the table are printed and not made.
    pub dry_run: bool,
    /// `--plugin-stats`: at the end, statistics of each plugin are printed.
    pub stats: bool,
    /// Address at which metrics are served while the command runs.
    pub metrics: Option<ListenAddress>,
    /// The network namespace to work in: a name, a process id or a path; `None` for that of the process.
    pub netns: Option<OsString>,
    /// `--all-netns`: events of all network namespaces that the kernel delivers.
    pub all_netns: bool,
    /// `--explain`: the command is explained and not executed.
    pub explain: bool,
    /// `--confirm-above`: the number of actions that are done without a question; `None` for any.
    pub confirm_above: Option<u64>,
    /// `--quiet`: entries that were acted on are neither shown nor counted.
    pub quiet: bool,
}

/// The commands of a load file, all parsed and checked before the first is executed.
#[derive(Debug, Clone)]
pub struct LoadFile {
    /// The file's name for messages.
    pub name: super::error::RawArg,
    /// The commands in the order of the file: only -I, -A, -U, -D and -F of flows.
    pub commands: Vec<LoadedCommand>,
    /// Invalid lines that `--keep-going` skipped.
    pub skipped: SkippedLines,
}

/// Maximum number of skipped lines that are reported one by one.
pub const MAX_REPORTED_LINES: usize = 10;

/// Invalid lines of a load file that were skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SkippedLines {
    /// The first [`MAX_REPORTED_LINES`] of them: line number and error.
    pub first: Vec<(usize, super::error::CliError)>,
    /// Their total number.
    pub count: usize,
}

impl SkippedLines {
    /// Adds a line.
    pub fn push(&mut self, line: usize, error: super::error::CliError) {
        self.count += 1;
        if self.first.len() < MAX_REPORTED_LINES {
            self.first.push((line, error));
        }
    }

    /// Adds the skipped lines of a later part of the file.
    pub fn append(&mut self, more: Self) {
        let room = MAX_REPORTED_LINES - self.first.len();
        self.first.extend(more.first.into_iter().take(room));
        self.count += more.count;
    }
}

/// A line of a load file, or several consecutive lines that create flows.
#[derive(Debug, Clone)]
pub struct LoadedCommand {
    /// The settings of the first line; the template has a row for each line.
    pub settings: Box<Settings>,
    /// The number of each line, from 1.
    pub lines: Vec<usize>,
}

/// A line of a load file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLine {
    /// The file's name for messages.
    pub file: super::error::RawArg,
    /// The line number, from 1.
    pub line: usize,
}

impl std::fmt::Display for FileLine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}, line {}", self.file, self.line)
    }
}

/// A parsed command line.
#[derive(Debug, Clone)]
pub enum CommandLine {
    /// A single command.
    Run(Box<Settings>),
    /// `-R FILE`
    Load(LoadFile),
}

/// The result of parsing a command line.
#[derive(Debug)]
pub struct Parsed<T = CommandLine> {
    /// Lines for standard error, without banner, in order; to be printed first, also before an error.
    pub warnings: Vec<String>,
    /// The command line, or the error in it.
    pub result: Result<T, super::error::CliError>,
    /// The line of a load file that the error is in. Reported under flowgate's own name only: `conntrack` has no such
    /// line.
    pub place: Option<FileLine>,
}
