//! `run` with a policy file: a service that hands each tenant its own flows, until a signal ends it.
//!
//! One thread receives events and puts each into the queues of the tenants whose scope it is in (`dispatch`); each tenant has a
//! thread of its own (`tenant`), so that the system's scheduler is what is fair; one more answers the control socket, looks
//! for SIGHUP and feeds the watchdog (`control`).

mod control;
mod dispatch;
mod notify;
mod tenant;

pub(super) use control::{Request, ask, nobody};

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use super::{PolicyError, prepare::Findings};
use crate::{
    command::{
        assemble::States,
        listener::{Listener, Wanted},
        report::{self, CommandError, Exit},
    },
    netlink::{Stop, group},
    pipeline::{source::Source as _, stats::Board},
    policy::{Policy, audit::Audit, share::sieve::Mark},
    wasm::PluginEngine,
};
use dispatch::Dispatcher;
use notify::Notifier;
use tenant::Running;

/// How long a plugin's thread is waited for when it starts, beyond what its own limits say.
const START: Duration = Duration::from_secs(60);

/// What all threads of the service share.
pub(super) struct Service {
    file: PathBuf,
    engine: PluginEngine,
    audit: Arc<Audit>,
    states: Arc<States>,
    mark: Mark,
    stop: Stop,
    notifier: Notifier,
    inner: Mutex<Inner>,
    dispatcher: Dispatcher,
}

/// What a reload changes.
struct Inner {
    generation: u64,
    drain: Duration,
    tenants: Vec<Running>,
    /// Of the generation before, until they have finished.
    leaving: Vec<Running>,
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts all tenants of a policy; all or none.
    fn start(&self, policy: &Policy, generation: u64) -> Result<Vec<Running>, Findings> {
        let mut findings = Findings::default();
        for tenant in &policy.tenants {
            if tenant.namespace.is_some() {
                let what = format!(
                    "tenant `{}` is in another network namespace; run a flowgate of its own there: ip netns exec",
                    tenant.name
                );
                findings.mistakes.push(policy.text.mistake(tenant.at, what));
            }
        }
        let started: Vec<Running> = if findings.mistakes.is_empty() {
            policy.tenants.iter().map(|tenant| Running::start(self, policy, tenant, generation)).collect()
        } else {
            Vec::new()
        };
        let end = Instant::now() + START;
        for running in &started {
            if let Err(mistakes) = running.ready(end.saturating_duration_since(Instant::now())) {
                findings.mistakes.extend(mistakes);
            }
        }
        if findings.mistakes.is_empty() {
            return Ok(started);
        }
        for running in started {
            running.give_up();
        }
        Err(findings)
    }

    /// Reads the file anew, and lets its tenants take over once all of them have started.
    ///
    /// # Errors
    /// Why the old ones go on.
    fn reload(&self) -> Result<u64, Vec<String>> {
        let told = |list: &[crate::config::Mistake]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        self.notifier.tell("RELOADING=1");
        let mut inner = self.lock();
        let generation = inner.generation + 1;
        let result = Policy::read(&self.file)
            .map_err(|error| vec![format!("cannot read {}: {}", self.file.display(), super::reason(&error))])
            .and_then(|(policy, mistakes, _)| match mistakes.is_empty() {
                true => self.start(&policy, generation).map_err(|findings| told(&findings.mistakes)),
                false => Err(told(&mistakes)),
            });
        self.notifier.tell("READY=1");
        match result {
            Ok(tenants) => {
                inner.generation = generation;
                self.dispatcher.replace(tenants.iter().map(Running::outlet).collect());
                tenants.iter().for_each(Running::go);
                let old = std::mem::replace(&mut inner.tenants, tenants);
                inner.leaving.retain(|running| !running.finished());
                inner.leaving.extend(old);
                self.audit.service(generation, "", "reload", None);
                report::line(&format!("policy: generation {generation} runs"));
                Ok(generation)
            }
            Err(reasons) => {
                self.audit.service(inner.generation, "", "reload-failed", reasons.first().cloned());
                reasons.iter().for_each(|reason| report::line(reason));
                report::line(&format!("policy: generation {} goes on; the new file has mistakes", inner.generation));
                Err(reasons)
            }
        }
    }
}

/// Runs the service until a signal ends it.
pub(super) fn run(file: &std::path::Path, stop: &Stop, board: &Board) -> Result<Exit, CommandError> {
    report::start_log();
    let (policy, mistakes, notes) = super::read(file)?;
    notes.iter().for_each(|note| report::line(&note.to_string()));
    super::sound(file, &mistakes)?;
    let audit = Arc::new(Audit::open(policy.audit.clone(), report::line)?);
    let wanted =
        Wanted { groups: group::FLOWS, buffer: policy.service.buffer.map(|bytes| bytes as usize), ..Wanted::default() };
    let mut listener = Listener::open(&wanted, stop).map_err(|error| {
        report::line(&format!("events: {}", report::strerror(error.errno())));
        CommandError::EventSocket
    })?;
    let reload = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, reload.clone())
        .map_err(|source| PolicyError::Signal { source })?;
    let door = control::Door::open(&policy.service.socket)?;
    board.end_within(policy.service.drain + Duration::from_secs(1));
    let service = Service {
        file: file.into(),
        engine: PluginEngine::new(PluginEngine::cache_directory().as_deref())?,
        audit,
        states: Arc::default(),
        mark: listener.mark(),
        stop: stop.clone(),
        notifier: Notifier::of_environment(),
        inner: Mutex::new(Inner {
            generation: 1,
            drain: policy.service.drain,
            tenants: Vec::new(),
            leaving: Vec::new(),
        }),
        dispatcher: Dispatcher::default(),
    };
    let tenants = service.start(&policy, 1).map_err(|findings| {
        findings.mistakes.iter().for_each(|mistake| report::line(&mistake.to_string()));
        CommandError::Mistakes { path: file.into(), mistakes: findings.mistakes.len() }
    })?;
    service.dispatcher.replace(tenants.iter().map(Running::outlet).collect());
    tenants.iter().for_each(Running::go);
    service.lock().tenants = tenants;
    service.audit.service(1, "", "start", None);
    service.notifier.tell("READY=1");
    report::line(&format!("policy: generation 1 runs, {} tenants", policy.tenants.len()));
    let ended = thread::scope(|scope| {
        let (shared, flag) = (&service, &reload);
        let spawned =
            thread::Builder::new().name("control".into()).spawn_scoped(scope, move || door.serve(shared, flag));
        if let Err(error) = spawned {
            stop.stop();
            return Err(CommandError::from(PolicyError::Thread { source: error }));
        }
        let mut datagram = crate::pipeline::source::Datagram::with_room(crate::pipeline::source::EVENTS);
        let result = loop {
            match listener.next(&mut datagram) {
                Ok(true) => service.dispatcher.hand_out(&datagram),
                Ok(false) => break Ok(()),
                Err(error) => break Err(CommandError::Events(report::strerror(error.errno()))),
            }
        };
        // The control thread ends with everything else.
        stop.stop();
        result
    });
    service.notifier.tell("STOPPING=1");
    let mut inner = service.lock();
    let end = Instant::now() + inner.drain;
    let leaving: Vec<Running> = std::mem::take(&mut inner.tenants).into_iter().collect();
    let all: Vec<Running> = leaving.into_iter().chain(std::mem::take(&mut inner.leaving)).collect();
    service.dispatcher.replace(Vec::new());
    for running in &all {
        while !running.finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
    let late = all.iter().filter(|running| !running.finished()).count();
    if late > 0 {
        report::line(&format!("policy: {late} tenants did not finish in time and were left behind"));
    }
    service.audit.service(inner.generation, "", "stop", None);
    ended.map(|()| Exit::Stopped)
}
