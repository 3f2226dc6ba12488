//! `fleet simulate`: many agents in one process, to try a server, and whoever asks, with a fleet of that size.
//!
//! Each is the agent that `fleet agent` runs, with a key and a connection of its own. All have the same table: flows
//! that are made up, or recorded.

use std::{
    cell::RefCell,
    fs,
    os::{fd::AsRawFd as _, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinSet, LocalSet},
};

use super::{
    FleetError,
    agent::{CONNECT, WAITING, stopped},
    made_flows,
    pretended::Pretender,
    simulated::SimulatedTable,
    table::{KernelTable, OwnServer},
};
use crate::command::{
    context::Context,
    report::{self, CommandError, Exit},
};
use flowgate_base::{text::path_text, units::show_time};
use flowgate_fleet::{
    agent::{Agent, Identity, Keeper, Records},
    audit::Audit,
    bus::{Connection, Nats},
    config::{AgentFile, Servers},
    journal::Journal,
    keys::ConnectKey,
    names::{AgentName, Label},
    random,
    server_config::{self, AgentOptions},
    table::Table as _,
};

/// Agents that connect at a time.
const AT_A_TIME: usize = 32;
/// Descriptors of an agent: its connection, its journal, its audit, the folder of its bundles, and one for what it does
/// at the moment.
const DESCRIPTORS: u64 = 5;
/// Descriptors of the process.
const OWN: u64 = 64;
/// How long a thread that has answered waits for another question.
const IDLE: Duration = Duration::from_secs(600);

/// What is simulated.
#[derive(Debug)]
pub(super) struct Simulation<'a> {
    /// The directory of the fleet.
    pub directory: &'a Path,
    /// The number of agents.
    pub agents: u32,
    /// What their names begin with.
    pub prefix: &'a str,
    /// The number of flows of each, unless they are recorded.
    pub rows: u32,
    /// A recorded dump of flows.
    pub recording: Option<&'a Path>,
    /// The labels of those that are enrolled.
    pub labels: &'a [Label],
    /// How long a release is on trial.
    pub trial: Duration,
    /// How many agents report that whatever is rolled out fails.
    pub failing: usize,
}

impl Simulation<'_> {
    fn place(&self, name: &AgentName) -> PathBuf {
        self.directory.join("agents").join(name.as_str())
    }

    fn state(&self, name: &AgentName) -> PathBuf {
        self.directory.join("simulated").join(name.as_str())
    }

    /// Returns the names of the agents.
    fn names(&self) -> Result<Vec<AgentName>, FleetError> {
        let name = |number: u32| format!("{}{number:04}", self.prefix).parse();
        (1..=self.agents).map(name).collect::<Result<_, _>>().map_err(FleetError::Name)
    }

    /// Enrols those that are not in the fleet yet, and returns their number.
    fn enrol(&self, names: &[AgentName]) -> Result<usize, FleetError> {
        let missing = names.iter().filter(|name| !self.place(name).join("agent.toml").exists());
        let options = missing.map(|name| AgentOptions {
            name: name.clone(),
            labels: self.labels.to_vec(),
            state: self.state(name),
        });
        let options: Vec<AgentOptions> = options.collect();
        if !options.is_empty() {
            server_config::enrol(self.directory, &options)?;
        }
        Ok(options.len())
    }
}

/// Raises the limit of open files to what the agents need.
fn raise_limit(agents: u32) -> Result<(), FleetError> {
    let need = u64::from(agents) * DESCRIPTORS + OWN;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((need, need));
    if hard < need {
        return Err(FleetError::Descriptors { agents, need, hard });
    }
    if soft < need {
        // If it cannot be raised, opening files says so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, need, hard);
    }
    Ok(())
}

/// Runs the agents until a signal ends them.
pub(super) fn run(context: &mut Context<'_>, simulation: &Simulation<'_>) -> Result<Exit, CommandError> {
    let stop = context.stop;
    let names = simulation.names()?;
    raise_limit(simulation.agents)?;
    // Open until the end: its path is that of the descriptor.
    let made = match simulation.recording {
        Some(_) => None,
        None => Some(made_flows::file(simulation.rows)?),
    };
    let recording = match (&made, simulation.recording) {
        (Some(made), _) => PathBuf::from(format!("/proc/self/fd/{}", made.as_raw_fd())),
        (None, path) => path.map(Path::to_owned).unwrap_or_default(),
    };
    let kernel = KernelTable { server: OwnServer::default(), recording: Some(recording), stop: stop.clone() };
    // Counts the flows, so that a file that is no recording of flows is an error at once.
    let table = SimulatedTable::new(kernel).map_err(FleetError::Recording)?;
    let enrolled = simulation.enrol(&names)?;
    if enrolled > 0 {
        report::line(&format!(
            "NOTICE: {enrolled} agents have been enrolled; the server lets them in when it has the new {} and is reloaded.",
            path_text(&simulation.directory.join("server/users.conf"))
        ));
    }
    // An answer that does not fit into one message holds a thread until it has been pulled.
    let threads = names.len() * 2 + AT_A_TIME;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(threads)
        .thread_keep_alive(IDLE)
        .build()
        .map_err(FleetError::Runtime)?;
    let (end, ended) = watch::channel(false);
    let result = LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            () = stopped(stop) => Ok(()),
            result = simulate(simulation, &names, &table, ended) => result,
        }
    });
    // Whoever waits for rows learns that the agents are gone.
    let _ = end.send(true);
    runtime.shutdown_background();
    result?;
    Ok(Exit::Stopped)
}

/// Connects all agents, and runs them until the first of them fails.
async fn simulate(
    simulation: &Simulation<'_>,
    names: &[AgentName],
    table: &SimulatedTable,
    ended: watch::Receiver<bool>,
) -> Result<(), FleetError> {
    let places = Rc::new(Semaphore::new(AT_A_TIME));
    let said = Rc::new(RefCell::new(String::new()));
    let mut starting = JoinSet::new();
    for (index, name) in names.iter().enumerate() {
        let runner = Pretender { fails: index < simulation.failing };
        let trial = simulation.trial;
        let (places, said) = (places.clone(), said.clone());
        let (path, state) = (simulation.place(name).join("agent.toml"), simulation.state(name));
        let table = table.clone();
        starting.spawn_local(async move {
            // The semaphore is never closed.
            let _place = places.acquire().await.ok();
            start((&path, &state), table, (runner, trial), &said).await
        });
    }
    let mut running = JoinSet::new();
    let mut server = None;
    while let Some(started) = starting.join_next().await {
        let Ok(started) = started else { continue };
        let (agent, its_server) = started?;
        let mut ended = ended.clone();
        let end = async move { drop(ended.wait_for(|&ended| ended).await) };
        running.spawn(async move { agent.run(end).await });
        server = Some(its_server);
    }
    if let Some(server) = server {
        report::line(&format!(
            "NOTICE: {} simulated agents are connected to {server}, each with {} flows.",
            running.len(),
            table.facts().flows
        ));
    }
    while let Some(result) = running.join_next().await {
        if let Ok(result) = result {
            result.map_err(FleetError::Bus)?;
        }
    }
    Ok(())
}

/// Opens the files of an agent, and connects it, for as long as that takes.
async fn start(
    (path, state): (&Path, &Path),
    table: SimulatedTable,
    (runner, trial): (Pretender, Duration),
    said: &RefCell<String>,
) -> Result<(Agent<Nats, SimulatedTable>, Servers), FleetError> {
    let (file, ring) = AgentFile::read(path)?;
    let key = ConnectKey::read(&file.key)?;
    let place = state.to_owned();
    // Each waits for the disk.
    let opened = tokio::task::spawn_blocking(move || {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&place);
        made.map_err(|source| FleetError::State { path: place.clone(), source })?;
        let journal = Journal::open(&place.join("journal"))?;
        let records = Records { journal, audit: Audit::open(&place.join("audit.jsonl"))? };
        Ok::<_, FleetError>((records, Keeper::start(runner, &place, trial)?))
    });
    let (records, keeper) = match opened.await {
        Ok(opened) => opened?,
        Err(error) => return Err(FleetError::Runtime(error.into())),
    };
    let connection =
        Connection { server: &file.server, ca: &file.ca, key: &key, name: file.name.as_str(), waiting: WAITING };
    let mut failures = 0;
    let bus = loop {
        match Nats::connect(&connection).await {
            Ok(bus) => break bus,
            Err(error) => {
                failures += 1;
                let pause = random::jitter(CONNECT.pause(failures));
                let reason = error.to_string();
                // All of them say the same.
                if *said.borrow() != reason {
                    report::line(&format!("NOTICE: {reason}; next attempt in {}.", show_time(pause)));
                    *said.borrow_mut() = reason;
                }
                tokio::time::sleep(pause).await;
            }
        }
    };
    let identity = Identity { id: key.id(), name: file.name, labels: file.labels, ring };
    let agent = Agent::new(bus, table, identity, records, report::warnings());
    Ok((agent.with_keeper(keeper), file.server))
}
