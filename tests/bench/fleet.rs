//! A fleet of a thousand simulated agents beside eight real ones: how long a question takes, whether those who were
//! killed are named, and the memory of who asks and of an agent that waits.

use std::{net::TcpStream, path::Path};

use flowgate_test_support::{Background, Namespace, Program, until, words};
use nix::sys::signal::Signal;

use crate::measure::{self, Figures, Sink};

/// The simulated agents, and how many of them are killed.
const SIMULATED: usize = 1000;
const KILLED: usize = 37;
/// The agents with a kernel's table, each in a network namespace of its own.
const REAL: usize = 8;
/// Rounds of a question.
const ROUNDS: usize = 20;
/// Flows of each agent where all of them are listed.
const ROWS: usize = 10_000;
/// Goals in MiB: who asks, and an agent that waits.
const ASKER: f64 = 128.0;
const AGENT: f64 = 30.0;

/// The address of the server.
const SERVER: &str = "10.99.0.1";

struct Fleet<'a> {
    ours: &'a str,
    namespace: &'a Namespace,
    server: Background,
    operator: String,
}

impl Fleet<'_> {
    fn place(&self) -> String {
        self.namespace.directory().join("fleet").display().to_string()
    }

    /// Starts simulated agents and waits until all of them answer.
    fn simulate(&self, count: usize, prefix: &str, rows: usize) -> Background {
        let line = format!(
            "fleet simulate {} --agents {count} --prefix {prefix} --rows {rows} --label {prefix}",
            self.place()
        );
        let mut agents = Background::start(&Program::new(self.ours), &words(&line));
        agents.wait_for_error("have been enrolled");
        self.server.signal(Signal::SIGHUP);
        agents.wait_for_error("simulated agents are connected");
        until("all of them answer", || self.answered(&format!("--on {prefix}")) == count);
        agents
    }

    fn run(&self, line: &str) -> flowgate_test_support::Outcome {
        Program::new(self.ours).run(&words(&format!("fleet {line} --operator {} --timeout 60s", self.operator)))
    }

    /// Returns how many agents answer.
    fn answered(&self, whom: &str) -> usize {
        self.run(&format!("count {whom} -o json")).errors().matches("\"state\":\"answered\"").count()
    }

    /// Measures a question, which all must answer, or all but so many.
    fn measure(&self, line: &str, missing: usize) -> Figures {
        let all = format!("fleet {line} --operator {} --timeout 60s --allow-missing {missing}", self.operator);
        let words: Vec<String> = all.split_whitespace().map(str::to_owned).collect();
        measure::at_once(self.ours, &words, Sink::Null).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Measures a question again and again, and prints its percentiles.
    fn rounds(&self, what: &str, line: &str) {
        let mut times: Vec<f64> = (0..ROUNDS).map(|_| self.measure(line, 0).wall).collect();
        times.sort_by(f64::total_cmp);
        // Of 20 rounds, the longest is the 99th percentile.
        let (middle, last) = (times[ROUNDS / 2], times[(ROUNDS * 99).div_ceil(100) - 1]);
        println!("  {what:55} p50 {middle:6.0} ms, p99 {last:6.0} ms");
    }
}

/// Runs `body` with a server, and real agents with two flows each.
fn with_fleet(ours: &str, nats: &Path, real: usize, body: impl FnOnce(&Fleet<'_>, &[Background]) + Send) {
    Namespace::run(|namespace| {
        let run = |line: &str| Program::new(ours).must(&words(line));
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        namespace.ip("link add br0 type bridge");
        namespace.ip(&format!("addr add {SERVER}/24 dev br0"));
        namespace.ip("link set br0 up");
        let place = namespace.directory().join("fleet").display().to_string();
        run(&format!("fleet init {place} --server {SERVER} --store {}", namespace.directory().join("store").display()));
        let names: Vec<String> = (1..=real).map(|number| format!("real-{number}")).collect();
        for (number, name) in names.iter().enumerate() {
            let state = namespace.directory().join(format!("state-{name}"));
            run(&format!("fleet enrol {place} {name} --label real --state {}", state.display()));
            namespace.ip(&format!("netns add {name}"));
            namespace.ip(&format!("link add v{number} type veth peer name eth0 netns {name}"));
            namespace.ip(&format!("link set v{number} master br0 up"));
            namespace.ip(&format!("-n {name} addr add 10.99.0.{}/24 dev eth0", 10 + number));
            namespace.ip(&format!("-n {name} link set eth0 up"));
            let add = "-A -t 3000 -p udp -s 10.1.0.1 -d 10.2.0.1 --sport 4000 --dport 443";
            let line: Vec<&str> = ["netns", "exec", name, ours].into_iter().chain(words(add)).collect();
            Program::new("ip").must(&line);
        }
        let server = Background::start(&Program::new(nats), &["-c", &format!("{place}/server/nats-server.conf")]);
        until("the server listens", || TcpStream::connect((SERVER, 4222)).is_ok());
        let operator = format!("{place}/operators/admin/operator.toml");
        let fleet = Fleet { ours, namespace, server, operator };
        // The first connection of an operator makes the registry.
        fleet.run("ls");
        let agents = names.iter().map(|name| {
            let file = format!("{place}/agents/{name}/agent.toml");
            let mut agent =
                Background::start(&Program::new("ip"), &["netns", "exec", name, ours, "fleet", "agent", &file]);
            agent.wait_for_error("is connected");
            agent
        });
        let agents: Vec<Background> = agents.collect();
        until("all real agents answer", || real == 0 || fleet.answered("--on real") == real);
        body(&fleet, &agents);
    });
}

/// Returns "met" or "MISSED".
fn verdict(figure: f64, goal: f64) -> &'static str {
    if figure <= goal { "met" } else { "MISSED" }
}

/// Measures the fleet and prints the figures.
pub(crate) fn run(ours: &str, target: &Path) {
    let nats = target.join("nats/nats-server");
    println!("\nA fleet of {SIMULATED} simulated agents and {REAL} real ones, {ROUNDS} rounds, whole commands:");
    with_fleet(ours, &nats, REAL, |fleet, agents| {
        let _most = fleet.simulate(SIMULATED - KILLED, "most", 1);
        let mut few = fleet.simulate(KILLED, "few", 1);
        assert_eq!(fleet.answered(""), SIMULATED + REAL, "all of them are in the roll call");
        fleet.rounds("ls: the roll call", "ls");
        fleet.rounds("list: an answer of 200 bytes of each", "list");
        fleet.rounds("count", "count");
        few.signal(Signal::SIGKILL);
        few.end();
        let roll = fleet.run("count -o json").errors();
        let named = (1..=KILLED).filter(|number| {
            let line =
                |line: &&str| line.contains(&format!("\"agent\":\"few{number:04}\"")) && line.contains("\"absent\"");
            roll.lines().any(|text| line(&text))
        });
        println!("  {:55} {} named, {} answered", format!("{KILLED} are killed"), named.count(), fleet.answered(""));
        let memory = agents.iter().filter_map(Background::memory).max().unwrap_or_default() as f64 / 1024.0;
        println!(
            "  {:55} {memory:6.1} MiB, at most {AGENT} ({})",
            "memory of an agent that waits",
            verdict(memory, AGENT)
        );
    });
    with_fleet(ours, &nats, 0, |fleet, _| {
        let _agents = fleet.simulate(SIMULATED, "many", ROWS);
        for (what, line) in [("list", "list"), ("list -o json", "list -o json")] {
            let Figures { wall, cpu, memory } = fleet.measure(line, 0);
            let what = format!("{what}: {ROWS} flows of each of {SIMULATED} agents");
            let (wall, cpu) = (wall / 1e3, cpu / 1e3);
            println!(
                "  {what:55} {wall:5.1} s, {cpu:5.1} s of CPU, {memory:5.1} MiB, at most {ASKER} ({})",
                verdict(memory, ASKER)
            );
        }
    });
}
