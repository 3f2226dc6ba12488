//! Which option is legal with which command: every spelling of every option with every command and table, and every
//! option of every protocol.
//!
//! No command line changes the table, and none listens: where the option is legal, something else is missing or
//! superfluous that is checked later, or there is no entry to act on.

use crate::conformance::compare::{Report, Setting};
use flowgate_test_support::{Namespace, entries};

/// Every spelling of each option, with a value where it takes one. `--labelmap` is missing because 1.4.7 does not have
/// it, and `--id` with an attached value because it makes 1.4.7 crash.
const OPTIONS: &[&str] = &[
    "-s 192.88.99.1",
    "--src 192.88.99.1",
    "--orig-src 192.88.99.1",
    "-d 192.88.99.2",
    "--dst 192.88.99.2",
    "--orig-dst 192.88.99.2",
    "-r 192.88.99.3",
    "--reply-src 192.88.99.3",
    "-q 192.88.99.4",
    "--reply-dst 192.88.99.4",
    "-p 99",
    "--proto 99",
    "--protonum 99",
    "-t 5",
    "--timeout 5",
    "-u ASSURED",
    "--status ASSURED",
    "-z",
    "--zero",
    "-e NEW",
    "--event-mask NEW",
    "--tuple-src 192.88.99.5",
    "-[ 192.88.99.5",
    "--tuple-dst 192.88.99.6",
    "-] 192.88.99.6",
    "--mask-src 255.0.0.0",
    "-{ 255.0.0.0",
    "--mask-dst 255.0.0.0",
    "-} 255.0.0.0",
    "-s 192.88.0.0/16",
    "-d 192.88.0.0/16",
    "--tuple-src 192.88.0.0/16",
    "-m 5",
    "--mark 5",
    "-i 5",
    "--id=5",
    "-f ipv4",
    "--family ipv6",
    "-n",
    "-n 192.88.99.7",
    "--src-nat",
    "-g",
    "-g 192.88.99.7:7",
    "--dst-nat",
    "-o xml",
    "--output save",
    "-o userspace",
    "-c 5",
    "--secmark 5",
    "-b 5",
    "--buffer-size 5",
    "-j",
    "--any-nat 192.88.99.7",
    "-w 5",
    "--zone 5",
    "-l first",
    "--label first",
    "--label-add first",
    "-< first",
    "--label-del",
    "--label-del first",
    "->",
    "--orig-zone 5",
    "-( 5",
    "--reply-zone 5",
    "-) 5",
    "-a 192.88.99.8",
    "--nat-range 192.88.99.8",
];

/// Commands with every spelling, and what makes them harmless.
const COMMANDS: &[&str] = &[
    "-L",
    "--dump",
    "-L dying",
    "-L unconfirmed",
    "-L expect",
    "-G",
    "--get -p udp -s 192.88.99.1 -d 192.88.99.2",
    "-G expect",
    "-G expect -p udp -s 192.88.99.1 -d 192.88.99.2",
    "-D",
    "--delete",
    "-D expect",
    "-D expect -p udp -s 192.88.99.1 -d 192.88.99.2",
    // Complete except for the ports, which are checked last.
    "-I -t 9 -p udp -s 192.88.99.1 -d 192.88.99.2",
    "--create",
    "-I -t 9 -p udp",
    "-I expect",
    "-I expect -t 9 -p udp -s 192.88.99.1 -d 192.88.99.2 --tuple-src 192.88.99.1/8 --tuple-dst 192.88.99.2/8",
    "-A -t 9 -p udp -s 192.88.99.1 -d 192.88.99.2",
    "--add",
    "-U",
    "--update",
    // A mask for ports is illegal, which is checked after everything that is legal with any protocol.
    "-E -p tcp --mask-port-src 5",
    "--event -p tcp --mask-port-src 5",
    "-E expect -p tcp --mask-port-src 5",
    "-F",
    "--flush",
    "-F expect",
    "-C",
    "--count",
    "-C expect",
    "-S",
    "--stats",
    "-S expect",
    "-h --mask-src 255.0.0.0",
    "--help -m 5",
    "-V",
    "--version",
    // No command.
    "",
];

/// Options of each protocol, in every spelling.
const PROTOCOLS: &[(&str, &[&str])] = &[
    ("tcp", PORTS),
    ("udp", PORTS),
    ("udplite", PORTS),
    ("sctp", PORTS),
    ("dccp", PORTS),
    ("icmp", &["--icmp-type 8", "--icmp-code 0", "--icmp-id 5", "--icmp-type 8 --icmp-id 5", "--icmpv6-type 128"]),
    (
        "icmpv6",
        &["--icmpv6-type 128", "--icmpv6-code 0", "--icmpv6-id 5", "--icmpv6-code 0 --icmpv6-id 5", "--icmp-type 8"],
    ),
    (
        "gre",
        &[
            "--srckey 1",
            "--orig-key-src 1",
            "--dstkey 2",
            "--orig-key-dst 2",
            "--reply-key-src 3",
            "--reply-key-dst 4",
            "--mask-key-src 5",
            "--mask-key-dst 6",
            "--tuple-key-src 7",
            "--tuple-key-dst 8",
            "--sport 5",
        ],
    ),
    ("50", &["--sport 5", "--srckey 5", "--state CLOSE", "--icmp-type 8"]),
    ("ipv6-icmp", &["--icmpv6-type 128"]),
];

const PORTS: &[&str] = &[
    "--sport 1",
    "--orig-port-src 1",
    "--dport 2",
    "--orig-port-dst 2",
    "--reply-port-src 3",
    "--reply-port-dst 4",
    "--mask-port-src 5",
    "--mask-port-dst 6",
    "--tuple-port-src 7",
    "--tuple-port-dst 8",
    "--state CLOSED",
    "--state CLOSE",
    "--state CLOSING",
    "--orig-vtag 9",
    "--reply-vtag 10",
    "--role server",
    "--role C",
    "--role x",
    "--sport",
    "--srckey 5",
    "--icmp-type 8",
];

/// Commands that take a protocol; each is harmless with one option of it.
const WITH_PROTOCOL: &[&str] = &[
    "-L",
    "-D",
    "-U -m 5 -s 192.88.99.1",
    "-G -s 192.88.99.1 -d 192.88.99.2",
    "-I -t 9 -s 192.88.99.1 -d 192.88.99.2",
    "-A -t 9 -r 192.88.99.1 -q 192.88.99.2",
    "-G expect -s 192.88.99.1 -d 192.88.99.2",
    "-D expect -s 192.88.99.1 -d 192.88.99.2",
    "-I expect -t 9 -s 192.88.99.1 -d 192.88.99.2 --tuple-src 192.88.99.1/8 --tuple-dst 192.88.99.2/8",
    // Checked after the options of a protocol.
    "-E --mask-dst 255.0.0.0",
];

/// An SCTP state that does not exist crashes conntrack: see `differences.rs`.
fn crashes(line: &str) -> bool {
    let state = line.split_once("--state ").map(|(_, state)| state.split(' ').next().unwrap_or_default());
    line.contains("-p sctp") && state.is_some_and(|state| !entries::SCTP_STATES.contains(&state))
}

#[test]
fn of_every_option() {
    Namespace::run(|namespace| {
        namespace.label_map(entries::LABEL_MAP);
        let mut report = Report::new("every option with every command");
        let setting = Setting { called: Some("conntrack"), ..Setting::default() };
        for command in COMMANDS {
            for option in OPTIONS {
                // These are legal there, and one would listen; the others print the version or the help text of the
                // program itself.
                let goes_on = command.starts_with("-E expect") && option.starts_with("-o");
                let texts = matches!(*command, "-V" | "--version" | "") && option.ends_with("192.88.99.8");
                // Without a command conntrack reads outside of its table, and considers the last option of 1.4.7
                // legal.
                let beside = command.is_empty() && (option.starts_with("--reply-zone") || option.starts_with("-)"));
                // The command line already names a different protocol.
                let twice = command.contains(" -p ") && option.starts_with(['-']) && option.ends_with(" 99");
                // flowgate checks masks for these tables too: see `differences.rs`.
                let masked = matches!(*command, "-L dying" | "-L unconfirmed")
                    && ["--mask", "-{", "-}"].iter().any(|mask| option.starts_with(mask));
                if ![goes_on, texts, beside, twice, masked].contains(&true) {
                    report.words(namespace, &setting, &format!("{command} {option}"));
                }
            }
        }
        report.finish();
    });
}

#[test]
fn of_every_option_of_a_protocol() {
    Namespace::run(|namespace| {
        let mut report = Report::new("every option of a protocol with every command");
        let setting = Setting { called: Some("conntrack"), ..Setting::default() };
        for command in WITH_PROTOCOL {
            for (protocol, options) in PROTOCOLS {
                // Without options of the protocol the command is complete.
                let complete =
                    matches!(*protocol, "50" | "ipv6-icmp") && (command.starts_with("-I") || command.starts_with("-A"));
                for option in options.iter().filter(|_| !complete) {
                    let line = format!("{command} -p {protocol} {option}");
                    if !crashes(&line) {
                        report.words(namespace, &setting, &line);
                    }
                }
            }
        }
        report.finish();
    });
}
