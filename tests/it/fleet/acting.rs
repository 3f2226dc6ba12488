//! Actions: planned, signed, done once, and on record.

use std::fs;

use nix::sys::signal::Signal;

use super::{Fleet, objects, pairs, states};

#[test]
fn a_plan_is_done_as_it_was_signed_once_and_by_nobody_else() {
    Fleet::run(&["alpha", "beta"], "--operator admin --operator second --need 2", |fleet| {
        for name in ["alpha", "beta"] {
            fleet.fill(name, 53, 20);
            fleet.fill(name, 99, 1);
        }
        let plan = fleet.namespace.directory().join("plan.json");
        let file = plan.display().to_string();
        let outcome = fleet.ask(&format!("delete --dry-run --plan {file} -- -p udp --dport 53"));
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert!(outcome.text().contains("delete 40 flows of 2 agents, and 10 % more, within "), "{}", outcome.text());
        assert!(outcome.text().contains(", by -p udp --dport 53\nalpha  20\nbeta   20\n"), "{}", outcome.text());
        assert_eq!((fleet.count("alpha", 53), fleet.count("beta", 53)), (20, 20), "a plan does nothing");

        let refused = |outcome: &flowgate_test_support::Outcome, why: &str| {
            let found = states(outcome);
            assert_eq!((pairs(&found), outcome.status), (vec![("alpha", "refused"), ("beta", "refused")], 1));
            assert!(outcome.errors().contains(why), "{why}: {}", outcome.errors());
            assert_eq!((fleet.count("alpha", 53), fleet.count("beta", 53)), (20, 20));
        };
        let apply = format!("apply -o json {file}");
        refused(&fleet.ask(&apply), "0 valid signatures");
        assert_eq!(fleet.ask(&format!("sign {file}")).status, 0);
        refused(&fleet.ask(&apply), "1 valid signatures");
        // Twice by the same is once.
        assert_eq!(fleet.ask(&format!("sign {file}")).status, 0);
        refused(&fleet.ask(&apply), "1 valid signatures");
        let shown = fleet.ask_as("second", &format!("sign {file}"));
        assert!(shown.text().contains("delete 40 flows"), "{}", shown.text());
        // Signed by both, and then changed.
        let signed = fs::read_to_string(&plan).unwrap();
        assert!(signed.contains(r#"\"53\""#), "{signed}");
        fs::write(&plan, signed.replace(r#"\"53\""#, r#"\"99\""#)).unwrap();
        refused(&fleet.ask(&apply), "0 valid signatures");
        fs::write(&plan, &signed).unwrap();
        // More flows have come than the allowance.
        fleet.fill("alpha", 53, 30);
        let outcome = fleet.ask(&apply);
        assert_eq!(pairs(&states(&outcome)), [("alpha", "refused"), ("beta", "answered")]);
        assert!(
            outcome.errors().contains("there are 30 such flows now, the plan has 20, and 22"),
            "{}",
            outcome.errors()
        );
        assert_eq!((fleet.count("alpha", 53), fleet.count("beta", 53)), (30, 0));
        assert_eq!(
            objects(&outcome.text()),
            [serde_json::json!({ "agent": "beta", "deleted": 20, "as_planned": true })]
        );
        assert_eq!((fleet.count("alpha", 99), fleet.count("beta", 99)), (1, 1), "others stay");

        // Again, also after a kill: beta knows that it was done.
        fleet.fill("beta", 53, 5);
        fleet.agent("beta").end_by(Signal::SIGKILL);
        fleet.start("beta");
        let outcome = fleet.ask(&apply);
        assert_eq!(pairs(&states(&outcome)), [("alpha", "refused"), ("beta", "refused")]);
        assert!(outcome.errors().contains("was done already (20 flows deleted)"), "{}", outcome.errors());
        assert_eq!(fleet.count("beta", 53), 5);

        let audit = fleet.audit_of("beta");
        let lines = objects(&fs::read_to_string(&audit).unwrap());
        let stages: Vec<&str> = lines.iter().filter_map(|line| line["stage"].as_str()).collect();
        assert_eq!(stages, ["refused", "refused", "refused", "refused", "intent", "result", "refused"]);
        assert_eq!((&lines[0]["code"], &lines[6]["code"]), (&"signatures".into(), &"replayed".into()));
        assert_eq!((&lines[5]["result"], &lines[5]["count"]), (&"done".into(), &20.into()));
        assert_eq!(lines[4]["signers"].as_array().unwrap().len(), 2);
        let file = audit.display().to_string();
        let verify = fleet.audit(&format!("verify {file}"));
        assert!(verify.status == 0 && verify.text().contains("7 lines"), "{}{}", verify.text(), verify.errors());
        // The filters of `audit` hold for it as well.
        let found = fleet.audit(&format!("{file} --stage result --action delete -o json"));
        assert_eq!(objects(&found.text()), lines[5..6]);
        assert_eq!(fleet.audit(&format!("{file} --open")).status, 1, "nothing is in progress");
        let text = fs::read_to_string(&audit).unwrap();
        fs::write(&audit, text.replacen("\"count\":20,\"result\"", "\"count\":2,\"result\"", 1)).unwrap();
        let verify = fleet.audit(&format!("verify {file}"));
        let flaw = "line 7: it does not follow from line 6";
        assert!(verify.status == 1 && verify.text().contains(flaw), "{}{}", verify.text(), verify.errors());
    });
}

#[test]
fn one_signature_is_enough_where_one_is_needed_and_the_agents_own_connection_stays() {
    Fleet::run(&["alpha"], "", |fleet| {
        fleet.track_connections("alpha");
        let own = |fleet: &Fleet<'_>| fleet.inside("alpha", "-L -p tcp --dport 4222").text().lines().count();
        assert!(own(fleet) >= 1, "its connection is in its table");
        fleet.fill("alpha", 53, 10);
        let before = own(fleet);
        let outcome = fleet.ask("delete -o json -- --where true");
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert_eq!(objects(&outcome.text())[0]["deleted"], 10, "{}", outcome.text());
        assert_eq!((fleet.count("alpha", 53), own(fleet)), (0, before));

        let plan = fleet.namespace.directory().join("plan.json").display().to_string();
        fleet.fill("alpha", 53, 10);
        fleet.ask(&format!("delete --dry-run --plan {plan} --expires 0 -- -p udp"));
        let expired = fleet.ask(&format!("sign {plan}"));
        assert!(expired.status == 1 && expired.errors().contains("the plan expired"), "{}", expired.errors());
        assert_eq!(fleet.count("alpha", 53), 10);
    });
}
