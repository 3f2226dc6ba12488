//! Stored recordings in `tests/data`, and their output in each format.
//!
//! `BLESS=1` stores the current output; `FLOWGATE_RECORD=1` records them again on the kernel of this machine, which
//! changes ids and times.

use crate::recording::listener::{listen, until_recorded};
use crate::recording::{flowgate, run};
use flowgate_test_support::traffic::{FTP, TFTP, Traffic, socket};
use flowgate_test_support::{Namespace, Program, entries};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};

/// Recordings, and the ways in which they are shown: a name for the file, the command line.
const DATA: &[(&str, &[(&str, &str)])] = &[
    (
        "flows",
        &[
            ("text", ""),
            ("extended", "-o extended,id"),
            ("ktimestamp", "-o ktimestamp"),
            ("labels", "-o labels --labelmap LABELS"),
            ("xml", "-o xml,ktimestamp"),
            ("save", "-o save"),
            ("json", "-o json --labelmap LABELS -o labels"),
            ("selected", "-f ipv6 -p tcp"),
        ],
    ),
    (
        "events",
        &[
            ("text", ""),
            ("timestamp", "-o timestamp,id,extended"),
            ("xml", "-o xml,timestamp"),
            ("save", "-o save"),
            ("json", "-o json"),
            ("selected", "-e DESTROY -p udp"),
        ],
    ),
    ("expectations", &[("text", ""), ("xml", "-o xml"), ("json", "-o json")]),
    ("expectation-events", &[("text", ""), ("timestamp", "-o timestamp"), ("xml", "-o xml"), ("json", "-o json")]),
];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

#[test]
fn formats_make_of_a_recording_what_they_made_before() {
    if std::env::var_os("FLOWGATE_RECORD").is_some() {
        record_flows();
        record_events();
        record_expectations();
    }
    let program = flowgate().environment("TZ", "UTC");
    let labels = data().join("connlabel.conf").display().to_string();
    let mut wrong = Vec::new();
    for (name, ways) in DATA {
        for (way, options) in *ways {
            let file = data().join(format!("{name}.pcap"));
            let outcome = run(&program, &file, &format!("replay FILE -- {}", options.replace("LABELS", &labels)));
            assert_eq!(outcome.status, 0, "{name} {way}: {}", outcome.errors());
            let made = outcome.text() + &outcome.errors();
            let golden = data().join(format!("{name}.{way}.txt"));
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(&golden, &made).expect("a file of the source");
            }
            let expected = std::fs::read_to_string(&golden).unwrap_or_default();
            if made != expected {
                let line = made.lines().zip(expected.lines()).find(|(made, expected)| made != expected);
                wrong.push(format!("{}: {line:?}", golden.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "if that is meant, BLESS=1 writes it down:\n{}", wrong.join("\n"));
}

/// Entries of all kinds: protocols and their states, NAT, zones, marks, labels, both families, real traffic.
fn record_flows() {
    Namespace::run(|namespace| {
        namespace.account(true);
        namespace.keep_entries();
        std::fs::write(data().join("connlabel.conf"), entries::LABEL_MAP).expect("a file of the source");
        namespace.label_map(entries::LABEL_MAP);
        entries::allow_labels(namespace);
        for lines in [entries::every_protocol(), entries::nat(), entries::zones(), entries::marks()] {
            entries::load(namespace, &lines.into_iter().step_by(3).collect::<Vec<_>>());
        }
        entries::labelled(namespace);
        let _traffic = Traffic::everything(namespace);
        let outcome = run(&flowgate(), &data().join("flows.pcap"), "record FILE -- -L");
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
    });
}

fn record_events() {
    Namespace::run(|namespace| {
        namespace.account(true);
        let file = data().join("events.pcap");
        let mut listener = listen(&flowgate(), &file, "record FILE");
        for lines in [entries::every_protocol(), entries::nat(), entries::zones(), entries::marks()] {
            entries::load(namespace, &lines.into_iter().step_by(7).collect::<Vec<_>>());
        }
        let conntrack = Program::new("conntrack");
        conntrack.must(&["-U", "-s", "10.4.0.1", "-p", "udp", "-m", "9"]);
        conntrack.must(&["-D", "-p", "tcp"]);
        let mut traffic = Traffic::prepare(namespace);
        traffic.udp(&socket("10.9.0.1", 5001), &socket("10.9.0.1", 5001), true);
        traffic.tcp_closed(&socket("2001:db8:9::1", 8082));
        traffic.tcp_closed(&socket("10.9.0.1", 8082));
        flowgate_test_support::traffic::ping("2001:db8:9::1");
        conntrack.must(&["-F"]);
        let last = "-I -t 600 -p udp -s 10.0.0.77 -d 10.0.0.78 --sport 77 --dport 77 -m 1279349588";
        conntrack.must(&last.split_whitespace().collect::<Vec<_>>());
        until_recorded(&file, b"LAST");
        listener.end_by(Signal::SIGINT);
    });
}

fn record_expectations() {
    Namespace::run(|namespace| {
        let file = data().join("expectation-events.pcap");
        let mut listener = listen(&flowgate(), &file, "record FILE -- -E expect");
        let mut traffic = Traffic::prepare(namespace);
        let ftp = socket("10.9.0.1", FTP);
        traffic.ftp(&ftp, &ftp, true);
        traffic.ftp(&ftp, &ftp, false);
        traffic.ftp(&ftp, &socket("10.9.0.80", FTP), false);
        traffic.tftp(&socket("10.9.0.1", TFTP));
        let outcome = run(&flowgate(), &data().join("expectations.pcap"), "record FILE -- -L expect");
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        Program::new("conntrack").must(&["-F", "expect"]);
        traffic.tftp(&socket("2001:db8:9::1", TFTP));
        until_recorded(&file, b"tftp\0");
        listener.end_by(Signal::SIGINT);
    });
}
