//! Events of another namespace, and of all of them.

use flowgate_test_support::Program;

use crate::namespaces::{FLOW, flowgate, listen, must, run, stop, with_two, words};

/// Creates the flow in the three namespaces.
fn make() {
    for (place, host) in [("--netns blue", 2), ("--netns red", 3), ("", 1)] {
        let flow = FLOW.replace("10.0.0.1", &format!("10.0.0.{host}"));
        must(&format!("-I {flow} {place}"));
    }
}

#[test]
fn of_one_namespace() {
    with_two(|_| {
        let mut listening = listen("-E --netns blue");
        make();
        let line = listening.wait_for_output("[NEW]");
        must("-D -p udp --netns blue");
        let end = listening.wait_for_output("[DESTROY]");
        let all = stop(listening);
        assert!(line.contains("src=10.0.0.2 ") && end.contains("src=10.0.0.2 "), "{all:#?}");
        assert!(!line.contains("netns="), "it is the one that was asked for: {line}");
        assert!(!all.iter().any(|line| line.contains("10.0.0.1 ") || line.contains("10.0.0.3 ")), "{all:#?}");
    });
}

#[test]
fn of_all_namespaces_by_name() {
    with_two(|namespace| {
        namespace.ip("netns set blue 11");
        namespace.ip("netns set red 12");
        let mut listening = listen("-E --all-netns");
        make();
        let all = [
            listening.wait_for_output("src=10.0.0.2 "),
            listening.wait_for_output("src=10.0.0.3 "),
            listening.wait_for_output("src=10.0.0.1 "),
        ];
        assert!(all[0].ends_with(" netns=blue") && all[1].ends_with(" netns=red"), "{all:#?}");
        assert!(!all[2].contains("netns="), "{all:#?}");
        let rest = stop(listening);
        assert!(!rest.iter().any(|line| line.contains("WARNING")), "{rest:#?}");
    });
}

#[test]
fn in_every_format() {
    with_two(|namespace| {
        namespace.ip("netns set blue 11");
        let formats = [
            ("json", "\"namespace_id\":11,\"namespace_name\":\"blue\""),
            ("xml", "<nsid>11</nsid><netns>blue</netns>"),
            ("save", " netns=blue"),
        ];
        for (format, words) in formats {
            let mut listening = listen(&format!("-E -e NEW --all-netns -o {format}"));
            listening.wait_for_error("the network namespace red has no id here");
            must(&format!("-I {FLOW} --netns blue"));
            let line = listening.wait_for_output("10.0.0.1");
            assert!(line.contains(words), "{format}: {line}");
            must("-F --netns blue");
            stop(listening);
        }
    });
}

#[test]
fn a_namespace_without_a_name_has_its_id() {
    with_two(|namespace| {
        let inhabitant = crate::namespaces::Inhabitant::of("red");
        namespace.ip("netns set red 12");
        namespace.ip("netns del red");
        let mut listening = listen("-E -e NEW --all-netns");
        must(&format!("-I {FLOW} --netns {}", inhabitant.process()));
        let line = listening.wait_for_output("10.0.0.1");
        assert!(line.ends_with(" nsid=12"), "{line}");
        stop(listening);
        namespace.ip("netns add red");
    });
}

#[test]
fn ids_are_those_of_the_namespace_that_listens() {
    with_two(|_| {
        // In blue, the id of red is 5.
        Program::new("ip").must(&["netns", "exec", "blue", "ip", "netns", "set", "red", "5"]);
        let mut listening = listen("-E -e NEW --all-netns --netns blue");
        make();
        assert!(listening.wait_for_output("src=10.0.0.3 ").ends_with(" netns=red"));
        let all = stop(listening);
        assert!(all.iter().any(|line| line.contains("src=10.0.0.2 ") && !line.contains("netns=")), "{all:#?}");
        assert!(!all.iter().any(|line| line.contains("src=10.0.0.1 ")), "it has no id there: {all:#?}");
    });
}

#[test]
fn recordings_keep_the_names() {
    with_two(|namespace| {
        namespace.ip("netns set blue 11");
        let file = namespace.directory().join("events.pcap").display().to_string();
        let mut listening = listen(&format!("record --show {file} -- -E -e NEW --all-netns"));
        make();
        let shown = [listening.wait_for_output("src=10.0.0.2 "), listening.wait_for_output("src=10.0.0.1 ")];
        stop(listening);
        namespace.ip("netns del blue");
        let replayed = flowgate().must(&["replay", &file]);
        assert_eq!(replayed.lines().collect::<Vec<_>>(), shown);
        assert!(shown[0].contains(" netns=blue"), "{shown:#?}");
        namespace.ip("netns add blue");
    });
}

#[test]
fn plugins_that_act_would_act_elsewhere() {
    let outcome = flowgate().run(&words("-E --all-netns --plugin x.wasm --grant delete"));
    assert_eq!(outcome.status, 2);
    assert!(outcome.errors().contains("--all-netns cannot be combined with --grant"), "{}", outcome.errors());
    for line in ["-L --all-netns", "-E expect --all-netns", "-D --all-netns", "-F --all-netns"] {
        let outcome = run(line);
        assert_eq!(outcome.status, 2, "{line}");
        assert!(outcome.errors().contains("Illegal option `--all-netns'"), "{line}: {}", outcome.errors());
    }
}
