//! `run` with a policy file: a service that delivers to each tenant its own flows, until a signal ends it.
//!
//! One thread for each network namespace receives events and appends each to the queues of the tenants whose scope
//! contains it (`dispatch`). Each tenant has a thread (`tenant`), so that the scheduler of the system divides the CPU
//! time. One more thread answers the control socket, checks for SIGHUP and feeds the watchdog (`control`).

mod control;
mod dispatch;
mod ending;
mod heartbeat;
mod metrics;
mod notify;
mod tenant;
mod watch;
mod worker;

pub(super) use control::ask;

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
use dispatch::{DesiredState, Dispatcher};
use flowgate_base::{
    address::ListenAddress,
    files,
    io_error::error_text,
    text::{clean, path_text},
};
use flowgate_config::Diagnostic;
use flowgate_metrics::{MetricsProvider, TenantMetrics};
use flowgate_netlink::{
    Namespace, Stop, group,
    listener::{Listener, ListenerOptions},
    namespace,
    process_names::ProcessNames,
    source::{Datagram, EVENT_BUFFER_LENGTH, InsertBarrier, Source as _},
};
use flowgate_pipeline::{
    counters::Counters, kernel::KernelTable, loader::StateStores, resync::Kernel as _, stats::Board,
};
use flowgate_policy::{Policy, audit::Audit, control::Isolation, delivery::Listings, neighbours};
use flowgate_privileges::PrivilegeProfile;
use flowgate_runtime::{Cache, Execution, PluginEngine};
use heartbeat::Heartbeat;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use notify::Notifier;
use tenant::RunningTenant;
use watch::Watch;

/// Time limit for the start of a plugin's thread, beyond the plugin's own limits.
const START: Duration = Duration::from_secs(60);

/// Time for which each tenant may hold up the others at the start.
const START_OF_EACH: Duration = Duration::from_millis(500);

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

/// The place at which the events of a network namespace are received and delivered.
pub(super) struct EventSource {
    namespace: Option<Namespace>,
    identity: namespace::Identity,
    insert_barrier: InsertBarrier,
    dispatcher: Dispatcher,
    heartbeat: Heartbeat,
    /// Process names, shared by all tenants of the namespace.
    programs: Arc<Mutex<ProcessNames>>,
    /// Listings of the table, shared by all tenants of the namespace.
    listings: Arc<Listings>,
}

/// A generation that may take over: its tenants, the errors of those that have not started, and its policy.
type Loaded = (Vec<RunningTenant>, Vec<String>, Arc<Policy>);

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
    /// Tenants that have been replaced and have not finished.
    leaving: Vec<RunningTenant>,
    /// Sums over finished tenants, by name.
    past: BTreeMap<String, TenantMetrics>,
    /// Number of successful and of failed reloads.
    reloads: [u64; 2],
}

impl Inner {
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

    /// Returns the event_source of a network namespace, and creates it if necessary.
    ///
    /// # Errors
    /// The reason why the namespace cannot be used.
    fn event_source(&self, name: Option<&String>) -> Result<Arc<EventSource>, String> {
        let namespace = name.map(|name| Namespace::find(&Path::new(namespace::DIRECTORY).join(name).into_os_string()));
        let namespace = namespace.transpose().map_err(|error| match error.errno() {
            libc::EPERM => {
                format!("{error}; a service that started without tenants in namespaces has given it up: restart it")
            }
            _ => error.to_string(),
        })?;
        // The process may be unable to identify its own namespace.
        let own = || namespace::identity(None).unwrap_or_default();
        let identity = namespace.as_ref().map_or_else(own, Namespace::identity);
        let mut event_sources = self.event_sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(event_source) = event_sources.get(&identity) {
            return Ok(event_source.clone());
        }
        let wanted = ListenerOptions {
            groups: group::FLOWS,
            buffer: self.buffer,
            namespace: namespace.clone(),
            ..ListenerOptions::default()
        };
        let mut listener = Listener::open(&wanted, &self.stop)
            .map_err(|error| format!("cannot listen to events: {}", report::strerror(error.errno())))?;
        let programs = ProcessNames::in_namespace(namespace.clone());
        let (place, until) = (namespace.clone(), self.stop.clone());
        let listings = Listings::new(Box::new(move || KernelTable::new(place.as_ref(), &until).list()));
        let event_source = Arc::new(EventSource {
            namespace,
            identity,
            insert_barrier: listener.barrier_inserter(),
            dispatcher: Dispatcher::default(),
            heartbeat: Heartbeat::default(),
            programs: Arc::new(Mutex::new(programs)),
            listings: Arc::new(listings),
        });
        if name.is_none() || event_sources.is_empty() {
            self.counters.watch(listener.socket());
        }
        let (receiving, stop, failure) = (event_source.clone(), self.stop.clone(), self.failure.clone());
        let counters = self.counters.clone();
        let receive = move || {
            let mut datagram = Datagram::with_capacity(EVENT_BUFFER_LENGTH);
            loop {
                match listener.next(&mut datagram) {
                    Ok(true) => {
                        receiving.dispatcher.deliver(&datagram, &|mark| receiving.heartbeat.is_own(mark), &counters);
                        receiving.heartbeat.beat();
                    }
                    Ok(false) => break,
                    Err(error) => {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.errno());
                        stop.stop();
                        break;
                    }
                }
            }
            // No further events will arrive; those in the queues are still processed.
            receiving.dispatcher.replace(Vec::new());
        };
        let receiver = thread::Builder::new()
            .name("events".into())
            .spawn(receive)
            .map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner).push(receiver);
        event_sources.insert(identity, event_source.clone());
        Ok(event_source)
    }

    /// Feeds the watchdog if it is due and the receiving threads answer. If they do not, the watchdog is not fed and
    /// systemd restarts the service: without events, the service is of no use to its tenants.
    fn feed(&self) {
        // The workers end with it.
        if crate::command::compiling::has_ended() {
            self.stop.stop();
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

    /// Starts all tenants of a policy. If a tenant does not start, it has ended and the others continue without it,
    /// unless it is required or no tenant of the first generation starts. Tenants in `without`, which the operator
    /// leaves out, have ended as well. `meanwhile` is called repeatedly.
    ///
    /// # Errors
    /// The reasons why no tenant was started.
    fn start(
        &self,
        policy: &Arc<Policy>,
        generation: u64,
        without: &[String],
        meanwhile: &dyn Fn(),
    ) -> Result<(Vec<RunningTenant>, Vec<Diagnostic>), Vec<Diagnostic>> {
        let plugins = policy.tenants.iter().flat_map(|tenant| &tenant.plugins);
        let compiling = plugins.map(|plugin| plugin.plugin.limits.compile.time).max().unwrap_or_default();
        // Each may have to be compiled, and they share the processors.
        let tenants = u32::try_from(policy.tenants.len()).unwrap_or(u32::MAX);
        let end = Instant::now() + START + compiling + START_OF_EACH.saturating_mul(tenants);
        let mut identities = Vec::new();
        let mut started = Vec::new();
        for tenant in &policy.tenants {
            let event_source = self.event_source(tenant.namespace.as_ref());
            identities.push(event_source.as_ref().ok().map(|event_source| event_source.identity));
            started.push(match event_source {
                Ok(_) if without.contains(&tenant.name) => {
                    RunningTenant::absent(policy, tenant, generation, "the operator has left it out")
                }
                Ok(event_source) => RunningTenant::start(self, &event_source, policy, tenant, generation),
                Err(error) => RunningTenant::absent(policy, tenant, generation, &error),
            });
        }
        // Since the file was read, two names may have come to refer to the same namespace.
        let mut mistakes = neighbours::flows(policy, &identities).diagnostics;
        let (mut fatal, mut failed) = (!mistakes.is_empty(), Vec::new());
        for (tenant, running) in policy.tenants.iter().zip(&started) {
            if let Err(why) = running.ready(end, meanwhile) {
                let left_out = without.contains(&tenant.name);
                fatal |= tenant.required && !left_out;
                failed.push((running, why));
            }
        }
        // The tenants have nothing to do with that; those that run go on.
        fatal |= !failed.is_empty() && self.engine.has_lost_compiler();
        // A later generation takes over even then: whether permissions are withdrawn from a tenant must not depend on
        // whether it starts.
        fatal |= generation == 1 && failed.len() == started.len();
        for (running, why) in failed {
            running.abandon();
            if !fatal {
                let reason = why.first().map(|mistake| mistake.message.clone()).unwrap_or_default();
                self.audit.service(generation, &running.name, "ended", Some(reason.clone()));
                running.end(reason);
            }
            mistakes.extend(why);
        }
        if fatal {
            started.iter().for_each(RunningTenant::abandon);
            return Err(mistakes);
        }
        self.audit.shares().divide(started.len());
        Ok((started, mistakes))
    }

    /// Delivers events to these tenants from now on.
    fn deliver_to(&self, tenants: &[RunningTenant]) {
        let event_sources = self.event_sources.lock().unwrap_or_else(PoisonError::into_inner);
        for event_source in event_sources.values() {
            let own = tenants.iter().filter(|running| running.is_at(event_source));
            event_source.dispatcher.replace(own.map(RunningTenant::recipient).collect());
        }
        drop(event_sources);
        tenants.iter().for_each(RunningTenant::begin);
    }

    /// Restarts a tenant of the current generation that has ended or whose plugin has failed too often. The new
    /// instance takes over when its plugins have started, and receives the table as it is then.
    ///
    /// # Errors
    /// The reasons why the old instance stays.
    fn restart(&self, name: &str, meanwhile: &dyn Fn()) -> Result<(), Vec<String>> {
        let (policy, generation) = {
            let inner = self.lock();
            (inner.policy.clone(), inner.generation)
        };
        let gone = || vec![format!("there is no tenant `{name}`")];
        let tenant = policy.tenants.iter().find(|tenant| tenant.name == name).ok_or_else(gone)?;
        let event_source = self.event_source(tenant.namespace.as_ref()).map_err(|error| vec![error])?;
        // Since the last start, the name may have come to refer to the namespace of another tenant.
        let identities: Vec<Option<namespace::Identity>> = {
            let inner = self.lock();
            let other = |name: &str| inner.tenants.iter().find(|running| running.name == name)?.event_source();
            let identity = |of: &str| if of == name { Some(event_source.identity) } else { other(of) };
            policy.tenants.iter().map(|tenant| identity(&tenant.name)).collect()
        };
        let mistakes = neighbours::flows(&policy, &identities).diagnostics;
        if !mistakes.is_empty() {
            return Err(mistakes.iter().map(ToString::to_string).collect());
        }
        let running = RunningTenant::start(self, &event_source, &policy, tenant, generation);
        if let Err(mistakes) = running.ready(Instant::now() + START, meanwhile) {
            running.abandon();
            return Err(mistakes.iter().map(ToString::to_string).collect());
        }
        let mut inner = self.lock();
        let Some(place) = inner.tenants.iter_mut().find(|running| running.name == name) else {
            running.abandon();
            return Err(gone());
        };
        place.leave(policy.service.drain);
        event_source.dispatcher.exchange(&place.recipient(), running.recipient());
        running.begin();
        let title = running.title();
        let old = std::mem::replace(place, running);
        inner.leave([old]);
        report::line(&format!("{title}: it has been restarted"));
        Ok(())
    }

    /// Ends replaced tenants whose time to finish is over.
    fn end_late(&self) {
        self.lock().leaving.iter().for_each(RunningTenant::end_if_late);
    }

    /// True if the file is reloaded when it changes.
    fn follows_changes(&self) -> bool {
        !self.once && self.lock().policy.service.reload_on_change
    }

    /// True if the content of the file has been neither loaded nor refused.
    fn has_news(&self) -> bool {
        let content = files::read(&self.file, files::MAX_CONFIGURATION_FILE).ok();
        let mut inner = self.lock();
        if content == inner.tried {
            return false;
        }
        let same = content.as_deref() == Some(inner.policy.text.text.as_bytes());
        if same {
            (inner.tried, inner.refused) = (content, false);
            report::line(&format!(
                "policy: the file is again that of generation {}, which stays in force",
                inner.generation
            ));
        }
        !same
    }

    /// Reads the file.
    ///
    /// # Errors
    /// The reason why it cannot be read, in a list of one.
    fn content(&self) -> Result<Vec<u8>, Vec<String>> {
        if self.once {
            return Err(vec![PolicyError::Once { path: self.file.clone() }.to_string()]);
        }
        let failed = |error| vec![format!("cannot read {}: {}", path_text(&self.file), error_text(&error))];
        files::read(&self.file, files::MAX_CONFIGURATION_FILE).map_err(failed)
    }

    /// Reloads the file, and lets its tenants take over once they have started. `meanwhile` is called repeatedly until
    /// then. Returns the errors of the tenants that have not started.
    ///
    /// # Errors
    /// The reasons why the old tenants continue.
    fn reload(&self, without: &[String], meanwhile: &dyn Fn()) -> Result<Vec<String>, Vec<String>> {
        let told = |list: &[flowgate_config::Diagnostic]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        self.notifier.reloading(&format!("{}; reloading the file", self.state()));
        // The lock is released while the file is being loaded: other threads only read this state.
        let generation = self.lock().generation + 1;
        let content = self.content();
        self.lock().tried = content.as_ref().ok().cloned();
        self.orders().clear();
        let result = content.and_then(|content| {
            let (policy, mistakes, _) = Policy::of_bytes(&self.file, content);
            if !mistakes.is_empty() {
                return Err(told(&mistakes));
            }
            let unknown = |name: &&String| policy.tenants.iter().all(|tenant| tenant.name != **name);
            if let Some(name) = without.iter().find(unknown) {
                return Err(vec![format!("there is no tenant `{}` that could be left out", clean(name))]);
            }
            let policy = Arc::new(policy);
            let started = self.start(&policy, generation, without, meanwhile);
            let (tenants, failed) = started.map_err(|mistakes| told(&mistakes))?;
            Ok((tenants, told(&failed), policy))
        });
        let result = self.take_over(generation, result);
        self.notifier.ready(&self.state());
        result
    }

    /// Lets the tenants of a generation take over, or prints the reasons why there are none.
    fn take_over(&self, generation: u64, loaded: Result<Loaded, Vec<String>>) -> Result<Vec<String>, Vec<String>> {
        let mut inner = self.lock();
        inner.refused = loaded.is_err();
        let [done, failed] = &mut inner.reloads;
        *if loaded.is_ok() { done } else { failed } += 1;
        match loaded {
            Ok((tenants, failed, policy)) => {
                inner.generation = generation;
                let drain = policy.service.drain;
                self.board.end_within(drain + Duration::from_secs(1));
                if inner.policy.needs_restart(&policy) {
                    report::line(
                        "NOTE: `socket`, `buffer`, `cache`, `worker-uids` and `[audit]` keep their values until the service is restarted.",
                    );
                }
                inner.policy = policy;
                let orders = std::mem::take(&mut *self.orders());
                for running in &tenants {
                    if let Some(desired) = orders.get(&running.name) {
                        running.recipient().set(*desired);
                    }
                }
                // The old tenants lose their permissions before the new ones act.
                inner.tenants.iter().for_each(|old| old.leave(drain));
                self.deliver_to(&tenants);
                let old = std::mem::replace(&mut inner.tenants, tenants);
                inner.leave(old);
                inner.forget(&self.audit);
                self.audit.service(generation, "", "reload", None);
                failed.iter().for_each(|reason| report::line(reason));
                report::line(&format!("policy: generation {generation} runs{}", without(&failed)));
                Ok(failed)
            }
            Err(reasons) => {
                self.audit.service(inner.generation, "", "reload-failed", reasons.first().cloned());
                reasons.iter().for_each(|reason| report::line(reason));
                report::line(&format!(
                    "policy: generation {} stays in force; the new file has mistakes",
                    inner.generation
                ));
                Err(reasons)
            }
        }
    }
}

/// Raises the limit of descriptors to what the process may have: each tenant takes six, and its sinks.
fn allow_descriptors() {
    // A lower limit is one for fewer tenants.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Returns the suffix of a message if tenants have not started.
fn without<T>(failed: &[T]) -> &'static str {
    if failed.is_empty() { "" } else { ", without tenants that have not started" }
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
    let server = control::ControlServer::open(&policy.service.socket)?;
    board.end_within(policy.service.drain + Duration::from_secs(1));
    let policy = Arc::new(policy);
    // Without a directory that is the service's own, each start compiles.
    let cache = policy.service.cache.as_deref().map(Cache::at).or_else(Cache::of_service);
    let engine = crate::command::compiling::engine(cache)?;
    crate::command::tell_execution(&engine)?;
    let execution = engine.execution()?;
    // No plugin runs in this process. Older kernels cannot forbid it.
    flowgate_privileges::sandbox::deny_executable_memory();
    let service = Service {
        file: file.into(),
        once,
        execution,
        isolation: Arc::default(),
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
            leaving: Vec::new(),
            past: BTreeMap::new(),
            reloads: [0; 2],
        })),
    };
    let (inner, audit) = (service.inner.clone(), service.audit.clone());
    let look: MetricsProvider = Arc::new(move || inner.lock().unwrap_or_else(PoisonError::into_inner).metrics(&audit));
    // Served until the service ends.
    let metrics = metrics.map(|address| flowgate_metrics::serve_tenants(address, look, counters)).transpose()?;
    metrics.iter().for_each(crate::command::tell_address);
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
    let mut inner = service.lock();
    let end = Instant::now() + inner.policy.service.drain;
    let mut all = std::mem::take(&mut inner.tenants);
    all.append(&mut inner.leaving);
    while all.iter().any(|running| !running.finished()) && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    for late in all.iter().filter(|running| !running.finished()) {
        report::line(&format!("{}: it did not finish in time and was abandoned", late.title()));
    }
    service.audit.service(inner.generation, "", "stop", None);
    let failure = *service.failure.lock().unwrap_or_else(PoisonError::into_inner);
    if crate::command::compiling::has_ended() {
        return Err(CommandError::Spawner);
    }
    failure.map_or(Ok(Exit::Stopped), |errno| Err(CommandError::Events(report::strerror(errno))))
}
