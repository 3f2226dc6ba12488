//! `record --show` compared with a replay of its recording.

use crate::recording::listener::{listen, until_recorded};
use crate::recording::{flowgate, run, without_record_line};
use flowgate_test_support::traffic::{FTP, TFTP, Traffic, socket};
use flowgate_test_support::{Namespace, Outcome, Program, entries, netlink, until};
use nix::sys::signal::Signal;

/// User and group ID without privileges: `nobody` on all common systems.
const NOBODY: u32 = 65534;

/// Listings of tables that the kernel fills from [`Traffic::in_a_full_table`].
const LISTS: &[&str] = &[
    "-L",
    "-L -o extended",
    "-L -o id,extended",
    "-L -o xml",
    "-L -o xml,ktimestamp,extended",
    "-L -o save",
    "-L -o ktimestamp",
    "-L -o labels",
    "-L -o json",
    "-L -o json --batch 7",
    "-L -p tcp",
    "-L -p udp -o json",
    "-L -f ipv6",
    "-L -s 10.0.0.0/8 -o extended",
    "-L -w 5",
    "-L -m 1",
    "-L -u ASSURED",
    "-L expect",
    "-L expect -f ipv6",
    "-L expect -o xml",
    "-L expect -o json",
    "-L dying",
    "-L unconfirmed",
];

/// Ways to listen.
const LISTENERS: &[&str] = &[
    "-E",
    "-E -o extended,id",
    "-E -o timestamp",
    "-E -o ktimestamp",
    "-E -o xml",
    "-E -o xml,timestamp,ktimestamp",
    "-E -o save",
    "-E -o json",
    "-E -e NEW",
    "-E -e DESTROY -o json",
    "-E -p udp -o json --batch 1",
    "-E -f ipv6",
    "-E -m 7",
];

fn same(line: &str, live: &Outcome, replayed: &Outcome) {
    let (left, right) = (live.text(), replayed.text());
    let other = left.lines().zip(right.lines()).find(|(left, right)| left != right);
    assert!(live.stdout == replayed.stdout, "{line}: the first lines that differ: {other:?}\n{}", replayed.errors());
    assert_eq!(without_record_line(live), without_record_line(replayed), "{line}: standard error");
    assert_eq!(live.status, replayed.status, "{line}: exit status");
}

#[test]
fn a_dump_is_shown_again() {
    Namespace::run(|namespace| {
        let _traffic = Traffic::in_a_full_table(namespace);
        let file = namespace.directory().join("dump.pcap");
        let nobody = flowgate().copied_to(namespace.directory()).user(NOBODY);
        for line in LISTS {
            let live = run(&flowgate(), &file, &format!("record --show FILE -- {line}"));
            assert_eq!(live.status, 0, "{line}: {}", live.errors());
            assert!(live.errors().contains(" messages have been recorded, "), "{line}: {}", live.errors());
            same(line, &live, &run(&flowgate(), &file, &format!("replay FILE -- {line}")));
            // The replay's default command, as another user, without any socket.
            let words: Vec<&str> = line.split_whitespace().collect();
            let options = words.iter().skip_while(|word| **word != "-o").copied().collect::<Vec<_>>().join(" ");
            if words.len() == 1 || words.get(1) == Some(&"-o") {
                same(line, &live, &run(&nobody, &file, &format!("replay FILE -- {options}")));
            }
        }
    });
}

/// Selections on one recording of everything, made without `--show`: a replay selects what the live command selects.
#[test]
fn a_whole_dump_is_selected_from() {
    Namespace::run(|namespace| {
        for lines in [entries::every_protocol(), entries::nat(), entries::zones(), entries::marks()] {
            entries::load(namespace, &lines);
        }
        let file = namespace.directory().join("dump.pcap");
        let recorded = run(&flowgate(), &file, "record FILE -- -L");
        assert_eq!((recorded.text().as_str(), recorded.status), ("", 0), "{}", recorded.errors());
        for line in ["-L", "-L -p tcp --state ESTABLISHED", "-L -f ipv6 -o extended", "-L -w 5", "-L -o save", "-L -n"]
        {
            let [live, replayed] = [line.to_owned(), format!("replay FILE -- {line}")].map(|line| {
                let outcome = run(&flowgate(), &file, &line);
                let text = outcome.text();
                // The remaining timeout decreases between the two.
                let mut lines: Vec<String> = text.lines().map(without_timeout).collect();
                lines.sort();
                (lines, outcome.errors(), outcome.status)
            });
            assert!(live.0.len() > 1, "{line}: nothing is compared");
            let other = live.0.iter().zip(&replayed.0).find(|(live, replayed)| live != replayed);
            assert!(live == replayed, "{line}: {other:?}");
        }
    });
}

/// Replaces the remaining timeout and the reference count by a placeholder.
fn without_timeout(line: &str) -> String {
    let word = |(at, word): (usize, &str)| {
        let number = word.bytes().all(|byte| byte.is_ascii_digit()) && !word.is_empty();
        if (2..6).contains(&at) && number || word.starts_with("use=") { "N".to_owned() } else { word.to_owned() }
    };
    let mut words: Vec<String> = line.split_whitespace().enumerate().map(word).collect();
    if let Some(at) = words.iter().position(|word| word == "-t") {
        words[at + 1] = "N".into();
    }
    words.join(" ")
}

/// Creates, changes and removes entries, by commands and by real traffic.
fn story(namespace: &Namespace) {
    let conntrack = Program::new("conntrack");
    for line in [
        "-I -t 600 -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 80 --state SYN_SENT -m 7",
        "-I -t 600 -p udp -s 10.0.0.2 -d 10.1.0.1 --sport 2 --dport 53 -w 5",
        "-I -t 600 -p udp -s 10.0.0.3 -d 10.1.0.1 --sport 2 --dport 53 -n 10.9.9.9",
        "-I -t 600 -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 3 --dport 53 -m 7",
        "-I -t 600 -p icmp -s 10.0.0.1 -d 10.1.0.1 --icmp-type 8 --icmp-code 0 --icmp-id 9",
        "-U -s 10.0.0.1 -p tcp --state ESTABLISHED -u ASSURED,SEEN_REPLY",
        "-U -s 2001:db8::1 -t 700",
        "-D -p udp -f ipv4",
    ] {
        conntrack.must(&line.split_whitespace().collect::<Vec<_>>());
    }
    let mut traffic = Traffic::prepare(namespace);
    traffic.udp(&socket("10.9.0.1", 5001), &socket("10.9.0.1", 5001), true);
    traffic.tcp_closed(&socket("2001:db8:9::1", 8082));
    conntrack.must(&["-F"]);
}

/// Causes an event that every listener of [`LISTENERS`] reports, and whose mark can be found in the recording.
fn last_word() {
    let mark = u32::from_be_bytes(LAST).to_string();
    for words in ["-I -t 600 -p udp -s 2001:db8::77 -d 2001:db8::2 --sport 77 --dport 77 -m", "-D -f ipv6 -m"] {
        let mut words: Vec<&str> = words.split_whitespace().collect();
        words.push(&mark);
        Program::new("conntrack").must(&words);
    }
}

/// The mark of the last event as encoded in the message, in network byte order.
const LAST: [u8; 4] = *b"LAST";

#[test]
fn events_are_shown_again() {
    for line in LISTENERS {
        Namespace::run(|namespace| {
            namespace.account(true);
            let file = namespace.directory().join("events.pcap");
            let mut listener = listen(&flowgate(), &file, &format!("record --show FILE -- {line}"));
            story(namespace);
            last_word();
            until_recorded(&file, &LAST);
            let live = listener.end_by(Signal::SIGINT);
            assert!(!live.stdout.is_empty() || line.contains("-m 7"), "{line}: nothing is compared");
            same(line, &live, &run(&flowgate(), &file, &format!("replay FILE -- {line}")));
            same(line, &live, &run(&flowgate(), &file, &format!("replay --speed 1000 FILE -- {line}")));
        });
    }
}

/// A recording of everything, made without `--show`, contains the names of programs, and any format can be chosen for
/// it.
#[test]
fn events_name_their_programs() {
    Namespace::run(|namespace| {
        let file = namespace.directory().join("events.pcap");
        let mut listener = listen(&flowgate(), &file, "record FILE");
        // The ports of a program that lives long enough to be found.
        entries::load(namespace, &entries::busy(2000));
        last_word();
        until_recorded(&file, &LAST);
        let recorded = listener.end_by(Signal::SIGINT);
        assert_eq!((recorded.text().as_str(), recorded.status), ("", 0), "{}", recorded.errors());
        let replayed = run(&flowgate(), &file, "replay FILE");
        assert_eq!(replayed.status, 0, "{}", replayed.errors());
        assert!(replayed.text().contains(" progname=conntrack\n"), "{}", replayed.text());
        let json = run(&flowgate(), &file, "replay FILE -- -o json -e NEW");
        assert!(json.text().contains("\"program\":\"conntrack\""), "{}", json.text());
        assert_eq!(json.text().lines().count(), 2001);
        // A second replay is the same.
        assert_eq!(run(&flowgate(), &file, "replay FILE -- -o json -e NEW"), json);
    });
}

#[test]
fn events_of_expectations_are_shown_again() {
    for line in ["-E expect", "-E expect -o xml", "-E expect -o timestamp", "-E expect -o json"] {
        Namespace::run(|namespace| {
            let file = namespace.directory().join("events.pcap");
            let mut listener = listen(&flowgate(), &file, &format!("record --show FILE -- {line}"));
            let mut traffic = Traffic::prepare(namespace);
            let ftp = socket("10.9.0.1", FTP);
            traffic.ftp(&ftp, &ftp, true);
            traffic.ftp(&ftp, &ftp, false);
            Program::new("conntrack").must(&["-F", "expect"]);
            // The first expectation of TFTP is the last event.
            traffic.tftp(&socket("10.9.0.1", TFTP));
            until_recorded(&file, b"tftp\0");
            let live = listener.end_by(Signal::SIGINT);
            assert!(live.text().lines().count() >= 3, "{line}: {}", live.text());
            same(line, &live, &run(&flowgate(), &file, &format!("replay FILE -- {line}")));
        });
    }
}

#[test]
fn a_gap_is_recorded() {
    for line in ["-E -b 50000", "-E -b 50000 -o json"] {
        Namespace::run(|namespace| {
            let file = namespace.directory().join("gap.pcap");
            let mut listener = listen(&flowgate(), &file, &format!("record --show FILE -- {line}"));
            listener.signal(Signal::SIGSTOP);
            entries::load(namespace, &entries::busy(3000));
            listener.signal(Signal::SIGCONT);
            // The kernel drops events until the listener has emptied its buffer.
            until("it listens again", || {
                last_word();
                std::fs::read(&file).is_ok_and(|bytes| bytes.windows(4).any(|window| window == LAST))
            });
            let live = listener.end_by(Signal::SIGINT);
            assert!(
                live.errors().contains("WARNING: We have hit ENOBUFS! We are losing events.\n"),
                "{}",
                live.errors()
            );
            assert!(live.errors().contains("gaps where the kernel lost events"), "{}", live.errors());
            let replayed = run(&flowgate(), &file, &format!("replay FILE -- {line}"));
            assert_eq!(live.text(), replayed.text(), "{line}");
            let without_notice = |outcome: &Outcome| {
                let text = without_record_line(outcome);
                text.lines().filter(|line| !line.starts_with("NOTICE")).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(without_notice(&live), without_notice(&replayed), "{line}");
        });
    }
}

#[test]
fn limits_end_a_recording() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(2000));
        let file = namespace.directory().join("dump.pcap");
        let recorded = run(&flowgate(), &file, "record --max-size 100k FILE -- -L");
        assert_eq!(recorded.status, 0);
        assert!(recorded.errors().contains("longer than --max-size"), "{}", recorded.errors());
        let length = std::fs::metadata(&file).expect("the file").len();
        assert!((50 << 10..=100 << 10).contains(&length), "{length}");
        let replayed = run(&flowgate(), &file, "replay FILE");
        assert_eq!(replayed.status, 1);
        assert!(replayed.text().lines().count() > 100);
        assert!(replayed.errors().contains("ends before the dump does"), "{}", replayed.errors());
        let recorded = run(&flowgate(), &file, "record --duration 0.2 FILE -- -E");
        assert_eq!(recorded.status, 0, "{}", recorded.errors());
        assert!(recorded.errors().contains("0 messages have been recorded"), "{}", recorded.errors());
        assert_eq!(run(&flowgate(), &file, "replay FILE").status, 0);
    });
}

/// A recorder and a replay at the same time, connected by a pipe.
#[test]
fn a_recording_can_be_played_while_it_is_made() {
    Namespace::run(|namespace| {
        let path = flowgate().path.display().to_string();
        let shown = namespace.directory().join("shown");
        let script = format!("{path} record - 2>&- | {path} replay - > {} 2>&1", shown.display());
        let mut shell = Program::new("sh").command(&["-c", &script]).spawn().expect("a shell");
        until("the recorder listens", || netlink::table().iter().any(|socket| socket.joined));
        last_word();
        until("it is shown", || std::fs::read_to_string(&shown).is_ok_and(|text| text.contains("[DESTROY]")));
        // Ends only the recorder, found by the port of its socket; the replay ends with it.
        let socket = netlink::table().into_iter().find(|socket| socket.joined).expect("the socket of the recorder");
        let recorder = nix::unistd::Pid::from_raw(i32::try_from(socket.port).expect("a process"));
        nix::sys::signal::kill(recorder, Signal::SIGINT).expect("ending the recorder");
        assert_eq!(shell.wait().expect("its end").code(), Some(0));
        let text = std::fs::read_to_string(&shown).expect("what was shown");
        assert!(text.ends_with("flowgate: 2 flow events have been shown.\n"), "{text}");
    });
}

/// A replay in real time can be interrupted like a live command.
#[test]
fn a_slow_replay_can_be_interrupted() {
    Namespace::run(|namespace| {
        let file = namespace.directory().join("events.pcap");
        let mut listener = listen(&flowgate(), &file, "record FILE");
        last_word();
        until_recorded(&file, &LAST);
        listener.end_by(Signal::SIGINT);
        // The second event is due in years.
        let shown = namespace.directory().join("shown");
        let slow = Program::new("sh");
        let script = format!(
            "exec {} replay --speed 0.00000000001 {} > {}",
            flowgate().path.display(),
            file.display(),
            shown.display()
        );
        let mut child = slow.command(&["-c", &script]).stderr(std::process::Stdio::piped()).spawn().expect("a shell");
        until("the first event is shown", || std::fs::read_to_string(&shown).is_ok_and(|text| text.contains("[NEW]")));
        let id = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(id, Signal::SIGINT).expect("sending a signal");
        let mut errors = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().expect("a pipe"), &mut errors).expect("errors");
        assert_eq!(child.wait().expect("its end").code(), Some(0), "{errors}");
        assert!(errors.contains("1 flow events have been shown."), "{errors}");
    });
}
