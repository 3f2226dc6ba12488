//! `flowgate fleet` on a real server, with agents in network namespaces of their own that have tables of their own.
//!
//! Needs root, `ip`, `nft` and `nats-server`: `make setup` installs them.

mod absent;
mod acting;
mod asking;
mod auditing;
mod events;
mod merging;
mod rollout;
mod simulating;
mod stream;
mod updating;
mod watching;

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
};

use flowgate_test_support::{
    Background, Namespace, Outcome, Program, built::profile_directory, flowgate, wait::until, words,
};
use serde_json::Value;

/// The address of the server, in the namespace of the test.
const SERVER: &str = "10.99.0.1";

/// A fleet with a server in the namespace of the test, and agents in others.
struct Fleet<'a> {
    namespace: &'a Namespace,
    /// It ends with this.
    server: Background,
    agents: Vec<(String, Option<Background>)>,
}

impl Fleet<'_> {
    /// Runs `body` with a server, and an agent in a namespace of its own for each name.
    fn run(names: &[&str], options: &str, body: impl FnOnce(&mut Fleet<'_>) + Send) {
        Namespace::run(|namespace| {
            Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
            namespace.ip("link add br0 type bridge");
            namespace.ip(&format!("addr add {SERVER}/24 dev br0"));
            namespace.ip("link set br0 up");
            let place = namespace.directory().join("fleet");
            let store = namespace.directory().join("store");
            let init =
                format!("fleet init {} --server {SERVER} --store {} {options}", place.display(), store.display());
            flowgate().must(&words(&init));
            for (number, name) in names.iter().enumerate() {
                let state = namespace.directory().join("state").join(name);
                let label = if number == 0 { "first" } else { "other" };
                let enrol =
                    format!("fleet enrol {} {name} --label place={label} --state {}", place.display(), state.display());
                flowgate().must(&words(&enrol));
                namespace.ip(&format!("netns add {name}"));
                namespace.ip(&format!("link add v{number} type veth peer name eth0 netns {name}"));
                namespace.ip(&format!("link set v{number} master br0 up"));
                namespace.ip(&format!("-n {name} addr add 10.99.0.{}/24 dev eth0", 10 + number));
                namespace.ip(&format!("-n {name} link set eth0 up"));
                namespace.ip(&format!("-n {name} link set lo up"));
            }
            let server = profile_directory().parent().unwrap().join("nats/nats-server");
            let configuration = place.join("server/nats-server.conf").display().to_string();
            let server = Background::start(&Program::new(server), &["-c", &configuration]);
            until("the server listens", || TcpStream::connect((SERVER, 4222)).is_ok());
            let agents = names.iter().map(|&name| (name.to_owned(), None)).collect();
            let mut fleet = Fleet { namespace, server, agents };
            // Its first connection makes the registry.
            fleet.ask("doctor");
            for name in names {
                fleet.start(name);
            }
            until("all agents are in the registry", || {
                names.is_empty() || fleet.ask("ls -o json").text().lines().count() == names.len()
            });
            body(&mut fleet);
        });
    }

    fn place(&self) -> PathBuf {
        self.namespace.directory().join("fleet")
    }

    /// Starts an agent, and waits until it is connected.
    fn start(&mut self, name: &str) {
        let file = self.place().join("agents").join(name).join("agent.toml").display().to_string();
        let program = flowgate().path.display().to_string();
        let words = ["netns", "exec", name, &program, "fleet", "agent", &file];
        let mut agent = Background::start(&Program::new("ip"), &words);
        agent.wait_for_error("is connected");
        let place = self.agents.iter_mut().find(|(other, _)| other == name).expect("it is one of them");
        place.1 = Some(agent);
    }

    fn agent(&mut self, name: &str) -> &mut Background {
        let place = self.agents.iter_mut().find(|(other, _)| other == name).expect("it is one of them");
        place.1.as_mut().expect("it runs")
    }

    /// Runs a subcommand of `fleet` as an operator.
    fn ask_as(&self, operator: &str, line: &str) -> Outcome {
        self.ask_with(&self.place().join("operators").join(operator).join("operator.toml"), line)
    }

    fn ask_with(&self, operator: &Path, line: &str) -> Outcome {
        let program = flowgate().environment("FLOWGATE_FLEET", &operator.display().to_string());
        program.run(&words(&format!("fleet {line}")))
    }

    fn ask(&self, line: &str) -> Outcome {
        self.ask_as("admin", line)
    }

    /// Runs `audit` as an operator.
    fn audit(&self, line: &str) -> Outcome {
        let operator = self.place().join("operators/admin/operator.toml");
        let program = flowgate().environment("FLOWGATE_FLEET", &operator.display().to_string());
        program.run(&words(&format!("audit {line}")))
    }

    /// Returns the file of an agent's audit.
    fn audit_of(&self, name: &str) -> PathBuf {
        self.namespace.directory().join("state").join(name).join("audit.jsonl")
    }

    /// Runs flowgate in the namespace of an agent.
    fn inside(&self, name: &str, line: &str) -> Outcome {
        let program = flowgate().path.display().to_string();
        let mut all = vec!["netns", "exec", name, program.as_str()];
        all.extend(words(line));
        Program::new("ip").run(&all)
    }

    /// Creates flows of UDP to this port in an agent's table.
    fn fill(&self, name: &str, port: u16, count: u32) {
        let lines = (0..count).map(|number| {
            let (high, low) = (number / 250, number % 250 + 1);
            format!("-A -t 600 -p udp -s 10.1.{high}.{low} -d 10.2.0.1 --sport 4000 --dport {port}\n")
        });
        let file = self.namespace.directory().join("load");
        fs::write(&file, lines.collect::<String>()).unwrap();
        let outcome = self.inside(name, &format!("-R {}", file.display()));
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
    }

    /// Has an agent's real connections tracked, as a table does only where something asks for them, its own one too.
    fn track_connections(&mut self, name: &str) {
        let rules = self.namespace.directory().join("rules");
        fs::write(&rules, "table inet t { chain c { type filter hook output priority 0; ct state new accept; }; }\n")
            .unwrap();
        let load = ["netns", "exec", name, "nft", "-f", &rules.display().to_string()];
        Program::new("ip").must(&load);
        self.agent(name).finish();
        self.start(name);
    }

    /// Returns the number of an agent's flows of UDP to this port.
    fn count(&self, name: &str, port: u16) -> usize {
        let outcome = self.inside(name, &format!("-L -p udp --dport {port}"));
        outcome.text().lines().count()
    }
}

/// Returns the objects of an output.
fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Returns the states of a roll call, by name.
fn states(outcome: &Outcome) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lines = objects(&outcome.errors());
    lines
        .iter()
        .filter(|line| line["state"].is_string())
        .map(|line| (text(&line["agent"]), text(&line["state"])))
        .collect()
}

fn pairs(states: &[(String, String)]) -> Vec<(&str, &str)> {
    states.iter().map(|(name, state)| (name.as_str(), state.as_str())).collect()
}
