//! A running tenant as the rest of the service sees it. What it does is done by a thread of its own
//! ([`worker`](super::worker)).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    EventSource, Service,
    dispatch::{DesiredState, Recipient},
    worker::Job,
};
use crate::command::report;
use flowgate_base::{TokenBucket, io_error::error_text, text::clean};
use flowgate_config::Diagnostic;
use flowgate_metrics::TenantMetrics;
use flowgate_model::UtcOffset;
use flowgate_netlink::namespace;
use flowgate_pipeline::stats::{Health, SharedStageStats, StageStats};
use flowgate_policy::{
    Policy, Tenant,
    audit::Audit,
    control::{OtherWorker, TenantState, TenantStatus, WorkerEnd, WorkerEndReport, WorkerState, WorkerStatus},
    delivery::Queue,
};

/// A tenant as the rest of the service sees it.
pub(super) struct RunningTenant {
    pub name: String,
    /// The event_source at which its events arrive; `None` if the event_source could not be created.
    event_source: Option<namespace::Identity>,
    recipient: Arc<Recipient>,
    record: Arc<TenantRecord>,
    ready: Mutex<Option<Receiver<Started>>>,
}

/// The result of starting the plugins of a tenant.
type Started = Result<(), Vec<Diagnostic>>;

/// The state that a tenant shares with the service.
#[derive(Default)]
pub(super) struct TenantRecord {
    pub generation: u64,
    /// True if the tenant may begin, false if it must end; `None` while a reload may still fail elsewhere.
    pub go: Mutex<Option<bool>>,
    going: Condvar,
    pub finished: AtomicBool,
    /// The reason why the tenant ended early.
    pub ended: Mutex<Option<String>>,
    /// Time until which a replaced tenant may process its backlog.
    until: Mutex<Option<Instant>>,
    stages: Mutex<Vec<SharedStageStats>>,
    /// Number of dropped lines of output.
    pub dropped: Arc<AtomicU64>,
    /// Number of resyncs, and of rows that reached the format.
    counts: Mutex<(u64, u64)>,
    /// True if the tenant is to end at once.
    killed: AtomicBool,
    worker: Mutex<WorkerRecord>,
    /// CPU time of all its workers, in nanoseconds.
    worker_time: AtomicU64,
}

/// The life of a tenant's workers.
#[derive(Default)]
struct WorkerRecord {
    state: WorkerState,
    restarts: u64,
    /// Its process ID, if it has started.
    process: Option<i32>,
    ends: BTreeMap<WorkerEnd, u64>,
    last_end: Option<WorkerEndReport>,
}

impl TenantRecord {
    /// Returns true if the tenant is to end at once.
    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Returns true if it has been decided that the tenant may begin.
    pub(super) fn has_begun(&self) -> bool {
        *self.go.lock().unwrap_or_else(PoisonError::into_inner) == Some(true)
    }

    /// Returns the number of resyncs, and of rows that reached the format.
    pub(super) fn counts(&self) -> (u64, u64) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the number of resyncs, and of rows that reached the format.
    pub(super) fn count(&self, resyncs: u64, shown: u64) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = (resyncs, shown);
    }

    fn worker(&self) -> MutexGuard<'_, WorkerRecord> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the state of the worker.
    pub(super) fn set_worker(&self, state: WorkerState) {
        self.worker().state = state;
    }

    /// Sets the process ID of the worker.
    pub(super) fn set_process(&self, process: Option<i32>) {
        self.worker().process = process;
    }

    /// Counts a worker that is started after another one.
    pub(super) fn restart_worker(&self) {
        let mut worker = self.worker();
        (worker.state, worker.restarts) = (WorkerState::Restarting, worker.restarts + 1);
    }

    /// Returns the state of the worker of a tenant with this recipient.
    fn worker_state(&self, recipient: &Recipient) -> WorkerState {
        match self.worker().state {
            WorkerState::Killed => WorkerState::Killed,
            _ if self.finished.load(Ordering::Acquire) => WorkerState::Ended,
            WorkerState::Running if recipient.is_superseded() => WorkerState::Revoked,
            WorkerState::Running if recipient.queue.is_closed() => WorkerState::Draining,
            state => state,
        }
    }

    /// Records the end of a worker that did not finish.
    pub(super) fn worker_ended(&self, end: WorkerEnd, reason: &str) {
        let mut worker = self.worker();
        worker.state = end.state();
        *worker.ends.entry(end).or_default() += 1;
        worker.process = None;
        worker.last_end = Some(WorkerEndReport { code: end, reason: reason.into() });
    }

    /// Adds CPU time of a worker.
    pub(super) fn add_worker_time(&self, time: Duration) {
        self.worker_time.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Sets the statistics of the plugins.
    pub(super) fn set_stages(&self, stages: Vec<SharedStageStats>) {
        *self.stages.lock().unwrap_or_else(PoisonError::into_inner) = stages;
    }

    /// Waits until it is decided whether the tenant may begin. Returns true if it may.
    pub(super) fn wait_for_decision(&self) -> bool {
        let mut go = self.go.lock().unwrap_or_else(PoisonError::into_inner);
        while go.is_none() {
            go = self.going.wait(go).unwrap_or_else(PoisonError::into_inner);
        }
        *go == Some(true)
    }
}

impl RunningTenant {
    /// Starts the thread of a tenant, which starts its plugins and then waits. `offsets` are the differences of local
    /// time from UTC.
    pub(super) fn start(
        service: &Service,
        event_source: &EventSource,
        policy: &Arc<Policy>,
        tenant: &Tenant,
        (generation, offsets): (u64, &Arc<[UtcOffset]>),
    ) -> Self {
        let queue = Arc::new(Queue::new(usize::try_from(tenant.limits.queue).unwrap_or(usize::MAX)));
        let recipient = Arc::new(Recipient::new(tenant.scope.clone(), queue));
        let record = Arc::new(TenantRecord { generation, ..TenantRecord::default() });
        let job = Job {
            engine: service.engine.clone(),
            execution: service.execution,
            states: service.states.clone(),
            audit: service.audit.clone(),
            insert_barrier: event_source.insert_barrier.clone(),
            programs: event_source.programs.clone(),
            listings: (policy.tenants.len() > 1).then(|| event_source.listings.clone()),
            namespace: event_source.namespace.clone(),
            ledger: event_source.dispatcher.ledger.clone(),
            stop: service.stop.clone(),
            policy: policy.clone(),
            tenant: tenant.clone(),
            recipient: recipient.clone(),
            budget: budget(tenant),
            gathering: service.gathering.among(policy.tenants.len()),
            offsets: offsets.clone(),
            record: record.clone(),
            isolation: service.isolation.clone(),
        };
        let (result_sender, ready) = sync_channel(1);
        let failed = result_sender.clone();
        let spawned = thread::Builder::new().name(format!("tenant {}", tenant.name)).spawn(move || {
            job.run(&|result| {
                // The receiver is gone if the start took too long.
                let _ = result_sender.try_send(result);
            });
        });
        if let Err(error) = spawned {
            record.finished.store(true, Ordering::Release);
            let mistake = policy.text.diagnostic(tenant.offset, format!("it has no thread: {}", error_text(&error)));
            let _ = failed.try_send(Err(vec![mistake]));
        }
        RunningTenant {
            name: tenant.name.clone(),
            event_source: Some(event_source.identity),
            recipient,
            record,
            ready: Mutex::new(Some(ready)),
        }
    }

    /// Returns a tenant that is not started, with the reason.
    pub(super) fn absent(policy: &Policy, tenant: &Tenant, generation: u64, why: &str) -> Self {
        let (result_sender, ready) = sync_channel(1);
        // The channel is new and has room for the message.
        let _ = result_sender.try_send(Err(vec![policy.text.diagnostic(tenant.offset, why)]));
        let queue = Arc::new(Queue::new(0));
        queue.end();
        RunningTenant {
            name: tenant.name.clone(),
            event_source: None,
            recipient: Arc::new(Recipient::new(tenant.scope.clone(), queue)),
            record: Arc::new(TenantRecord { generation, finished: AtomicBool::new(true), ..TenantRecord::default() }),
            ready: Mutex::new(Some(ready)),
        }
    }

    /// True if the events of the tenant arrive at this event_source.
    pub(super) fn is_at(&self, event_source: &EventSource) -> bool {
        self.event_source == Some(event_source.identity)
    }

    /// Returns the identity of the tenant's network namespace, if it has one.
    pub(super) fn event_source(&self) -> Option<namespace::Identity> {
        self.event_source
    }

    /// Marks the tenant as ended before it began.
    pub(super) fn end(&self, reason: String) {
        *self.record.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// Waits until the plugins have started. `meanwhile` is called repeatedly.
    ///
    /// # Errors
    /// The reasons why they have not started.
    pub(super) fn ready(&self, end: Instant, meanwhile: &dyn Fn()) -> Result<(), Vec<Diagnostic>> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        let answer = ready.and_then(|ready| {
            loop {
                match ready.recv_timeout(Duration::from_millis(50)) {
                    Err(RecvTimeoutError::Timeout) if Instant::now() < end => meanwhile(),
                    answer => break answer.ok(),
                }
            }
        });
        answer
            .unwrap_or_else(|| {
                Err(vec![Diagnostic {
                    path: "policy".into(),
                    line: 1,
                    column: 1,
                    message: "it did not start in time".into(),
                }])
            })
            .map_err(|mistakes| {
                let title = self.title();
                let whose = |mistake: Diagnostic| Diagnostic {
                    message: format!("{title}: {}", clean(&mistake.message)),
                    ..mistake
                };
                mistakes.into_iter().map(whose).collect()
            })
    }

    /// Returns the title of messages about the tenant.
    pub(super) fn title(&self) -> String {
        title(&self.name, self.record.generation)
    }

    /// Lets the tenant begin.
    pub(super) fn begin(&self) {
        self.decide(true);
    }

    /// Ends the tenant before it begins.
    pub(super) fn abandon(&self) {
        self.decide(false);
        self.recipient.queue.end();
    }

    fn decide(&self, go: bool) {
        *self.record.go.lock().unwrap_or_else(PoisonError::into_inner) = Some(go);
        self.record.going.notify_all();
    }

    /// Marks the tenant as replaced: it may not act on flows any more, and has this much time to process its backlog.
    pub(super) fn leave(&self, time: Duration) {
        self.recipient.supersede();
        *self.record.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + time);
    }

    /// Records in the audit that the tenant's worker has got to this state, if it has one.
    pub(super) fn record_state(&self, state: WorkerState, audit: &Audit) {
        if let Some(action) = state.action().filter(|_| !self.finished()) {
            audit.service(self.record.generation, &self.name, action, None);
        }
    }

    /// Ends the tenant if it has been replaced and its time is over.
    pub(super) fn end_if_late(&self) {
        let until = &mut *self.record.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_none_or(|until| Instant::now() < until) {
            return;
        }
        *until = None;
        if !self.finished() {
            let waiting = self.recipient.queue.counts().waiting;
            self.recipient.queue.end();
            self.record.killed.store(true, Ordering::Release);
            report::line(&format!(
                "{}: it did not finish within `drain`; {waiting} bytes of events that waited for it are dropped",
                self.title()
            ));
        }
    }

    pub(super) fn recipient(&self) -> Arc<Recipient> {
        self.recipient.clone()
    }

    pub(super) fn finished(&self) -> bool {
        self.record.finished.load(Ordering::Acquire)
    }

    /// True if the tenant continues only after a restart: it has ended, or one of its plugins has failed too often.
    pub(super) fn needs_start(&self) -> bool {
        let stages = self.record.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = |stage: &SharedStageStats| stage.lock().health == Health::Quarantined;
        self.record.ended.lock().unwrap_or_else(PoisonError::into_inner).is_some() || stages.iter().any(gone)
    }

    /// Returns the state of the tenant.
    pub(super) fn state(&self) -> TenantState {
        let ended = self.record.ended.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        match (ended, self.recipient.desired()) {
            (true, _) => TenantState::Ended,
            (false, DesiredState::Run) => TenantState::Running,
            (false, DesiredState::Pause) => TenantState::Paused,
            (false, DesiredState::Quarantine) => TenantState::Quarantined,
        }
    }

    /// Returns the state of the tenant's workers, without those of other generations.
    fn worker(&self) -> WorkerStatus {
        let state = self.record.worker_state(&self.recipient);
        let worker = self.record.worker();
        WorkerStatus {
            state,
            restarts: worker.restarts,
            process: worker.process.filter(|_| !matches!(state, WorkerState::Ended | WorkerState::Killed)),
            nanoseconds: self.record.worker_time.load(Ordering::Relaxed),
            last_end: worker.last_end.clone(),
            others: Vec::new(),
        }
    }

    /// Returns what tells the state of the tenant's worker while another thread starts it.
    pub(super) fn observer(&self) -> WorkerObserver {
        WorkerObserver { name: self.name.clone(), recipient: self.recipient.clone(), record: self.record.clone() }
    }

    /// Returns the tenant's worker as one of another generation.
    pub(super) fn as_other(&self) -> OtherWorker {
        OtherWorker { generation: self.record.generation, state: self.record.worker_state(&self.recipient) }
    }

    /// Returns the metrics of the tenant, except for those of the audit.
    pub(super) fn metrics(&self) -> TenantMetrics {
        let status = self.status();
        let (resyncs, shown) = self.record.counts();
        let own = format!("{}:", self.name);
        let named = |mut stage: StageStats| {
            stage.plugin = stage.plugin.strip_prefix(&own).map(str::to_string).unwrap_or(stage.plugin);
            stage
        };
        let stages = self.record.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let worker_ends = {
            let worker = self.record.worker();
            let count = |end| worker.ends.get(&end).copied().unwrap_or_default();
            WorkerEnd::ALL.into_iter().map(|end| (end.code(), count(end))).collect()
        };
        TenantMetrics {
            name: status.tenant,
            generation: status.generation,
            state: status.state.name(),
            events: status.events,
            handed: status.handed,
            lost: status.lost,
            gaps: status.gaps,
            resyncs,
            shown,
            waiting: status.waiting,
            output_dropped: status.output_dropped,
            refusals: BTreeMap::new(),
            workers: WorkerState::ALL.map(|state| u64::from(state == status.worker.state)),
            worker_restarts: status.worker.restarts,
            worker_nanoseconds: status.worker.nanoseconds,
            worker_ends,
            plugins: stages.iter().map(|stage| named(stage.lock().clone())).collect(),
        }
    }

    pub(super) fn status(&self) -> TenantStatus {
        let counts = self.recipient.queue.counts();
        let ended = self.record.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stages = self.record.stages.lock().unwrap_or_else(PoisonError::into_inner);
        TenantStatus {
            tenant: self.name.clone(),
            generation: self.record.generation,
            state: self.state(),
            reason: ended,
            events: counts.received,
            handed: counts.handed,
            lost: counts.lost,
            gaps: counts.gaps,
            waiting: counts.waiting as u64,
            output_dropped: self.record.dropped.load(Ordering::Relaxed),
            worker: self.worker(),
            plugins: stages.iter().map(|stage| stage.lock().clone().into()).collect(),
        }
    }
}

/// Tells the state of a tenant's worker that is being started.
pub(super) struct WorkerObserver {
    /// Name of the tenant.
    pub name: String,
    recipient: Arc<Recipient>,
    record: Arc<TenantRecord>,
}

impl WorkerObserver {
    /// Returns the worker.
    pub(super) fn worker(&self) -> OtherWorker {
        OtherWorker { generation: self.record.generation, state: self.record.worker_state(&self.recipient) }
    }
}

/// Returns a full budget of CPU time.
fn budget(tenant: &Tenant) -> Arc<Mutex<TokenBucket>> {
    let time = u64::try_from(tenant.limits.time.as_nanos()).unwrap_or(u64::MAX);
    Arc::new(Mutex::new(TokenBucket::per_second(time)))
}

/// Returns the title of messages about a tenant.
pub(super) fn title(name: &str, generation: u64) -> String {
    format!("tenant {name} (generation {generation})")
}
