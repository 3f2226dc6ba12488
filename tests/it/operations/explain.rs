//! `--explain`: prints what would be done, and does nothing.

use flowgate_test_support::{Namespace, Program, entries};
use serde_json::Value;

use crate::operations::{flowgate, plugins, run};

const FLOW: &str = "-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53";
const TUPLE: &str = "-p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53";

fn explain(line: &str) -> String {
    let outcome = run(&format!("{line} --explain"));
    assert_eq!(outcome.status, 0, "{line}: {}", outcome.errors());
    assert!(outcome.stderr.is_empty(), "{line}: {}", outcome.errors());
    outcome.text()
}

fn object(line: &str) -> Value {
    let text = explain(&format!("{line} -o json"));
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).expect("an object")
}

#[test]
fn nothing_is_done_by_any_command() {
    Namespace::run(|namespace| {
        entries::load(namespace, &[FLOW.to_owned()]);
        let table = || Program::new("conntrack").must(&["-L", "-o", "id"]);
        let fixed =
            |text: String| text.split_whitespace().filter(|word| word.contains('=')).collect::<Vec<_>>().join(" ");
        let before = fixed(table());
        let made = FLOW.replace("10.0.0.1", "10.0.0.2");
        for (line, kind) in [
            ("-L", "dump"),
            ("-L -z", "dump"),
            ("-L dying", "dump"),
            ("-L unconfirmed", "dump"),
            ("-L expect", "dump"),
            ("-D", "dump"),
            ("-D -p udp", "dump"),
            ("-U -p udp -m 9", "dump"),
            (&made, "given"),
            (&made.replace("-I", "-A"), "given"),
            (&format!("-G {TUPLE}"), "lookup"),
            ("-E", "events"),
            ("-E expect", "events"),
            ("-F", "flush"),
            ("-F expect", "flush"),
            ("-C", "count"),
            ("-C expect", "count"),
            ("-S", "statistics"),
            ("-S expect", "statistics"),
        ] {
            let text = explain(line);
            assert!(text.starts_with("command    --") && text.contains("\nsource     "), "{line}: {text}");
            assert!(text.contains("\nformat     ") && text.contains("\nend        "), "{line}: {text}");
            let object = object(line);
            assert_eq!(object["source"]["kind"], kind, "{line}");
            let counts = ["count", "statistics"].contains(&kind);
            assert_eq!(text.contains("\nformat     counters: "), counts, "{line}: {text}");
            assert!(object["stages"].is_array() && object["selector"].is_array(), "{object}");
            assert_eq!(fixed(table()), before, "{line}");
        }
    });
}

#[test]
fn who_checks_what_is_told_with_the_reason() {
    let object = object("-D -f ipv4 -s 10.0.0.0/8 -p udp --dport 53 -m 1/3");
    let checks: Vec<(&str, &str, &str)> = object["selector"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| {
            let text = |key: &str| check[key].as_str().unwrap_or_default();
            (text("condition"), text("by"), text("reason"))
        })
        .collect();
    assert_eq!(
        checks,
        [
            ("family", "kernel", ""),
            ("mark", "kernel", ""),
            ("protocol", "kernel", ""),
            ("original source address", "match", "the kernel compares whole addresses only"),
            ("original destination port", "kernel", ""),
        ]
    );
    let stages: Vec<&str> =
        object["stages"].as_array().unwrap().iter().map(|stage| stage["plugin"].as_str().unwrap()).collect();
    assert_eq!(stages, ["match", "delete"]);
    assert!(object["actions"].as_str().unwrap().contains("IPCTNL_MSG_CT_DELETE"));
    assert!(
        explain("-E -p tcp").contains("protocol: checked by the stage match (the kernel has no filter for events)")
    );
    assert!(explain("-E -e NEW,DESTROY").contains("NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_DESTROY;"));
    assert!(
        explain("-L dying -f ipv6 -p tcp")
            .contains("protocol: checked by the stage match (the kernel has no filter for this table)")
    );
    assert!(explain("-F -f ipv6").contains("remove all flows of IPv6"));
    assert!(explain("-D -p udp --quiet").contains("its filter lets through (Linux 6.12 on;"));
    assert!(explain("-D --dry-run").contains("none is sent: they are printed"));
}

#[test]
fn plugins_are_loaded_and_their_options_checked() {
    let active = plugins::built("active").display().to_string();
    let plugin = format!("{active},do=nothing");
    let explain = |grants: &str| {
        flowgate().run(&["-L", "--explain", "-o", "json", "--plugin", &plugin, "--grant", grants, "--on-error", "skip"])
    };
    let outcome = explain("state=/nowhere/at/all,time,update.mark=0xff,delete");
    assert_eq!(outcome.status, 0, "{}", outcome.errors());
    let object: Value = serde_json::from_str(&outcome.text()).unwrap();
    let stage = &object["stages"][0];
    assert_eq!((&stage["name"], &stage["on-error"]), (&"active".into(), &"skip".into()), "{object}");
    assert_eq!(stage["grants"], "delete,update.mark=0xff,time,state=/nowhere/at/all");
    assert_eq!((&stage["options"][0]["name"], &stage["options"][0]["value"]), (&"do".into(), &"nothing".into()));
    assert_eq!(stage["sha256"].as_str().map(str::len), Some(64));
    assert!(object["actions"].as_str().unwrap().contains("as far as it is granted"));
    assert_eq!(explain("log").status, 1, "it needs services that it was not granted");
    let outcome =
        flowgate().run(&["-L", "--explain", "--plugin", &format!("{active},nonsense=1"), "--grant", "state,time"]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.errors().contains("it has no option `nonsense`"), "{}", outcome.errors());
    let outcome = run("-L --explain --plugin /nowhere.wasm");
    assert_eq!(outcome.status, 1);
}

#[test]
fn files_recordings_and_replays() {
    Namespace::run(|namespace| {
        let lines = "-D -p udp\n-F\n-I -t 5 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 2\n";
        entries::load(namespace, &[FLOW.to_owned()]);
        let outcome = flowgate().run_with(&["-R", "-", "--explain"], lines.as_bytes());
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        let text = outcome.text();
        assert_eq!(text.matches("command    --").count(), 3, "{text}");
        assert!(text.contains("one after the other"), "{text}");
        assert_eq!(run("-C").text(), "1\n");

        let file = namespace.directory().join("a.pcap").display().to_string();
        let outcome = flowgate().run(&["record", &file, "--", "-L", "--explain"]);
        assert!(outcome.text().contains("a dump of the flows"), "{}", outcome.errors());
        assert!(!std::path::Path::new(&file).exists());
        flowgate().must(&["record", &file, "--", "-L"]);
        let text = flowgate().must(&["replay", &file, "--", "-L", "-p", "udp", "--explain"]);
        assert!(text.contains("the recording ") && text.contains("(the kernel is not asked)"), "{text}");
    });
}

#[test]
fn what_cannot_be_done_cannot_be_explained() {
    let outcome = run("-L -u UNSET --explain");
    assert_eq!(outcome.status, 1);
    assert!(outcome.errors().contains("invalid parameters"), "{}", outcome.errors());
    let outcome = run("-L --netns nowhere-at-all --explain");
    assert!(outcome.errors().contains("there is no network namespace `nowhere-at-all`"), "{}", outcome.errors());
    assert_eq!(run("-D --explain --event-mask NEW").status, 2);
}
