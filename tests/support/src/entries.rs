//! Entries created from lines in the syntax that `conntrack -o save` writes and `conntrack -R` reads.
//!
//! The kernel takes about 150,000 of them per second, so big tables are cheap.

use crate::{Namespace, Program};
use std::fmt::Write;

/// The states of TCP that can be set, in the order of the kernel's numbers 0 to 9.
pub const TCP_STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];

/// The states of SCTP that can be set, in the order of the kernel's numbers 0 to 7.
pub const SCTP_STATES: [&str; 8] = [
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
];

/// Creates the entries that the lines describe; panics if the kernel refuses one.
pub fn load(_: &Namespace, lines: &[String]) {
    let outcome = Program::new("conntrack").run_with(&["-R", "-"], lines.join("\n").as_bytes());
    assert!(outcome.status == 0, "conntrack -R ended with {}: {}", outcome.status, outcome.errors());
}

/// Returns the number of flows in the table, as the kernel counts them.
pub fn count(_: &Namespace) -> usize {
    Program::new("conntrack").must(&["-C"]).trim().parse().expect("a number")
}

/// Creates one entry through `conntrack -I`, which accepts some options that are not allowed in a file.
pub fn insert(_: &Namespace, words: &str) {
    let mut arguments = vec!["-I"];
    arguments.extend(words.split_whitespace());
    Program::new("conntrack").must(&arguments);
}

/// Returns entries of each protocol that connection tracking knows, in each state, and of unknown protocols, in both
/// families. All have long timeouts, and none has NAT, a zone or a mark.
pub fn every_protocol() -> Vec<String> {
    let mut lines = Vec::new();
    for (family, source, destination) in [
        ("", "192.0.2.1", "198.51.100.2"),
        ("", "10.255.0.1", "8.8.8.8"),
        ("6", "2001:db8::1", "2001:db8:0:1::2"),
        ("6", "fe80::1", "::ffff:1.2.3.4"),
    ] {
        let pair = format!("-s {source} -d {destination}");
        for (number, state) in TCP_STATES.iter().enumerate() {
            lines.push(format!(
                "-I -t {} {pair} -p tcp --sport {} --dport 80 --state {state}",
                700 + number,
                1000 + number
            ));
        }
        for (number, status) in
            ["ASSURED,SEEN_REPLY", "SEEN_REPLY", "ASSURED", "FIXED_TIMEOUT", "ASSURED,SEEN_REPLY,FIXED_TIMEOUT"]
                .iter()
                .enumerate()
        {
            lines.push(format!(
                "-I -t 432000 -u {status} {pair} -p tcp --sport {} --dport 443 --state ESTABLISHED",
                2000 + number
            ));
            lines.push(format!("-I -t 4000 -u {status} {pair} -p udp --sport {} --dport 53", 2000 + number));
        }
        for port in [0, 1, 53, 1023, 65535] {
            lines.push(format!("-I -t 900 {pair} -p udp --sport {port} --dport 53"));
            lines.push(format!("-I -t 900 {pair} -p udplite --sport {port} --dport 5004"));
        }
        for (number, state) in SCTP_STATES.iter().enumerate() {
            lines.push(format!(
                "-I -t 800 {pair} -p sctp --sport {} --dport 2905 --state {state} --orig-vtag {} --reply-vtag {}",
                3000 + number,
                12345 + number,
                67890 * number
            ));
        }
        // The kernel stores the keys of GRE like ports; any value of 16 bits is valid.
        for (from, to) in [("0", "0"), ("0x10", "0x20"), ("0xffff", "1")] {
            lines.push(format!("-I -t 950 {pair} -p gre --srckey {from} --dstkey {to}"));
        }
        // IPsec, OSPF, VRRP, an experimental number, the smallest and the largest: none has a handler.
        for number in [2, 4, 41, 50, 51, 89, 99, 112, 132 + 6, 253, 255] {
            lines.push(format!("-I -t 999 {pair} -p {number}"));
        }
        let (name, types): (_, &[u8]) =
            if family == "6" { ("icmpv6", &[128, 129, 139, 140]) } else { ("icmp", &[0, 8, 13, 14, 15, 16, 17, 18]) };
        for (number, kind) in types.iter().enumerate() {
            for code in [0, 3] {
                lines.push(format!(
                    "-I -t 850 {pair} -p {name} --{name}-type {kind} --{name}-code {code} --{name}-id {}",
                    [0, 1, 4711, 65535][number % 4]
                ));
            }
        }
    }
    lines
}

/// Returns entries with source and destination NAT, with and without ports, one or both, in both families.
pub fn nat() -> Vec<String> {
    let mut lines = Vec::new();
    let families = [
        ("10.1.0.1", "10.2.0.1", "203.0.113.7", "10.3.0.9", ("", "")),
        ("2001:db8:1::1", "2001:db8:2::1", "2001:db8:7::7", "2001:db8:3::9", ("[", "]")),
    ];
    for (source, destination, outside, inside, (open, close)) in families {
        for (protocol, options) in [("tcp", "--state ESTABLISHED"), ("udp", "")] {
            let mut port = 1000;
            let choices = [
                format!("-n {outside}"),
                format!("-g {inside}"),
                format!("-n {open}{outside}{close}:6000"),
                format!("-g {open}{inside}{close}:8080"),
                format!("-n {outside} -g {inside}"),
                format!("-n {open}{outside}{close}:7000 -g {open}{inside}{close}:8443"),
                // Only the port changes.
                format!("-n {open}{source}{close}:7700"),
                format!("-g {open}{destination}{close}:7701"),
            ];
            for translation in choices {
                port += 1;
                lines.push(format!("-I -t 3000 -s {source} -d {destination} {translation} -p {protocol} --sport {port} --dport 80 {options}"));
            }
        }
        lines.push(format!("-I -t 3000 -s {source} -d {destination} -n {outside} -p 50"));
    }
    lines.push(
        "-I -t 3000 -s 10.1.0.1 -d 10.2.0.1 -n 203.0.113.7 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 9".into(),
    );
    lines.push("-I -t 3000 -s 10.1.0.1 -d 10.2.0.1 -g 10.3.0.9 -p gre --srckey 1 --dstkey 2".into());
    lines
}

/// Returns the same flow in many zones, and flows in a zone of one direction only.
pub fn zones() -> Vec<String> {
    let mut lines = Vec::new();
    for pair in ["-s 10.0.0.1 -d 10.1.0.1", "-s 2001:db8::1 -d 2001:db8::2"] {
        for (number, zone) in
            ["", "-w 1", "-w 5", "-w 65535", "--orig-zone 6", "--orig-zone 65535", "--reply-zone 7", "--reply-zone 1"]
                .iter()
                .enumerate()
        {
            // A zone of one direction leaves the other in zone 0, where the tuples must differ.
            let port = number.saturating_sub(3) + 1;
            lines.push(format!("-I -t 3000 {zone} {pair} -p udp --sport {port} --dport 53"));
            lines.push(format!("-I -t 3000 {zone} {pair} -p tcp --sport {port} --dport 80 --state SYN_SENT"));
        }
        for zone in ["", "-w 1", "-w 65535"] {
            lines.push(format!("-I -t 3000 {zone} {pair} -p 50"));
        }
    }
    lines
}

/// Returns flows that differ only in the mark, with marks of all sizes.
pub fn marks() -> Vec<String> {
    let marks = ["0", "1", "2", "5", "16", "255", "256", "0xff00", "65536", "0x7fffffff", "0x80000000", "4294967295"];
    let mut lines = Vec::new();
    for (number, mark) in marks.iter().enumerate() {
        for pair in ["-s 10.4.0.1 -d 10.1.0.1", "-s 2001:db8:4::1 -d 2001:db8::2"] {
            lines.push(format!("-I -t 3000 -m {mark} {pair} -p udp --sport {number} --dport 53"));
            lines.push(format!("-I -t 3000 -m {mark} {pair} -p sctp --sport {number} --dport 53 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2"));
        }
    }
    lines
}

/// Names of labels for [`Namespace::label_map`]: with gaps, a name with spaces, the first and the last bit, and one
/// beyond the kernel's range.
pub const LABEL_MAP: &str = "# bit name\n0 first\n1 eth0-in\n2\ttwo words \n0x5 five\n31 thirty-one\n32 thirty-two\n64 sixty-four\n100 hundred\n127 last\n200 beyond\n\n";

/// Allows labels for entries created later, which the kernel does only while a rule uses labels.
pub fn allow_labels(namespace: &Namespace) {
    namespace.nft("table inet labels {\n chain never {\n  ct label set 90\n }\n}\n");
}

/// Creates entries with labels. Requires [`allow_labels`] and [`Namespace::label_map`] to be called before.
pub fn labelled(namespace: &Namespace) {
    for (number, name) in
        ["first", "eth0-in", "two words", "five", "thirty-one", "thirty-two", "sixty-four", "hundred", "last"]
            .iter()
            .enumerate()
    {
        let port = (100 + number).to_string();
        for (source, destination) in [("10.5.0.1", "10.1.0.1"), ("2001:db8:5::1", "2001:db8::2")] {
            let mut arguments = vec![
                "-I",
                "-t",
                "3000",
                "-s",
                source,
                "-d",
                destination,
                "-p",
                "udp",
                "--sport",
                &port,
                "--dport",
                "53",
                "--label-add",
                name,
            ];
            if number % 3 == 0 {
                arguments.extend(["--label-add", "first", "--label-add", "hundred"]);
            }
            Program::new("conntrack").must(&arguments);
        }
    }
    insert(namespace, "-t 3000 -s 10.5.0.1 -d 10.1.0.1 -p udp --sport 1 --dport 53");
}

/// Returns `count` flows, mixed as on a busy router: some 60 % TCP, 30 % UDP, 3 % ICMP, the rest other protocols;
/// every tenth is IPv6, every fourth has a mark. They all go to `10.99.x.y` or `2001:db8:99::/48`.
pub fn busy(count: u32) -> Vec<String> {
    (0..count)
        .map(|number| {
            let mut line = String::with_capacity(140);
            let (high, low, port) = (number >> 16, number & 0xffff, 1024 + number % 60_000);
            line.push_str("-I -t 432000");
            if number % 4 == 0 {
                let _ = write!(line, " -m {}", 1 + number % 7);
            }
            if number % 10 == 9 {
                let _ = write!(line, " -s 2001:db8:{high:x}::{low:x} -d 2001:db8:99::{:x}", number % 4096);
            } else {
                let _ =
                    write!(line, " -s 10.{high}.{}.{} -d 10.99.{}.{}", low >> 8, low & 0xff, number % 16, number % 251);
            }
            let _ = match number % 33 {
                0 if number % 10 == 9 => {
                    write!(line, " -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id {}", number & 0xffff)
                }
                0 => write!(line, " -p icmp --icmp-type 8 --icmp-code 0 --icmp-id {}", number & 0xffff),
                1 => write!(line, " -p gre --srckey {} --dstkey 7", number & 0xffff),
                2 => write!(
                    line,
                    " -p sctp --sport {port} --dport 2905 --state ESTABLISHED --orig-vtag {number} --reply-vtag 9"
                ),
                3..=12 => write!(line, " -p udp --sport {port} --dport {}", [53, 123, 443][(number % 3) as usize]),
                13..=27 => write!(line, " -u ASSURED,SEEN_REPLY -p tcp --sport {port} --dport 443 --state ESTABLISHED"),
                _ => {
                    write!(line, " -p tcp --sport {port} --dport 80 --state {}", TCP_STATES[(number % 9 + 1) as usize])
                }
            };
            line
        })
        .collect()
}
