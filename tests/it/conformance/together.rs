//! Load files whose lines share dumps of the table: output, its order and the resulting table are the same as without
//! sharing.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::conformance::compare::{Both, Setting};
use flowgate_test_support::{Namespace, Program, entries};

/// Returns lines that delete, in runs long enough to share a dump, interrupted by lines that cannot share one. `all`:
/// also lines that update, and lines that check mark and status, which an installed conntrack 1.4.7 handles differently
/// in a file than alone.
fn file(all: bool) -> String {
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments<'_>| writeln!(text, "{arguments}").unwrap();
    // Full tuples in a different order than the table's, including some that do not exist.
    for number in (0..60).map(|number| number * 37 % 61) {
        line(format_args!("-D -p udp -s 10.1.0.{number} -d 10.2.0.1 --sport 1000 --dport 53"));
    }
    // More full tuples, each with a zone and then without: only the first half exists in zone 5. Then lines that occur
    // twice.
    for number in 100..112 {
        line(format_args!("-D -p udp -s 10.1.0.{number} -d 10.2.0.1 --sport 1000 --dport 53 -w 5"));
        line(format_args!("-D -p udp -s 10.1.0.{number} -d 10.2.0.1 --sport 1000 --dport 53"));
    }
    for _ in 0..if all { 2 } else { 0 } {
        for number in 120..130 {
            line(format_args!("-U -f ipv4 -p udp -s 10.1.0.{number} -m 0x{number}/0xfff"));
        }
    }
    // A line in between that creates what the next ones delete.
    for number in 130..140 {
        line(format_args!("-D -s 10.1.0.{number}"));
    }
    line(format_args!("-I -t 600 -p udp -s 10.1.0.135 -d 10.2.0.1 --sport 1000 --dport 53"));
    for number in 130..140 {
        line(format_args!("-D -s 10.1.0.{number} -p udp"));
    }
    // Conditions that a shared dump does not check.
    for number in 140..if all { 160 } else { 140 } {
        line(format_args!("-D -s 10.1.0.{number} -m {} -u ASSURED", number % 3));
    }
    for number in 1..20 {
        line(format_args!("-D -f ipv6 -s 2001:db8::{number:x} -p tcp --dport 80"));
    }
    for number in 1..20 {
        line(format_args!("-D -p icmp -s 10.3.0.1 -d 10.3.0.2 --icmp-type 8 --icmp-code 0 --icmp-id {number}"));
    }
    for number in 1..20 {
        line(format_args!("-D -r 10.4.0.{number}"));
    }
    for number in 1..20 {
        line(format_args!("-D -p sctp -d 10.5.0.{number} --dport 5060"));
    }
    text
}

fn fill(namespace: &Namespace) {
    let mut lines = Vec::new();
    for number in 0..170 {
        let flow = format!("-p udp -s 10.1.0.{number} -d 10.2.0.1 --sport 1000 --dport 53 -m {}", number % 3);
        lines.push(format!("-I -t 3600 -u ASSURED,SEEN_REPLY {flow}"));
        if (100..106).contains(&number) {
            lines.push(format!("-I -t 3600 {flow} -w 5"));
        }
    }
    for number in 1..30 {
        lines.push(format!(
            "-I -t 3600 -p tcp --state ESTABLISHED -s 2001:db8::{number:x} -d 2001:db8::ffff --sport 1 --dport 80"
        ));
        lines
            .push(format!("-I -t 3600 -p icmp -s 10.3.0.1 -d 10.3.0.2 --icmp-type 8 --icmp-code 0 --icmp-id {number}"));
        let there = format!("-s 10.4.1.{number} -d 10.4.0.{number}");
        lines.push(format!("-I -t 3600 -p tcp --state SYN_SENT {there} --sport {number} --dport 22"));
        lines.push(format!(
            "-I -t 3600 -p sctp --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 -s 10.5.1.1 -d 10.5.0.{number} \
             --sport 5060 --dport 5060"
        ));
    }
    entries::load(namespace, &lines);
}

/// Returns the lines without timeouts, which decrease.
fn steady(text: &str) -> Vec<String> {
    let without = |line: &str| {
        let words = line.split_whitespace().enumerate().filter(|(place, _)| *place != 2);
        words.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(without).collect()
}

/// Returns what a program writes when it is run in this way on the table, and the resulting table.
fn done(run: impl FnOnce() -> (i32, String, String) + Send) -> (i32, String, Vec<String>, Vec<String>) {
    Namespace::run(|namespace| {
        fill(namespace);
        let (status, errors, text) = run();
        let mut left = steady(&Program::new("conntrack").must(&["-L"]));
        left.sort();
        (status, errors, steady(&text), left)
    })
}

/// Loads the file in a single run.
fn loaded(program: &Program, file: &str) -> (i32, String, Vec<String>, Vec<String>) {
    done(|| {
        let outcome = program.run_with(&["-R", "-"], file.as_bytes());
        (outcome.status, outcome.errors(), outcome.text())
    })
}

#[test]
fn lines_that_share_a_listing_do_what_conntrack_does() {
    let file = file(false);
    let theirs = loaded(&Both::new().theirs, &file);
    assert!(theirs.2.len() > 150 && theirs.3.len() > 20, "{} printed, {} left", theirs.2.len(), theirs.3.len());
    for called in [Some("flowgate"), Some("conntrack")] {
        let mut ours = loaded(&Both::under(&Setting { called, ..Setting::default() }).ours, &file);
        if called == Some("flowgate") {
            assert_eq!(std::mem::take(&mut ours.1), "flowgate: 1 created, 165 deleted\n");
        }
        assert_eq!(ours, theirs, "called {called:?}");
    }
}

#[test]
fn lines_that_share_a_listing_do_what_each_does_alone() {
    let (file, ours) = (file(true), Both::own());
    let mut sums = BTreeMap::new();
    let alone = done(|| {
        let mut text = String::new();
        for line in file.lines() {
            let outcome = ours.run_with(&["-R", "-"], line.as_bytes());
            assert_eq!(outcome.status, 0, "{line}");
            add(&mut sums, &outcome.errors());
            text += &outcome.text();
        }
        (0, String::new(), text)
    });
    assert!(alone.2.len() > 180 && alone.3.len() > 20, "{} printed, {} left", alone.2.len(), alone.3.len());
    let mut together = loaded(&ours, &file);
    let mut sum = BTreeMap::new();
    add(&mut sum, &std::mem::take(&mut together.1));
    assert_eq!(together, alone);
    assert_eq!(sum, sums);
}

/// Adds the numbers of a summary, such as `flowgate: 1 created, 165 deleted`, to the sums of the same name. The errors
/// must contain nothing else.
fn add(sums: &mut BTreeMap<String, u64>, errors: &str) {
    let summary = errors.strip_prefix("flowgate: ").and_then(|line| line.strip_suffix('\n')).unwrap();
    if summary == "nothing created, changed or deleted" {
        return;
    }
    for part in summary.split(", ") {
        let (number, name) = part.split_once(' ').unwrap();
        *sums.entry(name.to_string()).or_default() += number.parse::<u64>().unwrap();
    }
}

#[test]
fn thousands_of_lines_are_no_matter() {
    let lines: String = (0..5000).map(|number| format!("-D -s 10.{}.{}.7\n", number >> 8, number & 255)).collect();
    Namespace::run(|namespace| {
        let flow = |number: u32| {
            format!("-I -t 3600 -p udp -s 10.{}.{}.7 -d 10.200.0.1 --sport 9 --dport 53", number >> 8, number & 255)
        };
        entries::load(namespace, &(0..6000).map(flow).collect::<Vec<_>>());
        let outcome = Both::own().run_with(&["-R", "-"], lines.as_bytes());
        assert_eq!((outcome.status, outcome.errors()), (0, "flowgate: 5000 deleted\n".to_string()));
        assert_eq!(outcome.text().lines().count(), 5000);
        assert_eq!(entries::count(namespace), 1000);
    });
}
