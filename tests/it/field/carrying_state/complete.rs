//! `-o save,complete`: one line for each flow, which restores the same flow, also when it is loaded twice.

use super::{conntrack, count, load, run};
use crate::field::flowgate;
use flowgate_test_support::traffic::Traffic;
use flowgate_test_support::{Namespace, Program, entries};
use serde_json::Value;

/// Runs `body` in a namespace in which flows can have labels.
fn with_labels<R: Send>(body: impl FnOnce(&Namespace) -> R + Send) -> R {
    Namespace::run(|namespace| {
        entries::allow_labels(namespace);
        body(namespace)
    })
}

/// Returns the table as complete lines, sorted, without the remaining timeout.
fn complete() -> Vec<String> {
    let text = flowgate().must(&["-L", "-o", "save,complete"]);
    let mut lines: Vec<String> = text.lines().map(|line| without_time(line, "-t")).collect();
    lines.sort();
    lines
}

/// Returns a line without an option and its value.
fn without_time(line: &str, option: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    if let Some(at) = words.iter().position(|word| *word == option) {
        words.drain(at..at + 2);
    }
    words.join(" ")
}

/// Removes the window scale from half-open TCP flows: the kernel accepts scales only when both directions have one.
fn half_open(lines: Vec<String>) -> Vec<String> {
    let scale = |line: String| match line.contains(" --state SYN_SENT") {
        true => line.split(" --orig-wscale ").next().unwrap_or_default().to_owned(),
        false => line,
    };
    lines.into_iter().map(scale).collect()
}

/// Returns the table as JSON, without values that change with time or between loads. `real`: flows of real traffic,
/// which have some fields that cannot be set.
fn json(real: bool) -> Vec<String> {
    let text = flowgate().must(&["-L", "-o", "json"]);
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut value: Value = serde_json::from_str(line).unwrap();
            let flow = value.as_object_mut().unwrap();
            for key in ["time", "timeout", "id", "use"] {
                flow.remove(key);
            }
            if real {
                for key in ["synproxy", "start", "status", "status_names", "helper_info"] {
                    flow.remove(key);
                }
                let half_open = flow.get("state_name").is_some_and(|state| state == "SYN_SENT");
                for direction in ["original", "reply"] {
                    for key in if half_open { &["packets", "bytes", "window_scale"][..] } else { &["packets", "bytes"] }
                    {
                        flow[direction].as_object_mut().unwrap().remove(*key);
                    }
                }
            }
            value.to_string()
        })
        .collect();
    lines.sort();
    lines
}

/// Returns the listing of the table, without the remaining timeout.
fn extended() -> Vec<String> {
    let text = flowgate().must(&["-L", "-o", "extended"]);
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let words = line.split_whitespace().enumerate();
            let words = words.filter(|(at, word)| {
                !(*at == 4 || ["use=", "delta-time=", "packets=", "bytes="].iter().any(|key| word.starts_with(key)))
            });
            words.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

fn tables(namespace: &Namespace) {
    for lines in [entries::every_protocol(), entries::nat(), entries::zones(), entries::marks()] {
        entries::load(namespace, &lines);
    }
    namespace.label_map(entries::LABEL_MAP);
    entries::labelled(namespace);
    // Fields that conntrack has no options for, or loses.
    let own = [
        "-I -t 3000 -s 10.8.0.1 -d 10.9.0.1 -p tcp --sport 1 --dport 2 --state ESTABLISHED --orig-seqadj 4294967295:-7:12 \
         --reply-seqadj 1:2:3",
        "-I -t 3000 -s 10.8.0.1 -d 10.9.0.1 -p tcp --sport 2 --dport 2 --state ESTABLISHED --orig-tcp-flags 0x2b \
         --reply-tcp-flags 0x23 --orig-wscale 7 --reply-wscale 14",
        "-I -t 3000 -s 10.8.0.1 -d 10.9.0.1 -p tcp --sport 3 --dport 2 --state SYN_SENT --synproxy 1:2:4294967295",
        "-I -t 3000 -s 10.8.0.1 -d 10.9.0.1 -n 203.0.113.7:7000 -g 10.3.0.9:8443 -p sctp --sport 4 --dport 2 \
         --state ESTABLISHED --orig-vtag 1 --reply-vtag 2",
        "-I -t 3000 -s 10.8.0.1 -d 10.9.0.1 -n 203.0.113.7:7001 -g 10.3.0.9:8443 -p udplite --sport 4 --dport 2",
        "-I -t 3000 -s 10.8.0.1 -d 10.9.0.1 -n 203.0.113.7:4711 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 5",
        "-I -t 3000 -s 2001:db8::1 -d 2001:db8::2 -n [2001:db8::7]:4711 -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 \
         --icmpv6-id 5",
        "-I -t 3000 -s 10.8.0.1 -d 10.9.0.1 -n 203.0.113.7:4711 -p gre --srckey 5 --dstkey 6",
        "-I -t 3000 -s 10.8.0.1 -d 10.9.0.1 -p dccp --sport 5 --dport 6 --state OPEN --role server",
        "-I -t 3000 -s 2001:db8::1 -d 2001:db8::2 -p 253",
        "-I -t 3000 -s 10.8.0.1 -d 10.9.0.1 -r 10.7.0.1 -q 10.6.0.1 -p udp --sport 5 --dport 6 --reply-port-src 7 \
         --reply-port-dst 8",
        "-I -t 3000 -m 5 -u SEEN_REPLY,ASSURED,FIXED_TIMEOUT --labels 0xffffffffffffffffffffffffffffffff -s 10.8.0.2 \
         -d 10.9.0.1 -p udp --sport 5 --dport 6",
        // Expected flows may precede their masters.
        "-I -t 3000 --master tcp,10.8.0.1,10.9.0.1,1,2 -s 10.8.0.1 -d 10.9.0.1 -p tcp --sport 90 --dport 91 --state NONE",
        "-I -t 3000 --master tcp,10.8.0.1,10.9.0.1,1,2 -s 10.8.0.1 -d 10.9.0.1 -p udp --sport 90 --dport 91",
    ];
    let outcome = load(&flowgate(), &own.join("\n"), &[]);
    assert_eq!(outcome.status, 0, "{}", outcome.errors());
}

#[test]
fn case_18_a_saved_table_is_loaded_once_and_twice() {
    let (saved, json_before, extended_before, lines) = with_labels(|namespace| {
        tables(namespace);
        let saved = flowgate().must(&["-L", "-o", "save,complete"]);
        assert_eq!(saved.lines().count(), count(namespace));
        (saved, json(false), extended(), complete())
    });
    for what in [
        " -n 203.0.113.7:7000 ",
        " -g 10.3.0.9:8443 ",
        " -w 5 ",
        " --orig-zone 6 ",
        " --reply-zone 7 ",
        " -m 4294967295",
        " --labels 0x80000000000000000000000000000000",
        " --orig-seqadj 4294967295:-7:12 --reply-seqadj 1:2:3",
        " --orig-wscale 7 --reply-wscale 14",
        " --synproxy 1:2:4294967295",
        " --role client",
        " -p 253",
        " -u SEEN_REPLY,ASSURED,FIXED_TIMEOUT ",
        " --orig-vtag 1 --reply-vtag 2",
        " -n [2001:db8::7]:4711 ",
        " --master tcp,10.8.0.1,10.9.0.1,1,2",
        " -u EXPECTED ",
    ] {
        assert!(saved.contains(what), "no {what} in what was saved:\n{saved}");
    }
    with_labels(|_| {
        for round in ["once", "twice"] {
            let outcome = load(&flowgate(), &saved, &[]);
            assert_eq!((outcome.status, complete().len()), (0, lines.len()), "{round}: {}", outcome.errors());
            assert_eq!(complete(), lines, "{round}");
            assert_eq!(extended(), extended_before, "{round}");
            assert_eq!(json(false), json_before, "{round}");
        }
    });
}

#[test]
fn case_18_a_table_of_real_traffic_is_loaded_too() {
    let (saved, lines, json_before, extended_before) = with_labels(|namespace| {
        namespace.keep_entries();
        let traffic = Traffic::everything(namespace);
        // Wait for the last packets, which may still be in flight.
        let all = (0..100).find_map(|_| {
            let lines = complete();
            let all = (flowgate().must(&["-L", "-o", "save,complete"]), json(true), extended());
            (complete() == lines).then_some((all.0, lines, all.1, all.2))
        });
        drop(traffic);
        all.expect("a table that stands still")
    });
    assert!(lines.len() > 5, "{lines:?}");
    with_labels(|namespace| {
        // The kernel loads a helper when a rule first needs it.
        namespace.keep_entries();
        for round in ["once", "twice"] {
            let outcome = load(&flowgate(), &saved, &[]);
            assert_eq!(outcome.status, 0, "{round}: {}", outcome.errors());
            assert_eq!(half_open(complete()), half_open(lines.clone()), "{round}");
            assert_eq!(extended(), extended_before, "{round}");
            assert_eq!(json(true), json_before, "{round}");
        }
    });
}

#[test]
fn case_19_a_zone_is_copied_without_an_editor() {
    with_labels(|namespace| {
        tables(namespace);
        let saved = flowgate().must(&["-L", "-w", "5", "-o", "save,complete"]);
        let before = count(namespace);
        let outcome = load(&flowgate(), &saved, &["--set-zone", "4321"]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert_eq!(count(namespace), before + saved.lines().count());
        let copy = flowgate().must(&["-L", "-w", "4321", "-o", "save,complete"]);
        let steady = |text: &str| {
            let mut lines: Vec<String> =
                text.lines().map(|line| without_time(&without_time(line, "-t"), "-w")).collect();
            lines.sort();
            lines
        };
        assert_eq!(steady(&copy), steady(&saved));
    });
}

#[test]
fn a_flow_whose_master_has_gone_is_loaded_and_reported() {
    Namespace::run(|namespace| {
        let child =
            "-A -t 3000 --master tcp,10.8.0.1,10.9.0.1,1,2 -s 10.8.0.1 -d 10.9.0.1 -p udp --sport 90 --dport 91";
        let outcome = load(&flowgate(), child, &[]);
        assert_eq!((outcome.status, count(namespace)), (1, 1), "{}", outcome.errors());
        assert!(outcome.errors().contains("master") && outcome.errors().contains("line 1\n"), "{}", outcome.errors());
        flowgate().must(&["-F"]);
        // The master may follow its child.
        let master = "-A -t 3000 -s 10.8.0.1 -d 10.9.0.1 -p tcp --sport 1 --dport 2 --state NONE";
        let outcome = load(&flowgate(), &format!("{child}\n{master}\n"), &[]);
        assert_eq!((outcome.status, count(namespace)), (0, 2), "{}", outcome.errors());
        assert!(flowgate().must(&["-L", "-o", "json"]).contains("\"master\""));
    });
}

#[test]
fn deletions_and_events_are_lines_too() {
    with_labels(|namespace| {
        tables(namespace);
        let saved = flowgate().must(&["-L", "-o", "save,complete"]);
        let deleted = flowgate().must(&["-D", "-p", "udp", "-o", "save,complete"]);
        assert!(deleted.lines().all(|line| line.starts_with("-D ")), "{deleted}");
        let left = count(namespace);
        assert_eq!(load(&flowgate(), &saved, &[]).status, 0);
        // The lines delete the same flows again, whatever their timeouts, and no others.
        let outcome = load(&flowgate(), &deleted, &[]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert_eq!(count(namespace), left);
    });
}

#[test]
fn nothing_of_it_is_known_under_the_name_conntrack() {
    Namespace::run(|namespace| {
        let outcome = run(&conntrack(), "-L -o save,complete");
        assert_eq!(outcome.status, 2);
        assert!(outcome.errors().contains("Bad parameter `complete'"), "{}", outcome.errors());
        let tuple = "-I -t 9 -s 1.1.1.1 -d 2.2.2.2 -p tcp --sport 1 --dport 2 --state NONE";
        for option in [
            "--labels 1",
            "--helper ftp",
            "--orig-seqadj 1:2:3",
            "--reply-seqadj 1:2:3",
            "--orig-tcp-flags 1",
            "--reply-tcp-flags 1",
            "--orig-wscale 1",
            "--reply-wscale 1",
            "--synproxy 1:2:3",
            "--master tcp,1.1.1.1,2.2.2.2,1,2",
            "--keep-going",
            "--set-zone 5",
        ] {
            let outcome = run(&conntrack(), &format!("{tuple} {option}"));
            assert_eq!((outcome.status, count(namespace)), (2, 0), "{option}");
            assert!(outcome.errors().contains("unknown option"), "{option}: {}", outcome.errors());
        }
        // Under its own name: `complete` requires `save`, and values are checked.
        for wrong in ["-L -o complete", "-L -o json,complete", "-L -o xml,complete"] {
            assert_ne!(run(&flowgate(), wrong).status, 0, "{wrong}");
        }
        for wrong in [
            "--labels x",
            "--labels 1/3",
            "--labels 1 --label-add x",
            "--orig-seqadj 1",
            "--orig-wscale 256",
            "--helper",
            "--orig-tcp-flags 0x100",
            "--master tcp,1.1.1.1,::1,1,2",
            "--synproxy 1:2",
        ] {
            let outcome = run(&flowgate(), &format!("{tuple} {wrong}"));
            assert_eq!((outcome.status, count(namespace)), (2, 0), "{wrong}: {}", outcome.errors());
        }
        let udp = "-I -t 9 -s 1.1.1.1 -d 2.2.2.2 -p udp --sport 1 --dport 2 --orig-wscale 1";
        assert!(run(&flowgate(), udp).errors().contains("orig-wscale"));
        assert!(Program::new("conntrack").must(&["-C"]).starts_with('0'));
    });
}
