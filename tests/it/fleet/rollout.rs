//! Policies from the centre: a good one stays, and what fails comes back by itself.

use std::fs;

use flowgate_test_support::{plugins, wait::until};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Fleet, objects};

/// Writes a policy with this plugin to a folder, and returns its path. `options` are those of the plugin.
fn policy(fleet: &Fleet<'_>, name: &str, plugin: &str, options: &str, more: &str) -> String {
    let folder = fleet.namespace.directory().join(name);
    fs::create_dir_all(folder.join("plugins")).unwrap();
    let plugin = plugins::built(plugin);
    fs::copy(&plugin, folder.join("plugins/plugin.wasm")).unwrap();
    let place = fleet.namespace.directory().display();
    let text = format!(
        "[service]\nsocket = \"{place}/policy.sock\"\n[audit]\npath = \"{place}/policy.jsonl\"\n\
         [[tenant]]\nname = \"blue\"\n[[tenant.scope]]\nports = [53]\n[[tenant.plugin]]\nfile = \"plugins/plugin.wasm\"\n\
         sha256 = \"{}\"\ngrants = [\"state\", \"time\"]\noptions = {{ {options} }}\n{more}\n\
         [[tenant.sink]]\nkind = \"file\"\npath = \"{place}/{name}.log\"\n",
        plugins::digest(&plugin),
    );
    fs::write(folder.join("policy.toml"), text).unwrap();
    folder.display().to_string()
}

/// Returns what an agent reports that it runs.
fn running(fleet: &Fleet<'_>) -> Value {
    objects(&fleet.ask("ls -o json").text())[0]["running"].clone()
}

/// Makes trials short, and starts the agent anew.
fn restart(fleet: &mut Fleet<'_>, trial: u32) {
    let file = fleet.place().join("agents/alpha/agent.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text: String = text.lines().filter(|line| !line.starts_with("trial")).map(|line| format!("{line}\n")).collect();
    fs::write(&file, format!("{text}trial = {trial}\n")).unwrap();
    fleet.agent("alpha").finish();
    fleet.start("alpha");
}

#[test]
fn a_good_plugin_stays_and_one_that_traps_comes_back() {
    Fleet::run(&["alpha"], "", |fleet| {
        restart(fleet, 3);
        let good = policy(fleet, "good", "active", "", "");
        let start = "--stages 100 --bake 1s --within 2m";
        let outcome = fleet.ask(&format!("rollout start {good} {start}"));
        assert_eq!(outcome.status, 0, "{}{}", outcome.text(), outcome.errors());
        assert!(outcome.text().contains("generation 1 (policy "), "{}", outcome.text());
        assert!(outcome.text().contains("stage 1 of 1, 1 of 1 agents: done"), "{}", outcome.text());
        let shown = |name: &str| {
            fs::read_to_string(fleet.namespace.directory().join(format!("{name}.log"))).unwrap_or_default()
        };
        fleet.fill("alpha", 53, 1);
        until("the good one sees the flow", || shown("good").contains("dport=53 "));
        let report = running(fleet);
        assert_eq!((&report["applied"]["generation"], &report["health"]["state"]), (&1.into(), &"running".into()));
        assert!(fleet.ask("ls").text().contains("1 running"));
        let digest = objects(&fleet.ask(&format!("bundle {good} -o json")).text())[0]["digest"].clone();
        assert_eq!(report["applied"]["digest"], digest);

        // Every call traps; after the first failure the plugin is in quarantine.
        let bad = policy(fleet, "bad", "hostile", "do = \"trap\"", "limits = { restarts = 1 }");
        let outcome = fleet.ask(&format!("rollout start {bad} {start} -o json"));
        assert_eq!(outcome.status, 1, "{}{}", outcome.text(), outcome.errors());
        let lines = objects(&outcome.text());
        let phases: Vec<&str> = lines.iter().filter_map(|line| line["phase"].as_str()).collect();
        assert_eq!(phases.last(), Some(&"returned"), "{}", outcome.text());
        let named = lines.iter().find(|line| line["state"] == "bad").unwrap();
        assert_eq!(named["agent"], "alpha");
        assert!(named["reason"].as_str().unwrap().contains("in quarantine: blue:plugin"), "{named}");
        let report = running(fleet);
        assert_eq!((&report["applied"]["generation"], &report["applied"]["digest"]), (&1.into(), &digest));
        assert_eq!((&report["failed"]["generation"], &report["desired"]["generation"]), (&2.into(), &2.into()));
        assert!(fleet.ask("ls").text().contains("1 (2 failed: in quarantine"));
        until("the good one runs again", || running(fleet)["health"]["state"] == "running");
        fleet.fill("alpha", 53, 3);
        until("it sees what comes", || shown("good").lines().count() >= 3);

        // A file with a mistake does not start, and says why.
        let broken = policy(fleet, "broken", "active", "", "colour = 1");
        let outcome = fleet.ask(&format!("rollout start {broken} {start}"));
        assert!(
            outcome.status == 1 && outcome.text().contains("alpha: bad: it ended with status"),
            "{}",
            outcome.text()
        );
        assert!(outcome.text().contains("there is no key of `plugin` `colour`"), "{}", outcome.text());
        let status = fleet.ask("rollout status");
        assert!(
            status.text().contains("generation 3 (policy ") && status.text().contains("returned"),
            "{}",
            status.text()
        );

        // Killed, the agent runs what was applied, and its old process is gone.
        until("the good one runs again", || running(fleet)["health"]["state"] == "running");
        fleet.agent("alpha").end_by(Signal::SIGKILL);
        fleet.start("alpha");
        until("it runs again", || running(fleet)["health"]["state"] == "running");
        assert_eq!(running(fleet)["applied"]["generation"], 1);
        // Nothing, and then back.
        let outcome = fleet.ask(&format!("rollout start --nothing {start}"));
        assert_eq!(outcome.status, 0, "{}{}", outcome.text(), outcome.errors());
        assert_eq!(running(fleet)["health"]["state"], "nothing");
        assert_eq!(fleet.ask("rollout abort").status, 0);
        until("it is back", || running(fleet)["health"]["state"] == "running");
        let audit = fleet.namespace.directory().join("state/alpha/audit.jsonl").display().to_string();
        let text = fs::read_to_string(&audit).unwrap();
        assert!(text.contains("generation 2 failed, back to generation 1: in quarantine"), "{text}");
        fleet.agent("alpha").finish();
    });
}

#[test]
fn an_agent_that_is_killed_in_a_trial_goes_back_and_many_must_sign() {
    Fleet::run(&["alpha"], "--operator admin --operator second --need 2", |fleet| {
        restart(fleet, 600);
        let good = policy(fleet, "good", "active", "", "");
        let start = "--stages 100 --bake 1s --within 20m";
        // One signature is not enough.
        let outcome = fleet.ask(&format!("rollout start {good} {start}"));
        assert!(outcome.status == 1 && outcome.text().contains("1 valid signatures"), "{}", outcome.text());
        assert_eq!(running(fleet)["desired"], Value::Null);
        let file = fleet.namespace.directory().join("release.json").display().to_string();
        assert_eq!(fleet.ask(&format!("rollout start {good} --release {file}")).status, 0);
        let signed = fleet.ask(&format!("sign {file}"));
        assert!(signed.status == 0 && signed.text().contains("the policy in bundle "), "{}", signed.text());
        assert_eq!(fleet.ask_as("second", &format!("sign {file}")).status, 0);
        let outcome = fleet.ask(&format!("rollout start --signed {file} {start} --detach"));
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        let program = flowgate_test_support::flowgate()
            .environment("FLOWGATE_FLEET", &fleet.place().join("operators/admin/operator.toml").display().to_string());
        let mut controller = flowgate_test_support::Background::start(&program, &["fleet", "rollout", "resume"]);
        until("it is on trial", || running(fleet)["trial"]["generation"] == 2);
        until("it runs", || running(fleet)["health"]["state"] == "running");
        // The controller and the agent are killed.
        controller.end_by(Signal::SIGKILL);
        fleet.agent("alpha").end_by(Signal::SIGKILL);
        fleet.start("alpha");
        until("it has gone back", || running(fleet)["failed"]["generation"] == 2);
        assert_eq!(running(fleet)["applied"], Value::Null);
        // Another controller finds out, and ends it.
        let outcome = fleet.ask("rollout resume");
        assert!(
            outcome.status == 1 && outcome.text().contains("ended before the trial was over"),
            "{}",
            outcome.text()
        );
    });
}
