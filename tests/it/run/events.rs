//! Events through stages into sinks, until a signal ends the pipeline.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
};

use flowgate_test_support::{Background, Namespace, entries, until};
use nix::sys::signal::Signal;

use crate::run::{conntrack, content, file, flowgate};

const FLOW: &str = "-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53";

/// Starts a pipeline, and waits until it listens.
fn listen(namespace: &Namespace, pipeline: &str) -> Background {
    let path = file(namespace.directory(), pipeline).display().to_string();
    let listening = Background::start(&flowgate(), &["run", &path]);
    listening.wait_until_listening();
    listening
}

/// Ends it, and returns what it wrote: standard output, standard error.
fn end(mut listening: Background, signal: Signal) -> (String, String) {
    let outcome = listening.end_by(signal);
    assert_eq!(outcome.status, 0, "{}", outcome.errors());
    (outcome.text(), outcome.errors())
}

#[test]
fn events_reach_files_as_they_come() {
    Namespace::run(|namespace| {
        let listening = listen(
            namespace,
            "[source]\nkind = 'events'\nselect = '-p udp'\nevents = ['new', 'destroy']\n\
             [[sink]]\nkind = 'file'\npath = 'events'\n",
        );
        entries::load(namespace, &[FLOW.to_owned(), FLOW.replace("-p udp", "-p udplite")]);
        until("the new flow", || content(namespace, "events").contains("[NEW]"));
        flowgate().must(&["-U", "-p", "udp", "-m", "5"]);
        conntrack().must(&["-D", "-p", "udp"]);
        until("its end", || content(namespace, "events").contains("[DESTROY]"));
        let (text, errors) = end(listening, Signal::SIGINT);
        assert_eq!(text, "");
        assert!(errors.contains("2 flow events have been shown."), "{errors}");
        assert_eq!(content(namespace, "events").lines().count(), 2);
    });
}

#[test]
fn stages_act_on_events() {
    Namespace::run(|namespace| {
        let listening = listen(
            namespace,
            "[source]\nkind = 'events'\nevents = ['new']\n\
             [[stage]]\nstock = 'match'\nselect = '-s 10.0.0.2'\n[[stage]]\nstock = 'delete'\n\
             [[sink]]\nkind = 'stdout'\n[[sink]]\nkind = 'file'\npath = 'events'\n",
        );
        entries::load(namespace, &[FLOW.to_owned(), FLOW.replace("10.0.0.1", "10.0.0.2")]);
        until("the deletion", || content(namespace, "events").contains("src=10.0.0.2"));
        assert_eq!(conntrack().must(&["-C"]).trim(), "1");
        let (text, errors) = end(listening, Signal::SIGTERM);
        assert_eq!(text, content(namespace, "events"));
        assert!(errors.contains("1 actions have been done, 0 have been refused."), "{errors}");
    });
}

#[test]
fn a_peer_that_does_not_read_stops_no_events() {
    Namespace::run(|namespace| {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        // More events than the socket buffers on both sides and the sink's buffer hold.
        let flows = entries::busy(60_000);
        let listening = listen(
            namespace,
            &format!(
                "[source]\nkind = 'events'\nevents = ['new']\nbuffer = '64MiB'\n\
                 [format]\nkind = 'xml'\n\
                 [[sink]]\nkind = 'file'\npath = 'events'\n\
                 [[sink]]\nkind = 'tcp'\naddress = '{address}'\nbuffer = '64KiB'\nlinger = '1s'\n"
            ),
        );
        let (peer, _) = tcp.accept().unwrap();
        entries::load(namespace, &flows);
        let path = namespace.directory().join("events");
        let shown = || {
            let file = BufReader::new(std::fs::File::open(&path).unwrap());
            file.lines().filter(|line| line.as_ref().is_ok_and(|line| line.starts_with("<flow "))).count()
        };
        until("all events are in the file, although the peer does not read", || shown() == flows.len());
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let mut peer = peer;
            peer.read_to_string(&mut text).map(|_| text)
        });
        let (_, errors) = end(listening, Signal::SIGINT);
        let text = reader.join().unwrap().unwrap();
        assert!(text.lines().all(|line| line.starts_with('<') && line.ends_with('>')), "lines are whole");
        assert!(errors.contains("its buffer of 65536 bytes is full; lines are being dropped"), "{errors}");
        let dropped: usize = errors
            .lines()
            .find_map(|line| {
                line.split(": ").nth(2)?.split(' ').next()?.parse().ok().filter(|_| line.contains("have been dropped"))
            })
            .unwrap_or_else(|| panic!("how many were dropped: {errors}"));
        let all = content(namespace, "events").lines().count();
        let undelivered: usize = errors
            .lines()
            .find(|line| line.contains("could not be delivered"))
            .map_or(0, |line| line.split(": ").nth(2).unwrap().split(' ').next().unwrap().parse().unwrap());
        assert!(dropped > 0);
        // A line that is cut off by the shutdown counts as not delivered.
        let delivered = text.lines().count();
        assert_eq!(delivered + dropped + undelivered, all, "{errors}");
    });
}

#[test]
fn a_collector_that_comes_back_gets_the_rest() {
    Namespace::run(|namespace| {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let listening = listen(
            namespace,
            &format!(
                "[source]\nkind = 'events'\n[format]\nkind = 'json'\n[[sink]]\nkind = 'tcp'\naddress = '{address}'\n"
            ),
        );
        let mut lines = BufReader::new(tcp.accept().unwrap().0).lines();
        entries::load(namespace, &[FLOW.to_owned()]);
        assert!(lines.next().unwrap().unwrap().contains("10.0.0.1"));
        drop(lines);
        // When the collector has closed the connection, the first data sent to it is lost, as usual with TCP. The error
        // is reported afterwards.
        let mut port = 5;
        until("the broken connection is noticed", || {
            port += 1;
            entries::load(namespace, &[FLOW.replace("--sport 5", &format!("--sport {port}"))]);
            listening.errors().contains("the connection broke")
        });
        entries::load(namespace, &[FLOW.replace("10.0.0.1", "10.0.0.29")]);
        let mut lines = BufReader::new(tcp.accept().unwrap().0).lines();
        let mut last = String::new();
        while !last.contains("10.0.0.29") {
            last = lines.next().expect("more lines").unwrap();
            let event: serde_json::Value = serde_json::from_str(&last).expect("whole lines");
            assert_eq!(event["event"], "new", "{last}");
        }
        let (_, errors) = end(listening, Signal::SIGINT);
        assert!(errors.contains("the connection broke") && errors.contains("connected again"), "{errors}");
    });
}
