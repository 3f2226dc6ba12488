//! `run` with a policy file: a service that delivers to each tenant its own flows, until a signal ends it.
//!
//! One thread for each network namespace receives events and appends each to the queues of the tenants whose scope
//! contains it (`dispatch`). Each tenant has a thread (`tenant`), so that the scheduler of the system divides the CPU
//! time. One more thread answers the control socket, checks for SIGHUP and feeds the watchdog (`control`).
//!
//! * `event_source` receives the events of a network namespace, and `dispatch` delivers them.
//! * `generation` starts the tenants of a policy and lets them take over; `tenant` is one that runs, `worker` its
//!   thread.

mod control;
mod dispatch;
mod ending;
mod event_source;
mod generation;
mod heartbeat;
mod metrics;
mod notify;
mod tenant;
mod watch;
mod worker;

pub(super) use control::ask;
pub(in crate::command) use worker::{WorkerProcess, compile, limits};

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::PolicyError;
use crate::command::{
    report::{self, CommandError, Exit},
    standard_error,
};
use control::ControlServer;
use dispatch::DesiredState;
use event_source::EventSource;
use flowgate_base::address::ListenAddress;
use flowgate_metrics::{MetricsProvider, TenantMetrics};
use flowgate_netlink::{Stop, namespace};
use flowgate_pipeline::{counters::Counters, loader::StateStores, stats::Board};
use flowgate_policy::{
    Policy,
    audit::Audit,
    control::{Isolation, OtherWorker, WorkerState},
    delivery::Gathering,
};
use flowgate_privileges::PrivilegeProfile;
use flowgate_runtime::{Cache, Execution, PluginEngine};
use generation::without;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use notify::Notifier;
use tenant::{RunningTenant, WorkerObserver};
use watch::Watch;

/// Time limit for the start of a plugin's thread, beyond the plugin's own limits.
const START: Duration = Duration::from_secs(60);

/// State that all threads of the service share.
pub(super) struct Service {
    file: PathBuf,
    /// True if `file` is a pipe or another file that can be read only once.
    once: bool,
    engine: PluginEngine,
    /// How the code of plugins runs in workers.
    execution: Execution,
    /// What holds workers, as the first one has reported.
    isolation: Arc<OnceLock<Isolation>>,
    /// When events are gathered.
    gathering: Gathering,
    audit: Arc<Audit>,
    states: Arc<StateStores>,
    stop: Stop,
    board: Board,
    notifier: Notifier,
    /// True if the receiving threads answered the last check.
    lived: AtomicBool,
    /// Receive buffer of event sockets, if the policy sets it.
    buffer: Option<usize>,
    /// The event_sources by network namespace; one namespace may have several names.
    event_sources: Mutex<BTreeMap<namespace::Identity, Arc<EventSource>>>,
    /// Orders of the operator while a policy is being loaded, by tenant. They apply to the tenants that take over as
    /// well.
    orders: Mutex<BTreeMap<String, DesiredState>>,
    /// Receiving threads.
    receivers: Mutex<Vec<thread::JoinHandle<()>>>,
    /// Error number that ended the receiving of events; `None` if it has not failed.
    failure: Arc<Mutex<Option<i32>>>,
    inner: Arc<Mutex<Inner>>,
    /// Counts of received data.
    counters: Counters,
}

/// State that a reload changes.
struct Inner {
    generation: u64,
    /// The policy in force.
    policy: Arc<Policy>,
    /// Content of the file when it was last loaded or refused; `None` if it could not be read.
    tried: Option<Vec<u8>>,
    /// True if that content was refused.
    refused: bool,
    tenants: Vec<RunningTenant>,
    /// Workers of tenants that are being started.
    coming: Vec<WorkerObserver>,
    /// Tenants that have been replaced and have not finished.
    leaving: Vec<RunningTenant>,
    /// Sums over finished tenants, by name.
    past: BTreeMap<String, TenantMetrics>,
    /// Number of successful and of failed reloads.
    reloads: [u64; 2],
}

impl Inner {
    /// Returns the tenants of all generations.
    fn all(&self) -> impl Iterator<Item = &RunningTenant> {
        self.tenants.iter().chain(&self.leaving)
    }

    /// Returns the workers of a tenant in other generations than the one in force.
    fn other_workers(&self, name: &str) -> Vec<OtherWorker> {
        let leaving = self.leaving.iter().filter(|other| other.name == name && !other.finished());
        let coming = self.coming.iter().filter(|other| other.name == name);
        leaving.map(RunningTenant::as_other).chain(coming.map(WorkerObserver::worker)).collect()
    }

    /// True if a tenant continues only after a restart, and may be restarted: only a reload ends the operator's
    /// quarantine.
    fn needs_start(&self, name: &str) -> bool {
        let running = self.tenants.iter().find(|running| running.name == name);
        running
            .is_some_and(|running| running.needs_start() && running.recipient().desired() != DesiredState::Quarantine)
    }
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn orders(&self) -> MutexGuard<'_, BTreeMap<String, DesiredState>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Feeds the watchdog if it is due and the receiving threads answer. If they do not, the watchdog is not fed and
    /// systemd restarts the service: without events, the service is of no use to its tenants.
    fn feed(&self) {
        crate::command::compiling::tidy();
        // The workers end with it.
        if crate::command::compiling::has_ended() {
            self.stop.stop();
        }
        if self.stop.is_stopped() {
            // Nothing is received any more.
            return;
        }
        let event_sources = self.event_sources.lock().unwrap_or_else(PoisonError::into_inner);
        let answers =
            |event_source: &Arc<EventSource>| event_source.heartbeat.is_alive(|| (event_source.insert_barrier)().ok());
        // All event_sources are checked, even after one that does not answer.
        let fed =
            self.notifier.feed(|| event_sources.values().filter(|event_source| !answers(event_source)).count() == 0);
        let Some(lives) = fed else { return };
        if !lives && self.lived.swap(false, Ordering::AcqRel) {
            report::line("WARNING: what receives events does not answer; the watchdog is not fed until it does.");
        } else if lives {
            self.lived.store(true, Ordering::Release);
        }
    }

    /// Ends replaced tenants whose time to finish is over.
    fn end_late(&self) {
        self.lock().leaving.iter().for_each(RunningTenant::end_if_late);
    }

    /// Lets the tenants process what is left, within `drain`. Clients are still answered.
    fn drain(&self, server: &ControlServer) {
        let end = Instant::now() + {
            let inner = self.lock();
            for running in inner.all().filter(|running| !running.finished()) {
                running.record_state(WorkerState::Draining, &self.audit);
            }
            inner.policy.service.drain
        };
        while self.lock().all().any(|running| !running.finished()) && Instant::now() < end {
            server.attend(self, None);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the state of the service in one line.
    fn state(&self) -> String {
        let inner = self.lock();
        let mut states = BTreeMap::new();
        for running in &inner.tenants {
            *states.entry(running.state().name()).or_insert(0u64) += 1;
        }
        let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let refused = if inner.refused { "; the new file has mistakes" } else { "" };
        let (count, states) = (count(inner.tenants.len()), states.join(", "));
        format!("generation {}: {count} ({states}){refused}", inner.generation)
    }
}

/// Raises the limit of descriptors to what the process may have: each tenant takes six, and its sinks.
fn allow_descriptors() {
    // A lower limit is one for fewer tenants.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Returns the number of tenants in words.
fn count(tenants: usize) -> String {
    format!("{tenants} tenant{}", if tenants == 1 { "" } else { "s" })
}

/// Runs the service until a signal ends it.
///
/// # Errors
/// The reason why the service does not run, or why it ended.
pub(in crate::command) fn run(
    (file, content): (&Path, Vec<u8>),
    stop: &Stop,
    (board, counters): (&Board, &Counters),
    metrics: Option<&ListenAddress>,
) -> Result<Exit, CommandError> {
    standard_error::is_of_service();
    allow_descriptors();
    report::start_log();
    let once = std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file());
    let mut watch = if once { Watch::new(file) } else { Watch::of(file, &content) };
    let (policy, mistakes, notes) = Policy::of_bytes(file, content);
    // The same content decided which privileges the process has given up.
    let namespaces = policy.tenants.iter().any(|tenant| tenant.namespace.is_some());
    PrivilegeProfile::Service { namespaces }.verify().map_err(PolicyError::Privileges)?;
    notes.iter().for_each(|note| report::line(&note.to_string()));
    super::sound(file, &mistakes)?;
    let audit = Arc::new(Audit::open(policy.audit.clone(), policy.audit_limits.history, report::warnings())?);
    let reload = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, reload.clone())
        .map_err(|source| PolicyError::Signal { source })?;
    let server = ControlServer::open(&policy.service.socket)?;
    board.end_within(policy.service.drain + Duration::from_secs(1));
    let policy = Arc::new(policy);
    // Without a directory that is the service's own, each start compiles.
    let cache = policy.service.cache.as_deref().map(Cache::at).or_else(Cache::of_service);
    let engine = crate::command::compiling::engine(cache)?;
    crate::command::report_execution(&engine)?;
    let execution = engine.execution()?;
    // No plugin runs in this process. Older kernels cannot forbid it.
    flowgate_privileges::sandbox::deny_executable_memory();
    let service = Service {
        file: file.into(),
        once,
        execution,
        isolation: Arc::default(),
        gathering: Gathering::default(),
        engine,
        audit,
        counters: counters.clone(),
        states: Arc::default(),
        stop: stop.clone(),
        board: board.clone(),
        notifier: Notifier::of_environment(),
        lived: AtomicBool::new(true),
        buffer: policy.service.buffer.map(|bytes| bytes as usize),
        event_sources: Mutex::default(),
        orders: Mutex::default(),
        receivers: Mutex::default(),
        failure: Arc::default(),
        inner: Arc::new(Mutex::new(Inner {
            generation: 1,
            policy: policy.clone(),
            tried: Some(policy.text.text.clone().into_bytes()),
            refused: false,
            tenants: Vec::new(),
            coming: Vec::new(),
            leaving: Vec::new(),
            past: BTreeMap::new(),
            reloads: [0; 2],
        })),
    };
    let (inner, audit) = (service.inner.clone(), service.audit.clone());
    let look: MetricsProvider = Arc::new(move || inner.lock().unwrap_or_else(PoisonError::into_inner).metrics(&audit));
    // Served until the service ends.
    let metrics = metrics.map(|address| flowgate_metrics::serve_tenants(address, look, counters)).transpose()?;
    metrics.iter().for_each(crate::command::report_address);
    let (tenants, failed) = service.start(&policy, 1, &[], &|| service.feed()).map_err(|mistakes| {
        mistakes.iter().for_each(|mistake| report::line(&mistake.to_string()));
        CommandError::Diagnostics { path: file.into(), mistakes: mistakes.len() }
    })?;
    failed.iter().for_each(|mistake| report::line(&mistake.to_string()));
    service.deliver_to(&tenants);
    service.lock().tenants = tenants;
    service.audit.service(1, "", "start", None);
    service.notifier.ready(&service.state());
    report::line(&format!("policy: generation 1 runs, {}{}", count(policy.tenants.len()), without(&failed)));
    server.serve(&service, &reload, &mut watch);
    service.notifier.stopping(&service.state());
    // Events that are already in the kernel's queue are still delivered.
    for receiver in std::mem::take(&mut *service.receivers.lock().unwrap_or_else(PoisonError::into_inner)) {
        // A receiving thread returns nothing.
        let _ = receiver.join();
    }
    service.deliver_to(&[]);
    service.drain(&server);
    let inner = service.lock();
    for late in inner.all().filter(|running| !running.finished()) {
        report::line(&format!("{}: it did not finish in time and was abandoned", late.title()));
    }
    service.audit.service(inner.generation, "", "stop", None);
    let failure = *service.failure.lock().unwrap_or_else(PoisonError::into_inner);
    if crate::command::compiling::has_ended() {
        return Err(CommandError::Spawner);
    }
    failure.map_or(Ok(Exit::Stopped), |errno| Err(CommandError::Events(report::strerror(errno))))
}
