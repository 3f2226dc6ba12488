//! What differs from the installed `conntrack`, on purpose: the only list of it, each line with its reason.
//!
//! Every listed command line is run through both programs, and both must do exactly what is listed: a difference that
//! exists no more, or has become another one, fails the test and must leave the list.

use crate::compare::{Both, show, without_banner, words};
use flowgate_test_support::entries;
use flowgate_test_support::{Namespace, Outcome};

/// Which `conntrack` has a difference.
#[derive(Clone, Copy, Debug)]
enum Which {
    /// 1.4.7 only; flowgate does what 1.4.9 does.
    Old,
    /// Every version known: flowgate does what the manual page says.
    Every,
}

/// What a program does: how many entries it lists, its error text without the banner, and its status.
#[derive(Debug, Eq, PartialEq)]
struct Does {
    lines: usize,
    stderr: &'static str,
    status: i32,
}

/// One intended difference.
#[derive(Debug)]
struct Difference {
    /// The command line.
    line: &'static str,
    which: Which,
    theirs: Does,
    ours: Does,
    /// Why flowgate does not do the same.
    reason: &'static str,
}

/// What is listed.
const fn lists(lines: usize, stderr: &'static str) -> Does {
    Does { lines, stderr, status: 0 }
}

/// An error without output.
const fn fails(status: i32, stderr: &'static str) -> Does {
    Does { lines: 0, stderr, status }
}

const NONE: &str = "BANNER 0 flow entries have been shown.\n";
const ONE: &str = "BANNER 1 flow entries have been shown.\n";
const ALL: &str = "BANNER 4 flow entries have been shown.\n";
const VALUE: &str = "1.4.9 refuses a value that is not a number in range, 1.4.7 took its leading digits, or 0";

/// The list. The table has four flows, see [`fill`].
const DIFFERENCES: &[Difference] = &[
    Difference {
        line: "-L -w abc",
        which: Which::Old,
        theirs: lists(4, ALL),
        ours: fails(1, "BANNER unexpected value 'abc' with -w option\n"),
        reason: VALUE,
    },
    Difference {
        line: "-L -w 5x",
        which: Which::Old,
        theirs: lists(0, NONE),
        ours: fails(1, "BANNER unexpected value '5x' with -w option\n"),
        reason: VALUE,
    },
    Difference {
        line: "-L -w 65536",
        which: Which::Old,
        theirs: lists(4, ALL),
        ours: fails(1, "BANNER unexpected value '65536' with -w option\n"),
        reason: VALUE,
    },
    Difference {
        line: "-L -w -1",
        which: Which::Old,
        theirs: lists(0, NONE),
        ours: fails(1, "BANNER unexpected value '-1' with -w option\n"),
        reason: VALUE,
    },
    Difference {
        line: "-L --orig-zone abc",
        which: Which::Old,
        theirs: lists(4, ALL),
        ours: fails(1, "BANNER unexpected value 'abc' with -( option\n"),
        reason: VALUE,
    },
    Difference {
        line: "-L --reply-zone 99999",
        which: Which::Old,
        theirs: lists(0, NONE),
        ours: fails(1, "BANNER unexpected value '99999' with -) option\n"),
        reason: VALUE,
    },
    Difference {
        line: "-L -m x",
        which: Which::Old,
        theirs: lists(3, "BANNER 3 flow entries have been shown.\n"),
        ours: fails(1, "BANNER unexpected value 'x' with -m option\n"),
        reason: VALUE,
    },
    Difference {
        line: "-L -m 5x",
        which: Which::Old,
        theirs: lists(1, ONE),
        ours: fails(1, "BANNER unexpected value '5x' with -m option\n"),
        reason: VALUE,
    },
    Difference {
        line: "-L -m 4294967301",
        which: Which::Old,
        theirs: lists(1, ONE),
        ours: fails(1, "BANNER unexpected value '4294967301' with -m option\n"),
        reason: VALUE,
    },
    Difference {
        line: "-L -m 5/0xfx",
        which: Which::Old,
        theirs: lists(1, ONE),
        ours: fails(1, "BANNER unexpected value '5/0xfx' with -m option\n"),
        reason: VALUE,
    },
    Difference {
        line: "-L -c abc",
        which: Which::Old,
        theirs: lists(4, ALL),
        ours: fails(1, "BANNER unexpected value 'abc' with -c option\n"),
        reason: VALUE,
    },
    Difference {
        line: "-L -M /nonexistent -l x",
        which: Which::Old,
        theirs: fails(
            2,
            "BANNER unknown option `-M'\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
        ),
        ours: fails(
            2,
            "nfct_labelmap_new: No such file or directory\nBANNER unknown label 'x'\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
        ),
        reason: "the label map can be named since 1.4.9",
    },
    Difference {
        line: "-Lexpect",
        which: Which::Old,
        theirs: lists(4, ALL),
        ours: fails(
            2,
            "BANNER Bad parameter `xpect'\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
        ),
        reason: "since 1.4.9 command letters take no attached value: this is -L -e xpect",
    },
    Difference {
        line: "-L -m 5 -u ASSURED",
        which: Which::Old,
        theirs: lists(0, NONE),
        ours: lists(1, ONE),
        reason: "in 1.4.7 a status after a mark overwrites the mark",
    },
    Difference {
        line: "-L -p sctp --state FOO",
        which: Which::Every,
        theirs: fails(139, ""),
        ours: fails(
            2,
            "BANNER unknown SCTP state `FOO'\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
        ),
        reason: "conntrack crashes",
    },
];

/// Four flows: mark 5 and assured, mark 0 with NAT, IPv6, SCTP.
fn fill(namespace: &Namespace) {
    let lines = [
        "-I -t 3000 -u ASSURED,SEEN_REPLY -m 5 -s 10.0.0.1 -d 10.1.0.1 -p udp --sport 1 --dport 53",
        "-I -t 3000 -s 10.0.0.2 -d 10.1.0.1 -n 203.0.113.7 -p tcp --sport 1 --dport 80 --state ESTABLISHED",
        "-I -t 3000 -s 2001:db8::1 -d 2001:db8::2 -n 2001:db8::7 -p udp --sport 1 --dport 53",
        "-I -t 3000 -s 10.0.0.1 -d 10.1.0.1 -p sctp --sport 1 --dport 2 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2",
    ];
    entries::load(namespace, &lines.map(Into::into));
}

/// What a program did, in the terms of the list.
fn matches(outcome: &Outcome, does: &Does, ours: bool) -> bool {
    outcome.status == does.status
        && without_banner(outcome, ours) == does.stderr
        && outcome.text().lines().count() == does.lines
}

#[test]
fn exist_as_listed() {
    Namespace::run(|namespace| {
        fill(namespace);
        let both = Both::new();
        let (theirs, ours) = (both.theirs.called("conntrack"), both.ours.called("conntrack"));
        let old = Both::version() == "1.4.7";
        let mut failures = String::new();
        for Difference { line, which, theirs: they_do, ours: we_do, reason } in DIFFERENCES {
            assert!(they_do != we_do, "{line}: no difference is listed");
            // A newer conntrack has only the differences of every version; in the others it does what flowgate does.
            let they_do = if old || matches!(which, Which::Every) { they_do } else { we_do };
            // A stand-in for flowgate does what conntrack does.
            let we_do = if std::env::var_os("FLOWGATE_UNDER_TEST").is_some() { they_do } else { we_do };
            for (program, whose, does) in [(&theirs, "conntrack", they_do), (&ours, "flowgate", we_do)] {
                let outcome = program.run(&words(line));
                if !matches(&outcome, does, whose == "flowgate") {
                    failures += &format!(
                        "$ {}\n  listed because {reason}\n  {whose} was to give {does:?}\n  and gave status {}, {} lines, {:?}\n",
                        show(&words(line)),
                        outcome.status,
                        outcome.text().lines().count(),
                        without_banner(&outcome, whose == "flowgate")
                    );
                }
            }
        }
        assert!(failures.is_empty(), "listed differences are not as listed:\n{failures}");
    });
}
