//! Events of all agents, as they happen.

use flowgate_test_support::{Background, flowgate, wait::until, words};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Fleet, objects};

/// Starts to watch, and waits until all agents are watched.
fn watch(fleet: &Fleet<'_>, line: &str) -> Background {
    let operator = fleet.place().join("operators/admin/operator.toml").display().to_string();
    let line = format!("fleet watch --operator {operator} {line}");
    Background::start(&flowgate(), &words(&line))
}

/// Returns the events of an agent to this port.
fn of(watching: &Background, name: &str, port: u16) -> Vec<Value> {
    let of = |row: &Value| row["agent"] == name && row["original"]["destination_port"] == port;
    watching.lines().iter().map(|line| serde_json::from_str(line).unwrap()).filter(of).collect()
}

#[test]
fn events_of_two_agents_come_as_they_happen_and_a_lost_agent_is_told() {
    Fleet::run(&["alpha", "beta"], "", |fleet| {
        let mut text = watch(fleet, "-- -e NEW -p udp --dport 53");
        text.wait_for_error("The events of all 2 agents are watched.");
        let mut json = watch(fleet, "-o json -- -p udp --where dport!=99");
        json.wait_for_error("{\"watched\":2}");
        fleet.fill("alpha", 53, 3);
        fleet.fill("alpha", 99, 1);
        fleet.fill("beta", 53, 2);
        until("all events are there", || text.lines().len() == 5 && of(&json, "beta", 53).len() == 2);
        until("all objects are there", || of(&json, "alpha", 53).len() == 3);
        let lines = text.lines();
        let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
        assert_eq!((count("alpha      [NEW] udp"), count("beta       [NEW] udp")), (3, 2), "{lines:?}");
        assert!(of(&json, "alpha", 53).iter().all(|row| row["event"] == "new"));
        assert!(of(&json, "alpha", 99).is_empty());

        // An agent is killed, and starts again.
        fleet.agent("beta").end_by(Signal::SIGKILL);
        text.wait_for_error("beta went away");
        fleet.fill("beta", 53, 1);
        fleet.start("beta");
        text.wait_for_error("beta is there again");
        let gap = text.wait_for_output("[GAP] events are missing here, and how many is not known");
        assert!(gap.starts_with("beta  "), "{gap}");
        fleet.fill("beta", 53, 7);
        until("events of the agent's second start are there", || text.lines().len() >= 5 + 1 + 4);
        let outcome = text.end_by(Signal::SIGINT);
        assert!(
            outcome.errors().contains("beta   partial   events of it were lost while it was away"),
            "{}",
            outcome.errors()
        );
        assert!(outcome.errors().contains("1 of 2 agents: 1 answered, 1 partial"), "{}", outcome.errors());
        assert_ne!(outcome.status, 0);
        json.wait_for_error("\"watch\":\"away\"");
        json.wait_for_error("\"watch\":\"back\"");
        let gap = |row: &Value| row["agent"] == "beta" && row["event"] == "gap" && row["lost"].is_null();
        assert!(objects(&json.lines().join("\n")).iter().any(gap), "{}", json.output());
        drop(json);

        // Nothing is missing: that is a success, by a signal and by the end of the time.
        let mut text = watch(fleet, "-- -o table -p udp --dport 53");
        text.wait_for_error("are watched");
        fleet.fill("beta", 53, 12);
        until("rows are there", || text.lines().len() > 5);
        let outcome = text.end_by(Signal::SIGINT);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert!(outcome.text().starts_with("AGENT  EVENT "), "{}", outcome.text());
        assert!(outcome.errors().contains("2 of 2 agents: 2 answered"), "{}", outcome.errors());
        let outcome = fleet.ask("watch --for 200ms -o json -- -p udp");
        let told = objects(&outcome.errors());
        assert_eq!((outcome.status, told.len(), &told[0]["watched"]), (0, 4, &2.into()), "{}", outcome.errors());
    });
}

#[test]
fn what_nobody_fetches_is_a_gap_and_holds_up_neither_the_kernel_nor_others() {
    Fleet::run(&["alpha", "beta"], "", |fleet| {
        let mut slow = watch(fleet, "-- -e NEW -p udp --dport 53");
        slow.wait_for_error("are watched");
        let mut quick = watch(fleet, "-- -e NEW -p udp --dport 99");
        quick.wait_for_error("are watched");
        // Whoever watches is stopped: an event takes 300 bytes, and there is room for 2 MiB.
        slow.while_stopped(|| {
            fleet.fill("alpha", 53, 20_000);
            fleet.fill("alpha", 99, 5);
            fleet.fill("beta", 99, 5);
            until("others are shown meanwhile", || quick.lines().len() == 10);
        });
        let gap = slow.wait_for_output("[GAP]");
        assert!(gap.starts_with("alpha  ") && gap.ends_with(" events are missing here"), "{gap}");
        let lost: usize = gap.split_whitespace().nth(2).unwrap().parse().unwrap();
        until("all others are there", || slow.lines().len() + lost == 20_000 + 1);
        let outcome = slow.end_by(Signal::SIGINT);
        assert!(
            outcome.errors().contains(&format!("alpha  partial   {lost} events of it were lost")),
            "{}",
            outcome.errors()
        );
        let outcome = quick.end_by(Signal::SIGTERM);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
    });
}

#[test]
fn a_watch_reads_events_and_nothing_else() {
    Fleet::run(&["alpha"], "", |fleet| {
        for line in [
            "watch -- -D",
            "watch -- -L",
            "watch -- -E expect",
            "watch -- --reliable",
            "watch -- --by dport",
            "watch -- -o xml",
            "watch -o json -- -o csv",
            "watch -- --where nonsense",
        ] {
            let outcome = fleet.ask(line);
            assert!(outcome.status != 0 && outcome.errors().starts_with("flowgate: "), "{line}: {}", outcome.errors());
        }
        // Nobody is there: that is said when it ends.
        fleet.agent("alpha").end_by(Signal::SIGKILL);
        until("the server knows", || fleet.ask("count").errors().contains("nobody is connected"));
        let outcome = fleet.ask("watch --for 300ms");
        assert!(outcome.status == 1 && outcome.errors().contains("alpha  absent"), "{}", outcome.errors());
    });
}
