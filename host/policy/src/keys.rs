//! The table of all sections and keys of a policy file. A key that is not in it does not exist.

use flowgate_config::keys::{FORMAT, Key, Kind, LIMITS, ON_ERROR, SINK, Section, key};

/// Families that a rule may name.
pub const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];
/// Rights of tenants to translated flows.
pub const TRANSLATED: [&str; 2] = ["see", "act"];

const SERVICE: [Key; 7] = [
    key("socket", Kind::Path, "the control socket, created with mode 0600").default("/run/flowgate/policy.sock"),
    key("buffer", Kind::Size, "receive buffer of the event socket").default("8MiB"),
    key("drain", Kind::Time, "maximum time that SIGTERM and a reload wait for tenants to process their queues").default("2s"),
    key("reload-on-change", Kind::Switch, "reload the file when it changes, as on SIGHUP").default("true"),
    key(
        "table-share",
        Kind::Count(0, 100),
        "maximum of existing entries that all tenants of a network namespace have created, in percent of its nf_conntrack_max",
    )
    .default("25"),
    key(
        "cache",
        Kind::Path,
        "the directory of compiled code, writable only by the service; $CACHE_DIRECTORY by default, or none",
    ),
    key(
        "worker-uids",
        Kind::Text,
        "users, by number, that nothing else has: each process that runs or compiles plugins gets one of its own, and the group of its number; \"none\" for the user of the service. It takes root, who has 524288-525287 by default",
    ),
];

const AUDIT: [Key; 8] = [
    key("path", Kind::Path, "the file to which every action is written, one JSON object per line")
        .default("/var/log/flowgate/audit.jsonl"),
    key("rotate-size", Kind::Size, "rotate the file before it is longer than this").default("64MiB"),
    key("rotate-time", Kind::Time, "rotate the file at the first line after a multiple of this time in UTC")
        .default("never"),
    key("keep", Kind::Count(1, 9999), "number of rotated files that are kept").default("9"),
    key("keep-time", Kind::Time, "remove rotated files whose last line is older than this")
        .default("never"),
    key("compress", Kind::Switch, "compress rotated files").default("false"),
    key(
        "history",
        Kind::Time,
        "within this time each tenant may write only its share of all files, so that no tenant displaces the records of others",
    )
    .default("1h"),
    key(
        "reserve",
        Kind::Size,
        "space that files of tenants leave free on the file system of the audit; lines beyond it are dropped and counted",
    )
    .default("64MiB"),
];

const SCOPE: [Key; 15] = [
    key("everything", Kind::Switch, "the rule has no criteria: every flow of the network namespace is in the scope")
        .default("false"),
    key("family", Kind::OneOf(&FAMILIES), "address family"),
    key("protocols", Kind::Items, "layer-4 protocols, by name or number: [\"tcp\", \"udp\", 47]"),
    key("zones", Kind::Items, "zones, of both directions: [0, \"10-20\"]; a flow without zone is in zone 0"),
    key("original-zones", Kind::Items, "zone of the original direction"),
    key("reply-zones", Kind::Items, "zone of the reply direction"),
    key("source", Kind::Items, "networks of the original source: [\"10.1.0.0/16\", \"2001:db8:1::/48\"]"),
    key("destination", Kind::Items, "networks of the original destination"),
    key("reply-source", Kind::Items, "networks of the source of the reply direction, where replies come from"),
    key("reply-destination", Kind::Items, "networks of the destination of the reply direction, where replies go to"),
    key("source-ports", Kind::Items, "ports of the original source, of protocols that have ports"),
    key("ports", Kind::Items, "ports of the original destination: [53, \"8000-8099\"]"),
    key("marks", Kind::Items, "connection marks under masks: [\"0x10/0xf0\"]; a flow without mark has mark 0"),
    key(
        "translated",
        Kind::OneOf(&TRANSLATED),
        "flows whose address at one end is translated to one that this rule does not cover: `see` them only, or `act` on them, too",
    )
    .default("see"),
    key("comment", Kind::Text, "a comment, which is not interpreted"),
];

const PLUGIN: [Key; 9] = [
    key("file", Kind::Path, "the component"),
    key("sha256", Kind::Text, "SHA-256 of the file, 64 hexadecimal digits; a file with another digest is not loaded"),
    key("name", Kind::Text, "its name in messages and in the audit").default("the file"),
    key("options", Kind::Values, "its options"),
    key("options-file", Kind::Values, "options whose values are the content of files"),
    key(
        "grants",
        Kind::Words,
        "what it may do, within the tenant's bounds: [\"delete\", \"update.mark=0xff00\", \"update.labels=web|mail\", \"create\", \"create.established\", \"log\"]",
    )
    .default("annotate"),
    key("on-error", Kind::OneOf(&ON_ERROR), "when it fails: continue without it, drop the flows, or end the tenant")
        .default("drop"),
    key("limits", Kind::Table(&LIMITS), "its limits"),
    key("state", Kind::Path, "the file in which its state is kept: the grant `state=FILE`"),
];

const SHARE: [Key; 6] = [
    key("actions-per-second", Kind::Count(0, 1 << 24), "actions per second; more are refused").default("100"),
    key("actions-in-flight", Kind::Count(0, 1 << 24), "actions per call; more are refused").default("256"),
    key("entries", Kind::Count(0, 1 << 32), "existing entries that it has created; more are refused").default("1000"),
    key(
        "time-per-second",
        Kind::Time,
        "CPU time of its plugins per second; events that arrive when it is used up are lost, as in a gap",
    )
    .default("500ms"),
    key("output-per-second", Kind::Size, "bytes written per second; whole lines beyond it are dropped and counted")
        .default("1MiB"),
    key(
        "queue",
        Kind::Size,
        "bytes of events that wait for it; events that do not fit are a gap, which a resync makes up for",
    )
    .default("4MiB"),
];

const TENANT: [Key; 11] = [
    key("name", Kind::Text, "letters, digits, `-`, `_` and `.`, at most 64"),
    key("namespace", Kind::Text, "the network namespace of its flows, by name as in `ip netns`")
        .default("that of flowgate"),
    key(
        "required",
        Kind::Switch,
        "the service starts or reloads only if this tenant starts; a tenant that is not required is left out if it does not start",
    )
    .default("false"),
    key("scope", Kind::Tables(&SCOPE), "a rule for the flows that it owns; one of several must match"),
    key("plugin", Kind::Tables(&PLUGIN), "a plugin that processes its flows; several run in this order"),
    key("mark-mask", Kind::Text, "the bits of marks that it owns: \"0xff00\"").default("none"),
    key("timeouts", Kind::Text, "timeouts that it may set: \"1..3600\" or \"1s..1h\"").default("1..3600"),
    key("labels", Kind::Items, "labels that it owns, by name or number").default("none"),
    key("limits", Kind::Table(&SHARE), "its share of the machine"),
    key("format", Kind::Table(&FORMAT), "how its flows are formatted"),
    key("sink", Kind::Tables(&SINK), "where the output goes; without a sink there is none"),
];

/// All sections.
pub const SECTIONS: [Section; 3] = [
    Section { name: "service", several: false, help: "the service as a whole", keys: &SERVICE },
    Section { name: "audit", several: false, help: "the record of all actions", keys: &AUDIT },
    Section { name: "tenant", several: true, help: "a user with its own flows and plugins", keys: &TENANT },
];
