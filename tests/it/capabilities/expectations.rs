//! Expectations of real helpers: annotated, dropped, deleted, and created by a plugin.

use flowgate_test_support::traffic::{FTP, TFTP, Traffic, socket};
use flowgate_test_support::{Namespace, Program};

use crate::capabilities::{conntrack, run};

/// Runs a test with the expectations of an FTP and a TFTP transfer.
fn with_expectations(test: impl FnOnce() + Send) {
    Namespace::run(|namespace| {
        namespace.keep_entries();
        let mut traffic = Traffic::prepare(namespace);
        traffic.ftp(&socket("10.9.0.1", FTP), &socket("10.9.0.1", FTP), false);
        traffic.tftp(&socket("10.9.0.1", TFTP));
        assert_eq!(count(), 2);
        test();
    });
}

fn count() -> usize {
    Program::new("conntrack").must(&["-L", "expect"]).lines().count()
}

#[test]
fn annotating_and_dropping() {
    with_expectations(|| {
        for (output, note) in [("extended", " seen="), ("xml", "<annotation "), ("json", "\"annotations\":{\"seen\":")]
        {
            let outcome = run(&format!("-L expect -o {output}"), "do=annotate", "");
            assert_eq!(outcome.text().matches(note).count(), 2, "{output}: {}{}", outcome.text(), outcome.errors());
        }
        let outcome = run("-L expect", "do=drop", "");
        assert_eq!(outcome.text(), "", "{}", outcome.errors());
    });
}

#[test]
fn deleting() {
    with_expectations(|| {
        let refused = run("-L expect", "do=delete", "create,update");
        assert!(refused.errors().contains("asked to delete"), "{}", refused.errors());
        assert_eq!(count(), 2);
        let dry = run("-L expect --dry-run", "do=delete", "delete");
        assert_eq!(dry.text().lines().filter(|line| line.starts_with("-D expect ")).count(), 2, "{}", dry.text());
        assert_eq!(count(), 2);
        // conntrack accepts the printed line.
        let line = dry.text().lines().next().map(str::to_string).unwrap_or_default();
        conntrack().run(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(count(), 1, "{line}");
        let outcome = run("-L expect", "do=delete", "delete");
        assert_eq!(count(), 0, "{}", outcome.errors());
    });
}

#[test]
fn creating() {
    with_expectations(|| {
        let refused = run("-L expect", "do=create", "delete");
        assert!(refused.errors().contains("asked to create"), "{}", refused.errors());
        assert_eq!(count(), 2);
        let outcome = run("-L expect", "do=create", "create");
        let table = conntrack().must(&["-L", "expect"]);
        assert_eq!(table.matches("dport=5555").count(), 2, "{table}{}", outcome.errors());
    });
}
