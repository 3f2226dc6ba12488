//! The audits of all agents on the server.

use std::fs;

use flowgate_test_support::wait::until;
use nix::sys::signal::Signal;

use super::{Fleet, objects};

#[test]
fn the_audits_of_all_agents_are_read_and_verified() {
    Fleet::run(&["alpha", "beta"], "", |fleet| {
        assert_eq!(fleet.audit("verify --fleet").status, 0, "there is nothing yet");
        assert_eq!(fleet.audit("--fleet").status, 1, "nothing is found");
        for name in ["alpha", "beta"] {
            fleet.fill(name, 53, 20);
        }
        let outcome = fleet.ask("delete -- -p udp --dport 53");
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        let all = |fleet: &Fleet<'_>, more: &str| objects(&fleet.audit(&format!("--fleet -o json {more}")).text());
        until("all is shipped", || all(fleet, "").len() == 4);
        // What is there is what the agents have, with the agent's name in front.
        for name in ["alpha", "beta"] {
            let mut there = all(fleet, &format!("--agent {name}"));
            there.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("agent")));
            assert_eq!(there, objects(&fs::read_to_string(fleet.audit_of(name)).unwrap()), "{name}");
        }
        assert_eq!(all(fleet, "--stage result --result done").len(), 2);
        assert_eq!(all(fleet, "--stage refused").len(), 0);
        assert_eq!(all(fleet, "--since 1h --action delete").len(), 4);
        let plan = all(fleet, "")[0]["plan"].as_str().unwrap().to_owned();
        assert_eq!((all(fleet, &format!("--plan {plan}")).len(), all(fleet, "--plan x").len()), (4, 0));
        let text = fleet.audit("--fleet --agent alpha --stage result").text();
        assert!(text.contains(" result  alpha delete done x20") && text.contains(&plan), "{text}");
        let nobody = fleet.audit("--fleet --agent nobody");
        assert!(nobody.status == 1 && nobody.errors().contains("no line of an agent nobody"), "{}", nobody.errors());
        let verified = fleet.audit("verify --fleet");
        assert_eq!(verified.status, 0, "{}", verified.text());
        let whole = "2 lines, each of which follows from the one before";
        assert_eq!(verified.text(), format!("alpha: {whole}\nbeta: {whole}\n"));

        // Somebody with the host's root removes a line of its audit, and another one is written.
        fleet.agent("beta").end_by(Signal::SIGKILL);
        let file = fleet.audit_of("beta");
        let lines = fs::read_to_string(&file).unwrap();
        fs::write(&file, lines.lines().take(1).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        fleet.start("beta");
        fleet.fill("beta", 53, 3);
        assert_eq!(fleet.ask("delete --agent beta -- -p udp --dport 53").status, 0);
        until("its lines are shipped anew", || fleet.audit("verify --fleet").status == 1);
        let verified = fleet.audit("verify --fleet -o json");
        let flaws: Vec<_> = objects(&verified.text()).into_iter().filter(|line| line["flaw"].is_string()).collect();
        assert_eq!((verified.status, flaws.len()), (1, 1), "{}", verified.text());
        assert_eq!((&flaws[0]["agent"], &flaws[0]["line"]), (&"beta".into(), &1.into()));
        let flaw = flaws[0]["flaw"].as_str().unwrap();
        assert!(flaw.contains("begins anew after line 2"), "{flaw}");
    });
}

#[test]
fn what_was_refused_of_another_operator_is_on_record_for_all() {
    Fleet::run(&["alpha"], "--operator admin --operator second --need 2", |fleet| {
        fleet.fill("alpha", 53, 20);
        let outcome = fleet.ask("delete -- -p udp --dport 53");
        assert_eq!((outcome.status, fleet.count("alpha", 53)), (1, 20), "one signature of two");
        let found = || objects(&fleet.audit("--fleet -o json --stage refused --result signatures").text());
        until("the refusal is shipped", || found().len() == 1);
        assert_eq!(found()[0]["agent"], "alpha");
    });
}
