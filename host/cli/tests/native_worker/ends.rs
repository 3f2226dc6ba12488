//! How workers end, and what real ones have.

use std::{env, fs, os::unix::fs::MetadataExt as _};

use flowgate_test_support::{Namespace, Program, entries};

use super::serving::{NEIGHBOUR, Serving, Start, Tenant, flow, load, neighbour, write};

/// Returns a field of the status of a process or thread.
pub(crate) fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name}: {status}")).trim().to_owned()
}

// #[test], run by `main`: tests/it/architecture/promises.rs looks for this attribute.
pub(crate) fn a_worker_has_nothing() {
    a_worker_of(Start::default(), true);
    a_worker_of(Start { keys: "worker-uids = \"none\"", ..Start::default() }, false);
}

/// Looks at a worker, which may have a user of its own.
fn a_worker_of(start: Start<'_>, own_user: bool) {
    Namespace::run(|namespace| {
        let plugin = "limits = { memory = \"16MiB\", output = \"1MiB\", state = \"64KiB\" }";
        let serving = Serving::start_as(namespace, &[Tenant { plugin, ..neighbour() }], start);
        load(namespace, NEIGHBOUR, 1..=10);
        serving.neighbour_sees(1..=10);
        let workers = serving.workers();
        assert_eq!(workers.len(), 1, "{workers:?}");
        let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", workers[0])).unwrap();
        let own = fs::read_to_string("/proc/self/status").unwrap();
        let filters: u32 = field(&own, "Seccomp_filters").parse().unwrap();
        let mut threads = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", workers[0])).unwrap() {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(field(&status, set), "0000000000000000", "{set}");
            }
            assert_eq!((field(&status, "NoNewPrivs"), field(&status, "Seccomp")), ("1".into(), "2".into()));
            // One for loading code, and one for running it.
            assert_eq!(field(&status, "Seccomp_filters"), (filters + 2).to_string(), "{status}");
            let identities: Vec<String> = ["Uid", "Gid"].map(|name| field(&status, name)).into();
            for numbers in &identities {
                let numbers: Vec<u32> = numbers.split_whitespace().map(|number| number.parse().unwrap()).collect();
                assert!(numbers.iter().all(|number| *number == numbers[0]), "{status}");
                assert_eq!(own_user, (524_288..=525_287).contains(&numbers[0]), "{status}");
            }
            assert_eq!(identities[0], identities[1]);
            assert!(!own_user || field(&status, "Groups").is_empty(), "{status}");
            threads += 1;
        }
        // The pipeline and the clock.
        assert_eq!(threads, 2);
        let entries = fs::read_dir(format!("/proc/{}/fd", workers[0])).unwrap();
        let mut open: Vec<(i32, String)> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                let target = fs::read_link(entry.path()).unwrap().display().to_string();
                (entry.file_name().to_str().unwrap().parse().unwrap(), target)
            })
            .collect();
        open.sort();
        // Standard streams redirected to nowhere, and the two channels.
        assert_eq!(open.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3, 4], "{open:?}");
        assert!(open[..3].iter().all(|(_, target)| target == "/dev/null"), "{open:?}");
        assert!(open[3..].iter().all(|(_, target)| target.starts_with("socket:")), "{open:?}");
        assert_eq!(read("environ"), "");
        assert_eq!(read("oom_score_adj").trim(), "500");
        // Not dumpable: its files in /proc belong to root whatever its user is, and only root reads its memory.
        assert_eq!(fs::metadata(format!("/proc/{}/mem", workers[0])).unwrap().uid(), 0);
        let limits = read("limits");
        let limit = |name: &str| -> u64 {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.split_whitespace().next().unwrap().parse().unwrap_or(u64::MAX)
        };
        for (name, value) in [
            ("Max open files", 1),
            ("Max processes", 0),
            ("Max file size", 0),
            ("Max core file size", 0),
            ("Max locked memory", 0),
        ] {
            assert_eq!(limit(name), value, "{limits}");
        }
        // The program's own 48 MiB, the plugin's memory and output, its memory twice, its state twice; and twice the
        // code, which is below 4 MiB.
        let least = (48 << 20) + (17 << 20) + (32 << 20) + (128 << 10);
        assert!((least..least + (8 << 20)).contains(&limit("Max data size")), "{limits}");
        assert!(limit("Max address space") < 128 << 30, "{limits}");
        let status = serving.ask(&["status"]).text();
        let isolation = status.lines().last().unwrap();
        let separated = if own_user { "isolation: uid, pidns, " } else { "isolation: pidns, " };
        assert!(isolation.starts_with(separated), "{status}");
        // The process that the operator sees, which is another one in its own namespace.
        assert!(status.contains(&format!(", process {}\n", workers[0])), "{status}");
        let identities = field(&read("status"), "NSpid");
        assert_eq!(identities.split_whitespace().count(), 2, "{identities}");
        serving.end();
    });
}

/// Returns a hostile tenant of zone 8 that is not started again.
fn once(act: &str) -> Tenant<'_> {
    Tenant { name: "red", zone: 8, act, plugin: "on-error = \"stop\"", ..Tenant::default() }
}

// #[test], run by `main`.
pub(crate) fn who_does_not_read_has_a_gap() {
    Namespace::run(|namespace| {
        let hostile = Tenant { share: "queue = \"64KiB\"", ..once("deaf") };
        let serving = Serving::start(namespace, &[neighbour(), hostile]);
        load(namespace, NEIGHBOUR, 1..=500);
        serving.neighbour_sees(1..=500);
        let before = serving.background.peak().unwrap();
        // More than its queue and its channel hold.
        for part in 0..30u16 {
            load(namespace, 8, 1 + 500 * part..=500 * (part + 1));
            load(namespace, NEIGHBOUR, 1000 + 10 * part..1010 + 10 * part);
        }
        serving.neighbour_sees(1000..1300);
        serving.until("it has a gap", || serving.status("red")["lost"].as_u64().unwrap() > 0);
        let status = serving.status("red");
        assert!(status["gaps"].as_u64().unwrap() > 0 && status["waiting"].as_u64().unwrap() <= 64 << 10, "{status}");
        let grown = serving.background.peak().unwrap().saturating_sub(before);
        assert!(grown < 2048, "{grown} KiB more");
        let reason = serving.reason("red", "ended");
        assert!(reason.contains("its worker has ended: it has not answered for 30s"), "{reason}");
        load(namespace, NEIGHBOUR, 2000..2010);
        serving.neighbour_sees(2000..2010);
        serving.end();
    });
}

// #[test], run by `main`.
pub(crate) fn restarts_back_off_and_stop() {
    Namespace::run(|namespace| {
        let plugin = "limits = { restarts = 4, window = \"1h\" }";
        let hostile = Tenant { plugin, ..once("exit") };
        let serving = Serving::start(namespace, &[neighbour(), hostile]);
        let reason = serving.reason("red", "ended");
        assert_eq!(reason, "its worker has ended: exit status 0");
        let ends = serving.audited("red", "action", "worker-ended");
        assert!(ends.iter().all(|end| end["reason"] == "exit status 0"), "{ends:#?}");
        let times: Vec<u64> = ends.iter().map(|end| end["time"].as_u64().unwrap()).collect();
        let pauses: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).collect();
        // The first follows at once.
        assert!(pauses.len() == 3 && pauses[1] >= 100 && pauses[2] >= 200, "{pauses:?}");
        assert_eq!(serving.errors().matches("it is started again").count(), 3);
        load(namespace, NEIGHBOUR, 1..=10);
        serving.neighbour_sees(1..=10);
        serving.end();
    });
}

// #[test], run by `main`.
pub(crate) fn a_memory_bomb_ends_itself() {
    Namespace::run(|namespace| {
        let plugin = "on-error = \"stop\"\nlimits = { memory = \"16MiB\", output = \"1MiB\" }";
        let serving = Serving::start(namespace, &[neighbour(), Tenant { plugin, ..once("bomb") }]);
        load(namespace, NEIGHBOUR, 1..=100);
        serving.neighbour_sees(1..=100);
        let before = serving.background.peak().unwrap();
        entries::insert(namespace, &flow(8, 1));
        assert_eq!(serving.reason("red", "ended"), "its worker has ended: it had no more memory");
        load(namespace, NEIGHBOUR, 200..300);
        serving.neighbour_sees(200..300);
        let grown = serving.background.peak().unwrap().saturating_sub(before);
        assert!(grown <= 1024, "{grown} KiB more");
        serving.end();
    });
}

// #[test], run by `main`.
pub(crate) fn loops_in_every_place() {
    Namespace::run(|namespace| {
        let plugin = "on-error = \"stop\"\nlimits = { call = \"100ms\", start-up = \"100ms\" }";
        let loops = [("start", "start-spin"), ("begin", "spin"), ("batch", "event-spin")];
        let hostile =
            loops.iter().zip(100..).map(|((name, act), zone)| Tenant { name, zone, act, plugin, ..Tenant::default() });
        let serving = Serving::start(namespace, &hostile.chain([neighbour()]).collect::<Vec<_>>());
        let reason = serving.reason("start", "ended");
        assert!(reason.contains("its plugins did not start within 4.1s"), "{reason}");
        for (zone, (name, _)) in (100..).zip(loops).skip(1) {
            entries::insert(namespace, &flow(zone, 1));
            let reason = serving.reason(name, "ended");
            assert!(reason.contains("it did not process an event within 2.2s of CPU time"), "{name}: {reason}");
        }
        load(namespace, NEIGHBOUR, 1..=100);
        serving.neighbour_sees(1..=100);
        serving.end();
    });
}

/// `policy check` starts plugins in workers, too: native code in one has nothing, and its end has a name.
// #[test], run by `main`.
pub(crate) fn what_is_only_checked_gets_no_further() {
    Namespace::run(|namespace| {
        let plugin = "limits = { start-up = \"100ms\" }";
        let acts = [
            ("netlink", "attack a socket of netlink", "SIGSYS: it made a system call that no worker makes"),
            ("shell", "attack a program", "SIGSYS: it made a system call that no worker makes"),
            ("spin", "start-spin", "the worker has not finished within 4.1s of CPU time"),
            ("flood", "start-flood", "the worker has not finished within 4.1s of CPU time"),
            ("early", "early", "the worker sent what is no grant"),
        ];
        let hostile = acts.iter().zip(100..).map(|((name, act, _), zone)| Tenant {
            name,
            zone,
            act,
            plugin,
            ..Tenant::default()
        });
        write(namespace, &hostile.chain([neighbour()]).collect::<Vec<_>>());
        let path = namespace.directory().join("policy.toml").display().to_string();
        let program = Program::new(env::current_exe().unwrap()).called("flowgate");
        let outcome = program.run(&["policy", "check", &path]);
        assert_eq!(outcome.status, 1, "{}", outcome.errors());
        for (name, _, why) in acts {
            let line = fs::read_to_string(&path)
                .unwrap()
                .lines()
                .position(|line| line == format!("name = \"{name}\""))
                .unwrap();
            // The place is that of the tenant, in the line before its name.
            let wanted = format!("policy.toml:{line}:1: ");
            let reported = outcome.errors();
            assert!(
                reported.lines().any(|reported| reported.contains(&wanted) && reported.contains(why)),
                "{name} {wanted}: {reported}"
            );
        }
        assert_eq!(outcome.errors().matches(":1: the worker ").count(), acts.len(), "{}", outcome.errors());
        write(namespace, &[neighbour()]);
        let outcome = program.run(&["policy", "check", &path]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
    });
}
