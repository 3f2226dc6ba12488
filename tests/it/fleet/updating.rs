//! Updates: planned, signed and done as deletions are.

use std::fs;

use super::{Fleet, objects, pairs, states};

#[test]
fn an_update_says_what_is_set_and_sets_it() {
    Fleet::run(&["alpha", "beta"], "", |fleet| {
        for name in ["alpha", "beta"] {
            fleet.fill(name, 53, 20);
            fleet.fill(name, 99, 3);
        }
        let marked = |fleet: &Fleet<'_>, name: &str, mark: u32| {
            fleet.inside(name, &format!("-L -p udp -m {mark}")).text().lines().count()
        };
        let plan = fleet.namespace.directory().join("plan.json");
        let file = plan.display().to_string();
        let outcome = fleet.ask(&format!("update --dry-run --plan {file} -- -p udp --where dport==53 -m 7 -t 300"));
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        for line in [
            "update 40 flows of 2 agents, and 10 % more, within ",
            "sets mark 0x7, timeout 300 s\nalpha  20\nbeta   20\n",
        ] {
            assert!(outcome.text().contains(line), "{line}: {}", outcome.text());
        }
        assert_eq!((marked(fleet, "alpha", 7), marked(fleet, "beta", 7)), (0, 0), "a plan does nothing");
        let signed = fleet.ask(&format!("sign -o json {file}"));
        let shown = objects(&signed.text());
        assert_eq!((&shown[0]["action"], &shown[0]["sets"][0]), (&"update".into(), &"mark 0x7".into()));
        assert_eq!(shown[1]["would_update"], 20);
        // The value is what was signed.
        let text = fs::read_to_string(&plan).unwrap();
        fs::write(&plan, text.replace(r#"\"7\""#, r#"\"8\""#)).unwrap();
        let outcome = fleet.ask(&format!("apply -o json {file}"));
        assert_eq!(pairs(&states(&outcome)), [("alpha", "refused"), ("beta", "refused")]);
        fs::write(&plan, &text).unwrap();
        let outcome = fleet.ask(&format!("apply -o json {file}"));
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        let done =
            ["alpha", "beta"].map(|name| serde_json::json!({ "agent": name, "updated": 20, "as_planned": true }));
        assert_eq!(objects(&outcome.text()), done);
        assert_eq!((marked(fleet, "alpha", 7), marked(fleet, "beta", 7), marked(fleet, "beta", 8)), (20, 20, 0));
        assert_eq!((fleet.count("alpha", 53), fleet.count("alpha", 99)), (20, 3));
        // Again by the same plan: refused. By another: there is nothing to change.
        let outcome = fleet.ask(&format!("apply {file}"));
        assert!(outcome.errors().contains("was done already (20 flows updated)"), "{}", outcome.errors());
        let outcome = fleet.ask("update --dry-run -- -p udp --where dport==53 -m 7");
        assert!(outcome.text().contains("update 0 flows"), "{}", outcome.text());

        for (line, why) in [
            ("update -- -p udp", "nothing is set"),
            ("update -- -D -p udp -m 1", "another command"),
            ("update -- -p udp -m 1 -o json", "has no use after --"),
            ("update --plan x.json -- -m 1", "--dry-run"),
        ] {
            let outcome = fleet.ask(line);
            assert!(outcome.status != 0 && outcome.errors().contains(why), "{line}: {}", outcome.errors());
        }
    });
}

#[test]
fn an_update_leaves_the_agents_own_connection_alone() {
    Fleet::run(&["alpha"], "", |fleet| {
        fleet.track_connections("alpha");
        fleet.fill("alpha", 53, 10);
        let outcome = fleet.ask("update -o json -- --where true -m 9");
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert_eq!(objects(&outcome.text())[0]["updated"], 10, "{}", outcome.text());
        let own = fleet.inside("alpha", "-L -p tcp --dport 4222").text();
        assert!(!own.is_empty() && own.lines().all(|line| line.contains("mark=0")), "{own}");
    });
}
