//! `-R`: rejected lines, the summary, and other zones.

use super::{conntrack, count, last_line, load, run, udp};
use crate::field::flowgate;
use flowgate_test_support::{Namespace, Program};

#[test]
fn case_14_a_line_that_makes_no_sense_loses_only_itself() {
    // A flow of a flow table as `-o save` writes it: without timeout and state.
    let offloaded = "-A -u SEEN_REPLY,ASSURED -s 192.0.2.9 -d 198.51.100.9 -r 198.51.100.9 -q 192.0.2.9 -p tcp \
                     --sport 1 --dport 2 --reply-port-src 2 --reply-port-dst 1\n";
    let wrong = ["-I -p nonsense\n", "-L\n", "--no-such-option\n", "-o xml\n", "-I \"unclosed\n", offloaded];
    for wrong in wrong {
        Namespace::run(|namespace| {
            let text = format!("{}{wrong}{}", udp(1), udp(2));
            let outcome = load(&flowgate(), &text, &[]);
            assert_eq!((outcome.status, count(namespace)), (2, 0), "{}", outcome.errors());
            let outcome = load(&flowgate(), &text, &["--keep-going"]);
            assert_eq!((outcome.status, count(namespace)), (1, 2), "{}", outcome.errors());
            assert!(outcome.errors().contains("in /dev/stdin, line 2\n"), "{}", outcome.errors());
            assert!(last_line(&outcome).ends_with(": 2 created, 1 refused"), "{}", outcome.errors());
        });
    }
}

#[test]
fn a_file_without_lost_lines_is_a_success_all_the_same() {
    Namespace::run(|namespace| {
        let outcome = load(&flowgate(), &(udp(1) + "\n# a comment\n" + &udp(2)), &["--keep-going"]);
        assert_eq!((outcome.status, count(namespace)), (0, 2), "{}", outcome.errors());
        assert!(last_line(&outcome).ends_with(": 2 created"), "{}", outcome.errors());
    });
}

#[test]
fn few_lost_lines_are_told_and_the_others_counted() {
    Namespace::run(|namespace| {
        let text: String = (0..300).map(|number| if number % 3 == 0 { "-X\n".into() } else { udp(number) }).collect();
        let outcome = load(&flowgate(), &text, &["--keep-going"]);
        assert_eq!((outcome.status, count(namespace)), (1, 200));
        let errors = outcome.errors();
        assert_eq!(errors.matches("in /dev/stdin, line ").count(), 10, "{errors}");
        assert!(
            errors.contains("in /dev/stdin, line 28\n") && errors.contains("90 more lines were refused."),
            "{errors}"
        );
        assert!(last_line(&outcome).ends_with(": 200 created, 100 refused"), "{errors}");
        // Lines that the kernel refuses are counted with the others.
        let outcome = load(&flowgate(), &(udp(1) + "-X\n" + &udp(400)), &["--keep-going"]);
        assert!(last_line(&outcome).ends_with(": 1 created, 2 refused"), "{}", outcome.errors());
    });
}

#[test]
fn many_lines_are_read_on_several_threads_and_none_is_lost_unseen() {
    Namespace::run(|namespace| {
        let wrong = [7, 4_000, 9_999];
        let text: String =
            (0..10_000).map(|number| if wrong.contains(&number) { "-X\n".into() } else { udp(number) }).collect();
        let outcome = load(&flowgate(), &text, &["--keep-going"]);
        assert_eq!((outcome.status, count(namespace)), (1, 9_997));
        for line in wrong {
            assert!(outcome.errors().contains(&format!("in /dev/stdin, line {}\n", line + 1)), "{}", outcome.errors());
        }
    });
}

#[test]
fn a_line_that_is_too_long_is_one_line() {
    Namespace::run(|namespace| {
        // `conntrack` treats the rest as a separate line, which deletes here.
        let long = format!("#{} -X", "x".repeat(10_238));
        let text = format!("{}{}\n{}", udp(1), long.replacen('#', "-I ", 1), udp(2));
        let outcome = load(&flowgate(), &text, &["--keep-going"]);
        assert_eq!((outcome.status, count(namespace)), (1, 2), "{}", outcome.errors());
        assert!(outcome.errors().contains("10239") && outcome.errors().contains("line 2\n"), "{}", outcome.errors());
        assert_eq!(load(&flowgate(), &text, &[]).status, 2);
    });
}

#[test]
fn case_20_the_summary_says_what_was_done() {
    Namespace::run(|namespace| {
        let text =
            format!("{}{}-U -p udp --sport 1 -s 192.0.2.1 -m 5\n-D -p udp --sport 2 -s 192.0.2.1\n", udp(1), udp(2));
        let outcome = load(&flowgate(), &text, &[]);
        assert_eq!((outcome.status, count(namespace)), (0, 1), "{}", outcome.errors());
        assert!(last_line(&outcome).ends_with(": 2 created, 1 changed, 1 deleted"), "{}", outcome.errors());
        // An existing entry is counted as changed, not as created, and creating it is refused.
        let added = udp(1).replace("-I", "-A -m 9") + &udp(3).replace("-I", "-A") + &udp(1);
        let outcome = load(&flowgate(), &added, &[]);
        assert_eq!((outcome.status, count(namespace)), (1, 2), "{}", outcome.errors());
        assert!(last_line(&outcome).ends_with(": 1 created, 1 changed, 1 refused"), "{}", outcome.errors());
        let outcome = load(&flowgate(), "-D -s 192.0.2.77\n", &[]);
        assert_eq!(outcome.status, 0);
        assert!(last_line(&outcome).ends_with(": nothing created, changed or deleted"), "{}", outcome.errors());
        let outcome = load(&flowgate(), &("-F\n".to_owned() + &udp(1)), &[]);
        assert!(last_line(&outcome).ends_with(": table emptied, 1 created"), "{}", outcome.errors());
        // Nothing is done, so there is no summary.
        for word in ["--dry-run", "--explain"] {
            let outcome = load(&flowgate(), &udp(5), &[word]);
            assert!(!outcome.errors().contains("created"), "{}", outcome.errors());
        }
        assert_eq!(count(namespace), 1);
    });
}

#[test]
fn under_the_name_conntrack_nothing_is_said() {
    Namespace::run(|namespace| {
        let outcome = load(&conntrack(), &(udp(1) + &udp(2)), &[]);
        assert_eq!((outcome.status, outcome.errors(), count(namespace)), (0, String::new(), 2));
        let outcome = load(&conntrack(), "-X\n", &[]);
        assert_eq!(outcome.status, 2);
        assert!(!outcome.errors().contains("line 1"), "{}", outcome.errors());
    });
}

#[test]
fn case_19_every_line_can_be_about_another_zone() {
    Namespace::run(|namespace| {
        let lines = [
            "-I -t 3000 -w 15 -m 7 -s 192.0.2.1 -d 198.51.100.1 -p udp --sport 1 --dport 15",
            "-I -t 3000 -w 150 -s 192.0.2.1 -d 198.51.100.1 -p udp --sport 2 --dport 15",
            "-I -t 3000 -s 192.0.2.1 -d 198.51.100.1 -p udp --sport 3 --dport 15",
            "-I -t 3000 --orig-zone 15 -s 192.0.2.1 -d 198.51.100.1 -p udp --sport 4 --dport 15",
            "-I -t 3000 --reply-zone 15 -s 2001:db8::1 -d 2001:db8::2 -p 50",
        ];
        let outcome = load(&flowgate(), &lines.join("\n"), &["--set-zone", "9915"]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        let listed = flowgate().must(&["-L"]);
        assert_eq!(listed.matches(" zone=9915 ").count(), 3, "{listed}");
        assert_eq!(listed.matches(" zone-orig=9915 ").count(), 1, "{listed}");
        assert_eq!(listed.matches(" zone-reply=9915 ").count(), 1, "{listed}");
        // The same flows in other zones remain.
        assert_eq!(load(&flowgate(), &lines[..3].join("\n"), &[]).status, 0);
        let outcome = load(&flowgate(), "-D -p udp\n", &["--set-zone=9915"]);
        assert!(last_line(&outcome).ends_with(": 3 deleted"), "{}", outcome.errors());
        let outcome = load(&flowgate(), "-U -p udp -m 3\n", &["--set-zone", "150"]);
        assert!(last_line(&outcome).ends_with(": 1 changed"), "{}", outcome.errors());
        assert_eq!(flowgate().must(&["-L", "-w", "150"]).matches("mark=3 ").count(), 1);
        // A flush always affects all zones.
        let before = count(namespace);
        let outcome = load(&flowgate(), "-F\n", &["--set-zone", "150"]);
        assert_eq!((outcome.status, count(namespace)), (2, before), "{}", outcome.errors());
        assert!(outcome.errors().contains("--set-zone"), "{}", outcome.errors());
        for wrong in ["", "x", "65536", "-1", "5x"] {
            let outcome = load(&flowgate(), &udp(1), &["--set-zone", wrong]);
            assert_eq!(outcome.status, 2, "{wrong}");
            assert!(outcome.errors().contains("set-zone"), "{}", outcome.errors());
        }
    });
}

#[test]
fn the_options_are_for_files() {
    Namespace::run(|_| {
        for line in ["-L --keep-going", "-D -p udp --set-zone 5"] {
            assert_eq!(run(&flowgate(), line).status, 2, "{line}");
        }
        let outcome = load(&flowgate(), "-L --keep-going\n", &[]);
        assert_eq!(outcome.status, 2);
        assert!(Program::new("conntrack").must(&["-C"]).starts_with('0'));
    });
}
