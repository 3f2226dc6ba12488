//! `fleet agent`: the daemon.

use std::{fs, future::Future, os::unix::fs::DirBuilderExt as _, path::Path, pin::Pin, time::Duration};

use super::{
    FleetError,
    runner::Processes,
    runtime,
    table::{KernelTable, OwnServer},
};
use crate::command::{
    context::Context,
    report::{self, CommandError, Exit},
};
use flowgate_base::{Backoff, units::show_time};
use flowgate_fleet::{
    agent::{Agent, Identity, Keeper, Records},
    audit::Audit,
    bus::{Connection, Nats},
    config::AgentFile,
    journal::Journal,
    keys::ConnectKey,
    random,
};
use flowgate_netlink::Stop;

/// Pauses between attempts to connect for the first time.
pub(super) const CONNECT: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// The most questions that wait.
pub(super) const WAITING: usize = 256;

/// Runs the agent of a file until a signal ends it.
pub(super) fn run(context: &mut Context<'_>, path: &Path) -> Result<Exit, CommandError> {
    let stop = context.stop;
    let (file, ring) = AgentFile::read(path).map_err(FleetError::from)?;
    let key = ConnectKey::read(&file.key).map_err(FleetError::from)?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&file.state);
    made.map_err(|source| FleetError::State { path: file.state.clone(), source })?;
    let journal = Journal::open(&file.state.join("journal")).map_err(FleetError::from)?;
    let audit = Audit::open(&file.state.join("audit.jsonl")).map_err(FleetError::from)?;
    // What is run does not wait for the server.
    let keeper = match file.run && !ring.is_empty() {
        true => {
            let trial = Duration::from_secs(file.trial);
            Some(Keeper::start(Processes::new(&file.state), &file.state, trial).map_err(FleetError::from)?)
        }
        false => None,
    };
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let stopped = stopped(stop);
        tokio::pin!(stopped);
        let Some((bus, server)) = connect(&file, &key, stopped.as_mut()).await else { return Ok(()) };
        let acts = match ring.len() {
            0 => "answers, and never acts".to_owned(),
            keys => format!("answers, and does what {} of {keys} have signed", ring.need()),
        };
        report::line(&format!("NOTICE: Agent {} is connected to {}: it {acts}.", file.name, file.server));
        let identity = Identity { id: key.id(), name: file.name.clone(), labels: file.labels.clone(), ring };
        let server = OwnServer::new(&file.server, server);
        let table = KernelTable { server, recording: None, stop: stop.clone() };
        let mut agent = Agent::new(bus, table, identity, Records { journal, audit }, report::warnings());
        if let Some(keeper) = &keeper {
            agent = agent.with_keeper(keeper.clone());
        }
        agent.run(stopped).await.map_err(FleetError::Bus)
    });
    // Listings in progress have seen the signal, and whoever waits for their rows learns that the agent is gone.
    runtime.shutdown_background();
    if let Some(keeper) = &keeper {
        keeper.stop();
    }
    ended?;
    Ok(Exit::Stopped)
}

/// Waits for the stop signal.
pub(super) async fn stopped(stop: &Stop) {
    let stop = stop.clone();
    let waited = tokio::task::spawn_blocking(move || while !stop.wait(Duration::from_secs(3600)) {});
    // The thread ends only when the signal is given.
    let _ = waited.await;
}

/// Connects, for as long as it takes; `None` if a signal came first.
async fn connect(
    file: &AgentFile,
    key: &ConnectKey,
    mut stopped: Pin<&mut impl Future<Output = ()>>,
) -> Option<(Nats, Vec<std::net::SocketAddr>)> {
    let connection = Connection { server: &file.server, ca: &file.ca, key, name: file.name.as_str(), waiting: WAITING };
    let mut failures = 0;
    let mut said = String::new();
    loop {
        let attempt = async {
            let bus = Nats::connect(&connection).await.map_err(|error| error.to_string())?;
            let addresses = Nats::addresses(&file.server).await;
            let addresses = addresses.map_err(|error| flowgate_base::io_error::error_text(&error))?;
            Ok::<_, String>((bus, addresses))
        };
        let result = tokio::select! {
            () = &mut stopped => return None,
            result = attempt => result,
        };
        match result {
            Ok(connected) => return Some(connected),
            Err(reason) => {
                failures += 1;
                let pause = random::jitter(CONNECT.pause(failures));
                // The same again and again would fill the log.
                if reason != said {
                    report::line(&format!("NOTICE: {reason}; next attempt in {}.", show_time(pause)));
                    said = reason;
                }
                tokio::select! {
                    () = &mut stopped => return None,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}
