//! Several hundred random selectors for `-L`, each through both programs.
//!
//! The seed is printed, and is part of every failure message. `FLOWGATE_SEED=N` runs the same selectors again, and
//! `FLOWGATE_SELECTORS=N` changes their number.

use crate::conformance::compare::{Report, Setting};
use flowgate_test_support::entries::{self, SCTP_STATES, TCP_STATES};
use flowgate_test_support::traffic::Traffic;
use flowgate_test_support::{Namespace, Program, Random};

/// Addresses in the table, near misses, and whole networks.
const ADDRESSES: [[&str; 16]; 2] = [
    [
        "192.0.2.1",
        "198.51.100.2",
        "10.255.0.1",
        "8.8.8.8",
        "10.1.0.1",
        "10.2.0.1",
        "203.0.113.7",
        "10.3.0.9",
        "10.0.0.1",
        "10.9.0.1",
        "10.9.0.77",
        "10.9.0.80",
        "10.4.0.1",
        "10.5.0.1",
        "0.0.0.0",
        "172.16.0.1",
    ],
    [
        "2001:db8::1",
        "2001:db8:0:1::2",
        "fe80::1",
        "::ffff:1.2.3.4",
        "2001:db8:1::1",
        "2001:db8:2::1",
        "2001:db8:7::7",
        "2001:db8:3::9",
        "2001:db8::2",
        "2001:db8:9::1",
        "2001:db8:9::77",
        "2001:db8:9::80",
        "2001:db8:4::1",
        "2001:db8:5::1",
        "::",
        "3fff::1",
    ],
];

/// Ports in the table, and one that is not.
const PORTS: [&str; 13] =
    ["0", "1", "53", "80", "443", "1000", "1001", "1002", "2001", "3003", "6000", "8080", "65535"];

/// Returns a random command line. Options that require another one before them, such as a port after its protocol,
/// follow it.
fn selector(random: &mut Random) -> Vec<String> {
    let mut words: Vec<String> = vec!["-L".into()];
    let mut add = |option: &str, value: &str| words.extend([option.to_owned(), value.to_owned()]);
    let family = random.below(2);
    if random.chance(1, 3) {
        // Occasionally the other family, which is an error once an address is given.
        let other = random.chance(1, 12);
        add(random.pick(&["-f", "--family"]), if (family == 0) != other { "ipv4" } else { "ipv6" });
    }
    let protocol = random.chance(1, 2).then(|| {
        random.pick(&[
            "tcp", "tcp", "udp", "udp", "sctp", "icmp", "icmpv6", "gre", "udplite", "dccp", "50", "6", "0x11", "255",
            "UDP",
        ])
    });
    if let Some(name) = protocol {
        add(random.pick(&["-p", "--proto", "--protonum"]), name);
    }
    for options in [
        ["-s", "--src", "--orig-src"],
        ["-d", "--dst", "--orig-dst"],
        ["-r", "--reply-src", "--reply-src"],
        ["-q", "--reply-dst", "--reply-dst"],
    ] {
        if !random.chance(1, 4) {
            continue;
        }
        let address = random.pick(&ADDRESSES[family]);
        let masked = matches!(options[0], "-s" | "-d");
        let value = match random.below(4) {
            0 | 1 if masked => format!("{address}/{}", random.below(if family == 0 { 33 } else { 129 })),
            _ => address.to_owned(),
        };
        add(random.pick(&options), &value);
        if masked && random.chance(1, 8) {
            let mask = random.pick(
                &[
                    ["255.0.0.0", "255.255.255.0", "0.0.0.255", "0.0.0.0"],
                    ["ffff::", "ffff:ffff:ffff::", "::ffff", "::"],
                ][family],
            );
            add(if options[0] == "-s" { "--mask-src" } else { "--mask-dst" }, mask);
        }
    }
    let chosen = protocol.unwrap_or_default().to_lowercase();
    match chosen.as_str() {
        "tcp" | "udp" | "sctp" | "udplite" | "dccp" | "6" | "0x11" => {
            for option in
                ["--sport", "--dport", "--orig-port-src", "--orig-port-dst", "--reply-port-src", "--reply-port-dst"]
            {
                if random.chance(1, 8) {
                    add(option, random.pick(&PORTS));
                }
            }
            if random.chance(1, 3) {
                match chosen.as_str() {
                    "tcp" | "6" => add("--state", random.pick(&TCP_STATES)),
                    "sctp" => add("--state", random.pick(&SCTP_STATES)),
                    _ => {}
                }
            }
        }
        "icmp" | "icmpv6" => {
            if random.chance(1, 2) {
                add(&format!("--{chosen}-type"), random.pick(&["0", "8", "13", "17", "128", "129", "139", "3"]));
            }
            if random.chance(1, 3) {
                add(&format!("--{chosen}-code"), random.pick(&["0", "3", "9"]));
            }
            if random.chance(1, 3) {
                add(&format!("--{chosen}-id"), random.pick(&["0", "1", "4711", "65535"]));
            }
        }
        _ => {}
    }
    // Status before mark: in conntrack 1.4.7 the opposite order overwrites the mark.
    if random.chance(1, 5) {
        add(
            "-u",
            random.pick(&[
                "ASSURED",
                "SEEN_REPLY",
                "ASSURED,SEEN_REPLY",
                "UNREPLIED",
                "!ASSURED",
                "FIXED_TIMEOUT",
                "EXPECTED",
                "assured",
                "A",
            ]),
        );
    }
    if random.chance(1, 4) {
        let value = random.pick(&["0", "1", "2", "5", "0x10", "255", "65536", "4294967295", "0x80000000"]);
        let mask = random.pick(&["", "", "/0xffffffff", "/1", "/0xff", "/0x80000000", "/0", "/0xfffffffe"]);
        add(random.pick(&["-m", "--mark"]), &format!("{value}{mask}"));
    }
    if random.chance(1, 6) {
        add(
            random.pick(&["-w", "--zone", "--orig-zone", "--reply-zone"]),
            random.pick(&["0", "1", "5", "6", "7", "65535"]),
        );
    }
    if random.chance(1, 10) {
        add(random.pick(&["-l", "--label"]), random.pick(&["first", "two words", "hundred", "last", "eth0-in"]));
    }
    if random.chance(1, 4) {
        let option = random.pick(&["-n", "-g", "-j", "--src-nat", "--dst-nat", "--any-nat"]);
        words.push(option.into());
        // IPv6 addresses, and any address with `-j`, are covered by `differences.rs`.
        if !matches!(option, "-j" | "--any-nat") && random.chance(1, 2) {
            let address = random.pick(&ADDRESSES[0]);
            words.push(if random.chance(1, 3) { format!("{address}:{}", random.pick(&PORTS)) } else { address.into() });
        }
    }
    if random.chance(1, 3) {
        words.extend([
            "-o".into(),
            random
                .pick(&["xml", "extended", "id", "save", "extended,id,labels,ktimestamp", "xml,ktimestamp,labels"])
                .into(),
        ]);
    }
    words
}

#[test]
fn random_selectors() {
    let seed = Random::seed("FLOWGATE_SEED");
    let count = std::env::var("FLOWGATE_SELECTORS").ok().and_then(|text| text.parse().ok()).unwrap_or(500);
    println!("FLOWGATE_SEED={seed}");
    Namespace::run(|namespace| {
        namespace.account(true);
        namespace.keep_entries();
        entries::allow_labels(namespace);
        namespace.label_map(entries::LABEL_MAP);
        let _held = Traffic::everything(namespace);
        entries::labelled(namespace);
        for lines in [entries::every_protocol(), entries::nat(), entries::zones(), entries::marks()] {
            entries::load(namespace, &lines);
        }
        // conntrack treats the numbers of ICMP as ports, and so detects NAT where there is none: see `differences.rs`.
        for (protocol, source) in [("icmp", "10.9.0.1"), ("icmp", "10.1.0.1"), ("icmpv6", "2001:db8:9::1")] {
            Program::new("conntrack").must(&["-D", "-p", protocol, "-s", source]);
        }
        let mut random = Random::new(seed);
        let mut report = Report::new(format!("{count} random selectors of FLOWGATE_SEED={seed}"));
        for _ in 0..count {
            let words = selector(&mut random);
            report.check(namespace, &Setting::default(), &words.iter().map(String::as_str).collect::<Vec<_>>());
        }
        report.finish();
    });
}
