//! Keeps a stage's plugin running: discards a failed instance, creates another one after a pause, and quarantines a
//! plugin that fails repeatedly.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::stats::Health;
use flowgate_base::Backoff;
use flowgate_model::OnError;
use flowgate_runtime::{Failure, Instance, PluginError};

/// The policy for failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The handling of the batch.
    pub on_error: OnError,
    /// Number of failures ...
    pub failures: u32,
    /// ... within this time after which the plugin is quarantined.
    pub window: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { on_error: OnError::Stop, failures: 5, window: Duration::from_secs(60) }
    }
}

/// A function that creates a configured instance.
pub type Recipe = Box<dyn FnMut() -> Result<Instance, PluginError>>;

/// The supervisor of one plugin.
pub struct Supervisor {
    instance: Instance,
    recipe: Option<Recipe>,
    policy: Policy,
    failures: VecDeque<Instant>,
    retry: Option<Instant>,
    health: Health,
}

impl Supervisor {
    /// Returns the supervisor of a running instance that cannot be replaced.
    #[must_use]
    pub fn new(instance: Instance) -> Self {
        Supervisor {
            instance,
            recipe: None,
            policy: Policy::default(),
            failures: VecDeque::new(),
            retry: None,
            health: Health::Running,
        }
    }

    /// Replaces failed instances by those that `recipe` creates.
    #[must_use]
    pub fn with(self, recipe: Recipe, policy: Policy) -> Self {
        Supervisor { recipe: Some(recipe), policy, ..self }
    }

    /// Returns the plugin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.instance.name()
    }

    /// Returns the policy for failures.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Returns the health of the plugin.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Returns the instance if it works; after a failure, a new one once its pause is over. The second value is true if
    /// the instance is new.
    ///
    /// # Errors
    /// [`PluginError`] if the new instance did not start, which counts as a failure.
    pub fn instance(&mut self) -> Result<Option<(&mut Instance, bool)>, PluginError> {
        match self.health {
            Health::Running => return Ok(Some((&mut self.instance, false))),
            Health::Quarantined => return Ok(None),
            Health::BackingOff => {}
        }
        if self.retry.is_some_and(|retry| Instant::now() < retry) {
            return Ok(None);
        }
        let Some(recipe) = &mut self.recipe else { return Ok(None) };
        match recipe() {
            Ok(instance) => {
                self.instance = instance;
                self.health = Health::Running;
                Ok(Some((&mut self.instance, true)))
            }
            Err(error) => {
                self.failed();
                Err(error)
            }
        }
    }

    /// Returns the instance, regardless of its health.
    pub fn last(&mut self) -> &mut Instance {
        &mut self.instance
    }

    /// Returns an error with the plugin's name.
    #[must_use]
    pub fn error(&self, failure: Failure) -> PluginError {
        self.instance.error(failure)
    }

    /// Records a failure: the instance is not called again.
    pub fn failed(&mut self) {
        self.failed_at(Instant::now());
    }

    fn failed_at(&mut self, now: Instant) {
        while self.failures.front().is_some_and(|&first| now.saturating_duration_since(first) > self.policy.window) {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        let failures = u32::try_from(self.failures.len()).unwrap_or(u32::MAX);
        if self.recipe.is_none() || failures >= self.policy.failures {
            self.health = Health::Quarantined;
            return;
        }
        self.health = Health::BackingOff;
        // The first restart after a failure is immediate.
        self.retry = Some(now + Backoff::RESTART.pause(failures - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_on_error_has_names() {
        for (name, value) in OnError::NAMES {
            assert_eq!(name.parse(), Ok(value));
            assert_eq!(value.to_string(), name);
        }
        assert_eq!("explode".parse::<OnError>(), Err("`explode` is not one of skip, drop and stop".into()));
    }
}
