//! The host's work on behalf of a plugin is charged to the plugin: a plugin that is cheap itself but makes the host
//! check, copy, judge, render and record ends at the time limit of its call, and its tenant pays for all of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use flowgate_base::TokenBucket;
use flowgate_base::Warnings;
use flowgate_base::clock::thread_time;
use flowgate_base::files::Trust;
use flowgate_config::SourceText;
use flowgate_model::{Flows, field, result};
use flowgate_netlink::decode::FlowDecoder;
use flowgate_pipeline::{
    executor::{Executor, Shows},
    sink::file::FileOptions,
    stage::Stage,
};
use flowgate_policy::{Policy, audit::Audit, guard::TenantGuard};
use flowgate_runtime::{Failure, Instance, Limits};
use flowgate_syntax::LabelMap;
use flowgate_test_support::Namespace;

use super::{batch, hostile, setup};

/// Returns the guard of a tenant with a very high rate limit.
fn guard(directory: &std::path::Path) -> TenantGuard {
    let text = format!(
        "[[tenant]]\nname = \"blue\"\nmark-mask = \"0xff00\"\n\
         limits = {{ actions-per-second = 16777216, actions-in-flight = 65536, entries = 100000 }}\n\
         [[tenant.scope]]\nsource = \"10.1.0.0/16\"\n\
         [[tenant.plugin]]\nname = \"a\"\nfile = \"a.wasm\"\nsha256 = \"{}\"\ngrants = [\"delete\"]\n",
        "0".repeat(64)
    );
    let (policy, mistakes, _) = Policy::parse(SourceText { path: "p.toml".into(), text }, LabelMap::default());
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let options = FileOptions {
        path: directory.join("audit"),
        append: true,
        mode: None,
        rotation: None,
        trust: Trust::Exclusive,
    };
    let audit = Arc::new(Audit::open(options, Duration::from_secs(3600), Warnings::ignored()).unwrap());
    TenantGuard::new(policy.tenants.first().unwrap(), 1, None, audit, &[], Arc::new(|| false))
}

/// Returns a flow that is in the scope of the guard but not in the kernel's table.
fn flow() -> Flows {
    let mut flows = batch(1);
    flows.has.fill(field::TUPLES | field::MARK);
    for (tuples, ends) in [(&mut flows.original, (1, 2)), (&mut flows.reply, (2, 1))] {
        for (addresses, last) in [(&mut tuples.source, ends.0), (&mut tuples.destination, ends.1)] {
            (addresses.hi, addresses.lo) = (vec![0], vec![0xffff_0a01_0000 + last]);
        }
        (tuples.source_l4, tuples.destination_l4) = (vec![53], vec![53]);
    }
    flows
}

/// Returns a plugin that asks for 100,000 deletions in each call, with this time limit for a call.
fn flood(call: Duration) -> Instance {
    let limits = Limits { call, actions: 100_000, ..Limits::default() };
    let mut instance = Instance::new(&hostile(), limits).unwrap();
    instance.configure(&setup(&[("do", "action-flood")])).unwrap();
    instance.end_start_up();
    instance
}

/// Returns the same plugin as a stage, with a time budget per second.
fn flooding(call: Duration, second: Duration) -> Stage {
    let budget = TokenBucket::per_second(u64::try_from(second.as_nanos()).unwrap());
    Stage::new(flood(call), field::ALL, "delete".parse().unwrap()).within(Arc::new(Mutex::new(budget)))
}

fn executor(audit: &std::path::Path) -> Executor<Flows> {
    let executor = Executor::<Flows>::new(Shows::Entries, FlowDecoder::new(field::ALL));
    executor.guarded().watched_by(Box::new(guard(audit)))
}

#[test]
fn the_guards_work_ends_with_the_time_of_the_call_and_nothing_is_done() {
    Namespace::run(|_| {
        for limit in [Duration::from_millis(50), Duration::from_millis(200)] {
            let directory = tempfile::tempdir().unwrap();
            let mut stage = flooding(limit, Duration::from_secs(60));
            let mut flows = flow();
            let mut executor = executor(directory.path());
            let before = thread_time();
            let failure = stage.batch(&mut flows, &mut executor).map_err(|error| error.failure);
            let used = thread_time() - before;
            assert_eq!((failure, flows), (Err(Failure::Deadline(limit)), flow()));
            assert!(used < limit * 3 / 2, "{used:?} of {limit:?}");
            let actions = stage.stats().lock().actions;
            assert_eq!(actions[usize::from(result::OVER_LIMIT)], 100_000, "{actions:?}");
            drop(executor);
            // All of them are recorded, in one line.
            let text = std::fs::read_to_string(directory.path().join("audit")).unwrap();
            let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let summed = lines.iter().find(|line| line["code"] == "time").unwrap_or_else(|| panic!("{text}"));
            assert_eq!((lines.len(), &summed["count"]), (1, &100_000.into()), "{text}");
        }
    });
}

#[test]
fn what_a_plugin_makes_the_host_do_comes_out_of_its_tenants_time() {
    Namespace::run(|_| {
        let directory = tempfile::tempdir().unwrap();
        let second = Duration::from_millis(100);
        let mut stage = flooding(Duration::from_secs(60), second);
        let mut executor = executor(directory.path());
        let before = thread_time();
        assert_eq!(stage.batch(&mut flow(), &mut executor).map_err(|error| error.failure), Ok(()));
        let used = thread_time() - before;
        let (mut alone, before) = (flood(Duration::from_secs(60)), thread_time());
        alone.process_flows(&flow()).unwrap();
        let own = thread_time() - before;
        assert!(
            used > 2 * second && own < used / 4,
            "the plugin itself took {own:?} of {used:?}, so that little was tested"
        );
        // Its time budget for this second has been used up by the host's work, so it is not called.
        stage.batch(&mut flow(), &mut executor).unwrap();
        let stats = stage.stats().lock().clone();
        assert_eq!((stats.calls, stats.rows_without), (1, 1), "{used:?}");
    });
}
