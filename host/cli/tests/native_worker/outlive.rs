//! What ends the service, or what starts its processes, ends all of them.

use std::{fs, time::Instant};

use flowgate_test_support::{AS_NOBODY_WITH_NET_ADMIN, NOBODY, Namespace, Program, until, until_or_explain};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    ends::field,
    serving::{Serving, Start, Tenant, children},
};

/// Fields of `/proc/PID/stat` from the state on; `None` if there is no such process.
pub(crate) fn stat(process: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(text.rsplit(')').next()?.split_whitespace().map(str::to_owned).collect())
}

/// A process by its number and the time of its start, which tells it from another one with its number.
type Process = (i32, String);

fn identified(process: i32) -> Process {
    (process, stat(process).expect("it runs")[19].clone())
}

/// Returns true if the process has not ended.
fn runs((process, start): &Process) -> bool {
    stat(*process).is_some_and(|fields| fields[19] == *start && fields[0] != "Z" && fields[0] != "X")
}

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Keeper,
    Spawner,
    Both,
}

/// SIGKILL of the service, of what starts its processes, or of both ends workers that loop and ignore all signals,
/// whether each has a user of its own or not, and whether they are in a PID namespace of their own or not.
// #[test], run by `main`: tests/it/architecture/promises.rs looks for this attribute.
pub(crate) fn nobody_outlives_the_keeper() {
    let ways = [
        ("root, with users", Start::default()),
        (
            "root, with users, without a PID namespace",
            Start { by: &["setpriv", "--bounding-set=-sys_admin"], ..Start::default() },
        ),
        ("root, without users", Start { keys: "worker-uids = \"none\"", ..Start::default() }),
        ("another user", Start { by: &AS_NOBODY_WITH_NET_ADMIN, ..Start::default() }),
    ];
    for (way, start) in ways {
        for victim in [Victim::Keeper, Victim::Spawner, Victim::Both] {
            Namespace::run(|namespace| outlive(namespace, start, victim, &format!("{way}, {victim:?} killed")));
        }
    }
}

fn outlive(namespace: &Namespace, start: Start<'_>, victim: Victim, what: &str) {
    if start.by.contains(&NOBODY) {
        Program::new("chown").must(&["-R", NOBODY, namespace.directory().to_str().unwrap()]);
    }
    let tenants =
        ["red", "blue"].map(|name| Tenant { name, zone: name.len() as u16, act: "stubborn", ..Tenant::default() });
    let mut serving = Serving::start_as(namespace, &tenants, start);
    let workers: Vec<Process> = serving.workers().into_iter().map(identified).collect();
    assert_eq!(workers.len(), 2, "{what}");
    for (worker, _) in &workers {
        // A tenth of a second of CPU time: it loops.
        let used = || stat(*worker).is_some_and(|fields| fields[11].parse::<u64>().unwrap() >= 10);
        until_or_explain(&format!("{what}: it loops"), used, || serving.errors());
        let score = fs::read_to_string(format!("/proc/{worker}/oom_score_adj")).unwrap();
        assert_eq!(score.trim(), "500", "{what}");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", workers[0].0)).unwrap();
    // In each PID namespace it has another number.
    let numbers = field(&status, "NSpid").split_whitespace().count();
    assert_eq!(numbers, if start.by.is_empty() { 2 } else { 1 }, "{what}: {status}");
    let keeper = serving.background.process();
    let spawner = identified(*children(keeper.as_raw()).first().expect("it has started a process"));
    if victim != Victim::Spawner {
        serving.background.signal(Signal::SIGKILL);
    }
    if victim != Victim::Keeper {
        kill(Pid::from_raw(spawner.0), Signal::SIGKILL).unwrap();
    }
    let begun = Instant::now();
    until(&format!("{what}: all have ended"), || !workers.iter().chain([&spawner]).any(runs));
    println!("{what}: all have ended after {:?}", begun.elapsed());
    let outcome = serving.background.end();
    let expected = if victim == Victim::Spawner { 1 } else { 128 + 9 };
    assert_eq!(outcome.status, expected, "{what}: {}", outcome.errors());
}
