//! Mistyped command lines reported from the field, and similar ones.

use flowgate_test_support::{Namespace, Program};

use super::{both, fill, refused, table, words};
use crate::field::flowgate;

/// Asserts that each line is refused under both names, changes nothing, and that the message says what would be right.
fn is_refused(lines: &[(&str, &str)]) {
    Namespace::run(|namespace| {
        fill(namespace);
        let before = table();
        for (line, expected) in lines {
            for (name, program) in both() {
                let outcome = program.run(&words(line));
                assert!(refused(&outcome), "{name} {line}: {outcome:?}");
                assert!(outcome.errors().contains(expected), "{name} {line}: {}", outcome.errors());
                assert_eq!(table(), before, "{name} {line}");
            }
        }
    });
}

#[test]
fn case_01_a_number_behind_zero_is_no_zone() {
    is_refused(&[
        ("-L -z 64000", "64000 does not belong to any option; for a zone: -w 64000"),
        ("-z -L conntrack 7", "7 does not belong to any option; for a zone: -w 7"),
        ("-Lz 7", "7 does not belong to any option; for a zone: -w 7"),
        ("--dump --zero 0x7", "0x7 does not belong to any option; for a zone: -w 0x7"),
        ("-L -z blue", "blue does not belong to any option"),
        ("--dump=conntrack -z", "--dump takes no attached value `conntrack'"),
    ]);
}

#[test]
fn case_02_a_timeout_is_a_number() {
    is_refused(&[
        ("-U -p tcp --timeout established 100000", "'established'"),
        ("-U -p tcp -t 100000x", "'100000x'"),
        ("-U -p tcp -t 1y", "'1y'"),
        ("-I -p udp -s 192.0.2.7 -d 198.51.100.7 --sport 1 --dport 2 -t NEW", "'NEW'"),
        ("-A -p udp -s 192.0.2.7 -d 198.51.100.7 --sport 1 --dport 2 -t -1", "'-1'"),
        ("-D -t 1-5", "not a range"),
    ]);
    // Units of time are accepted under the program's own name only.
    Namespace::run(|namespace| {
        fill(namespace);
        let before = table();
        for time in ["100000s", "1h"] {
            let line = format!("-U -p tcp -t {time}");
            for (name, program) in both() {
                let outcome = program.run(&words(&line));
                if name == "flowgate" {
                    assert_eq!(outcome.status, 0, "{line}: {}", outcome.errors());
                } else {
                    assert!(
                        refused(&outcome) && outcome.errors().contains(&format!("'{time}'")),
                        "{line}: {outcome:?}"
                    );
                    assert_eq!(table(), before, "{line}");
                }
            }
        }
    });
}

#[test]
fn case_03_a_port_range_is_no_port() {
    is_refused(&[
        ("-D -p tcp --dport 8000-8999", "one value is taken, not a range"),
        ("-D -p tcp --dport 8000:8999", "one value is taken, not a range"),
        ("-D -p tcp --sport 4000,4001", "one value is taken, not a list"),
        ("-D -p tcp --reply-port-src=8000-8999", "one value is taken, not a range"),
        ("-U -p tcp --orig-port-dst 8000-8999 -m 5", "one value is taken, not a range"),
        ("-D -d 198.51.100.1-198.51.100.9", "198.51.100.1-198.51.100.9"),
        ("-D -s 198.51.0.0/16 -s 192.0.2.1", "--src is given twice, and the prefix of the first"),
        ("-U -d 2001:db8::/16 -d 2001:db9::1 -m 5", "--dst is given twice, and the prefix of the first"),
    ]);
}

#[test]
fn case_04_a_word_that_nothing_takes_is_refused() {
    is_refused(&[
        ("-D -p tcp 192.0.2.1", "192.0.2.1 does not belong to any option"),
        ("-D -m mark 1", "unexpected value 'mark' with -m option"),
        ("-D -p tcp -m 1 mark", "mark does not belong to any option"),
        ("conntrack -D -p tcp", "conntrack"),
        ("expect -F", "expect"),
        ("-F conntrack now", "now does not belong to any option"),
        ("-U -m 5 all", "all does not belong to any option"),
        ("-D -p tcp ''", "an empty word does not belong to any option"),
        ("-D -- -p tcp", "-p does not belong to any option"),
        ("-D -p tcp --dport 8000 -", "- does not belong to any option"),
        ("-D -i wg0", "the kernel keeps no interfaces for flows"),
    ]);
    // If POSIXLY_CORRECT is set, options end at the first such word, so selectors after it would be ignored.
    Namespace::run(|namespace| {
        fill(namespace);
        let before = table();
        for (name, program) in both() {
            let outcome = program.environment("POSIXLY_CORRECT", "1").run(&["-D", "-p", "tcp", "x", "-s", "192.0.2.9"]);
            assert!(
                refused(&outcome) && outcome.errors().contains("x does not belong to any option"),
                "{name}: {outcome:?}"
            );
        }
        assert_eq!(table(), before);
    });
}

#[test]
fn case_05_an_attached_table_never_means_the_other_one() {
    is_refused(&[
        ("--flush=expect", "--flush expect"),
        ("--delete=expect", "--delete expect"),
        ("--delete=expect -p udp", "--delete expect"),
        ("--flush=", "--flush takes no attached value"),
        ("--update=expect -m 5", "--update takes no attached value"),
        ("-Fexpect", "xpect"),
        ("-Dexpect", "xpect"),
        ("-F ''", "an empty word is not a table"),
        ("-D '' -p udp", "You need to supply"),
        ("-D -n203.0.113.1", "--src-nat 203.0.113.1"),
        ("-D --src-nat=203.0.113.1", "--src-nat 203.0.113.1"),
        ("-U --label-del=first", "--label-del"),
        ("--dump=expect -z", "--dump expect"),
    ]);
}

#[test]
fn an_empty_prefix_or_mask_does_not_stand_for_every_address() {
    is_refused(&[
        ("-D -s ''", "Invalid IP address"),
        ("-D -s /", "Invalid IP address"),
        ("-D -s /8", "Invalid IP address"),
        ("-D -s 192.0.2.0/", "prefix length"),
        ("-D -d 198.51.100.0/", "prefix length"),
        ("-D -s 2001:db8::/", "prefix length"),
        ("-D -s 192.0.2.0/0", "0 stands for every address"),
        ("-D -s 192.0.2.1 --mask-src 0.0.0.0", "leaves something of 192.0.2.1"),
        ("-D -d 2001:db8::1 --mask-dst ::", "leaves something of 2001:db8::1"),
        ("-D -s 192.0.2.1 --mask-src ''", "Invalid IP address"),
        ("-D --mask-src 255.0.0.0", "without --src"),
        ("-U -s 192.0.2.0/ -m 5", "prefix length"),
        ("-D -s 192/8", "four parts"),
        ("-D -n ''", "Invalid IP address"),
        ("-D -m ''", "unexpected value ''"),
        ("-D -m 5/", "unexpected value '5/'"),
        ("-D -u ''", "Bad parameter"),
        // A prefix length in place of a mask: 24 would be the mask 0.0.0.24.
        ("-D -s 192.0.2.77 --mask-src 24", "a mask with all of its four parts"),
        ("-D -d 198.51.100.77 --mask-dst 8", "a mask with all of its four parts"),
        ("-D -d 198.51.100.77 --mask-dst 255", "a mask with all of its four parts"),
        ("-U -s 192.0.2.77 --mask-src 0xff -m 5", "a mask with all of its four parts"),
        ("-D -s 192.0.2.77 --mask-src 0", "a mask with all of its four parts"),
        ("-D -s 10", "four parts"),
        ("-D -s 80", "four parts"),
        ("-D -q 0", "four parts"),
        ("-D -n 24", "four parts"),
        // A prefix and a mask that contradict each other.
        ("-D --mask-src 255.255.255.0 -s 192.0.2.77/32", "not two that differ"),
        ("-D -s 192.0.2.0/24 --mask-src 255.0.0.0", "not two that differ"),
        ("-D -d 2001:db8::/64 --mask-dst ffff::", "not two that differ"),
        ("-U -m 5 --mask-dst 255.0.0.0 -d 198.51.100.0/24", "not two that differ"),
        // Leading zeros make octal numbers: .010 is .8, and 0300 is 192.
        ("-D -s 0300.0.02.01", "leading zeros"),
        ("-D -d 198.51.0144.1", "leading zeros"),
        ("-D -r 0306.51.100.1", "leading zeros"),
        ("-U -d 198.51.0144.0/24 -m 5", "leading zeros"),
    ]);
    Namespace::run(|namespace| {
        fill(namespace);
        // Written in full, it selects every address of the family.
        for (_, program) in both() {
            let dry = program.run(&["-L", "-s", "0.0.0.0/0"]);
            assert_eq!((dry.status, dry.text().lines().count()), (0, 7), "{dry:?}");
        }
        let outcome = flowgate().run(&["-D", "-s", "0.0.0.0/0"]);
        assert_eq!((outcome.status, outcome.text().lines().count()), (0, 7), "{outcome:?}");
    });
}

/// Contradictory statuses, and an ambiguous abbreviation.
#[test]
fn case_05_a_status_means_what_it_says() {
    is_refused(&[
        ("-D -u ASSURED,!ASSURED", "names that a flow can have together"),
        ("-D -u !ASSURED -u ASSURED", "names that a flow can have together"),
        ("-D -u SEEN_REPLY,UNREPLIED", "names that a flow can have together"),
        ("-U -p udp -u ASSURED,!SEEN_REPLY", "names of what is set"),
        ("-U -p udp -u !ASSURED -m 5", "names of what is set"),
        ("-U -p udp -u UNREPLIED -m 5", "names of what is set"),
        ("-D -u UNSET,ASSURED", "names that a flow can have together"),
        ("-U -u ASSURED,!ASSURED -m 5", "names that a flow can have together"),
        ("-D -u U", "UNSET or UNREPLIED, written out"),
        ("-D -u un", "UNSET or UNREPLIED, written out"),
        ("-D -u !UNSET", "names no bit"),
        ("-D -u S", "names no bit"),
        ("-D -u unreplied", "Bad parameter"),
        ("-D -u ASSURED|SEEN_REPLY", "Bad parameter"),
        ("-D -u 4", "Bad parameter"),
    ]);
}

#[test]
fn case_06_deleting_everything_takes_a_word_under_the_own_name() {
    Namespace::run(|namespace| {
        fill(namespace);
        let before = table();
        for line in ["-D", "-D -o ext", "-D -o extended,id", "-D --quiet", "-D -- "] {
            let outcome = flowgate().run(&words(line.trim_end()));
            assert!(refused(&outcome) && outcome.errors().contains("-D --all"), "{line}: {outcome:?}");
        }
        for line in ["-D --all -p tcp", "-L --all", "-F --all", "-U --all -m 5", "-D -o nonsense"] {
            assert!(refused(&flowgate().run(&words(line))), "{line}");
        }
        assert_eq!(table(), before);
        let printed = flowgate().must(&["-D", "--dry-run"]);
        assert_eq!(printed.lines().count(), 8, "{printed}");
        assert_eq!(table(), before);
        let outcome = flowgate().run(&["-D", "--all"]);
        assert_eq!((outcome.status, outcome.errors().as_str()), (0, "flowgate: 8 flow entries have been deleted.\n"));
        fill_again(namespace);
        // Invoked as conntrack, it behaves like conntrack.
        let outcome = flowgate().called("conntrack").run(&["-D", "-o", "ext"]);
        assert_eq!(outcome.text().lines().filter(|line| line.starts_with("ipv4")).count(), 1, "{outcome:?}");
        assert_eq!(Program::new("conntrack").must(&["-C"]), "0\n");
    });
}

fn fill_again(namespace: &Namespace) {
    let line = "-I -t 3600 -p udp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 53";
    flowgate_test_support::entries::load(namespace, &[line.to_owned()]);
}

#[test]
fn case_07_a_mark_outside_of_its_mask_is_a_warning() {
    Namespace::run(|namespace| {
        fill(namespace);
        let before = table();
        let [(_, conntrack), (_, own)] = both();
        let line = ["-D", "-m", "0x000002/0x0ff0000"];
        let classic = conntrack.run(&line);
        let none = "conntrack v1.4.9 (conntrack-tools): 0 flow entries have been deleted.\n";
        assert_eq!((classic.status, classic.errors().as_str()), (1, none));
        let warned = own.run(&line);
        assert_eq!(warned.status, 1);
        assert!(
            warned.errors().starts_with("WARNING: the mark 0x2 has bits outside of its mask 0xff0000"),
            "{warned:?}"
        );
        assert_eq!(table(), before);
    });
}

/// With every command that accepts these options.
#[test]
fn case_26_dry_run_and_explain_change_nothing() {
    const FLOW: &str = "-t 600 -p udp -s 192.0.2.9 -d 198.51.100.9 --sport 1 --dport 2";
    Namespace::run(|namespace| {
        fill(namespace);
        let before = table();
        let file = namespace.directory().join("lines");
        std::fs::write(&file, format!("-D\n-D -p tcp\n-U -m 77\n-I {FLOW}\n-A {FLOW} -m 3\n")).unwrap();
        let load = format!("-R {}", file.display());
        let expectation = "expect -p udp -s 192.0.2.9 -d 198.51.100.9 --sport 1 --dport 2";
        for command in [
            "-L".to_owned(),
            "-L -z".to_owned(),
            "-L -z -f ipv4".to_owned(),
            "-L expect".to_owned(),
            "-L dying".to_owned(),
            "-D".to_owned(),
            "-D --all".to_owned(),
            "-D --quiet --all".to_owned(),
            "-D -p tcp".to_owned(),
            "-D -p tcp --quiet".to_owned(),
            "-U -m 77".to_owned(),
            "-U -p tcp -t 5".to_owned(),
            "-U -m 77 --quiet".to_owned(),
            format!("-I {FLOW}"),
            format!("-A {FLOW}"),
            "-A -t 600 -p udp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 53 -m 99".to_owned(),
            "-G -p udp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 53".to_owned(),
            "-F".to_owned(),
            "-F -f ipv4".to_owned(),
            "-F expect".to_owned(),
            "-C".to_owned(),
            "-S".to_owned(),
            format!("-D {expectation} --reply-port-src 1 --reply-port-dst 2"),
            format!(
                "-I {expectation} -t 60 --tuple-src 192.0.2.9 --tuple-dst 198.51.100.9 --mask-src 255.255.255.255 \
                 --mask-dst 255.255.255.255 --tuple-port-src 0 --tuple-port-dst 5 --mask-port-src 0 --mask-port-dst 65535"
            ),
            load.clone(),
        ] {
            for option in ["--dry-run", "--explain"] {
                let line = format!("{command} {option}");
                let outcome = flowgate().run(&words(&line));
                assert!(outcome.status <= 2, "{line}: {outcome:?}");
                assert_eq!(table(), before, "{line}: {outcome:?}");
            }
        }
        let zero = flowgate().run(&words("-L -z --dry-run"));
        assert!(refused(&zero) && zero.errors().contains("--dry-run cannot print what -z would do"), "{zero:?}");
    });
}

/// `-R FILE --dryrun`: with a mistyped word after the file, or one attached to its option, nothing is executed.
#[test]
fn case_27_a_slip_beside_the_file_carries_nothing_out() {
    Namespace::run(|namespace| {
        fill(namespace);
        let before = table();
        let file = namespace.directory().join("lines");
        std::fs::write(&file, "-D -p tcp\n-D -p udp\n").unwrap();
        let file = file.display().to_string();
        let load = format!("-R {file}");
        for slip in ["--dryrun", "--dry", "dry-run", "-n", "--explian", "-w 5", "-F", "''", "-"] {
            let outcome = flowgate().run(&words(&format!("{load} {slip}")));
            assert!(refused(&outcome), "{slip}: {outcome:?}");
            assert_eq!(table(), before, "{slip}");
        }
        for option in ["--dry-run", "--explain", "-w 5", "-F", "--netns x"] {
            let outcome = flowgate().called("conntrack").run(&words(&format!("{load} {option}")));
            assert!(refused(&outcome), "{option}: {outcome:?}");
            assert_eq!(table(), before, "{option}");
        }
        for line in [
            format!("-R{file}"),
            format!("--load-file={file}"),
            format!("--load-fil {file}"),
            format!("--dry-run -R {file}"),
            format!("-L --load-file {file}"),
            "-R".to_owned(),
            "--load-file".to_owned(),
        ] {
            for (name, program) in both() {
                let outcome = program.run(&words(&line));
                assert!(refused(&outcome), "{name} {line}: {outcome:?}");
                let helps = outcome.errors().contains("in two words that stand before all others");
                assert_eq!(helps, name == "flowgate", "{name} {line}: {outcome:?}");
                assert_eq!(table(), before, "{name} {line}");
            }
        }
        // Without such a word the file is executed.
        flowgate().must(&["-R", &file]);
        assert_ne!(table(), before);
    });
}

/// Under its own name the program parses listings strictly as well; invoked as conntrack it parses them as conntrack
/// does.
#[test]
fn listings_are_strict_under_the_own_name_only() {
    Namespace::run(|namespace| {
        fill(namespace);
        let before = table();
        let [(_, classic), (_, own)] = both();
        for line in [
            "-L 192.0.2.1",
            "-L -p tcp --dport 8000-8999",
            "-L -p tcp --dport http",
            "-L -s 192.0.2.0/",
            "--dump=expect",
            "-L -n203.0.113.1",
            "-L -f ipv4x",
            "-L ''",
            "-L -m 1/",
            "-C -- x",
        ] {
            let strict = own.run(&words(line));
            if line == "-L 192.0.2.1" {
                // Under both names a word directly after the command is the name of a table.
                assert!(refused(&strict) && refused(&classic.run(&words(line))), "{line}");
                continue;
            }
            assert!(refused(&strict), "{line}: {strict:?}");
            let listed = classic.run(&words(line));
            assert_eq!(listed.status, 0, "{line}: {listed:?}");
        }
        assert_eq!(table(), before);
    });
}
