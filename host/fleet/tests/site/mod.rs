//! Real servers with a fleet each. `make setup` installs them.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    future::Future,
    io::Write,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use flowgate_base::Warnings;
use flowgate_fleet::{
    agent::{Agent, Identity, Records},
    audit::Audit,
    bus::{ConnectError, Connection, Nats},
    collector,
    config::{AgentFile, OperatorFile, Server, Servers},
    journal::Journal,
    keys::ConnectKey,
    names::AgentId,
    plan::Action,
    server_config::{self, AgentOptions, FleetOptions},
    table::{Facts, Form, Table, TableError, Touched},
};

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The present server, and the oldest that is supported.
pub(crate) const SERVERS: [&str; 2] = ["nats-server", "debian/nats-server"];

/// A table of this number of flows.
#[derive(Clone, Copy)]
pub(crate) struct Made(pub(crate) u64);

impl Table for Made {
    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn count(&self, _: &[String]) -> Result<u64, TableError> {
        Ok(self.0)
    }

    fn list(&self, _: &[String], _: Form, out: &mut dyn Write) -> Result<u64, TableError> {
        for row in 0..self.0 {
            writeln!(out, "{row:0100}").map_err(|_| TableError::Gone)?;
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

/// A server with a fleet, which ends with this.
pub(crate) struct Site {
    pub(crate) server: Child,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) address: Server,
    pub(crate) agents: Vec<PathBuf>,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn spawn(program: &str, fleet: &Path) -> Child {
    let places = std::env::var_os("FLOWGATE_NATS").map(PathBuf::from);
    let place = places.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/nats"));
    let path = place.join(program);
    let mut command = Command::new(&path);
    command.arg("-c").arg(fleet.join("server/nats-server.conf")).stdin(Stdio::null());
    let log = std::fs::File::create(fleet.join("log")).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}; `make setup` installs it", path.display()))
}

impl Site {
    pub(crate) fn new(program: &str, agents: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fleet = directory.path().join("fleet");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address: Server = format!("127.0.0.1:{port}").parse().unwrap();
        let options = FleetOptions {
            server: address.clone().into(),
            also: Vec::new(),
            operators: vec!["admin".parse().unwrap(), "second".parse().unwrap()],
            need: 1,
            server_directory: None,
            store: directory.path().join("store"),
            synchronize: !program.contains("debian"),
        };
        server_config::init(&fleet, &options).unwrap();
        let mut site = Site { server: Command::new("true").spawn().unwrap(), directory, address, agents: Vec::new() };
        let options = agents.iter().map(|name| {
            let state = site.directory.path().join("state").join(name);
            std::fs::create_dir_all(&state).unwrap();
            AgentOptions { name: name.parse().unwrap(), labels: Vec::new(), state }
        });
        let options: Vec<AgentOptions> = options.collect();
        let enrolled = server_config::enrol(&fleet, &options).unwrap();
        site.agents = enrolled.into_iter().map(|(place, _)| place.join("agent.toml")).collect();
        site.start(program);
        site
    }

    pub(crate) fn fleet(&self) -> PathBuf {
        self.directory.path().join("fleet")
    }

    pub(crate) fn start(&mut self, program: &str) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        self.server = spawn(program, &self.fleet());
        let began = Instant::now();
        while TcpStream::connect((self.address.host(), self.address.port())).is_err() {
            let log = std::fs::read_to_string(self.fleet().join("log")).unwrap_or_default();
            let ended = self.server.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < SOON, "{program}: {ended:?}: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) async fn connect(&self, ca: &Path, key: &Path) -> Result<(Nats, AgentId), ConnectError> {
        let key = ConnectKey::read(key).unwrap();
        let server = Servers::from(self.address.clone());
        let connection = Connection { server: &server, ca, key: &key, name: "test", waiting: 1000 };
        Ok((Nats::connect(&connection).await?, key.id()))
    }

    pub(crate) async fn operator(&self, name: &str) -> (Nats, AgentId) {
        let file = OperatorFile::read(&self.fleet().join("operators").join(name).join("operator.toml")).unwrap();
        self.connect(&file.ca, &file.key).await.unwrap()
    }

    pub(crate) async fn agent(&self, index: usize) -> (Nats, AgentId) {
        let (file, _) = AgentFile::read(&self.agents[index]).unwrap();
        self.connect(&file.ca, &file.key).await.unwrap()
    }

    /// Starts an agent with this number of flows, which ends with the event loop.
    pub(crate) async fn run(&self, index: usize, flows: u64) -> tokio::task::JoinHandle<()> {
        let (file, ring) = AgentFile::read(&self.agents[index]).unwrap();
        let (bus, id) = self.agent(index).await;
        let identity = Identity { id, name: file.name, labels: file.labels, ring };
        let records = Records {
            journal: Journal::open(&file.state.join("journal")).unwrap(),
            audit: Audit::open(&file.state.join("audit")).unwrap(),
        };
        let agent = Agent::new(bus, Made(flows), identity, records, Warnings::ignored());
        tokio::spawn(async { drop(agent.run(std::future::pending()).await) })
    }

    /// Returns the file of an agent's audit.
    pub(crate) fn audit(&self, index: usize) -> PathBuf {
        AgentFile::read(&self.agents[index]).unwrap().0.state.join("audit")
    }
}

/// Waits until this number of agents is in the registry.
pub(crate) async fn registered(bus: &Nats, count: usize) -> Vec<collector::Member> {
    let began = Instant::now();
    loop {
        let members = collector::members(bus).await.unwrap();
        if members.len() == count {
            return members;
        }
        assert!(began.elapsed() < SOON, "{members:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for something that comes, or the test fails.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it comes within 20 s")
}
