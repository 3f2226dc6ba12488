//! Tables of every kind, each listed in every combination of outputs.

use crate::conformance::compare::{Report, Setting};
use flowgate_test_support::dying::Dying;
use flowgate_test_support::entries;
use flowgate_test_support::traffic::{SERVERS, Traffic, socket};
use flowgate_test_support::{Namespace, Program};

/// The words that `-o` takes, except for `save`, which cannot be combined.
const OUTPUTS: [&str; 7] = ["xml", "extended", "id", "ktimestamp", "labels", "userspace", "timestamp"];

/// Everything that can be listed.
const LISTINGS: [&str; 8] = [
    "-L",
    "-L -f ipv4",
    "-L -f ipv6",
    "-L expect",
    "-L expect -f ipv4",
    "-L expect -f ipv6",
    "-L dying",
    "-L unconfirmed",
];

/// Returns every subset of the output words for the command line, starting with the empty one, and `save`.
fn all_outputs() -> Vec<String> {
    let subsets = (0..1_u32 << OUTPUTS.len()).map(|bits| {
        OUTPUTS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| *name).collect::<Vec<_>>()
    });
    let mut all: Vec<String> =
        subsets.map(|names| if names.is_empty() { String::new() } else { format!("-o {}", names.join(",")) }).collect();
    all.extend(
        ["-o save", "-o save,userspace", "-o userspace -o save", "-o extended -o id", "-o XML", "-o e,i,k,l"]
            .map(Into::into),
    );
    // With labels the result depends on the label map: see `differences.rs`.
    all.extend(OUTPUTS.iter().filter(|name| **name != "labels").map(|name| format!("-o save,{name}")));
    all
}

/// Returns no output word, each alone, each pair, all of them, and save.
fn some_outputs() -> Vec<String> {
    all_outputs()
        .into_iter()
        .filter(|words| words.matches(',').count() < 2 || words.matches(',').count() == OUTPUTS.len() - 1)
        .collect()
}

/// Lists the table of the namespace in every way.
fn list(namespace: &Namespace, about: &str) {
    let mut report = Report::new(about);
    for listing in LISTINGS {
        // Every combination for the listing with the most fields, and a selection for the others.
        for output in if listing == "-L" { all_outputs() } else { some_outputs() } {
            report.words(namespace, &Setting::default(), &format!("{listing} {output}"));
        }
    }
    report.finish();
}

/// Checks that a table has at least this number of entries, so that no test compares two empty listings by accident.
fn at_least(_: &Namespace, table: &str, count: usize) {
    let listed = Program::new("conntrack").must(&["-L", table]).lines().count();
    assert!(listed >= count, "the table `{table}` was to have {count} entries at least, and has {listed}");
}

#[test]
fn empty() {
    Namespace::run(|namespace| list(namespace, "an empty table"));
}

#[test]
fn every_protocol() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::every_protocol());
        at_least(namespace, "conntrack", 200);
        list(namespace, "every protocol");
    });
}

#[test]
fn every_protocol_with_accounting_and_timestamps() {
    Namespace::run(|namespace| {
        namespace.account(true);
        namespace.label_map(entries::LABEL_MAP);
        entries::load(namespace, &entries::every_protocol());
        at_least(namespace, "conntrack", 200);
        list(namespace, "every protocol, with counters and time stamps");
    });
}

#[test]
fn counters_on_some_entries_only() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        namespace.set("netfilter/nf_conntrack_acct", 1);
        entries::load(namespace, &entries::zones());
        namespace.set("netfilter/nf_conntrack_acct", 0);
        namespace.set("netfilter/nf_conntrack_timestamp", 1);
        entries::load(namespace, &entries::nat());
        at_least(namespace, "conntrack", 100);
        list(namespace, "counters, then time stamps, then neither");
    });
}

#[test]
fn nat() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::nat());
        at_least(namespace, "conntrack", 30);
        list(namespace, "NAT");
    });
}

#[test]
fn zones() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::zones());
        at_least(namespace, "conntrack", 38);
        list(namespace, "zones");
    });
}

#[test]
fn marks() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        at_least(namespace, "conntrack", 48);
        list(namespace, "marks");
    });
}

#[test]
fn labels() {
    Namespace::run(|namespace| {
        entries::allow_labels(namespace);
        namespace.label_map(entries::LABEL_MAP);
        entries::labelled(namespace);
        at_least(namespace, "conntrack", 19);
        assert!(Program::new("conntrack").must(&["-L", "-o", "labels"]).contains("labels=first,five,hundred"));
        list(namespace, "labels");
    });
}

#[test]
fn labels_without_a_usable_map() {
    for map in [
        "",
        "# nothing\n",
        "200 unused\n",
        "x y\n\n5\n0 zero\n0 zero-again\n1 zero\n2 good\n 3  leading blanks\n4 under_score\n1024 too-large\n7 tab\there\n",
    ] {
        Namespace::run(|namespace| {
            entries::allow_labels(namespace);
            namespace.label_map(entries::LABEL_MAP);
            entries::labelled(namespace);
            std::fs::write("/etc/xtables/connlabel.conf", map).expect("a file in the private /etc");
            let mut report = Report::new(format!("labels with the map {map:?}"));
            for words in ["-L -o labels", "-L -o xml,labels", "-L -l good", "-L -l zero", "-L -l zero-again", "-L -l 2"]
            {
                report.words(namespace, &Setting::default(), words);
            }
            report.finish();
        });
    }
    Namespace::run(|namespace| {
        namespace.label_map(entries::LABEL_MAP);
        std::fs::remove_file("/etc/xtables/connlabel.conf").expect("a file in the private /etc");
        let mut report = Report::new("labels without a map");
        for words in ["-L -o labels", "-L -o xml,labels", "-L -l first", "-L"] {
            report.words(namespace, &Setting::default(), words);
        }
        report.finish();
    });
}

#[test]
fn real_traffic() {
    Namespace::run(|namespace| {
        namespace.account(true);
        namespace.keep_entries();
        let _held = Traffic::everything(namespace);
        at_least(namespace, "conntrack", 20);
        at_least(namespace, "expect", 2);
        list(namespace, "real traffic");
    });
}

#[test]
fn real_traffic_without_accounting_and_timestamps() {
    Namespace::run(|namespace| {
        namespace.account(false);
        namespace.keep_entries();
        let _held = Traffic::everything(namespace);
        at_least(namespace, "conntrack", 20);
        list(namespace, "real traffic without counters and time stamps");
    });
}

#[test]
fn dying() {
    Namespace::run(|namespace| {
        let _held = Dying::fill(namespace, 400);
        at_least(namespace, "dying", 100);
        list(namespace, "dying entries");
        // An intended difference: conntrack does not initialize its masks for this table, and so shows nothing.
        let both = crate::conformance::compare::Both::new();
        let shown = |program: &Program| program.must(&["-L", "dying", "-s", "10.0.0.0/8"]).lines().count();
        assert_eq!(shown(&both.theirs), 0, "a difference that exists no more");
        assert!(shown(&both.ours) > 100);
        let mut report = Report::new("selected dying entries");
        for selector in [
            "-f ipv6",
            "-p tcp",
            "-p udp --dport 53",
            "-s 10.0.0.1",
            "-m 1",
            "-m 1/1",
            "-u ASSURED",
            "-w 0",
            "-n",
            "-o id -p gre",
        ] {
            report.words(namespace, &Setting::default(), &format!("-L dying {selector}"));
        }
        report.finish();
    });
}

/// `-z` shows the counters and resets them, so the programs cannot read the same ones: both get the same amount of
/// traffic.
#[test]
fn reset_of_counters() {
    Namespace::run(|namespace| {
        namespace.account(true);
        namespace.keep_entries();
        let mut traffic = Traffic::prepare(namespace);
        let mut report = Report::new("reset of counters");
        let both = crate::conformance::compare::Both::new();
        for words in ["-L -z", "-L -z -o xml", "-L -z -f ipv4", "-L -z -f ipv6 -o extended", "-L --zero -o save"] {
            let mut outcomes = Vec::new();
            for program in [&both.theirs, &both.ours] {
                // The first datagrams create the entry; its status must be the same for both programs. If a datagram is
                // lost the counters differ, so everything is repeated.
                let counted = (0..10).any(|_| {
                    let mut all = |counts: [usize; 2]| {
                        let mut all = SERVERS.iter().zip(counts);
                        all.all(|(server, count)| {
                            traffic.udp_exactly(&socket(server, 7001), &socket(server, 7002), count)
                        })
                    };
                    let made = all([3, 3]);
                    Program::new("conntrack").must(&["-L", "-z"]);
                    made && all([5, 9])
                });
                assert!(counted, "datagrams are lost on loopback, ten times in a row");
                outcomes.push(program.run(&crate::conformance::compare::words(words)));
                let after = Program::new("conntrack").must(&["-L"]);
                outcomes.push(flowgate_test_support::Outcome { stdout: after.into_bytes(), stderr: vec![], status: 0 });
            }
            report.outcomes(words, &outcomes[0], &outcomes[2]);
            report.outcomes(&format!("{words}, and then -L"), &outcomes[1], &outcomes[3]);
        }
        report.finish();
    });
}
