//! A thousand agents, most of which are simulated: nobody is forgotten, and memory is bounded.

use std::io::Read as _;

use flowgate_test_support::{Background, flowgate, wait::until_or_explain, words};
use nix::sys::signal::Signal;

use super::{Fleet, objects, pairs, states};

impl Fleet<'_> {
    /// Starts simulated agents, which the server lets in once it has been told of them, and waits until all of them are
    /// in the registry.
    fn simulate(&self, count: usize, prefix: &str, rows: usize) -> Background {
        self.simulate_with(count, prefix, &format!("--rows {rows}"))
    }

    fn simulate_with(&self, count: usize, prefix: &str, options: &str) -> Background {
        let place = self.place().display().to_string();
        let line = format!(
            "fleet simulate {place} --agents {count} --prefix {prefix} {options} --label simulated --label kind={prefix}"
        );
        let mut agents = Background::start(&flowgate(), &words(&line));
        agents.wait_for_error("have been enrolled");
        self.server.signal(Signal::SIGHUP);
        agents.wait_for_error(&format!("{count} simulated agents are connected"));
        let answer = || {
            let outcome = self.ask("count --on simulated -o json --timeout 60s");
            states(&outcome).iter().filter(|(name, state)| name.starts_with(prefix) && state == "answered").count()
        };
        until_or_explain("all simulated agents answer", || answer() == count, || format!("{} do", answer()));
        agents
    }
}

const REAL: [&str; 8] = ["real-1", "real-2", "real-3", "real-4", "real-5", "real-6", "real-7", "real-8"];

#[test]
fn of_a_thousand_simulated_agents_beside_real_ones_the_killed_are_named() {
    Fleet::run(&REAL, "", |fleet| {
        for name in REAL {
            fleet.fill(name, 443, 2);
        }
        let _most = fleet.simulate(963, "sim-", 3);
        let mut few = fleet.simulate(37, "gone-", 3);
        // All of them, each with all of its flows.
        let outcome = fleet.ask("list -o json --timeout 60s -- --where dport==443");
        let roll = states(&outcome);
        let other: Vec<_> = roll.iter().filter(|(_, state)| state != "answered").collect();
        assert!(roll.len() == 1008 && other.is_empty() && outcome.status == 0, "{}: {other:?}", roll.len());
        let rows = objects(&outcome.text());
        let of = |prefix: &str| rows.iter().filter(|row| row["agent"].as_str().unwrap().starts_with(prefix)).count();
        // Of three made flows one goes to this port.
        assert_eq!((of("real-"), of("sim-"), of("gone-"), rows.len()), (16, 963, 37, 1016));

        few.signal(Signal::SIGKILL);
        few.end();
        let killed: Vec<String> = (1..=37).map(|number| format!("gone-{number:04}")).collect();
        let killed: Vec<(&str, &str)> = killed.iter().map(|name| (name.as_str(), "absent")).collect();
        let outcome = fleet.ask("count -o json --timeout 20s");
        let roll = states(&outcome);
        let others: Vec<(String, String)> = roll.iter().filter(|(_, state)| state != "answered").cloned().collect();
        assert_eq!((pairs(&others), roll.len(), outcome.status), (killed, 1008, 1));
        assert_eq!(objects(&outcome.text()).len(), 971);
        assert_eq!(fleet.ask("count --allow-missing 36 --timeout 20s").status, 1);
        assert_eq!(fleet.ask("count --allow-missing 37 --timeout 20s").status, 0);

        // A plan for all of them is signed, and each that is there counts what it would delete; the recording stays.
        let file = fleet.namespace.directory().join("plan.json").display().to_string();
        let outcome = fleet.ask(&format!(
            "delete --dry-run --plan {file} --on simulated --allow-missing 37 --timeout 60s -- -p tcp --dport 443"
        ));
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert_eq!(fleet.ask(&format!("sign {file}")).status, 0);
        let outcome = fleet.ask(&format!("apply {file} -o json"));
        let roll = states(&outcome);
        assert!(roll.len() == 963 && roll.iter().all(|(_, state)| state == "answered"), "{}", outcome.errors());
        let audit = fleet.place().join("simulated/sim-0001/audit.jsonl").display().to_string();
        let outcome = flowgate().run(&words(&format!("audit verify {audit}")));
        assert!(outcome.status == 0 && outcome.text().contains("2 lines"), "{}{}", outcome.text(), outcome.errors());
        assert_eq!(fleet.ask(&format!("apply {file} -o json")).status, 1, "each plan is done once");
    });
}

#[test]
fn who_asks_a_thousand_agents_has_bounded_memory() {
    const AGENTS: usize = 1000;
    const ROWS: usize = 10_000;
    const MIB: u64 = 1024;
    Fleet::run(&[], "", |fleet| {
        let _agents = fleet.simulate(AGENTS, "sim-", ROWS);
        let operator = fleet.place().join("operators/admin/operator.toml").display().to_string();
        let program = flowgate().environment("FLOWGATE_FLEET", &operator);
        let mut asker = Background::start_unread(&program, &words("fleet list --timeout 60s"));
        let mut output = asker.take_output();
        let (mut part, mut rows, mut peak, mut parts) = (vec![0; 1 << 16], 0, 0, 0_u32);
        loop {
            let length = output.read(&mut part).unwrap();
            rows += part[..length].iter().filter(|&&byte| byte == b'\n').count();
            parts += 1;
            if length == 0 {
                break;
            }
            if parts.is_multiple_of(64) {
                // The highest so far.
                peak = asker.peak().unwrap_or(peak);
            }
        }
        let outcome = asker.end();
        assert_eq!((outcome.status, rows), (0, AGENTS * ROWS), "{}", outcome.errors());
        println!("{rows} rows of {AGENTS} agents: who asks takes {} MiB", peak / MIB);
        assert!((1..=128 * MIB).contains(&peak), "{} MiB", peak / MIB);
    });
}

#[test]
fn an_agent_that_waits_takes_little_memory() {
    Fleet::run(&["one"], "", |fleet| {
        fleet.fill("one", 53, 5000);
        for line in ["ls", "count -- --where bytes>0", "list", "list -o json", "stats"] {
            let outcome = fleet.ask(line);
            assert_eq!(outcome.status, 0, "{line}: {}", outcome.errors());
        }
        let memory = fleet.agent("one").memory().unwrap();
        println!("an agent that waits takes {memory} KiB");
        assert!((1..=30 * 1024).contains(&memory), "{memory} KiB");
    });
}

#[test]
fn simulated_agents_have_a_recording_of_flows_or_say_why_not() {
    Fleet::run(&["one"], "", |fleet| {
        fleet.fill("one", 53, 20);
        let recording = fleet.namespace.directory().join("flows.pcap").display().to_string();
        let outcome = fleet.inside("one", &format!("record {recording} -- -L"));
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        let place = fleet.place().display().to_string();
        let simulate = |line: &str| words(&format!("fleet simulate {place} --agents 2 {line}")).join(" ");
        let line = simulate(&format!("--recording {recording}"));
        let mut agents = Background::start(&flowgate(), &words(&line));
        agents.wait_for_error("have been enrolled");
        fleet.server.signal(Signal::SIGHUP);
        agents.wait_for_error("2 simulated agents are connected");
        let counts = || objects(&fleet.ask("count -o json -- -p udp --dport 53").text());
        let expected: Vec<_> =
            ["one", "sim-0001", "sim-0002"].map(|name| serde_json::json!({ "agent": name, "flows": 20 })).into();
        until_or_explain("all of them answer", || counts() == expected, || format!("{:?}", counts()));
        // What only a kernel has is refused.
        let roll = states(&fleet.ask("stats -o json"));
        assert_eq!(pairs(&roll), [("one", "answered"), ("sim-0001", "refused"), ("sim-0002", "refused")]);
        // They are enrolled already, and end by a signal.
        agents.signal(Signal::SIGTERM);
        assert_eq!(agents.end().status, 0);
        let mut again = Background::start(&flowgate(), &words(&line));
        again.wait_for_error("2 simulated agents are connected");
        assert!(!again.errors().contains("enrolled"), "{}", again.errors());

        let file = fleet.namespace.directory().join("text").display().to_string();
        std::fs::write(&file, "no recording").unwrap();
        for (line, why) in [
            (format!("--recording {file}"), "this is no recording"),
            ("--recording /nowhere".to_owned(), "/nowhere"),
            ("--prefix -".to_owned(), "is no name"),
        ] {
            let outcome = flowgate().run(&words(&simulate(&line)));
            assert!(outcome.status != 0 && outcome.errors().contains(why), "{line}: {}", outcome.errors());
        }
        let outcome = flowgate().run(&words("fleet simulate /tmp --agents 1"));
        assert!(outcome.errors().contains("no fleet.toml"), "{}", outcome.errors());
    });
}

#[test]
fn a_release_reaches_a_thousand_agents_in_stages_and_a_bad_one_comes_back() {
    Fleet::run(&[], "", |fleet| {
        let _good = fleet.simulate_with(950, "good-", "--rows 1 --trial 1s");
        let _bad = fleet.simulate_with(50, "bad-", "--rows 1 --trial 1s --failing 50");
        let folder = fleet.namespace.directory().join("policy");
        std::fs::create_dir(&folder).unwrap();
        let policy = |port: u16| {
            let text = format!(
                "[service]\nsocket = \"/run/x.sock\"\n[audit]\npath = \"/run/x.jsonl\"\n[[tenant]]\nname = \"blue\"\n\
                 [[tenant.scope]]\nports = [{port}]\n"
            );
            std::fs::write(folder.join("policy.toml"), text).unwrap();
            folder.display().to_string()
        };
        let stages = "--stages 5,25,100 --bake 1s --within 5m";
        let outcome = fleet.ask(&format!("rollout start {} --on kind=good- {stages}", policy(53)));
        assert_eq!(outcome.status, 0, "{}{}", outcome.text(), outcome.errors());
        assert!(outcome.text().contains("stage 3 of 3, 950 of 950 agents: done"), "{}", outcome.text());
        let running = |prefix: &str| -> Vec<serde_json::Value> {
            let all = objects(&fleet.ask("ls -o json --timeout 60s").text());
            let of = all.into_iter().filter(|line| line["agent"].as_str().unwrap().starts_with(prefix));
            of.map(|mut line| line["running"].take()).collect()
        };
        assert!(running("good-").iter().all(|running| running["applied"]["generation"] == 1));
        // One in twenty reports a plugin in quarantine: the stage that has the first of them ends it, and all go back.
        let outcome = fleet.ask(&format!("rollout start {} {stages} -o json", policy(54)));
        assert_eq!(outcome.status, 1, "{}{}", outcome.text(), outcome.errors());
        let lines = objects(&outcome.text());
        let phases: Vec<&str> = lines.iter().filter_map(|line| line["phase"].as_str()).collect();
        assert_eq!(phases.last(), Some(&"returned"), "{}", outcome.text());
        let named: Vec<&str> =
            lines.iter().filter(|line| line["state"] == "bad").map(|line| line["agent"].as_str().unwrap()).collect();
        assert!(!named.is_empty() && named.iter().all(|name| name.starts_with("bad-")), "{named:?}");
        let good = running("good-");
        assert_eq!(good.len(), 950);
        assert!(good.iter().all(|running| running["applied"]["generation"] == 1));
        assert!(running("bad-").iter().all(|running| running["applied"] == serde_json::Value::Null));
    });
}
