//! What a command line asks for, once it has been read: typed, checked, and without a trace of its options.

use std::{ffi::OsString, path::PathBuf};

use super::labels::LabelMap;
use flowgate_base::address::Address;
use flowgate_model::{Expectations, Flows, OptionValue, Selection};
use flowgate_model::{OnError, grants::Grants};

pub use flowgate_model::{EventGroups, Table};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// `-L`
    List,
    /// `-G`
    Get,
    /// `-D`
    Delete,
    /// `-I`: make an entry, fail if there is one.
    Create,
    /// `-A`: make an entry or change the one there is.
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
    /// `-h`, or nothing at all.
    Help,
}

/// What `-o` asks for: a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Output(u16);

impl Output {
    /// `xml`
    pub const XML: Self = Self(1 << 0);
    /// `extended`: also the layer-3 protocol.
    pub const EXTENDED: Self = Self(1 << 1);
    /// `timestamp`: when an event was seen.
    pub const TIMESTAMP: Self = Self(1 << 2);
    /// `id`
    pub const ID: Self = Self(1 << 3);
    /// `ktimestamp`: when the flow began and ended.
    pub const KERNEL_TIMESTAMP: Self = Self(1 << 4);
    /// `labels`
    pub const LABELS: Self = Self(1 << 5);
    /// `userspace`, which is always on.
    pub const USERSPACE: Self = Self(1 << 6);
    /// `save`: as command lines.
    pub const SAVE: Self = Self(1 << 7);
    /// `json`, not in the classic program.
    pub const JSON: Self = Self(1 << 8);

    /// `complete`, not in the classic program: with `save`, everything that can be loaded.
    pub const COMPLETE: Self = Self(1 << 9);

    /// Bits and names of those that the classic program does not have, which have no abbreviation.
    pub const OWN_NAMES: [(Self, &'static str); 2] = [(Self::JSON, "json"), (Self::COMPLETE, "complete")];

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

    /// Adds what is in the other set.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether something of the other set is in this one.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing was asked for.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A plugin that the command's entries pass through: `--plugin FILE[,name=value...]`.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginArgument {
    /// The component.
    pub file: PathBuf,
    /// Its options, in the order given.
    pub options: Vec<OptionValue>,
    /// What it may do: `--grant`.
    pub grants: Grants,
    /// What becomes of its batch when it fails: `--on-error`.
    pub on_error: OnError,
}

/// A protocol that help was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelpProtocol {
    /// Its number.
    pub number: u8,
    /// Its name, `unknown` if it has none.
    pub name: String,
    /// Whether it has options of its own.
    pub has_options: bool,
}

/// Entries that a plugin is handed at once unless `--batch` says otherwise.
pub const DEFAULT_BATCH: u32 = 1024;

/// What a command line asks for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What to do.
    pub command: Command,
    /// What to do it to.
    pub table: Table,
    /// Layer-3 family of the request (AF_INET 2, AF_INET6 10): what `-f` or an address says, or else IPv4 for the
    /// commands that know no request for both; none for both.
    pub family: Option<u8>,
    /// Which flows are meant: by L, D, E and U, and by G of what the kernel returns. Empty for the others, and for
    /// expectations. With U it has neither mark, status, timeout nor state: those are set, not compared.
    ///
    /// The kernel's status filter follows from `selection.status`: value and mask as they are. A mask of 0 means that
    /// `-u` named nothing but UNSET; the kernel refuses that (EINVAL).
    pub selection: Selection,
    /// Whether one of the options was given that compare the flow with the command line: `-p -s -d -r -q -m -c -u -i
    /// -w -l --orig-zone --reply-zone`.
    pub compares: bool,
    /// A table of one row for I, A, G and U; without rows for the others.
    ///
    /// I, A: the flow to be made, with both tuples; NAT in `rare.nat`. G: the original tuple to be looked up (none if
    /// only the reply was given). U: what is to be set, as fields that the kernel would take: the new mark is
    /// `(old & !mark_mask) ^ mark`, the new labels are `(old & !labels_mask) ^ labels` (no labels count as none set), the
    /// new status is `old | status`; timeout, state, TCP flags, vtags and NAT replace.
    pub template: Flows,
    /// A table of one row for I, D and G of expectations; without rows for the others. For D and G only the expected
    /// tuple is given.
    pub expectation: Expectations,
    /// How to show it.
    pub output: Output,
    /// Which events.
    pub events: EventGroups,
    /// Receive buffer of the event socket in bytes, if it is to be set; any number, also 0.
    pub buffer_size: Option<u32>,
    /// What that buffer may grow to, if something else than usual. Called `conntrack` and given a size, it stays at that.
    pub buffer_max: Option<u32>,
    /// The kernel keeps what it cannot deliver to the event socket.
    pub reliable: bool,
    /// Lost events are made up for.
    pub resync: bool,
    /// Counters are set to zero as they are read. Never on the tables dying and unconfirmed.
    pub zero: bool,
    /// Names of labels; present if an option needed them and the file could be read.
    pub label_map: Option<LabelMap>,
    /// For help: the protocol whose options are to be explained.
    pub help_protocol: Option<HelpProtocol>,
    /// Plugins, in order.
    pub plugins: Vec<PluginArgument>,
    /// Most entries that a plugin is handed at once, 1 to 65536.
    pub batch: u32,
    /// Nothing is done to the table; what would be is printed.
    pub dry_run: bool,
    /// At the end it is told what each plugin did.
    pub stats: bool,
    /// Where metrics are served while the command runs.
    pub metrics: Option<Address>,
    /// The network namespace to work in: a name, the number of a process, or a path; none for that of the process.
    pub netns: Option<OsString>,
    /// Events come from all network namespaces that the kernel lets through.
    pub all_netns: bool,
    /// Nothing is done; what would be is explained.
    pub explain: bool,
    /// Entries that were acted on are neither shown nor counted.
    pub quiet: bool,
}

/// The commands of a load file, all read and checked before the first is carried out.
#[derive(Debug, Clone)]
pub struct LoadFile {
    /// The file's name as it is told.
    pub name: super::error::Word,
    /// In the order of the file. Only I, A, U, D and F of flows occur.
    pub commands: Vec<LoadedCommand>,
    /// Lines that make no sense, and are passed over because `--keep-going` says so.
    pub lost: LostLines,
}

/// How many lines of a load file that are lost are told one by one.
pub const TOLD: usize = 10;

/// Lines of a load file that make no sense.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostLines {
    /// The first of them, [`TOLD`] at most: number and what is wrong.
    pub first: Vec<(usize, super::error::CliError)>,
    /// How many there are.
    pub count: usize,
}

impl LostLines {
    /// Adds a line.
    pub fn push(&mut self, line: usize, error: super::error::CliError) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push((line, error));
        }
    }

    /// Adds those of later lines.
    pub fn append(&mut self, more: Self) {
        let room = TOLD - self.first.len();
        self.first.extend(more.first.into_iter().take(room));
        self.count += more.count;
    }
}

/// A line of a load file, or several that make flows one after the other.
#[derive(Debug, Clone)]
pub struct LoadedCommand {
    /// What the first line asks for; its template has a row for each line.
    pub settings: Box<Settings>,
    /// The number of each line, from 1 on.
    pub lines: Vec<usize>,
}

/// A line of a load file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name as it is told.
    pub file: super::error::Word,
    /// The line's number, from 1 on.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}, line {}", self.file, self.line)
    }
}

/// What a classic command line turned out to be.
#[derive(Debug, Clone)]
pub enum CommandLine {
    /// One command.
    Run(Box<Settings>),
    /// `-R FILE`
    Load(LoadFile),
}

/// The result of reading a command line.
#[derive(Debug)]
pub struct Parsed<T = CommandLine> {
    /// Lines for stderr, without banner, in order; to be printed before anything else, also if there is an error.
    pub warnings: Vec<String>,
    /// What is to be done, or what is wrong.
    pub result: Result<T, super::error::CliError>,
    /// Where in a load file it is wrong. Told under flowgate's own name only: conntrack has no such line.
    pub place: Option<Place>,
}
