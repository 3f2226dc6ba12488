//! What an agent runs: as it reports it, and the trait by which it is run.

use std::path::PathBuf;

use flowgate_base::text::clean;
use serde::{Deserialize, Serialize};

use crate::{bundle::Kind, names::Digest};

/// The most names of plugins in a report.
const MAX_PLUGINS: usize = 16;
/// The most characters of a text in a report.
const MAX_TEXT: usize = 512;

/// A release, in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its generation.
    pub generation: u64,
    /// The digest of its bundle; `None` if nothing is run.
    pub digest: Option<Digest>,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

/// A release that did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its generation.
    pub generation: u64,
    /// The digest of its bundle; `None` if nothing was to be run.
    pub digest: Option<Digest>,
    /// Why.
    pub reason: String,
    /// When, in seconds since 1970.
    pub time: u64,
}

/// The state of what is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Nothing is run.
    #[default]
    Nothing,
    /// It is not ready yet.
    Starting,
    /// It works.
    Running,
    /// It has come to its end, which is none of its mistakes: the pipeline of a dump.
    Finished,
    /// It has ended, and is started again after a pause.
    Ended,
}

impl ServiceState {
    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ServiceState::Nothing => "nothing",
            ServiceState::Starting => "starting",
            ServiceState::Running => "running",
            ServiceState::Finished => "finished",
            ServiceState::Ended => "ended",
        }
    }
}

/// The health of what is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Its state.
    pub state: ServiceState,
    /// Why, if it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Plugins in quarantine, with their tenants.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<String>,
    /// How often it was started again, or a worker of it was.
    pub restarts: u64,
    /// Failures of plugins.
    pub failures: u64,
    /// Events that were lost.
    pub lost: u64,
    /// Gaps that these are in.
    pub gaps: u64,
    /// Actions that were refused.
    pub refused: u64,
    /// CPU time of its plugins, in milliseconds.
    pub cpu: u64,
}

impl Health {
    /// Returns the health of something in a state.
    #[must_use]
    pub fn of(state: ServiceState) -> Self {
        Health { state, ..Health::default() }
    }

    /// Returns the health of something that has ended.
    #[must_use]
    pub fn ended(reason: impl Into<String>) -> Self {
        Health { state: ServiceState::Ended, reason: Some(reason.into()), ..Health::default() }
    }

    /// Returns it with texts that are not longer than they may be.
    #[must_use]
    pub(crate) fn bounded(mut self) -> Self {
        self.quarantined.truncate(MAX_PLUGINS);
        self.quarantined.iter_mut().for_each(|name| *name = bounded(name));
        self.reason = self.reason.as_deref().map(bounded);
        self
    }
}

/// Returns a text that is not longer than one in a report may be, and fit for a terminal.
pub(crate) fn bounded(text: &str) -> String {
    clean(&text.chars().take(MAX_TEXT).collect::<String>())
}

/// What an agent reports about what it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Running {
    /// The newest release that it has taken.
    pub desired: Option<Version>,
    /// Why it has not begun with a release yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// The release on trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Version>,
    /// The release that it runs, or goes back to.
    pub applied: Option<Version>,
    /// The last release that did not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
    /// The health of what it runs.
    pub health: Health,
}

impl Running {
    /// Returns it without what changes all the time.
    #[must_use]
    pub fn without_counters(&self) -> Self {
        let Health { state, reason, quarantined, .. } = &self.health;
        let health =
            Health { state: *state, reason: reason.clone(), quarantined: quarantined.clone(), ..Health::default() };
        Running { health, ..self.clone() }
    }
}

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The generation of its release.
    pub generation: u64,
    /// What the file is.
    pub kind: Kind,
    /// The file.
    pub entry: PathBuf,
}

/// Runs bundles: the program by child processes, tests by something made up. It is used by one thread, which lives as
/// long as what it has started.
pub trait Runner: Send + 'static {
    /// What has been started.
    type Service: Service;

    /// Starts something.
    ///
    /// # Errors
    /// Why it cannot be started.
    fn start(&mut self, job: &Job) -> Result<Self::Service, String>;
}

/// Something that runs.
pub trait Service: Send {
    /// Returns its health. Takes no longer than a few seconds.
    fn health(&mut self) -> Health;

    /// Ends it, and waits until it has ended.
    fn stop(self);
}
