//! The processes that run the plugins of tenants, as the operator sees them: their states, restarts and ends.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    compiling::below,
    service::{flow, output, tenant},
    *,
};

/// Returns the workers of a service.
fn workers(serving: &Serving) -> Vec<i32> {
    let below = below(serving.background.process().as_raw());
    below.into_iter().filter(|(_, (_, name))| name == "flowgate-worker").map(|(number, _)| number).collect()
}

/// Returns the state of the service.
fn status(serving: &Serving) -> Value {
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
        assert!(serving.audited("action", "worker-started").is_empty(), "only those after the first are recorded");

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
            assert!(ended.len() == 1 && started.len() == 1, "{ended:?} {started:?}");
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
        serving.until("its end is known", || status(&serving)["tenants"][0]["worker"]["state"] == "ended");
        let killed = serving.audited("action", "worker-killed");
        assert!(killed.len() == 1 && killed[0]["code"] == "order", "{killed:?}");
        assert_eq!(status(&serving)["tenants"][0]["worker"]["last-end"]["code"], "order");
        serving.end();
    });
}
