//! Tables on terminals of tmux.

use std::{fs::OpenOptions, io::Write as _};

use flowgate_test_support::{Namespace, Program, entries, flowgate};

use super::fill;
use crate::top::terminal::Terminal;

/// Creates one flow with NAT, a mark and counters, and one with long addresses.
fn two_flows(namespace: &Namespace) {
    namespace.account(true);
    namespace.keep_entries();
    entries::load(
        namespace,
        &[
            "-I -t 3600 -p tcp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 8500 --state ESTABLISHED -m 7 \
             -n 203.0.113.1",
            "-I -t 3600 -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 4000 --dport 53",
        ]
        .map(String::from),
    );
}

/// Runs a command line of the program on a terminal, and returns the screen without and with colours.
fn shown(namespace: &Namespace, before: &str, line: &str, columns: u16) -> (String, String) {
    let command = format!("{before}{} {line}", flowgate().path.display());
    let terminal = Terminal::of_width(namespace, &command, columns);
    let picture = terminal.shows(&["status=0", "have been shown"]);
    (picture, terminal.colored_picture())
}

#[test]
fn a_table_fits_the_terminal() {
    Namespace::run(|namespace| {
        two_flows(namespace);
        let (narrow, _) = shown(namespace, "", "list", 80);
        let (wide, _) = shown(namespace, "", "list", 200);
        let table = |picture: &str| {
            let lines: Vec<String> = picture.lines().map(str::to_owned).collect();
            let first = lines.iter().position(|line| line.starts_with("PROTO")).expect("headings");
            lines[first..first + 3].to_vec()
        };
        // No line is folded: each flow is one, with both addresses.
        for table in [table(&narrow), table(&wide)] {
            for (protocol, ends) in
                [("tcp", ["192.0.2.1:4000", "198.51.100.1:8500"]), ("udp", ["[2001:db8::1]:4000", "[2001:db8::2]:53"])]
            {
                let line = table.iter().find(|line| line.starts_with(protocol)).unwrap_or_else(|| panic!("{table:?}"));
                assert!(ends.iter().all(|end| line.contains(end)), "{line}");
            }
        }
        let (narrow, wide) = (table(&narrow).join("\n"), table(&wide).join("\n"));
        assert!(wide.contains("snat 203.0.113.1:4000") && wide.contains("MARK"), "{wide}");
        assert!(wide.contains("PACKETS  BYTES") && !narrow.contains("PACKETS"), "{narrow}\n{wide}");
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    });
}

/// The flows in the pictures of docs/OUTPUT.md, whose times are shown in the same way for half an hour.
const PICTURED: [&str; 6] = [
    "-I -t 431999 -p tcp -s 10.0.0.1 -d 198.51.100.1 --sport 40000 --dport 443 --state ESTABLISHED -u ASSURED -m 7 \
     -n 203.0.113.1",
    "-I -t 200000 -p tcp -s 10.0.0.2 -d 198.51.100.1 --sport 40001 --dport 8443 --state TIME_WAIT -u ASSURED",
    "-I -t 200000 -p tcp -s 10.0.0.3 -d 198.51.100.9 --sport 40002 --dport 22 --state SYN_SENT -w 5",
    "-I -t 200000 -p udp -s 2001:db8::1 -d 2001:db8::53 --sport 40000 --dport 53 -u SEEN_REPLY",
    "-I -t 200000 -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 77",
    "-I -t 200000 -p gre -s 10.0.0.4 -d 198.51.100.2 --srckey 1 --dstkey 2",
];

/// Returns the lines of a picture with each coloured word between a sequence that sets its colour and one that ends it.
/// tmux sets only what differs from the character before, also from line to line.
fn colored_lines(picture: &str) -> Vec<String> {
    let mut style = String::new();
    let line = |line: &str| {
        let mut text = String::new();
        let mut parts = line.split('\x1b');
        let write = |text: &mut String, style: &str, part: &str| {
            if style.is_empty() || part.is_empty() {
                text.push_str(part);
            } else {
                text.push_str(&format!("␛[{style}m{part}␛[0m"));
            }
        };
        write(&mut text, &style, parts.next().unwrap_or_default());
        for part in parts {
            let (codes, rest) = part.strip_prefix('[').and_then(|part| part.split_once('m')).expect("a colour");
            for code in codes.split(';') {
                style = if ["", "0", "22", "39", "49"].contains(&code) { String::new() } else { code.to_owned() };
            }
            write(&mut text, &style, rest);
        }
        text
    };
    picture.lines().map(line).collect()
}

/// Returns a text without the sequences of [`colored_lines`].
fn uncolored(text: &str) -> String {
    let mut parts = text.split('␛');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// Returns the table of a picture; the kernel lists flows in an order of its own, which is not that of the manual.
fn table_of(lines: Vec<String>) -> Vec<String> {
    let from_heading = lines.into_iter().skip_while(|line| !uncolored(line).starts_with("PROTO"));
    let mut table: Vec<String> = from_heading.take_while(|line| !line.contains("have been shown")).collect();
    table[1..].sort_by_key(|line| uncolored(line));
    table
}

#[test]
fn the_manual_has_true_pictures() {
    const BEGIN: &str = "<!-- Written by tests/it/columns/terminals.rs with BLESS=1. -->\n";
    Namespace::run(|namespace| {
        namespace.account(true);
        namespace.keep_entries();
        // Ages change while the test runs.
        namespace.set("netfilter/nf_conntrack_timestamp", 0);
        entries::load(namespace, &PICTURED.map(String::from));
        let mut pictures = String::new();
        for columns in [80, 200] {
            for (before, with) in
                [("NO_COLOR=1 ", "without colours"), ("", "in colour, with `␛` for the escape character")]
            {
                let (picture, colors) = shown(namespace, before, "list", columns);
                let plain = || picture.lines().map(str::to_owned).collect();
                let table = table_of(if before.is_empty() { colored_lines(&colors) } else { plain() }).join("\n");
                pictures += &format!("\n{columns} columns, {with}:\n\n```text\n{table}\n```\n");
            }
        }
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OUTPUT.md");
        let text = std::fs::read_to_string(page).unwrap();
        let (before, written) = text.split_once(BEGIN).expect("the place of the pictures");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(page, format!("{before}{BEGIN}{pictures}")).unwrap();
            return;
        }
        assert_eq!(written, pictures, "if that is meant, BLESS=1 writes it down");
        assert!(written.contains("␛[32mESTABLISHED␛[0m") && written.contains("  UNREPLIED "), "{written}");
    });
}

#[test]
fn colours_are_for_terminals_whose_user_wants_them() {
    Namespace::run(|namespace| {
        two_flows(namespace);
        // tmux writes green text as these sequences.
        let green =
            |picture: &str| picture.contains("\x1b[32mESTABLISHED") || picture.contains("\x1b[0;32mESTABLISHED");
        for (before, line, colored) in [
            ("", "list", true),
            ("NO_COLOR=1 ", "list", false),
            ("TERM=dumb ", "list", false),
            ("", "list --color never", false),
            ("NO_COLOR=1 ", "list --color always", true),
            // The letter prints conntrack's text, on a terminal too.
            ("", "-L", false),
            ("", "list -o extended", false),
        ] {
            let (picture, colors) = shown(namespace, before, line, 100);
            assert_eq!(green(&colors), colored, "{before}{line}:\n{colors:?}");
            let text = picture.contains("src=192.0.2.1");
            assert_eq!(text, matches!(line, "-L" | "list -o extended"), "{before}{line}:\n{picture}");
        }
        let forced = flowgate().must(&["list", "-o", "table", "--color", "always"]);
        assert!(forced.contains("\x1b[32mESTABLISHED\x1b[0m") && forced.starts_with("\x1b[1mPROTO"), "{forced:?}");
    });
}

#[test]
fn the_first_help_is_one_screen() {
    Namespace::run(|namespace| {
        let terminal = Terminal::of_width(namespace, &format!("{} -h", flowgate().path.display()), 80);
        let picture = terminal.shows(&["status=0", "flowgate man | man -l -"]);
        assert!(picture.contains("before") && picture.contains("flowgate list -h"), "{picture}");
        assert!(flowgate().must(&["-h"]).lines().count() < 24);
    });
}

#[test]
fn what_takes_long_shows_its_progress() {
    Namespace::run(|namespace| {
        fill(namespace);
        entries::load(namespace, &entries::busy(2000));
        // The listing waits in a full pipe until the test opens the other one.
        let gate = namespace.directory().join("gate");
        let (program, path) = (flowgate().path.display().to_string(), gate.display().to_string());
        Program::new("mkfifo").must(&[&path]);
        let terminal =
            Terminal::start(namespace, &format!("{program} list -o json | {{ cat {path} > /dev/null; wc -l; }}"));
        terminal.shows(&[" entries so far"]);
        let mut open = OpenOptions::new().write(true).open(&gate).unwrap();
        open.write_all(b"opened\n").unwrap();
        drop(open);
        let picture = terminal.shows(&["status=0", "have been shown"]);
        assert!(!picture.contains("so far"), "{picture}");
    });
}
