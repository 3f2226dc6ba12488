//! `man`: the manual page in roff. Commands, options and limits come from the tables of the program.

mod texts;

use roff::{Inline, Roff, bold, italic, roman};

use super::{CommandError, Exit, report::COMPATIBLE};
use crate::args::{self, OUTPUTS, STATUSES};
use flowgate_base::units;
use flowgate_pipeline::sink::Sink;
use flowgate_runtime::Limits;
use flowgate_syntax::{
    Command, Table,
    options::{self, COMMANDS, HelpSection, OPTIONS, OptionKey, OptionSpec},
    protocols::{PROTOCOLS, ProtocolOption, ProtocolSpec},
};
use texts::{DESCRIPTION, DETAILS, ENVIRONMENT, EXAMPLES, EXIT, FILES, OUTPUT, PIPELINE, QUERIES, SYNOPSIS, TABLES};

/// Writes the page.
pub(super) fn run(sink: &mut dyn Sink) -> Result<Exit, CommandError> {
    sink.write(page(&Limits::default()).as_bytes())?;
    Ok(Exit::Success)
}

/// Returns the whole page.
fn page(limits: &Limits) -> String {
    let mut page = Page(Roff::new());
    let version = format!("flowgate {}", env!("CARGO_PKG_VERSION"));
    page.0.control("TH", ["FLOWGATE", "1", "\"\"", version.as_str(), "User Commands"]);
    page.section("NAME");
    page.text("flowgate - the programmable command line of connection tracking");
    page.section("SYNOPSIS");
    let subcommands = args::synopses();
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
    page.options("Flows", HelpSection::Conntrack);
    page.options("Expectations", HelpSection::Expectation);
    page.options("Changing flows", HelpSection::Updating);
    page.options("Flows and expectations", HelpSection::Common);
    page.options("Of flowgate alone", HelpSection::Flowgate);
    page.options("Ignored", HelpSection::Hidden);
    page.protocols();
    page.queries();
    page.section("SIZES AND TIMES");
    let [sizes, times] = units::GRAMMAR;
    page.text("Options and files accept the same forms. Invoked as *conntrack*, options accept plain numbers only.");
    page.paragraph(sizes);
    page.paragraph(times);
    page.section("OUTPUT");
    let [words, json, columns] = OUTPUT;
    page.text(words);
    for (name, help) in OUTPUTS {
        page.item(&format!("*{name}*"), &sentence(help));
    }
    page.paragraph(json);
    page.paragraph(columns);
    page.plugins(limits);
    page.section("WORDS FOR COMMANDS");
    page.text(
        "The first word of the command line can stand for the option of a command; the rest is the same. *list* and \
         *watch* print tables on a terminal, unless *-o* is given. Invoked as *conntrack*, *flowgate* has none of them.",
    );
    for word in &args::word::WORDS {
        page.item(&format!("*{}*", word.usage()), &format!("*{}*: {}.", word.letter, word.help));
    }
    page.section("SUBCOMMANDS");
    page.text("A subcommand is the first word of the command line. Invoked as *conntrack*, *flowgate* has none.");
    for synopsis in &subcommands {
        page.item(&format!("*{}*", synopsis.usage), &sentence(&synopsis.help));
        for (name, help) in &synopsis.arguments {
            page.continued(&format!("*{name}*: {}.", help));
        }
    }
    page.item(
        "*help* [<word>]",
        "Explain a command or a subcommand; *help* *all* lists all options, *help* alone is *-h*.",
    );
    page.list("EXIT STATUS", &EXIT);
    page.paragraph("If a signal ends it, or nobody reads its output (SIGPIPE), the status is that of the signal.");
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

/// A page under construction. In its text, `*` encloses bold text, `<` and `>` enclose text in italics.
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

    /// Adds a term and its description.
    fn item(&mut self, term: &str, text: &str) {
        self.0.control("TP", []);
        self.text(term);
        self.text(text);
    }

    /// Adds a line to the description of the last term.
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
        self.text("Exactly one must be given. The word after it names the table.");
        for spec in &COMMANDS {
            let term = format!("*-{}*, *--{}* {}", char::from(spec.short), spec.long, spec.synopsis);
            let tables = args::tables(spec.command);
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
            "Execute the *-I*, *-A*, *-U*, *-D* and *-F* lines of a file, such as *-o save* prints; *-* is standard \
            input. All lines are checked before the first one is executed.",
        );
    }

    fn options(&mut self, heading: &str, section: HelpSection) {
        self.subsection(heading);
        for spec in OPTIONS.iter().filter(|spec| spec.section == section) {
            let more = DETAILS.iter().find(|(key, _)| *key == spec.key).map(|(_, more)| *more);
            let text = match more {
                // The help lists only the words; the page has a better description.
                Some(more) if matches!(spec.key, OptionKey::Status | OptionKey::Output) => more.to_owned(),
                Some(more) => format!("{} {more}", sentence(spec.help)),
                None => sentence(spec.help),
            };
            let uses = uses(|command, table| options::legality(spec, Some((command, table))));
            self.item(&term(spec), &text);
            if spec.key == OptionKey::Status {
                self.0.control("RS", []);
                for (name, help) in STATUSES {
                    self.item(&format!("*{name}*"), &sentence(help));
                }
                self.0.control("RE", []).control("IP", []);
                self.text(&uses);
            } else if section != HelpSection::Hidden {
                self.continued(&uses);
            }
        }
    }

    fn protocols(&mut self) {
        self.section("PROTOCOL OPTIONS");
        self.text("They follow *-p*.");
        for (handlers, options) in groups() {
            let names: Vec<String> = handlers.iter().map(|spec| format!("{} ({})", spec.name, spec.number)).collect();
            self.subsection(&names.join(", "));
            for option in options {
                let names: Vec<String> = option.long.iter().map(|name| format!("*--{name}*")).collect();
                self.item(&format!("{} <{}>", names.join(", "), option.placeholder), &sentence(option.help));
                self.continued(&uses(|command, table| protocol_legality(option, command, table)));
            }
        }
    }

    fn queries(&mut self) {
        self.section("QUERIES");
        for text in QUERIES {
            self.paragraph(text);
        }
        let names = flowgate_model::query::ALL.iter().map(|field| match field.aliases {
            [] => format!("*{}*", field.name),
            aliases => format!("*{}* (*{}*)", field.name, aliases.join("*, *")),
        });
        self.paragraph(&format!("The fields: {}.", names.collect::<Vec<_>>().join(", ")));
        self.paragraph("The grammar:");
        self.verbatim(flowgate_query::GRAMMAR);
    }

    fn plugins(&mut self, limits: &Limits) {
        self.section("PLUGINS");
        self.text(
            "A plugin is a WebAssembly component, or a core module with the metadata of one, in any language that compiles \
             to it. *--plugin* <file>[*,*<name>*=*<value>...] passes the entries through it, after the command's own \
             selection and before they are printed. It can keep or drop entries, change what is shown of them, and \
             annotate them.",
        );
        self.paragraph(
            "Options of the plugin follow its file. Put a backslash before a comma, a double quote or a backslash in \
            a file name or value, or put the part in double quotes, within which only backslash and quote are \
            special.",
        );
        self.paragraph(
            "A plugin has no authority: no files, no sockets, no clock. If it traps, does not return, exceeds a limit \
            or returns invalid results, the command ends with a message that names the plugin and the reason, and \
            exit status 1. The limits:",
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
        self.paragraph("docs/PLUGINS.md of the source says how to write one; the interface is described in its wit/.");
    }
}

/// Options, and the protocols that have them. An option that several protocols share occurs once.
type Group = (Vec<&'static ProtocolSpec>, Vec<&'static ProtocolOption>);

fn groups() -> Vec<Group> {
    let same = |one: &ProtocolOption, other: &ProtocolOption| {
        (one.name(), one.help, one.legality) == (other.name(), other.help, other.legality)
    };
    let numbers = |handlers: &[&ProtocolSpec]| handlers.iter().map(|spec| spec.number).collect::<Vec<_>>();
    let mut groups: Vec<Group> = Vec::new();
    for option in PROTOCOLS.iter().flat_map(|spec| spec.options) {
        let has = |spec: &&ProtocolSpec| spec.options.iter().any(|other| same(option, other));
        let owners: Vec<&ProtocolSpec> = PROTOCOLS.iter().filter(has).collect();
        match groups.iter_mut().find(|(handlers, _)| numbers(handlers) == numbers(&owners)) {
            Some((_, options)) if options.iter().any(|other| same(option, other)) => {}
            Some((_, options)) => options.push(option),
            None => groups.push((owners, vec![option])),
        }
    }
    groups
}

/// Converts text to parts with fonts.
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

/// Returns a line of help as a sentence. A name in lower case keeps its first letter.
fn sentence(help: &str) -> String {
    let mut rest = help.chars();
    let first: String = rest.next().map(|first| first.to_ascii_uppercase()).into_iter().collect();
    format!("{first}{}.", rest.as_str())
}

/// Returns `-s, --src, --orig-src ip`, with fonts.
fn term(spec: &OptionSpec) -> String {
    let letter = spec.letter().map(|letter| format!("*-{letter}*"));
    let names = spec.long.iter().map(|name| format!("*--{name}*"));
    let names = letter.into_iter().chain(names).collect::<Vec<_>>().join(", ");
    if spec.placeholder.is_empty() { names } else { format!("{names} <{}>", spec.placeholder) }
}

/// Returns the legality of a protocol's option for a command; illegal if `-p` is.
fn protocol_legality(option: &ProtocolOption, command: Command, table: Table) -> u8 {
    let protocol = OPTIONS.iter().find(|spec| spec.key == OptionKey::Protocol);
    let unlocked = protocol.is_some_and(|spec| options::legality(spec, Some((command, table))) != b'.');
    if unlocked { option.legality(command, table) } else { b'.' }
}

/// Returns the commands that take an option: `With -L, -D; required by -I.`
fn uses(legality: impl Fn(Command, Table) -> u8) -> String {
    let of = |table: Table, name: &str, wanted: u8| {
        let takes = |command: Command| args::tables(command).contains(&name) && legality(command, table) == wanted;
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
        let protocols = PROTOCOLS.iter().flat_map(|spec| spec.options).flat_map(|option| option.long);
        for name in commands.chain(options).chain(protocols.copied()).chain(["load-file", "name"]) {
            assert!(
                text.contains(&format!("\\fB--{name}\\fR")) || text.contains(&format!("\\fB--{name} ")),
                "--{name}"
            );
        }
        for spec in &PROTOCOLS {
            let heading = format!("{} ({})", spec.name, spec.number);
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
            "QUERIES",
            "SIZES AND TIMES",
            "OUTPUT",
            "PLUGINS",
            "WORDS FOR COMMANDS",
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
        assert_eq!(of(OptionKey::Zero), "With *-L*.");
        assert_eq!(of(OptionKey::Timeout), "With *-D*, *-U*; required by *-I*, *-A*. Expectations: required by *-I*.");
        let state = PROTOCOLS[0].options.iter().find(|option| option.name() == "state").expect("an option");
        let state = uses(|command, table| protocol_legality(state, command, table));
        assert_eq!(of(OptionKey::TupleSource), "Expectations: required by *-I*.");
        assert_eq!(state, "With *-L*, *-G*, *-D*, *-U*, *-E*; required by *-I*, *-A*.");
    }

    #[test]
    fn examples_are_command_lines() {
        for (example, _) in EXAMPLES.iter().filter(|(example, _)| !example.contains(" -R ")) {
            let command = example.split(['|', '>']).next().expect("a command");
            let words: Vec<OsString> = command.split_whitespace().skip(1).map(OsString::from).collect();
            let parsed = args::parse(
                &flowgate_syntax::ProgramName::of(OsStr::new("flowgate")),
                &words,
                &flowgate_syntax::SystemEnvironment,
            );
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
