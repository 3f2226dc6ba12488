//! Concurrent writers: entries that another one has changed in the meantime are skipped, and nothing is reported twice.

use crate::scale::{alone, flowgate, flows, reported_count, words};
use flowgate_test_support::{Namespace, Program, entries};
use std::{collections::BTreeSet, thread};

/// Each entry is deleted by one of them, and reported only by that one.
#[test]
fn deletes_race_with_each_other() {
    let _alone = alone();
    Namespace::run(|namespace| {
        const MANY: u32 = 40_000;
        entries::load(namespace, &flows(1, 0..MANY));
        entries::load(namespace, &flows(2, 0..100));
        let outcomes: Vec<_> = thread::scope(|scope| {
            let racers: Vec<_> =
                (0..3).map(|_| scope.spawn(|| flowgate().run(&words("-D -p udp -s 10.1.0.0/16")))).collect();
            racers.into_iter().map(|racer| racer.join().expect("a racer")).collect()
        });
        let mut seen = BTreeSet::new();
        let mut sum = 0;
        for outcome in &outcomes {
            let text = outcome.text();
            assert_eq!(text.lines().count(), reported_count(&outcome.errors()), "{}", outcome.errors());
            // One that comes too late finds nothing, which is status 1.
            assert_eq!(outcome.status, i32::from(text.is_empty()), "{}", outcome.errors());
            sum += text.lines().count();
            seen.extend(text.lines().map(|line| line.split_once("src=").expect("a source").1.to_owned()));
        }
        assert_eq!((sum, seen.len(), entries::count(namespace)), (MANY as usize, MANY as usize, 100));
    });
}

/// An update skips entries that have been deleted in the meantime, and does not create them again.
#[test]
fn an_update_races_with_a_delete() {
    let _alone = alone();
    Namespace::run(|namespace| {
        const MANY: u32 = 40_000;
        entries::load(namespace, &flows(1, 0..MANY));
        let (updated, deleted) = thread::scope(|scope| {
            let update = scope.spawn(|| flowgate().run(&words("-U -p udp -m 9")));
            let delete = scope.spawn(|| flowgate().run(&words("-D -p udp")));
            (update.join().expect("the update"), delete.join().expect("the delete"))
        });
        // If the deletion finished before the update saw any entry, the update finds nothing, which is status 1.
        let nothing = i32::from(updated.text().is_empty());
        assert_eq!((deleted.status, updated.status), (0, nothing), "{}{}", deleted.errors(), updated.errors());
        assert_eq!(reported_count(&deleted.errors()), MANY as usize);
        assert_eq!(updated.text().lines().count(), reported_count(&updated.errors()));
        assert_eq!(entries::count(namespace), 0);
    });
}

/// Entries that another program creates in the meantime are not touched.
#[test]
fn a_delete_races_with_a_writer_of_others() {
    let _alone = alone();
    Namespace::run(|namespace| {
        const MANY: u32 = 30_000;
        entries::load(namespace, &flows(1, 0..MANY));
        let others = flows(2, 0..MANY).join("\n");
        let (deleted, written) = thread::scope(|scope| {
            let writer = scope.spawn(|| Program::new("conntrack").run_with(&["-R", "-"], others.as_bytes()));
            let delete = scope.spawn(|| flowgate().run(&words("-D -p udp -s 10.1.0.0/16")));
            (delete.join().expect("the delete"), writer.join().expect("the writer"))
        });
        assert_eq!((deleted.status, written.status), (0, 0), "{}", deleted.errors());
        // A listing of a table that changes may miss some entries, but the command never deletes others.
        assert!(deleted.text().lines().all(|line| line.contains("src=10.1.")));
        let rest = flowgate().must(&["-L", "-s", "10.1.0.0/16"]).lines().count();
        assert_eq!(reported_count(&deleted.errors()) + rest, MANY as usize);
        assert_eq!(entries::count(namespace) - rest, MANY as usize);
    });
}
