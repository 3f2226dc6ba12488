//! `fleet`: subcommands for many hosts.
//!
//! * `table` is the kernel's table, as an agent asks it.
//! * `events` are those of the kernel, as an agent writes them.
//! * `ask` has the commands that ask agents, `groups` those for groups of flows, `watch` those for events; `rows` prints
//!   what they answer.
//! * `act` has the commands that plan, sign and apply, `plan_text` shows plans; `audit` reads the audits of agents.
//! * `rollout` brings to agents what they run, and `runner` runs it.
//! * `doctor` looks for what is wrong.
//! * `simulate` runs many agents in one process, with a `simulated` table of `made_flows` and what is `pretended` to run.

mod act;
mod agent;
mod ask;
mod audit;
mod doctor;
mod events;
mod groups;
mod made_flows;
mod plan_text;
mod pretended;
mod rollout;
mod rows;
mod runner;
mod simulate;
mod simulated;
mod table;
mod watch;

pub(super) use audit::audit;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    context::Context,
    lower,
    report::{self, CommandError, Exit},
};
use crate::args::{
    Report,
    fleet_command::{AskArgs, FleetCommand, OperatorArgs},
};
use flowgate_base::{
    io_error::error_text,
    text::{clean, message, path_text},
};
use flowgate_fleet::{
    agent::StoredError,
    audit::AuditError,
    bundle::BundleError,
    bus::{Bus as _, BusError, ConnectError, Connection, Nats, Streams as _},
    collector::{self, Chosen, Member},
    config::{ConfigError, OPERATOR_FILE, OperatorFile, Servers},
    groups::GroupsError,
    journal::JournalError,
    keys::{ConnectKey, KeyError},
    names::{self, AgentName, NameError},
    plan::{Action, PlanError},
    roll_call::RollCall,
    rollout::RolloutError,
    server_config::{self, AgentOptions, FleetOptions, SetupError},
    table::TableError,
};
use flowgate_pipeline::sink::Sink;

/// The variable that names the operator's file.
const OPERATOR_VARIABLE: &str = "FLOWGATE_FLEET";
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// The most answers that wait for who asks.
const WAITING: usize = 65_536;

/// An error of a subcommand of `fleet`.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The fleet cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A file has a mistake.
    #[error("{0}; `flowgate fleet init --help` shows where the files come from")]
    Config(#[from] ConfigError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no connection.
    #[error("{0}; `flowgate fleet doctor` looks further")]
    Connect(#[from] ConnectError),
    /// There was no connection in time.
    #[error("{} did not answer within 10s; `flowgate fleet doctor` looks further", clean(.0))]
    ConnectTime(String),
    /// The registry cannot be read.
    #[error("the registry of agents: {0}; `flowgate fleet doctor` looks further")]
    Registry(#[source] BusError),
    /// The audits on the server cannot be read.
    #[error("the audits of agents: {0}; `flowgate fleet doctor` looks further")]
    Audits(#[source] BusError),
    /// Lines cannot be written.
    #[error("the lines cannot be written: {}", error_text(.0))]
    Output(#[source] std::io::Error),
    /// Nothing can be sent.
    #[error("{0}")]
    Bus(#[source] BusError),
    /// No agent is asked.
    #[error("{0}")]
    NoAgents(&'static str),
    /// There is no such agent.
    #[error("there is no agent {} in the registry, {}", clean(name), known.as_deref().map_or_else(nobody, clean))]
    NoSuchAgent {
        /// The name.
        name: String,
        /// Those that there are, if there are any.
        known: Option<String>,
    },
    /// The question is none.
    #[error("{}", message(.0.as_bytes()))]
    Question(String),
    /// The groups of all agents cannot be merged.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The audit cannot be used, or is broken.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A plan is wrong.
    #[error("{}: {source}", clean(path))]
    Plan {
        /// The file.
        path: String,
        /// What is wrong.
        source: PlanError,
    },
    /// A file cannot be read or written.
    #[error("{}: {}", path_text(path), error_text(source))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no key to sign with.
    #[error("{} has no `sign`, the key to sign plans with", clean(.0))]
    NoSigningKey(String),
    /// A bundle cannot be made.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A rollout cannot be started, or does not go on.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// What an agent remembers of what it runs cannot be used.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// A release is wrong.
    #[error("{}: it is no release: {}", clean(path), clean(reason))]
    Release {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The files are not those that were signed.
    #[error("the release is of another bundle than these files make; `flowgate fleet bundle` prints their digest")]
    OtherBundle,
    /// The server does not have the bundle of a release.
    #[error("the server does not have the bundle {}; name its files too", clean(.0))]
    NoBundle(String),
    /// A directory cannot be made.
    #[error("{}: {}; the agent keeps its journal and its audit there", path_text(path), error_text(source))]
    State {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There are too many servers.
    #[error("{}", clean(.0))]
    Servers(String),
    /// A name is refused.
    #[error(transparent)]
    Name(NameError),
    /// The recording of simulated agents cannot be used.
    #[error("the flows of the simulated agents: {0}")]
    Recording(#[source] TableError),
    /// Simulated agents need more open files than they may have.
    #[error("{agents} agents open {need} files, and the limit is {hard}; raise it (ulimit -Hn), or simulate fewer")]
    Descriptors {
        /// The number of agents.
        agents: u32,
        /// How many files they open.
        need: u64,
        /// The limit.
        hard: u64,
    },
    /// The system has no event loop for it.
    #[error("no event loop: {}", error_text(.0))]
    Runtime(#[source] std::io::Error),
}

/// Returns what is said of an empty registry.
fn nobody() -> String {
    "which is empty: no agent has connected yet".into()
}

/// Runs a subcommand.
pub(super) fn run(context: &mut Context<'_>, command: &FleetCommand) -> Result<Exit, CommandError> {
    match command {
        FleetCommand::Init { directory, server, also, operators, need, server_dir, store, no_sync } => {
            let servers = Servers::new(server.clone()).map_err(FleetError::Servers)?;
            let options = FleetOptions {
                server: servers,
                also: also.clone(),
                operators: operators.clone(),
                need: *need,
                server_directory: server_dir.clone(),
                store: store.clone(),
                synchronize: !no_sync,
            };
            server_config::init(directory, &options).map_err(FleetError::from)?;
            let file = match server.len() {
                1 => "nats-server.conf",
                _ => "nats-server-N.conf for the Nth server",
            };
            report::line(&format!(
                "A fleet is in {}. Next: start nats-server with {} and the server's files in place, and enrol agents: \
                 flowgate fleet enrol {} NAME",
                path_text(directory),
                path_text(&directory.join("server").join(file)),
                path_text(directory),
            ));
            Ok(Exit::Success)
        }
        FleetCommand::Enrol { directory, names, labels, state } => {
            let options =
                |name: &AgentName| AgentOptions { name: name.clone(), labels: labels.clone(), state: state.clone() };
            let options: Vec<AgentOptions> = names.iter().map(options).collect();
            let enrolled = server_config::enrol(directory, &options).map_err(FleetError::from)?;
            for (name, (place, id)) in names.iter().zip(enrolled) {
                report::line(&format!(
                    "Agent {name} is {id}. Next: {} to its host, as /etc/flowgate/fleet",
                    path_text(&place)
                ));
            }
            report::line(&format!(
                "And the new {} to the server, which takes it when it is reloaded: nats-server --signal reload",
                path_text(&directory.join("server/users.conf")),
            ));
            Ok(Exit::Success)
        }
        FleetCommand::Agent { file } => agent::run(context, file),
        FleetCommand::Simulate { directory, agents, prefix, rows, recording, labels, trial, failing } => {
            let simulation = simulate::Simulation {
                directory,
                agents: *agents,
                prefix,
                rows: *rows,
                recording: recording.as_deref(),
                labels,
                trial: *trial,
                failing: *failing,
            };
            simulate::run(context, &simulation)
        }
        FleetCommand::Ls(args) => ask::ls(context, args),
        FleetCommand::Forget { operator, agent } => forget(operator, agent),
        FleetCommand::Doctor { operator } => doctor::run(context, operator),
        FleetCommand::List { ask, words } => ask::list(context, ask, words),
        FleetCommand::Count { ask, words } => ask::count(context, ask, words),
        FleetCommand::Watch { ask, time, words } => watch::run(context, ask, *time, words),
        FleetCommand::Stats(args) => ask::stats(context, args),
        FleetCommand::Delete { ask, plan, words } => act::act(context, Action::Delete, ask, plan, words),
        FleetCommand::Update { ask, plan, words } => act::act(context, Action::Update, ask, plan, words),
        FleetCommand::Rollout { command } => rollout::run(context, command),
        FleetCommand::Bundle { files, entry, output } => rollout::show(context, files, entry.as_deref(), *output),
        FleetCommand::Sign { operator, file } => match rollout::sign(context, operator, file)? {
            Some(exit) => Ok(exit),
            None => act::sign(context, operator, file),
        },
        FleetCommand::Apply { operator, timeout, allow_missing, file } => {
            act::apply(context, operator, *timeout, *allow_missing, file)
        }
    }
}

/// Takes an agent out of the registry.
fn forget(operator: &OperatorArgs, agent: &str) -> Result<Exit, CommandError> {
    let session = Session::open(operator)?;
    let chosen = Chosen { labels: Vec::new(), names: vec![agent.to_owned()] };
    let members = session.members(&chosen)?;
    for member in members {
        let removed = session.runtime.block_on(session.bus.remove(names::REGISTRY, member.id.as_str()));
        removed.map_err(FleetError::Registry)?;
        report::line(&format!("{} ({}) is no longer in the registry.", member.name, member.id));
    }
    Ok(Exit::Success)
}

/// Returns an event loop, which runs on the calling thread.
fn runtime() -> Result<tokio::runtime::Runtime, FleetError> {
    flowgate_pipeline::sink::keep_to_built_in_services();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(64)
        .build()
        .map_err(FleetError::Runtime)
}

/// Returns the path of the operator's file.
fn operator_file(args: &OperatorArgs) -> PathBuf {
    let variable = || std::env::var_os(OPERATOR_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    args.operator.clone().or_else(variable).unwrap_or_else(|| OPERATOR_FILE.into())
}

/// A connection of an operator.
struct Session {
    runtime: tokio::runtime::Runtime,
    bus: Nats,
    file: OperatorFile,
    path: PathBuf,
    json: bool,
}

impl Session {
    /// Connects, and sees to it that there is a registry.
    fn open(args: &OperatorArgs) -> Result<Self, FleetError> {
        let path = operator_file(args);
        let file = OperatorFile::read(&path)?;
        let key = ConnectKey::read(&file.key)?;
        let runtime = runtime()?;
        let bus = runtime.block_on(connect(&file, &key))?;
        runtime.block_on(bus.prepare(names::REGISTRY)).map_err(FleetError::Registry)?;
        // Questions do not need it; `fleet doctor` says what is wrong with it.
        let _ = runtime.block_on(flowgate_fleet::events::create(&bus));
        // Agents ship their audits from then on.
        runtime.block_on(bus.prepare_stream(&flowgate_fleet::audit::STREAM)).map_err(FleetError::Audits)?;
        Ok(Session { runtime, bus, file, path, json: args.output == Report::Json })
    }

    /// Returns the agents that are chosen, of which there is at least one.
    fn members(&self, chosen: &Chosen) -> Result<Vec<Member>, FleetError> {
        let all = self.runtime.block_on(collector::members(&self.bus)).map_err(FleetError::Registry)?;
        if all.is_empty() && chosen.names.is_empty() {
            return Err(FleetError::NoAgents(
                "the registry has no agents yet: each is in it from its first connection on; enrol some by \
                 `flowgate fleet enrol`, and start `flowgate fleet agent` on their hosts",
            ));
        }
        let known = (!all.is_empty()).then(|| {
            let names: Vec<String> = all.iter().take(20).map(|member| member.name.to_string()).collect();
            let more = if all.len() > names.len() { ", ..." } else { "" };
            format!("which has {}{more}", names.join(", "))
        });
        let members = chosen.of(all).map_err(|unknown| FleetError::NoSuchAgent { name: unknown.join(", "), known })?;
        match members.is_empty() {
            true => Err(FleetError::NoAgents(
                "no agent has all of these labels; `flowgate fleet ls` shows those that there are",
            )),
            false => Ok(members),
        }
    }
}

/// Connects as an operator.
async fn connect(file: &OperatorFile, key: &ConnectKey) -> Result<Nats, FleetError> {
    let connection = Connection { server: &file.server, ca: &file.ca, key, name: file.name.as_str(), waiting: WAITING };
    match tokio::time::timeout(CONNECT, Nats::connect(&connection)).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(FleetError::ConnectTime(file.server.to_string())),
    }
}

/// Returns which agents are asked.
fn chosen(args: &AskArgs) -> Chosen {
    Chosen { labels: args.on.clone(), names: args.agents.clone() }
}

/// Prints the roll call, and returns how the command ended.
fn conclude(roll: &RollCall, json: bool, allow_missing: usize) -> Exit {
    match json {
        true => report::text(roll.json().as_bytes()),
        false => report::line(&roll.to_string()),
    }
    if roll.missing() <= allow_missing { Exit::Success } else { Exit::Failure }
}

/// Writes lines for people, or for programs.
fn write_lines(sink: &mut dyn Sink, lines: &[String]) -> Result<(), CommandError> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Ok(sink.write(text.as_bytes())?)
}

/// Returns a value as a line of JSON.
fn json_line(value: &serde_json::Value) -> String {
    value.to_string()
}

/// Reads a file with a limit.
fn read_text(path: &Path, limit: u64) -> Result<String, FleetError> {
    flowgate_base::files::read_text(path, limit).map_err(|source| FleetError::File { path: path.to_owned(), source })
}
