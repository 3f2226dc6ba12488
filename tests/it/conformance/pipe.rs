//! Everything besides the table: closed pipes, signals, and a user without privileges.

use crate::conformance::compare::{Both, Report, without_banner};
use flowgate_test_support::{Background, Namespace, Outcome, Program, entries};
use nix::sys::signal::Signal;
use std::io::Read;

/// Fills the table with more output than any pipe or buffer holds.
fn fill(namespace: &Namespace) {
    entries::load(namespace, &entries::busy(20_000));
}

/// Starts a program with its output in a pipe, calls `act` with it, and waits for its end without reading any more.
fn with_pipe(program: &Program, arguments: &[&str], act: impl FnOnce(&mut Background)) -> Outcome {
    let mut running = Background::start_unread(program, arguments);
    act(&mut running);
    let status = running.end_unread();
    // Output from before does not matter.
    Outcome { stdout: Vec::new(), stderr: running.end().stderr, status }
}

#[test]
fn reader_that_leaves() {
    Namespace::run(|namespace| {
        fill(namespace);
        let both = Both::new();
        let mut report = Report::new("a reader that leaves early");
        for arguments in [&["-L"][..], &["-L", "-o", "xml"], &["-L", "-o", "save"], &["-L", "-o", "extended,id"]] {
            let [theirs, ours] = [&both.theirs, &both.ours].map(|program| {
                with_pipe(program, arguments, |running| {
                    let mut pipe = running.take_output();
                    pipe.read_exact(&mut [0; 100]).expect("the first line, as head would read it");
                })
            });
            report.outcomes(&format!("{} | head -1", arguments.join(" ")), &theirs, &ours);
        }
        report.finish();
    });
}

#[test]
fn interrupted_while_the_reader_is_slow() {
    Namespace::run(|namespace| {
        fill(namespace);
        let both = Both::new();
        let mut report = Report::new("a signal while listing");
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let [theirs, ours] = [&both.theirs, &both.ours].map(|program| {
                with_pipe(program, &["-L"], |running| {
                    running.wait_until_pipe_is_full();
                    running.signal(signal);
                })
            });
            report.outcomes(&format!("-L, {signal} while its pipe is full"), &theirs, &ours);
        }
        report.finish();
    });
}

#[test]
fn signals_end_events() {
    Namespace::run(|namespace| {
        let both = Both::new();
        let mut report = Report::new("a signal while waiting for events");
        for (signal, arguments) in [
            (Signal::SIGINT, &["-E"][..]),
            (Signal::SIGTERM, &["-E", "-o", "xml"]),
            (Signal::SIGINT, &["-E", "expect"]),
        ] {
            let [theirs, ours] = [&both.theirs, &both.ours].map(|program| {
                with_pipe(program, arguments, |running| {
                    // conntrack joins its groups before it installs signal handlers.
                    running.wait_until_listening();
                    running.wait_until_idle();
                    running.signal(signal);
                })
            });
            report.outcomes(&format!("{}, {signal}", arguments.join(" ")), &theirs, &ours);
        }
        let _ = namespace;
        report.finish();
    });
}

/// The same as with a full disk: `conntrack` silently loses the output and exits with status 0.
#[test]
fn without_standard_output() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        let both = Both::new();
        for words in ["-L", "-L -o xml", "-G -p udp -s 10.4.0.1 -d 10.1.0.1 --sport 1 --dport 53"] {
            let [theirs, ours] = [&both.theirs, &both.ours].map(|program| {
                let path = program.path.display();
                Program::new("sh").run(&["-c", &format!("exec {path} {words} >&-")])
            });
            assert!(theirs.status == 0, "conntrack now notices that its output is closed, status {}", theirs.status);
            if std::env::var_os("FLOWGATE_UNDER_TEST").is_none() {
                let text = without_banner(&ours, true);
                assert!(ours.status == 1 && text.contains("cannot write: Bad file descriptor"), "{words}: {text:?}");
            }
        }
        assert!(
            Program::new("conntrack").run(&["-L"]).text().lines().count() == entries::marks().len(),
            "the table is as it was"
        );
    });
}

/// flowgate reports an error where `conntrack` silently loses the output and exits with status 0.
#[test]
fn full_disk() {
    Namespace::run(|namespace| {
        fill(namespace);
        let both = Both::new();
        let [theirs, ours] = [&both.theirs, &both.ours].map(|program| {
            let path = program.path.display();
            Program::new("sh").run(&["-c", &format!("exec {path} -L >/dev/full")])
        });
        assert!(
            theirs.status == 0,
            "conntrack now notices a full disk, status {}: compare, and leave this out",
            theirs.status
        );
        if std::env::var_os("FLOWGATE_UNDER_TEST").is_none() {
            let text = without_banner(&ours, true);
            assert!(
                ours.status == 1 && text.contains("No space left on device"),
                "flowgate on a full disk: status {}, {text:?}",
                ours.status
            );
        }
    });
}

/// User and group ID without privileges: `nobody` on all common systems.
const NOBODY: u32 = 65534;

#[test]
fn without_privileges() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        let mut both = Both::new();
        both.ours = both.ours.copied_to(namespace.directory());
        let mut report = Report::new("without privileges");
        for words in [
            "-L",
            "-L -o xml",
            "-L -p tcp",
            "-L expect",
            "-L dying",
            "-C",
            "-C expect",
            "-S",
            "-G -p udp -s 10.4.0.1 -d 10.1.0.1 --sport 1 --dport 53",
            "-D",
            "-D -p udp",
            "-F",
            "-F expect",
            "-I -t 5 -p udp -s 10.0.0.1 -d 10.1.0.2 --sport 1 --dport 53",
            "-U -f ipv4 -m 5",
            "-E",
            "-E expect",
            "-L -x",
            "-L -w 5",
        ] {
            let [theirs, ours] = [&both.theirs, &both.ours].map(|program| {
                program.clone().called("conntrack").user(NOBODY).run(&crate::conformance::compare::words(words))
            });
            report.outcomes(&format!("{words} (as nobody)"), &theirs, &ours);
        }
        report.finish();
    });
}
