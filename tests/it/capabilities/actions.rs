//! Verdicts, changes, annotations and actions, on dumps and on events.

use flowgate_test_support::{Namespace, entries};

use crate::capabilities::{conntrack, flowgate, run, some_flows, table};

#[test]
fn dropping() {
    Namespace::run(|namespace| {
        some_flows(namespace);
        let outcome = run("-L", "do=drop", "");
        assert_eq!((outcome.status, outcome.text()), (0, String::new()));
        assert!(outcome.errors().contains("0 flow entries have been shown"));
    });
}

#[test]
fn changes_and_annotations_show_in_every_format() {
    Namespace::run(|namespace| {
        let count = some_flows(namespace);
        for (output, mark, note) in [
            ("extended", " mark=77 ", " seen="),
            ("id", " mark=77 ", " seen="),
            ("xml", "<mark>77</mark>", "<annotation "),
            ("save", "", "# seen="),
            ("json", "\"mark\":77", "\"annotations\":{\"seen\":\""),
        ] {
            let outcome = run(&format!("-L -o {output}"), "do=annotate+transform", "");
            let text = outcome.text();
            assert_eq!(text.matches(note).count(), count, "{output}: {text}{}", outcome.errors());
            assert!(mark.is_empty() || text.matches(mark).count() == count, "{output}: {text}");
        }
        assert!(table().iter().all(|line| !line.contains("mark=77")), "the kernel's entries are as they were");
    });
}

#[test]
fn what_identifies_a_flow_can_be_changed_where_nothing_acts() {
    Namespace::run(|namespace| {
        some_flows(namespace);
        let shown = run("-L -p udp -f ipv4", "do=rename", "").text();
        assert!(shown.lines().all(|line| line.contains("src=10.77.0.1 dst=10.77.0.2 sport=9 dport=53")), "{shown}");
        // Where a command acts on the flow, identifying fields stay unchanged, so that the flow that is deleted is the
        // one that was listed.
        let before = table().len();
        let udp = conntrack().must(&["-L", "-p", "udp", "-f", "ipv4"]).lines().count();
        let outcome = run("-D -p udp -f ipv4", "do=rename", "");
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert!(!outcome.text().contains("10.77.0.1"), "{}", outcome.text());
        assert_eq!(table().len(), before - udp);
        let left = table().len();
        let outcome = run("-L", "do=rename+delete", "delete");
        assert_eq!((outcome.text().lines().count(), table().len()), (left, 0), "{}", outcome.errors());
    });
}

#[test]
fn deleting_needs_its_grant() {
    Namespace::run(|namespace| {
        let count = some_flows(namespace);
        for grants in ["", "update", "create", "log"] {
            let outcome = run("-L", "do=delete", grants);
            assert_eq!((outcome.status, outcome.text().lines().count()), (0, count), "{grants}");
            let warned = outcome.errors().matches("asked to delete entries in a way that it was not granted").count();
            assert_eq!(warned, 1, "{grants}: {}", outcome.errors());
            assert_eq!(table().len(), count, "{grants}");
        }
        let outcome = run("-L", "do=delete", "delete");
        assert_eq!(outcome.text().lines().count(), count, "what was there is shown: {}", outcome.errors());
        assert_eq!(table().len(), 0);
    });
}

#[test]
fn updates_of_each_field() {
    Namespace::run(|namespace| {
        entries::allow_labels(namespace);
        entries::load(
            namespace,
            &["-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53 -m 0x1234".to_owned()],
        );
        for (what, grant, sees) in [
            ("mark", "update.mark=0xff00", "mark=308 "),
            ("timeout", "update.timeout=60..90", " 76 "),
            ("timeout", "update.timeout=60..90", " 76 "),
            ("status", "update.status=ASSURED|SEEN_REPLY", "[ASSURED]"),
            ("mark", "update", "mark=308 "),
        ] {
            let outcome = run("-L", &format!("do={what}"), grant);
            assert!(!outcome.errors().contains("refused"), "{what}: {}", outcome.errors());
            let table = table();
            let seconds = if what == "timeout" { sees.replace("76", "77") } else { sees.to_string() };
            assert!(table[0].contains(sees) || table[0].contains(&seconds), "{what}: {table:?}");
        }
        let outcome = run("-L", "do=label", "update.labels=3");
        assert!(!outcome.errors().contains("refused"), "{}", outcome.errors());
        namespace.label_map("3 three\n");
        assert!(conntrack().must(&["-L", "-o", "labels"]).contains("labels=three"));

        for (what, grant) in [
            ("mark", "update.mark=0xff"),
            ("mark", "update.timeout"),
            ("timeout", "update.timeout=1..76"),
            ("status", "update.status=FIXED_TIMEOUT"),
            ("label", "update.labels=4"),
        ] {
            entries::load(namespace, &["-I -t 600 -p udp -s 10.0.0.9 -d 10.1.0.1 --sport 5 --dport 53".to_owned()]);
            let outcome = run("-L -s 10.0.0.9", &format!("do={what}"), grant);
            assert!(outcome.errors().contains("not granted"), "{what} {grant}: {}", outcome.errors());
            let line = conntrack().must(&["-D", "-s", "10.0.0.9"]);
            assert!(line.contains(" mark=0 ") && line.contains("[UNREPLIED]"), "{what} {grant}: {line}");
        }
    });
}

#[test]
fn helpers_can_be_given_where_the_kernel_allows_it() {
    Namespace::run(|namespace| {
        entries::load(
            namespace,
            &["-I -t 600 -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 21 --state ESTABLISHED".to_owned()],
        );
        let outcome = run("-L", "do=helper", "update.helper,log");
        // The kernel accepts a helper only for entries with room for one. It reports an error, and so does flowgate.
        let (errors, table) = (outcome.errors(), table());
        let given = table[0].contains("helper=ftp");
        let refused = errors.contains("the kernel refused to update entries") && errors.contains("results 2:3:");
        assert!(given || refused, "{table:?} {errors}");
    });
}

#[test]
fn creating_for_flows_that_are_not_in_the_batch() {
    Namespace::run(|namespace| {
        entries::load(namespace, &["-I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1".to_owned()]);
        let refused = run("-L", "do=create", "update,delete");
        assert!(refused.errors().contains("asked to create"), "{}", refused.errors());
        assert_eq!(table().len(), 1);
        run("-L", "do=create", "create");
        let new = conntrack().must(&["-L", "-p", "udp"]);
        assert!(new.contains("src=10.77.0.1 dst=10.77.0.2 sport=1 dport=53"), "{new}");
        // A second time the flow exists already; with the grant to update, it is updated.
        let again = run("-L -p 50", "do=create", "create,log");
        assert!(again.errors().contains("results 3:3:17"), "{}", again.errors());
        let update = run("-L -p 50", "do=create-or-update", "create");
        assert!(update.errors().contains("not granted"), "{}", update.errors());
        run("-L -p 50", "do=create-or-update", "create,update.timeout=200..200");
        let set = conntrack().must(&["-L", "-p", "udp"]);
        let timeout = set.split_ascii_whitespace().nth(2).and_then(|word| word.parse::<u32>().ok());
        assert!(timeout.is_some_and(|timeout| (150..=200).contains(&timeout)), "its timeout was set: {set}");
        run("-L -p 50", "do=mark-other", "update.mark");
        assert!(conntrack().must(&["-L", "-p", "udp"]).contains("mark=5 "));
        run("-L -p 50", "do=at-end", "delete");
        assert_eq!(conntrack().must(&["-L", "-p", "udp"]), "");
        let gone = run("-L -p 50", "do=delete-other", "delete,log");
        assert!(gone.errors().contains("results 1:2:2"), "{}", gone.errors());
    });
}

#[test]
fn a_dry_run_prints_what_would_be_done_and_does_nothing() {
    Namespace::run(|namespace| {
        let count = some_flows(namespace);
        let before = conntrack().must(&["-L", "-o", "save"]);
        let dry = run("-L --dry-run", "do=delete", "delete,log");
        assert_eq!(dry.text().lines().filter(|line| line.starts_with("-D ")).count(), count, "{}", dry.text());
        assert!(dry.errors().contains(&format!("{count} actions have been printed, none was done")));
        assert!(dry.errors().contains("results 1:5:0"), "the plugin receives the results: {}", dry.errors());
        let without_time = |text: &str| text.lines().count();
        assert_eq!(without_time(&conntrack().must(&["-L", "-o", "save"])), without_time(&before));
        // The printed commands can be executed, and name every intended flow.
        let plan = dry.text();
        let done = flowgate().run_with(&["-R", "-"], plan.as_bytes());
        assert_eq!(done.status, 0, "{}", done.errors());
        assert_eq!(table().len(), 0, "{:?}", table());

        // The same holds for updates and creations.
        entries::load(
            namespace,
            &["-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53 -m 0x1234".to_owned()],
        );
        let plan = run("-L --dry-run", "do=mark+timeout+create", "update,create").text();
        assert!(plan.contains(" -m 256/65280") && plan.contains("-U -t 77 "), "{plan}");
        assert_eq!(flowgate().run_with(&["-R", "-"], plan.as_bytes()).status, 0);
        let table = table();
        assert_eq!(table.len(), 2, "{table:?}");
        assert!(table.iter().any(|line| line.contains("mark=308 ")), "{table:?}");

        // And for the classic commands.
        for (command, line) in [
            ("-D -p udp -s 10.0.0.1 --dry-run", "-D -s 10.0.0.1 "),
            ("-U -p udp -s 10.0.0.1 -m 9/15 --dry-run", " -m 9/15"),
            ("-I -p udp -s 10.9.0.1 -d 1.2.3.4 --sport 5 --dport 53 -t 600 --dry-run", "-I -t 600 -s 10.9.0.1 "),
        ] {
            let words: Vec<&str> = command.split_whitespace().collect();
            let outcome = flowgate().run(&words);
            assert_eq!(outcome.text().lines().count(), 1, "{command}: {}{}", outcome.text(), outcome.errors());
            assert!(outcome.text().contains(line), "{command}: {}", outcome.text());
        }
        assert_eq!(crate::capabilities::table().len(), 2);
    });
}
