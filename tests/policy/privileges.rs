//! What the service gave up before it started.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{Serving, policy};
use caps::Capability;
use flowgate_test_support::{Namespace, Program};

/// A tenant that looks on, with more keys.
fn tenant(keys: &str) -> String {
    format!("[[tenant]]\nname = 'one'\n{keys}\n[[tenant.scope]]\neverything = true\n[[tenant.plugin]]\nPLUGIN\n")
}

/// What the threads of a process have of something: one element if all have the same.
fn of_threads(serving: &Serving, field: &str) -> BTreeSet<String> {
    let tasks = Path::new("/proc").join(serving.child.id().to_string()).join("task");
    let threads: Vec<_> = fs::read_dir(tasks).unwrap().flatten().collect();
    assert!(threads.len() > 3, "the threads of signals, of events, of the clock and of the tenant");
    let status = |path: &Path| fs::read_to_string(path.join("status")).unwrap();
    let value = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix(field).map(str::to_string));
        line.unwrap().trim_start_matches(':').trim().to_string()
    };
    threads.iter().map(|thread| value(status(&thread.path()))).collect()
}

fn only(capabilities: &[Capability]) -> BTreeSet<String> {
    let bits: u64 = capabilities.iter().map(|capability| 1 << capability.index()).sum();
    BTreeSet::from([format!("{bits:016x}")])
}

#[test]
fn every_thread_has_one_capability_and_a_filter() {
    Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &tenant(""));
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(of_threads(&serving, set), only(&[Capability::CAP_NET_ADMIN]), "{set}");
        }
        assert_eq!(of_threads(&serving, "NoNewPrivs"), BTreeSet::from(["1".into()]));
        assert_eq!(of_threads(&serving, "Seccomp"), BTreeSet::from(["2".into()]));
        serving.end();
    });
}

#[test]
fn namespaces_cost_a_capability_that_cannot_be_had_later() {
    Namespace::run(|namespace| {
        // A /run of the test's own, so that the names of the host are neither seen nor touched.
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        namespace.ip("netns add inner");
        let elsewhere = tenant("namespace = 'inner'");
        let serving = Serving::start(namespace, &tenant(""));
        policy(namespace, &elsewhere);
        let told = serving.ask(&["reload"]);
        assert_eq!(told.status, 1, "{}", told.errors());
        assert!(told.errors().contains("has given it up: restart it"), "{}", told.errors());
        assert!(serving.errors().contains("generation 1 goes on"), "{}", serving.errors());
        serving.end();

        let serving = Serving::start(namespace, &elsewhere);
        let kept = [Capability::CAP_NET_ADMIN, Capability::CAP_SYS_ADMIN, Capability::CAP_NET_BROADCAST];
        assert_eq!(of_threads(&serving, "CapEff"), only(&kept));
        serving.end();
    });
}
