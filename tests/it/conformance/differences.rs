//! Intended differences from the installed `conntrack`: the complete list, each entry with its reason.
//!
//! Every listed command line is run through both programs, and both must behave exactly as listed. A difference that no
//! longer exists, or has changed, fails the test and must be removed from the list or corrected.

use crate::conformance::compare::{Both, show, without_banner, words};
use flowgate_test_support::entries;
use flowgate_test_support::{Namespace, Outcome};

/// The versions of `conntrack` that have a difference.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    /// 1.4.7 only; flowgate behaves like 1.4.9.
    Old,
    /// Every known version; flowgate does what the manual page says.
    Every,
}

/// The behaviour of a program: how many entries it lists, its error text without the banner, and its status.
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
    /// Why flowgate behaves differently.
    reason: &'static str,
}

/// A listing of `lines` entries with this error text.
const fn lists(lines: usize, stderr: &'static str) -> Does {
    Does { lines, stderr, status: 0 }
}

/// An error without output.
const fn fails(status: i32, stderr: &'static str) -> Does {
    Does { lines: 0, stderr, status }
}

const NONE: &str = "BANNER 0 flow entries have been shown.\n";
const ONE: &str = "BANNER 1 flow entries have been shown.\n";
const ALL: &str = "BANNER 8 flow entries have been shown.\n";
const VALUE: &str = "1.4.9 refuses a value that is not a number in range, 1.4.7 took its leading digits, or 0";

/// The list. The table has eight flows: see [`fill`].
const DIFFERENCES: &[Difference] = &[
    Difference {
        line: "-L -p udp --sport 60000 -p tcp",
        which: Which::Every,
        theirs: lists(0, NONE),
        ours: fails(
            2,
            "BANNER Illegal option `--sport' with this command\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
        ),
        reason: "options of the first of two protocols are refused, not passed over in silence",
    },
    Difference {
        line: "-L -w abc",
        which: Which::Old,
        theirs: lists(8, ALL),
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
        theirs: lists(8, ALL),
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
        theirs: lists(8, ALL),
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
        theirs: lists(7, "BANNER 7 flow entries have been shown.\n"),
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
        theirs: lists(8, ALL),
        ours: fails(1, "BANNER unexpected value 'abc' with -c option\n"),
        reason: VALUE,
    },
    Difference {
        line: "-L -c 5",
        which: Which::Every,
        theirs: lists(8, ALL),
        ours: lists(0, NONE),
        reason: "a security mark that is asked for is compared, and no kernel since 2.6.37 sends one",
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
        theirs: lists(8, ALL),
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
    Difference {
        line: "-Lx",
        which: Which::Old,
        theirs: lists(8, ALL),
        ours: fails(2, "BANNER unknown option `-Lx'\nTry `conntrack -h' or 'conntrack --help' for more information.\n"),
        reason: "since 1.4.9 command letters take no attached value: this is -L -x",
    },
    Difference {
        line: "-Lo xml",
        which: Which::Old,
        theirs: lists(8, ALL),
        ours: lists(11, ALL),
        reason: "since 1.4.9 command letters take no attached value: this is -L -o xml",
    },
    Difference {
        line: "-L -l nosuch -x",
        which: Which::Old,
        theirs: fails(
            2,
            "nfct_labelmap_new: No such file or directory\nBANNER unknown label 'nosuch'\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
        ),
        ours: fails(2, "BANNER unknown option `-x'\nTry `conntrack -h' or 'conntrack --help' for more information.\n"),
        reason: "since 1.4.9 labels are looked up after all options have been read",
    },
    Difference {
        line: "-L -o save,labels",
        which: Which::Old,
        theirs: fails(
            1,
            "nfct_labelmap_new: No such file or directory\nBANNER cannot combine save output with any other output type, use -o save only\n",
        ),
        ours: fails(1, "BANNER cannot combine save output with any other output type, use -o save only\n"),
        reason: "since 1.4.9 the label map is loaded after all options have been read",
    },
    Difference {
        line: "-L -p gre --srckey 1",
        which: Which::Every,
        theirs: lists(2, "BANNER 2 flow entries have been shown.\n"),
        ours: lists(1, ONE),
        reason: "conntrack takes the keys of GRE and does not compare them",
    },
    Difference {
        line: "-L -g",
        which: Which::Every,
        theirs: lists(1, ONE),
        ours: lists(0, NONE),
        reason: "conntrack compares type and code of ICMP as ports, and so takes source NAT for destination NAT",
    },
    Difference {
        line: "-L -n 203.0.113.7:0",
        which: Which::Every,
        theirs: lists(1, ONE),
        ours: lists(0, NONE),
        reason: "conntrack compares type and code of ICMP as ports",
    },
    Difference {
        line: "-L -n 2001:db8::99",
        which: Which::Every,
        theirs: lists(1, ONE),
        ours: lists(0, NONE),
        reason: "conntrack takes an IPv6 address and does not compare it",
    },
    Difference {
        line: "-L -j 203.0.113.7 -p tcp",
        which: Which::Every,
        theirs: lists(0, NONE),
        ours: lists(1, ONE),
        reason: "in conntrack the address also becomes the source address that is asked for",
    },
    Difference {
        line: "-L -u ASSURED -u SEEN_REPLY",
        which: Which::Every,
        theirs: lists(0, NONE),
        ours: lists(1, ONE),
        reason: "in conntrack the first -u decides which bits are looked at, so that a second bit never matches",
    },
    Difference {
        line: "-L -u ASSURED,!SEEN_REPLY",
        which: Which::Every,
        theirs: lists(0, NONE),
        ours: lists(1, ONE),
        reason: "in conntrack only the bits with `!` are looked at where there are some, so that the others never match",
    },
    Difference {
        line: "-L dying --mask-src 255.0.0.0",
        which: Which::Every,
        theirs: lists(0, NONE),
        ours: fails(
            2,
            "BANNER Can't use --mask-src without --src\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
        ),
        reason: "conntrack checks masks for its main table only, and then shows nothing",
    },
];

/// Eight flows: mark 5 and assured, and with mark 0: NAT, IPv6 with NAT, SCTP, ICMP with NAT, two of GRE, assured
/// without reply.
pub(super) fn fill(namespace: &Namespace) {
    // Replaces the host's label map by an empty one.
    namespace.label_map("");
    std::fs::remove_file("/etc/xtables/connlabel.conf").expect("a file in the private /etc");
    let lines = [
        "-I -t 3000 -u ASSURED,SEEN_REPLY -m 5 -s 10.0.0.1 -d 10.1.0.1 -p udp --sport 1 --dport 53",
        "-I -t 3000 -s 10.0.0.2 -d 10.1.0.1 -n 203.0.113.7 -p tcp --sport 1 --dport 80 --state ESTABLISHED",
        "-I -t 3000 -s 2001:db8::1 -d 2001:db8::2 -n 2001:db8::7 -p udp --sport 1 --dport 53",
        "-I -t 3000 -s 10.0.0.1 -d 10.1.0.1 -p sctp --sport 1 --dport 2 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2",
        "-I -t 3000 -s 10.6.0.1 -d 10.7.0.1 -n 203.0.113.7 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 9",
        "-I -t 3000 -s 10.0.0.1 -d 10.1.0.1 -p gre --srckey 1 --dstkey 2",
        "-I -t 3000 -s 10.0.0.1 -d 10.1.0.1 -p gre --srckey 3 --dstkey 4",
        "-I -t 3000 -u ASSURED -s 10.0.0.9 -d 10.1.0.1 -p udp --sport 1 --dport 53",
    ];
    entries::load(namespace, &lines.map(Into::into));
}

/// Returns true if an outcome is as listed.
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
        let (theirs, ours) = (both.theirs.called("conntrack"), both.ours);
        let old = Both::version() == "1.4.7";
        let mut failures = String::new();
        for Difference { line, which, theirs: they_do, ours: we_do, reason } in DIFFERENCES {
            assert!(they_do != we_do, "{line}: no difference is listed");
            // A newer conntrack has only the differences of every version; otherwise it behaves like flowgate.
            let they_do = if old || matches!(which, Which::Every) { they_do } else { we_do };
            // A program that is tested in place of flowgate behaves like conntrack.
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
