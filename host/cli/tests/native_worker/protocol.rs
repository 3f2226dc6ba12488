//! What a worker sends.

use std::{
    fs,
    time::{Duration, Instant},
};

use flowgate_test_support::{Namespace, entries};

use super::serving::{NEIGHBOUR, Serving, Tenant, flow, load, neighbour};

/// What is sent, and the rule that it breaks.
const GARBAGE: &[(&str, &str)] = &[
    ("random", "that claims to have"),
    ("half", "shorter than a header"),
    ("empty", "it closed its channel"),
    ("length", "that claims to have 17"),
    ("flags", "the flags 0x82"),
    ("sequence", "in the place of"),
    ("long", "a record of 65537 bytes"),
    ("longer", "a record of 150000 bytes"),
    ("unknown", "kind 999"),
    ("owner", "kind 16"),
    ("state", "a report of the start while it runs"),
    ("problem", "a report of the start while it runs"),
    ("more", "kind 37"),
    ("plugin", "the value 7"),
    ("level", "the value 77"),
    ("count", "the value 65535"),
    ("few", "1 bytes with 0 left"),
    ("lie", "50 bytes with 9 left"),
    ("huge", "a field of 4294967295 bytes"),
    ("variant", "the value 9"),
    ("look-ups", "the value 65"),
    ("listing", "the value 2"),
    ("trailing", "1 bytes behind the last field"),
    ("text", "not UTF-8"),
    ("done", "cannot have processed"),
    ("nothing-done", "cannot have processed"),
    ("finished", "the end of events that have not ended"),
    ("health", "the value 9"),
    ("actions", "more actions than a call may have"),
];
/// Memory that the keeper may need more while it receives garbage, in KiB.
const SLACK: u64 = 1024;

// #[test], run by `main`: tests/it/architecture/promises.rs looks for this attribute.
pub(crate) fn garbage_ends_one_worker_only() {
    Namespace::run(|namespace| {
        let acts: Vec<String> = GARBAGE.iter().map(|(name, _)| format!("garbage {name}")).collect();
        let hostile = GARBAGE.iter().zip(&acts).zip(100..).map(|(((name, _), act), zone)| Tenant {
            name,
            zone,
            act,
            grants: "\"log\", \"state\"",
            ..Tenant::default()
        });
        let early = Tenant { name: "early", zone: 99, act: "early", ..Tenant::default() };
        let tenants: Vec<Tenant<'_>> = hostile.chain([neighbour(), early]).collect();
        let serving = Serving::start(namespace, &tenants);
        assert!(serving.reason("early", "worker-violation").contains("no worker makes at its start"));
        // As much as the neighbour will get later.
        load(namespace, NEIGHBOUR, 1..=400);
        serving.neighbour_sees(1..=400);
        let before = serving.background.peak().unwrap();
        for (index, zone) in (0..GARBAGE.len()).zip(100..) {
            let first = 1000 + 10 * u16::try_from(index).unwrap();
            load(namespace, NEIGHBOUR, first..first + 10);
            entries::insert(namespace, &flow(zone, 1));
        }
        for (name, rule) in GARBAGE {
            let reason = serving.reason(name, "worker-violation");
            assert!(reason.contains(rule), "{name}: {reason}");
            let ended = serving.reason(name, "ended");
            assert!(ended.contains("its worker is not trusted any more") && ended.contains(rule), "{name}: {ended}");
            assert_eq!(serving.audited(name, "action", "worker-ended").len(), 0, "{name} has no second one");
        }
        serving.neighbour_sees(1000..1000 + 10 * u16::try_from(GARBAGE.len()).unwrap());
        let grown = serving.background.peak().unwrap().saturating_sub(before);
        assert!(grown <= SLACK, "{grown} KiB more");
        serving.until("one worker is left", || serving.workers().len() == 1);
        serving.end();
    });
}

/// Returns the CPU time of a process.
fn cpu_time(process: i32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let words: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

const FLOODS: [&str; 7] = ["output", "little", "warning", "log", "state", "barrier", "list"];

/// Each hostile tenant may use 50 ms of CPU time a second, for its worker and what the keeper does for it.
// #[test], run by `main`.
pub(crate) fn a_flood_costs_the_keeper_little() {
    Namespace::run(|namespace| {
        let acts = FLOODS.map(|name| format!("flood {name}"));
        let hostile = FLOODS.iter().zip(&acts).zip(100..).map(|((name, act), zone)| Tenant {
            name,
            zone,
            act,
            grants: "\"log\", \"state\"",
            share: "time-per-second = \"50ms\", output-per-second = \"10KiB\"",
            ..Tenant::default()
        });
        let tenants: Vec<Tenant<'_>> = hostile.chain([neighbour()]).collect();
        let serving = Serving::start(namespace, &tenants);
        let process = serving.background.process().as_raw();
        let floods = u16::try_from(FLOODS.len()).unwrap();
        (100..100 + floods).for_each(|zone| entries::insert(namespace, &flow(zone, 1)));
        let flooded =
            |name: &str| !serving.output(name).is_empty() || serving.errors().contains(&format!("tenant {name}"));
        serving.until("it floods", || flooded("output") && flooded("warning"));
        let (begun, before, peak) = (Instant::now(), cpu_time(process), serving.background.peak().unwrap());
        let mut port = 1;
        while begun.elapsed() < Duration::from_secs(5) {
            load(namespace, NEIGHBOUR, port..port + 10);
            serving.neighbour_sees(port..port + 10);
            port += 10;
        }
        let (used, time) = (cpu_time(process) - before, begun.elapsed());
        // The shares of all, and as much for what is done at their pace once these are used up and for the neighbour.
        let allowed = time.mul_f64(0.6) + Duration::from_millis(250);
        println!("floods: {used:?} of CPU time in {time:?}, {allowed:?} allowed");
        assert!(used < allowed, "{used:?} of CPU time in {time:?}");
        let grown = serving.background.peak().unwrap().saturating_sub(peak);
        assert!(grown < 4096, "{grown} KiB more");
        serving.end();
    });
}

/// A worker that reports without pause before it is ready does not hold up the start for longer than a silent one.
// #[test], run by `main`.
pub(crate) fn a_flood_at_the_start_ends_with_it() {
    Namespace::run(|namespace| {
        let plugin = "limits = { start-up = \"100ms\" }";
        let hostile = Tenant { name: "red", zone: 8, act: "start-flood", plugin, ..Tenant::default() };
        let serving = Serving::start(namespace, &[neighbour(), hostile]);
        let reason = serving.reason("red", "ended");
        assert!(reason.contains("its plugins did not start within 4.1s"), "{reason}");
        load(namespace, NEIGHBOUR, 1..=10);
        serving.neighbour_sees(1..=10);
        serving.end();
    });
}
