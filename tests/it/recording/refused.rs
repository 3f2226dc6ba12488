//! Recordings and replays that are refused, with their messages.

use crate::recording::listener::listen;
use crate::recording::{flowgate, run};
use flowgate_test_support::{Namespace, entries};
use nix::sys::signal::Signal;

#[test]
fn commands_that_act_are_refused() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        let file = namespace.directory().join("dump.pcap");
        for command in ["-D", "-F", "-C", "-S", "-U -m 1", "-G -s 10.0.0.1 -d 10.0.0.2 -p udp --sport 1 --dport 1"] {
            let recorded = run(&flowgate(), &file, &format!("record FILE -- {command}"));
            assert_eq!(recorded.status, 1, "{command}");
            assert!(recorded.errors().contains("cannot record the command --"), "{command}: {}", recorded.errors());
            assert!(!file.exists(), "{command}: no file is made");
        }
        assert_eq!(run(&flowgate(), &file, "record FILE -- -L").status, 0);
        for command in ["-D", "-D -p udp", "-F", "-C", "-S", "-U -m 1", "-I -t 5 -p 50 -s 10.0.0.1 -d 10.0.0.2"] {
            let replayed = run(&flowgate(), &file, &format!("replay FILE -- {command}"));
            assert_eq!((replayed.text().as_str(), replayed.status), ("", 1), "{command}");
            assert!(replayed.errors().contains("nothing in it can be acted on"), "{command}: {}", replayed.errors());
        }
        let failure = |line: &str| {
            let outcome = run(&flowgate(), &file, line);
            assert_eq!(outcome.text(), "", "{line}");
            (outcome.status, outcome.errors())
        };
        let (status, text) = failure("replay FILE -- -E");
        assert!(status == 1 && text.contains("is of a dump of flows") && text.contains("use -L\n"), "{text}");
        let (status, text) = failure("replay FILE -- -L expect");
        assert!(status == 1 && text.contains("is of a dump of flows"), "{text}");
        let (status, text) = failure("replay FILE -- -L -z");
        assert!(status == 1 && text.contains("-z"), "{text}");
        let (status, text) = failure("replay FILE -- -L -s nonsense");
        assert!(status == 2 && text.contains("nonsense"), "{text}");
        let (status, text) = failure("replay FILE --speed never");
        assert!(status == 2 && text.contains("a speed is"), "{text}");
        let (status, text) = failure("record --max-size many FILE");
        assert!(status == 2 && text.contains("it takes a size such as \"64MiB\""), "{text}");
        let (status, text) = failure("record --show - -- -L");
        assert!(status == 1 && text.contains("no place for --show"), "{text}");
        let (status, text) = failure("replay /nonexistent/file");
        assert!(status == 1 && text.contains("cannot open the recording /nonexistent/file"), "{text}");
        let (status, text) = failure("record /nonexistent/file -- -L");
        assert!(status == 1 && text.contains("cannot create the recording /nonexistent/file"), "{text}");
        let (status, text) = failure("record /dev/full -- -L");
        assert!(status == 1 && text.contains("No space left on device"), "{text}");
        std::fs::write(&file, "no recording").expect("a file");
        let (status, text) = failure("replay FILE");
        assert!(status == 1 && text.contains("this is no recording"), "{text}");
    });
}

#[test]
fn a_file_that_is_cut_shows_what_came_before() {
    Namespace::run(|namespace| {
        let file = namespace.directory().join("events.pcap");
        let mut listener = listen(&flowgate(), &file, "record FILE");
        entries::load(namespace, &entries::busy(300));
        flowgate_test_support::until("it is recorded", || {
            std::fs::metadata(&file).is_ok_and(|file| file.len() > 60_000)
        });
        listener.end_by(Signal::SIGINT);
        let bytes = std::fs::read(&file).expect("the recording");
        std::fs::write(&file, &bytes[..bytes.len() - 3]).expect("a shorter one");
        let replayed = run(&flowgate(), &file, "replay FILE");
        assert_eq!(replayed.status, 1);
        assert!(replayed.text().lines().count() > 200, "{}", replayed.text());
        assert!(replayed.errors().contains("in the middle of a packet: at offset "), "{}", replayed.errors());
    });
}

/// The reader of the recording exits early: handled as for any output.
#[test]
fn a_reader_that_leaves() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(2000));
        let script = format!("{} record - -- -L | true; echo ${{PIPESTATUS[0]}}", flowgate().path.display());
        let outcome = flowgate_test_support::Program::new("bash").run(&["-c", &script]);
        assert_eq!((outcome.text().as_str(), outcome.errors().as_str()), ("141\n", ""));
    });
}

/// The kernel's refusal is reported before a file is created.
#[test]
fn without_privileges_nothing_is_recorded() {
    Namespace::run(|namespace| {
        let program = flowgate().copied_to(namespace.directory()).user(65534);
        let file = namespace.directory().join("none.pcap");
        for line in ["record FILE", "record FILE -- -E expect"] {
            let outcome = run(&program, &file, line);
            assert_eq!(outcome.status, 1, "{line}: {}", outcome.errors());
            assert!(!file.exists(), "{line}");
        }
    });
}
