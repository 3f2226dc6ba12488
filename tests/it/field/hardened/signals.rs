//! Signals that the parent ignores stay ignored; those that a command needs not to catch it does not.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use flowgate_test_support::{Namespace, entries, program::shell_status, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::built;

/// Starts it from a shell that has said this before, with nobody reading.
fn started(before: &str, line: &str) -> Child {
    let script = format!("{before} exec {} {line}", built().display());
    Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn process(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// A set of signals of a running process, from its status.
fn signals(child: &Child, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix(field));
    set.map_or(0, |set| u64::from_str_radix(set.trim_start_matches(':').trim(), 16).unwrap())
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

#[test]
fn what_is_ignored_stays_ignored() {
    Namespace::run(|_| {
        let mut child = started("trap '' INT USR1;", "-E");
        until("it catches SIGTERM", || signals(&child, "SigCgt") & bit(Signal::SIGTERM) != 0);
        assert_eq!(signals(&child, "SigCgt") & (bit(Signal::SIGINT) | bit(Signal::SIGUSR1)), 0);
        assert_ne!(signals(&child, "SigIgn") & bit(Signal::SIGINT), 0);
        kill(process(&child), Signal::SIGINT).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(child.try_wait().unwrap().is_none(), "it goes on");
        kill(process(&child), Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}

/// A reader that does not read holds up the writing: what may end at a line ends there, half a second later as by the signal.
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
            // Its pipe is full when it sleeps.
            until("it waits for its reader", || {
                let stat = std::fs::read_to_string(format!("/proc/{}/wchan", child.id())).unwrap_or_default();
                stat.contains("pipe_write")
            });
            kill(process(&child), signal).unwrap();
            assert_eq!(shell_status(child.wait().unwrap()), status, "{line} {signal}");
        }
    });
}

/// The reader of a pipe waits here; what only answers has nothing to finish, and leaves the signals as they are.
#[test]
fn what_only_answers_catches_nothing() {
    Namespace::run(|_| {
        // Help is longer than this pipe: it waits for its reader.
        let mut child = started("", "man");
        until("it is started", || {
            signals(&child, "SigIgn") & bit(Signal::SIGPIPE) != 0 || child.try_wait().unwrap().is_some()
        });
        assert_eq!(signals(&child, "SigCgt") & (bit(Signal::SIGINT) | bit(Signal::SIGTERM) | bit(Signal::SIGUSR1)), 0);
        drop(child.stdout.take());
        child.wait().unwrap();
    });
}
