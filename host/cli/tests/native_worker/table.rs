//! What workers make of the kernel's table.

use std::collections::BTreeSet;

use flowgate_model::result;
use flowgate_test_support::{Namespace, Program, Random, entries};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::serving::{NEIGHBOUR, Serving, Tenant, flow, load, neighbour, ports, table, write};

// #[test], run by `main`: tests/it/architecture/promises.rs looks for this attribute.
pub(crate) fn forged_actions_get_nothing() {
    Namespace::run(|namespace| {
        let hostile = || Tenant { name: "red", zone: 8, act: "forge", grants: "\"delete\"", ..Tenant::default() };
        entries::insert(namespace, &flow(NEIGHBOUR, 70));
        entries::insert(namespace, &flow(0, 80));
        entries::insert(namespace, &flow(8, 80));
        let serving = Serving::start(namespace, &[neighbour(), hostile()]);
        entries::insert(namespace, &flow(8, 81));
        serving.until("it has the results", || serving.output("red").ends_with('\n'));
        let output = serving.output("red");
        let results: Vec<u8> = output.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let (last, forged) = results.split_last().unwrap();
        assert!(
            forged.len() == 18
                && forged.iter().all(|result| [result::GONE, result::INVALID, result::OUTSIDE].contains(result)),
            "{output}"
        );
        assert_eq!(*last, result::DONE, "what is allowed is done: {output}");
        assert_eq!((table(NEIGHBOUR), table(8)), ([70].into(), [81].into()));
        assert_eq!(Program::new("conntrack").must(&["-L"]).lines().count(), 3, "and that of zone 0");
        let intents = serving.audited("red", "stage", "intent");
        assert_eq!(intents.len(), 1, "{intents:#?}");
        assert_eq!(intents[0]["before"]["original"]["source_port"], 80);
        // At the latest at the end, each refusal is recorded.
        let (directory, background) = (serving.directory.clone(), serving.background.process());
        serving.end();
        let text = std::fs::read_to_string(directory.join("audit.jsonl")).unwrap();
        let refused = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let refused = refused.filter(|line| line["stage"] == "refused" && line["tenant"] == "red");
        let count: u64 = refused.map(|line| line["count"].as_u64().unwrap_or(1)).sum();
        assert_eq!(count, 18, "{background}: {text}");
    });
}

/// Returns the intents of a generation up to this one, and the refusals of the next.
fn intents_and_refusals(serving: &Serving, generation: u64) -> (usize, usize) {
    let audit = serving.audit();
    let of = |line: &&Value| line["tenant"] == "red" && line["generation"].as_u64() <= Some(generation);
    let intents = audit.iter().filter(of).filter(|line| line["stage"] == "intent").count();
    let refused =
        audit.iter().filter(|line| line["stage"] == "refused" && line["generation"] == generation + 1).count();
    (intents, refused)
}

/// Number of reloads, half of which take the grant away.
const RELOADS: u64 = 20;

// #[test], run by `main`.
pub(crate) fn after_a_reload_not_one_action_more() {
    Namespace::run(|namespace| {
        let share = "actions-per-second = 2000, time-per-second = \"1s\"";
        let hostile = |grants| Tenant { name: "red", zone: 8, act: "delete 8", grants, share, ..Tenant::default() };
        let serving = Serving::start(namespace, &[neighbour(), hostile("\"delete\"")]);
        let mut generation = 1;
        for _ in 0..RELOADS / 2 {
            // It deletes what there is, and begins with the first event.
            load(namespace, 8, 1..=64);
            serving.until("it deletes", || table(8).is_empty());
            write(namespace, &[neighbour(), hostile("")]);
            let outcome = serving.ask(&["reload"]);
            // Not a single one from here on.
            let (before, _) = intents_and_refusals(&serving, generation);
            assert_eq!(outcome.status, 0, "{}", outcome.errors());
            load(namespace, 8, 1..=64);
            serving.until("the new one is refused", || intents_and_refusals(&serving, generation).1 > 0);
            assert_eq!(intents_and_refusals(&serving, generation + 1).0, before, "generation {generation}");
            assert_eq!(table(8), (1..=64).collect(), "generation {generation}");
            write(namespace, &[neighbour(), hostile("\"delete\"")]);
            let outcome = serving.ask(&["reload"]);
            assert_eq!(outcome.status, 0, "{}", outcome.errors());
            generation += 2;
            entries::insert(namespace, &flow(8, 100));
            serving.until("it deletes again", || table(8) == BTreeSet::from([100]));
            Program::new("conntrack").must(&["-D", "-w", "8"]);
        }
        load(namespace, NEIGHBOUR, 1..=50);
        serving.neighbour_sees(1..=50);
        serving.end();
    });
}

/// Number of processes that are killed.
const KILLS: u16 = 6;
/// Number of flows before each.
const FLOWS: u16 = 400;

// #[test], run by `main`.
pub(crate) fn kill_nine_in_the_middle() {
    let seed = Random::seed("FLOWGATE_SEED");
    println!("FLOWGATE_SEED={seed}");
    let mut random = Random::new(seed);
    Namespace::run(move |namespace| {
        let tenant = Tenant {
            grants: "\"delete\"",
            share: "actions-per-second = 100000",
            options: "act = \"delete shown again\"",
            plugin: "limits = { restarts = 100 }",
            ..neighbour()
        };
        let serving = Serving::start(namespace, &[tenant]);
        let mut killed = Vec::new();
        for round in 0..KILLS {
            serving.until("a worker runs", || serving.workers().iter().any(|process| !killed.contains(process)));
            let process = *serving.workers().iter().find(|process| !killed.contains(*process)).unwrap();
            let written = serving.output("neighbour").len() + 1 + random.below(20_000);
            load(namespace, NEIGHBOUR, 1 + FLOWS * round..=FLOWS * (round + 1));
            serving.until("it is in the middle", || serving.output("neighbour").len() >= written);
            kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
            killed.push(process);
            let ends = || serving.audited("neighbour", "action", "worker-ended").len();
            serving.until("its end is recorded", || ends() == killed.len());
        }
        for end in serving.audited("neighbour", "action", "worker-ended") {
            assert_eq!(end["reason"], "SIGKILL: the kernel, or somebody else, has killed it");
        }
        let output = serving.output("neighbour");
        // Shown since the last worker runs.
        let view = || {
            let mut flows = BTreeSet::new();
            for line in serving.output("neighbour")[output.len()..].split_inclusive('\n') {
                let seen = ports(line);
                if line.contains("[DESTROY]") {
                    flows.retain(|port| !seen.contains(port));
                } else if line.ends_with('\n') {
                    flows.extend(seen);
                }
            }
            flows
        };
        load(namespace, NEIGHBOUR, 10_000..10_010);
        serving.until("what is shown adds up to the table", || {
            let there = table(NEIGHBOUR);
            !there.is_empty() && view() == there && table(NEIGHBOUR) == there
        });
        for line in serving.output("neighbour").split_inclusive('\n') {
            let whole = line.matches(" src=10.1.0.1 dst=192.0.2.1 sport=").count() == 1 && line.ends_with('\n');
            assert!(whole && line.contains(" id="), "{line:?}");
        }
        // What has gone was recorded before it went.
        let intents: BTreeSet<u16> = serving
            .audited("neighbour", "stage", "intent")
            .iter()
            .map(|line| u16::try_from(line["before"]["original"]["source_port"].as_u64().unwrap()).unwrap())
            .collect();
        let there = table(NEIGHBOUR);
        let gone: BTreeSet<u16> =
            (1..=FLOWS * KILLS).chain(10_000..10_010).filter(|port| !there.contains(port)).collect();
        assert!(!gone.is_empty() && gone.is_subset(&intents), "{:?}", gone.difference(&intents));
        serving.end();
    });
}
