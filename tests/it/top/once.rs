//! A single frame, and command lines that are refused.

use crate::top::{conntrack, flowgate, three_flows};
use flowgate_test_support::{Namespace, Outcome, Program, entries};

/// User and group ID without privileges: `nobody` on all common systems.
const NOBODY: u32 = 65534;

fn run(program: &Program, line: &str) -> Outcome {
    program.run(&line.split_whitespace().collect::<Vec<_>>())
}

/// Returns the source ports of the flows in a frame.
fn ports(frame: &str) -> Vec<&str> {
    frame
        .lines()
        .filter(|line| line.starts_with("udp ") && line.contains("10.9.0.1:"))
        .filter_map(|line| line.split_whitespace().nth(2)?.rsplit_once(':'))
        .map(|(_, port)| port)
        .collect()
}

#[test]
fn a_frame_is_text() {
    Namespace::run(|namespace| {
        let _traffic = three_flows(namespace, true);
        let frame = run(&flowgate(), "top --once --interval 300ms --sort packets");
        let text = frame.text();
        assert_eq!((frame.status, frame.errors().as_str()), (0, ""), "{text}");
        assert_eq!(ports(&text), ["7001", "7003", "7005"], "{text}");
        assert!(text.starts_with("3 flows, 0 B/s, 0 packets/s, "), "{text}");
        // 60 + 20 + 2 datagrams each way.
        assert!(text.contains(", 164 packets;") && text.contains(" 120 "), "{text}");
        let reverse = run(&flowgate(), "top --once --interval 300ms --sort bytes --reverse --rows 2").text();
        assert_eq!(ports(&reverse), ["7005", "7003"], "{reverse}");
        assert!(reverse.ends_with("... and 1 more\n"), "{reverse}");
        let filtered = run(&flowgate(), "top --once --interval 300ms --filter :7003").text();
        assert_eq!(ports(&filtered), ["7003"], "{filtered}");
        let selected = run(&flowgate(), "top --once --interval 300ms -- -p udp --sport 7005").text();
        assert_eq!((ports(&selected), selected.starts_with("1 flow,")), (vec!["7005"], true), "{selected}");
        let top = |condition: &str| {
            flowgate().run(&["top", "--once", "--interval", "300ms", "--sort", "bytes", "--where", condition])
        };
        let asked = top("sport in {7001..7003} and packets > 10").text();
        assert_eq!((ports(&asked), asked.starts_with("2 flows,")), (vec!["7001", "7003"], true), "{asked}");
        let wrong = top("sport == 10.0.0.1");
        assert!(wrong.status == 2 && wrong.stdout.is_empty(), "{}", wrong.text());
        assert!(wrong.errors().contains("^"), "{}", wrong.errors());
    });
}

#[test]
fn a_frame_is_json() {
    Namespace::run(|namespace| {
        let _traffic = three_flows(namespace, true);
        let frame = run(&flowgate(), "top --once -o json --interval 300ms --sort bytes");
        let text = frame.text();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let listed = conntrack().must(&["-L", "-p", "udp", "--sport", "7001"]);
        let row = &value["rows"][0];
        let bytes = row["bytes"].as_u64().expect("a number");
        let of = |name: &str| {
            let numbers = listed.split_whitespace().filter_map(|word| word.strip_prefix(name)?.parse::<u64>().ok());
            numbers.sum::<u64>()
        };
        assert_eq!((bytes, row["packets"].as_u64()), (of("bytes="), Some(of("packets="))), "{listed}{text}");
        assert_eq!((&value["accounting"], &value["flows"], &value["matching"]), (&true.into(), &3.into(), &3.into()));
        assert_eq!(row["bytes_per_second"], 0.0, "nothing moves");
        assert_eq!(row["original"]["source_port"], 7001);
        assert_eq!(value["protocols"][0]["flows"], 3);
    });
}

#[test]
fn without_accounting_there_is_a_frame_too() {
    Namespace::run(|namespace| {
        let _traffic = three_flows(namespace, false);
        let text = run(&flowgate(), "top --once --interval 300ms").text();
        assert_eq!(ports(&text).len(), 3, "{text}");
        assert!(text.contains("sysctl -w net.netfilter.nf_conntrack_acct=1") && text.contains("TIMEOUT▼"), "{text}");
    });
}

#[test]
fn an_empty_table_is_a_frame_without_flows() {
    Namespace::run(|namespace| {
        namespace.account(true);
        let frame = run(&flowgate(), "top --once --interval 300ms");
        assert!(frame.status == 0 && frame.text().starts_with("0 flows"), "{}{}", frame.text(), frame.errors());
    });
}

#[test]
fn recordings_need_no_privileges() {
    Namespace::run(|namespace| {
        let _traffic = three_flows(namespace, true);
        let file = namespace.directory().join("trace.pcap");
        let file = file.display();
        flowgate().must(&["record", &file.to_string(), "--", "-L"]);
        let nobody = flowgate().copied_to(namespace.directory()).user(NOBODY);
        let frame = run(&nobody, &format!("top --once {file} --sort bytes -- -p udp"));
        assert_eq!((ports(&frame.text()), frame.status), (vec!["7001", "7003", "7005"], 0), "{}", frame.errors());
        let live = run(&nobody, "top --once");
        assert!(live.status == 1 && live.errors().contains("you must be root"), "{}", live.errors());
        let missing = run(&nobody, "top --once /nonexistent.pcap");
        assert!(missing.status == 1 && missing.errors().contains("/nonexistent.pcap"), "{}", missing.errors());
    });
}

/// A recording of events: flows that have ended stay visible, with the data of their final event.
#[test]
fn flows_that_ended_in_a_recording_are_shown() {
    let data = |name: &str| format!("{}/data/{name}.pcap", env!("CARGO_MANIFEST_DIR"));
    let frame = run(&flowgate(), &format!("top --once {}", data("events")));
    assert!(frame.status == 0 && frame.text().contains(" ended "), "{}{}", frame.text(), frame.errors());
    let frame = run(&flowgate(), &format!("top --once {}", data("flows")));
    assert!(frame.status == 0 && frame.text().contains(" ESTABLISHED "), "{}{}", frame.text(), frame.errors());
    let refused = run(&flowgate(), &format!("top --once {}", data("expectations")));
    assert!(refused.status == 1 && refused.errors().contains("of expectations"), "{}", refused.errors());
}

#[test]
fn a_frame_counts_what_plugins_did() {
    Namespace::run(|namespace| {
        namespace.account(true);
        entries::load(namespace, &entries::every_protocol());
        let plugin = flowgate_test_support::plugins::built("heavy-tcp");
        let line = format!("top --once -o json --interval 300ms -- --plugin {},bytes=0", plugin.display());
        let value: serde_json::Value = serde_json::from_str(&run(&flowgate(), &line).text()).expect("JSON");
        let stage = &value["plugins"][0];
        let all: u64 = conntrack().must(&["-C"]).trim().parse().expect("a number");
        // Rows of two dumps.
        assert_eq!((&stage["rows_in"], &stage["health"]), (&(2 * all).into(), &"running".into()), "{stage}");
    });
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    Namespace::run(|_| {
        for (line, words) in [
            ("top", "standard output is no terminal, which top needs; for one frame as text use `flowgate top --once`"),
            ("top --once -- -E", "not those of --event"),
            ("top --once -- -D -s 10.0.0.1", "not those of --delete"),
            ("top --once -- -L expect", "of that table"),
            ("top --once -- -z", "-z has no use"),
            ("top --once -- -o xml", "`top --once -o json` prints JSON"),
            ("top --once -- --dry-run", "--dry-run has no use"),
        ] {
            let outcome = run(&flowgate(), line);
            assert!(outcome.status == 1 && outcome.errors().contains(words), "{line}: {}", outcome.errors());
        }
        let usage = run(&flowgate(), "top --once --rows x");
        assert_eq!(usage.status, 2, "{}", usage.errors());
    });
}
