//! Questions: every agent answers or is named.

use flowgate_test_support::{flowgate, words};
use nix::sys::signal::Signal;

use super::{Fleet, objects, pairs, states};

#[test]
fn one_question_to_all_and_each_is_named() {
    Fleet::run(&["alpha", "beta", "gamma"], "", |fleet| {
        fleet.fill("alpha", 53, 3);
        // Far more than fits into one answer.
        fleet.fill("beta", 53, 5000);
        fleet.fill("gamma", 99, 2);
        let outcome = fleet.ask("list -- -p udp --dport 53");
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        let lines: Vec<String> = outcome.text().lines().map(str::to_owned).collect();
        let of = |name: &str| lines.iter().filter(|line| line.starts_with(name)).count();
        assert_eq!((of("alpha  udp"), of("beta   udp"), lines.len()), (3, 5000, 5003), "{:?}", lines.first());
        assert!(outcome.errors().contains("5003 flow entries of 3 agents"), "{}", outcome.errors());
        assert!(outcome.errors().contains("3 of 3 agents: 3 answered"), "{}", outcome.errors());

        // The same rows as on the host itself, in any order.
        let mut here: Vec<String> = fleet.inside("alpha", "-L -p udp --dport 53").text().lines().map(no_time).collect();
        let alphas = lines.iter().filter_map(|line| line.strip_prefix("alpha  "));
        let mut there: Vec<String> = alphas.map(no_time).collect();
        here.sort();
        there.sort();
        assert_eq!(here, there);

        let outcome = fleet.ask("list -o json -- --where dport==53");
        let rows = objects(&outcome.text());
        assert_eq!(rows.len(), 5003);
        assert!(rows.iter().all(|row| row["original"]["destination_port"] == 53), "{}", rows[0]);
        assert_eq!(rows.iter().filter(|row| row["agent"] == "beta").count(), 5000);
        let answered = ["alpha", "beta", "gamma"].map(|name| (name, "answered"));
        assert_eq!(pairs(&states(&outcome)), answered);

        let outcome = fleet.ask("list --on place=first -- -p udp");
        assert!(outcome.text().lines().all(|line| line.starts_with("alpha ")), "{}", outcome.text());
        assert!(outcome.errors().contains("1 of 1 agents"), "{}", outcome.errors());

        let outcome = fleet.ask("count -- -p udp --dport 53");
        let counts: Vec<Vec<&str>> =
            vec![vec!["alpha", "3"], vec!["beta", "5000"], vec!["gamma", "0"], vec!["total", "5003"]];
        let text = outcome.text();
        assert_eq!(text.lines().map(|line| line.split_whitespace().collect()).collect::<Vec<Vec<&str>>>(), counts);
        let outcome = fleet.ask("count -o json --agent beta -- -p udp --where dport==53");
        assert_eq!(objects(&outcome.text()), [serde_json::json!({ "agent": "beta", "flows": 5000 })]);

        let outcome = fleet.ask("ls -o json");
        let agents = objects(&outcome.text());
        assert_eq!(agents.len(), 3);
        assert_eq!(
            (&agents[0]["agent"], &agents[0]["state"], &agents[0]["labels"][0]),
            (&"alpha".into(), &"answered".into(), &"place=first".into())
        );
        assert_eq!(agents[0]["flowgate"], env!("CARGO_PKG_VERSION"));
        assert!(agents[1]["flows"].as_u64().unwrap() >= 5000, "{}", agents[1]);

        let outcome = fleet.ask("stats -o json");
        let lines = objects(&outcome.text());
        let of = |name: &str| lines.iter().filter(|line| line["agent"] == name).count();
        let here = fleet.inside("beta", "-S").text().lines().count();
        assert_eq!((of("beta"), outcome.status), (here, 0), "{}", outcome.errors());
        assert!(lines.iter().all(|line| line["counters"]["found"].is_u64()), "{}", lines[0]);

        let outcome = fleet.ask("doctor");
        assert_eq!(outcome.status, 0, "{}", outcome.text());
        for line in ["ok        connection", "ok        storage", "ok        agents: all answer", "ok        clocks"] {
            assert!(outcome.text().contains(line), "{line}: {}", outcome.text());
        }
    });
}

/// Returns a line without its remaining time.
fn no_time(line: &str) -> String {
    line.split_whitespace().enumerate().filter(|&(at, _)| at != 2).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}

#[test]
fn whoever_is_missing_is_named_and_the_status_says_so() {
    Fleet::run(&["alpha", "beta", "gamma", "delta"], "", |fleet| {
        fleet.agent("beta").end_by(Signal::SIGKILL);
        fleet.agent("delta").signal(Signal::SIGSTOP);
        let outcome = fleet.ask("count -o json --timeout 1s");
        let found = states(&outcome);
        let expected = [("alpha", "answered"), ("beta", "absent"), ("delta", "absent"), ("gamma", "answered")];
        assert_eq!((pairs(&found), outcome.status), (expected.to_vec(), 1), "{}", outcome.errors());
        let sums = objects(&outcome.errors()).pop().unwrap();
        assert_eq!(
            (&sums["asked"], &sums["states"]["absent"], &sums["states"]["late"]),
            (&4.into(), &2.into(), &0.into())
        );
        let text = fleet.ask("list --timeout 1s");
        assert!(text.errors().contains("beta   absent    nobody is connected with its key"), "{}", text.errors());
        assert!(text.errors().contains("delta  absent    connected, but no answer"), "{}", text.errors());
        assert_eq!(fleet.ask("count --timeout 1s --allow-missing 1").status, 1);
        assert_eq!(fleet.ask("count --timeout 1s --allow-missing 2").status, 0);
        let doctor = fleet.ask("doctor");
        assert_eq!(doctor.status, 1);
        assert!(doctor.text().contains("problem   agent: beta is absent"), "{}", doctor.text());

        fleet.agent("delta").signal(Signal::SIGCONT);
        fleet.start("beta");
        let outcome = fleet.ask("count");
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        // One that ends in an orderly way is absent as well, and is forgotten when told so.
        fleet.agent("beta").finish();
        assert_eq!(fleet.ask("count").status, 1);
        assert_eq!(fleet.ask("forget beta").status, 0);
        let outcome = fleet.ask("count");
        assert!(outcome.status == 0 && outcome.errors().contains("3 of 3 agents"), "{}", outcome.errors());
    });
}

#[test]
fn a_question_reads_nothing_else_and_changes_nothing() {
    Fleet::run(&["alpha"], "", |fleet| {
        fleet.fill("alpha", 53, 1);
        for line in
            ["list -- -D", "list -- -F", "list -- -z", "list -- --netns 1", "count -- -E", "list -- --where nonsense"]
        {
            let outcome = fleet.ask(line);
            assert_ne!(outcome.status, 0, "{line}");
            assert!(outcome.errors().starts_with("flowgate: "), "{line}: {}", outcome.errors());
        }
        assert_eq!(fleet.count("alpha", 53), 1);
        let nobody = fleet.ask("count --agent nobody");
        assert!(nobody.errors().contains("no agent nobody in the registry, which has alpha"), "{}", nobody.errors());
        let label = fleet.ask("count --on place=else");
        assert!(label.errors().contains("no agent has all of these labels"), "{}", label.errors());
        // The key of an agent is not that of somebody who asks.
        let agent = fleet.place().join("agents/alpha");
        let text = std::fs::read_to_string(fleet.place().join("operators/admin/operator.toml")).unwrap();
        let forged = fleet.namespace.directory().join("forged.toml");
        let text = text.replace("connect.nk", &agent.join("agent.nk").display().to_string());
        let text = text.replace("\"ca.pem\"", &format!("\"{}\"", agent.join("ca.pem").display()));
        std::fs::write(&forged, text).unwrap();
        let denied = fleet.ask_with(&forged, "count");
        assert!(denied.status == 1 && denied.errors().contains("does not permit it"), "{}", denied.errors());
    });
}

#[test]
fn what_is_missing_is_said_before_anything_is_tried() {
    let wrong = |line: &str| {
        let outcome = flowgate().run(&words(line));
        assert_ne!(outcome.status, 0, "{line}");
        outcome.errors()
    };
    let missing = wrong("fleet ls --operator /nonexistent/operator.toml");
    assert!(
        missing.contains("/nonexistent/operator.toml: No such file") && missing.contains("fleet init --help"),
        "{missing}"
    );
    assert!(wrong("fleet agent /nonexistent/agent.toml").contains("/nonexistent/agent.toml"));
    assert!(wrong("fleet enrol /nonexistent a").contains("no fleet.toml"));
    assert!(wrong("fleet init /tmp/x --server a --operator a --need 2").contains("2 signatures are needed"));
    assert!(wrong("fleet init /tmp/x --server a:b").contains("is no server"));
    assert!(wrong("fleet lst").contains("'ls'"));
}
