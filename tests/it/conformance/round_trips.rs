//! Saved entries can be loaded again: by flowgate, by `conntrack`, and in another zone.

use crate::conformance::compare::{Both, Report};
use crate::conformance::line::Line;
use flowgate_test_support::{Namespace, Program, entries};

/// Returns the lines sorted, without the remaining timeout.
fn steady(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| Line::new(line).rest).collect();
    lines.sort();
    lines
}

/// Returns the table as command lines.
fn saved(_: &Namespace) -> Vec<String> {
    steady(&Program::new("conntrack").must(&["-L", "-o", "save"]))
}

/// Returns flows of DCCP in both families.
fn dccp() -> Vec<String> {
    let pairs = ["-s 10.7.0.1 -d 10.1.0.1", "-s 2001:db8:7::1 -d 2001:db8::2"];
    pairs.map(|pair| format!("-I -t 3000 {pair} -p dccp --sport 1 --dport 2 --state OPEN --role client")).to_vec()
}

/// Creates a table with every protocol, NAT, zones, marks and labels, in both families.
fn fill(namespace: &Namespace) -> usize {
    let tables = [entries::every_protocol(), dccp(), entries::nat(), entries::zones(), entries::marks()];
    tables.iter().for_each(|lines| entries::load(namespace, lines));
    entries::labelled(namespace);
    saved(namespace).len()
}

/// Runs `body` in a namespace in which flows can have labels.
fn with_labels<R: Send>(body: impl FnOnce(&Namespace) -> R + Send) -> R {
    Namespace::run(|namespace| {
        entries::allow_labels(namespace);
        namespace.label_map(entries::LABEL_MAP);
        body(namespace)
    })
}

/// Protocols and options that a saved table of [`fill`] must contain, so that none is missing from the comparison
/// unnoticed.
const WITHIN: [&str; 14] = [
    "-p tcp ",
    "-p udp ",
    "-p udplite ",
    "-p sctp ",
    "-p dccp",
    "-p icmp ",
    "-p icmpv6 ",
    "-p gre ",
    "-p 50",
    " -n 2001:db8:7::7 ",
    " -g 10.3.0.9 ",
    " -w 5 ",
    " --orig-zone 6 ",
    " --reply-zone 7 ",
];

/// Returns true if a saved line can create the same entry again. Kernels without DCCP tracking keep neither ports nor a
/// state for DCCP, which `-A -p dccp` requires. And if both addresses are translated, the format cannot express
/// translated ports: both programs derive them from the other ports given.
fn loadable(line: &str) -> bool {
    let value = |option: &str| line.split_once(option).and_then(|(_, rest)| rest.split(' ').next());
    let both_translated = line.contains(" -g ") && line.contains(" -n ");
    let ports_translated =
        value(" --sport ") != value(" --reply-port-dst ") || value(" --dport ") != value(" --reply-port-src ");
    !(line.contains("-p dccp") || both_translated && ports_translated)
}

#[test]
fn save_and_load() {
    let both = Both::new();
    for (saver, loader) in [(&both.ours, &both.ours), (&both.ours, &both.theirs), (&both.theirs, &both.ours)] {
        with_labels(|namespace| {
            let count = fill(namespace);
            assert!(count > 300, "{count} entries are too few");
            let file = saver.must(&["-L", "-o", "save"]);
            WITHIN.iter().for_each(|what| assert!(file.contains(what), "no {what} in what was saved:\n{file}"));
            let file: String = file.lines().filter(|line| loadable(line)).map(|line| format!("{line}\n")).collect();
            let before = steady(&file);
            Program::new("conntrack").must(&["-F"]);
            loader.must_with(&["-R", "-"], file.as_bytes());
            let after = steady(&saver.must(&["-L", "-o", "save"]));
            assert_eq!(after, before, "saved by {}, loaded by {}", saver.path.display(), loader.path.display());
        });
    }
}

/// Lines that cannot be loaded are refused by both programs with the same message: DCCP without what this kernel does
/// not keep, and deletions with the tags of SCTP, which `-D` does not accept.
#[test]
fn what_cannot_be_loaded() {
    let both = Both::new();
    let mut report = Report::new("saved lines that cannot be loaded");
    Namespace::run(|namespace| {
        entries::load(namespace, &dccp());
        entries::load(namespace, &entries::marks()[1..2]);
        let mut file = both.ours.must(&["-L", "-p", "dccp", "-o", "save"]);
        file += &both.ours.must(&["-D", "-p", "sctp", "-o", "save"]);
        assert_eq!(file.lines().count(), 3, "{file}");
        Program::new("conntrack").must(&["-F"]);
        for line in file.lines() {
            let [theirs, ours] = [&both.theirs, &both.ours]
                .map(|program| program.clone().called("conntrack").run_with(&["-R", "-"], line.as_bytes()));
            assert_eq!(ours.status, 2, "{line}");
            report.outcomes(line, &theirs, &ours);
        }
    });
    report.finish();
}

#[test]
fn deletions_that_were_saved_delete_the_same_again() {
    let both = Both::new();
    let deleted_again = |saver: &Program, loader: &Program| {
        with_labels(|namespace| {
            let count = fill(namespace);
            let file = saver.must(&["-D", "-o", "save"]);
            assert!(file.lines().count() == count && file.lines().all(|line| line.starts_with("-D ")), "{file}");
            WITHIN.iter().for_each(|what| assert!(file.contains(what), "no {what} in what was saved:\n{file}"));
            assert!(saved(namespace).is_empty());
            fill(namespace);
            // The remaining timeout is part of the line. A line whose timeout has expired would name no entry, so it is
            // left out.
            let file: String = file
                .lines()
                .filter(|line| !line.contains("-vtag "))
                .map(|line| {
                    let mut words: Vec<&str> = line.split(' ').collect();
                    if let Some(at) = words.iter().position(|word| *word == "-t") {
                        words.drain(at..at + 2);
                    }
                    words.join(" ") + "\n"
                })
                .collect();
            let deleted = loader.must_with(&["-R", "-"], file.as_bytes());
            (deleted.lines().count(), saved(namespace))
        })
    };
    for saver in [&both.ours, &both.theirs] {
        let theirs = deleted_again(saver, &both.theirs);
        let ours = deleted_again(saver, &both.ours);
        assert_eq!(ours, theirs, "deleted, and left, of what {} saved", saver.path.display());
        assert!(theirs.0 > 300, "{theirs:?}");
    }
}

/// As in the manual page: the entries of a zone are copied to another zone by editing the saved lines.
#[test]
fn a_zone_is_copied() {
    let both = Both::new();
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::zones());
        let in_zone = |line: &String| line.replacen("-I ", "-I -w 5 ", 1);
        for lines in [entries::every_protocol(), entries::nat()] {
            entries::load(namespace, &lines.iter().map(in_zone).collect::<Vec<_>>());
        }
        let file = both.ours.must(&["-L", "-w", "5", "-o", "save"]);
        let file: String = file.lines().filter(|line| loadable(line)).map(|line| format!("{line}\n")).collect();
        assert!(file.lines().count() > 250 && file.lines().all(|line| line.contains(" -w 5 ")), "{file}");
        both.ours.must_with(&["-R", "-"], file.replace(" -w 5 ", " -w 4321 ").as_bytes());
        let copy = both.ours.must(&["-L", "-w", "4321", "-o", "save"]);
        assert_eq!(copy.lines().count(), file.lines().count());
        assert_eq!(steady(&copy.replace(" -w 4321 ", " -w 5 ")), steady(&file));
    });
}
