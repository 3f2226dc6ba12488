//! The fleet while servers fail: one of a cluster that is killed or frozen, and the only one, in the middle of a
//! question. `make setup` installs the server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use std::{
    collections::BTreeMap,
    io::Write,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use flowgate_base::Warnings;
use flowgate_fleet::{
    agent::{Agent, Identity, Records},
    audit::{self, Audit},
    bus::{Bus, Connection, Nats, Streams as _},
    collector::{self, Member, Taken},
    config::{AgentFile, OperatorFile, Server, Servers},
    journal::Journal,
    keys::ConnectKey,
    message::Ask,
    names::{self, AgentId},
    plan::{Action, SignedPlan},
    roll_call::RollCall,
    server_config::{self, AgentOptions, FleetOptions},
    table::{Facts, Form, Table, TableError, Touched},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SOON: Duration = Duration::from_secs(20);
/// Whoever is frozen is known to be gone after three pings of 15 s that were not answered; then comes the next attempt.
const FROZEN: Duration = Duration::from_secs(150);

/// A table of this number of flows of 100 bytes each.
#[derive(Clone, Copy)]
struct Made(u64);

impl Table for Made {
    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn count(&self, _: &[String]) -> Result<u64, TableError> {
        Ok(self.0)
    }

    fn list(&self, _: &[String], _: Form, out: &mut dyn Write) -> Result<u64, TableError> {
        for row in 0..self.0 {
            writeln!(out, "{row:099}").map_err(|_| TableError::Gone)?;
        }
        Ok(self.0)
    }

    fn stats(&self, form: Form, out: &mut dyn Write) -> Result<u64, TableError> {
        self.list(&[], form, out)
    }

    fn plan(&self, _: Action, _: &[String]) -> Result<Touched, TableError> {
        Ok(Touched::default())
    }

    fn act(&self, _: Action, _: &[String]) -> Result<u64, TableError> {
        Ok(0)
    }
}

/// The present server, and the oldest that is supported.
const SERVERS: [&str; 2] = ["nats-server", "debian/nats-server"];

/// A fleet with one server or a cluster, which end with this.
struct Site {
    program: &'static str,
    servers: Vec<Option<Child>>,
    addresses: Vec<Server>,
    directory: tempfile::TempDir,
    agents: Vec<PathBuf>,
}

impl Drop for Site {
    fn drop(&mut self) {
        for server in self.servers.iter_mut().flatten() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Returns free ports, each of which is free 2000 above it too, where the servers of a cluster reach each other.
fn free_ports(count: usize) -> Vec<u16> {
    let mut held = Vec::new();
    let mut ports = Vec::new();
    while ports.len() < count {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let above = port.checked_add(2000).and_then(|above| TcpListener::bind(("127.0.0.1", above)).ok());
        if let Some(above) = above {
            held.push(above);
            ports.push(port);
        }
        held.push(listener);
    }
    ports
}

impl Site {
    fn new(program: &'static str, servers: usize, agents: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fleet = directory.path().join("fleet");
        let ports = free_ports(servers);
        let addresses: Vec<Server> = ports.iter().map(|port| format!("127.0.0.1:{port}").parse().unwrap()).collect();
        let options = FleetOptions {
            server: Servers::new(addresses.clone()).unwrap(),
            also: Vec::new(),
            operators: vec!["admin".parse().unwrap()],
            need: 1,
            server_directory: None,
            store: directory.path().join("store"),
            synchronize: !program.contains("debian"),
        };
        server_config::init(&fleet, &options).unwrap();
        let options = (0..agents).map(|number| {
            let state = directory.path().join(format!("state-{number}"));
            std::fs::create_dir(&state).unwrap();
            AgentOptions { name: format!("agent-{number}").parse().unwrap(), labels: Vec::new(), state }
        });
        let enrolled = server_config::enrol(&fleet, &options.collect::<Vec<_>>()).unwrap();
        let agents = enrolled.into_iter().map(|(place, _)| place.join("agent.toml")).collect();
        let mut site = Site { program, servers: Vec::new(), addresses, directory, agents };
        for index in 0..servers {
            let server = site.spawn(index);
            site.servers.push(Some(server));
        }
        for index in 0..servers {
            site.listens(index);
        }
        site
    }

    fn spawn(&self, index: usize) -> Child {
        let number = (self.addresses.len() > 1).then_some(index + 1);
        self.spawn_with(&server_config::configuration(number), index)
    }

    /// Starts a server with a file of the server's directory.
    fn spawn_with(&self, configuration: &str, index: usize) -> Child {
        let places = std::env::var_os("FLOWGATE_NATS").map(PathBuf::from);
        let place = places.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/nats"));
        let configuration = self.directory.path().join("fleet/server").join(configuration);
        let path = place.join(self.program);
        let mut command = Command::new(&path);
        let log = std::fs::File::create(self.log(index)).unwrap();
        command.arg("-c").arg(configuration).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.spawn().unwrap_or_else(|error| panic!("{}: {error}; `make setup` installs it", path.display()))
    }

    fn log(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("log-{index}"))
    }

    fn listens(&self, index: usize) {
        let began = Instant::now();
        let address = &self.addresses[index];
        while TcpStream::connect((address.host(), address.port())).is_err() {
            let log = std::fs::read_to_string(self.log(index)).unwrap_or_default();
            assert!(began.elapsed() < SOON, "{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends a server as `kill -9` does.
    fn kill(&mut self, index: usize) {
        let mut server = self.servers[index].take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    fn start(&mut self, index: usize) {
        self.servers[index] = Some(self.spawn(index));
        self.listens(index);
    }

    fn signal(&self, index: usize, signal: Signal) {
        let server = self.servers[index].as_ref().unwrap();
        kill(Pid::from_raw(i32::try_from(server.id()).unwrap()), signal).unwrap();
    }

    async fn operator(&self) -> Result<Nats, String> {
        let path = self.directory.path().join("fleet/operators/admin/operator.toml");
        let file = OperatorFile::read(&path).unwrap();
        let key = ConnectKey::read(&file.key).unwrap();
        let connection = Connection { server: &file.server, ca: &file.ca, key: &key, name: "test", waiting: 10_000 };
        Nats::connect(&connection).await.map_err(|error| error.to_string())
    }

    /// Starts an agent with this number of flows, which ends with the event loop.
    async fn run(&self, index: usize, flows: u64) {
        let (file, _) = AgentFile::read(&self.agents[index]).unwrap();
        self.run_at(index, flows, &file.server).await;
    }

    /// Starts an agent that connects to these servers.
    async fn run_at(&self, index: usize, flows: u64, server: &Servers) {
        let (file, ring) = AgentFile::read(&self.agents[index]).unwrap();
        let key = ConnectKey::read(&file.key).unwrap();
        let connection = Connection { server, ca: &file.ca, key: &key, name: "agent", waiting: 256 };
        let bus = Nats::connect(&connection).await.unwrap();
        let identity = Identity { id: key.id(), name: file.name, labels: file.labels, ring };
        let records = Records {
            journal: Journal::open(&file.state.join("journal")).unwrap(),
            audit: Audit::open(&file.state.join("audit")).unwrap(),
        };
        let agent = Agent::new(bus, Made(flows), identity, records, Warnings::ignored());
        tokio::spawn(async { drop(agent.run(std::future::pending()).await) });
    }

    /// Connects as an operator would, and asks all agents of the registry for their flows. Returns why there is no
    /// answer, or the roll call and the number of rows.
    async fn ask(&self, within: Duration) -> Result<(RollCall, usize), String> {
        let bus = self.operator().await?;
        bus.prepare(names::REGISTRY).await.map_err(|error| error.to_string())?;
        let members = collector::members(&bus).await.map_err(|error| error.to_string())?;
        let mut rows = 0;
        let take = |_: usize, answer: &flowgate_fleet::message::Answer| {
            rows += answer.rows.iter().filter(|&&byte| byte == b'\n').count();
            Taken::Used
        };
        let roll = collector::ask(&bus, &members, list(&members), within, take).await;
        Ok((roll.map_err(|error| error.to_string())?, rows))
    }

    /// Has all agents refuse something, and waits until this number of lines of each is in the stream of audits.
    async fn audits(&self, what: &str, agents: usize, lines: usize) {
        let bus = self.operator().await.unwrap();
        bus.prepare_stream(&audit::STREAM).await.unwrap();
        let members = collector::members(&bus).await.unwrap();
        let ask = Ask::Apply { plan: SignedPlan { plan: "{}".into(), signatures: Vec::new() } };
        let roll = collector::ask(&bus, &members, ask, SOON, |_, _| Taken::Used).await.unwrap();
        assert!(roll.agents().iter().all(|called| called.fate.word() == "refused"), "{what}: {roll}");
        let began = Instant::now();
        loop {
            let mut found: BTreeMap<AgentId, usize> = BTreeMap::new();
            let read = audit::read_all(&bus, |agent, _| {
                *found.entry(agent.clone()).or_default() += 1;
                true
            });
            let missing = read.await;
            if missing == Ok(Vec::new()) && found.len() == agents && found.values().all(|&count| count == lines) {
                return;
            }
            assert!(began.elapsed() < 3 * SOON, "{what}: {missing:?} {found:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks until all agents have answered.
    async fn answers(&self, what: &str, agents: usize, patience: Duration) {
        let began = Instant::now();
        loop {
            let asked = self.ask(Duration::from_secs(3)).await;
            if let Ok((roll, _)) = &asked
                && roll.agents().len() == agents
                && roll.missing() == 0
            {
                println!("{what}: all of {agents} agents answer after {:?}", began.elapsed());
                return;
            }
            assert!(began.elapsed() < patience, "{what}: {asked:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn list(members: &[Member]) -> Ask {
    Ask::List { words: Vec::new(), form: Form::Text, first: collector::first(members.len()) }
}

#[tokio::test]
async fn a_cluster_of_three_goes_on_without_one() {
    let mut site = Site::new(SERVERS[0], 3, 6);
    // The servers first elect who stores what.
    let began = Instant::now();
    while let Err(error) = site.ask(SOON).await {
        assert!(began.elapsed() < 3 * SOON, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for index in 0..6 {
        site.run(index, 1000).await;
    }
    site.answers("at first", 6, 3 * SOON).await;
    site.audits("at first", 6, 1).await;
    for index in 0..3 {
        site.kill(index);
        site.answers("one is killed", 6, 3 * SOON).await;
        // What each has refused is stored once, by the two that are left.
        site.audits("one is killed", 6, index + 2).await;
        site.start(index);
        site.answers("it is back", 6, 3 * SOON).await;
    }
    // One that is frozen takes connections and never answers, as behind a broken link.
    site.signal(1, Signal::SIGSTOP);
    site.answers("one is frozen", 6, FROZEN).await;
    site.signal(1, Signal::SIGCONT);
    site.answers("it goes on", 6, 3 * SOON).await;
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_of_a_question_leaves_nobody_out() {
    const AGENTS: usize = 20;
    const ROWS: u64 = 50_000;
    let mut site = Site::new(SERVERS[0], 1, AGENTS);
    assert!(site.ask(SOON).await.unwrap().0.agents().is_empty());
    for index in 0..AGENTS {
        site.run(index, ROWS).await;
    }
    site.answers("at first", AGENTS, 3 * SOON).await;
    let bus = site.operator().await.unwrap();
    let members = collector::members(&bus).await.unwrap();
    let within = Duration::from_secs(3);
    let (mut answers, mut rows) = (0, 0);
    let began = Instant::now();
    let take = |_: usize, answer: &flowgate_fleet::message::Answer| {
        rows += answer.rows.iter().filter(|&&byte| byte == b'\n').count();
        answers += 1;
        // Everybody has begun to answer, and nobody has ended.
        if answers == 2 * AGENTS {
            site.kill(0);
        }
        Taken::Used
    };
    let roll = collector::ask(&bus, &members, list(&members), within, take).await.unwrap();
    println!("given up after {:?}, with {rows} rows", began.elapsed());
    let words: Vec<&str> = roll.agents().iter().map(|called| called.fate.word()).collect();
    assert_eq!(words, vec!["partial"; AGENTS], "{roll}");
    assert!(rows > 0 && (rows as u64) < ROWS * AGENTS as u64);
    // Not 8 at a time for all of them: the rest is given up when the server does not answer.
    assert!(began.elapsed() < 8 * within, "{:?}", began.elapsed());

    site.start(0);
    site.answers("it is back", AGENTS, 3 * SOON).await;
    let (roll, rows) = site.ask(SOON).await.unwrap();
    assert_eq!((roll.missing(), rows as u64), (0, ROWS * AGENTS as u64), "{roll}");
}

/// As in docs/FLEET.md: what the server gets for sites, and the server of a site.
fn leaf_files(tls: &str, hub: u16, leaf: u16) -> (String, String) {
    let key = format!("cert_file: \"{tls}/server.pem\", key_file: \"{tls}/server.key\"");
    let hub_part = format!(
        "leafnodes {{\n  listen: \"127.0.0.1:{hub}\"\n  \
         tls {{ {key}, ca_file: \"{tls}/ca.pem\", verify: true }}\n  authorization {{ user: site-fra, password: secret, account: FLEET }}\n}}\n"
    );
    let site = format!(
        "server_name: site-fra\nlisten: \"127.0.0.1:{leaf}\"\nmax_payload: 1MB\nping_interval: \"15s\"\nping_max: 2\n\
         tls {{ {key}, timeout: 5 }}\n\
         leafnodes {{\n  remotes: [ {{ urls: [\"tls://site-fra:secret@127.0.0.1:{hub}\"], account: FLEET, \
         tls {{ {key}, ca_file: \"{tls}/ca.pem\" }} }} ]\n}}\n\
         include \"site-users.conf\"\n"
    );
    (hub_part, site)
}

#[tokio::test]
async fn agents_of_a_site_answer_through_its_leaf_node() {
    for program in SERVERS {
        a_site_and_its_leaf_node(program).await;
    }
}

async fn a_site_and_its_leaf_node(program: &'static str) {
    let mut site = Site::new(program, 1, 4);
    let ports = free_ports(2);
    let server = site.directory.path().join("fleet/server");
    let (part, leaf) = leaf_files(&server.join("tls").display().to_string(), ports[0], ports[1]);
    let main = server.join("nats-server.conf");
    let text = std::fs::read_to_string(&main).unwrap();
    std::fs::write(&main, format!("{text}{part}")).unwrap();
    std::fs::write(server.join("leaf.conf"), leaf).unwrap();
    site.kill(0);
    site.start(0);
    assert!(site.ask(SOON).await.unwrap().0.agents().is_empty());
    let address: Server = format!("127.0.0.1:{}", ports[1]).parse().unwrap();
    site.addresses.push(address.clone());
    let child = site.spawn_with("leaf.conf", 1);
    site.servers.push(Some(child));
    site.listens(1);
    let servers = Servers::from(address);
    // Two of the site, with far more than fits into one answer, and two beside the server.
    for index in 0..2 {
        site.run_at(index, 20_000, &servers).await;
    }
    for index in 2..4 {
        site.run(index, 1000).await;
    }
    site.answers("two at a site", 4, 3 * SOON).await;
    let (roll, rows) = site.ask(SOON).await.unwrap();
    assert_eq!((roll.missing(), rows), (0, 42_000), "{roll}");
    site.audits("a site", 4, 1).await;
    // Without the server of the site, its agents are missed, and named.
    site.kill(1);
    let began = Instant::now();
    loop {
        let (roll, rows) = site.ask(Duration::from_secs(2)).await.unwrap();
        let words: Vec<&str> = roll.agents().iter().map(|called| called.fate.word()).collect();
        if (&words[..], rows) == (&["absent", "absent", "answered", "answered"], 2000) {
            break;
        }
        assert!(began.elapsed() < SOON, "{roll}");
    }
    let child = site.spawn_with("leaf.conf", 1);
    site.servers[1] = Some(child);
    site.listens(1);
    site.answers("the site is back", 4, 3 * SOON).await;
    site.audits("the site is back", 4, 2).await;
}
