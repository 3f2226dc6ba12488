//! Events: both programs listen at the same time and must report the same events.

use crate::conformance::compare::{Both, Report, words};
use flowgate_test_support::traffic::{FTP, TFTP, Traffic, socket};
use flowgate_test_support::{Background, Namespace, Outcome, Program, entries};
use nix::sys::signal::Signal;

/// Ways to listen.
const LISTENERS: &[&str] = &[
    "-E",
    "-E -e NEW",
    "-E -e UPDATES,DESTROY",
    "-E -e all",
    "-E -o extended,id",
    "-E -o timestamp",
    "-E -o xml",
    "-E -o xml,timestamp,ktimestamp",
    "-E -o save",
    "-E -o ktimestamp",
    "-E -p tcp",
    "-E -p udp --dport 53",
    "-E -s 10.0.0.1",
    "-E -d 10.1.0.0/16",
    "-E -f ipv6",
    "-E -m 7",
    "-E -w 5",
    "-E -n",
    "-E -p tcp --state ESTABLISHED",
    "-E conntrack",
    "-E -e NEW -e DESTROY",
    "-E -e UP",
    "-E -o id",
    "-E -o extended",
    "-E -o labels",
    "-E -o xml,labels",
    "-E -o userspace",
    "-E -o save,userspace",
    "-E -o xml,extended,id,userspace",
    "-E -o timestamp,ktimestamp,extended,id,labels",
    "-E -l first",
    "-E -l first -l five -o xml",
    "-E -w 0",
    "-E --orig-zone 6",
    "-E --reply-zone 7",
    "-E --orig-zone 0 --reply-zone 7",
    "-E -m 1/1",
    "-E -m 0",
    "-E -g",
    "-E -j",
    "-E -n -g",
    "-E -n 10.9.9.9",
    "-E -g 10.9.9.8:5454",
    "-E -n -f ipv6",
    "-E -j -p tcp",
    "-E -r 10.1.0.1",
    "-E -q 10.9.9.9",
    "-E -s 10.0.0.0/30 --mask-dst 255.255.0.0 -d 10.1.77.77",
    "-E -s 2001:db8::/64",
    "-E -d 2001:db8::2",
    "-E -p tcp --sport 1 --dport 80",
    "-E -p tcp --reply-port-src 80 --reply-port-dst 1 --state SYN_SENT",
    "-E -p udp --sport 2",
    "-E -p udp -f ipv6 -o xml",
    "-E -p udplite --dport 53",
    "-E -p sctp",
    "-E -p sctp --state ESTABLISHED --sport 5",
    "-E -p sctp -o save",
    "-E -p dccp",
    "-E -p icmp --icmp-type 8 --icmp-code 0",
    "-E -p icmp --icmp-id 9 -o save",
    "-E -p icmpv6 --icmpv6-type 128",
    "-E -p icmpv6 --icmpv6-code 0 --icmpv6-id 10",
    "-E -p gre",
    "-E -p gre -o xml",
    "-E -p 50",
    "-E -p 50 -o save",
    "-E -p 132 -e UPDATES",
];

/// Ways to listen that match none of the events in the scenario.
const DEAF: &[&str] = &[
    "-E -p dccp --state OPEN",
    "-E -l hundred",
    "-E -w 9",
    "-E -m 77",
    "-E -p tcp --state SYN_SENT2",
    "-E -n 10.9.9.9:0 -o save",
    "-E -s 10.77.0.0/16",
    "-E -j 10.66.0.1",
    "-E -n 10.66.0.1",
    "-E -p udp --sport 9",
    "-E -p icmp --icmp-type 13",
];

/// Starts a listening program, and waits until it listens.
fn listen(program: &Program, line: &str) -> Background {
    let listener = Background::start(program, &words(line));
    listener.wait_until_listening();
    listener
}

/// Ends a listener as a user would, after it has shown the events queued for it: a program that is interrupted before
/// that may discard the rest.
fn end(mut listener: Background, signal: Signal) -> Outcome {
    listener.wait_until_idle();
    listener.end_by(signal)
}

/// Removes the text that conntrack 1.4.7 writes after the XML of an event to say who caused it, and nothing else; 1.4.9
/// and flowgate do not write it.
fn without_text_after_xml(outcome: Outcome) -> Outcome {
    let text = outcome.text();
    assert!(text.contains("</flow> [USERSPACE]"), "a difference that exists no more:\n{text}");
    let lines = text.lines().map(|line| match line.split_once("</flow> [USERSPACE]") {
        Some((flow, _)) => format!("{flow}</flow>\n"),
        None => format!("{line}\n"),
    });
    let stdout = lines.collect::<String>().into_bytes();
    Outcome { stdout, ..outcome }
}

/// Removes what depends on when a program handled the event: the time at the start of a line and in XML, and the name
/// of a program that may have ended by then.
fn steady(outcome: Outcome) -> Outcome {
    let text = outcome.text();
    let lines = text.lines().map(|line| {
        let line = match line.strip_prefix('[').and_then(|rest| rest.split_once("]\t")) {
            Some((time, rest)) if time.len() == 17 && time.contains('.') => format!("[TIME]\t{rest}"),
            _ => line.to_owned(),
        };
        let line = line.split(" progname=").next().unwrap_or_default().to_owned();
        match (line.find("<when>"), line.find("</when>")) {
            (Some(start), Some(end)) => format!("{}<when>{}", &line[..start], &line[end..]),
            _ => line,
        }
    });
    let stdout = lines.map(|line| line + "\n").collect::<String>().into_bytes();
    Outcome { stdout, ..outcome }
}

/// Creates, changes and removes entries, by commands and by real traffic.
fn story(namespace: &Namespace) {
    let conntrack = Program::new("conntrack");
    for line in [
        "-I -t 600 -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 80 --state SYN_SENT -m 7",
        "-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 2 --dport 53",
        "-I -t 600 -p udp -s 10.0.0.2 -d 10.1.0.1 --sport 2 --dport 53 -w 5",
        "-I -t 600 -p udp -s 10.0.0.3 -d 10.1.0.1 --sport 2 --dport 53 -n 10.9.9.9",
        "-I -t 600 -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 3 --dport 53 -m 7",
        "-I -t 600 -p icmp -s 10.0.0.1 -d 10.1.0.1 --icmp-type 8 --icmp-code 0 --icmp-id 9",
        "-I -t 600 -p gre -s 10.0.0.1 -d 10.1.0.1 --srckey 1 --dstkey 2",
        "-I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1",
        "-I -t 600 -p udp -s 10.0.0.4 -d 10.1.0.1 --sport 2 --dport 53 --orig-zone 6",
        "-I -t 600 -p udp -s 10.0.0.5 -d 10.1.0.1 --sport 2 --dport 53 --reply-zone 7",
        "-I -t 600 -p tcp -s 10.0.0.6 -d 10.1.0.1 --sport 2 --dport 53 --state SYN_SENT -g 10.9.9.8:5454 -m 1",
        "-I -t 600 -p tcp -s 10.0.0.7 -d 10.1.0.1 --sport 2 --dport 53 --state CLOSE -n 10.9.9.7 -g 10.9.9.8",
        "-I -t 600 -p udp -s 2001:db8::3 -d 2001:db8::2 --sport 3 --dport 53 -n 2001:db8::9",
        "-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.2 --sport 4 --dport 54 --label-add first",
        "-I -t 600 -p udp -s 2001:db8::4 -d 2001:db8::2 --sport 4 --dport 54 --label-add first --label-add five",
        "-I -t 600 -p udplite -s 10.0.0.1 -d 10.1.0.1 --sport 6 --dport 53 -u ASSURED",
        "-I -t 600 -p sctp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 7 --state COOKIE_WAIT --orig-vtag 5 --reply-vtag 6",
        "-I -t 600 -p dccp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 7 --state OPEN --role client",
        "-I -t 600 -p icmpv6 -s 2001:db8::1 -d 2001:db8::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 10",
        "-U -s 10.0.0.1 -p tcp --state ESTABLISHED -u ASSURED,SEEN_REPLY",
        "-U -s 10.0.0.1 -d 10.1.0.1 -p udp -m 9",
        "-U -s 2001:db8::1 -p udp -t 700",
        "-U -s 10.0.0.1 -p sctp --state ESTABLISHED --orig-vtag 5 --reply-vtag 6",
        "-U -d 10.1.0.2 --label-add five",
        "-U -d 10.1.0.2 --label-del first",
        "-U -s 2001:db8::4 --label-del",
        "-U -s 10.0.0.6 -m 3 -u SEEN_REPLY",
        "-D -p udp -f ipv4",
        "-D -p 50",
    ] {
        conntrack.must(&words(line));
    }
    let mut traffic = Traffic::prepare(namespace);
    traffic.udp(&socket("10.9.0.1", 5001), &socket("10.9.0.1", 5001), true);
    traffic.tcp_closed(&socket("2001:db8:9::1", 8082));
    conntrack.must(&["-F"]);
}

/// Returns what both programs report of one scenario, for each way to listen; all of them listen at the same time.
fn outcomes(both: &Both, lines: &[&str]) -> Vec<[Outcome; 2]> {
    Namespace::run(|namespace| {
        namespace.account(true);
        entries::allow_labels(namespace);
        namespace.label_map(entries::LABEL_MAP);
        let listeners = lines.iter().map(|line| [&both.theirs, &both.ours].map(|program| listen(program, line)));
        let listeners: Vec<_> = listeners.collect();
        story(namespace);
        let ended = listeners.into_iter().enumerate().map(|(number, pair)| {
            let signal = if number % 2 == 0 { Signal::SIGINT } else { Signal::SIGTERM };
            pair.map(|listener| steady(end(listener, signal)))
        });
        ended.collect()
    })
}

/// Number of pairs of listeners that run at the same time: each event goes to all of them, and they share the machine.
const AT_ONCE: usize = 12;

#[test]
fn both_tell_the_same_story() {
    let both = Both::new();
    let mut report = Report::new("events");
    for lines in LISTENERS.chunks(AT_ONCE) {
        for (line, [theirs, ours]) in lines.iter().zip(outcomes(&both, lines)) {
            let theirs = if line.contains("xml") { without_text_after_xml(theirs) } else { theirs };
            assert!(!theirs.stdout.is_empty(), "{line}: conntrack saw nothing, so nothing is compared");
            report.outcomes(line, &theirs, &ours);
        }
    }
    report.finish();
}

#[test]
fn both_keep_silent() {
    let mut report = Report::new("events that nobody asked for");
    for (line, [theirs, ours]) in DEAF.iter().zip(outcomes(&Both::new(), DEAF)) {
        assert!(theirs.stdout.is_empty(), "{line}: conntrack saw {}", theirs.text());
        report.outcomes(line, &theirs, &ours);
    }
    report.finish();
}

/// Expectations created and removed by helpers (an FTP transfer that is completed, one that is not, TFTP requests in
/// both families), by commands, and by a flush.
#[test]
fn expectations_come_and_go() {
    let both = Both::new();
    let mut report = Report::new("events of expectations");
    for line in [
        "-E expect",
        "-E expect -o xml",
        "-E expect -o timestamp",
        "-E expect -o xml,timestamp",
        "-E expect -o save",
        "-E expect -o extended,id,ktimestamp,labels,userspace",
    ] {
        let [theirs, ours] = Namespace::run(|namespace| {
            let listeners = [&both.theirs, &both.ours].map(|program| listen(program, line));
            let mut traffic = Traffic::prepare(namespace);
            let ftp = socket("10.9.0.1", FTP);
            traffic.ftp(&ftp, &ftp, true);
            traffic.ftp(&ftp, &ftp, false);
            for (address, whole) in
                [("10.9.0.1", "255.255.255.255"), ("2001:db8:9::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]
            {
                traffic.tftp_from(&socket(address, 7001), &socket(address, TFTP));
                // Created by a command, it replaces the expectation of the helper.
                Program::new("conntrack").must(&words(&format!(
                    "-I expect -t 300 -p udp -s {address} -d {address} --sport 7001 --dport 6969 --tuple-src {address} --tuple-dst {address} --tuple-port-src 0 --tuple-port-dst 5001 --mask-src {whole} --mask-dst {whole} --mask-port-src 0 --mask-port-dst 65535"
                )));
            }
            Program::new("conntrack").must(&["-F", "expect"]);
            listeners.map(|listener| steady(end(listener, Signal::SIGINT)))
        });
        assert!(theirs.text().lines().count() >= 4, "{line}: conntrack saw {}", theirs.text());
        report.outcomes(line, &theirs, &ours);
    }
    report.finish();
}

/// Returns the size of the receive buffer that a listener reports.
fn reported_buffer(outcome: &Outcome) -> u64 {
    let errors = outcome.errors();
    let reported = errors.strip_prefix("NOTICE: Netlink socket buffer size has been set to ");
    let number = reported.and_then(|rest| rest.split_once(" bytes.\n")).map(|(number, _)| number.parse());
    number.and_then(Result::ok).unwrap_or_else(|| panic!("no size of the buffer: {errors}"))
}

/// Listens with both programs for a moment. conntrack reports the size before it joins the groups, flowgate afterwards.
fn listen_with(both: &Both, line: &str) -> [Outcome; 2] {
    [&both.theirs, &both.ours].map(|program| end(listen(program, line), Signal::SIGINT))
}

#[test]
fn the_buffer_can_be_set_and_is_reported() {
    Namespace::run(|_| {
        let both = Both::new();
        let mut report = Report::new("the buffer of events");
        for size in ["100000", "4000000", "0", "1", "4096", "abc", "5x", "''", "0x5000", "2147483647", "4294967295"] {
            let line = format!("-E -b {size}");
            let [theirs, ours] = listen_with(&both, &line);
            report.outcomes(&line, &theirs, &ours);
        }
        let [theirs, ours] = listen_with(&both, "-E --buffer-size 70000 -e NEW -o xml");
        report.outcomes("-E --buffer-size", &theirs, &ours);
        report.finish();
        // An intended difference: for a size that does not fit into 32 bits, conntrack prints the upper half as it was
        // given.
        for size in ["-5", "99999999999"] {
            let [theirs, ours] = listen_with(&both, &format!("-E -b {size}")).map(|outcome| reported_buffer(&outcome));
            assert_ne!(theirs, ours, "-b {size}: a difference that exists no more");
            assert_eq!(theirs & u64::from(u32::MAX), ours, "-b {size}");
        }
    });
}

/// A stopped listener whose buffer overflows reports this in conntrack's words, and continues.
#[test]
fn a_gap_is_reported_and_does_not_end_it() {
    let both = Both::new();
    let [theirs, ours] = Namespace::run(|namespace| {
        // conntrack applies -b to another socket: its event socket keeps the system's default size, which 3,000 events
        // overflow as well.
        let listeners =
            [(&both.theirs, "-E"), (&both.ours, "-E -b 50000")].map(|(program, line)| listen(program, line));
        listeners.iter().for_each(|listener| listener.signal(Signal::SIGSTOP));
        let lines: Vec<String> = (0..3000)
            .map(|port| format!("-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport {} --dport 53", port + 1))
            .collect();
        entries::load(namespace, &lines);
        listeners.iter().for_each(|listener| listener.signal(Signal::SIGCONT));
        // Events that arrive before the buffer has been emptied may be lost too.
        listeners.iter().for_each(Background::wait_until_idle);
        Program::new("conntrack").must(&words("-I -t 600 -p 50 -s 10.7.7.7 -d 10.1.0.1"));
        listeners.map(|listener| end(listener, Signal::SIGINT))
    });
    for (name, outcome) in [("conntrack", &theirs), ("flowgate", &ours)] {
        let errors = outcome.errors();
        assert!(errors.contains("WARNING: We have hit ENOBUFS! We are losing events.\n"), "{name}: {errors}");
        assert!(errors.contains("Please, check --buffer-size in conntrack(8) manpage.\n"), "{name}: {errors}");
        assert!(outcome.text().contains("src=10.7.7.7"), "{name} shows what happens after the gap");
        assert_eq!(outcome.status, 0, "{name}");
    }
    let warning = |outcome: &Outcome| {
        let errors = outcome.errors();
        let start = errors.find("WARNING: We have hit").expect("the warning");
        errors[start..].lines().take(3).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(warning(&theirs), warning(&ours));
}
