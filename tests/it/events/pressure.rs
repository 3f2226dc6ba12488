//! Back-pressure: output that is not read, and DESTROY events that must not be lost.

use crate::events::{conntrack, flows, listen, listen_unread};
use flowgate_test_support::{Background, Namespace, entries, flowgate, until};
use nix::sys::signal::Signal;
use std::{
    io::{Read as _, Write as _},
    process::Stdio,
};

/// More than the default buffer holds, and less than its maximum.
const MANY: u32 = 60_000;

#[test]
fn nothing_is_lost_while_the_output_is_not_read() {
    Namespace::run(|namespace| {
        let mut listener = listen_unread("-E");
        entries::load(namespace, &flows(1, MANY));
        let memory = listener.memory().expect("it runs");
        assert!(memory < 64 << 10, "{memory} KiB");
        listener.read_output();
        until("all of them", || listener.lines().len() >= MANY as usize);
        listener.finish();
        let lines = listener.lines();
        assert_eq!(lines.len(), MANY as usize);
        assert!(!listener.errors().contains("ENOBUFS"), "{}", listener.errors());
    });
}

#[test]
fn memory_is_bounded_whatever_comes() {
    Namespace::run(|namespace| {
        let mut listener = listen_unread("-E --resync --buffer-max 8388608 -o json");
        for _ in 0..3 {
            entries::load(namespace, &flows(1, MANY));
            assert_eq!(conntrack("-F").status, 0);
        }
        let memory = listener.memory().expect("it runs");
        assert!(memory < 64 << 10, "{memory} KiB");
        listener.read_output();
        entries::load(namespace, &flows(2, 1));
        until("it goes on", || listener.lines().iter().any(|line| line.contains("10.2.0.0")));
        listener.finish();
    });
}

#[test]
fn reliable_listeners_hear_of_every_end() {
    Namespace::run(|namespace| {
        let mut listener = listen("-E -e DESTROY --reliable -b 40000 --buffer-max 40000");
        entries::load(namespace, &flows(1, 400));
        listener.while_stopped(|| {
            assert_eq!(conntrack("-F").status, 0);
            // The kernel keeps flows whose DESTROY event could not be delivered.
            assert!(conntrack("-L dying").text().lines().count() > 100);
        });
        until("every end", || listener.lines().len() >= 400);
        listener.finish();
        let lines = listener.lines();
        assert_eq!(lines.len(), 400);
        assert!(lines.iter().all(|line| line.starts_with("[DESTROY]")));
        assert_eq!(conntrack("-L dying").text(), "");
    });
}

#[test]
fn reliable_and_resync_together() {
    Namespace::run(|namespace| {
        entries::load(namespace, &flows(1, 400));
        let listener = listen("-E --reliable --resync -b 40000 --buffer-max 40000 -o json");
        let mut consumer = crate::events::consumer::Consumer::new();
        listener.while_stopped(|| {
            entries::load(namespace, &flows(2, 400));
            assert_eq!(conntrack("-D -s 10.1.0.0/24").status, 0);
        });
        consumer.agree(&listener);
        consumer.finish(listener);
    });
}

#[test]
fn events_go_on_while_standard_error_is_not_read() {
    Namespace::run(|namespace| {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        // The capacity of a pipe (pipe(7)).
        writer.write_all(&[b'.'; 65_536]).unwrap();
        let mut command = flowgate().command(&["-E", "--metrics", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
        let mut listener = Background::spawn(command);
        let mut port = 0;
        until("it shows events, though it could not print where metrics are", || {
            port += 1;
            entries::insert(namespace, &format!("-t 600 -p udp -s 10.0.0.1 -d 10.0.0.2 --sport {port} --dport 53"));
            !listener.lines().is_empty()
        });
        // A reader that starts late gets everything.
        let late_reader = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        assert_eq!(listener.end_by(Signal::SIGINT).status, 0);
        let text = late_reader.join().unwrap().unwrap();
        let text = text.trim_start_matches('.');
        assert!(text.starts_with("NOTICE: Metrics are served at ") && text.ends_with("have been shown.\n"), "{text}");
    });
}
