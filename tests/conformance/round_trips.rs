//! What is saved can be loaded again: by flowgate, by `conntrack`, and in another zone.

use crate::compare::Both;
use crate::line::Line;
use flowgate_test_support::{Namespace, Program, entries};

/// Lines sorted and without the passing time.
fn steady(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| Line::new(line).rest).collect();
    lines.sort();
    lines
}

/// The table as command lines.
fn saved(_: &Namespace) -> Vec<String> {
    steady(&Program::new("conntrack").must(&["-L", "-o", "save"]))
}

/// A table with every protocol, NAT and zones, in both families.
fn fill(namespace: &Namespace) -> usize {
    let tables = [entries::every_protocol(), entries::nat(), entries::zones()];
    tables.iter().for_each(|lines| entries::load(namespace, lines));
    saved(namespace).len()
}

/// Whether a saved line can be made the same entry again. Kernels without DCCP tracking keep neither ports nor a state of it,
/// which `-A -p dccp` demands; and with both addresses translated the format has no place for translated ports: those given
/// are taken for ones to be derived, by either program.
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
    for loader in [&both.ours, &both.theirs] {
        Namespace::run(|namespace| {
            let count = fill(namespace);
            assert!(count > 50, "{count} entries are too few");
            let file = both.ours.must(&["-L", "-o", "save"]);
            let file: String = file.lines().filter(|line| loadable(line)).map(|line| format!("{line}\n")).collect();
            let before = steady(&file);
            Program::new("conntrack").must(&["-F"]);
            loader.must_with(&["-R", "-"], file.as_bytes());
            assert_eq!(saved(namespace), before, "loaded by {}", loader.path.display());
        });
    }
}

#[test]
fn deletions_that_were_saved_delete_the_same_again() {
    let both = Both::new();
    Namespace::run(|namespace| {
        let lines = entries::marks();
        entries::load(namespace, &lines);
        let file = both.ours.must(&["-D", "-p", "udp", "-o", "save"]);
        assert!(file.lines().count() > 1 && file.lines().all(|line| line.starts_with("-D ")), "{file}");
        let udp: Vec<String> = lines.iter().filter(|line| line.contains("-p udp ")).cloned().collect();
        entries::load(namespace, &udp);
        let before = saved(namespace).len();
        // The remaining timeout is part of the line, and one that has passed names no entry: it is left out.
        let file: String = file
            .lines()
            .map(|line| {
                let mut words: Vec<&str> = line.split(' ').collect();
                if let Some(at) = words.iter().position(|word| *word == "-t") {
                    words.drain(at..at + 2);
                }
                words.join(" ") + "\n"
            })
            .collect();
        let deleted = both.ours.must_with(&["-R", "-"], file.as_bytes());
        assert_eq!(deleted.lines().count(), file.lines().count(), "{deleted}");
        assert_eq!(saved(namespace).len(), before - file.lines().count());
    });
}

/// As in the manual page: the entries of a zone are copied to another one by editing what is saved.
#[test]
fn a_zone_is_copied() {
    let both = Both::new();
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::zones());
        let file = both.ours.must(&["-L", "-w", "5", "-o", "save"]);
        assert!(file.lines().count() > 0 && file.lines().all(|line| line.contains(" -w 5 ")), "{file}");
        both.ours.must_with(&["-R", "-"], file.replace(" -w 5 ", " -w 4321 ").as_bytes());
        let copy = both.ours.must(&["-L", "-w", "4321", "-o", "save"]);
        assert_eq!(copy.lines().count(), file.lines().count());
        assert_eq!(steady(&copy.replace(" -w 4321 ", " -w 5 ")), steady(&file));
    });
}
