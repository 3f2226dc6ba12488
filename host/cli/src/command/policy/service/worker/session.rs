//! The life of one worker process: started, ready, running, ended. This thread answers its questions, performs its
//! actions and writes its output.

use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Job,
    actions::{OnBehalf, Performer},
    feeder::Feeder,
    limits::limits,
    process::{Cause, Meter, WorkerProcess},
    services::Services,
    table::{self, Table},
};
use crate::command::{policy::service::dispatch::DesiredState, report::CommandError};
use flowgate_base::{TokenBucket, clock::thread_time, text::clean};
use flowgate_config::Diagnostic;
use flowgate_pipeline::sink::{Sink, SinkError};
use flowgate_policy::{
    control::{Isolation, WorkerEnd, WorkerState},
    delivery::QueueSource,
};
use flowgate_runtime::deadline::Watch;
use flowgate_worker::{
    Link, LinkError,
    protocol::{Report, kind},
};

/// Interval at which orders and the life of the process are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The interval while a worker has nothing to do.
const IDLE_LOOK: Duration = Duration::from_millis(500);
/// Time that a worker has beyond the limits of its plugins, for its own work.
const GRACE: Duration = Duration::from_secs(2);
/// Time that an answer may wait for a worker that does not receive it.
const ANSWER: Duration = Duration::from_secs(10);
/// Time without CPU time and without progress after which a worker does not answer any more.
const SILENT: Duration = Duration::from_secs(30);
/// Time over which a worker's use of CPU time beyond its share is judged, and the multiple of its share that is too
/// much.
const OVERUSE: (Duration, u32) = (Duration::from_secs(10), 3);
/// Frames in a second that are received from a worker. Each costs about a microsecond: this is 2 % of a processor.
const FRAMES: u64 = 20_000;
/// Barriers in a second. Each passes through the queues of all tenants of the namespace.
const BARRIERS: u64 = 1000;
/// Results of actions in a frame.
const RESULTS: usize = 8192;
/// Problems of a worker's plugins that are passed on, and bytes of their texts.
const PROBLEMS: (usize, usize) = (256, 256 << 10);
/// Bytes of a violation that are recorded.
const EVIDENCE: usize = 64;

/// How a session ended.
pub(super) enum SessionEnd {
    /// All events have been processed, or it was decided that the tenant does not begin.
    Finished,
    /// Somebody has ordered it: the process is killed.
    Ordered(Cause),
    /// Its plugins have not started.
    NotStarted(Vec<Diagnostic>),
    /// The pipeline has ended early, for this reason.
    Failed(String),
    /// The process has ended, or been killed, for this reason.
    Died(Cause),
    /// A sink failed, or this process lacks something.
    Broken(CommandError),
}

/// A worker that runs.
pub(super) struct Session<'a> {
    job: &'a Job,
    process: WorkerProcess,
    meter: Meter,
    /// Frames that may still be received.
    frames: TokenBucket,
    /// Barriers that may still be inserted.
    barriers: TokenBucket,
    performer: Performer,
    table: Table,
    services: &'a mut Services,
    sink: &'a mut dyn Sink,
    /// Frames of events that have been sent, and of those that have been processed.
    sent: Arc<AtomicU64>,
    done: u64,
    /// CPU time that the last report has cost this process.
    spent: Duration,
    /// True once all events have been sent.
    ended: Arc<AtomicBool>,
    /// When orders and the life of the process were looked at last.
    looked: Instant,
    /// Resyncs and shown rows of earlier workers.
    before: (u64, u64),
    /// When there was progress last, and the CPU time that had been used then.
    progress: (Instant, Duration),
    /// True if the worker has been stopped by its owner.
    still: bool,
    /// When overuse was judged last, and the CPU time that had been used then.
    judged: (Instant, Duration),
}

/// What follows from a report.
enum Next {
    /// The worker goes on.
    Continue,
    /// The session ends.
    End(SessionEnd),
}

impl<'a> Session<'a> {
    /// Runs a worker to its end. `ready` is called once its plugins have started; it then waits until it is decided
    /// whether the tenant may begin.
    pub(super) fn run(
        job: &'a Job,
        code: &[File],
        services: &'a mut Services,
        sink: &'a mut dyn Sink,
        ready: &dyn Fn(),
    ) -> SessionEnd {
        let lacking = |error: io::Error| {
            let error = flowgate_base::io_error::error_text(&error);
            SessionEnd::Broken(CommandError::Tenant(format!("its worker cannot be started: {error}")))
        };
        let setup = match services.setup(job, code) {
            Ok(setup) => setup,
            Err(error) => return lacking(error),
        };
        let Some(spawner) = crate::command::compiling::spawner() else {
            return lacking(io::Error::other("there is nothing that starts processes"));
        };
        let length = code.iter().filter_map(|code| code.metadata().ok()).map(|data| data.len()).sum();
        let limits = limits(&job.tenant, length);
        let (process, events) = match WorkerProcess::start(&spawner, limits, job.tenant.limits.time, setup) {
            Ok(started) => started,
            Err(error) => return lacking(error),
        };
        job.record_state(WorkerState::Starting);
        let bounds = &job.tenant.limits;
        let most = usize::try_from(bounds.in_flight).unwrap_or(usize::MAX);
        let unproposed = flowgate_policy::guard::UnproposedActions::default();
        let executor = job.executor(&unproposed);
        let queue = usize::try_from(bounds.queue).unwrap_or(usize::MAX);
        let together = job.listings.clone().map(|listings| (listings, queue));
        let table = Table::new(table::open(job.namespace.as_ref(), &job.stop, &job.tenant.scope, together));
        let meter = Meter::new(process.child.clone(), job.budget.clone(), job.record.clone());
        let now = (Instant::now(), Duration::ZERO);
        let mut session = Session {
            job,
            process,
            meter,
            frames: TokenBucket::per_second(FRAMES),
            barriers: TokenBucket::per_second(BARRIERS),
            performer: Performer::new(executor, most, unproposed),
            table,
            services,
            sink,
            sent: Arc::default(),
            done: 0,
            spent: Duration::ZERO,
            ended: Arc::default(),
            looked: now.0,
            before: job.record.counts(),
            progress: now,
            judged: now,
            still: false,
        };
        if let Some(end) = session.start() {
            return end;
        }
        if !job.record.has_begun() {
            session.meter.waive();
        }
        ready();
        if !job.record.wait_for_decision() {
            return SessionEnd::Finished;
        }
        job.enter(WorkerState::Running);
        session.follow(Link::new(events))
    }

    /// Waits until the plugins have started; returns how the session ended if they have not.
    fn start(&mut self) -> Option<SessionEnd> {
        let tenant = &self.job.tenant;
        let plugins: Duration = tenant.plugins.iter().map(|plugin| plugin.plugin.limits.instance.start_up).sum();
        // CPU time, since a busy machine is not the tenant's fault; and a multiple of it on the clock.
        let allowed = plugins + 2 * GRACE;
        let late = Instant::now() + 4 * allowed;
        // Its CPU time can be read only once its process ID is known. If it has ended already, its channel says so.
        match self.process.child.started(late) {
            Ok(process) => self.job.record.set_process(process),
            Err(error) => return Some(died(WorkerEnd::Unavailable, error.to_string())),
        }
        let (mut problems, mut confined, mut reported) = (Vec::new(), false, 0usize);
        loop {
            let readable = if self.frames.is_empty() {
                // What is not received is not sent: the worker waits, too.
                thread::sleep(LOOK / 10);
                false
            } else {
                match self.process.calls.is_readable(LOOK) {
                    Ok(readable) => readable,
                    Err(error) => return Some(died(WorkerEnd::Unavailable, error.to_string())),
                }
            };
            // A worker that reports without pause is looked at as well.
            if !readable || self.looked.elapsed() >= LOOK {
                self.looked = Instant::now();
                let used = self.process.child.cpu_time().unwrap_or_default();
                if used > allowed || Instant::now() > late {
                    let reason = format!("its plugins did not start within {allowed:?}");
                    return Some(died(WorkerEnd::Deadline, reason));
                }
                if let Some(order) = self.order() {
                    return Some(SessionEnd::Ordered(order));
                }
            }
            if !readable {
                continue;
            }
            self.frames.charge(1);
            let plugins = self.services.count();
            let report = match receive(&mut self.process.calls, plugins) {
                Ok(report) => report,
                Err(error) => return Some(self.ended(&error)),
            };
            let Some(report) = self.services.take(self.job, report) else { continue };
            match report {
                Report::Confined { landlock, no_executable_memory } if !confined => {
                    confined = true;
                    let separation = crate::command::compiling::separation();
                    let isolation = Isolation {
                        uid: separation.users.is_some(),
                        pidns: separation.pid_namespace,
                        cgroup: crate::command::compiling::controllers().filter(|_| self.process.child.has_group()),
                        landlock,
                        no_executable_memory,
                        filter: true,
                        not_dumpable: true,
                    };
                    // The first one tells: all are confined alike.
                    let _ = self.job.isolation.set(isolation);
                }
                Report::Ready if problems.is_empty() => return None,
                // Further ones are left out.
                Report::Problem { .. } if problems.len() >= PROBLEMS.0 || reported >= PROBLEMS.1 => {}
                Report::Problem { part, place, what } => {
                    reported += what.len();
                    problems.push(self.job.problem(part, &place, what));
                }
                Report::Failed(reason) => {
                    if problems.is_empty() {
                        problems.push(self.job.policy.text.diagnostic(tenant.offset, clean(reason)));
                    }
                    return Some(SessionEnd::NotStarted(problems));
                }
                _ => return Some(violated("a report that no worker makes at its start", &[])),
            }
        }
    }

    /// Lets the worker begin, and serves it to its end.
    fn follow(mut self, events: Link) -> SessionEnd {
        match self.services.begin(&mut self.process.calls, Instant::now() + ANSWER) {
            Ok(true) => {}
            Ok(false) => return silent(),
            Err(error) => return self.ended(&error.into()),
        }
        let job = self.job;
        let (queue, outlet) = (&job.recipient.queue, &job.recipient.outlet);
        let meter = self.meter.clone();
        let source = QueueSource::new(queue.clone(), job.budget.clone()).gathering(job.gathering.clone()).charging(
            Box::new(move || {
                meter.charge();
            }),
        );
        let channel = match events.channel().try_clone() {
            Ok(channel) => channel,
            Err(error) => return died(WorkerEnd::Unavailable, error.to_string()),
        };
        let counters = (self.sent.clone(), self.ended.clone());
        outlet.attach(Feeder::new(events, source, job.programs.clone(), counters));
        self.progress = (Instant::now(), Duration::ZERO);
        self.judged = self.progress;
        let end = thread::scope(|scope| {
            let feeding = thread::Builder::new()
                .name(format!("events of {}", job.tenant.name))
                .spawn_scoped(scope, || outlet.serve(queue));
            let end = match feeding {
                Ok(_) => self.serve(),
                Err(error) => died(WorkerEnd::Unavailable, error.to_string()),
            };
            // Whatever the other thread waits for.
            queue.interrupt();
            channel.shut_down();
            end
        });
        outlet.detach();
        end
    }

    /// Serves the worker until the session ends.
    fn serve(&mut self) -> SessionEnd {
        loop {
            if self.frames.is_empty() || self.meter.is_exhausted() {
                if let Some(end) = self.rest() {
                    return end;
                }
                if self.frames.is_empty() {
                    continue;
                }
            }
            let idle = self.sent.load(Ordering::Acquire) <= self.done;
            match self.process.calls.is_readable(if idle && !self.still { IDLE_LOOK } else { LOOK }) {
                Ok(true) => {}
                Ok(false) => {
                    self.services.save();
                    match self.look() {
                        Some(end) => return end,
                        None => continue,
                    }
                }
                Err(error) => return died(WorkerEnd::Unavailable, error.to_string()),
            }
            let before = thread_time();
            self.frames.charge(1);
            let next = self.receive();
            self.spent = thread_time().saturating_sub(before);
            self.meter.add(self.spent);
            if let Next::End(end) = next {
                return end;
            }
            // A worker that reports without pause is looked at as well, and its state is saved.
            if self.looked.elapsed() >= LOOK {
                self.services.save();
                if let Some(end) = self.look() {
                    return end;
                }
            }
        }
    }

    /// Receives nothing for a moment: what is not received is not sent, so the worker waits, too. Its last report is
    /// worth a pause after which this process has spent no more than the tenant's share on it.
    fn rest(&mut self) -> Option<SessionEnd> {
        let share = self.job.tenant.limits.time.as_secs_f64().max(0.001);
        let end = Instant::now() + self.spent.div_f64(share).max(LOOK / 10);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            thread::sleep(left.min(LOOK));
            if let Some(end) = self.look() {
                return Some(end);
            }
        }
    }

    /// Looks at orders, and at the life of the process. Returns how the session ends if it does.
    fn look(&mut self) -> Option<SessionEnd> {
        if let Some(order) = self.order() {
            return Some(SessionEnd::Ordered(order));
        }
        let used = self.meter.charge();
        let now = Instant::now();
        self.looked = now;
        if self.stands_still() {
            // It cannot make any progress.
            (self.progress, self.judged) = ((now, used), (now, used));
            return None;
        }
        let limits = self.job.tenant.plugins.iter().map(|plugin| plugin.plugin.limits.instance);
        let allowed: Duration = limits.map(|limits| limits.call + limits.start_up).sum::<Duration>() + GRACE;
        let (since, before) = self.progress;
        if self.sent.load(Ordering::Acquire) <= self.done {
            self.progress = (now, used);
        } else if used.saturating_sub(before) > allowed {
            let reason = format!("it did not process an event within {allowed:?} of CPU time");
            return Some(died(WorkerEnd::Deadline, reason));
        } else if now.duration_since(since) > SILENT && used.saturating_sub(before) < GRACE / 10 {
            return Some(died(WorkerEnd::NoAnswer, format!("it has not answered for {SILENT:?}")));
        }
        let (since, before) = self.judged;
        let elapsed = now.duration_since(since);
        if elapsed >= OVERUSE.0 {
            self.judged = (now, used);
            let share = self.job.tenant.limits.time.mul_f64(elapsed.as_secs_f64());
            if used.saturating_sub(before) > share * OVERUSE.1 + allowed {
                return Some(died(WorkerEnd::Overuse, "it uses more than three times its CPU time"));
            }
        }
        None
    }

    /// Stops a worker whose tenant is paused, and lets it go on when the tenant is resumed or ends. Returns true if it
    /// stands still.
    fn stands_still(&mut self) -> bool {
        let recipient = &self.job.recipient;
        let ends = recipient.is_superseded() || recipient.queue.is_closed();
        let still = recipient.desired() == DesiredState::Pause && !ends;
        // If that fails, nothing is sent to it, and what it asks for is refused, as long as the tenant is paused.
        if still != self.still && self.process.child.stand_still(still).is_ok() {
            self.still = still;
        }
        self.still
    }

    /// Returns the order by which the worker is to end, whatever it does.
    fn order(&self) -> Option<Cause> {
        if self.job.record.is_killed() {
            return Some(Cause::new(WorkerEnd::Order, "it did not finish within `drain`"));
        }
        let quarantined = self.job.recipient.desired() == DesiredState::Quarantine;
        quarantined.then(|| Cause::new(WorkerEnd::Order, "its tenant is in quarantine"))
    }

    /// Receives a report, and does what it asks for.
    fn receive(&mut self) -> Next {
        let plugins = self.services.count();
        let report = match receive(&mut self.process.calls, plugins) {
            Ok(report) => report,
            Err(error) => return Next::End(self.ended(&error)),
        };
        let Some(report) = self.services.take(self.job, report) else { return Next::Continue };
        match report {
            Report::Output(bytes) => {
                return self.sink.write(bytes).map_or_else(broken, |()| Next::Continue);
            }
            Report::Done { frames: count, resyncs, shown, output } => {
                // A worker reports each number once; otherwise one that processes nothing could claim progress.
                if count <= self.done || count > self.sent.load(Ordering::Acquire) {
                    return Next::End(violated(
                        "a number of frames that it cannot have processed",
                        &count.to_ne_bytes(),
                    ));
                }
                self.done = count;
                self.job.record.count(self.before.0.saturating_add(resyncs), self.before.1.saturating_add(shown));
                self.progress = (Instant::now(), self.meter.charge());
                return match output {
                    [] => Next::Continue,
                    output => self.sink.write(output).map_or_else(broken, |()| Next::Continue),
                };
            }
            Report::Statistics { plugin, stats } => self.services.statistics(plugin, *stats),
            Report::Actions { plugin, actions, more } => {
                let Some(on_behalf) = self.services.plugin(plugin) else { return Next::Continue };
                let behalf =
                    OnBehalf { plugin: &on_behalf.title, grants: &on_behalf.grants, actions: on_behalf.limits.actions };
                if !self.performer.add(&behalf, actions) {
                    return Next::End(violated("more actions than a call may have", &[]));
                }
                if more {
                    return Next::Continue;
                }
                // Whoever revokes the right to act waits for its end.
                let acting = self.job.recipient.act();
                let results = self.performer.perform(&behalf, &mut Watch::begin(on_behalf.limits.call, None));
                drop(acting);
                return self.answer_actions(&results);
            }
            Report::List(number) => {
                if let Err(error) = self.table.list(number) {
                    return self.refuse(error.errno());
                }
                return self.answer_listing(number);
            }
            Report::Next(number) => return self.answer_listing(number),
            Report::LookUp(requests) => {
                let mut parts: Vec<Vec<u8>> = Vec::new();
                let found = self.table.look_up(requests, &mut |part| parts.push(part.to_vec()));
                for part in parts {
                    let frame = self.process.calls.frame(kind::ENTRIES).append(&part);
                    if let Next::End(end) = self.answer(frame) {
                        return Next::End(end);
                    }
                }
                return match found {
                    Ok(()) => self.answer(self.process.calls.frame(kind::END)),
                    Err(error) => self.refuse(error.errno()),
                };
            }
            Report::Barrier => {
                // The worker waits for the answer.
                while self.barriers.take(1) == 0 {
                    thread::sleep(LOOK / 10);
                    if let Some(end) = self.look() {
                        return Next::End(end);
                    }
                }
                return match (self.job.insert_barrier)() {
                    Ok(number) => self.answer(self.process.calls.frame(kind::BARRIER).u32(number)),
                    Err(error) => self.refuse(error.errno()),
                };
            }
            Report::Failed(reason) => return Next::End(SessionEnd::Failed(clean(reason))),
            Report::Finished if self.ended.load(Ordering::Acquire) => return Next::End(SessionEnd::Finished),
            Report::Finished => return Next::End(violated("the end of events that have not ended", &[])),
            // The services have taken the others.
            Report::Confined { .. }
            | Report::Ready
            | Report::Problem { .. }
            | Report::Warning(_)
            | Report::Log { .. }
            | Report::State { .. } => {
                return Next::End(violated("a report of the start while it runs", &[]));
            }
        }
        Next::Continue
    }

    fn answer_listing(&mut self, number: u8) -> Next {
        match self.table.next(number) {
            Ok(Some(entries)) => {
                let frame = self.process.calls.frame(kind::ENTRIES).append(entries);
                self.answer(frame)
            }
            Ok(None) => self.answer(self.process.calls.frame(kind::END)),
            Err(error) => self.refuse(error.errno()),
        }
    }

    fn answer_actions(&mut self, results: &[(u8, u32)]) -> Next {
        for part in results.chunks(RESULTS) {
            let frame = self.process.calls.frame(kind::RESULTS).u16(u16::try_from(part.len()).unwrap_or(u16::MAX));
            let frame = part.iter().fold(frame, |frame, (result, errno)| frame.u8(*result).u32(*errno));
            if let Next::End(end) = self.answer(frame) {
                return Next::End(end);
            }
        }
        Next::Continue
    }

    /// Answers that a question cannot be answered.
    fn refuse(&mut self, errno: i32) -> Next {
        let frame = self.process.calls.frame(kind::FAILED).u32(errno.unsigned_abs());
        self.answer(frame)
    }

    fn answer(&mut self, frame: flowgate_isolation::Record) -> Next {
        match self.process.calls.send_within(frame, Instant::now() + ANSWER) {
            Ok(true) => Next::Continue,
            Ok(false) => Next::End(silent()),
            Err(error) => Next::End(self.ended(&LinkError::from(error))),
        }
    }

    /// Returns how the session ends when nothing can be received any more.
    fn ended(&self, error: &LinkError) -> SessionEnd {
        match error {
            LinkError::Violation(violation) => violated(&violation.to_string(), &[]),
            LinkError::Ended | LinkError::Socket(_) => {
                let (cause, time) = self.process.ended();
                self.meter.charge_up_to(time);
                SessionEnd::Died(cause)
            }
        }
    }
}

/// Receives a report.
fn receive(calls: &mut Link, plugins: u16) -> Result<Report<'_>, LinkError> {
    let frame = calls.receive()?;
    Ok(Report::read(frame, plugins)?)
}

/// Returns the end of a process for this reason.
fn died(end: WorkerEnd, reason: impl Into<String>) -> SessionEnd {
    SessionEnd::Died(Cause::new(end, reason))
}

/// Returns the end by a violation, with the first bytes of the evidence.
fn violated(rule: &str, evidence: &[u8]) -> SessionEnd {
    let digits: String = evidence.iter().take(EVIDENCE).map(|byte| format!("{byte:02x}")).collect();
    let digits = if digits.is_empty() { digits } else { format!(" ({digits})") };
    died(WorkerEnd::Violation, format!("it sent {rule}{digits}"))
}

/// Returns the end of a worker that does not receive what it has asked for.
fn silent() -> SessionEnd {
    died(WorkerEnd::NoAnswer, format!("it has not received an answer for {ANSWER:?}"))
}

fn broken(error: SinkError) -> Next {
    Next::End(SessionEnd::Broken(error.into()))
}
