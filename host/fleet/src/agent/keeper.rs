//! Keeps what a release says running: one service at a time, started again after a pause when it ends, and on trial at
//! first. Whatever does not pass its trial is replaced by what was there before, also if the agent is killed meanwhile.
//!
//! All of it happens on a thread of its own, which lives as long as the agent: nothing here waits for the bus.

mod work;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc::UnboundedReceiver, watch};

use super::{
    cache::Cache,
    stored::{Stored, StoredError},
};
use crate::{
    release::Release,
    running::{Runner, Running},
};
use work::{Work, fail};

/// What is recorded in the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// The id of the release.
    pub id: String,
    /// What came of it.
    pub text: String,
}

/// What the thread is told.
enum Command {
    /// Run the bundle of a release, which is in the cache.
    Run(Release),
    /// A release cannot begin yet.
    Wait(Release, String),
    /// Go back from a release.
    TakeBack(Release, String),
    /// The server was reached by a request that began then.
    Reached(Instant),
    /// End what runs, and the thread.
    Stop,
}

/// Keeps something running.
#[derive(Clone, Debug)]
pub struct Keeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    commands: Mutex<Sender<Command>>,
    running: watch::Receiver<Running>,
    notes: Mutex<Option<UnboundedReceiver<Note>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    cache: Cache,
    trial: Duration,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Command")
    }
}

impl Keeper {
    /// Starts what was applied when the agent ended. A release whose trial was not over then has failed. `state` is the
    /// directory of the agent, and `trial` how long a trial takes.
    ///
    /// # Errors
    /// [`StoredError`] if what the agent remembers cannot be read or written.
    pub fn start(runner: impl Runner, state: &Path, trial: Duration) -> Result<Self, StoredError> {
        let path = state.join("desired.json");
        let folder = state.join("bundles");
        let failed = |source| StoredError::File { path: flowgate_base::text::path_text(&folder), source };
        let cache = Cache::open(&folder).map_err(failed)?;
        let mut stored = Stored::read(&path)?;
        let (notes, received) = tokio::sync::mpsc::unbounded_channel();
        if let Some(trial) = stored.trial.take() {
            let reason = "the agent ended before the trial was over";
            fail(&mut stored, &trial, reason, &notes);
            stored.write(&path)?;
        }
        let (publish, running) = watch::channel(Running::default());
        let (commands, told) = mpsc::channel();
        let work = Work::new(runner, cache.clone(), (path, stored), trial, (publish, notes));
        // A thread that cannot be started is an error like a file that cannot be written.
        let thread = thread::Builder::new().name("service".into()).spawn(move || work.run(&told)).map_err(failed)?;
        Ok(Keeper(Arc::new(Inner {
            commands: Mutex::new(commands),
            running,
            notes: Mutex::new(Some(received)),
            thread: Mutex::new(Some(thread)),
            cache,
            trial,
        })))
    }

    fn tell(&self, command: Command) {
        // Without the thread, the agent is ending.
        let _ = self.0.commands.lock().unwrap_or_else(PoisonError::into_inner).send(command);
    }

    /// Runs the bundle of a release, which must be in the cache.
    pub(super) fn run(&self, release: Release) {
        self.tell(Command::Run(release));
    }

    /// Reports why a release cannot begin yet.
    pub(super) fn wait(&self, release: Release, reason: String) {
        self.tell(Command::Wait(release, reason));
    }

    /// Goes back from a release, and takes it no more.
    pub(super) fn take_back(&self, release: Release, reason: String) {
        self.tell(Command::TakeBack(release, reason));
    }

    /// The server was reached by a request that began then.
    pub(super) fn reached(&self, began: Instant) {
        self.tell(Command::Reached(began));
    }

    /// Returns what runs, as it changes.
    #[must_use]
    pub fn running(&self) -> watch::Receiver<Running> {
        self.0.running.clone()
    }

    /// Returns what is to be recorded; once.
    pub(super) fn notes(&self) -> Option<UnboundedReceiver<Note>> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// Returns how long a trial takes.
    pub(super) fn trial(&self) -> Duration {
        self.0.trial
    }

    /// Ends what runs, and waits until it has ended.
    pub fn stop(&self) {
        self.tell(Command::Stop);
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic has been printed.
            let _ = thread.join();
        }
    }
}
