//! Texts of the manual page that are not in the tables of the parser.

use flowgate_syntax::options::OptionKey;

pub(super) const SYNOPSIS: [&str; 6] = [
    "*flowgate* *-L* [<table>] [<options>] [*--plugin* <file>[*,*<name>*=*<value>...]]...",
    "*flowgate* {*-G*|*-D*|*-I*|*-A*|*-U*|*-E*} [<table>] <options>",
    "*flowgate* {*-F*|*-C*|*-S*} [<table>]",
    "*flowgate* *-R* <file>",
    "*flowgate* {*-h* [*-p* <proto>]|*-V*}",
    "*flowgate* {*list*|*watch*|*get*|*delete*|*create*|*add*|*update*|*flush*|*count*|*stats*|*load*} ...",
];

pub(super) const DESCRIPTION: [&str; 6] = [
    "*flowgate* lists, watches and changes the connection tracking table of the Linux kernel. What the kernel sends \
     passes through WebAssembly components, which filter, change, annotate and print it:",
    "The stock components print what *conntrack*(8) prints, byte for byte. *flowgate* accepts the command line of \
     *conntrack* and has its output, messages and exit statuses, so that it can replace it. Invoked as *conntrack* it \
     accepts exactly the classic command line, and its messages begin with the banner of conntrack-tools; under any \
     other name it also has the options under *Of flowgate alone*, *-o json* and subcommands, and its messages begin with *flowgate:*.",
    "To replace *conntrack*, make a link of that name: *ln -s /usr/bin/flowgate /usr/local/sbin/conntrack*. What \
     wrappers add to a name, a leading dot and a trailing *-wrapped*, is ignored. The environment variable \
     *FLOWGATE_AS* overrides the name, for example where it is /proc/self/fd/4.",
    "Under every name, nothing is deleted, changed, created or set to zero that was not named. A command that does so \
     refuses, with status 2, words that belong to no option, invalid numbers and such as are out of range, a range or \
     list instead of one value, empty prefixes, and values attached to options that take none. Under its own name \
     flowgate is equally strict with commands that only list, and *-D* without a selecting option requires *--all*.",
    "The commands need the capability CAP_NET_ADMIN, and act on the network namespace that they run in, or on that of \
     *--netns*. Packets and bytes are counted if the sysctl net.netfilter.nf_conntrack_acct is 1; start and stop \
     times are kept if net.netfilter.nf_conntrack_timestamp is 1.",
    "Options may stand in any order, except that those of a protocol come after *-p*. Long names can be abbreviated \
     as long as they are unambiguous; those of flowgate alone cannot.",
];

pub(super) const PIPELINE: &str = "kernel  ->  stages  ->  executor  ->  format  ->  output
            (wasm)      (host)       (wasm)";

pub(super) const TABLES: [(&str, &str); 4] = [
    ("conntrack", "The flows that are tracked. This is the default."),
    (
        "expect",
        "The flows that helpers expect, such as the data connections of FTP. The family is IPv4 unless *-f* *ipv6* or \
         an address says otherwise.",
    ),
    ("dying", "Flows that have ended and are about to be removed. *-L* only."),
    ("unconfirmed", "Flows whose first packet is still on its way through the machine. *-L* only."),
];

/// Details that do not fit into a line of help.
pub(super) const DETAILS: [(OptionKey, &str); 31] = [
    (OptionKey::Source, "IPv4 addresses may be abbreviated as in inet_aton(3). A prefix length selects a network."),
    (
        OptionKey::Protocol,
        "A name of those under PROTOCOL OPTIONS in any case, a name of /etc/protocols, or a number from 0 to 255.",
    ),
    (OptionKey::Timeout, "For a new flow, *0* makes it end at once."),
    (
        OptionKey::Status,
        "With *-L* and *-D*, flows must have the named bits; *!*<NAME> means that they must not have it. With \
                   *-I*, *-A* and *-U* it is set. Names may be abbreviated, in any case; UNREPLIED must be written out. \
                   The names:",
    ),
    (OptionKey::EventMask, "Without it all events are shown. The option may be repeated."),
    (
        OptionKey::Mark,
        "With *-L*, *-D* and *-E*, matches flows whose mark is equal under the mask; a mark with bits outside the \
         mask matches nothing. With *-U*, the bits of \
                 the mask are replaced: the new mark is (old AND NOT mask) XOR mark. The default mask is all ones. \
                 Numbers are decimal, octal with a leading 0, or hexadecimal with 0x.",
    ),
    (
        OptionKey::SourceNat,
        "Without a value, every flow whose source is translated. Address and port are those that the source is \
         translated to. An IPv6 address with a port is in brackets. The value is taken from the next word only.",
    ),
    (
        OptionKey::DestinationNat,
        "Without a value, every flow whose destination is translated. Address and port are those that the destination \
         is translated to. The value is taken from the next word only.",
    ),
    (
        OptionKey::AnyNat,
        "Without a value, every flow that is translated. Not together \
        with *-n* or *-g*. The value is taken from the next \
         word only.",
    ),
    (
        OptionKey::Output,
        "How to show entries: *xml*, *extended*, *timestamp*, *id*, *ktimestamp*, *labels*, *userspace*, *save*, \
                   *json*, *complete*, *table*, *csv*, *tsv*; see OUTPUT. Words may be abbreviated, in any case; those \
                   from *json* on must be written out.",
    ),
    (
        OptionKey::Columns,
        "A column is a field of flows, by its place in the JSON output (*original.source_port*) or a short name: *src*, \
         *dst*, *sport*, *dport*, *proto*, *snat*, *dnat*; an annotation of a component (*annotations.*<KEY>); or one \
         that joins several fields: *from*, *to*, *reply.from*, *reply.to*, *nat*, *state_or_status*, *zones*, \
         *annotations*, *namespace*.",
    ),
    (OptionKey::Color, "Applies to *-o* *table*. The variable NO_COLOR is that of https://no-color.org."),
    (
        OptionKey::BufferSize,
        "A larger buffer absorbs longer bursts of events. Each event takes 1,280 bytes of it, and the kernel doubles \
         the given size. The default is 8,388,608 bytes; it grows, see *--buffer-max*. Invoked as *conntrack*, a \
         buffer that is set by this option does not grow.",
    ),
    (OptionKey::Zone, "From 0 to 65535; flows without zone are in zone 0."),
    (OptionKey::Label, "Labels are names of the label map."),
    (OptionKey::LabelDelete, "The value is taken from the next word only."),
    (
        OptionKey::Plugin,
        "See PLUGINS. Several run in the order given. Options of the component follow its file: *x.wasm,bytes=1000*; \
         each once. Put a backslash before a comma, a double quote or a backslash in them, or put the part in double \
         quotes. A value \
         *@*<FILE> is the content of a file, *@@* is one *@*.",
    ),
    (OptionKey::Batch, "From 1 to 65536."),
    (
        OptionKey::Grant,
        "Without a grant, a component changes only what is shown; its actions are refused and \
         counted. The grants are \
         *delete*, *create*, *update*, or one field of it such as *update.mark=0xff00*, and the services *log*, \
         *state*[*=*<FILE>], *time*, *tick* and *look-back*.",
    ),
    (
        OptionKey::OnError,
        "A component fails if it traps, takes too long, or returns invalid results. With *skip* and *drop* it is \
         restarted after growing pauses, and quarantined if it keeps failing.",
    ),
    (
        OptionKey::DryRun,
        "The actions of the command and of its components are printed as command lines, and none is performed. Not \
        together with *-z* or *-F*, for which nothing could be printed.",
    ),
    (
        OptionKey::Stats,
        "For each component: batches and flows that it saw, kept and changed, its time, its failures, and the actions that it \
         asked for. As JSON with *-o json*.",
    ),
    (
        OptionKey::Metrics,
        "As long as the command runs. An address without a host listens on all addresses; *unix:* is followed by the \
         path of a socket.",
    ),
    (OptionKey::AllNetns, "Every event is shown with the id of its namespace, or its name if *ip netns* knows one."),
    (
        OptionKey::Explain,
        "Shows the requests, what the kernel filters and what is left to the stage *match*, the components with their \
        options and grants, and the format. Nothing is sent to the kernel. After the file of *-R* it applies to all \
        lines.",
    ),
    (
        OptionKey::Quiet,
        "Standard error stays empty. Where the kernel's filter means exactly what the options mean, Linux 6.12 and \
         later delete by themselves, without a listing; they report neither what nor how many.",
    ),
    (
        OptionKey::All,
        "Without a selecting option, *-D* would delete every flow, which is rarely what a line such as *-D -o ext* is \
         meant to do. Not required with *--dry-run* and \
         *--explain*. *-F* empties the table at once, without a listing.",
    ),
    (
        OptionKey::ConfirmAbove,
        "The flows are counted first, as with *--dry-run*; components run once more for that. Any answer but *y* does \
         nothing and ends with status 1, and so does a command whose standard input or standard error is no terminal. \
         Without the option nothing is asked.",
    ),
    (
        OptionKey::BufferMax,
        "The buffer is doubled when it is half full, and when it has overflowed. Beyond the sysctl net.core.rmem_max it \
         grows only with CAP_NET_ADMIN in the initial user namespace.",
    ),
    (
        OptionKey::Reliable,
        "The kernel keeps a flow that has ended in the table *dying* until its DESTROY event has been delivered, \
         retrying after a second and later; NEW and UPDATE events that could not be delivered come with the flow's \
         next event. A listener that stops reading fills the table up to net.netfilter.nf_conntrack_max, and new flows are refused.",
    ),
    (
        OptionKey::Resync,
        "After a gap the table is listed and compared with the events so far. What was missed is reported by events \
         that end with [SYNTHETIC] (in JSON: *\"synthetic\": true*). Needs 93 to 185 bytes of memory per flow of the \
         table.",
    ),
];

pub(super) const OUTPUT: [&str; 3] = [
    "Without *-o*, each entry is a line of text. Entries are written to standard output, everything else (errors, the \
     number of entries) to standard error. The words of *-o* can be combined, except that *save* goes only with \
     *userspace* and *complete*, and that of *xml*, *save*, *json*, *table*, *csv* and *tsv* there can be one:",
    "JSON output is one object (RFC 8259) per entry, one object a line. A member is present if and only if the kernel \
     supplied the field; numbers with a name have it beside them (*protocol*, \
     *protocol_name*); times are nanoseconds \
     since 1970 (UTC). The members are listed in docs/JSON.md of the source.",
    "A table has a column for each field of which any flow has a value, fitted to the width of the terminal (or of the \
     variable COLUMNS): the least important columns are left out, texts are shortened, addresses never. Sizes are in \
     powers of 1000. *csv* (RFC 4180) and *tsv* have the values of the JSON output in columns that do not depend on \
     the flows; docs/OUTPUT.md of the source lists them.",
];

pub(super) const EXIT: [(&str, &str); 3] = [
    ("0", "Success, also if a listing has no entries."),
    (
        "1",
        "Failure: refused by the kernel, stopped by a plugin, not permitted, not written; or nothing to delete, \
        update or look up was found.",
    ),
    ("2", "The command line is wrong, and nothing has been done."),
];

pub(super) const FILES: [(&str, &str); 3] = [
    (
        "/etc/xtables/connlabel.conf",
        "The label map: on each line the number of a bit from 0 to 127 and a name of letters, \
                                     digits, spaces and hyphens. Lines that begin with # are comments. *--labelmap* names \
                                     another file.",
    ),
    ("/etc/protocols", "Names of layer-4 protocols, see protocols(5)."),
    (
        "~/.cache/flowgate",
        "Compiled plugins. The directory can be deleted at any time. It is used only if nobody but root and the user \
        can write to it.",
    ),
];

pub(super) const ENVIRONMENT: [(&str, &str); 7] = [
    (
        "FLOWGATE_AS",
        "*conntrack* or *flowgate*: overrides the name by which the program is invoked. Any other value is an \
        error.",
    ),
    (
        "XDG_CACHE_HOME",
        "Where compiled plugins are kept, in the folder *flowgate* of it, if it is an absolute path; \
                        otherwise they are in ~/.cache/flowgate. A program with file capabilities ignores it.",
    ),
    ("FLOWGATE_FLEET", "The operator's file for *fleet*, instead of /etc/flowgate/fleet/operator.toml."),
    ("TZ", "The time zone in which times are shown as text."),
    ("NO_COLOR", "If not empty, tables on a terminal have no colours, unless *--color* says otherwise."),
    ("COLUMNS", "The width to which tables on a terminal are fitted."),
    ("POSIXLY_CORRECT", "If set, options end at the first word that is not an option."),
];

pub(super) const EXAMPLES: [(&str, &str); 16] = [
    ("flowgate -L", "All flows, IPv4 and IPv6."),
    ("flowgate -L -f ipv6 -o extended,id", "IPv6 flows, with the layer-3 protocol and the id."),
    ("flowgate -L -p tcp --state ESTABLISHED --dport 443", "Established TCP flows to port 443."),
    (
        "flowgate -L -s 10.0.0.0/8 -u ASSURED -o json",
        "Flows from a network that have seen enough traffic to be kept, as \
                                                      JSON.",
    ),
    ("flowgate -L -o json | jq .original.destination", "Where flows go."),
    ("flowgate -E -e NEW,DESTROY -o timestamp", "Beginnings and ends of flows, as they happen."),
    ("flowgate -D -p udp -s 192.0.2.0/24", "Delete the UDP flows of a network."),
    ("flowgate -U -s 192.0.2.1 -m 0x10/0xf0", "Set some bits of the mark of a host's flows."),
    ("flowgate -L -o save > /tmp/flows", "Save the flows."),
    ("flowgate -R /tmp/flows", "Create them again."),
    ("flowgate -C expect", "The number of expected flows."),
    (
        "flowgate -L --plugin target/wasm32-unknown-unknown/plugin/heavy_tcp.wasm,bytes=100000",
        "TCP flows to the outside with many bytes, by the example plugin of the \
        source, which is built by cargo build \
         --profile plugin --target wasm32-unknown-unknown -p heavy-tcp.",
    ),
    ("flowgate completions bash > /etc/bash_completion.d/flowgate", "Complete command lines in bash."),
    ("flowgate record trace.pcap -- -E -p tcp", "Record TCP events until a signal."),
    (
        "flowgate replay trace.pcap -- -s 192.0.2.0/24 -o json",
        "Show those of a network again, as JSON, on any machine of the same byte order and as any user.",
    ),
    ("flowgate -h -p tcp", "A summary of all options, with those of TCP."),
];

/// The section on queries, whose reference is docs/QUERY.md.
pub(super) const QUERIES: [&str; 5] = [
    "*--where* selects flows by a condition: *proto == tcp and dport in {80, 443, 8000..8999} and not src in 10.0.0.0/8 \
     and bytes > 1M and age > 10m and mark & 0x3f00 != 0*. It is combined with the other options that select flows. A \
     delete or update applies to exactly the flows that a listing with the same condition shows.",
    "Fields have the names of the JSON output, and shorter ones. A comparison with a field that a flow does not carry \
     is false, and *not* of it is true; *has*(<field>) tells. Names of protocols, services, states, status bits, \
     families, events and labels stand for numbers where the other side says of what; sizes and times have the units \
     of SIZES AND TIMES.",
    "Operations on bits bind tighter than comparisons, unlike in C. *matches* takes a regular expression, which is \
     matched in linear time.",
    "What the condition implies for families, protocols, addresses, ports, marks, statuses and zones is handed to the \
     kernel's filter, which *--explain* shows; the stock component *match* checks all of it.",
    "*--by*, *--count*, *--sum*, *--min*, *--max*, *--avg* and *--distinct* show groups of flows in place of flows: *-L \
     --by src/24,dport --sum bytes --top 20*. They take expressions of the same language, with commas between them; \
     *--every 10s* shows the groups of each window of events, with rates. At most *--max-groups* groups are kept; one \
     more is an error, or with *--approximate* the beginning of an approximation, which knows the error of each group.",
];
