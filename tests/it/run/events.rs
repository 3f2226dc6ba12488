//! Events through stages into sinks, until a signal ends it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::Child,
    time::Duration,
};

use flowgate_test_support::{
    Namespace, entries,
    program::{must_heed_signals, shell_status},
    until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::run::{conntrack, content, file, flowgate};

const FLOW: &str = "-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53";

/// A pipeline that listens.
struct Listening(Child);

impl Listening {
    /// Starts it, and waits until it has joined its groups.
    fn start(namespace: &Namespace, pipeline: &str) -> Self {
        must_heed_signals();
        let path = file(namespace.directory(), pipeline).display().to_string();
        let child = flowgate().spawn(&["run", &path]);
        let joined = || {
            let table = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
            table.lines().skip(1).any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words[1] == "12" && !words[3].trim_start_matches('0').is_empty()
            })
        };
        until("it listens", joined);
        Listening(child)
    }

    /// Ends it, and returns what it wrote: standard output, standard error.
    fn end(mut self, signal: Signal) -> (String, String) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
        let (mut text, mut errors) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!(shell_status(self.0.wait().unwrap()), 0, "{errors}");
        (text, errors)
    }
}

#[test]
fn events_reach_files_as_they_come() {
    Namespace::run(|namespace| {
        let listening = Listening::start(
            namespace,
            "[source]\nkind = 'events'\nselect = '-p udp'\nevents = ['new', 'destroy']\n\
             [[sink]]\nkind = 'file'\npath = 'events'\n",
        );
        entries::load(namespace, &[FLOW.to_owned(), FLOW.replace("-p udp", "-p udplite")]);
        until("the new flow", || content(namespace, "events").contains("[NEW]"));
        flowgate().must(&["-U", "-p", "udp", "-m", "5"]);
        conntrack().must(&["-D", "-p", "udp"]);
        until("its end", || content(namespace, "events").contains("[DESTROY]"));
        let (text, errors) = listening.end(Signal::SIGINT);
        assert_eq!(text, "");
        assert!(errors.contains("2 flow events have been shown."), "{errors}");
        assert_eq!(content(namespace, "events").lines().count(), 2);
    });
}

#[test]
fn stages_act_on_events() {
    Namespace::run(|namespace| {
        let listening = Listening::start(
            namespace,
            "[source]\nkind = 'events'\nevents = ['new']\n\
             [[stage]]\nstock = 'match'\nselect = '-s 10.0.0.2'\n[[stage]]\nstock = 'delete'\n\
             [[sink]]\nkind = 'stdout'\n[[sink]]\nkind = 'file'\npath = 'events'\n",
        );
        entries::load(namespace, &[FLOW.to_owned(), FLOW.replace("10.0.0.1", "10.0.0.2")]);
        until("the deletion", || content(namespace, "events").contains("src=10.0.0.2"));
        assert_eq!(conntrack().must(&["-C"]).trim(), "1");
        let (text, errors) = listening.end(Signal::SIGTERM);
        assert_eq!(text, content(namespace, "events"));
        assert!(errors.contains("1 actions have been done, 0 have been refused."), "{errors}");
    });
}

#[test]
fn a_peer_that_does_not_read_stops_no_events() {
    Namespace::run(|namespace| {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        // Some events: more than what the sockets of both sides and the buffer hold.
        let flows = entries::busy(60_000);
        let listening = Listening::start(
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
        let (_, errors) = listening.end(Signal::SIGINT);
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
        // The line that a shutdown cuts off counts as not delivered.
        let delivered = text.lines().count();
        assert_eq!(delivered + dropped + undelivered, all, "{errors}");
    });
}

#[test]
fn a_collector_that_comes_back_gets_the_rest() {
    Namespace::run(|namespace| {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let listening = Listening::start(
            namespace,
            &format!(
                "[source]\nkind = 'events'\n[format]\nkind = 'json'\n[[sink]]\nkind = 'tcp'\naddress = '{address}'\n"
            ),
        );
        let mut lines = BufReader::new(tcp.accept().unwrap().0).lines();
        entries::load(namespace, &[FLOW.to_owned()]);
        assert!(lines.next().unwrap().unwrap().contains("10.0.0.1"));
        drop(lines);
        // The collector has gone: what is sent first is lost on the way, as TCP has it. Then it shows.
        for host in 2..30 {
            entries::load(namespace, &[FLOW.replace("10.0.0.1", &format!("10.0.0.{host}"))]);
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut lines = BufReader::new(tcp.accept().unwrap().0).lines();
        let mut last = String::new();
        while !last.contains("10.0.0.29") {
            last = lines.next().expect("more lines").unwrap();
            let event: serde_json::Value = serde_json::from_str(&last).expect("whole lines");
            assert_eq!(event["event"], "new", "{last}");
        }
        let (_, errors) = listening.end(Signal::SIGINT);
        assert!(errors.contains("the connection broke") && errors.contains("connected again"), "{errors}");
    });
}
