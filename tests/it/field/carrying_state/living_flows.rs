//! `-A` of existing flows: whatever can be updated is updated, and the rest is reported.

use super::{conntrack, count, last_line, load, run};
use crate::field::flowgate;
use flowgate_test_support::{Namespace, Program, entries};

const TUPLE: &str = "-s 192.0.2.1 -d 198.51.100.1 -p tcp --sport 1 --dport 80 --state ESTABLISHED";

/// Returns the line of the only flow.
fn flow() -> String {
    flowgate().must(&["-L", "-o", "save,complete"])
}

/// Creates a flow, adds it again with `onto`, and checks the reported messages and the resulting flow.
fn add(before: &str, onto: &str, messages: &[&str], after: &[&str]) {
    Namespace::run(|namespace| {
        let tuple = if before.contains("-p ") { "" } else { TUPLE };
        assert_eq!(run(&flowgate(), &format!("-I -t 3000 {before} {tuple}")).status, 0, "{before}");
        let line = format!("-A -t 9000 -m 77 {tuple} {onto}");
        let outcome = run(&flowgate(), &line);
        assert_eq!(
            (outcome.status, count(namespace)),
            (i32::from(!messages.is_empty()), 1),
            "{line}: {}",
            outcome.errors()
        );
        for message in messages {
            assert!(outcome.errors().contains(message), "{message:?} is not reported: {}", outcome.errors());
        }
        let flow = flow();
        assert!(flow.contains(" -m 77"), "{flow}");
        for after in after {
            assert!(flow.contains(after), "{after:?} is not in {flow}");
        }
        // The same from a file.
        let outcome = load(&flowgate(), &format!("\n{line}\n"), &[]);
        assert_eq!(outcome.status, i32::from(!messages.is_empty()), "{}", outcome.errors());
        assert_eq!(outcome.errors().contains("in /dev/stdin, line 2"), !messages.is_empty(), "{}", outcome.errors());
        assert!(last_line(&outcome).ends_with(": 1 changed"), "{}", outcome.errors());
    });
}

#[test]
fn case_15_a_status_that_cannot_be_cleared_stays_and_the_rest_is_updated() {
    add("-u SEEN_REPLY,ASSURED", "-u UNSET", &["status SEEN_REPLY,ASSURED"], &["-u SEEN_REPLY,ASSURED"]);
    add("-u SEEN_REPLY,ASSURED", "-u SEEN_REPLY", &["status ASSURED"], &["-u SEEN_REPLY,ASSURED"]);
    add("-u SEEN_REPLY", "-u ASSURED", &["status SEEN_REPLY"], &["-u SEEN_REPLY,ASSURED"]);
    add("-u UNSET", "-u SEEN_REPLY,ASSURED", &[], &["-u SEEN_REPLY,ASSURED"]);
    add("-u UNSET", "-u EXPECTED", &["status EXPECTED"], &["-u UNSET"]);
}

#[test]
fn case_15_the_timeout_is_updated_unless_it_is_fixed() {
    Namespace::run(|_| {
        assert_eq!(run(&flowgate(), &format!("-I -t 3000 -u SEEN_REPLY,ASSURED {TUPLE}")).status, 0);
        assert_eq!(run(&flowgate(), &format!("-A -t 9000 -u UNSET {TUPLE}")).status, 1);
        let seconds: u32 = flow().split_whitespace().nth(2).and_then(|text| text.parse().ok()).unwrap();
        assert!((8000..=9000).contains(&seconds), "{seconds}");
    });
    add("-u FIXED_TIMEOUT", "", &["timeout: it is fixed"], &[" -t 2"]);
    add("-u FIXED_TIMEOUT", "-u UNSET", &["status FIXED_TIMEOUT", "timeout"], &["-u FIXED_TIMEOUT"]);
    // A flow that is saved, and loaded again when less of its timeout is left, is unchanged.
    add("-u FIXED_TIMEOUT", "-u FIXED_TIMEOUT", &[], &["-u FIXED_TIMEOUT"]);
}

#[test]
fn case_15_translations_and_replies_stay() {
    add("", "-n 203.0.113.7", &["source translation: it stays 192.0.2.1:1"], &[" -q 192.0.2.1 "]);
    add(
        "-n 203.0.113.7:7000",
        "-n 203.0.113.8",
        &["source translation: it stays 203.0.113.7:7000"],
        &[" -n 203.0.113.7:7000 "],
    );
    add("-g 203.0.113.7:8080", "-g 203.0.113.7:8081", &["destination translation"], &[" -g 203.0.113.7:8080 "]);
    // A value that is already set is not reported.
    add("-n 203.0.113.7:7000", "-n 203.0.113.7:7000", &[], &[" -n 203.0.113.7:7000 "]);
    add("-n 203.0.113.7:7000", "-n 203.0.113.7", &[], &[" -n 203.0.113.7:7000 "]);
    let reply = "-r 198.51.100.9 -q 192.0.2.1 --reply-port-src 80 --reply-port-dst 1";
    add("", reply, &["reply direction: it stays 198.51.100.1:80 to 192.0.2.1:1"], &[" -r 198.51.100.1 "]);
    let six = "-p udp -s 2001:db8::1 -d 2001:db8::2 --sport 1 --dport 2";
    add(six, &format!("{six} -g [2001:db8::9]:7"), &["destination translation: it stays [2001:db8::2]:2"], &[]);
}

#[test]
fn case_15_helpers_are_for_new_flows() {
    add("", "--helper no-such-helper", &["helper no-such-helper"], &[]);
    // `-A` creates a new flow without the helper; `-I` creates it completely or not at all.
    Namespace::run(|namespace| {
        let outcome = run(&flowgate(), &format!("-I -t 3000 --helper no-such-helper {TUPLE}"));
        assert_eq!((outcome.status, count(namespace)), (1, 0), "{}", outcome.errors());
        let outcome = run(&flowgate(), &format!("-A -t 3000 --helper no-such-helper {TUPLE}"));
        assert_eq!((outcome.status, count(namespace)), (1, 1), "{}", outcome.errors());
        assert!(outcome.errors().contains("helper"), "{}", outcome.errors());
    });
}

#[test]
fn case_15_labels_need_room_in_the_flow() {
    Namespace::run(|namespace| {
        assert_eq!(run(&flowgate(), &format!("-I -t 3000 {TUPLE}")).status, 0);
        let outcome = run(&flowgate(), &format!("-A -t 3000 -m 5 --labels 0x9 {TUPLE}"));
        assert_eq!(outcome.status, 1);
        assert!(outcome.errors().contains("labels: "), "{}", outcome.errors());
        assert!(flow().contains(" -m 5"), "{}", flow());
        flowgate().must(&["-F"]);
        // With a rule about labels there is room for them, and `--label-add` does not change the other labels.
        entries::allow_labels(namespace);
        namespace.label_map(entries::LABEL_MAP);
        for (line, labels) in [
            ("-I -t 3000 --labels 0x9", "0x9"),
            ("-A -t 3000 --label-add last", "0x80000000000000000000000000000009"),
            ("-A -t 3000 --labels 0x3", "0x3"),
            ("-U --labels 0x4/0x6", "0x5"),
            ("-U --labels 0xf0", "0xf0"),
        ] {
            let outcome = run(&flowgate(), &format!("{line} {TUPLE}"));
            assert_eq!(outcome.status, 0, "{line}: {}", outcome.errors());
            assert!(flow().contains(&format!(" --labels {labels} ")), "{line}: {}", flow());
        }
    });
}

#[test]
fn another_flow_with_the_same_reply_is_in_the_way() {
    Namespace::run(|namespace| {
        assert_eq!(run(&flowgate(), "-I -t 99 -s 192.0.2.1 -d 198.51.100.1 -p udp --sport 1 --dport 2").status, 0);
        // Its reply tuple equals that of the first flow, but is not the inverse of its own original tuple.
        let other = "-A -t 99 -s 192.0.2.9 -d 198.51.100.9 -r 198.51.100.1 -q 192.0.2.1 -p udp --sport 1 --dport 2 \
                     --reply-port-src 2 --reply-port-dst 1";
        let outcome = run(&flowgate(), other);
        assert_eq!((outcome.status, count(namespace)), (1, 1), "{}", outcome.errors());
        assert!(outcome.errors().contains("File exists"), "{}", outcome.errors());
    });
}

#[test]
fn under_the_name_conntrack_the_kernel_has_its_word() {
    Namespace::run(|_| {
        assert_eq!(run(&flowgate(), &format!("-I -t 3000 -u SEEN_REPLY,ASSURED {TUPLE}")).status, 0);
        let outcome = run(&conntrack(), &format!("-A -t 9000 -m 77 -u UNSET {TUPLE}"));
        assert_eq!(outcome.status, 1);
        assert!(outcome.errors().contains("Operation failed: Device or resource busy"), "{}", outcome.errors());
        assert!(!flow().contains(" -m 77"), "{}", flow());
        let outcome = run(&conntrack(), &format!("-A -t 9000 -n 203.0.113.7 {TUPLE}"));
        assert!(outcome.errors().contains("Operation failed: Operation not supported"), "{}", outcome.errors());
        let outcome = run(&conntrack(), &format!("-A -t 9000 -m 78 {TUPLE}"));
        assert!(outcome.errors().ends_with("1 flow entries have been added.\n"), "{}", outcome.errors());
        assert!(Program::new("conntrack").must(&["-L"]).contains("mark=78"));
    });
}
