//! Gaps: a listener that did not keep up reports the gap and recovers the missed events.

use crate::events::{conntrack, consumer::Consumer, flows, listen};
use flowgate_test_support::{Background, Namespace, Outcome, entries, flowgate, until};
use std::sync::atomic::{AtomicBool, Ordering};

const RESYNC: &str = "-E -b 20000 --resync -o json";

/// Changes many flows in one command, which `conntrack` cannot do: its own socket overflows.
fn act(line: &str) -> Outcome {
    flowgate().run(&line.split_whitespace().collect::<Vec<_>>())
}

/// Creates a table, and a listener that has read it.
fn begin(namespace: &Namespace, line: &str) -> (Consumer, Background) {
    entries::load(namespace, &flows(1, 500));
    let tcp = (0..300).map(|port| {
        format!("-I -t 3600 -p tcp -s 10.2.0.1 -d 2.2.2.2 --sport {} --dport 80 --state SYN_SENT", 1024 + port)
    });
    entries::load(namespace, &tcp.collect::<Vec<_>>());
    let listener = listen(line);
    let mut consumer = Consumer::new();
    // A separate event shows that the listener has read the table.
    entries::load(namespace, &flows(3, 1));
    until("the first event", || !listener.lines().is_empty());
    consumer.agree(&listener);
    (consumer, listener)
}

/// Creates, changes and deletes flows: too many for the buffer.
fn change(namespace: &Namespace, group: u32) {
    entries::load(namespace, &flows(group, 700));
    assert_eq!(act("-D -p udp -s 10.1.0.0/24").status, 0);
    assert_eq!(act("-U -p udp -s 10.1.1.0/24 -m 7").status, 0);
    // The second time there is nothing to change.
    let _ = act("-U -p tcp -s 10.2.0.1 --state ESTABLISHED -u ASSURED,SEEN_REPLY");
}

/// Starts a listener, makes it lose many events while it is stopped, and checks that it recovers.
fn recovers(namespace: &Namespace, command: &str) {
    let (mut consumer, listener) = begin(namespace, command);
    listener.while_stopped(|| change(namespace, 4));
    consumer.agree(&listener);
    let consumer = consumer.finish(listener);
    assert!(consumer.gaps > 0 && consumer.lost > 500, "{} {}", consumer.gaps, consumer.lost);
    assert!(consumer.synthetic.iter().all(|&count| count > 100), "{:?}", consumer.synthetic);
}

#[test]
fn a_stopped_listener_recovers() {
    Namespace::run(|namespace| {
        recovers(namespace, RESYNC);
    });
}

/// By default a pipeline recovers from gaps.
#[test]
fn a_stopped_pipeline_recovers() {
    Namespace::run(|namespace| {
        let file = namespace.directory().join("pipeline.toml");
        let text = "[source]\nkind = 'events'\nbuffer = '20000B'\n[format]\nkind = 'json'\n";
        std::fs::write(&file, text).expect("a file in a temporary directory");
        recovers(namespace, &format!("run {}", file.display()));
    });
}

#[test]
fn flows_of_every_protocol_and_zone_are_made_up_for() {
    Namespace::run(|namespace| {
        let listener = listen(RESYNC);
        let mut consumer = Consumer::new();
        listener.while_stopped(|| {
            for lines in [entries::every_protocol(), entries::nat(), entries::marks(), entries::zones()] {
                entries::load(namespace, &lines);
            }
        });
        let count = || conntrack("-C").text().trim().parse::<usize>().expect("a number");
        until("every flow is known", || {
            consumer.apply(&listener);
            consumer.len() == count()
        });
        let before = count();
        assert!(before > 300, "{before}");
        listener.while_stopped(|| assert_eq!(conntrack("-F").status, 0));
        until("no flow is known", || {
            consumer.apply(&listener);
            consumer.len() == 0
        });
        let consumer = consumer.finish(listener);
        assert!(consumer.synthetic[0] > 250 && consumer.synthetic[2] > 250, "{:?}", consumer.synthetic);
    });
}

#[test]
fn two_gaps_in_a_row() {
    Namespace::run(|namespace| {
        let (mut consumer, listener) = begin(namespace, RESYNC);
        listener.while_stopped(|| change(namespace, 4));
        // During the resync for the first gap, or before it.
        listener.while_stopped(|| {
            entries::load(namespace, &flows(5, 700));
            assert_eq!(act("-D -p udp -s 10.4.0.0/16").status, 0);
        });
        consumer.agree(&listener);
        listener.while_stopped(|| assert_eq!(act("-D -p tcp").status, 0));
        consumer.agree(&listener);
        let consumer = consumer.finish(listener);
        assert!(consumer.gaps >= 2, "{}", consumer.gaps);
    });
}

#[test]
fn a_table_that_changes_while_it_is_made_up_for() {
    Namespace::run(|namespace| {
        // The buffer must not grow: flows that are older than the listener have no events where `nf_conntrack_events`
        // is 2, and without a gap there would be no resync to find them.
        let (mut consumer, listener) = begin(namespace, "-E -b 20000 --buffer-max 20000 --resync -o json");
        // Enough for several parts of a dump.
        entries::load(namespace, &flows(6, 20_000));
        consumer.agree(&listener);
        for round in 0..4 {
            listener.while_stopped(|| change(namespace, 10 + round));
            // Created while the listener is busy with the resync.
            entries::load(namespace, &flows(20 + round, 300));
            assert_eq!(act(&format!("-D -p udp -s 10.6.{round}.0/24")).status, 0);
            assert_eq!(act(&format!("-U -p udp -s 10.6.{}.0/24 -m {}", 30 + round, 5 + round)).status, 0);
            assert_eq!(act("-D -p udp -s 10.1.0.0/16").status, 0);
            entries::load(namespace, &flows(1, 500));
        }
        consumer.agree(&listener);
        consumer.finish(listener);
    });
}

#[test]
fn a_flood_over_a_small_buffer() {
    Namespace::run(|namespace| {
        let (mut consumer, listener) = begin(namespace, "-E -b 4000 --buffer-max 4000 --resync -o json");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    consumer.apply(&listener);
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
            for round in 0..3 {
                entries::load(namespace, &flows(30 + round, 8000));
                assert_eq!(act(&format!("-D -p udp -s 10.{}.0.0/20", 30 + round)).status, 0);
            }
            over.store(true, Ordering::Relaxed);
        });
        consumer.agree(&listener);
        consumer.finish(listener);
    });
}

#[test]
fn only_what_was_asked_for_is_shown() {
    Namespace::run(|namespace| {
        entries::load(namespace, &flows(1, 300));
        let mut listener = listen("-E -e NEW,UPDATES -p udp -b 20000 --resync");
        entries::load(namespace, &flows(3, 1));
        until("the first event", || !listener.lines().is_empty());
        listener.while_stopped(|| {
            entries::load(namespace, &flows(4, 700));
            let other: Vec<String> = flows(5, 300).iter().map(|line| line.replace("-p udp", "-p udplite")).collect();
            entries::load(namespace, &other);
            assert_eq!(act("-U -p udp -s 10.1.0.0/16 -m 7").status, 0);
            assert_eq!(act("-D -p udp -s 10.1.0.0/24").status, 0);
        });
        // 300 less the 256 that are gone.
        let changed = |lines: &[String]| lines.iter().filter(|line| line.contains("[UPDATE]")).count();
        until("what was missed is reported", || {
            let lines = listener.lines();
            lines.iter().filter(|line| line.contains("[NEW]")).count() >= 700 && changed(&lines) >= 44
        });
        listener.finish();
        let lines = listener.lines();
        assert!(lines.iter().all(|line| !line.contains("[DESTROY]") && line.contains("udp ")), "{lines:#?}");
        let synthetic: Vec<&String> = lines.iter().filter(|line| line.ends_with(" [SYNTHETIC]")).collect();
        assert!(synthetic.len() > 600, "{lines:#?}");
        assert!(synthetic.iter().all(|line| !line.contains("[USERSPACE]")));
        assert!(listener.errors().contains("resyncs made up for them"), "{}", listener.errors());
    });
}

#[test]
fn without_resync_a_gap_is_told_where_it_is() {
    Namespace::run(|namespace| {
        let listener = listen("-E -b 20000 -o json");
        listener.while_stopped(|| entries::load(namespace, &flows(4, 700)));
        until("the gap", || listener.lines().iter().any(|line| line.contains("\"event\":\"gap\"")));
        entries::load(namespace, &flows(5, 1));
        until("what comes after it", || listener.lines().iter().any(|line| line.contains("10.5.0.0")));
        let mut listener = listener;
        listener.finish();
        let lines = listener.lines();
        let gap = lines.iter().position(|line| line.contains("\"event\":\"gap\"")).unwrap();
        let lost: usize = lines[gap].split("\"lost\":").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        // Events queued before the gap are reported before it.
        assert!(gap > 0);
        assert_eq!(gap + lost, 700, "{}", lines[gap]);
        assert!(lines.iter().all(|line| !line.contains("synthetic")));
        assert!(listener.errors().contains("We have hit ENOBUFS"));
    });
}
