//! A small table with entries of many kinds, and a check that it has not changed.

use crate::{Namespace, Outcome, Program, entries};

/// Returns the table without timeouts: flows with counters, marks and ids, and expectations.
pub fn table() -> Vec<String> {
    let conntrack = Program::new("conntrack");
    let listed = [&["-L", "-o", "id,extended"][..], &["-L", "expect"]].map(|line| conntrack.must(line)).concat();
    let steady = |line: &str| {
        let words = line.split_whitespace().enumerate().filter(|(place, _)| *place != 4);
        words.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = listed.lines().map(steady).collect();
    lines.sort();
    lines
}

/// Creates flows of several protocols, families, zones and marks, one of them with counted packets.
pub fn fill(namespace: &Namespace) {
    // Without timestamps: listings would show an age that changes.
    namespace.set("netfilter/nf_conntrack_acct", 1);
    namespace.keep_entries();
    namespace.nft("table ip t { chain c { type filter hook output priority 0; ct state new accept; }; }");
    entries::load(
        namespace,
        &[
            "-I -t 3600 -p udp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 53 -m 1",
            "-I -t 3600 -p tcp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 8000 --state ESTABLISHED -u ASSURED",
            "-I -t 3600 -p tcp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 8500 --state ESTABLISHED -n 203.0.113.1",
            "-I -t 3600 -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 4000 --dport 53",
            "-I -t 3600 -p icmp -s 192.0.2.1 -d 198.51.100.1 --icmp-type 8 --icmp-code 0 --icmp-id 1",
            "-I -t 3600 -p gre -s 192.0.2.1 -d 198.51.100.1 --srckey 1 --dstkey 2",
            "-I -t 3600 -p udp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 53 -w 7",
        ]
        .map(String::from),
    );
    Program::new("ping").must(&["-c", "1", "127.0.0.1"]);
    assert!(table().iter().any(|line| line.contains("packets=1 bytes=84")), "{:?}", table());
}

/// Returns true if a command line was refused as invalid.
pub fn refused(outcome: &Outcome) -> bool {
    outcome.status == 2 && outcome.stdout.is_empty() && !outcome.stderr.is_empty()
}
