//! `-D --quiet`: the kernel deletes flows by itself where it can match the selector, and the same flows remain as
//! without it.

use std::collections::BTreeSet;

use flowgate_test_support::{Namespace, Program, entries};

use crate::operations::run;

/// Returns the table without timeouts.
fn table() -> BTreeSet<String> {
    let text = Program::new("conntrack").must(&["-L", "-o", "extended"]);
    let steady = |line: &str| {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        // The words are family and protocol with their numbers, then the timeout.
        words.remove(4);
        words.join(" ")
    };
    text.lines().map(steady).collect()
}

fn fill(namespace: &Namespace) {
    entries::load(namespace, &entries::every_protocol());
    entries::load(namespace, &entries::busy(300));
    for (zone, port) in [("-w 5", 1), ("--orig-zone 5", 2), ("--reply-zone 5", 3)] {
        entries::insert(
            namespace,
            &format!("-p udp -s 10.9.9.9 -d 10.9.9.8 --sport {port} --dport 53 -t 600 -m 5 {zone}"),
        );
    }
}

/// Returns the flows that remain after a command, and whether `--explain` says that the kernel deletes by itself.
fn left(selector: &str, quiet: bool) -> (BTreeSet<String>, bool) {
    Namespace::run(|namespace| {
        fill(namespace);
        let line = format!("-D {selector}{}", if quiet { " --quiet" } else { "" });
        let bulk = run(&format!("{line} --explain -o json")).text().contains("\"kind\":\"bulk\"");
        let outcome = run(&line);
        if quiet {
            assert_eq!((outcome.status, outcome.text(), outcome.errors()), (0, String::new(), String::new()), "{line}");
        }
        (table(), bulk)
    })
}

#[test]
fn the_same_flows_are_left_whoever_deletes() {
    let whole = Namespace::run(|namespace| {
        fill(namespace);
        table()
    });
    // By the kernel: selectors that it can match, for both families or one.
    let by_kernel = [
        "-p udp",
        "-p tcp -f ipv4",
        "-p tcp -f ipv6",
        "-p sctp",
        "-p udp --dport 53",
        "-p tcp -f ipv6 --sport 1000",
        "-f ipv4 -s 192.0.2.1",
        "-f ipv4 -s 192.0.2.1 -d 198.51.100.2 -p tcp",
        "-f ipv4 -r 198.51.100.2",
        "-p icmp -f ipv4",
        "-m 5",
        "-m 0",
        "-m 0x1/0x1",
        "-m 1/2",
        "-m 5 -f ipv4",
        "-m 0 -f ipv6",
        "-m 0 -p udp",
        "-u ASSURED",
        "-u SEEN_REPLY -f ipv6",
        "-u UNREPLIED",
        "-u ASSURED -p tcp -m 0",
    ];
    // One by one: selectors that the kernel cannot match, or would match too broadly.
    let one_by_one = [
        "-f ipv6 -s 2001:db8::1",
        "-f ipv6",
        "-s 192.0.2.0/24",
        "-p sctp --dport 80",
        "-w 5",
        "-w 0",
        "--orig-zone 5",
        "-p tcp --state ESTABLISHED",
        "-n",
        "-p icmp",
        "--all",
    ];
    for (selectors, by_itself) in [(&by_kernel[..], true), (&one_by_one[..], false)] {
        for selector in selectors {
            let (printed, _) = left(selector, false);
            let (quiet, bulk) = left(selector, true);
            assert_eq!(bulk, by_itself, "-D {selector} --quiet");
            assert_eq!(quiet, printed, "-D {selector}");
            if *selector == "--all" {
                assert!(quiet.is_empty());
            } else if ["-m 1/2", "-p sctp --dport 80", "-n", "-p tcp -f ipv6 --sport 1000"].contains(selector) {
                continue;
            } else {
                assert!(quiet.len() < whole.len() && !quiet.is_empty(), "-D {selector}: {} left", quiet.len());
            }
        }
    }
}

#[test]
fn an_update_without_words_is_an_update() {
    Namespace::run(|namespace| {
        fill(namespace);
        let before = table();
        let outcome = run("-U -p udp -m 77 --quiet");
        assert_eq!((outcome.status, outcome.text(), outcome.errors()), (0, String::new(), String::new()));
        let after = table();
        assert_eq!(before.len(), after.len());
        let udp = |line: &&String| line.contains(" udp ");
        assert!(after.iter().filter(udp).all(|line| line.contains("mark=77 ")), "{after:#?}");
        assert!(after.iter().filter(udp).count() > 80);
        // Finding nothing is not reported either.
        assert_eq!(run("-U -p udp -s 203.0.113.77 -m 1 --quiet").status, 0);
    });
}

#[test]
fn what_is_quiet_is_so_where_something_is_done_only() {
    for line in
        ["-L --quiet", "-F --quiet", "-E --quiet", "-I -p udp -s 1.2.3.4 -d 1.2.3.5 --sport 1 --dport 2 -t 9 --quiet"]
    {
        let outcome = run(line);
        assert!(outcome.status == 2 && outcome.errors().contains("Illegal option `--quiet'"), "{line}: {outcome:?}");
    }
    // A dry run still prints what it would do.
    Namespace::run(|namespace| {
        fill(namespace);
        let outcome = run("-D -p udp --dry-run --quiet");
        assert!(outcome.status == 0 && outcome.text().lines().all(|line| line.starts_with("-D ")), "{outcome:?}");
        assert!(outcome.text().lines().count() > 80);
    });
}
