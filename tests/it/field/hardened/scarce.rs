//! A limit of one task, few descriptors, little memory.

use std::{fs, path::PathBuf, process::Command};

use flowgate_test_support::{Namespace, entries};

use super::{behind, built, capabilities::unprivileged, classic_commands_work, events_are_seen, in_good_order, run};
use crate::field::flowgate;

/// One task by RLIMIT_NPROC, which applies to users without privileges.
#[test]
fn case_33_one_process_of_the_user() {
    Namespace::run(|namespace| {
        let copy = flowgate().copied_to(namespace.directory()).path;
        let mut words = unprivileged("net_admin");
        words.extend(["prlimit".into(), "--nproc=1".into()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let start = behind(&words, &copy);
        classic_commands_work(&start);
        events_are_seen(namespace, &start);
    });
}

/// A cgroup limited to one task; removed when this is dropped.
struct Group(PathBuf);

impl Group {
    /// Returns `None` where no cgroup can be created.
    fn of_one_task() -> Option<Self> {
        let name = format!("flowgate-test-{}", std::process::id());
        ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"].iter().find_map(|root| {
            let group = Group(PathBuf::from(root).join(&name));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join("pids.max"), "1").ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// One task by the limit of a cgroup, as TasksMax= sets it; by RLIMIT_NPROC where cgroups are not available.
#[test]
fn case_33_one_task_of_the_unit() {
    let Some(group) = Group::of_one_task() else { return case_33_one_process_of_the_user() };
    Namespace::run(|namespace| {
        let script = format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", group.0.display());
        let start = behind(&["sh", "-c", &script], &built());
        // Commands run one after the other, since the group has room for one task.
        classic_commands_work(&start);
        events_are_seen(namespace, &start);
        let doctor = run(start(&["doctor"]), b"");
        in_good_order("doctor", &doctor);
        assert!(doctor.text().contains("no thread can be started"), "{}", doctor.text());
    });
}

#[test]
fn case_33_five_descriptors_are_enough() {
    Namespace::run(|namespace| {
        let start = behind(&["prlimit", "--nofile=5"], &built());
        classic_commands_work(&start);
        events_are_seen(namespace, &start);
    });
}

#[test]
fn case_33_with_fewer_descriptors_it_says_so() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        for most in 0..8 {
            let start = behind(&["prlimit", &format!("--nofile={most}")], &built());
            for line in
                ["-L", "-C", "-S", "-U -m 3", "-D -m 4", "-V", "-L -o xml", "-L expect", "-R /etc/hostname", "doctor"]
            {
                let outcome = run(start(&line.split_whitespace().collect::<Vec<_>>()), b"");
                // With fewer than three descriptors, prlimit and the loader cannot start the program.
                if outcome.status != 127 {
                    in_good_order(&format!("{line} with {most} descriptors"), &outcome);
                }
            }
        }
    });
}

/// From no memory to enough, in small steps: at each step the command works, or fails in an orderly way.
#[test]
fn case_33_little_memory_is_no_reason_to_panic() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        let limited = |limit: &str, size: u64, line: &str| {
            let start = behind(&["prlimit", &format!("{limit}={size}")], &built());
            let command: Command = start(&line.split_whitespace().collect::<Vec<_>>());
            let outcome = run(command, b"");
            // 127: there is not enough memory for the loader. 139: nor for the kernel to map the whole program, tens of
            // megabytes.
            let started = outcome.status != 127 && !(outcome.status == 139 && size < 80 << 20);
            if started {
                in_good_order(&format!("{line} with {limit}={size}"), &outcome);
            }
            outcome.status == 0
        };
        for line in ["-L", "-C", "-L -o xml"] {
            let worked: Vec<bool> = (1..=40).map(|step| limited("--data", step << 19, line)).collect();
            assert!(worked.last() == Some(&true), "{line} works with 20 MiB of data");
            for step in 1..=60 {
                limited("--as", step << 21, line);
            }
        }
    });
}
