//! The table of all sections and keys of a pipeline file. A key that is not in it does not exist.

use flowgate_model::Table;
use flowgate_pipeline::sink::syslog::{FACILITIES, SEVERITIES};

/// Type of the value of a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// The path of a file, relative to the pipeline file.
    Path,
    /// `true` or `false`.
    Switch,
    /// A whole number from the first to the second.
    Count(u64, u64),
    /// A size with its unit.
    Size,
    /// A time with its unit.
    Time,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of some of these words.
    Some(&'static [&'static str]),
    /// A list of words, or one text with commas.
    Words,
    /// A table of names and their values: texts, whole numbers or switches.
    Values,
    /// A list of texts or whole numbers, or one of them.
    Items,
    /// A table of these keys.
    Table(&'static [Key]),
    /// Several tables of these keys, written `[[section.name]]`.
    Tables(&'static [Key]),
}

/// A key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Type of its value.
    pub kind: Kind,
    /// Kinds of the section that have it; empty for all.
    pub only: &'static [&'static str],
    /// Default, for people; empty if there is nothing to say.
    pub default: &'static str,
    /// Purpose, as help.
    pub help: &'static str,
}

/// A section of a file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// True if there may be several, written `[[name]]`.
    pub several: bool,
    /// Purpose, as help.
    pub help: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// Returns a key without a default that all kinds of its section have.
#[must_use]
pub const fn key(name: &'static str, kind: Kind, help: &'static str) -> Key {
    Key { name, kind, only: &[], default: "", help }
}

impl Key {
    /// Limits the key to these kinds of its section.
    #[must_use]
    pub const fn only(self, only: &'static [&'static str]) -> Key {
        Key { only, ..self }
    }

    /// Sets the default.
    #[must_use]
    pub const fn default(self, default: &'static str) -> Key {
        Key { default, ..self }
    }
}

/// Kinds of sources.
pub const SOURCES: [&str; 3] = ["dump", "events", "recording"];
/// Kinds of events.
pub const EVENTS: [&str; 3] = ["new", "update", "destroy"];
/// Stock stages.
pub const STOCK: [&str; 4] = ["match", "delete", "update", "create"];
/// Stock formats; `none` shows nothing.
pub const FORMATS: [&str; 8] = ["text", "xml", "save", "json", "table", "csv", "tsv", "none"];
/// Stock formats with columns.
const COLUMNED: &[&str] = &["table", "csv", "tsv"];
/// Additional fields that formats show.
pub const SHOWS: [&str; 5] = ["extended", "id", "timestamp", "ktimestamp", "labels"];
/// Kinds of sinks.
pub const SINKS: [&str; 6] = ["stdout", "file", "unix", "tcp", "syslog", "nats"];
/// Reactions to a failed plugin.
pub const ON_ERROR: [&str; 3] = ["skip", "drop", "stop"];
/// Reactions to a full buffer.
pub const WHEN_FULL: [&str; 2] = ["drop", "wait"];

const fn names<const N: usize>(table: &[(&'static str, u8); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut index = 0;
    while index < N {
        names[index] = table[index].0;
        index += 1;
    }
    names
}
const FACILITY_NAMES: [&str; FACILITIES.len()] = names(&FACILITIES);
const SEVERITY_NAMES: [&str; SEVERITIES.len()] = names(&SEVERITIES);

const PLUGIN: &[&str] = &["plugin"];
const BUFFERED: &[&str] = &["unix", "tcp", "syslog"];
const WAITED_FOR: &[&str] = &["unix", "tcp", "syslog", "nats"];
const ROTATED: &[&str] = &["file"];
const NATS: &[&str] = &["nats"];

/// Keys of an aggregation.
pub const AGGREGATE: [Key; 12] = [
    key("by", Kind::Text, "keys: `proto,dport`, `src/24`; without any, all flows are one group"),
    key("count", Kind::Switch, "the number of flows of each group").default("true without other measures"),
    key("sum", Kind::Text, "sums: `bytes,packets`"),
    key("min", Kind::Text, "smallest values"),
    key("max", Kind::Text, "largest values"),
    key("avg", Kind::Text, "means"),
    key("distinct", Kind::Text, "numbers of distinct values: `dst,dport`"),
    key(
        "sort",
        Kind::Text,
        "order: `-sum(bytes),src`; measures descend and keys ascend unless `-` or `+` says otherwise",
    )
    .default("the first measure"),
    key("top", Kind::Count(1, u32::MAX as u64), "number of groups that are shown at most").default("all"),
    key("every", Kind::Time, "length of a window of events, with rates; at least 100ms")
        .default("one result at the end"),
    key("max-groups", Kind::Count(1, u32::MAX as u64), "number of groups that are kept at most; one more is an error")
        .default("1000000"),
    key("approximate", Kind::Switch, "beyond `max-groups`, find those with the largest count or sum").default("false"),
];

/// Keys of a metric.
pub const METRIC: [Key; 6] = [
    key("name", Kind::Text, "name: `flowgate_flow_NAME_total` is exported; small letters, digits and underscores"),
    key("help", Kind::Text, "what the metric counts, for people"),
    key("by", Kind::Text, "keys, which become labels: `proto,dport`, `src/24`; without any there is one series"),
    key("count", Kind::Switch, "the number of flows").default("true without `sum`"),
    key("sum", Kind::Text, "the sum of an expression in place of the number of flows: `bytes`"),
    key("max-series", Kind::Count(1, 100_000), "beyond so many series, flows of other groups are added to one")
        .default("1000"),
];

/// Keys of `limits`.
pub const LIMITS: [Key; 10] = [
    key("memory", Kind::Size, "linear memory of one instance").default("64MiB"),
    key("call", Kind::Time, "time of one call: CPU time of its thread, kept to about 10 ms").default("1s"),
    key("start-up", Kind::Time, "CPU time of all calls until the plugin is configured").default("10s"),
    key("output", Kind::Size, "bytes that one call may return").default("32MiB"),
    key("actions", Kind::Count(0, 1 << 24), "actions that one call may request").default("65536"),
    key("state", Kind::Size, "bytes of state that the plugin may keep with the grant `state`").default("1MiB"),
    key("restarts", Kind::Count(1, 1000), "number of failures within `window` after which the plugin is quarantined")
        .default("5"),
    key("window", Kind::Time, "see `restarts`").default("60s"),
    key("compile-memory", Kind::Size, "memory of the process that compiles the plugin").default("1GiB"),
    key("compile-time", Kind::Time, "CPU time of that process, in whole seconds").default("60s"),
];

const SOURCE: [Key; 12] = [
    key(
        "kind",
        Kind::OneOf(&SOURCES),
        "`dump`: the table, once; `events`: its changes, until a signal; `recording`: a file",
    ),
    key("table", Kind::OneOf(&Table::NAMES), "the table; only `conntrack` and `expect` have events")
        .only(&["dump", "events"])
        .default(Table::Conntrack.name()),
    key("select", Kind::Text, "which entries, in the options of conntrack(8): `-p tcp --dport 443 -s 10.0.0.0/8`")
        .default("all"),
    key(
        "where",
        Kind::Text,
        "which flows, as a condition of `--where` (docs/QUERY.md): `dport in {80, 443} and bytes > 1M`",
    )
    .default("all"),
    key("events", Kind::Some(&EVENTS), "which events of flows").only(&["events", "recording"]).default("all"),
    key("buffer", Kind::Size, "receive buffer of the socket").only(&["events"]).default("8MiB"),
    key("buffer-max", Kind::Size, "size up to which the receive buffer may grow under pressure")
        .only(&["events"])
        .default("128MiB"),
    key("reliable", Kind::Switch, "the kernel keeps entries until their end has been delivered")
        .only(&["events"])
        .default("false"),
    key("resync", Kind::Switch, "after lost events, compare with the table and make up for them")
        .only(&["events"])
        .default("true for flows"),
    key("netns", Kind::Text, "the network namespace to work in: a name, a process ID, or a path")
        .only(&["dump", "events"])
        .default("that of the process"),
    key("file", Kind::Path, "the recording, as `flowgate record` makes it").only(&["recording"]),
    key("speed", Kind::Text, "speed of the replay: `max`, `real`, or a multiple of the speed at which it was recorded")
        .only(&["recording"])
        .default("max"),
];

const STAGE: [Key; 12] = [
    key("plugin", Kind::Path, "the component; one of `plugin` and `stock` must be given"),
    key("stock", Kind::OneOf(&STOCK), "a stock stage; those that act need no grant, and pass on what they acted on"),
    key("name", Kind::Text, "its name in messages").default("the file").only(PLUGIN),
    key("options", Kind::Values, "its options, as `flowgate run FILE --explain` lists them"),
    key("options-file", Kind::Values, "options whose values are the content of files: `{ networks = \"deny.txt\" }`"),
    key("grants", Kind::Words, "what it may do: `[\"delete\", \"update.mark=0xff00\", \"log\"]`")
        .only(PLUGIN)
        .default("nothing"),
    key("on-error", Kind::OneOf(&ON_ERROR), "when it fails: continue without it, drop the entries, or end the run")
        .only(PLUGIN)
        .default("stop"),
    key("limits", Kind::Table(&LIMITS), "its limits").only(PLUGIN),
    key("state", Kind::Path, "the file in which its state is kept: the grant `state=FILE`").only(PLUGIN),
    key("select", Kind::Text, "which flows pass, in the options of conntrack(8); `match` has this, `where`, or both")
        .only(&["match"]),
    key("where", Kind::Text, "which flows pass, as a condition of `--where`").only(&["match"]),
    key("set", Kind::Text, "the values to set, as options of conntrack(8): `--mark 5 --timeout 60`").only(&["update"]),
];

/// Keys of a format.
pub const FORMAT: [Key; 9] = [
    key("kind", Kind::OneOf(&FORMATS), "a stock format; `none` shows nothing").default("text"),
    key("plugin", Kind::Path, "a component instead"),
    key("show", Kind::Some(&SHOWS), "additional fields, as with `conntrack -o`")
        .only(&["text", "xml", "json", "table"]),
    key("columns", Kind::Words, "columns of flows: `[\"src\", \"dport\", \"bytes\"]`").only(COLUMNED),
    key("header", Kind::Switch, "print headings").only(COLUMNED).default("true"),
    key("options", Kind::Values, "its options").only(PLUGIN),
    key("options-file", Kind::Values, "options whose values are the content of files").only(PLUGIN),
    key("limits", Kind::Table(&LIMITS), "its limits; `actions`, `state`, `restarts` and `window` have no effect here")
        .only(PLUGIN),
    key("batch", Kind::Count(1, 65_536), "maximum number of entries that plugins get at once").default("1024"),
];

/// Keys of a sink.
pub const SINK: [Key; 30] = [
    key("kind", Kind::OneOf(&SINKS), "the kind of sink"),
    key("path", Kind::Path, "the file, or the socket").only(&["file", "unix"]),
    key("append", Kind::Switch, "append to an existing file; a last line that was cut off is ended first")
        .only(ROTATED)
        .default("true"),
    key("rotate-size", Kind::Size, "rotate the file before it is longer than this").only(ROTATED).default("never"),
    key(
        "rotate-time",
        Kind::Time,
        "rotate the file at the first line after a multiple of this time in UTC: `1d` is midnight",
    )
    .only(ROTATED)
    .default("never"),
    key("keep", Kind::Count(1, 9999), "number of rotated files that are kept; FILE.1 is the newest")
        .only(ROTATED)
        .default("7"),
    key("keep-time", Kind::Time, "remove rotated files whose last line is older than this")
        .only(ROTATED)
        .default("never"),
    key("compress", Kind::Switch, "compress rotated files: FILE.1.gz").only(ROTATED).default("false"),
    key(
        "address",
        Kind::Text,
        "for tcp `HOST:PORT`; for syslog a socket's path, `udp://HOST[:514]`, or `tcp://HOST[:601]`",
    )
    .only(&["tcp", "syslog"])
    .default("for syslog /dev/log"),
    key("facility", Kind::OneOf(&FACILITY_NAMES), "the facility").only(&["syslog"]).default("daemon"),
    key("severity", Kind::OneOf(&SEVERITY_NAMES), "the severity").only(&["syslog"]).default("info"),
    key("app-name", Kind::Text, "APP-NAME: at most 48 printable characters of ASCII")
        .only(&["syslog"])
        .default("flowgate"),
    key("max-message", Kind::Size, "longer messages are cut; with udp at most 65000B")
        .only(&["syslog"])
        .default("2KiB"),
    key("server", Kind::Words, "the servers of NATS, as `HOST` or `HOST:PORT`, of which one is enough")
        .only(NATS)
        .default("of `agent`; port 4222"),
    key("agent", Kind::Path, "the file of this host's agent (docs/FLEET.md), for `server`, `ca`, `key` and `subject`")
        .only(NATS),
    key("tls", Kind::Switch, "encrypt the connection").only(NATS).default("true"),
    key("ca", Kind::Path, "the certificate that the server's is signed with").only(NATS).default("those of the system"),
    key("key", Kind::Path, "the file with the nkey to connect with, which only its owner can read").only(NATS),
    key("subject", Kind::Text, "the subject of all messages")
        .only(NATS)
        .default("with `agent`: `fg.1.events.KEY.NAME`, of the directory's name"),
    key("stream", Kind::Text, "the stream of JetStream that takes the subject").only(NATS),
    key("create-stream", Kind::Switch, "create the stream if it does not exist").only(NATS).default("false"),
    key("id", Kind::Text, "who sends, in the ids of messages: 1 to 64 letters, digits, `-` and `_`")
        .only(NATS)
        .default("the public key, or the name of the host"),
    key("spool", Kind::Path, "the directory in which batches are until they are acknowledged; created if need be")
        .only(NATS),
    key("spool-size", Kind::Size, "what the spool takes on disk at most; at least 1MiB").only(NATS).default("256MiB"),
    key("batch", Kind::Size, "size of a batch, which is one message: 4KiB to 512KiB").only(NATS).default("256KiB"),
    key("batch-time", Kind::Time, "how long a line waits for others; at least 10ms").only(NATS).default("1s"),
    key("buffer", Kind::Size, "size of the buffer for a peer that is slow or unreachable")
        .only(BUFFERED)
        .default("1MiB"),
    key(
        "when-full",
        Kind::OneOf(&WHEN_FULL),
        "when the buffer, or spool, is full: drop whole lines, which are counted, or hold up the pipeline",
    )
    .only(WAITED_FOR)
    .default("drop for events, wait for dumps"),
    key("linger", Kind::Time, "how long to wait at the end for a peer that does not accept data")
        .only(WAITED_FOR)
        .default("5s"),
    key("optional", Kind::Switch, "undelivered lines do not affect the exit status").only(BUFFERED).default("false"),
];

/// All sections.
pub const SECTIONS: [Section; 6] = [
    Section { name: "source", several: false, help: "where entries come from", keys: &SOURCE },
    Section { name: "stage", several: true, help: "a plugin that processes the entries, in this order", keys: &STAGE },
    Section {
        name: "aggregate",
        several: false,
        help: "groups of flows that are shown in place of the flows, as with the options `--by`, `--sum` and the like",
        keys: &AGGREGATE,
    },
    Section {
        name: "metric",
        several: true,
        help: "a number of flows, or a sum, which is counted from the start on and exported to Prometheus",
        keys: &METRIC,
    },
    Section { name: "format", several: false, help: "how entries are formatted", keys: &FORMAT },
    Section {
        name: "sink",
        several: true,
        help: "where the output goes; several sinks get the same, the default is standard output",
        keys: &SINK,
    },
];
