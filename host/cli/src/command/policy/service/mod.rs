//! `run` with a policy file: a service that hands each tenant its own flows, until a signal ends it.
//!
//! A thread for each network namespace receives events and puts each into the queues of the tenants whose scope it is in
//! (`dispatch`); each tenant has a thread of its own (`tenant`), so that the system's scheduler is what is fair; one more
//! answers the control socket, looks for SIGHUP and feeds the watchdog (`control`).

mod control;
mod dispatch;
mod ending;
mod figures;
mod notify;
mod pulse;
mod tenant;
mod watch;

pub(super) use control::ask;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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
use dispatch::{Dispatcher, Wish};
use flowgate_base::{Warnings, address::Address, files, io_error::error_text, text::clean};
use flowgate_config::Mistake;
use flowgate_metrics::{Look, TenantFigures};
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
use flowgate_policy::{Policy, audit::Audit, delivery::Listings, neighbours};
use flowgate_privileges::Duty;
use flowgate_runtime::PluginEngine;
use notify::Notifier;
use pulse::Pulse;
use tenant::Running;
use watch::Watch;

/// How long a plugin's thread is waited for when it starts, beyond what its own limits say.
const START: Duration = Duration::from_secs(60);

/// What all threads of the service share.
pub(super) struct Service {
    file: PathBuf,
    /// Whether that is a pipe or the like, of which nothing more comes.
    once: bool,
    engine: PluginEngine,
    audit: Arc<Audit>,
    states: Arc<StateStores>,
    stop: Stop,
    board: Board,
    notifier: Notifier,
    /// Whether what receives events answered when it was asked last.
    lived: AtomicBool,
    /// Receive buffer of event sockets, if one is asked for.
    buffer: Option<usize>,
    /// By what the network namespace is, whatever it is called.
    stations: Mutex<BTreeMap<namespace::Identity, Arc<Station>>>,
    /// What the operator asked of tenants while a policy was being loaded: it holds for those that take over as well.
    orders: Mutex<BTreeMap<String, Wish>>,
    /// Those that receive.
    receivers: Mutex<Vec<thread::JoinHandle<()>>>,
    /// Why events cannot be received any more, where that is so.
    failure: Arc<Mutex<Option<i32>>>,
    inner: Arc<Mutex<Inner>>,
    /// What was received.
    counters: Counters,
}

/// Where the events of a network namespace arrive and are handed out.
pub(super) struct Station {
    namespace: Option<Namespace>,
    identity: namespace::Identity,
    insert_barrier: InsertBarrier,
    dispatcher: Dispatcher,
    pulse: Pulse,
    /// Looks up the names of programs for all of its tenants.
    programs: Arc<Mutex<ProcessNames>>,
    /// Lists the table for all of them.
    listings: Arc<Listings>,
}

/// What a reload changes.
struct Inner {
    generation: u64,
    /// The policy that runs.
    policy: Arc<Policy>,
    /// What was in the file when it was last loaded or refused; none if it could not be read.
    tried: Option<Vec<u8>>,
    /// Whether that was refused.
    refused: bool,
    tenants: Vec<Running>,
    /// Of the generation before, until they have finished.
    leaving: Vec<Running>,
    /// What those did that have finished, by tenant.
    past: BTreeMap<String, TenantFigures>,
    /// Reloads that were done, and that failed.
    reloads: [u64; 2],
}

impl Inner {
    /// Whether a tenant goes on only if it is restarted, and may be: the operator's quarantine is ended by a reload alone.
    fn needs_start(&self, name: &str) -> bool {
        let running = self.tenants.iter().find(|running| running.name == name);
        running.is_some_and(|running| running.needs_start() && running.outlet().wish() != Wish::Quarantine)
    }
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn orders(&self) -> MutexGuard<'_, BTreeMap<String, Wish>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The station of a network namespace; it listens from now on.
    ///
    /// # Errors
    /// Why it cannot.
    fn station(&self, name: Option<&String>) -> Result<Arc<Station>, String> {
        let namespace = name.map(|name| Namespace::find(&Path::new(namespace::DIRECTORY).join(name).into_os_string()));
        let namespace = namespace.transpose().map_err(|error| match error.errno() {
            libc::EPERM => {
                format!("{error}; a service that started without tenants in namespaces has given it up: restart it")
            }
            _ => error.to_string(),
        })?;
        // Where the process cannot see its own namespace it has one all the same.
        let own = || namespace::identity(None).unwrap_or_default();
        let identity = namespace.as_ref().map_or_else(own, Namespace::identity);
        let mut stations = self.stations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(station) = stations.get(&identity) {
            return Ok(station.clone());
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
        let station = Arc::new(Station {
            namespace,
            identity,
            insert_barrier: listener.barrier_inserter(),
            dispatcher: Dispatcher::default(),
            pulse: Pulse::default(),
            programs: Arc::new(Mutex::new(programs)),
            listings: Arc::new(listings),
        });
        if name.is_none() || stations.is_empty() {
            self.counters.watch(listener.socket());
        }
        let (receiving, stop, failure) = (station.clone(), self.stop.clone(), self.failure.clone());
        let counters = self.counters.clone();
        let receive = move || {
            let mut datagram = Datagram::with_capacity(EVENT_BUFFER_LENGTH);
            loop {
                match listener.next(&mut datagram) {
                    Ok(true) => {
                        receiving.dispatcher.hand_out(&datagram, &|mark| receiving.pulse.is_own(mark), &counters);
                        receiving.pulse.beat();
                    }
                    Ok(false) => break,
                    Err(error) => {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.errno());
                        stop.stop();
                        break;
                    }
                }
            }
            // Nothing more will come; what waits is still taken.
            receiving.dispatcher.replace(Vec::new());
        };
        let receiver = thread::Builder::new()
            .name("events".into())
            .spawn(receive)
            .map_err(|error| format!("cannot start a thread: {}", error_text(&error)))?;
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner).push(receiver);
        stations.insert(identity, station.clone());
        Ok(station)
    }

    /// Feeds the watchdog, if it is time to: whoever calls this lives, and what receives events must answer. If it does not, the
    /// watchdog gets nothing, and systemd restarts the service; nobody is told of events meanwhile, so that nothing else helps.
    fn feed(&self) {
        let stations = self.stations.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = |station: &Arc<Station>| station.pulse.is_alive(|| (station.insert_barrier)().ok());
        // All are asked, also behind one that does not answer.
        let fed = self.notifier.feed(|| stations.values().filter(|station| !answers(station)).count() == 0);
        let Some(lives) = fed else { return };
        if !lives && self.lived.swap(false, Ordering::AcqRel) {
            report::line("WARNING: what receives events does not answer; the watchdog is not fed until it does.");
        } else if lives {
            self.lived.store(true, Ordering::Release);
        }
    }

    /// What the service does, in a line.
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

    /// Starts all tenants of a policy. One that does not start has ended, and the others go on without it; unless it is required, or
    /// none starts of the first generation. Tenants that the operator leaves out by `without` have ended as well. `meanwhile` is
    /// called now and then.
    ///
    /// # Errors
    /// Why nothing was started.
    fn start(
        &self,
        policy: &Policy,
        generation: u64,
        without: &[String],
        meanwhile: &dyn Fn(),
    ) -> Result<(Vec<Running>, Vec<Mistake>), Vec<Mistake>> {
        let end = Instant::now() + START;
        let mut identities = Vec::new();
        let mut started = Vec::new();
        for tenant in &policy.tenants {
            let station = self.station(tenant.namespace.as_ref());
            identities.push(station.as_ref().ok().map(|station| station.identity));
            started.push(match station {
                Ok(_) if without.contains(&tenant.name) => {
                    Running::absent(policy, tenant, generation, "the operator has left it out")
                }
                Ok(station) => Running::start(self, &station, policy, tenant, generation),
                Err(error) => Running::absent(policy, tenant, generation, &error),
            });
        }
        // Names may have come to stand for one namespace since the file was read.
        let mut mistakes = neighbours::flows(policy, &identities).mistakes;
        let (mut fatal, mut failed) = (!mistakes.is_empty(), Vec::new());
        for (tenant, running) in policy.tenants.iter().zip(&started) {
            if let Err(why) = running.ready(end, meanwhile) {
                let left_out = without.contains(&tenant.name);
                fatal |= tenant.required && !left_out;
                failed.push((running, why));
            }
        }
        // A later one takes over all the same: what it takes from a tenant must not depend on whether that tenant starts.
        fatal |= generation == 1 && failed.len() == started.len();
        for (running, why) in failed {
            running.give_up();
            if !fatal {
                let reason = why.first().map(|mistake| mistake.what.clone()).unwrap_or_default();
                self.audit.service(generation, &running.name, "ended", Some(reason.clone()));
                running.end(reason);
            }
            mistakes.extend(why);
        }
        if fatal {
            started.iter().for_each(Running::give_up);
            return Err(mistakes);
        }
        self.audit.shares().divide(started.len());
        Ok((started, mistakes))
    }

    /// Hands events to these tenants from now on.
    fn hand_to(&self, tenants: &[Running]) {
        let stations = self.stations.lock().unwrap_or_else(PoisonError::into_inner);
        for station in stations.values() {
            let own = tenants.iter().filter(|running| running.is_at(station));
            station.dispatcher.replace(own.map(Running::outlet).collect());
        }
        drop(stations);
        tenants.iter().for_each(Running::go);
    }

    /// Restarts a tenant of the running generation: one that has ended, or whose plugin has failed too often. It takes over from
    /// the one before when its plugins have started, and is told the table as it is then.
    ///
    /// # Errors
    /// Why the one before stays as it is.
    fn restart(&self, name: &str, meanwhile: &dyn Fn()) -> Result<(), Vec<String>> {
        let (policy, generation) = {
            let inner = self.lock();
            (inner.policy.clone(), inner.generation)
        };
        let gone = || vec![format!("there is no tenant `{name}`")];
        let tenant = policy.tenants.iter().find(|tenant| tenant.name == name).ok_or_else(gone)?;
        let station = self.station(tenant.namespace.as_ref()).map_err(|error| vec![error])?;
        // Its name may have come to stand for the namespace of another tenant since.
        let identities: Vec<Option<namespace::Identity>> = {
            let inner = self.lock();
            let other = |name: &str| inner.tenants.iter().find(|running| running.name == name)?.station();
            let identity = |of: &str| if of == name { Some(station.identity) } else { other(of) };
            policy.tenants.iter().map(|tenant| identity(&tenant.name)).collect()
        };
        let mistakes = neighbours::flows(&policy, &identities).mistakes;
        if !mistakes.is_empty() {
            return Err(mistakes.iter().map(ToString::to_string).collect());
        }
        let running = Running::start(self, &station, &policy, tenant, generation);
        if let Err(mistakes) = running.ready(Instant::now() + START, meanwhile) {
            running.give_up();
            return Err(mistakes.iter().map(ToString::to_string).collect());
        }
        let mut inner = self.lock();
        let Some(place) = inner.tenants.iter_mut().find(|running| running.name == name) else {
            running.give_up();
            return Err(gone());
        };
        place.leave(policy.service.drain);
        station.dispatcher.exchange(&place.outlet(), running.outlet());
        running.go();
        let title = running.title();
        let old = std::mem::replace(place, running);
        inner.leave([old]);
        report::line(&format!("{title}: it has been restarted"));
        Ok(())
    }

    /// Ends those whose time to finish after a reload is over.
    fn end_late(&self) {
        self.lock().leaving.iter().for_each(Running::end_if_late);
    }

    /// Whether the file is reloaded when it has changed.
    fn follows_changes(&self) -> bool {
        !self.once && self.lock().policy.service.reload_on_change
    }

    /// Whether there is something in the file that has not been loaded or refused.
    fn has_news(&self) -> bool {
        let content = files::read(&self.file, files::MOST_OF_CONFIGURATION).ok();
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

    /// What is in the file now.
    ///
    /// # Errors
    /// Why that cannot be said, in a list of one.
    fn content(&self) -> Result<Vec<u8>, Vec<String>> {
        if self.once {
            return Err(vec![PolicyError::Once { path: self.file.clone() }.to_string()]);
        }
        let failed = |error| vec![format!("cannot read {}: {}", self.file.display(), error_text(&error))];
        files::read(&self.file, files::MOST_OF_CONFIGURATION).map_err(failed)
    }

    /// Reloads the file, and lets its tenants take over once they have started; `meanwhile` is called now and then until then.
    /// Returns which tenants have not started, and why.
    ///
    /// # Errors
    /// Why the old ones go on.
    fn reload(&self, without: &[String], meanwhile: &dyn Fn()) -> Result<Vec<String>, Vec<String>> {
        let told = |list: &[flowgate_config::Mistake]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        self.notifier.reloading(&format!("{}; reloading the file", self.state()));
        // Others may look meanwhile: nobody else changes anything.
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
            let started = self.start(&policy, generation, without, meanwhile);
            let (tenants, failed) = started.map_err(|mistakes| told(&mistakes))?;
            Ok((tenants, told(&failed), policy))
        });
        let result = self.take_over(generation, result);
        self.notifier.ready(&self.state());
        result
    }

    /// Lets the tenants of a generation take over, or tells why there are none.
    fn take_over(
        &self,
        generation: u64,
        loaded: Result<(Vec<Running>, Vec<String>, Policy), Vec<String>>,
    ) -> Result<Vec<String>, Vec<String>> {
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
                        "NOTE: `socket`, `buffer` and `[audit]` keep their values until the service is restarted.",
                    );
                }
                inner.policy = Arc::new(policy);
                let orders = std::mem::take(&mut *self.orders());
                for running in &tenants {
                    if let Some(wish) = orders.get(&running.name) {
                        running.outlet().set(*wish);
                    }
                }
                // Before the new ones act: what was granted before is over.
                inner.tenants.iter().for_each(|old| old.leave(drain));
                self.hand_to(&tenants);
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

/// Word of tenants that have not started.
fn without<T>(failed: &[T]) -> &'static str {
    if failed.is_empty() { "" } else { ", without tenants that have not started" }
}

/// So many tenants.
fn count(tenants: usize) -> String {
    format!("{tenants} tenant{}", if tenants == 1 { "" } else { "s" })
}

/// Runs the service until a signal ends it.
///
/// # Errors
/// Why it does not run, or why it ended.
pub(in crate::command) fn run(
    (file, content): (&Path, Vec<u8>),
    stop: &Stop,
    (board, counters): (&Board, &Counters),
    metrics: Option<&Address>,
) -> Result<Exit, CommandError> {
    standard_error::is_of_service();
    report::start_log();
    let once = std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file());
    let mut watch = if once { Watch::new(file) } else { Watch::of(file, &content) };
    let (policy, mistakes, notes) = Policy::of_bytes(file, content);
    // What was given up was decided by the same bytes.
    let namespaces = policy.tenants.iter().any(|tenant| tenant.namespace.is_some());
    Duty::Service { namespaces }.holds().map_err(PolicyError::Privileges)?;
    notes.iter().for_each(|note| report::line(&note.to_string()));
    super::sound(file, &mistakes)?;
    let audit = Arc::new(Audit::open(policy.audit.clone(), policy.audit_limits.history, Warnings::new(report::line))?);
    let reload = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, reload.clone())
        .map_err(|source| PolicyError::Signal { source })?;
    let door = control::Door::open(&policy.service.socket)?;
    board.end_within(policy.service.drain + Duration::from_secs(1));
    let policy = Arc::new(policy);
    // No cache of compiled code: what runs is what has been compiled here, of the bytes that have been hashed.
    let engine = PluginEngine::new(None)?;
    crate::command::tell_execution(&engine)?;
    let service = Service {
        file: file.into(),
        once,
        engine,
        audit,
        counters: counters.clone(),
        states: Arc::default(),
        stop: stop.clone(),
        board: board.clone(),
        notifier: Notifier::of_environment(),
        lived: AtomicBool::new(true),
        buffer: policy.service.buffer.map(|bytes| bytes as usize),
        stations: Mutex::default(),
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
    let look: Look = Arc::new(move || inner.lock().unwrap_or_else(PoisonError::into_inner).figures(&audit));
    // Until the service ends.
    let metrics = metrics.map(|address| flowgate_metrics::serve_tenants(address, look, counters)).transpose()?;
    metrics.iter().for_each(crate::command::tell_address);
    let (tenants, failed) = service.start(&policy, 1, &[], &|| service.feed()).map_err(|mistakes| {
        mistakes.iter().for_each(|mistake| report::line(&mistake.to_string()));
        CommandError::Mistakes { path: file.into(), mistakes: mistakes.len() }
    })?;
    failed.iter().for_each(|mistake| report::line(&mistake.to_string()));
    service.hand_to(&tenants);
    service.lock().tenants = tenants;
    service.audit.service(1, "", "start", None);
    service.notifier.ready(&service.state());
    report::line(&format!("policy: generation 1 runs, {}{}", count(policy.tenants.len()), without(&failed)));
    door.serve(&service, &reload, &mut watch);
    service.notifier.stopping(&service.state());
    // What the kernel has queued until now is still handed out.
    for receiver in std::mem::take(&mut *service.receivers.lock().unwrap_or_else(PoisonError::into_inner)) {
        // A receiver has nothing to say at its end.
        let _ = receiver.join();
    }
    service.hand_to(&[]);
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
    failure.map_or(Ok(Exit::Stopped), |errno| Err(CommandError::Events(report::strerror(errno))))
}
