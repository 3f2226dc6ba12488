//! Plans that agents do later, when they were absent.

use flowgate_test_support::wait::until;
use nix::sys::signal::Signal;

use super::{Fleet, objects, pairs, states};

#[test]
fn an_absent_agent_does_a_plan_when_it_connects_and_only_if_the_plan_says_so() {
    Fleet::run(&["alpha", "beta"], "", |fleet| {
        for name in ["alpha", "beta"] {
            fleet.fill(name, 53, 20);
            fleet.fill(name, 99, 20);
        }
        let place = fleet.namespace.directory().to_owned();
        let file = |name: &str| place.join(name).display().to_string();
        let (now, later) = (file("now.json"), file("later.json"));
        fleet.ask(&format!("delete --dry-run --plan {now} -- -p udp --dport 99"));
        let outcome = fleet.ask(&format!("delete --dry-run --plan {later} --absent-later -- -p udp --dport 53"));
        let promise = "agents that are absent do it when they connect before 20";
        assert!(outcome.text().contains(promise), "{}", outcome.text());
        for plan in [&now, &later] {
            assert_eq!(fleet.ask(&format!("sign {plan}")).status, 0);
        }
        fleet.agent("beta").end_by(Signal::SIGKILL);
        let outcome = fleet.ask(&format!("apply {now}"));
        assert!(!outcome.errors().contains("when it connects"), "{}", outcome.errors());
        let outcome = fleet.ask(&format!("apply -o json {later}"));
        assert_eq!((pairs(&states(&outcome)), outcome.status), (vec![("alpha", "answered"), ("beta", "absent")], 1));
        assert!(outcome.errors().contains("it does it when it connects before 20"), "{}", outcome.errors());
        assert_eq!((fleet.count("alpha", 53), fleet.count("beta", 53)), (0, 20));

        fleet.start("beta");
        until("the plan is done", || fleet.count("beta", 53) == 0);
        assert_eq!(fleet.count("beta", 99), 20, "the other plan was for those who were connected");
        // Applied again, it was done; and a new start finds nothing more to do.
        let outcome = fleet.ask(&format!("apply {later}"));
        assert!(outcome.errors().contains("beta   refused   the plan was done already (20 flows deleted)"));
        fleet.fill("beta", 53, 5);
        fleet.agent("beta").end_by(Signal::SIGKILL);
        fleet.start("beta");
        // It looks at what was left before it does this one, which is left behind the first.
        fleet.fill("beta", 77, 2);
        let last = file("last.json");
        fleet.ask(&format!("delete --dry-run --plan {last} --agent beta --absent-later -- -p udp --dport 77"));
        fleet.ask(&format!("sign {last}"));
        fleet.agent("beta").end_by(Signal::SIGKILL);
        fleet.ask(&format!("apply {last}"));
        fleet.start("beta");
        until("the last plan is done", || fleet.count("beta", 77) == 0);
        assert_eq!(fleet.count("beta", 53), 5, "each plan is done once");

        let id = objects(&fleet.ask(&format!("sign -o json {later}")).text())[0]["plan"].clone();
        let id = id.as_str().unwrap();
        let found =
            || objects(&fleet.audit(&format!("--fleet --agent beta --plan {id} --stage result -o json")).text());
        until("the result is shipped", || !found().is_empty());
        let results = found();
        assert_eq!(results.len(), 1, "{results:?}");
        assert_eq!((&results[0]["later"], &results[0]["count"]), (&true.into(), &20.into()));
    });
}
