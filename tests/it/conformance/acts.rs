//! Intended differences from the installed `conntrack` in commands that change the table, each with its reason.
//!
//! Each runs in two fresh namespaces, once by each program; both must behave exactly as listed, as in `differences.rs`.

use crate::conformance::commands::LOAD;
use crate::conformance::compare::{Both, show, without_banner, words};
use crate::conformance::differences::{Which, fill};
use flowgate_test_support::{Namespace, Outcome, Program, entries};

/// What a program does, and what a listing shows afterwards.
#[derive(Debug, Eq, PartialEq)]
struct Did {
    /// Number of output lines.
    lines: usize,
    /// The error text without the banner.
    stderr: &'static str,
    status: i32,
    /// Number of entries that [`Act::then`] lists.
    left: usize,
}

/// Creates a [`Did`] from the number of output lines, the error text, the status, and the number of remaining entries.
const fn did(lines: usize, stderr: &'static str, status: i32, left: usize) -> Did {
    Did { lines, stderr, status, left }
}

/// One intended difference.
#[derive(Debug)]
struct Act {
    /// Command lines that conntrack executes first, on the table of [`fill`].
    before: &'static [&'static str],
    /// The command line; for `-R`, the lines of the file after [`LOAD`].
    line: &'static str,
    /// The listing that shows the result.
    then: &'static str,
    which: Which,
    theirs: Did,
    ours: Did,
    reason: &'static str,
}

const ZONED: &[&str] = &["-I -t 600 -p udp -s 10.8.0.1 -d 10.1.0.1 --sport 1 --dport 53 -w 5"];
const TWO: &[&str] = &[
    "-I -t 600 -p udp -s 10.8.0.1 -d 10.1.0.1 --sport 1 --dport 53 -m 1",
    "-I -t 600 -p udp -s 10.8.0.1 -d 10.1.0.1 --sport 2 --dport 53 -m 1",
];
/// Flows with labels; [`play`] allows labels where these are used.
const LABELLED: &[&str] = &[
    "-I -t 600 -p udp -s 10.8.0.1 -d 10.1.0.1 --sport 1 --dport 53 --label-add first --label-add last --label-add hundred",
    "-I -t 600 -p udp -s 10.8.0.1 -d 10.1.0.1 --sport 2 --dport 53 --label-add first",
];

const SCTP: &[&str] =
    &["-I -t 600 -p sctp -s 10.8.0.1 -d 10.1.0.1 --sport 1 --dport 2 --state ESTABLISHED --orig-vtag 5 --reply-vtag 6"];
const FIXED: &[&str] = &["-I -t 600 -u FIXED_TIMEOUT -p udp -s 10.8.0.1 -d 10.1.0.1 --sport 1 --dport 53"];

const GOES_ON: &str = "1.4.7 reports a refusal without its banner and goes on as if it had been none";
const NONE_DELETED: &str = "BANNER 0 flow entries have been deleted.\n";

const ACTS: &[Act] = &[
    Act {
        before: &[],
        line: "-D -u UNREPLIED",
        then: "-L",
        which: Which::Every,
        theirs: did(8, "BANNER 8 flow entries have been deleted.\n", 0, 0),
        ours: did(7, "BANNER 7 flow entries have been deleted.\n", 0, 1),
        reason: "conntrack asks the kernel for no status and does not compare one that is negated",
    },
    Act {
        before: &[],
        line: "-D -u !ASSURED",
        then: "-L",
        which: Which::Every,
        theirs: did(8, "BANNER 8 flow entries have been deleted.\n", 0, 0),
        ours: did(6, "BANNER 6 flow entries have been deleted.\n", 0, 2),
        reason: "conntrack asks the kernel for no status and does not compare one that is negated",
    },
    Act {
        before: &[],
        line: "-D -u UNSET",
        then: "-L",
        which: Which::Every,
        theirs: did(8, "BANNER 8 flow entries have been deleted.\n", 0, 0),
        ours: did(6, "BANNER 6 flow entries have been deleted.\n", 0, 2),
        reason: "in conntrack a status that names no bit narrows nothing; saved lines describe by it the flows without any",
    },
    Act {
        before: &[],
        line: "-D -u ASSURED,!SEEN_REPLY",
        then: "-L",
        which: Which::Every,
        theirs: did(2, "BANNER 2 flow entries have been deleted.\n", 0, 6),
        ours: did(1, "BANNER 1 flow entries have been deleted.\n", 0, 7),
        reason: "conntrack asks the kernel for no status and does not compare one that is negated",
    },
    Act {
        before: &[],
        line: "-D -u SRC_NAT",
        then: "-L",
        which: Which::Every,
        theirs: did(
            8,
            "WARNING: ignoring SRC_NAT, use --src-nat instead\nBANNER 8 flow entries have been deleted.\n",
            0,
            0,
        ),
        ours: did(
            0,
            "WARNING: ignoring SRC_NAT, use --src-nat instead\nBANNER status `SRC_NAT' names no bit to compare, so that it would not narrow what is deleted; leave -u out to delete regardless\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
            2,
            8,
        ),
        reason: "a name that is ignored would leave nothing to select by: refused",
    },
    Act {
        before: &[],
        line: "-D -t 5",
        then: "-L",
        which: Which::Every,
        theirs: did(8, "BANNER 8 flow entries have been deleted.\n", 0, 0),
        ours: did(0, NONE_DELETED, 1, 8),
        reason: "conntrack compares the timeout only if something else is compared too",
    },
    Act {
        before: &[],
        line: "-D -p gre --srckey 1",
        then: "-L",
        which: Which::Every,
        theirs: did(2, "BANNER 2 flow entries have been deleted.\n", 0, 6),
        ours: did(1, "BANNER 1 flow entries have been deleted.\n", 0, 7),
        reason: "conntrack takes the keys of GRE and does not compare them",
    },
    Act {
        before: &[],
        line: "-D -n 2001:db8::99",
        then: "-L",
        which: Which::Every,
        theirs: did(1, "BANNER 1 flow entries have been deleted.\n", 0, 7),
        ours: did(0, NONE_DELETED, 1, 8),
        reason: "conntrack takes an IPv6 address and does not compare it",
    },
    Act {
        before: &[],
        line: "-D -g",
        then: "-L",
        which: Which::Every,
        theirs: did(1, "BANNER 1 flow entries have been deleted.\n", 0, 7),
        ours: did(0, NONE_DELETED, 1, 8),
        reason: "conntrack compares type and code of ICMP as ports, and so takes source NAT for destination NAT",
    },
    Act {
        before: &[],
        line: "-F -f ipv6",
        then: "-L",
        which: Which::Every,
        theirs: did(0, "BANNER connection tracking table has been emptied.\n", 0, 0),
        ours: did(0, "BANNER connection tracking table has been emptied.\n", 0, 7),
        reason: "conntrack leaves out the version by which the kernel knows that the family counts",
    },
    Act {
        before: &[],
        line: "-I -t 600 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 1 -s 10.0.0.1 -d 10.1.0.1",
        then: "-L -p icmp -s 10.0.0.1",
        which: Which::Every,
        theirs: did(0, "BANNER Operation failed: invalid parameters\n", 1, 0),
        ours: did(0, "BANNER 1 flow entries have been created.\n", 0, 1),
        reason: "conntrack looks for the type of the reply before it knows the family",
    },
    Act {
        before: &[],
        line: "-I -t 600 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 1 -r 10.1.0.1 -q 10.0.0.1",
        then: "-L -p 0",
        which: Which::Every,
        theirs: did(0, "BANNER 1 flow entries have been created.\n", 0, 1),
        ours: did(0, "BANNER 1 flow entries have been created.\n", 0, 0),
        reason: "conntrack forgets the protocol where only one direction has addresses and the other has the numbers",
    },
    Act {
        before: &[],
        line: "-I -t 600 -p udp -r 10.1.0.1 -q 10.0.0.1 --sport 1 --dport 53",
        then: "-L -p 0",
        which: Which::Every,
        theirs: did(0, "BANNER 1 flow entries have been created.\n", 0, 1),
        ours: did(0, "BANNER 1 flow entries have been created.\n", 0, 0),
        reason: "conntrack forgets the protocol where only one direction has addresses and the other has the numbers",
    },
    Act {
        before: &[],
        line: "-I -t 600 -p icmpv6 -r ::1 -q ::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 1",
        then: "-L -p icmpv6",
        which: Which::Every,
        theirs: did(0, "BANNER Operation failed: invalid parameters\n", 1, 0),
        ours: did(0, "BANNER 1 flow entries have been created.\n", 0, 1),
        reason: "conntrack looks for the type of the reply before it knows the family",
    },
    Act {
        before: &[],
        line: "-G -s 10.0.0.1 -d 10.1.0.1 -p udp --reply-port-src 53 --reply-port-dst 1",
        then: "-L",
        which: Which::Every,
        theirs: did(0, "BANNER Operation failed: Success\n", 1, 8),
        ours: did(0, "BANNER Operation failed: such conntrack doesn't exist\n", 1, 8),
        reason: "conntrack says that it failed because of success",
    },
    Act {
        before: &[],
        line: "-I -t 600 -p udp -s 10.8.0.1 -d 10.1.0.1 --sport 1 --dport 53 -m 5 -u ASSURED",
        then: "-L -s 10.8.0.1 -m 5",
        which: Which::Old,
        theirs: did(0, "BANNER 1 flow entries have been created.\n", 0, 0),
        ours: did(0, "BANNER 1 flow entries have been created.\n", 0, 1),
        reason: "in 1.4.7 a status after a mark overwrites the mark",
    },
    Act {
        before: ZONED,
        line: "-U -s 10.8.0.1 -m 7",
        then: "-L -m 7",
        which: Which::Every,
        theirs: did(0, "Operation failed: No such file or directory\nBANNER 0 flow entries have been updated.\n", 1, 0),
        ours: did(1, "BANNER 1 flow entries have been updated.\n", 0, 1),
        reason: "conntrack leaves the zone out of what it asks for (1.4.9 does not report that nothing was found)",
    },
    Act {
        before: TWO,
        line: "-U -p udp -m 7",
        then: "-L -m 7",
        which: Which::Old,
        theirs: did(
            0,
            "Operation failed: Operation not supported\nBANNER Operation failed: Operation not supported\n",
            1,
            0,
        ),
        ours: did(5, "BANNER 5 flow entries have been updated.\n", 0, 5),
        reason: "1.4.7 cannot update without a family",
    },
    Act {
        before: TWO,
        line: "-U -s 10.8.0.1 -m 7",
        then: "-L -m 7",
        which: Which::Old,
        theirs: did(1, "BANNER 2 flow entries have been updated.\n", 0, 2),
        ours: did(2, "BANNER 2 flow entries have been updated.\n", 0, 2),
        reason: "of several updates 1.4.7 prints the first",
    },
    Act {
        before: TWO,
        line: "-A -t 600 -p udp -s 10.8.0.1 -d 10.1.0.1 --sport 1 --dport 53 -m 7",
        then: "-L -m 7",
        which: Which::Old,
        theirs: did(0, "BANNER 0 flow entries have been added.\n", 0, 0),
        ours: did(0, "BANNER 1 flow entries have been added.\n", 0, 1),
        reason: "in 1.4.7 -A leaves an entry that exists as it is",
    },
    Act {
        before: TWO,
        line: "-U -s 10.8.0.1 -p udp --sport 1 -u EXPECTED",
        then: "-L -u EXPECTED",
        which: Which::Old,
        theirs: did(1, "Operation failed: Device or resource busy\nBANNER 1 flow entries have been updated.\n", 0, 0),
        ours: did(0, "BANNER Operation failed: Device or resource busy\n", 1, 0),
        reason: GOES_ON,
    },
    Act {
        before: TWO,
        line: "-D -p udp --dport 53-8999",
        then: "-L",
        which: Which::Every,
        theirs: did(5, "BANNER 5 flow entries have been deleted.\n", 0, 5),
        ours: did(
            0,
            "BANNER unexpected value '53-8999' with --dport option: it takes a decimal number from 0 to 65535; one value is taken, not a range\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
            2,
            10,
        ),
        reason: "the leading digits of a range are not what was meant to be deleted",
    },
    Act {
        before: TWO,
        line: "-D -p udp 192.0.2.1",
        then: "-L",
        which: Which::Every,
        theirs: did(5, "BANNER 5 flow entries have been deleted.\n", 0, 5),
        ours: did(
            0,
            "BANNER 192.0.2.1 does not belong to any option; for a source address: -s, for a destination address: -d\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
            2,
            10,
        ),
        reason: "a word that selects nothing leaves more to be deleted than was meant",
    },
    Act {
        before: TWO,
        line: "--flush=expect",
        then: "-L",
        which: Which::Every,
        theirs: did(0, "BANNER connection tracking table has been emptied.\n", 0, 0),
        ours: did(
            0,
            "BANNER --flush takes no attached value `expect'; it takes the next word: --flush expect\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
            2,
            10,
        ),
        reason: "an attached table is ignored, and the other table emptied",
    },
    Act {
        before: TWO,
        line: "-L -z 64000",
        then: "-L",
        which: Which::Every,
        theirs: did(10, "BANNER 10 flow entries have been shown.\n", 0, 10),
        ours: did(
            0,
            "BANNER 64000 does not belong to any option; for a zone: -w 64000\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
            2,
            10,
        ),
        reason: "the counters of all zones are set to zero where one zone was meant",
    },
    Act {
        before: TWO,
        line: "-R - << -D -p udp foo; -D -p udp -- -s",
        then: "-L",
        which: Which::Every,
        theirs: did(5, "", 0, 5),
        ours: did(
            0,
            "BANNER foo does not belong to any option\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
            2,
            10,
        ),
        reason: "a word that selects nothing leaves more to be deleted than was meant",
    },
    Act {
        before: TWO,
        line: "-D --id 5",
        then: "-L",
        which: Which::Old,
        theirs: did(0, "", 139, 10),
        ours: did(0, NONE_DELETED, 1, 10),
        reason: "the long option has an optional value in 1.4.7, which crashes",
    },
    Act {
        before: TWO,
        line: "-D -i abc",
        then: "-L",
        which: Which::Old,
        theirs: did(0, NONE_DELETED, 1, 10),
        ours: did(
            0,
            "BANNER unexpected value 'abc' with -i option: --id takes a number from 0 to 4294967295; the kernel keeps no interfaces for flows\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
            2,
            10,
        ),
        reason: "1.4.7 took it for 0; in a command that deletes it is refused with what would be right",
    },
    Act {
        before: LABELLED,
        line: "-U -s 10.8.0.1 -p udp --sport 1 --label-del last",
        then: "-L -l first",
        which: Which::Every,
        theirs: did(1, "BANNER 1 flow entries have been updated.\n", 0, 1),
        ours: did(1, "BANNER 1 flow entries have been updated.\n", 0, 2),
        reason: "conntrack sends a mask as long as all labels, by which the kernel keeps only what is in it",
    },
    Act {
        before: LABELLED,
        line: "-D -M /etc/xtables/connlabel.conf -l first",
        then: "-L",
        which: Which::Old,
        theirs: did(
            0,
            "BANNER unknown option `-M'\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
            2,
            10,
        ),
        ours: did(2, "BANNER 2 flow entries have been deleted.\n", 0, 8),
        reason: "the label map can be named since 1.4.9",
    },
    Act {
        before: TWO,
        line: "-U -s 10.8.0.1 -p udp --sport 1 --label-add first",
        then: "-L -s 10.8.0.1",
        which: Which::Old,
        theirs: did(1, "Operation failed: No space left on device\nBANNER 1 flow entries have been updated.\n", 0, 2),
        ours: did(0, "BANNER 0 flow entries have been updated.\n", 1, 2),
        reason: GOES_ON,
    },
    Act {
        before: TWO,
        line: "-R - << -D -p udp --sport 1 -s 10.8.0.1 -o save; -D -p udp --sport 2 -s 10.8.0.1 -o xml",
        then: "-L",
        which: Which::Every,
        theirs: did(0, "BANNER cannot combine save output with any other output type, use -o save only\n", 1, 10),
        ours: did(2, "", 0, 8),
        reason: "in conntrack the output of any line is that of all: here it refuses two that each line may have",
    },
    Act {
        before: TWO,
        line: "-R - << -U -s 10.8.0.1 -p udp --sport 1 -m 7; -D -p 99",
        then: "-L -m 7",
        which: Which::Every,
        theirs: did(0, "", 0, 0),
        ours: did(1, "", 0, 1),
        reason: "in conntrack the last line's mark is that of all lines",
    },
    Act {
        before: LABELLED,
        line: "-R - << -D -l last; -D -l first",
        then: "-L",
        which: Which::Every,
        theirs: did(0, "", 139, 8),
        ours: did(2, "", 0, 8),
        reason: "conntrack crashes",
    },
    Act {
        before: &[],
        line: "-L -p icmp -p tcp --icmp-type 3",
        then: "-L",
        which: Which::Every,
        theirs: did(0, "BANNER 0 flow entries have been shown.\n", 0, 8),
        ours: did(
            0,
            "BANNER unknown option `--icmp-type'\nTry `conntrack -h' or 'conntrack --help' for more information.\n",
            2,
            8,
        ),
        reason: "options of an earlier protocol are unknown, not passed over in silence",
    },
    Act {
        before: &[],
        line: "-L -j 203.0.113.7 -m 0",
        then: "-L",
        which: Which::Every,
        theirs: did(0, "BANNER 0 flow entries have been shown.\n", 0, 8),
        ours: did(2, "BANNER 2 flow entries have been shown.\n", 0, 8),
        reason: "in conntrack the address also becomes the source address that is asked for",
    },
    Act {
        before: SCTP,
        line: "-U -s 10.8.0.1 -p sctp --state CLOSED",
        then: "-L -s 10.8.0.1",
        which: Which::Old,
        theirs: did(1, "Operation failed: invalid parameters\nBANNER 1 flow entries have been updated.\n", 0, 1),
        ours: did(0, "BANNER Operation failed: invalid parameters\n", 1, 1),
        reason: GOES_ON,
    },
    Act {
        before: SCTP,
        line: "-U -s 10.8.0.1 -p sctp --orig-vtag 7 -m 9",
        then: "-L -s 10.8.0.1",
        which: Which::Old,
        theirs: did(1, "Operation failed: invalid parameters\nBANNER 1 flow entries have been updated.\n", 0, 1),
        ours: did(0, "BANNER Operation failed: invalid parameters\n", 1, 1),
        reason: GOES_ON,
    },
    Act {
        before: FIXED,
        line: "-U -s 10.8.0.1 -p udp -t 5",
        then: "-L -s 10.8.0.1",
        which: Which::Old,
        theirs: did(
            1,
            "Operation failed: sorry, you must be root or get CAP_NET_ADMIN capability to do this\nBANNER 1 flow entries have been updated.\n",
            0,
            1,
        ),
        ours: did(
            0,
            "BANNER Operation failed: sorry, you must be root or get CAP_NET_ADMIN capability to do this\n",
            1,
            1,
        ),
        reason: GOES_ON,
    },
    Act {
        before: LABELLED,
        line: "-U -s 10.8.0.1 -p udp --sport 1 --label-add beyond",
        then: "-L -s 10.8.0.1",
        which: Which::Every,
        theirs: did(1, "BANNER 1 flow entries have been updated.\n", 0, 2),
        ours: did(0, "BANNER Operation failed: Numerical result out of range\n", 1, 2),
        reason: "conntrack cuts off a label beyond those that the flow has room for, and says that it is set",
    },
];

/// Executes one line in a fresh namespace. Returns its outcome, and how many entries the listing shows afterwards.
fn play(program: &Program, act: &Act) -> (Outcome, usize) {
    Namespace::run(|namespace| {
        fill(namespace);
        std::fs::write("/etc/xtables/connlabel.conf", entries::LABEL_MAP).expect("a file in the private /etc");
        if act.before.iter().any(|line| line.contains("--label-add")) {
            entries::allow_labels(namespace);
        }
        for line in act.before {
            Program::new("conntrack").must(&words(line));
        }
        let outcome = match act.line.strip_prefix(LOAD) {
            Some(file) => program.run_with(&["-R", "-"], file.replace("; ", "\n").as_bytes()),
            None => program.run(&words(act.line)),
        };
        (outcome, Program::new("conntrack").must(&words(act.then)).lines().count())
    })
}

#[test]
fn exist_as_listed() {
    let both = Both::new();
    let (theirs, ours) = (both.theirs.called("conntrack"), both.ours);
    let old = Both::version() == "1.4.7";
    let mut failures = String::new();
    for act in ACTS {
        let Act { line, which, reason, .. } = act;
        assert!(act.theirs != act.ours, "{line}: no difference is listed");
        // A newer conntrack has only the differences of every version; otherwise it behaves like flowgate.
        let they = if old || matches!(which, Which::Every) { &act.theirs } else { &act.ours };
        // A program that is tested in place of flowgate behaves like conntrack.
        let we = if std::env::var_os("FLOWGATE_UNDER_TEST").is_some() { they } else { &act.ours };
        for (program, whose, did) in [(&theirs, "conntrack", they), (&ours, "flowgate", we)] {
            let (outcome, left) = play(program, act);
            let stderr = without_banner(&outcome, whose == "flowgate");
            let lines = outcome.text().lines().count();
            if (lines, &*stderr, outcome.status, left) != (did.lines, did.stderr, did.status, did.left) {
                failures += &format!(
                    "$ {}\n  listed because {reason}\n  {whose} was to give {did:?}\n  and gave status {}, {lines} lines, {stderr:?}, and left {left}\n",
                    show(&words(line)),
                    outcome.status,
                );
            }
        }
    }
    assert!(failures.is_empty(), "listed differences are not as listed:\n{failures}");
}

/// conntrack crashes on a file with labels and two commands, in ways that differ from machine to machine.
#[test]
fn files_with_labels() {
    let both = Both::new();
    let act = Act {
        before: LABELLED,
        line: "-R - << -D -l last; -I -t 600 -p 50 -s 10.8.0.1 -d 10.1.0.1 --label-add five; -U -l first -s 10.8.0.1 -m 7",
        then: "-L -s 10.8.0.1",
        which: Which::Every,
        theirs: did(0, "", 0, 0),
        ours: did(0, "", 0, 0),
        reason: "conntrack crashes",
    };
    let (outcome, _) = play(&both.theirs, &act);
    assert!(outcome.status > 128, "conntrack crashes no more: {outcome:?}");
    let (outcome, left) = play(&both.ours, &act);
    assert_eq!((outcome.status, outcome.text().lines().count(), left), (0, 2, 2), "{outcome:?}");
}
