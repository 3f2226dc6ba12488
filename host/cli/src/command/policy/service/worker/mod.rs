//! The thread of a tenant: it owns the tenant's worker, a process in which the plugins run.
//!
//! * [`session`] is the life of one worker process; `process` starts it, `limits` has its limits, `feeder` passes
//!   events.
//! * `actions`, `table` and `services` do what a worker asks for.
//! * `code` has the plugins compiled.

mod actions;
mod code;
mod feeder;
mod limits;
mod process;
mod services;
mod session;
mod table;

use std::{
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use super::{
    dispatch::{DesiredState, Recipient},
    ending::TenantEnd,
    tenant::{TenantRecord, title},
};
use crate::command::{
    policy::load,
    report::{self, CommandError},
    shipping,
};
pub(in crate::command) use code::compile;
pub(super) use feeder::Outlet;
use flowgate_base::{Backoff, TokenBucket, Warnings, clock::now, text::clean};
use flowgate_config::Diagnostic;
use flowgate_model::{Flows, OnError, UtcOffset, field};
use flowgate_netlink::{Namespace, Stop, decode::FlowDecoder, process_names::ProcessNames, source::InsertBarrier};
use flowgate_pipeline::{
    executor::{Executor, Shows},
    loader::{ProblemPlace, StateStores},
    sink::{Several, Sink, SinkKind},
};
use flowgate_policy::{
    Policy, Tenant,
    audit::Audit,
    control::{Isolation, WorkerEnd, WorkerState},
    delivery::{Gathering, Listings, RateLimitedSink, SpaceReservingSink, share_a_file_system},
    guard::{TenantGuard, UnproposedActions, ledger::Ledger},
};
use flowgate_runtime::{Execution, PluginEngine};
use flowgate_worker::protocol::Part;
pub(in crate::command) use limits::limits;
pub(in crate::command) use process::WorkerProcess;

use process::Cause;
use services::Services;
use session::{Session, SessionEnd};

/// Pauses before a worker is started again. The first is short: most faults are over with the process.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// The data that the thread of a tenant needs.
pub(super) struct Job {
    pub engine: PluginEngine,
    /// How compiled code runs in workers.
    pub execution: Execution,
    pub states: Arc<StateStores>,
    pub audit: Arc<Audit>,
    pub insert_barrier: InsertBarrier,
    pub programs: Arc<Mutex<ProcessNames>>,
    /// Listings of the table that are shared with other tenants; `None` if there is nothing to share.
    pub listings: Option<Arc<Listings>>,
    pub namespace: Option<Namespace>,
    /// The entries that tenants of the namespace have created.
    pub ledger: Arc<Ledger>,
    pub stop: Stop,
    pub policy: Arc<Policy>,
    pub tenant: Tenant,
    pub recipient: Arc<Recipient>,
    /// CPU time that the tenant may still use: its worker, and what this process does for it.
    pub budget: Arc<Mutex<TokenBucket>>,
    /// When events are gathered; shared by all tenants.
    pub gathering: Gathering,
    /// The differences of local time from UTC.
    pub offsets: Arc<[UtcOffset]>,
    pub record: Arc<TenantRecord>,
    /// What holds workers, as the first one has reported.
    pub isolation: Arc<OnceLock<Isolation>>,
}

/// Receives whether the tenant has started.
type Tell<'a> = &'a dyn Fn(Result<(), Vec<Diagnostic>>);

impl Job {
    /// Runs the tenant to its end. `tell` receives whether its plugins have started.
    pub(super) fn run(&self, tell: Tell<'_>) {
        let ending = TenantEnd {
            name: &self.tenant.name,
            record: &self.record,
            queue: &self.recipient.queue,
            audit: &self.audit,
            warnings: self.warnings(),
        };
        let mistake = |reason| self.policy.text.diagnostic(self.tenant.offset, reason);
        ending.of(&|mistakes| tell(Err(mistakes)), mistake, || self.work(tell));
    }

    /// Returns a sink for messages about the tenant. It prints them to standard error after the tenant's name and
    /// generation, and escapes line breaks in them.
    fn warnings(&self) -> Warnings {
        let title = title(&self.tenant.name, self.record.generation);
        Warnings::new(move |text| report::line(&format!("{title}: {}", clean(text))))
    }

    fn work(&self, tell: Tell<'_>) -> Result<(), CommandError> {
        let (policy, tenant) = (&self.policy, &self.tenant);
        let engine = self.engine.of_owner(&tenant.name);
        let compiled = code::compile(&policy.text, tenant, &engine, true);
        let opened = compiled.and_then(|code| {
            Services::open(policy, tenant, &self.states, self.record.generation).map(|services| (code, services))
        });
        let (mut code, mut services) = match opened {
            Ok(opened) => opened,
            Err(mistakes) => {
                tell(Err(mistakes));
                return Ok(());
            }
        };
        self.record.set_stages(services.stats());
        let mut sink = self.sink()?;
        let mut failures = Failures::of(tenant);
        let (mut begun, mut compiled_anew) = (false, false);
        loop {
            self.recipient.queue.resume();
            let first = !begun;
            let ready = || {
                self.enter(WorkerState::Ready);
                if first {
                    tell(Ok(()));
                }
            };
            let end = Session::run(self, &code, &mut services, &mut sink, &ready);
            begun |= self.record.has_begun();
            let cause = match end {
                SessionEnd::Finished if begun => {
                    self.audit.service(self.record.generation, &tenant.name, "worker-finished", None);
                    break;
                }
                SessionEnd::Finished => {
                    self.record_end(&Cause::new(WorkerEnd::Order, "its generation does not take over"));
                    break;
                }
                SessionEnd::Ordered(cause) => {
                    self.record_end(&cause);
                    break;
                }
                SessionEnd::Broken(error) => return Err(error),
                SessionEnd::Failed(reason) => {
                    self.record.worker_ended(WorkerEnd::Failed, &reason);
                    return Err(CommandError::Tenant(reason));
                }
                SessionEnd::NotStarted(diagnostics) if !begun => {
                    tell(Err(diagnostics));
                    return Ok(());
                }
                SessionEnd::NotStarted(diagnostics) => {
                    let what = diagnostics.into_iter().next().map(|diagnostic| diagnostic.message);
                    let reason = format!("its plugins did not start: {}", what.unwrap_or_default());
                    Cause::new(WorkerEnd::NotStarted, reason)
                }
                SessionEnd::Died(cause) if cause.is_violation() => {
                    self.record_end(&cause);
                    let reason = cause.reason;
                    return Err(CommandError::Tenant(format!("its worker is not trusted any more: {reason}")));
                }
                SessionEnd::Died(cause) => cause,
            };
            self.record_end(&cause);
            let reason = cause.reason;
            if !begun {
                // Stored code may be from a machine with another processor.
                if !compiled_anew {
                    compiled_anew = true;
                    if let Ok(compiled) = code::compile(&policy.text, tenant, &engine, false) {
                        code = compiled;
                        self.record.restart_worker();
                        continue;
                    }
                }
                return Err(CommandError::Tenant(format!("its worker has ended: {reason}")));
            }
            let pause =
                failures.next().ok_or_else(|| CommandError::Tenant(format!("its worker has ended: {reason}")))?;
            self.warnings().line(&format!("WARNING: its worker has ended: {reason}; it is started again"));
            // What the worker had not processed is lost, and so is what arrives until the next one runs.
            self.recipient.queue.push_gap(now(), None);
            self.record.set_worker(WorkerState::Restarting);
            if !self.pause(pause) {
                break;
            }
            self.record.restart_worker();
        }
        services.save_all(&self.warnings());
        Ok(sink.finish()?)
    }

    /// Sets the state of the worker, and records it in the audit.
    fn enter(&self, state: WorkerState) {
        self.record.set_worker(state);
        self.record_state(state);
    }

    /// Records in the audit that the worker has got to this state.
    fn record_state(&self, state: WorkerState) {
        if let Some(action) = state.action() {
            self.audit.service(self.record.generation, &self.tenant.name, action, None);
        }
    }

    /// Records the end of a worker that did not finish.
    fn record_end(&self, cause: &Cause) {
        self.record.worker_ended(cause.end, &cause.reason);
        self.audit.worker_end(self.record.generation, &self.tenant.name, cause.end, cause.reason.clone());
    }

    /// Returns the sinks of the tenant.
    fn sink(&self) -> Result<RateLimitedSink, CommandError> {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        for sink in &self.tenant.spec().sinks {
            let opened = sink.open(true, &self.stop, self.warnings(), shipping::shippers())?;
            sinks.push(match &sink.kind {
                SinkKind::File(options) => self.reserving(opened, &options.path),
                SinkKind::Nats(options) => self.reserving(opened, &options.spool.path.join("lock")),
                _ => opened,
            });
        }
        let output = self.tenant.limits.output;
        Ok(RateLimitedSink::new(Box::new(Several::new(sinks)), output, self.record.dropped.clone()))
    }

    /// Returns a sink that writes this file, and leaves room for the audit where that is on the same file system.
    fn reserving(&self, sink: Box<dyn Sink>, path: &Path) -> Box<dyn Sink> {
        if !share_a_file_system(path, &self.policy.audit.path) {
            return sink;
        }
        let (reserve, dropped) = (self.policy.audit_limits.reserve, self.record.dropped.clone());
        Box::new(SpaceReservingSink::new(sink, path, reserve, dropped, self.warnings()))
    }

    /// Returns what performs the actions of the tenant.
    fn executor(&self, unproposed: &UnproposedActions) -> Executor<Flows> {
        let executor = Executor::new(Shows::Entries, FlowDecoder::new(field::ALL))
            .guarded()
            // A tenant without grants has a guard too, so that its requests are recorded.
            .watched_by(Box::new(self.guard().of_proposals(unproposed.clone())))
            .within(self.namespace.as_ref());
        executor.with_warnings(self.warnings())
    }

    /// Returns the guard of the tenant.
    fn guard(&self) -> TenantGuard {
        let recipient = self.recipient.clone();
        let halted = Arc::new(move || recipient.desired() != DesiredState::Run);
        let recipient = self.recipient.clone();
        let superseded = Arc::new(move || recipient.is_superseded());
        let (audit, namespace) = (self.audit.clone(), self.namespace.as_ref());
        let (generation, labels) = (self.record.generation, self.policy.labels.labels());
        let guard = TenantGuard::new(&self.tenant, generation, namespace, audit, &labels, halted);
        guard.counting(self.ledger.clone(), self.policy.service.table_share).until(superseded)
    }

    /// Returns a problem that a worker reports, with its place in the policy.
    fn problem(&self, part: Part, place: &ProblemPlace, what: &str) -> Diagnostic {
        load::problem(&self.policy.text, &self.tenant, part, place, what)
    }

    /// Waits before the next worker is started. Returns false if none is to be started any more.
    fn pause(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            let ended = self.record.is_killed()
                || self.recipient.is_superseded()
                || self.recipient.queue.is_closed()
                || self.recipient.desired() == DesiredState::Quarantine;
            let left = end.saturating_duration_since(Instant::now());
            if ended || left.is_zero() {
                return !ended;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// The ends of a tenant's workers, which decide whether there is another one.
struct Failures {
    /// As many as this within the time, and there is none.
    most: u32,
    window: Duration,
    times: Vec<Instant>,
}

impl Failures {
    /// Returns the limits of the strictest plugin: whichever failed, all of the worker has.
    fn of(tenant: &Tenant) -> Self {
        let restarts = tenant.plugins.iter().map(|plugin| plugin.plugin.limits.restart);
        let most =
            restarts.clone().map(|policy| if policy.on_error == OnError::Stop { 0 } else { policy.failures }).min();
        let window = restarts.map(|policy| policy.window).max().unwrap_or_default();
        Failures { most: most.unwrap_or_default(), window, times: Vec::new() }
    }

    /// Counts an end. Returns the pause before the next worker; `None` if there is none.
    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.times.retain(|time| now.duration_since(*time) < self.window);
        self.times.push(now);
        let recent = u32::try_from(self.times.len()).unwrap_or(u32::MAX);
        if recent >= self.most {
            return None;
        }
        Some(if recent == 1 { Duration::ZERO } else { PAUSES.pause(recent - 1) })
    }
}
