//! The table of options: names, values, help, and which command accepts which option. Messages, help, the manual page
//! and shell completions are generated from it.

use super::getopt::Argument;
use super::settings::{Command, Table};

/// Identifies an option of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKey {
    /// `-s`
    Source,
    /// `-d`
    Destination,
    /// `-r`
    ReplySource,
    /// `-q`
    ReplyDestination,
    /// `-p`
    Protocol,
    /// `-t`
    Timeout,
    /// `-u`
    Status,
    /// `-z`
    Zero,
    /// `-e`
    EventMask,
    /// `--tuple-src`
    TupleSource,
    /// `--tuple-dst`
    TupleDestination,
    /// `--mask-src`
    MaskSource,
    /// `--mask-dst`
    MaskDestination,
    /// `-m`
    Mark,
    /// `-i`
    Id,
    /// `-f`
    Family,
    /// `-n`
    SourceNat,
    /// `-g`
    DestinationNat,
    /// `-o`
    Output,
    /// `-c`
    Secmark,
    /// `-b`
    BufferSize,
    /// `-j`
    AnyNat,
    /// `-w`
    Zone,
    /// `-l`
    Label,
    /// `--label-add`
    LabelAdd,
    /// `--label-del`
    LabelDelete,
    /// `--orig-zone`
    OriginalZone,
    /// `--reply-zone`
    ReplyZone,
    /// `--labelmap`
    LabelMap,
    /// `-a`, which does nothing.
    NatRange,
    /// `--plugin`
    Plugin,
    /// `--batch`
    Batch,
    /// `--grant`
    Grant,
    /// `--on-error`
    OnError,
    /// `--dry-run`
    DryRun,
    /// `--plugin-stats`
    Stats,
    /// `--buffer-max`
    BufferMax,
    /// `--reliable`
    Reliable,
    /// `--resync`
    Resync,
    /// `--metrics`
    Metrics,
    /// `--netns`
    Netns,
    /// `--all-netns`
    AllNetns,
    /// `--explain`
    Explain,
    /// `--quiet`
    Quiet,
    /// `--all`
    All,
    /// `--labels`
    Labels,
    /// `--helper`
    Helper,
    /// `--orig-seqadj`
    OriginalSequence,
    /// `--reply-seqadj`
    ReplySequence,
    /// `--orig-tcp-flags`
    OriginalTcpFlags,
    /// `--reply-tcp-flags`
    ReplyTcpFlags,
    /// `--orig-wscale`
    OriginalWindowScale,
    /// `--reply-wscale`
    ReplyWindowScale,
    /// `--synproxy`
    Synproxy,
    /// `--master`
    Master,
    /// `--keep-going`
    KeepGoing,
    /// `--set-zone`
    SetZone,
    /// `--where`
    Where,
    /// `--columns`
    Columns,
    /// `--no-header`
    NoHeader,
    /// `--color`
    Color,
    /// `--confirm-above`
    ConfirmAbove,
    /// `--by`
    By,
    /// `--count`
    CountFlows,
    /// `--sum`
    Sum,
    /// `--min`
    Min,
    /// `--max`
    Max,
    /// `--avg`
    Avg,
    /// `--distinct`
    Distinct,
    /// `--sort`
    Sort,
    /// `--top`
    Top,
    /// `--every`
    Every,
    /// `--max-groups`
    MaxGroups,
    /// `--approximate`
    Approximate,
}

/// A set of options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeySet(u128);

impl KeySet {
    /// Adds an option.
    pub fn insert(&mut self, key: OptionKey) {
        self.0 |= 1 << key as u32;
    }

    /// Returns true if the option is in the set.
    pub fn contains(self, key: OptionKey) -> bool {
        self.0 & (1 << key as u32) != 0
    }

    /// Returns true if any of the options is in the set.
    pub fn contains_any(self, keys: &[OptionKey]) -> bool {
        keys.iter().any(|key| self.contains(*key))
    }

    /// Returns true if the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The section of the help in which an option appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelpSection {
    /// Options for flows.
    Conntrack,
    /// Options for expectations.
    Expectation,
    /// Options that change flows.
    Updating,
    /// Options for flows and expectations.
    Common,
    /// Not shown.
    Hidden,
    /// Options that `conntrack` does not have.
    Flowgate,
}

/// How an option affects which flows a command applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectorRole {
    /// It does not.
    None,
    /// It selects flows, but `conntrack` does not count it as a comparison: `-z` can be combined with it.
    Selects,
    /// It is compared with flows.
    Compares,
}

/// An option of the table.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// Identifies the option.
    pub key: OptionKey,
    /// Its letter.
    pub short: Option<u8>,
    /// Its names. Messages use the first.
    pub long: &'static [&'static str],
    /// Defines if it takes a value. An optional value is taken from the next word only.
    pub argument: Argument,
    /// Placeholder of the value in help.
    pub placeholder: &'static str,
    /// How each command treats it: `R` required, `o` optional, `.` illegal, `T` one of a pair of addresses.
    /// [`column()`] defines the columns.
    pub legality: &'static str,
    /// Section of the help.
    pub section: HelpSection,
    /// How it selects flows.
    pub selector: SelectorRole,
    /// One line of help.
    pub help: &'static str,
}

impl OptionSpec {
    /// Returns true if it selects flows.
    pub fn selects(&self) -> bool {
        self.selector != SelectorRole::None
    }

    /// Returns the name used in messages.
    pub fn name(&self) -> &'static str {
        self.long.first().copied().unwrap_or_default()
    }

    /// Returns the letter shown to users. Punctuation needs quoting in a shell and is left out.
    pub fn letter(&self) -> Option<char> {
        self.short.filter(u8::is_ascii_lowercase).map(char::from)
    }
}

/// The options that ask for groups of flows.
pub const AGGREGATING: [OptionKey; 12] = [
    OptionKey::By,
    OptionKey::CountFlows,
    OptionKey::Sum,
    OptionKey::Min,
    OptionKey::Max,
    OptionKey::Avg,
    OptionKey::Distinct,
    OptionKey::Sort,
    OptionKey::Top,
    OptionKey::Every,
    OptionKey::MaxGroups,
    OptionKey::Approximate,
];

/// Returns the column of `legality` for a command on a table: L, I A, U, D, G, F, E, h, V C S, then for expectations L,
/// I, D G, E, F C S.
pub fn column(command: Command, table: Table) -> usize {
    use Command::{Add, Count, Create, Delete, Events, Flush, Get, Help, List, Statistics, Update, Version};
    match (table, command) {
        (_, Help) => 7,
        (_, Version) => 8,
        (Table::Expect, List) => 9,
        (Table::Expect, Create | Add) => 10,
        (Table::Expect, Delete | Get | Update) => 11,
        (Table::Expect, Events) => 12,
        (Table::Expect, Flush | Count | Statistics) => 13,
        (_, List) => 0,
        (_, Create | Add) => 1,
        (_, Update) => 2,
        (_, Delete) => 3,
        (_, Get) => 4,
        (_, Flush) => 5,
        (_, Events) => 6,
        (_, Count | Statistics) => 8,
    }
}

/// Returns how a command treats an option. Without a command, every option is illegal except `-a`, which is ignored.
pub fn legality(spec: &OptionSpec, command: Option<(Command, Table)>) -> u8 {
    match command {
        Some((command, table)) => spec.legality.as_bytes().get(column(command, table)).copied().unwrap_or(b'.'),
        None if spec.key == OptionKey::NatRange => b'o',
        None => b'.',
    }
}

/// Returns true if any given option satisfies the predicate.
pub fn any_given(given: KeySet, holds: impl Fn(&OptionSpec) -> bool) -> bool {
    OPTIONS.iter().any(|spec| given.contains(spec.key) && holds(spec))
}

/// A command.
#[derive(Debug, Clone, Copy)]
pub struct CommandSpec {
    /// The command.
    pub command: Command,
    /// Its letter.
    pub short: u8,
    /// Its long name.
    pub long: &'static str,
    /// Defines if a value may be attached, which is ignored: to the letter, to the long name.
    pub arguments: (Argument, Argument),
    /// The arguments in help.
    pub synopsis: &'static str,
    /// One line of help.
    pub help: &'static str,
}

const fn command(
    command: Command,
    short: u8,
    long: &'static str,
    synopsis: &'static str,
    help: &'static str,
) -> CommandSpec {
    let arguments = match command {
        Command::Count => (Argument::Optional, Argument::Optional),
        Command::Version | Command::Help => (Argument::None, Argument::None),
        _ => (Argument::None, Argument::Optional),
    };
    CommandSpec { command, short, long, arguments, synopsis, help }
}

/// The commands, except `-R`, which the scanner does not know.
pub const COMMANDS: [CommandSpec; 12] = [
    command(Command::List, b'L', "dump", "[table] [options]", "list the entries of a table"),
    command(Command::Get, b'G', "get", "[table] parameters", "look up one entry and show it"),
    command(Command::Delete, b'D', "delete", "[table] parameters", "delete the entries that match"),
    command(Command::Create, b'I', "create", "[table] parameters", "create an entry; fail if it exists"),
    command(Command::Add, b'A', "add", "[table] parameters", "create an entry, or change it if it exists"),
    command(Command::Update, b'U', "update", "[table] parameters", "change the flows that match"),
    command(Command::Events, b'E', "event", "[table] [options]", "show events as they happen"),
    command(Command::Flush, b'F', "flush", "[table]", "empty a table"),
    command(Command::Count, b'C', "counter", "[table]", "show the number of entries of a table"),
    command(Command::Statistics, b'S', "stats", "[table]", "show the kernel's counters for each CPU"),
    command(Command::Version, b'V', "version", "", "show the version"),
    command(Command::Help, b'h', "help", "[-p proto]", "show this help, and the options of a protocol"),
];

/// A row of the table: key, letter, names, value, placeholder, legality, section, how it selects (if it does), help.
macro_rules! option {
    ($key:ident, $short:expr, $long:expr, $argument:ident, $placeholder:expr, $legality:expr, $section:ident, $help:expr) => {
        option!($key, $short, $long, $argument, $placeholder, $legality, $section, None, $help)
    };
    ($key:ident, $short:expr, $long:expr, $argument:ident, $placeholder:expr, $legality:expr, $section:ident, $selector:ident, $help:expr) => {
        OptionSpec {
            key: OptionKey::$key,
            short: $short,
            long: &$long,
            argument: Argument::$argument,
            placeholder: $placeholder,
            legality: $legality,
            section: HelpSection::$section,
            selector: SelectorRole::$selector,
            help: $help,
        }
    };
}

/// The options, in the order in which errors in them are reported.
#[rustfmt::skip]
pub const OPTIONS: [OptionSpec; 74] = [
    option!(Source, Some(b's'), ["src", "orig-src"], Required, "ip[/prefix]", "oTooT.o...RR..", Common, Compares,
        "source address of the original direction"),
    option!(Destination, Some(b'd'), ["dst", "orig-dst"], Required, "ip[/prefix]", "oTooT.o...RR..", Common, Compares,
        "destination address of the original direction"),
    option!(ReplySource, Some(b'r'), ["reply-src"], Required, "ip", "oTooT.o...oo..", Common, Compares,
        "source address of the reply direction"),
    option!(ReplyDestination, Some(b'q'), ["reply-dst"], Required, "ip", "oTooT.o...oo..", Common, Compares,
        "destination address of the reply direction"),
    option!(Protocol, Some(b'p'), ["protonum"], Required, "proto", "oRooR.oo..RR..", Common, Compares,
        "layer-4 protocol, such as tcp or 17; unlocks its own options"),
    option!(Timeout, Some(b't'), ["timeout"], Required, "seconds", ".Roo......R...", Common, Selects,
        "set the timeout; with -D: match it"),
    option!(Status, Some(b'u'), ["status"], Required, "status[,...]", "oooo......o...", Common, Compares,
        "ASSURED, SEEN_REPLY, FIXED_TIMEOUT, EXPECTED, OFFLOAD, HW_OFFLOAD, UNSET; !NAME: not NAME"),
    option!(Zero, Some(b'z'), ["zero"], None, "", "o.............", Conntrack,
        "set the counters to zero while listing"),
    option!(EventMask, Some(b'e'), ["event-mask"], Required, "event[,...]", "......o.......", Conntrack,
        "kinds of events: ALL, NEW, UPDATES, DESTROY"),
    option!(TupleSource, Some(b'['), ["tuple-src"], Required, "ip[/prefix]", "..........R...", Expectation,
        "source address of the expected flow"),
    option!(TupleDestination, Some(b']'), ["tuple-dst"], Required, "ip[/prefix]", "..........R...", Expectation,
        "destination address of the expected flow"),
    option!(MaskSource, Some(b'{'), ["mask-src"], Required, "ip", "o.oo..o...R...", Common, Selects,
        "mask of the source address, such as 255.255.0.0"),
    option!(MaskDestination, Some(b'}'), ["mask-dst"], Required, "ip", "o.oo..o...R...", Common, Selects,
        "mask of the destination address"),
    option!(Mark, Some(b'm'), ["mark"], Required, "mark[/mask]", "oooo..o.......", Conntrack, Compares,
        "match the mark; with -I, -A, -U: set it"),
    option!(Id, Some(b'i'), ["id"], Required, "id", "..ooo.........", Conntrack, Compares,
        "match the id that -o id shows"),
    option!(Family, Some(b'f'), ["family"], Required, "family", "o.oo.oo..o....", Common, Selects,
        "layer-3 protocol: ipv4 or ipv6"),
    option!(SourceNat, Some(b'n'), ["src-nat"], Optional, "[ip[:port]]", "oooo..o.......", Conntrack, Selects,
        "match flows with source NAT, without a value any; with -I, -A: set it up"),
    option!(DestinationNat, Some(b'g'), ["dst-nat"], Optional, "[ip[:port]]", "oooo..o.......", Conntrack, Selects,
        "match flows with destination NAT, without a value any; with -I, -A: set it up"),
    option!(Output, Some(b'o'), ["output"], Required, "type[,...]", "o.ooo.o..o..o.", Conntrack,
        "xml, extended, timestamp, id, ktimestamp, labels, userspace, or save"),
    option!(Secmark, Some(b'c'), ["secmark"], Required, "secmark", "o.....o.......", Conntrack, Compares,
        "match the SELinux security mark"),
    option!(BufferSize, Some(b'b'), ["buffer-size"], Required, "bytes", "......o.......", Common,
        "receive buffer of the event socket"),
    option!(AnyNat, Some(b'j'), ["any-nat"], Optional, "[ip[:port]]", "o.....o.......", Conntrack, Selects,
        "match flows with any NAT"),
    option!(Zone, Some(b'w'), ["zone"], Required, "zone", "oo.o..o.......", Common, Compares,
        "zone of both directions"),
    option!(Label, Some(b'l'), ["label"], Required, "label[,...]", "o.ooo.o.......", Conntrack, Compares,
        "match flows that have all of these labels"),
    option!(LabelAdd, Some(b'<'), ["label-add"], Required, "label[,...]", ".oo...........", Updating,
        "add labels"),
    option!(LabelDelete, Some(b'>'), ["label-del"], Optional, "[label[,...]]", "..o...........", Updating,
        "remove these labels, or all"),
    option!(OriginalZone, Some(b'('), ["orig-zone"], Required, "zone", "oo.o..o.......", Common, Compares,
        "zone of the original direction alone"),
    option!(ReplyZone, Some(b')'), ["reply-zone"], Required, "zone", "oo.o..o.......", Common, Compares,
        "zone of the reply direction alone"),
    option!(LabelMap, Some(b'M'), ["labelmap"], Required, "path", "o.oo..o.......", Conntrack,
        "file of label names (default: /etc/xtables/connlabel.conf)"),
    option!(NatRange, Some(b'a'), ["nat-range"], Required, "ip", "oooooooooooooo", Hidden,
        "ignored"),
    option!(Plugin, None, ["plugin"], Required, "file[,name=value...]", "o.ooo.o..o..o.", Flowgate,
        "pass the entries through this component; may be repeated"),
    option!(Batch, None, ["batch"], Required, "rows", "o.ooo.o..o..o.", Flowgate,
        "maximum number of entries that a component gets at once (default: 1024)"),
    option!(Grant, None, ["grant"], Required, "grant[,...]", "o.ooo.o..o..o.", Flowgate,
        "grants of the preceding component: delete, create, update, update.mark=0xff, log, state, time, tick, look-back"),
    option!(OnError, None, ["on-error"], Required, "skip|drop|stop", "o.ooo.o..o..o.", Flowgate,
        "when the preceding component fails: continue without it, drop the entries, or stop (default)"),
    option!(DryRun, None, ["dry-run"], None, "", "ooooo.o..oooo.", Flowgate,
        "print changes of the table as command lines, without making them"),
    option!(Stats, None, ["plugin-stats"], None, "", "o.ooo.o..o..o.", Flowgate,
        "at the end print what each component did; SIGUSR1 prints it at any time"),
    option!(BufferMax, None, ["buffer-max"], Required, "size", "......o.....o.", Flowgate,
        "size up to which the receive buffer may grow under pressure (default: 128MiB)"),
    option!(Reliable, None, ["reliable"], None, "", "......o.....o.", Flowgate,
        "the kernel keeps entries until their end has been delivered; a listener that stalls fills the table"),
    option!(Resync, None, ["resync"], None, "", "......o.......", Flowgate,
        "after lost events, compare with the table and make up for them; such events are marked [SYNTHETIC]"),
    option!(Metrics, None, ["metrics"], Required, "addr", "......o.....o.", Flowgate,
        "serve metrics for Prometheus over HTTP: 127.0.0.1:9465, :9465 (all addresses) or unix:PATH"),
    option!(Netns, None, ["netns"], Required, "name|pid|path", "oooooooooooooo", Flowgate,
        "work in this network namespace; with -R, given after the file, for all lines"),
    option!(AllNetns, None, ["all-netns"], None, "", "......o.......", Flowgate,
        "show the events of all network namespaces that have an id here (ip netns set NAME auto gives them one)"),
    option!(Explain, None, ["explain"], None, "", "ooooooo.oooooo", Flowgate,
        "print what would be sent to the kernel and to components, and do nothing; with -o json as one JSON object"),
    option!(Quiet, None, ["quiet"], None, "", "..oo..........", Flowgate,
        "show and count nothing, status 0 even if nothing was found; the kernel then deletes by itself if its filter is exact"),
    option!(All, None, ["all"], None, "", "...o..........", Flowgate,
        "delete every flow: required by -D without a selecting option"),
    option!(Labels, None, ["labels"], Required, "bits[/mask]", ".oo...........", Flowgate,
        "set labels by number, label n being bit n: 0x5 for the labels 0 and 2; the others are removed, or with a mask kept"),
    option!(Helper, None, ["helper"], Required, "name", ".oo...........", Flowgate,
        "assign this helper, such as ftp; the kernel assigns helpers to new flows only"),
    option!(OriginalSequence, None, ["orig-seqadj"], Required, "pos:before:after", ".oo...........", Flowgate,
        "TCP sequence adjustment of the original direction, as made by a NAT helper"),
    option!(ReplySequence, None, ["reply-seqadj"], Required, "pos:before:after", ".oo...........", Flowgate,
        "TCP sequence adjustment of the reply direction"),
    option!(OriginalTcpFlags, None, ["orig-tcp-flags"], Required, "flags[/mask]", ".oo...........", Flowgate,
        "the kernel's TCP flags (IP_CT_TCP_FLAG_*) of the original direction, instead of 0x0a/0x0a"),
    option!(ReplyTcpFlags, None, ["reply-tcp-flags"], Required, "flags[/mask]", ".oo...........", Flowgate,
        "the kernel's TCP flags of the reply direction"),
    option!(OriginalWindowScale, None, ["orig-wscale"], Required, "bits", ".oo...........", Flowgate,
        "TCP window scale of the original direction; used if both directions have one and flag 0x01"),
    option!(ReplyWindowScale, None, ["reply-wscale"], Required, "bits", ".oo...........", Flowgate,
        "TCP window scale of the reply direction"),
    option!(Synproxy, None, ["synproxy"], Required, "isn:its:tsoff", ".oo...........", Flowgate,
        "state of the SYN proxy"),
    option!(Master, None, ["master"], Required, "proto,src,dst[,port,port]", ".o............", Flowgate,
        "the flow that this one was expected by, which must exist; sets the status EXPECTED"),
    option!(KeepGoing, None, ["keep-going"], None, "", "..............", Flowgate,
        "after the file of -R: skip lines that cannot be parsed; the status is then 1"),
    option!(SetZone, None, ["set-zone"], Required, "zone", "..............", Flowgate,
        "after the file of -R: apply every line to this zone, whatever zone it names"),
    option!(Where, None, ["where"], Required, "expression", "o.ooo.o.......", Flowgate, Compares,
        "flows that satisfy this condition: 'dport in {80, 8000..8999} and bytes > 1M' (flowgate(1), QUERIES)"),
    option!(Columns, None, ["columns"], Required, "name[,...]", "o.ooo.o.......", Flowgate,
        "columns of -o table (which it implies), csv and tsv: src, dport, bytes, annotations.KEY, any field of -o json"),
    option!(NoHeader, None, ["no-header"], None, "", "o.ooo.o.oo..oo", Flowgate,
        "no headings with -o table (which it implies), csv and tsv"),
    option!(Color, None, ["color"], Required, "when", "o.ooo.o.oo..oo", Flowgate,
        "colour tables: auto (the default: on a terminal, unless NO_COLOR is set), always or never"),
    option!(ConfirmAbove, None, ["confirm-above"], Required, "number", "..oo..........", Flowgate,
        "ask before more flows than this are deleted or changed; without a terminal to ask on, do nothing and fail"),
    option!(By, None, ["by"], Required, "key[,...]", "o.....o.......", Flowgate,
        "show groups of flows in place of flows, by these keys: proto,dport, src/24 or src/24/64 (flowgate(1), QUERIES)"),
    option!(CountFlows, None, ["count"], None, "", "o.....o.......", Flowgate,
        "of each group, the number of flows; the default"),
    option!(Sum, None, ["sum"], Required, "expression[,...]", "o.....o.......", Flowgate,
        "of each group, sums: bytes,packets"),
    option!(Min, None, ["min"], Required, "expression[,...]", "o.....o.......", Flowgate,
        "of each group, smallest values"),
    option!(Max, None, ["max"], Required, "expression[,...]", "o.....o.......", Flowgate,
        "of each group, largest values"),
    option!(Avg, None, ["avg"], Required, "expression[,...]", "o.....o.......", Flowgate,
        "of each group, means"),
    option!(Distinct, None, ["distinct"], Required, "expression[,...]", "o.....o.......", Flowgate,
        "of each group, numbers of distinct values: dst,dport"),
    option!(Sort, None, ["sort"], Required, "[-|+]column[,...]", "o.....o.......", Flowgate,
        "order of groups; measures descend and keys ascend unless - or + says otherwise"),
    option!(Top, None, ["top"], Required, "number", "o.....o.......", Flowgate,
        "show at most so many groups"),
    option!(Every, None, ["every"], Required, "time", "......o.......", Flowgate,
        "show groups every so often, with rates: 10s"),
    option!(MaxGroups, None, ["max-groups"], Required, "number", "o.....o.......", Flowgate,
        "keep at most so many groups, 1000000 if not given; one more is an error"),
    option!(Approximate, None, ["approximate"], None, "", "o.....o.......", Flowgate,
        "beyond --max-groups, find the groups with the largest count or sum, each with its error"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_table_is_that_of_the_keys() {
        for (index, spec) in OPTIONS.iter().enumerate() {
            assert_eq!(spec.key as usize, index, "{}", spec.name());
            assert_eq!(spec.legality.len(), 14, "{}", spec.name());
            assert!(!spec.help.is_empty());
        }
    }

    #[test]
    fn letters_and_names_are_unique() {
        let letters: Vec<u8> =
            OPTIONS.iter().filter_map(|spec| spec.short).chain(COMMANDS.iter().map(|spec| spec.short)).collect();
        let names: Vec<&str> = OPTIONS
            .iter()
            .flat_map(|spec| spec.long.iter().copied())
            .chain(COMMANDS.iter().map(|spec| spec.long))
            .collect();
        for (index, letter) in letters.iter().enumerate() {
            assert!(!letters.iter().skip(index + 1).any(|other| other == letter), "{letter}");
        }
        for (index, name) in names.iter().enumerate() {
            assert!(!names.iter().skip(index + 1).any(|other| other == name), "{name}");
        }
    }

    #[test]
    fn commands_have_their_columns() {
        let mark = OPTIONS.iter().find(|spec| spec.key == OptionKey::Mark).expect("an option");
        assert_eq!(legality(mark, Some((Command::List, Table::Dying))), b'o');
        assert_eq!(legality(mark, Some((Command::List, Table::Expect))), b'.');
        assert_eq!(legality(mark, Some((Command::Get, Table::Conntrack))), b'.');
        assert_eq!(legality(mark, None), b'.');
    }
}
