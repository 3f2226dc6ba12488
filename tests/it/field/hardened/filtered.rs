//! With a system-call filter that kills, as created by `SystemCallFilter=@system-service` and
//! `SystemCallFilter=~@privileged ~@resources` of a unit.
#![allow(unsafe_code, reason = "a filter is installed between fork and exec")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::unix::process::CommandExt as _,
    process::Command,
};

use flowgate_test_support::{Namespace, Outcome, Program, words};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{behind, built, classic_commands_work, events_are_seen, in_good_order, run};

/// Returns the numbers of system calls on this machine by name.
fn numbers() -> HashMap<String, i64> {
    let text = Program::new("cc").must_with(&["-E", "-dM", "-include", "asm/unistd.h", "-"], b"\n");
    text.lines()
        .filter_map(|line| {
            let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
            Some((name.to_owned(), number.trim().parse().ok()?))
        })
        .collect()
}

/// Collects the names in a set of systemd, including those of nested sets.
fn members(set: &str, names: &mut BTreeSet<String>) {
    let text = Program::new("systemd-analyze").must(&["--no-pager", "syscall-filter", set]);
    for word in text.lines().filter_map(|line| line.strip_prefix("    ")).map(str::trim) {
        match word {
            word if word.starts_with('#') || word.is_empty() => {}
            word if word.starts_with('@') => members(word, names),
            word => drop(names.insert(word.to_owned())),
        }
    }
}

/// Builds a filter: the action `found` for calls that match the rules, and `otherwise` for all others.
fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, found: SeccompAction, otherwise: SeccompAction) -> BpfProgram {
    let machine = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, otherwise, found, machine).unwrap().try_into().unwrap()
}

/// Returns the filter of the unit.
fn of_unit() -> BpfProgram {
    let set = |name: &str| {
        let mut names = BTreeSet::new();
        members(name, &mut names);
        assert!(names.len() > 10, "{name}: {names:?}");
        names
    };
    let (mut allowed, numbers) = (set("@system-service"), numbers());
    for taken in set("@privileged").union(&set("@resources")) {
        allowed.remove(taken);
    }
    assert!(allowed.contains("execve") && allowed.contains("prctl") && !allowed.contains("capset"), "{allowed:?}");
    let rules = allowed.iter().filter_map(|name| Some((*numbers.get(name)?, Vec::new()))).collect();
    filter(rules, SeccompAction::Allow, SeccompAction::KillProcess)
}

/// Returns a filter that applies an action to these calls, and allows all others.
fn without(names: &[&str], action: SeccompAction) -> BpfProgram {
    let numbers = numbers();
    let rules = names.iter().filter_map(|name| Some((*numbers.get(*name)?, Vec::new()))).collect();
    filter(rules, action, SeccompAction::Allow)
}

/// Makes a command install a filter before it is executed.
fn filtered(mut command: Command, filter: &BpfProgram) -> Command {
    let filter = filter.clone();
    // SAFETY: only makes two system calls, on memory that has been allocated before.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&filter).map_err(|_| std::io::Error::last_os_error()));
    }
    command
}

#[test]
fn case_10_commands_of_root_make_no_call_that_a_unit_forbids() {
    let filter = of_unit();
    Namespace::run(|namespace| {
        let start = |words: &[&str]| filtered(behind(&[], &built())(words), &filter);
        classic_commands_work(&start);
        events_are_seen(namespace, &start);
        for line in
            ["doctor", "completions bash", "man", "-L --explain", "record /dev/null -- -L", "top --once --interval 1s"]
        {
            let outcome = run(start(&words(line)), b"");
            assert_eq!(outcome.status, 0, "{line}: {}", outcome.errors());
        }
        let doctor = run(start(&["doctor", "--json"]), b"");
        assert!(doctor.text().contains("system calls are filtered"), "{}", doctor.text());
    });
}

/// If root has only one capability there is nothing to drop, so plugins run as well.
#[test]
fn case_10_plugins_run_where_there_is_nothing_to_give_up() {
    let filter = of_unit();
    let plugin = flowgate_test_support::plugins::built("heavy-tcp").display().to_string();
    Namespace::run(|_| {
        let start = |words: &[&str]| filtered(with_one_capability(behind(&[], &built())(words)), &filter);
        classic_commands_work(&start);
        let flow = "-I -p tcp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 -t 600 --state ESTABLISHED";
        assert_eq!(run(start(&words(flow)), b"").status, 0);
        let listed = run(start(&["-L", "--plugin", &format!("{plugin},bytes=0")]), b"");
        assert_eq!(listed.status, 0, "{}", listed.errors());
        assert!(listed.errors().contains("flow entries have been shown"), "{}", listed.errors());
    });
}

/// Limits a command of root to CAP_NET_ADMIN, as `CapabilityBoundingSet=` does.
fn with_one_capability(mut command: Command) -> Command {
    // SAFETY: only makes system calls.
    unsafe {
        command.pre_exec(|| {
            for capability in caps::runtime::thread_all_supported() {
                if capability != caps::Capability::CAP_NET_ADMIN {
                    caps::drop(None, caps::CapSet::Bounding, capability).map_err(std::io::Error::other)?;
                }
            }
            Ok(())
        });
    }
    command
}

#[test]
fn case_10_a_refusal_is_no_failure() {
    Namespace::run(|namespace| {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let names =
                ["capset", "capget", "setitimer", "prctl", "seccomp", "sched_setaffinity", "prlimit64", "setrlimit"];
            let filter = without(&names, SeccompAction::Errno(errno as u32));
            let start = |words: &[&str]| filtered(behind(&[], &built())(words), &filter);
            classic_commands_work(&start);
            events_are_seen(namespace, &start);
        }
    });
}

/// Threads are created by `clone` and `clone3`: a command that starts one is killed.
#[test]
fn case_33_short_commands_start_no_thread() {
    let filter = without(&["clone", "clone3", "fork", "vfork"], SeccompAction::KillProcess);
    Namespace::run(|_| {
        let start = |line: &str| filtered(behind(&[], &built())(&words(line)), &filter);
        let flow = "-p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2";
        for line in [
            &format!("-I {flow} -t 600") as &str,
            &format!("-A {flow} -t 600 -m 2"),
            &format!("-G {flow}"),
            &format!("-U {flow} -m 3"),
            "-L",
            "-L -o extended,id",
            "-L -o xml",
            "-L -o save",
            "-L -o json",
            "-L -p udp -s 192.0.2.0/24",
            "-L expect",
            "-L dying",
            "-C",
            "-C expect",
            "-S",
            "-V",
            "-h",
            "-D -p udp",
            "-F",
        ] {
            let outcome = run(start(line), b"");
            assert_eq!(outcome.status, 0, "{line}: {}", outcome.errors());
        }
        let outcome =
            run(start("-R -"), b"-A -p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 -t 600\n-D -p udp\n");
        assert_eq!(outcome.status, 0, "-R: {}", outcome.errors());
    });
}

#[test]
fn case_33_where_no_thread_can_be_had_there_is_one() {
    let filter = without(&["clone", "clone3"], SeccompAction::Errno(libc::EAGAIN as u32));
    Namespace::run(|namespace| {
        let start = |words: &[&str]| filtered(behind(&[], &built())(words), &filter);
        classic_commands_work(&start);
        events_are_seen(namespace, &start);
        // The only thread enters another network namespace, and returns.
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        namespace.ip("netns add blue");
        let must = |line: &str| {
            let outcome = run(start(&words(line)), b"");
            in_good_order(line, &outcome);
            assert_eq!(outcome.status, 0, "{line}: {}", outcome.errors());
            outcome.text()
        };
        must("-I --netns blue -p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 -t 600");
        assert_eq!((must("-C --netns blue"), must("-C")), ("1\n".into(), "0\n".into()));
        assert_eq!(must("-L --netns blue").lines().count(), 1);
        assert_eq!(must("-D -p udp --netns blue").lines().count(), 1);
        let doctor = run(start(&["doctor", "--json"]), b"");
        in_good_order("doctor", &doctor);
        assert!(doctor.text().contains("no thread can be started"), "{}", doctor.text());
    });
}

/// Foreign code does not run where it cannot be confined: neither from a command, nor from a line of a file, nor from a
/// tool.
#[test]
fn plugins_are_refused_where_they_cannot_be_confined() {
    let number = numbers()["prctl"];
    let first = |value: u64| {
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).unwrap();
        SeccompRule::new(vec![condition]).unwrap()
    };
    // PR_SET_SECCOMP is 22.
    let rules = BTreeMap::from([(number, vec![first(22)])]);
    let filter = filter(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow);
    let plugin = flowgate_test_support::plugins::built("heavy-tcp").display().to_string();
    Namespace::run(|_| {
        let refused = |words: &[&str], input: &str| -> Outcome {
            let outcome = run(filtered(behind(&[], &built())(words), &filter), input.as_bytes());
            assert_eq!(outcome.status, 1, "{words:?}: {}", outcome.errors());
            outcome
        };
        let line = format!("-D -p tcp --plugin {plugin}\n");
        for outcome in [
            refused(&["-L", "--plugin", &plugin], ""),
            refused(&["-R", "-"], &line),
            refused(&["plugin", "inspect", &plugin], ""),
            refused(&["top", "--once", "--", "--plugin", &plugin], ""),
            refused(&["record", "/dev/null", "--show", "--", "-L", "--plugin", &plugin], ""),
            refused(&["run", "/dev/stdin"], &format!("[source]\nkind = 'dump'\n[[stage]]\nplugin = '{plugin}'\n")),
        ] {
            let output = outcome.errors() + &outcome.text();
            assert!(output.contains("would run with privileges that code of others must not have"), "{output}");
            assert!(output.contains("system calls cannot be limited (seccomp)"), "{output}");
        }
        // A command that needs no confinement works without it.
        assert_eq!(run(filtered(behind(&[], &built())(&["-L"]), &filter), b"").status, 0);
    });
}
