//! Every command in a namespace, which is named in each of the three ways.

use flowgate_test_support::Namespace;

use crate::namespaces::{FLOW, Inhabitant, flowgate, must, run, with_two, words};

/// Returns the namespace `blue` by name, by process, by path, and by the path of a process.
fn ways(inhabitant: &Inhabitant) -> [String; 4] {
    let process = inhabitant.process();
    ["blue".into(), process.to_string(), "/run/netns/blue".into(), format!("/proc/{process}/ns/net")]
}

fn count(namespace: &str) -> String {
    must(&format!("-C --netns {namespace}")).trim().to_string()
}

#[test]
fn commands_about_flows() {
    with_two(|_| {
        let inhabitant = Inhabitant::of("blue");
        for way in ways(&inhabitant) {
            let at = |line: &str| run(&format!("{line} --netns {way}"));
            let done = |line: &str| {
                let outcome = at(line);
                assert_eq!(outcome.status, 0, "{line} --netns {way}: {}", outcome.errors());
                outcome
            };
            done(&format!("-I {FLOW}"));
            assert!(done("-L -p udp").text().contains("src=10.0.0.1 dst=10.1.0.1"));
            assert_eq!(done("-C").text(), "1\n");
            assert!(done("-G -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53").text().contains("mark=0"));
            assert!(done("-U -p udp -m 7").text().contains("mark=7"));
            assert!(done("-S").text().starts_with("cpu=0"));
            done("-L dying");
            done("-L unconfirmed");
            done(&format!("-A {FLOW} -m 8"));
            assert!(done("-L -m 8 -o json").text().contains("\"mark\":8"));
            let frame = run(&format!("top --once --interval 200ms -- -p udp --netns {way}"));
            assert!(frame.status == 0 && frame.text().starts_with("1 flow;"), "{}{}", frame.text(), frame.errors());
            assert!(done("-D -p udp -o save").text().starts_with("-D "));
            done(&format!("-I {FLOW}"));
            done("-F");
            assert_eq!(done("-C").text(), "0\n");
            done("-V");
            done("-h");
        }
        for elsewhere in ["red", "/proc/thread-self/ns/net"] {
            assert_eq!(count(elsewhere), "0");
            let created = must(&format!("-S --netns {elsewhere}"));
            assert!(!created.contains("insert=1 "), "nothing was ever made there: {created}");
        }
    });
}

#[test]
fn commands_about_expectations() {
    with_two(|_| {
        let at = |line: &str| run(&format!("{line} --netns blue"));
        let tuple = "-p 99 -s 10.0.0.1 -d 10.1.0.1";
        assert_eq!(at("-L expect").status, 0);
        assert_eq!(at("-C expect").text(), "0\n");
        assert_eq!(at("-F expect").status, 0);
        assert_eq!(at("-S expect").status, 0);
        let lookup = at(&format!("-G expect {tuple}"));
        assert_eq!(lookup.status, 1, "there is none: {}", lookup.errors());
    });
}

#[test]
fn files_of_commands() {
    with_two(|_| {
        let lines = format!("-I {FLOW}\n-I {}\n-D -s 10.0.0.1\n", FLOW.replace("10.0.0.1", "10.0.0.2"));
        let load = |words: &[&str]| flowgate().run_with(words, lines.as_bytes());
        let outcome = load(&["-R", "-", "--netns", "blue"]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert_eq!((count("blue"), count("red")), ("1".into(), "0".into()));
        let outcome = load(&["-R", "-", "--netns=red", "--dry-run"]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert_eq!(count("red"), "0");

        // Other options there are rejected, and a line cannot have a namespace of its own.
        for (more, error) in [
            (&["--netns", "blue", "-m", "5"][..], "Illegal option `--mark' with this command"),
            (&["--netns", "blue", "-L"], "Invalid commands combination"),
            (&["--netns"], "option `--netns' requires an argument"),
        ] {
            let outcome = load(&[&["-R", "-"], more].concat());
            assert_eq!(outcome.status, 2);
            assert!(outcome.errors().contains(error), "{}", outcome.errors());
        }
        let outcome = flowgate().run_with(&["-R", "-"], b"-F\n-F --netns blue\n");
        assert!(outcome.errors().contains("--netns is not accepted in a line of a load file"), "{}", outcome.errors());
        assert!(outcome.errors().contains("in /dev/stdin, line 2"), "{}", outcome.errors());
        assert_eq!(count("blue"), "1", "nothing is done if one line is wrong");
    });
}

#[test]
fn a_dry_run_and_a_recording() {
    with_two(|namespace| {
        must(&format!("-I {FLOW} --netns blue"));
        let printed = must("-D -p udp --dry-run --netns blue");
        assert!(printed.starts_with("-D ") && printed.contains("10.0.0.1"), "{printed}");
        assert_eq!(count("blue"), "1");
        let file = namespace.directory().join("table.pcap").display().to_string();
        flowgate().must(&["record", &file, "--", "-L", "--netns", "blue"]);
        assert!(flowgate().must(&["replay", &file]).contains("src=10.0.0.1"));
        let outcome = flowgate().run(&["replay", &file, "--", "--netns", "blue"]);
        assert_eq!(outcome.status, 1);
        assert!(outcome.errors().contains("a replay does not touch it"), "{}", outcome.errors());
    });
}

#[test]
fn as_conntrack_there_are_no_such_options() {
    Namespace::run(|_| {
        for line in ["-L --netns blue", "-E --all-netns", "-L --explain"] {
            let outcome = flowgate().called("conntrack").run(&words(line));
            assert_eq!(outcome.status, 2, "{line}");
            assert!(outcome.errors().contains("unknown option"), "{line}: {}", outcome.errors());
        }
    });
}
