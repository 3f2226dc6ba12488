//! The names by which the program is invoked, and the corresponding banners.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use flowgate_test_support::{Namespace, Outcome, Program};

use super::flowgate;

const CONNTRACK: &str = "conntrack v1.4.9 (conntrack-tools): ";

/// Returns the program under another name; `variable` is the value of the environment variable `FLOWGATE_AS`, if any.
fn called(name: &str, variable: Option<&str>) -> Program {
    let program = flowgate().called(name);
    match variable {
        Some(value) => program.environment("FLOWGATE_AS", value),
        None => program,
    }
}

/// Returns true if an outcome is one of `conntrack`, to which `-L -o json` has an unknown output word.
fn is_conntrack(outcome: &Outcome) -> bool {
    let errors = outcome.errors();
    if errors.starts_with(CONNTRACK) {
        assert!(!errors.contains("flowgate"), "{errors}");
        return true;
    }
    assert!(errors.starts_with("flowgate: ") && !errors.contains("conntrack-tools"), "{errors}");
    false
}

#[test]
fn case_12_the_banner_is_that_of_the_name() {
    for (name, conntrack) in [
        ("conntrack", true),
        ("/usr/sbin/conntrack", true),
        ("./conntrack", true),
        (".conntrack-wrapped", true),
        ("/nix/store/abc-conntrack-tools/bin/.conntrack-wrapped", true),
        ("flowgate", false),
        ("/usr/bin/flowgate", false),
        (".flowgate-wrapped", false),
        ("conntrackd", false),
        ("/proc/self/fd/4", false),
    ] {
        assert_eq!(is_conntrack(&called(name, None).run(&["-L", "-x"])), conntrack, "{name}");
        assert!(is_conntrack(&called(name, Some("conntrack")).run(&["-L", "-x"])), "{name}");
        assert!(!is_conntrack(&called(name, Some("flowgate")).run(&["-L", "-x"])), "{name}");
        assert_eq!(is_conntrack(&called(name, Some("")).run(&["-L", "-x"])), conntrack, "{name}");
    }
}

#[test]
fn case_12_another_name_in_the_variable_is_an_error() {
    let outcome = called("flowgate", Some("iptables")).run(&["-C"]);
    assert_eq!((outcome.status, outcome.stdout.len()), (2, 0));
    let errors = outcome.errors();
    assert!(errors.contains("FLOWGATE_AS is `iptables'; it takes conntrack or flowgate"), "{errors}");
}

#[test]
fn case_11_messages_of_every_kind_begin_with_the_banner() {
    Namespace::run(|namespace| {
        let path = namespace.directory().join("conntrack");
        symlink(flowgate().path, &path).unwrap();
        let flow = "-p udp -s 192.0.2.1 -d 198.51.100.1 --sport 4000 --dport 53";
        for (program, banner) in [(Program::new(&path), CONNTRACK), (flowgate(), "flowgate: ")] {
            for (line, message) in [
                (format!("-I -t 600 {flow}"), "1 flow entries have been created.\n"),
                ("-L".to_owned(), "1 flow entries have been shown.\n"),
                ("-U -s 192.0.2.1 -m 5".to_owned(), "1 flow entries have been updated.\n"),
                ("-D -m 5".to_owned(), "1 flow entries have been deleted.\n"),
                ("-D -p udp".to_owned(), "0 flow entries have been deleted.\n"),
                ("-F".to_owned(), "connection tracking table has been emptied.\n"),
                ("-L expect".to_owned(), "0 expectations have been shown.\n"),
                (format!("-G {flow}"), "Operation failed: such conntrack doesn't exist\n"),
            ] {
                let outcome = program.run(&line.split(' ').collect::<Vec<_>>());
                assert_eq!(outcome.errors(), format!("{banner}{message}"), "{line}");
            }
        }
    });
}

#[test]
fn the_version_is_that_of_conntrack_and_then_of_flowgate() {
    let own = format!("flowgate {}", env!("CARGO_PKG_VERSION"));
    for name in ["conntrack", "flowgate"] {
        let text = called(name, None).must(&["-V"]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, ["conntrack v1.4.9 (conntrack-tools)", &own], "{name}");
    }
}

/// A release tool executes a binary that it has opened and checked by its descriptor.
#[test]
fn case_12_a_descriptor_has_no_name_but_the_variable_gives_one() {
    let program = flowgate();
    let run = |variable: &[(&str, &str)]| {
        let script = "exec 4<\"$0\"; exec /proc/self/fd/4 -L -x";
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(&program.path).envs(variable.iter().copied());
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, errors) = run(&[]);
    assert!(status == Some(2) && errors.starts_with("flowgate: unknown option `-x'\n"), "{errors}");
    let (status, errors) = run(&[("FLOWGATE_AS", "conntrack")]);
    assert!(status == Some(2) && errors.starts_with(&format!("{CONNTRACK}unknown option `-x'\n")), "{errors}");
}

#[test]
fn case_12_a_wrapper_and_a_link_are_conntrack() {
    Namespace::run(|namespace| {
        for name in ["conntrack", ".conntrack-wrapped", "..conntrack-wrapped-wrapped"] {
            let path: PathBuf = namespace.directory().join(name);
            symlink(flowgate().path, &path).unwrap();
            let outcome = Program::new(&path).run(&["-L", "-o", "json"]);
            assert!(is_conntrack(&outcome) && outcome.status == 2, "{name}: {outcome:?}");
        }
    });
}

/// The patterns of third-party programs: an orchestrator's server, a sandbox daemon, a release tool.
#[test]
fn case_11_patterns_of_others_match() {
    Namespace::run(|_| {
        let outcome = called("conntrack", None).run(&["-D", "-p", "udp"]);
        let errors = outcome.errors();
        let rest = errors.strip_prefix("conntrack v").unwrap();
        let (version, rest) = rest.split_once(' ').unwrap();
        assert!(version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{version}");
        assert_eq!(rest, "(conntrack-tools): 0 flow entries have been deleted.\n");
        assert_eq!(outcome.status, 1);
    });
}

/// Programs parse what conntrack writes, so it is repeated unchanged. Under the program's own name, terminal escapes in
/// what was typed are removed.
#[test]
fn what_was_typed_is_repeated_as_conntrack_does() {
    let words = ["-L", "-p", "u\u{1b}[2Jdp\n"];
    let classic = called("conntrack", None).run(&words).errors();
    assert!(classic.starts_with(&format!("{CONNTRACK}`u\u{1b}[2Jdp\n' unsupported protocol\n")), "{classic:?}");
    let own = called("flowgate", None).run(&words).errors();
    assert!(own.starts_with("flowgate: `u") && !own.contains('\u{1b}') && own.lines().count() == 2, "{own:?}");
}

#[test]
fn case_30_an_unknown_subcommand_gets_a_suggestion() {
    for (words, suggestion) in [
        (&["polcy", "reload"][..], "did you mean `policy`?"),
        (&["replya", "x.pcap"], "did you mean `replay`?"),
        (&["hlep"], "did you mean `help`?"),
        (&["dump"], "the command is `list`, --dump or -L"),
        (&["foo", "-L"], "there are `list`, "),
    ] {
        let outcome = flowgate().run(words);
        let errors = outcome.errors();
        assert_eq!((outcome.status, outcome.stdout.len()), (2, 0), "{words:?}");
        assert!(errors.starts_with("flowgate: there is no subcommand `") && errors.contains(suggestion), "{errors}");
        assert!(errors.lines().count() <= 2, "{errors}");
    }
    let outcome = flowgate().run(&["policy", "relod"]);
    assert!(outcome.status == 2 && outcome.errors().contains("'reload'"), "{outcome:?}");
    assert!(outcome.errors().lines().count() < 10, "{}", outcome.errors());
}
