//! The processes that run the plugins of tenants, as the operator sees them: their states, restarts and ends.

use std::thread;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    compiling::below,
    metrics::{scrape, value},
    revoking::{drained, held_up},
    service::{flow, output, tenant},
    starting::stuck,
    *,
};

/// Returns the workers of a service.
pub(super) fn workers(serving: &Serving) -> Vec<i32> {
    let below = below(serving.background.process().as_raw());
    below.into_iter().filter(|(_, (_, name))| name == "flowgate-worker").map(|(number, _)| number).collect()
}

/// Returns the state of the service.
pub(super) fn status(serving: &Serving) -> Value {
    let answer = serving.ask(&["status", "-o", "json"]);
    serde_json::from_str(&answer.text()).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// A worker that somebody kills is started again, and everything says so. The other tenant keeps its worker.
#[test]
fn the_end_of_a_worker_is_told_and_it_is_started_again() {
    Namespace::run(|namespace| {
        let text = tenant("blue", 7, "", "") + &tenant("red", 8, "", "");
        let serving = Serving::start(namespace, &text);
        let before = status(&serving);
        for tenant in before["tenants"].as_array().unwrap() {
            assert_eq!(tenant["worker"]["state"], "running", "{before}");
            assert!(tenant["worker"]["nanoseconds"].as_u64() > Some(0), "its start took some time: {before}");
            assert_eq!((&tenant["worker"]["restarts"], &tenant["worker"]["last-end"]), (&0.into(), &Value::Null));
        }
        let isolation = &before["isolation"];
        assert!(isolation["filter"] == true && isolation["not-dumpable"] == true, "{before}");
        let answer = serving.ask(&["status"]).text();
        let held = answer.lines().last().unwrap();
        assert!(held.starts_with("isolation: ") && held.contains("filter, "), "{answer}");
        // Landlock is in the kernel's own list wherever it can be used.
        let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        if modules.split(',').any(|module| module.trim() == "landlock") {
            assert!(isolation["landlock"].as_u64() > Some(0), "{before}");
        }

        let all = workers(&serving);
        assert_eq!(all.len(), 2, "one for each tenant");
        for worker in &all {
            kill(Pid::from_raw(*worker), Signal::SIGKILL).unwrap();
        }
        serving.until("both have been started again", || {
            let now = status(&serving);
            let is_new = |tenant: &Value| tenant["worker"]["restarts"] == 1 && tenant["worker"]["state"] == "running";
            now["tenants"].as_array().unwrap().iter().all(is_new)
        });
        let now = workers(&serving);
        assert!(now.len() == 2 && now.iter().all(|worker| !all.contains(worker)), "{all:?} {now:?}");
        for name in ["blue", "red"] {
            let of = |action: &str| {
                let mut lines = serving.audited("action", action);
                lines.retain(|line| line["tenant"] == name);
                lines
            };
            let (ended, started) = (of("worker-ended"), of("worker-started"));
            assert!(ended.len() == 1 && started.len() == 2, "{ended:?} {started:?}");
            assert_eq!((&ended[0]["code"], &ended[0]["stage"]), (&"signal".into(), &"service".into()));
            assert!(ended[0]["reason"].as_str().unwrap().starts_with("SIGKILL"), "{ended:?}");
            assert_eq!((&started[0]["reason"], &started[0]["code"]), (&Value::Null, &Value::Null));
        }
        let after = status(&serving);
        assert_eq!(after["tenants"][0]["worker"]["last-end"]["code"], "signal", "{after}");
        assert!(
            after["tenants"][0]["worker"]["nanoseconds"].as_u64() > Some(0),
            "starting took some time of both: {after}"
        );
        assert_eq!(after["tenants"][0]["state"], "running", "the tenant has not ended: {after}");
        let answer = serving.ask(&["status", "blue"]).text();
        assert!(
            answer.contains("  worker: running, 1 restarts, ") && answer.contains(", last end: signal (SIG"),
            "{answer}"
        );
        // It is of use again.
        entries::insert(namespace, &flow(7, 70));
        serving.until("it is shown", || output(&serving, "blue").contains("sport=70 "));
        serving.end();
    });
}

/// A quarantine kills the worker, and says that it was an order.
#[test]
fn a_quarantine_kills_the_worker() {
    Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &tenant("blue", 7, "", ""));
        assert_eq!(workers(&serving).len(), 1);
        assert_eq!(serving.ask(&["quarantine", "blue"]).status, 0);
        serving.until("its worker has gone", || workers(&serving).is_empty());
        serving.until("its end is known", || status(&serving)["tenants"][0]["worker"]["state"] == "killed");
        let killed = serving.audited("action", "worker-killed");
        assert!(killed.len() == 1 && killed[0]["code"] == "order", "{killed:?}");
        assert_eq!(status(&serving)["tenants"][0]["worker"]["last-end"]["code"], "order");
        serving.end();
    });
}

/// Returns the states of the workers of `blue` as the status says them, each with its generation, and as the metrics
/// do.
fn states(serving: &Serving) -> (Vec<(u64, String)>, Vec<String>) {
    let status = status(serving);
    let blue = status["tenants"].as_array().unwrap().iter().find(|tenant| tenant["tenant"] == "blue").unwrap();
    let others = blue["worker"]["others"].as_array().cloned().unwrap_or_default();
    let one = |generation: &Value, worker: &Value| {
        (generation.as_u64().unwrap(), worker["state"].as_str().unwrap().to_owned())
    };
    let reported = std::iter::once(one(&blue["generation"], &blue["worker"]))
        .chain(others.iter().map(|other| one(&other["generation"], other)))
        .collect();
    let text = scrape(serving);
    let metric = |state: &str| value(&text, &format!("tenant_workers{{tenant=\"blue\",state=\"{state}\"}}"));
    let all = ["starting", "ready", "running", "draining", "revoked", "restarting", "killed", "ended"];
    (reported, all.into_iter().filter(|state| metric(state) > 0.0).map(str::to_owned).collect())
}

/// Starts the service on the existing file, with metrics.
fn launch(namespace: &Namespace) -> Serving {
    let address = format!("unix:{}", namespace.directory().join("metrics").display());
    let serving = Serving::launch(namespace, &flowgate(), &["--metrics", &address]);
    serving.until("it runs", || serving.errors().contains("generation 1 runs"));
    serving
}

/// Returns the life of the workers of `blue` of a generation, as the audit tells it.
fn life(serving: &Serving, generation: u64) -> Vec<String> {
    let mut lines = serving.audited("tenant", "blue");
    lines.retain(|line| line["generation"] == generation && line["stage"] == "service");
    lines.iter().filter_map(|line| line["action"].as_str()?.strip_prefix("worker-").map(str::to_owned)).collect()
}

/// Status, audit and metrics report each state of a worker from its start to its end.
#[test]
fn each_state_of_a_worker_is_told() {
    Namespace::run(|namespace| {
        policy(namespace, &tenant("blue", 7, "", ""));
        let serving = launch(namespace);
        assert_eq!(states(&serving), (vec![(1, "running".into())], vec!["running".into()]));
        // The next one is ready until it is known whether the other tenant starts.
        policy(namespace, &(tenant("blue", 7, "", "") + &stuck(namespace, "4s")));
        let mut seen = Vec::new();
        thread::scope(|scope| {
            let reload = scope.spawn(|| serving.ask(&["reload"]));
            while !reload.is_finished() {
                seen.push(states(&serving));
            }
            assert_eq!(reload.join().unwrap().status, 0);
        });
        for state in ["starting", "ready"] {
            let reported = vec![(1, "running".to_owned()), (2, state.to_owned())];
            let is_told = |(status, metrics): &(Vec<_>, Vec<String>)| {
                *status == reported && metrics.iter().any(|metric| metric == state)
            };
            assert!(seen.iter().any(is_told), "{state}: {seen:#?}");
        }
        serving.until("the first has finished", || {
            states(&serving) == (vec![(2, "running".into())], vec!["running".into()])
        });
        assert_eq!(life(&serving, 1), ["started", "ready", "running", "revoked", "finished"]);
        serving.until("a quarantine kills it", || {
            assert_eq!(serving.ask(&["quarantine", "blue"]).status, 0);
            states(&serving) == (vec![(2, "killed".into())], vec!["killed".into()])
        });
        assert_eq!(life(&serving, 2), ["started", "ready", "running", "killed"]);
        serving.end();
    });
}

/// One that has been replaced, or whose service ends, is reported while it processes what is left.
#[test]
fn a_worker_that_is_replaced_or_drains_is_told() {
    Namespace::run(|namespace| {
        let (serving, pipe) = held_up(namespace, "60s", launch);
        assert_eq!(serving.ask(&["reload"]).status, 0);
        let (reported, metrics) = states(&serving);
        assert_eq!(reported, [(2, "running".into()), (1, "revoked".into())]);
        assert_eq!(metrics, ["running", "revoked"]);
        assert!(serving.ask(&["status"]).text().contains("\n  worker of generation 1: revoked\n"));
        assert_eq!(life(&serving, 1).last().unwrap(), "revoked");
        serving.until("it has finished", || {
            drained(&pipe);
            states(&serving).0 == [(2, "running".into())]
        });
        assert_eq!(life(&serving, 1).last().unwrap(), "finished");
        serving.end();
    });
    Namespace::run(|namespace| {
        let (serving, pipe) = held_up(namespace, "60s", launch);
        serving.signal(Signal::SIGTERM);
        serving.until("it drains", || life(&serving, 1).last().unwrap() == "draining");
        assert_eq!(states(&serving), (vec![(1, "draining".into())], vec!["draining".into()]));
        let refused = serving.ask(&["reload"]);
        assert!(refused.status == 1 && refused.errors().contains("the service ends"), "{}", refused.errors());
        serving.until("it has finished", || {
            drained(&pipe);
            life(&serving, 1).last().unwrap() == "finished"
        });
        serving.end();
    });
}
