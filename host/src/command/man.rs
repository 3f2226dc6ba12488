//! `man`: the manual page, in roff. Commands, options and limits are those of the program's own tables.

use roff::{Inline, Roff, bold, italic, roman};

use super::{CommandError, Exit, report::COMPATIBLE};
use crate::{
    cli::{
        self, Command, OUTPUTS, STATUSES, Table,
        options::{self, COMMANDS, Key, OPTIONS, OptionSpec, Section},
        protocols::{HANDLERS, Handler, ProtocolOption},
        subcommand,
    },
    pipeline::sink::Sink,
    wasm::Limits,
};

/// Writes the page.
pub(super) fn run(sink: &mut dyn Sink) -> Result<Exit, CommandError> {
    sink.write(page(&Limits::default()).as_bytes())?;
    Ok(Exit::Success)
}

const SYNOPSIS: [&str; 5] = [
    "*flowgate* *-L* [<table>] [<options>] [*--plugin* <file>[*,*<name>*=*<value>...]]...",
    "*flowgate* {*-G*|*-D*|*-I*|*-A*|*-U*|*-E*} [<table>] <options>",
    "*flowgate* {*-F*|*-C*|*-S*} [<table>]",
    "*flowgate* *-R* <file>",
    "*flowgate* {*-h* [*-p* <proto>]|*-V*}",
];

const DESCRIPTION: [&str; 4] = [
    "*flowgate* lists, watches and changes the connection tracking table of the Linux kernel. What the kernel sends streams \
     through WebAssembly components, which filter it, change what is shown of it, add notes, and print it:",
    "The stock components print what *conntrack*(8) prints, byte for byte. *flowgate* takes the command line of *conntrack* \
     and has its output, messages and exit statuses, so that it can be put in its place. Called by the name *conntrack* \
     (a link) it accepts exactly the classic command line; called by any other name it also has *--plugin*, *--batch*, \
     *-o json* and subcommands.",
    "The commands need the capability CAP_NET_ADMIN, and act on the network namespace that they run in, or on that of \
     *--netns*. Packets and bytes \
     are counted if the sysctl net.netfilter.nf_conntrack_acct is 1, times of beginning and end are kept if \
     net.netfilter.nf_conntrack_timestamp is 1.",
    "Options may stand in any order, except that those of a protocol come after *-p*. Long names can be abbreviated as \
     long as only one begins so; *--plugin* and *--batch* cannot. Words that are no options are ignored.",
];

const PIPELINE: &str = "kernel  ->  stages  ->  executor  ->  format  ->  output
            (wasm)      (host)       (wasm)";

const TABLES: [(&str, &str); 4] = [
    ("conntrack", "The flows that are tracked. This is the table if none is named."),
    (
        "expect",
        "The flows that helpers expect, such as the data connections of FTP. For these commands the family is IPv4 \
                unless *-f* *ipv6* or an address says otherwise.",
    ),
    ("dying", "Flows that have ended and are about to be removed. *-L* only."),
    ("unconfirmed", "Flows whose first packet is still on its way through the machine. *-L* only."),
];

/// What a line of help is too short for.
const DETAILS: [(Key, &str); 19] = [
    (Key::Source, "IPv4 addresses may be abbreviated as in inet_aton(3). A prefix length selects a network."),
    (
        Key::Protocol,
        "A name of those under PROTOCOL OPTIONS in any case, a name of /etc/protocols, or a number from 0 to 255.",
    ),
    (Key::Timeout, "For a new flow, *0* makes it end at once."),
    (
        Key::Status,
        "With *-L* and *-D*, flows must have what is named; *!*<NAME> means that they must not have it. With \
                   *-I*, *-A* and *-U* it is set. Names may be abbreviated, in any case; UNREPLIED must be written out. \
                   The names:",
    ),
    (Key::EventMask, "Without it all events are shown. The option may be repeated."),
    (
        Key::Mark,
        "With *-L*, *-D* and *-E*, flows whose mark, as far as the mask covers it, is equal. With *-U*, the bits of \
                 the mask are replaced: the new mark is (old AND NOT mask) XOR mark. The mask is all ones if not given. \
                 Numbers are decimal, octal with a leading 0, or hexadecimal with 0x.",
    ),
    (
        Key::SourceNat,
        "The address and port are those that the source is translated to. An IPv6 address with a port is in \
                      brackets. The value is taken from the next word only.",
    ),
    (
        Key::DestinationNat,
        "The address and port are those that the destination is translated to. The value is taken from \
                           the next word only.",
    ),
    (Key::AnyNat, "Not together with *-n* or *-g*. The value is taken from the next word only."),
    (
        Key::Output,
        "How to show entries: *xml*, *extended*, *timestamp*, *id*, *ktimestamp*, *labels*, *userspace*, *save*, \
                   *json*; see OUTPUT. Words may be abbreviated, in any case; *json* must be written out.",
    ),
    (
        Key::BufferSize,
        "A larger buffer bridges longer bursts of events. Each takes 1,280 bytes of it, and the kernel doubles what it is \
         asked for. Without this option the buffer begins with 8,388,608 bytes; it grows, see *--buffer-max*. Called \
         *conntrack*, a buffer that this option sets stays as it is.",
    ),
    (Key::Zone, "From 0 to 65535; flows outside any zone are in zone 0."),
    (Key::Label, "Labels are names of the label map."),
    (Key::LabelDelete, "The value is taken from the next word only."),
    (Key::Plugin, "See PLUGINS. Several run in the order given."),
    (Key::Batch, "From 1 to 65536."),
    (
        Key::BufferMax,
        "The buffer is doubled when it is half full, and when it has overflowed. Beyond the sysctl net.core.rmem_max it \
         grows only with CAP_NET_ADMIN in the initial user namespace.",
    ),
    (
        Key::Reliable,
        "The kernel keeps a flow that has ended, in the table *dying*, until its DESTROY event could be delivered, trying \
         again from a second later on; NEW and UPDATE events that could not be delivered go with the flow's next event. A \
         listener that stands still then fills the table up to net.netfilter.nf_conntrack_max, and new flows are refused.",
    ),
    (
        Key::Resync,
        "After a gap the table is listed and compared with what the events have said: what was missed is told by events \
         that end with [SYNTHETIC] (in JSON: *\"synthetic\": true*). Takes 93 to 185 bytes of memory for each flow of the \
         table.",
    ),
];

const OUTPUT: [&str; 2] = [
    "Without *-o*, each entry is a line of text. Data is written to standard output, and everything else (what is wrong, \
     how many entries were shown) to standard error. The words of *-o* can be combined, except that *save* goes only with \
     *userspace*, and *json* not with *xml* or *save*:",
    "JSON output is one object (RFC 8259) for each entry, one object a line. A member is there exactly if the kernel \
     supplied the field; a number that has a name stands beside it (*protocol*, *protocol_name*); times are nanoseconds \
     since 1970 (UTC). The members are listed in docs/JSON.md of the source.",
];

const EXIT: [(&str, &str); 3] = [
    ("0", "Done. A list without entries is a list."),
    (
        "1",
        "Failed: refused by the kernel, stopped by a plugin, not permitted, not written; or there was nothing to be \
           deleted, updated or found.",
    ),
    ("2", "The command line makes no sense, and nothing has been done."),
];

const FILES: [(&str, &str); 3] = [
    (
        "/etc/xtables/connlabel.conf",
        "The label map: on each line the number of a bit from 0 to 127 and a name of letters, \
                                     digits, spaces and hyphens. Lines that begin with # are comments. *--labelmap* names \
                                     another file.",
    ),
    ("/etc/protocols", "Names of layer-4 protocols, see protocols(5)."),
    ("~/.cache/flowgate", "Plugins in compiled form. It can be deleted at any time."),
];

const ENVIRONMENT: [(&str, &str); 3] = [
    (
        "XDG_CACHE_HOME",
        "Where compiled plugins are kept, in the folder *flowgate* of it, if it is an absolute path; \
                        otherwise they are in ~/.cache/flowgate.",
    ),
    ("TZ", "The time zone in which times are shown as text."),
    ("POSIXLY_CORRECT", "If set, options end at the first word that is none."),
];

const EXAMPLES: [(&str, &str); 16] = [
    ("flowgate -L", "All flows, IPv4 and IPv6."),
    ("flowgate -L -f ipv6 -o extended,id", "IPv6 flows, with the layer-3 protocol and the id."),
    ("flowgate -L -p tcp --state ESTABLISHED --dport 443", "Established TCP flows to port 443."),
    (
        "flowgate -L -s 10.0.0.0/8 -u ASSURED -o json",
        "Flows from a network that have seen enough traffic to be kept, as \
                                                      JSON.",
    ),
    ("flowgate -L -o json | jq .original.destination", "Where flows go."),
    ("flowgate -E -e NEW,DESTROY -o timestamp", "How flows begin and end, as it happens."),
    ("flowgate -D -p udp -s 192.0.2.0/24", "Delete the UDP flows of a network."),
    ("flowgate -U -s 192.0.2.1 -m 0x10/0xf0", "Set some bits of the mark of a host's flows."),
    ("flowgate -L -o save > /tmp/flows", "Save the flows."),
    ("flowgate -R /tmp/flows", "Make them again."),
    ("flowgate -C expect", "How many flows are expected."),
    (
        "flowgate -L --plugin target/wasm32-unknown-unknown/plugin/heavy_tcp.wasm,bytes=100000",
        "TCP flows to the outside that have moved much, by the example plugin of the source, which is built by cargo build \
         --profile plugin --target wasm32-unknown-unknown -p heavy-tcp.",
    ),
    ("flowgate completions bash > /etc/bash_completion.d/flowgate", "Complete command lines in bash."),
    ("flowgate record trace.pcap -- -E -p tcp", "Record events of TCP, until a signal ends it."),
    (
        "flowgate replay trace.pcap -- -s 192.0.2.0/24 -o json",
        "Show those of a network again, as JSON, on any machine of the same byte order and as any user.",
    ),
    ("flowgate -h -p tcp", "A short summary of the options, with those of TCP."),
];

/// The whole page.
fn page(limits: &Limits) -> String {
    let mut page = Page(Roff::new());
    let version = format!("flowgate {}", env!("CARGO_PKG_VERSION"));
    page.0.control("TH", ["FLOWGATE", "1", "\"\"", version.as_str(), "User Commands"]);
    page.section("NAME");
    page.text("flowgate - the programmable command line of connection tracking");
    page.section("SYNOPSIS");
    let subcommands = subcommand::synopses();
    let own = subcommands.iter().map(|synopsis| format!("*flowgate* *{}*", synopsis.usage));
    for (index, line) in SYNOPSIS.iter().map(ToString::to_string).chain(own).enumerate() {
        if index > 0 {
            page.0.control("br", []);
        }
        page.text(&line);
    }
    page.section("DESCRIPTION");
    let [pipeline, others @ ..] = DESCRIPTION;
    page.text(pipeline);
    page.verbatim(PIPELINE);
    for paragraph in others {
        page.paragraph(paragraph);
    }
    page.commands();
    page.section("TABLES");
    for (name, text) in TABLES {
        page.item(&format!("*{name}*"), text);
    }
    page.section("OPTIONS");
    page.options("Flows", Section::Conntrack);
    page.options("Expectations", Section::Expectation);
    page.options("Changing flows", Section::Updating);
    page.options("Flows and expectations", Section::Common);
    page.options("Of flowgate alone", Section::Flowgate);
    page.options("Ignored", Section::Hidden);
    page.protocols();
    page.section("OUTPUT");
    let [words, json] = OUTPUT;
    page.text(words);
    for (name, help) in OUTPUTS {
        page.item(&format!("*{name}*"), &sentence(help));
    }
    page.paragraph(json);
    page.plugins(limits);
    page.section("SUBCOMMANDS");
    page.text(
        "A subcommand is the first word of the command line. Called by the name *conntrack*, *flowgate* has none.",
    );
    for synopsis in &subcommands {
        page.item(&format!("*{}*", synopsis.usage), &sentence(&synopsis.help));
        for (name, help) in &synopsis.arguments {
            page.continued(&format!("*{name}*: {}.", help));
        }
    }
    page.item("*help* [<subcommand>]", "Explain a subcommand; alone, as *-h*.");
    page.list("EXIT STATUS", &EXIT);
    page.paragraph("Killed by a signal, or with nobody to read its output (SIGPIPE), it ends by that signal.");
    page.list("FILES", &FILES);
    page.list("ENVIRONMENT", &ENVIRONMENT);
    page.section("EXAMPLES");
    for (example, text) in EXAMPLES {
        page.0.control("TP", []);
        page.0.text([bold(example)]);
        page.text(text);
    }
    page.section("SEE ALSO");
    page.text("*conntrack*(8), *nft*(8), *iptables*(8), *protocols*(5), *jq*(1)");
    page.paragraph(&format!(
        "The command line is that of conntrack {COMPATIBLE}; what differs is listed in \
                             docs/COMPATIBILITY.md of the source."
    ));
    page.0.render()
}

/// A page in the making. In its text `*` begins and ends what is bold, `<` and `>` enclose what is in italics.
struct Page(Roff);

impl Page {
    fn section(&mut self, name: &str) {
        self.0.control("SH", [name]);
    }

    fn subsection(&mut self, name: &str) {
        self.0.control("SS", [name]);
    }

    fn text(&mut self, text: &str) {
        self.0.text(inlines(text));
    }

    fn paragraph(&mut self, text: &str) {
        self.0.control("PP", []);
        self.text(text);
    }

    /// A term and what it is.
    fn item(&mut self, term: &str, text: &str) {
        self.0.control("TP", []);
        self.text(term);
        self.text(text);
    }

    /// More about the last term.
    fn continued(&mut self, text: &str) {
        self.0.control("br", []);
        self.text(text);
    }

    fn verbatim(&mut self, text: &str) {
        self.0.control("PP", []).control("RS", ["4"]).control("nf", []);
        self.0.text([roman(text)]).control("fi", []).control("RE", []);
    }

    fn list(&mut self, name: &str, items: &[(&str, &str)]) {
        self.section(name);
        for (term, text) in items {
            self.0.control("TP", []);
            self.0.text([bold(*term)]);
            self.text(text);
        }
    }

    fn commands(&mut self) {
        self.section("COMMANDS");
        self.text("Exactly one is given. The word behind it names the table.");
        for spec in &COMMANDS {
            let term = format!("*-{}*, *--{}* {}", char::from(spec.short), spec.long, spec.synopsis);
            let tables = cli::tables(spec.command);
            let mut text = match spec.command {
                Command::Help => "Show a summary; with *-p*, also the options of a protocol.".to_owned(),
                _ => sentence(spec.help),
            };
            if !tables.is_empty() {
                text += &format!(" Tables: {}.", tables.join(", "));
            }
            self.item(term.trim_end(), &text);
        }
        self.item(
            "*-R*, *--load-file* <file>",
            "Carry out the *-I*, *-A*, *-U*, *-D* and *-F* lines of a file, such as *-o save* prints; *-* is standard \
             input. All lines are checked before the first is carried out.",
        );
    }

    fn options(&mut self, heading: &str, section: Section) {
        self.subsection(heading);
        for spec in OPTIONS.iter().filter(|spec| spec.section == section) {
            let more = DETAILS.iter().find(|(key, _)| *key == spec.key).map(|(_, more)| *more);
            let text = match more {
                // The help is a list of words; the page has a better one.
                Some(more) if matches!(spec.key, Key::Status | Key::Output) => more.to_owned(),
                Some(more) => format!("{} {more}", sentence(spec.help)),
                None => sentence(spec.help),
            };
            let uses = uses(|command, table| options::legality(spec, Some((command, table))));
            self.item(&term(spec), &text);
            if spec.key == Key::Status {
                self.0.control("RS", []);
                for (name, help) in STATUSES {
                    self.item(&format!("*{name}*"), &sentence(help));
                }
                self.0.control("RE", []).control("IP", []);
                self.text(&uses);
            } else if section != Section::Hidden {
                self.continued(&uses);
            }
        }
    }

    fn protocols(&mut self) {
        self.section("PROTOCOL OPTIONS");
        self.text("They follow *-p*.");
        for (handlers, options) in groups() {
            let names: Vec<String> =
                handlers.iter().map(|handler| format!("{} ({})", handler.name, handler.number)).collect();
            self.subsection(&names.join(", "));
            for option in options {
                let names: Vec<String> = option.long.iter().map(|name| format!("*--{name}*")).collect();
                self.item(&format!("{} <{}>", names.join(", "), option.placeholder), &sentence(option.help));
                self.continued(&uses(|command, table| protocol_legality(option, command, table)));
            }
        }
    }

    fn plugins(&mut self, limits: &Limits) {
        self.section("PLUGINS");
        self.text(
            "A plugin is a WebAssembly component, or a core module with the metadata of one, in any language that compiles \
             to it. *--plugin* <file>[*,*<name>*=*<value>...] passes the entries that the command is about through it, \
             after the command's own options and before they are printed. It can keep or drop entries, change what is \
             shown of them, and add notes to them.",
        );
        self.paragraph(
            "Options of the plugin follow its file. A comma, a double quote or a backslash in a file name or value is \
             preceded by a backslash, or the part is put in double quotes, between which only the backslash and the quote \
             are special.",
        );
        self.paragraph(
            "A plugin has no authority: neither files nor sockets nor a clock. One that traps, does not return, wants too \
             much or returns nonsense ends the command with a message that names it and says what happened, and exit \
             status 1. The limits of each:",
        );
        let mebibytes = |bytes: usize| format!("{} MiB", bytes >> 20);
        let items = [
            ("memory", mebibytes(limits.memory)),
            ("time of one call", format!("{} s", limits.call.as_secs())),
            ("time to start", format!("{} s", limits.start_up.as_secs())),
            ("output of one call", mebibytes(limits.output)),
        ];
        for (name, limit) in items {
            self.item(&format!("<{name}>"), &limit);
        }
        self.paragraph(
            "How to write one is told by the README, with an example of about 20 lines; the interface is described in wit/ of \
             the source.",
        );
    }
}

/// Options, and the protocols that have them: those that several protocols share are there once.
type Group = (Vec<&'static Handler>, Vec<&'static ProtocolOption>);

fn groups() -> Vec<Group> {
    let same = |one: &ProtocolOption, other: &ProtocolOption| {
        (one.name(), one.help, one.legality) == (other.name(), other.help, other.legality)
    };
    let numbers = |handlers: &[&Handler]| handlers.iter().map(|handler| handler.number).collect::<Vec<_>>();
    let mut groups: Vec<Group> = Vec::new();
    for option in HANDLERS.iter().flat_map(|handler| handler.options) {
        let has = |handler: &&Handler| handler.options.iter().any(|other| same(option, other));
        let owners: Vec<&Handler> = HANDLERS.iter().filter(has).collect();
        match groups.iter_mut().find(|(handlers, _)| numbers(handlers) == numbers(&owners)) {
            Some((_, options)) if options.iter().any(|other| same(option, other)) => {}
            Some((_, options)) => options.push(option),
            None => groups.push((owners, vec![option])),
        }
    }
    groups
}

/// Text with its fonts.
fn inlines(text: &str) -> Vec<Inline> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['*', '<']) {
        let (before, from) = rest.split_at(start);
        let (close, font): (char, fn(String) -> Inline) =
            if from.starts_with('*') { ('*', bold) } else { ('>', italic) };
        let inside = from.get(1..).unwrap_or_default();
        let (content, behind) = inside.split_once(close).unwrap_or((inside, ""));
        if !before.is_empty() {
            parts.push(roman(before));
        }
        parts.push(font(content.to_owned()));
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(roman(rest));
    }
    parts
}

/// A line of help as a sentence. Names that are written in small letters stay so.
fn sentence(help: &str) -> String {
    let mut rest = help.chars();
    let first: String = rest.next().map(|first| first.to_ascii_uppercase()).into_iter().collect();
    format!("{first}{}.", rest.as_str())
}

/// `-s, --src, --orig-src ip`, with fonts.
fn term(spec: &OptionSpec) -> String {
    let letter = spec.letter().map(|letter| format!("*-{letter}*"));
    let names = spec.long.iter().map(|name| format!("*--{name}*"));
    let names = letter.into_iter().chain(names).collect::<Vec<_>>().join(", ");
    if spec.placeholder.is_empty() { names } else { format!("{names} <{}>", spec.placeholder) }
}

/// What commands make of an option of a protocol: nothing where `-p` makes no sense.
fn protocol_legality(option: &ProtocolOption, command: Command, table: Table) -> u8 {
    let protocol = OPTIONS.iter().find(|spec| spec.key == Key::Protocol);
    let unlocked = protocol.is_some_and(|spec| options::legality(spec, Some((command, table))) != b'.');
    if unlocked { option.legality(command, table) } else { b'.' }
}

/// Which commands take an option: `With -L, -D; required by -I.`
fn uses(legality: impl Fn(Command, Table) -> u8) -> String {
    let of = |table: Table, name: &str, wanted: u8| {
        let takes = |command: Command| cli::tables(command).contains(&name) && legality(command, table) == wanted;
        let letters: Vec<String> = COMMANDS
            .iter()
            .filter(|spec| takes(spec.command))
            .map(|spec| format!("*-{}*", char::from(spec.short)))
            .collect();
        (!letters.is_empty()).then(|| letters.join(", "))
    };
    let table = |table: Table, name: &str| {
        let parts = [
            of(table, name, b'o').map(|commands| format!("with {commands}")),
            of(table, name, b'R').map(|commands| format!("required by {commands}")),
            of(table, name, b'T').map(|commands| format!("{commands} require both of one direction")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    };
    let (flows, expectations) = (table(Table::Conntrack, "conntrack"), table(Table::Expect, "expect"));
    match (flows.as_str(), expectations.as_str()) {
        (flows, "") => sentence(flows),
        ("", expectations) => format!("Expectations: {expectations}."),
        (flows, expectations) => format!("{} Expectations: {expectations}.", sentence(flows)),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};

    use super::*;

    fn text() -> String {
        page(&Limits::default()).replace("\\-", "-")
    }

    #[test]
    fn every_command_and_option_is_in_the_page() {
        let text = text();
        let commands = COMMANDS.iter().map(|spec| spec.long);
        let options = OPTIONS.iter().flat_map(|spec| spec.long.iter().copied());
        let protocols = HANDLERS.iter().flat_map(|handler| handler.options).flat_map(|option| option.long);
        for name in commands.chain(options).chain(protocols.copied()).chain(["load-file", "name"]) {
            assert!(
                text.contains(&format!("\\fB--{name}\\fR")) || text.contains(&format!("\\fB--{name} ")),
                "--{name}"
            );
        }
        for handler in &HANDLERS {
            let heading = format!("{} ({})", handler.name, handler.number);
            assert!(text.lines().any(|line| line.starts_with(".SS") && line.contains(&heading)), "{heading}");
        }
    }

    #[test]
    fn sections_stand_in_the_usual_order() {
        let text = text();
        let sections = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "COMMANDS",
            "TABLES",
            "OPTIONS",
            "PROTOCOL OPTIONS",
            "OUTPUT",
            "PLUGINS",
            "SUBCOMMANDS",
            "EXIT STATUS",
            "FILES",
            "ENVIRONMENT",
            "EXAMPLES",
            "SEE ALSO",
        ];
        let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let found: Vec<&str> = found.iter().map(|name| name.trim_matches('"')).collect();
        assert_eq!(found, sections);
    }

    #[test]
    fn limits_are_those_of_the_program() {
        let text = text();
        for limit in ["64 MiB", "1 s", "10 s", "32 MiB"] {
            assert!(text.lines().any(|line| line == limit), "{limit}");
        }
    }

    #[test]
    fn the_page_says_which_command_takes_what() {
        let of = |key| {
            let spec = OPTIONS.iter().find(|spec| spec.key == key).expect("an option");
            uses(|command, table| options::legality(spec, Some((command, table))))
        };
        assert_eq!(of(Key::Zero), "With *-L*.");
        assert_eq!(of(Key::Timeout), "With *-D*, *-U*; required by *-I*, *-A*. Expectations: required by *-I*.");
        let state = HANDLERS[0].options.iter().find(|option| option.name() == "state").expect("an option");
        let state = uses(|command, table| protocol_legality(state, command, table));
        assert_eq!(of(Key::TupleSource), "Expectations: required by *-I*.");
        assert_eq!(state, "With *-L*, *-G*, *-D*, *-U*, *-E*; required by *-I*, *-A*.");
    }

    #[test]
    fn examples_are_command_lines() {
        for (example, _) in EXAMPLES.iter().filter(|(example, _)| !example.contains(" -R ")) {
            let command = example.split(['|', '>']).next().expect("a command");
            let words: Vec<OsString> = command.split_whitespace().skip(1).map(OsString::from).collect();
            let parsed = cli::parse(OsStr::new("flowgate"), &words, &cli::SystemEnvironment);
            assert!(parsed.result.is_ok(), "{example}: {:?}", parsed.result);
            assert!(parsed.warnings.is_empty(), "{example}: {:?}", parsed.warnings);
        }
    }

    #[test]
    fn fonts_are_marked_in_text() {
        let parts = inlines("a *-b* <c>[*,*<d>] -> e");
        let expected =
            [roman("a "), bold("-b"), roman(" "), italic("c"), roman("["), bold(","), italic("d"), roman("] -> e")];
        assert_eq!(parts, expected);
    }
}
