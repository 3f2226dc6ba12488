//! Uses of saved lines in third-party scripts.

use super::{conntrack, count, last_line, load};
use crate::field::flowgate;
use flowgate_test_support::{Namespace, Program, entries};
use std::io::{BufRead, BufReader};
use std::sync::mpsc::channel;
use std::time::Duration;

fn steady(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let words = line.split_whitespace().enumerate();
            words
                .filter(|(at, word)| *at != 2 && !word.starts_with("use="))
                .map(|(_, word)| word)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    lines.sort();
    lines
}

/// Live migration of virtual machines: the flows with a mark are saved, each line gets the mark again, and all are
/// loaded on the other machine, twice.
#[test]
fn case_16_flows_of_a_virtual_machine_migrate() {
    for program in [flowgate(), conntrack()] {
        let (saved, before) = Namespace::run(|namespace| {
            let marked =
                entries::every_protocol().into_iter().map(|line| line.replacen("-I ", "-I --mark 16711680 ", 1));
            entries::load(namespace, &marked.collect::<Vec<_>>());
            entries::load(namespace, &entries::marks());
            let words = ["--dump", "--mark", "16711680", "--output"];
            (
                program.must(&[&words[..], &["save"]].concat()),
                program.must(&[&words[..3], &["-o", "userspace"]].concat()),
            )
        });
        let text: String = saved.lines().map(|line| format!("{line} --mark 16711680\n")).collect();
        assert!(text.lines().count() > 100);
        Namespace::run(|_| {
            for round in ["once", "twice"] {
                let outcome = program.run_with(&["--load-file", "-"], text.as_bytes());
                assert_eq!(outcome.status, 0, "{round}: {}", outcome.errors());
                assert_eq!(steady(&program.must(&["-L"])), steady(&before), "{round}");
            }
        });
    }
    // The complete form contains the mark.
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        let saved = flowgate().must(&["--dump", "--mark", "65536", "--output", "save,complete"]);
        assert!(saved.lines().count() == 4 && saved.lines().all(|line| line.contains(" -m 65536")), "{saved}");
    });
}

/// An undo log: deletions are reported as they happen, and reverted later.
#[test]
fn case_17_what_was_deleted_is_added_again() {
    for own in [true, false] {
        let program = if own { flowgate() } else { conntrack() };
        Namespace::run(|namespace| {
            let mut listener = program.spawn(&["-E", "-o", "save", "-e", "DESTROY"]);
            let output = BufReader::new(listener.stdout.take().unwrap());
            let (give, take) = channel();
            let reader = std::thread::spawn(move || {
                for line in output.lines() {
                    give.send(line.unwrap()).unwrap();
                }
            });
            // Deletions are reported only for flows created while a listener exists. A first event shows that it does.
            let probe = "-s 192.0.2.99 -d 192.0.2.98 -p 253";
            let heard = (0..500).any(|_| {
                for command in ["-I -t 60 ", "-D "] {
                    let line = format!("{command}{probe}");
                    Program::new("conntrack").run(&line.split_whitespace().collect::<Vec<_>>());
                }
                take.recv_timeout(Duration::from_millis(100)).is_ok()
            });
            assert!(heard, "no event was heard");
            // Deletions of SCTP flows do not contain the tags that additions require.
            let lines = entries::every_protocol().into_iter().filter(|line| !line.contains(" -p sctp "));
            let lines: Vec<String> = lines.take(40).collect();
            entries::load(namespace, &lines);
            let before = Program::new("conntrack").must(&["-L"]);
            // The flows are deleted by a program with this name.
            let odd = namespace.directory().join("a -x \"b");
            // Copied by a separate process: a child of another test would inherit a file that is open for writing here
            // (ETXTBSY).
            Program::new("cp").must(&[&flowgate().path.display().to_string(), &odd.display().to_string()]);
            Program::new(&odd).must(&["-D", "-s", "192.0.2.1", "-o", "save"]);
            let mut log = String::new();
            while log.lines().count() < 40 {
                let line = take.recv_timeout(Duration::from_secs(60)).unwrap();
                if !line.contains(" -p 253") {
                    log += &format!("{line}\n");
                }
            }
            let listening = nix::unistd::Pid::from_raw(listener.id() as i32);
            nix::sys::signal::kill(listening, nix::sys::signal::Signal::SIGINT).unwrap();
            listener.wait().unwrap();
            reader.join().unwrap();
            assert!(log.contains(" [USERSPACE] portid="), "{log}");
            assert_eq!(count(namespace), 0);
            let undo: String = log.lines().map(|line| line.replacen("-D", "-A -t 60", 1) + "\n").collect();
            let outcome = program.run_with(&["--load-file", "-"], undo.as_bytes());
            assert_eq!(outcome.status, 0, "{}\n{undo}", outcome.errors());
            assert_eq!(steady(&Program::new("conntrack").must(&["-L"])), steady(&before));
        });
    }
}

/// The name of a program may be any text.
#[test]
fn case_17_what_stands_behind_a_line_about_a_program_is_no_option() {
    for name in ["a -x \"b", "-F", "--all", "\\", "[USERSPACE]", "x portid=1 -D"] {
        for program in [flowgate(), conntrack()] {
            Namespace::run(|namespace| {
                let line = format!(
                    "-A -t 60 -s 192.0.2.1 -d 192.0.2.2 -p udp --sport 1 --dport 2 [USERSPACE] portid=77 progname={name}\n"
                );
                let outcome = load(&program, &line, &[]);
                assert_eq!((outcome.status, count(namespace)), (0, 1), "{name}: {}", outcome.errors());
            });
        }
    }
    // Text is ignored only after such a line, and only in files.
    Namespace::run(|namespace| {
        let outcome = load(&flowgate(), "-A -t 60 -s 192.0.2.1 -d 192.0.2.2 -p 50 [USERSPACE] -X\n", &["--keep-going"]);
        assert_eq!((outcome.status, count(namespace)), (1, 0), "{}", last_line(&outcome));
    });
}
