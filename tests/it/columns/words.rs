//! Words for commands: the same bytes as the letters.

use flowgate_test_support::{Namespace, Outcome, Program, entries, flowgate, words as split};

/// The words, with the letters and options that follow.
const LINES: [(&str, &str, &str); 14] = [
    ("list", "-L", ""),
    ("list", "-L", "-p tcp --dport 8000 -o csv --columns src,dport,mark"),
    ("list", "-L", "-p udp -o id,extended"),
    ("list", "-L", "expect"),
    ("list", "-L", "dying"),
    ("get", "-G", "-p udp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 53"),
    ("get", "-G", "-p udp -s 192.0.2.99 -d 198.51.100.1 --sport 4000 --dport 53"),
    ("count", "-C", ""),
    ("count", "-C", "expect"),
    ("delete", "-D", "-s 192.0.2.1 --dry-run"),
    ("delete", "-D", ""),
    ("update", "-U", "-s 192.0.2.1 -m 9 --dry-run"),
    ("create", "-I", "-p udp -s 192.0.2.8 -d 198.51.100.1 --sport 1 --dport 2 -t 60 --dry-run"),
    ("add", "-A", "-p udp -s 192.0.2.8 -d 198.51.100.1 --sport 1 --dport 2 -t 60 --dry-run"),
];

fn run(program: &Program, word: &str, rest: &str) -> Outcome {
    program.run(&split(&format!("{word} {rest}")))
}

/// Returns all of an outcome.
fn all_of(outcome: &Outcome) -> (String, String, i32) {
    (outcome.text(), outcome.errors(), outcome.status)
}

#[test]
fn a_word_is_its_letter() {
    Namespace::run(|namespace| {
        // Fixed timeouts do not change between two listings.
        namespace.keep_entries();
        entries::load(
            namespace,
            &[
                "-I -t 3600 -p udp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 53 -m 1",
                "-I -t 3600 -p tcp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 8000 --state ESTABLISHED -u ASSURED",
            ]
            .map(String::from),
        );
        let program = flowgate();
        for (word, letter, rest) in LINES {
            // A second may begin between the two.
            let same = (0..5).any(|_| all_of(&run(&program, word, rest)) == all_of(&run(&program, letter, rest)));
            assert!(
                same,
                "{word} {rest}: {:?} {:?}",
                all_of(&run(&program, word, rest)),
                all_of(&run(&program, letter, rest))
            );
        }
        let file = namespace.directory().join("flows");
        std::fs::write(&file, program.must(&["list", "-o", "save"])).unwrap();
        let file = file.display().to_string();
        let [by_word, by_letter] = ["load", "-R"].map(|word| all_of(&program.run(&[word, &file, "--dry-run"])));
        assert_eq!(by_word, by_letter);
        assert!(program.run(&["stats"]).text().starts_with("cpu=0"));
        assert!(program.run(&["flush"]).errors().contains("connection tracking table has been emptied."));
        assert_eq!(entries::count(namespace), 0);
        assert_eq!(program.run(&["load", &file]).status, 0);
        assert_eq!(entries::count(namespace), 2);
        // As conntrack, they are words that are ignored, as ever.
        let classic = flowgate().called("conntrack");
        for word in ["list", "flush", "delete", "watch"] {
            let outcome = classic.run(&[word]);
            assert!(outcome.text().contains("Usage: conntrack"), "{word}: {}", outcome.text());
        }
        assert_eq!(entries::count(namespace), 2);
    });
}

#[test]
fn a_wrong_word_gets_a_suggestion() {
    for (word, message) in [
        ("lst", "there is no subcommand `lst`; did you mean `list`?"),
        ("wach", "did you mean `watch`?"),
        ("delet", "did you mean `delete`?"),
        ("event", "the command is `watch`, --event or -E"),
        ("dump", "the command is `list`, --dump or -L"),
    ] {
        let outcome = flowgate().run(&[word, "-p", "tcp"]);
        assert!(outcome.status == 2 && outcome.stdout.is_empty(), "{word}: {}", outcome.text());
        assert!(outcome.errors().contains(message), "{word}: {}", outcome.errors());
        assert!(outcome.errors().lines().count() <= 2, "{}", outcome.errors());
    }
}

#[test]
fn every_word_explains_itself() {
    for word in ["list", "watch", "get", "delete", "update", "create", "add", "flush", "count", "stats", "load"] {
        let help = flowgate().must(&[word, "-h"]);
        assert!(help.contains(&format!("Usage: flowgate {word}")), "{help}");
        assert!(help.find("Examples:") < help.find("Usage:"), "{help}");
        assert_eq!(help, flowgate().must(&["help", word]));
        assert_eq!(help, flowgate().must(&[word, "--help"]));
    }
    assert!(flowgate().must(&["list", "-h"]).contains("--columns name[,...]"));
    assert!(!flowgate().must(&["list", "-h"]).contains("--label-add"));
}
