//! Termination: a signal at any time ends a listener immediately and cleanly; options that have no meaning are refused.

use crate::events::{conntrack, flows, listen, listen_unread};
use flowgate_test_support::{Namespace, Program, entries, flowgate, until};
use nix::sys::signal::Signal;

#[test]
fn while_nothing_happens() {
    Namespace::run(|_| {
        for line in ["-E", "-E --resync", "-E --reliable", "-E --resync --reliable", "-E expect --reliable"] {
            for signal in [Signal::SIGINT, Signal::SIGTERM] {
                let mut listener = listen(line);
                listener.signal(signal);
                assert_eq!(listener.end().status, 0, "{line} {signal}: {}", listener.errors());
            }
        }
    });
}

#[test]
fn while_the_table_is_read() {
    Namespace::run(|namespace| {
        entries::load(namespace, &flows(1, 50_000));
        for _ in 0..5 {
            let mut listener = listen("-E --resync");
            listener.signal(Signal::SIGINT);
            assert_eq!(listener.end().status, 0, "{}", listener.errors());
            assert!(listener.lines().is_empty(), "{:#?}", listener.lines());
        }
    });
}

#[test]
fn while_lost_events_are_made_up_for() {
    Namespace::run(|namespace| {
        entries::load(namespace, &flows(1, 30_000));
        for round in 0..5 {
            let mut listener = listen("-E -b 20000 --resync");
            listener.while_stopped(|| {
                entries::load(namespace, &flows(2 + round, 500));
                assert_eq!(conntrack(&format!("-D -s 10.1.{round}.0/24")).status, 0);
            });
            until("the gap", || listener.errors().contains("ENOBUFS"));
            listener.signal(Signal::SIGINT);
            assert_eq!(listener.end().status, 0, "{}", listener.errors());
            // No flow may be reported as gone because reading of the listing was interrupted.
            let gone = listener.lines().iter().filter(|line| line.contains("[DESTROY]")).count();
            assert!(gone <= 256, "{gone}");
        }
    });
}

#[test]
fn while_events_pour_in() {
    Namespace::run(|_| {
        for line in ["-E", "-E --resync -b 20000", "-E --reliable"] {
            let mut listener = listen(line);
            std::thread::scope(|scope| {
                // A thread inherits the namespace of the thread that started it.
                let flood = scope.spawn(|| {
                    conntrack("-F");
                    Program::new("conntrack").run_with(&["-R", "-"], flows(1, 20_000).join("\n").as_bytes())
                });
                until("some events", || !listener.lines().is_empty());
                listener.signal(Signal::SIGINT);
                assert_eq!(listener.end().status, 0, "{line}: {}", listener.errors());
                assert_eq!(flood.join().expect("the flood").status, 0);
            });
        }
    });
}

#[test]
fn while_nobody_reads_the_output() {
    Namespace::run(|namespace| {
        for line in ["-E", "-E --resync"] {
            let mut listener = listen_unread(line);
            entries::load(namespace, &flows(1, 5000));
            listener.signal(Signal::SIGINT);
            // It cannot finish the line that it is writing, and ends like a program without a signal handler.
            assert_eq!(listener.end_unread(), 130, "{line}");
            conntrack("-F");
        }
    });
}

#[test]
fn options_are_refused_where_they_mean_nothing() {
    for (line, word) in [
        ("-L --resync", "--resync"),
        ("-E expect --resync", "--resync"),
        ("-L --reliable", "--reliable"),
        ("-E --buffer-max 0", "1073741823"),
        ("-E --buffer-max 1G", "1073741823"),
        ("record x.pcap -- -E --resync", "recording"),
    ] {
        let outcome = flowgate().run(&line.split_whitespace().collect::<Vec<_>>());
        assert!(outcome.status != 0 && outcome.errors().contains(word), "{line}: {}", outcome.errors());
    }
    for option in ["--resync", "--reliable", "--buffer-max=1"] {
        let outcome = flowgate().called("conntrack").run(&["-E", option]);
        assert_eq!(outcome.status, 2, "{option}");
    }
}
