//! Users of workers: a range of which each process has one, or a reason why not.

use std::{collections::BTreeSet, fs};

use flowgate_test_support::Namespace;

use super::{
    ends::field,
    serving::{NEIGHBOUR, Serving, Start, Tenant, children, load, neighbour},
};

/// Returns the user of a process.
fn user(process: i32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    field(&status, "Uid").split_whitespace().next().unwrap().parse().unwrap()
}

/// With a range that is too small for all workers and compilers, those that find no user say so, and the others run. A
/// user who has another process is not taken.
// #[test], run by `main`: tests/it/architecture/promises.rs looks for this attribute.
pub(crate) fn users_can_run_out() {
    Namespace::run(|namespace| {
        let other = |name, zone| Tenant { name, zone, ..Tenant::default() };
        let tenants = [neighbour(), other("red", 8), other("green", 9)];
        // Not those of another run of this test.
        let first = 1_000_000 + 4 * std::process::id();
        let range = format!("{first}-{}", first + 1);
        let keys = format!("worker-uids = \"{range}\"");
        let serving = Serving::start_as(namespace, &tenants, Start { keys: &keys, ..Start::default() });
        let workers = serving.workers();
        let users: BTreeSet<u32> = workers.iter().copied().map(user).collect();
        assert!(
            users.len() == workers.len() && users.iter().all(|user| (first..=first + 1).contains(user)),
            "{users:?}"
        );
        let states: Vec<_> = tenants.iter().map(|tenant| serving.status(tenant.name)).collect();
        let (run, ended): (Vec<_>, Vec<_>) = states.iter().partition(|status| status["state"] == "running");
        assert!(run.len() == workers.len() && !ended.is_empty(), "{states:#?}");
        let what =
            format!("`worker-uids`: each of its 2 users ({range}) has a process already, and a larger range is needed");
        for status in ended {
            assert!(status["reason"].as_str().unwrap().contains(&what), "{status}");
        }
        // What starts them has the capabilities for this, and no other one.
        let spawner = children(serving.background.process().as_raw());
        assert_eq!(spawner.len(), 1, "{spawner:?}");
        let status = fs::read_to_string(format!("/proc/{}/status", spawner[0])).unwrap();
        for set in ["CapPrm", "CapEff"] {
            // CAP_KILL, CAP_SETGID and CAP_SETUID.
            assert_eq!(field(&status, set), "00000000000000e0", "{set}");
        }
        for set in ["CapInh", "CapBnd", "CapAmb"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), "1");

        // The same range in another service, which sees these processes.
        Namespace::run(|namespace| {
            let taken = *users.last().unwrap();
            let keys = format!("worker-uids = \"{taken}-{}\"", taken + 1);
            let serving = Serving::start_as(namespace, &[neighbour()], Start { keys: &keys, ..Start::default() });
            assert_eq!(serving.workers().into_iter().map(user).collect::<Vec<_>>(), [taken + 1]);
            load(namespace, NEIGHBOUR, 1..=10);
            serving.neighbour_sees(1..=10);
            serving.end();
        });
        serving.end();
    });
}

/// A range that the policy names and that processes cannot have is a reason not to start. Without one the service does
/// without, and says why if it is not by intention.
// #[test], run by `main`.
pub(crate) fn users_are_had_or_the_reason_is_told() {
    let without_capability: &[&str] = &["setpriv", "--bounding-set=-setuid"];
    let in_user_namespace: &[&str] = &["unshare", "--user", "--map-root-user", "--net"];
    for (by, why) in [
        (without_capability, "it takes the capabilities CAP_SETUID, CAP_SETGID and CAP_KILL, which root has"),
        (in_user_namespace, "user 524288: cannot leave all groups: Operation not permitted"),
    ] {
        Namespace::run(|namespace| {
            let keys = "worker-uids = \"524288-525287\"";
            let mut serving = Serving::launch(namespace, &[neighbour()], Start { keys, by });
            let outcome = serving.background.end();
            let refusal = format!(
                "workers cannot have the users 524288-525287 of `worker-uids`: {why}; start the service as root, name \
                 other users, or remove the key\n"
            );
            assert!(outcome.status == 1 && outcome.errors().ends_with(&refusal), "{}", outcome.errors());
        });
        Namespace::run(|namespace| {
            let serving = Serving::start_as(namespace, &[neighbour()], Start { by, ..Start::default() });
            let note = format!("NOTE: workers have the user of the service, not 524288-525287: {why}\n");
            // Who takes the capabilities away wants it so.
            assert_eq!(serving.errors().contains(&note), by == in_user_namespace, "{}", serving.errors());
            assert!(serving.workers().into_iter().all(|worker| user(worker) == 0));
            let status = serving.ask(&["status"]).text();
            assert!(status.lines().last().unwrap().starts_with("isolation: pidns, landlock"), "{status}");
            serving.end();
        });
    }
}
