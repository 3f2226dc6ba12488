//! The thread that starts, watches and ends what a release says, and judges trials.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use flowgate_base::{Backoff, units::show_time};
use tokio::sync::{mpsc::UnboundedSender, watch};

use super::{
    super::{
        cache::Cache,
        stored::{Stored, Taken},
    },
    Command, Note,
};
use crate::{
    plan::now,
    release::Release,
    running::{Failed, Health, Job, Runner, Running, Service, ServiceState, bounded},
};

/// Pauses before something that has ended is started again.
const RESTART: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// Whatever has run for so long is started again without a long pause.
const STEADY: Duration = Duration::from_secs(120);
/// The longest time between two looks at the health.
const LOOK: Duration = Duration::from_secs(5);

/// Records that a release has failed.
pub(super) fn fail(stored: &mut Stored, release: &Taken, reason: &str, notes: &UnboundedSender<Note>) {
    let reason = bounded(reason);
    let back = match &stored.applied {
        Some(applied) => format!("back to generation {}", applied.generation),
        None => "back to nothing".to_owned(),
    };
    let text = format!("generation {} failed, {back}: {reason}", release.generation);
    let _ = notes.send(Note { id: release.id.clone(), text });
    let digest = release.version().digest;
    stored.failed = Some(Failed { generation: release.generation, digest, reason, time: now() });
}

/// A trial.
struct Trial {
    began: Instant,
    /// When the last request to the server began that was answered.
    reached: Option<Instant>,
}

/// The state of the thread.
pub(super) struct Work<R: Runner> {
    runner: R,
    cache: Cache,
    path: PathBuf,
    stored: Stored,
    /// How long a trial takes.
    length: Duration,
    trial: Option<Trial>,
    service: Option<(R::Service, Instant)>,
    /// When what has ended is started again.
    restart: Option<Instant>,
    /// How often it has ended in a row.
    failures: u32,
    restarts: u64,
    waiting: Option<(u64, String)>,
    health: Health,
    publish: watch::Sender<Running>,
    notes: UnboundedSender<Note>,
}

impl<R: Runner> Work<R> {
    /// Returns the state of a thread that has not begun.
    pub(super) fn new(
        runner: R,
        cache: Cache,
        (path, stored): (PathBuf, Stored),
        length: Duration,
        (publish, notes): (watch::Sender<Running>, UnboundedSender<Note>),
    ) -> Self {
        Work {
            runner,
            cache,
            path,
            stored,
            length,
            trial: None,
            service: None,
            restart: None,
            failures: 0,
            restarts: 0,
            waiting: None,
            health: Health::default(),
            publish,
            notes,
        }
    }

    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        // Which generation was the highest is known before anything is judged by it.
        self.report();
        self.start_applied();
        self.report();
        let pause = (self.length / 20).clamp(Duration::from_millis(5), LOOK);
        let mut next = Instant::now();
        loop {
            match commands.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.stop_service();
                    return;
                }
                Ok(Command::Run(release)) => self.begin(&release),
                Ok(Command::Wait(release, reason)) => self.waiting = Some((release.generation, bounded(&reason))),
                Ok(Command::TakeBack(release, reason)) => self.take_back(&release, &reason),
                Ok(Command::Reached(began)) => {
                    if let Some(trial) = self.trial.as_mut().filter(|trial| began >= trial.began) {
                        trial.reached = Some(began);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next {
                self.look();
                next = Instant::now() + if self.trial.is_some() { pause.min(Duration::from_secs(1)) } else { pause };
            }
            self.report();
        }
    }

    /// Publishes what runs, if that is something else than before.
    fn report(&self) {
        let version = |taken: &Option<Taken>| taken.as_ref().map(Taken::version);
        let waiting = self.waiting.as_ref().map(|(_, reason)| reason.clone());
        let running = Running {
            desired: version(&self.stored.newest),
            waiting,
            trial: version(&self.stored.trial),
            applied: version(&self.stored.applied),
            failed: self.stored.failed.clone(),
            health: self.health.clone(),
        };
        self.publish.send_if_modified(|known| {
            let changed = *known != running;
            if changed {
                *known = running;
            }
            changed
        });
    }

    fn stop_service(&mut self) {
        self.restart = None;
        self.health = Health::default();
        if let Some((service, _)) = self.service.take() {
            service.stop();
        }
    }

    /// Starts the bundle of a release, in place of nothing.
    fn start(&mut self, release: &Taken) -> Result<(), String> {
        let Some(bundle) = &release.bundle else { return Ok(()) };
        let entry = self.cache.entry(&bundle.digest).map_err(|error| error.to_string())?;
        let job = Job { generation: release.generation, kind: bundle.kind, entry };
        let service = self.runner.start(&job)?;
        self.service = Some((service, Instant::now()));
        self.health = Health { restarts: self.restarts, ..Health::of(ServiceState::Starting) };
        Ok(())
    }

    /// Starts what is applied; what does not start is tried again.
    fn start_applied(&mut self) {
        let Some(applied) = self.stored.applied.clone() else { return };
        if let Err(reason) = self.start(&applied) {
            self.ended(&reason);
        }
    }

    /// Plans another start of what is applied.
    fn ended(&mut self, reason: &str) {
        self.failures = self.failures.saturating_add(1);
        self.restart = Some(Instant::now() + RESTART.pause(self.failures));
        self.health = Health { restarts: self.restarts, ..Health::ended(bounded(reason)) };
    }

    /// Begins with a release, on trial.
    fn begin(&mut self, release: &Release) {
        if self.stored.newest.as_ref().is_some_and(|newest| newest.generation >= release.generation) {
            return;
        }
        self.waiting = None;
        let taken = Taken::of(release);
        if let Some(trial) = self.stored.trial.take() {
            fail(&mut self.stored, &trial, "another release came before its trial was over", &self.notes);
        }
        let before = self.stored.clone();
        self.stored.newest = Some(taken.clone());
        self.stored.trial = Some(taken.clone());
        if let Err(error) = self.stored.write(&self.path) {
            self.stored = before;
            self.waiting = Some((release.generation, bounded(&error.to_string())));
            return;
        }
        self.stop_service();
        (self.failures, self.restarts) = (0, 0);
        self.trial = Some(Trial { began: Instant::now(), reached: None });
        if let Err(reason) = self.start(&taken) {
            self.go_back(&reason);
        }
    }

    /// Ends the trial, and goes back to what was applied before.
    fn go_back(&mut self, reason: &str) {
        let Some(trial) = self.stored.trial.take() else { return };
        fail(&mut self.stored, &trial, reason, &self.notes);
        self.write();
        self.trial = None;
        self.stop_service();
        (self.failures, self.restarts) = (0, 0);
        self.start_applied();
    }

    /// Writes what is remembered. What cannot be written is still so: the file says that a trial is not over, and after
    /// a restart the agent goes back.
    fn write(&mut self) {
        if let Err(error) = self.stored.write(&self.path) {
            self.waiting = Some((0, bounded(&error.to_string())));
        }
    }

    /// The trial is over, and all was well.
    fn confirm(&mut self) {
        let Some(trial) = self.stored.trial.take() else { return };
        let before = self.stored.clone();
        self.stored.before = self.stored.applied.take();
        self.stored.applied = Some(Taken { since: now(), ..trial.clone() });
        if let Err(error) = self.stored.write(&self.path) {
            self.stored = before;
            self.stored.trial = Some(trial);
            self.go_back(&error.to_string());
            return;
        }
        self.trial = None;
        let text = format!("generation {} is applied", trial.generation);
        let _ = self.notes.send(Note { id: trial.id, text });
        let wanted = [&self.stored.applied, &self.stored.before];
        let wanted = wanted.into_iter().flatten().filter_map(|taken| taken.bundle.as_ref());
        self.cache.keep(&wanted.map(|bundle| bundle.digest.clone()).collect::<BTreeSet<_>>());
    }

    /// Goes back from a release, whether it has begun or not.
    fn take_back(&mut self, release: &Release, reason: &str) {
        let reason = format!("taken back: {reason}");
        let generation = release.generation;
        if self.waiting.as_ref().is_some_and(|(waiting, _)| *waiting == generation) {
            self.waiting = None;
        }
        if self.stored.newest.as_ref().is_none_or(|newest| newest.generation < generation) {
            self.stored.newest = Some(Taken::of(release));
            self.write();
            return;
        }
        let is = |taken: &Option<Taken>| taken.as_ref().is_some_and(|taken| taken.id == release.id);
        if is(&self.stored.trial) {
            self.go_back(&reason);
        } else if is(&self.stored.applied) {
            let Some(applied) = self.stored.applied.take() else { return };
            self.stored.applied = self.stored.before.take();
            fail(&mut self.stored, &applied, &reason, &self.notes);
            self.write();
            self.stop_service();
            (self.failures, self.restarts) = (0, 0);
            self.start_applied();
        }
    }

    /// Looks at what runs.
    fn look(&mut self) {
        if let Some((service, started)) = &mut self.service {
            let mut health = service.health().bounded();
            health.restarts = health.restarts.saturating_add(self.restarts);
            let steady = started.elapsed() > STEADY;
            self.health = health;
            if steady {
                self.failures = 0;
            }
        }
        let ended = self.service.is_some() && self.health.state == ServiceState::Ended;
        if self.trial.is_some() {
            self.judge(ended);
        } else if ended {
            let reason = self.health.reason.clone().unwrap_or_else(|| "it has ended".into());
            self.stop_service();
            self.ended(&reason);
        }
        if self.restart.is_some_and(|at| Instant::now() >= at) {
            self.restart = None;
            self.restarts += 1;
            self.start_applied();
        }
    }

    /// Judges a trial: what fails at once, and at its end what has not become well.
    fn judge(&mut self, ended: bool) {
        let Some(trial) = &self.trial else { return };
        let reason = || self.health.reason.clone().unwrap_or_else(|| "it has ended".into());
        let over = trial.began.elapsed() >= self.length;
        let length = show_time(self.length);
        // A connection that is lost shows at the latest after half a trial.
        let reached = trial.reached.is_some_and(|at| at.elapsed() <= self.length / 2);
        let verdict = if ended {
            Some(reason())
        } else if !self.health.quarantined.is_empty() {
            Some(format!("in quarantine: {}", self.health.quarantined.join(", ")))
        } else if !over {
            return;
        } else if self.health.state == ServiceState::Starting {
            Some(format!("it was not ready within {length}"))
        } else if !reached {
            Some(format!("the server could not be reached within {length} of its start"))
        } else {
            None
        };
        match verdict {
            Some(reason) => self.go_back(&reason),
            None => self.confirm(),
        }
    }
}
