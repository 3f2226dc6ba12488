//! Signals that the parent ignores stay ignored; those that a command needs not to catch it does not.

use flowgate_test_support::{Background, Namespace, Program, entries, until};
use nix::sys::signal::Signal;

use super::built;

/// Starts it from a shell that has said this before, with nobody reading.
fn started(before: &str, line: &str) -> Background {
    let script = format!("{before} exec {} {line}", built().display());
    Background::start_unread(&Program::new("sh"), &["-c", &script])
}

/// A set of signals of a running process, from its status.
fn signals(child: &Background, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.process())).unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix(field));
    set.map_or(0, |set| u64::from_str_radix(set.trim_start_matches(':').trim(), 16).unwrap())
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

#[test]
fn what_is_ignored_stays_ignored() {
    Namespace::run(|namespace| {
        let mut child = started("trap '' INT USR1;", "-E");
        until("it catches SIGTERM", || signals(&child, "SigCgt") & bit(Signal::SIGTERM) != 0);
        assert_eq!(signals(&child, "SigCgt") & (bit(Signal::SIGINT) | bit(Signal::SIGUSR1)), 0);
        assert_ne!(signals(&child, "SigIgn") & bit(Signal::SIGINT), 0);
        child.wait_until_listening();
        child.signal(Signal::SIGINT);
        child.signal(Signal::SIGUSR1);
        // It goes on, and shows what happens behind the signals.
        child.read_output();
        entries::insert(namespace, "-t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53");
        child.wait_for_output("[NEW]");
        assert_eq!(child.end_by(Signal::SIGTERM).status, 0);
    });
}

/// A reader that does not read holds up the writing: what may end at a line ends there, half a second later as by the
/// signal.
#[test]
fn what_cannot_come_to_its_end_ends_as_by_the_signal() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(20_000));
        for (line, signal, status) in [
            ("-L", Signal::SIGINT, 130),
            ("-L", Signal::SIGTERM, 143),
            ("-U -p udp -m 1", Signal::SIGTERM, 143),
            // Not caught at all.
            ("-L", Signal::SIGUSR1, 138),
            ("-L", Signal::SIGHUP, 129),
        ] {
            let mut child = started("", line);
            child.wait_until_pipe_is_full();
            child.signal(signal);
            assert_eq!(child.end_unread(), status, "{line} {signal}");
        }
    });
}

/// The reader of a pipe waits here; what only answers has nothing to finish, and leaves the signals as they are.
#[test]
fn what_only_answers_catches_nothing() {
    Namespace::run(|_| {
        // Help is longer than this pipe: it waits for its reader.
        let mut child = started("", "man");
        until("it is started", || signals(&child, "SigIgn") & bit(Signal::SIGPIPE) != 0 || !child.runs());
        assert_eq!(signals(&child, "SigCgt") & (bit(Signal::SIGINT) | bit(Signal::SIGTERM) | bit(Signal::SIGUSR1)), 0);
        drop(child.take_output());
        child.end();
    });
}
