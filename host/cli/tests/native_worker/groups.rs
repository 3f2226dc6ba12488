//! Workers of tenants that are paused, and workers in control groups, where the machine has these.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use flowgate_isolation::cgroup::OwnGroup;
use flowgate_test_support::{Namespace, Program, entries};
use serde_json::Value;

use super::{
    outlive::stat,
    serving::{NEIGHBOUR, Serving, Start, Tenant, flow, load, neighbour},
};

/// A control group for a service, which is removed when the test ends.
struct ServiceGroup(PathBuf);

impl ServiceGroup {
    /// Makes a group in that of the tests; `None` if there can be none.
    fn make() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = OwnGroup::find().ok()?.path.join(format!("flowgate-test-{}-{number}", process::id()));
        fs::create_dir(&path).ok()?;
        Some(ServiceGroup(path))
    }

    /// Returns the script that enters the group and executes its arguments.
    fn script(&self) -> String {
        format!("echo 0 > '{}/cgroup.procs' && exec \"$@\"", self.0.display())
    }

    /// Returns the groups of processes in it.
    fn groups(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir() && !path.ends_with("keeper")).collect()
    }
}

impl Drop for ServiceGroup {
    fn drop(&mut self) {
        for path in [self.0.join("keeper"), self.0.clone()] {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Returns what the doctor says about control groups, in a group of its own if there is one.
fn doctor(group: Option<&ServiceGroup>) -> String {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("flowgate");
    fs::hard_link(std::env::current_exe().unwrap(), &program)
        .or_else(|_| fs::copy(std::env::current_exe().unwrap(), &program).map(|_| ()))
        .unwrap();
    let words = [program.to_str().unwrap(), "doctor", "--json"];
    let outcome = match group {
        Some(group) => Program::new("sh").run(&[&["-c", &group.script(), "sh"][..], &words].concat()),
        None => Program::new(&program).run(&words[1..]),
    };
    let text = outcome.text();
    let findings = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let finding = findings.into_iter().find(|finding| finding["check"] == "workers.cgroup");
    finding.unwrap_or_else(|| panic!("{text}"))["text"].as_str().unwrap().to_owned()
}

/// CPU time of a process in ticks.
fn ticks(process: i32) -> u64 {
    stat(process).unwrap()[11].parse().unwrap()
}

/// The worker of a paused tenant stands still, in its control group if it has one, and is neither taken for one that
/// does not answer nor in the way of the service's end.
// #[test], run by `main`: tests/it/architecture/promises.rs looks for this attribute.
pub(crate) fn a_paused_worker_stands_still() {
    stands_still(None);
    match ServiceGroup::make() {
        Some(group) => stands_still(Some(&group)),
        None => assert!(doctor(None).contains("get no cgroup"), "{}", doctor(None)),
    }
}

fn stands_still(group: Option<&ServiceGroup>) {
    Namespace::run(|namespace| {
        let script = group.map(ServiceGroup::script).unwrap_or_default();
        let by: &[&str] = if group.is_some() { &["sh", "-c", &script, "sh"] } else { &[] };
        let hostile = Tenant { name: "red", zone: 8, act: "spin", ..Tenant::default() };
        let serving = Serving::start_as(namespace, &[neighbour(), hostile], Start { by, ..Start::default() });
        let status = serving.ask(&["status"]).text();
        assert_eq!(status.lines().last().unwrap().contains(", cgroup"), group.is_some(), "{status}");
        assert_eq!(group.map(|group| group.groups().len()), group.map(|_| 2));
        let worker = i32::try_from(serving.status("red")["worker"]["process"].as_i64().unwrap()).unwrap();
        assert!(serving.workers().contains(&worker), "{worker}");
        let runs = |more: u64| {
            let before = ticks(worker);
            serving.until("it runs", || ticks(worker) >= before + more);
        };
        let own_group = |worker: i32| {
            let groups = fs::read_to_string(format!("/proc/{worker}/cgroup")).unwrap();
            let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned();
            group.unwrap().0.join(Path::new(&own).file_name().unwrap())
        };
        let stands = || match group {
            Some(_) => fs::read_to_string(own_group(worker).join("cgroup.events")).unwrap().contains("frozen 1"),
            None => stat(worker).unwrap()[0] == "T",
        };
        runs(5);
        assert_eq!(serving.ask(&["pause", "red"]).status, 0);
        serving.until("it stands still", stands);
        let before = ticks(worker);
        load(namespace, NEIGHBOUR, 1..=200);
        serving.neighbour_sees(1..=200);
        assert_eq!(ticks(worker), before);
        assert_eq!(serving.ask(&["resume", "red"]).status, 0);
        serving.until("it goes on", || !stands());
        runs(5);
        assert_eq!(serving.ask(&["pause", "red"]).status, 0);
        serving.until("it stands still again", stands);
        assert_eq!(serving.ask(&["quarantine", "red"]).status, 0);
        serving.until("it can be killed", || stat(worker).is_none());
        serving.end();
        if let Some(group) = group {
            assert_eq!(group.groups(), Vec::<PathBuf>::new(), "they have been removed");
        }
    });
}

/// A control group limits memory of all kinds, and the reason says so, where it has the controller; where it has none,
/// the doctor says so.
// #[test], run by `main`.
pub(crate) fn a_memory_bomb_in_a_cgroup_ends_itself() {
    let Some(group) = ServiceGroup::make() else {
        assert!(doctor(None).contains("get no cgroup"), "{}", doctor(None));
        return;
    };
    let has_memory = OwnGroup::find().is_ok_and(|own| {
        let passed_on = fs::read_to_string(own.path.join("cgroup.subtree_control")).unwrap_or_default();
        passed_on.split_whitespace().any(|name| name == "memory")
    });
    let said = doctor(Some(&group));
    assert_eq!(!said.contains("without a limit of memory"), has_memory, "{said}");
    if !has_memory {
        assert!(said.contains("get a cgroup each, in "), "{said}");
        return;
    }
    Namespace::run(|namespace| {
        let script = group.script();
        let hostile = Tenant { name: "red", zone: 8, act: "bomb", plugin: "on-error = \"stop\"", ..Tenant::default() };
        let start = Start { by: &["sh", "-c", &script, "sh"], ..Start::default() };
        let serving = Serving::start_as(namespace, &[neighbour(), hostile], start);
        let worker = serving.status("red")["worker"]["process"].as_i64().unwrap();
        let groups = fs::read_to_string(format!("/proc/{worker}/cgroup")).unwrap();
        let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned();
        let own = group.0.join(Path::new(&own).file_name().unwrap());
        // Less than the process may have by its other limits, which would be reached first.
        fs::write(own.join("memory.max"), "64M").unwrap();
        entries::insert(namespace, &flow(8, 1));
        let reason = serving.reason("red", "ended");
        assert!(reason.contains("out of memory (cgroup)") && reason.contains("raise `memory`"), "{reason}");
        load(namespace, NEIGHBOUR, 200..300);
        serving.neighbour_sees(200..300);
        serving.end();
    });
}
