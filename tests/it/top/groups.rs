//! Groups in place of flows, and conditions that are typed on the screen.

use crate::top::{conntrack, exactly, flowgate, terminal::Terminal, three_flows};
use flowgate_test_support::Namespace;

/// Returns the command with these words, with this interval.
fn top(interval: &str, words: &str) -> String {
    format!("{} top --interval {interval} {words}", flowgate().path.display())
}

/// Returns the keys of the groups in a picture, each of which has one.
fn keys(picture: &str) -> Vec<String> {
    let lines = picture.lines().skip_while(|line| !line.contains(" FLOWS")).skip(1);
    let key = |line: &str| Some(line.split_whitespace().next()?.to_owned());
    lines.take_while(|line| !line.contains(" groups ") && !line.trim().is_empty()).filter_map(key).collect()
}

#[test]
fn groups_have_the_sums_of_a_listing() {
    Namespace::run(|namespace| {
        let _traffic = three_flows(namespace, true);
        let frame = flowgate().must(&["top", "--once", "--interval", "300ms", "--by", "sport", "-o", "json"]);
        let frame: serde_json::Value = serde_json::from_str(&frame).unwrap();
        let listed = flowgate().must(&["-L", "--by", "sport", "--count", "--sum", "bytes,packets", "-o", "json"]);
        let mut listed: Vec<(String, Vec<u64>)> = listed
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|group| {
                let numbers = ["count", "sum(bytes)", "sum(packets)"].map(|name| group[name].as_u64().unwrap());
                (group["sport"].to_string(), numbers.to_vec())
            })
            .collect();
        let groups = frame["groups"].as_array().unwrap();
        let mut shown: Vec<(String, Vec<u64>)> = groups
            .iter()
            .map(|group| {
                let numbers = ["flows", "bytes", "packets"].map(|name| group[name].as_u64().unwrap());
                (group["keys"]["sport"].as_str().unwrap().to_owned(), numbers.to_vec())
            })
            .collect();
        listed.sort();
        shown.sort();
        assert_eq!(shown, listed, "{frame}");
        assert_eq!((&frame["flows"], &frame["matching"]), (&3.into(), &3.into()), "{frame}");
        assert!(frame["rows"].as_array().unwrap().is_empty());
        let text = flowgate().must(&["top", "--once", "--interval", "300ms", "--sort", "packets", "--by", "sport"]);
        assert_eq!(keys(&text), ["7001", "7003", "7005"], "{text}");
        assert!(text.starts_with("3 flows, 0 B/s") && text.contains("PACKETS▼"), "{text}");
    });
}

#[test]
fn what_groups_cannot_do_is_an_error() {
    let wrong = |words: &[&str]| {
        let outcome = flowgate().run(&[&["top", "--once"], words].concat());
        assert!(outcome.status != 0 && outcome.stdout.is_empty(), "{words:?}");
        outcome.errors()
    };
    for (words, expected) in [
        (&["--by", "bytes"][..], "not by bytes or packets"),
        (&["--by", "src", "--sort", "age"], "not sorted by age, but by flows, rate"),
        (&["--sort", "flows"], "not sorted by flows, but by rate"),
        (&["--by", "sorce"], "did you mean `source`?"),
        (&["--by", "src", "--", "--top", "3"], "--max-groups"),
        (&["--", "--by", "src"], "in front of --"),
    ] {
        let errors = wrong(words);
        assert!(errors.contains(expected), "{words:?}: {errors}");
    }
}

#[test]
fn groups_are_on_a_screen_with_rates_of_flows_that_have_ended() {
    Namespace::run(|namespace| {
        let mut traffic = three_flows(namespace, true);
        // Dumps are those that the test requests, so that a group of one dump is seen.
        let terminal = Terminal::start(namespace, &top("1h", "--by sport --sort bytes"));
        terminal.until("three groups are shown", |picture| keys(picture) == ["7001", "7003", "7005"]);
        // The group of a flow that began and ended between two dumps has no flows, and a rate.
        exactly(&mut traffic, 7009, 30);
        conntrack().must(&["-D", "-p", "udp", "--sport", "7009"]);
        terminal.press(&["Enter"]);
        terminal.until("its group is shown", |picture| {
            picture.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.first() == Some(&"7009") && words.get(1) == Some(&"0") && !line.contains(" 0 B/s")
            })
        });
        terminal.shows(&["4 groups", "BYTES▼"]);
        terminal.press(&["f"]);
        terminal.shows(&["FLOWS▼"]);
        terminal.press(&["t"]);
        terminal.shows(&["groups have no column"]);
        terminal.press(&["Down", "d"]);
        terminal.shows(&["groups cannot be deleted here"]);
        terminal.press(&["q"]);
        terminal.is_given_back(0);
    });
}

#[test]
fn a_condition_is_typed_and_mended() {
    Namespace::run(|namespace| {
        let _traffic = three_flows(namespace, true);
        let terminal = Terminal::start(namespace, &top("300ms", "--by sport --sort bytes"));
        terminal.until("three groups are shown", |picture| keys(picture) == ["7001", "7003", "7005"]);
        terminal.press(&["w"]);
        terminal.press(&["-l", "sport == 700x"]);
        terminal.press(&["Enter"]);
        terminal.shows(&["where: sport == 700x_ "]);
        terminal.press(&["BSpace"]);
        terminal.press(&["-l", "3"]);
        terminal.press(&["Enter"]);
        terminal.until("one group is shown", |picture| keys(picture) == ["7003"]);
        terminal.shows(&["where: sport == 7003", "1 flow,", "1 groups"]);
        terminal.press(&["w", "Escape"]);
        terminal.until("all groups are shown", |picture| keys(picture) == ["7001", "7003", "7005"]);
        terminal.press(&["q"]);
        terminal.is_given_back(0);
    });
}
