//! Signals that the parent ignores stay ignored, and a command does not catch signals that it has no use for.

use flowgate_test_support::{Background, Namespace, Program, entries, until};
use nix::sys::signal::Signal;

use super::built;

/// Starts the program from a shell after these shell commands; its output is not read.
fn started(before: &str, line: &str) -> Background {
    let script = format!("{before} exec {} {line}", built().display());
    Background::start_unread(&Program::new("sh"), &["-c", &script])
}

/// Returns a set of signals from the status of a running process.
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
        // It continues, and shows events that happen after the signals.
        child.read_output();
        entries::insert(namespace, "-t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53");
        child.wait_for_output("[NEW]");
        assert_eq!(child.end_by(Signal::SIGTERM).status, 0);
    });
}

/// A reader that does not read blocks the output. A command that may stop at the end of a line stops there; if it
/// cannot, it is killed by the signal half a second later.
#[test]
fn what_cannot_come_to_its_end_ends_as_by_the_signal() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(20_000));
        for (line, signal, status) in [
            ("-L", Signal::SIGINT, 130),
            ("-L", Signal::SIGTERM, 143),
            ("-U -p udp -m 1", Signal::SIGTERM, 143),
            // These are not caught.
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

/// The program waits for the reader of a pipe here. A command that only prints has nothing to finish, and does not
/// catch signals.
#[test]
fn what_only_answers_catches_nothing() {
    Namespace::run(|_| {
        // The manual page exceeds the capacity of the pipe, so the program waits for its reader.
        let mut child = started("", "man");
        until("it is started", || signals(&child, "SigIgn") & bit(Signal::SIGPIPE) != 0 || !child.runs());
        assert_eq!(signals(&child, "SigCgt") & (bit(Signal::SIGINT) | bit(Signal::SIGTERM) | bit(Signal::SIGUSR1)), 0);
        drop(child.take_output());
        child.end();
    });
}
