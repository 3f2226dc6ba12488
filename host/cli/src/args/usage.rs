//! The output of `-h`: the commands, the options, and with `-p` those of a protocol.

use std::fmt::Write as _;

use flowgate_syntax::options::{COMMANDS, HelpSection, OPTIONS, OptionSpec};
use flowgate_syntax::protocols::ProtocolSpec;
use flowgate_syntax::{Command, HelpProtocol};

/// Column of the descriptions.
const COLUMN: usize = 40;
/// Width of a TAB.
const TAB: usize = 8;

/// Returns the help of the program under its own name on one screen, 24 lines of 80 columns.
pub fn screen() -> String {
    let mut text = String::new();
    let version = env!("CARGO_PKG_VERSION");
    line(&mut text, &format!("flowgate {version}: list, watch and change the connections that Linux tracks"));
    line(&mut text, "");
    for (example, help) in SCREEN_EXAMPLES {
        let _ = writeln!(text, "  flowgate {example:<36}{help}");
    }
    line(&mut text, "");
    for (heading, words) in SCREEN_WORDS {
        let _ = writeln!(text, "{heading:<11}{words}");
    }
    line(&mut text, "");
    line(&mut text, "Select with  -p tcp, -s 10.0.0.0/8, -d ADDRESS, --dport 443, -u ASSURED, -m 7 or");
    line(&mut text, "             --where 'dport in {80, 8000..8999} and bytes > 1M'");
    line(&mut text, "Show as      -o table | csv | tsv | json | xml | save,   --columns src,dst,bytes");
    line(&mut text, "");
    line(&mut text, "flowgate list -h          a command with its options, examples first");
    line(&mut text, "flowgate help all         all options; conntrack's -L, -E, -D, ... work as well");
    line(&mut text, "flowgate man | man -l -   the manual page");
    text
}

const SCREEN_EXAMPLES: [(&str, &str); 6] = [
    ("list -p tcp --dport 443", "flows to port 443"),
    ("watch -e NEW,DESTROY", "connections as they come and go"),
    ("top", "who is using the bandwidth"),
    ("delete -s 192.0.2.7 --dry-run", "what would be cut off"),
    ("list -o json | jq .", "for programs; also csv, tsv, xml"),
    ("doctor", "why nothing is shown"),
];

const SCREEN_WORDS: [(&str, &str); 4] = [
    ("Look:", "list, watch, get, top, count, stats"),
    ("Change:", "create, add, update, delete, flush, load"),
    ("Record:", "record, replay"),
    (
        "Extend:",
        match cfg!(feature = "fleet") {
            true => "run, plugin, policy, audit, fleet, doctor, completions, man",
            false => "run, plugin, policy, audit, doctor, completions, man",
        },
    ),
];

/// Returns the whole text for standard output.
///
/// `program` is the name by which the program was called. If `own` is true, options that the classic program does not
/// have are listed too.
pub fn text(program: &str, own: bool, protocol: Option<&HelpProtocol>) -> String {
    let mut text = String::new();
    let version = env!("CARGO_PKG_VERSION");
    line(&mut text, &format!("flowgate, the programmable command line of connection tracking. Version {version}"));
    line(&mut text, &format!("Usage: {program} [commands] [options]"));
    line(&mut text, "");
    line(&mut text, "Commands:");
    for spec in COMMANDS.iter().filter(|spec| !matches!(spec.command, Command::Version | Command::Help)) {
        let left = format!("-{} {}", char::from(spec.short), spec.synopsis);
        described(&mut text, left.trim_end(), spec.help);
    }
    described(&mut text, "-R file", "execute the -I, -A, -U, -D and -F lines of a file, - for standard input");
    line(&mut text, "");
    line(&mut text, "Tables: conntrack, expect, dying, unconfirmed");
    section(&mut text, "Conntrack parameters and options:", HelpSection::Conntrack);
    section(&mut text, "Expectation parameters and options:", HelpSection::Expectation);
    section(&mut text, "Updating parameters and options:", HelpSection::Updating);
    section(&mut text, "Common parameters and options:", HelpSection::Common);
    if own {
        section(&mut text, "Options that only flowgate has:", HelpSection::Flowgate);
        described(&mut text, "-o, --output json", "one JSON object per line");
        described(&mut text, "-o, --output save,complete", "lines for -R that create the same flows again");
        described(&mut text, "-o, --output table|csv|tsv", "a table for people, or values with separators");
        line(&mut text, "");
        line(&mut text, "Words for commands (the first word of the command line):");
        for word in &super::word::WORDS {
            described(&mut text, &word.usage(), &format!("the same as {}", word.letter));
        }
        line(&mut text, "");
        line(&mut text, "Subcommands (the first word of the command line):");
        for synopsis in super::synopses() {
            let usage = synopsis.usage.split(" [").next().unwrap_or_default();
            let (first, rest) = synopsis.help.split_at_checked(1).unwrap_or_default();
            described(&mut text, usage, &format!("{}{rest}", first.to_ascii_lowercase()));
        }
        described(&mut text, "help [word]", "explain a command or a subcommand; `help all` shows this");
    }
    line(&mut text, "");
    if own {
        line(
            &mut text,
            "Sizes: 65536, 64k, 64KiB, 10MiB (of 1024), 10MB (of 1000). Times: 10, 10s, 500ms, 5m, 1h, 7d.",
        );
        line(&mut text, "");
        line(
            &mut text,
            "To replace conntrack, with its options and messages: ln -s /usr/bin/flowgate /usr/local/sbin/conntrack",
        );
        line(&mut text, "");
    }
    line(&mut text, "Examples:");
    let own_examples = if own { &OWN_EXAMPLES[..] } else { &[] };
    let name = program.rsplit('/').next().unwrap_or(program);
    for (example, help) in EXAMPLES.iter().chain(own_examples) {
        described(&mut text, &format!("{name} {example}"), help);
    }
    line(&mut text, "");
    if let Some(protocol) = protocol {
        protocol_text(&mut text, protocol);
    }
    text
}

/// Examples for both names of the program.
const EXAMPLES: [(&str, &str); 8] = [
    ("-L", "all flows, IPv4 and IPv6"),
    ("-L -p tcp --dport 443", "TCP flows to port 443"),
    ("-L -f ipv6 -o extended", "IPv6 flows"),
    ("-E -e NEW,DESTROY -o timestamp", "beginnings and ends of flows"),
    ("-L -u UNREPLIED", "flows without a reply"),
    ("-D -s 192.0.2.0/24", "delete the flows of a network"),
    ("-U -s 192.0.2.1 -m 1", "set the mark of a host's flows"),
    ("-h -p tcp", "also explain the options of TCP"),
];

/// Examples for flowgate only.
const OWN_EXAMPLES: [(&str, &str); 3] = [
    ("-L -o json", "all flows, one JSON object a line"),
    ("-L --plugin mine.wasm", "the flows that your plugin keeps"),
    ("man | man -l -", "the manual page"),
];

fn line(text: &mut String, content: &str) {
    text.push_str(content);
    text.push('\n');
}

/// Appends a term, TABs, and its description.
fn described(text: &mut String, left: &str, help: &str) {
    let width = 2 + left.chars().count();
    let tabs = if width < COLUMN { (COLUMN - width).div_ceil(TAB) } else { 1 };
    let _ = writeln!(text, "  {left}{}{help}", "\t".repeat(tabs));
}

fn section(text: &mut String, heading: &str, section: HelpSection) {
    line(text, "");
    line(text, heading);
    for spec in OPTIONS.iter().filter(|spec| spec.section == section) {
        described(text, &synopsis(spec), spec.help);
    }
}

/// Returns the names of an option and its placeholder: `-s, --src, --orig-src ip`.
pub(super) fn synopsis(spec: &OptionSpec) -> String {
    let letter = spec.letter().map(|letter| format!("-{letter}"));
    let names = spec.long.iter().map(|name| format!("--{name}"));
    let all: Vec<String> = letter.into_iter().chain(names).collect();
    let all = all.join(", ");
    if spec.placeholder.is_empty() { all } else { format!("{all} {}", spec.placeholder) }
}

fn protocol_text(text: &mut String, protocol: &HelpProtocol) {
    line(text, &format!("Proto `{}' help:", protocol.name));
    let spec = ProtocolSpec::of(protocol.number).filter(|_| protocol.has_options);
    let Some(spec) = spec else {
        line(text, "  no options (unsupported)");
        return;
    };
    for option in spec.options {
        let names: Vec<String> = option.long.iter().map(|name| format!("--{name}")).collect();
        described(text, &format!("{} {}", names.join(", "), option.placeholder), option.help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_separated_by_one_empty_line() {
        let text = text("conntrack", false, None);
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some(
                format!(
                    "flowgate, the programmable command line of connection tracking. Version {}",
                    env!("CARGO_PKG_VERSION")
                )
                .as_str()
            )
        );
        assert_eq!(lines.next(), Some("Usage: conntrack [commands] [options]"));
        assert!(!text.contains("\n\n\n"));
        assert!(text.ends_with("\n\n"));
        let headings = [
            "Commands:",
            "Tables: conntrack, expect, dying, unconfirmed",
            "Conntrack parameters and options:",
            "Expectation parameters and options:",
            "Updating parameters and options:",
            "Common parameters and options:",
        ];
        let found: Vec<usize> =
            headings.iter().map(|heading| text.find(&format!("\n\n{heading}\n")).expect("a heading")).collect();
        assert!(found.is_sorted());
        for own in ["--plugin", "json", "completions", "Subcommands"] {
            assert!(!text.contains(own), "{own}");
        }
    }

    #[test]
    fn the_first_help_fits_on_a_screen_and_names_every_word() {
        let text = screen();
        assert!(text.lines().count() < 24, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let subcommands = super::super::synopses();
        let subcommands = subcommands.iter().filter_map(|synopsis| synopsis.usage.split(' ').next());
        for word in super::super::word::WORDS.iter().map(|word| word.name).chain(subcommands) {
            assert!(text.contains(word), "{word}");
        }
    }

    #[test]
    fn every_option_is_explained() {
        let text = text("flowgate", true, None);
        for spec in OPTIONS.iter().filter(|spec| spec.section != HelpSection::Hidden) {
            assert!(text.contains(&format!("--{}", spec.name())), "{}", spec.name());
        }
        assert!(text.contains("  -s, --src, --orig-src ip[/prefix]\t"));
        assert!(text.contains("--plugin file[,name=value...]\t"));
        assert!(text.contains("\n  completions bash|zsh|fish\t"));
    }

    #[test]
    fn protocols_are_explained_on_demand() {
        let help = |number, name: &str, has_options| {
            text("conntrack", false, Some(&HelpProtocol { number, name: name.to_owned(), has_options }))
        };
        assert!(help(132, "sctp", true).contains("\n\nProto `sctp' help:\n  --sport, --orig-port-src port\t"));
        assert!(help(132, "sctp", true).contains("--reply-vtag"));
        assert!(help(58, "ipv6-icmp", false).ends_with("\n\nProto `ipv6-icmp' help:\n  no options (unsupported)\n"));
    }
}
