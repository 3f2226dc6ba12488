//! Keeps a stage's plugin running: throws a failed instance away, makes another after a while, and gives up on one that fails
//! again and again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::stats::Health;
use flowgate_base::Backoff;
use flowgate_model::OnError;
use flowgate_runtime::{Failure, Instance, PluginError};

/// How failures are dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What becomes of the batch.
    pub on_error: OnError,
    /// With so many failures ...
    pub failures: u32,
    /// ... in this time, the plugin is quarantined.
    pub window: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { on_error: OnError::Stop, failures: 5, window: Duration::from_secs(60) }
    }
}

/// Makes a configured instance.
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
    /// Of a running instance that cannot be replaced.
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

    /// Failed instances are replaced by what `recipe` makes.
    #[must_use]
    pub fn with(self, recipe: Recipe, policy: Policy) -> Self {
        Supervisor { recipe: Some(recipe), policy, ..self }
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.instance.name()
    }

    /// How failures are dealt with.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Whether the plugin works.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// The instance, if there is one that works; after a failure another one, when its time has come. Second: whether it is a
    /// new one.
    ///
    /// # Errors
    /// The new instance did not start, which is one more failure.
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

    /// The instance, whatever its state.
    pub fn last(&mut self) -> &mut Instance {
        &mut self.instance
    }

    /// An error in the plugin's name.
    #[must_use]
    pub fn error(&self, failure: Failure) -> PluginError {
        self.instance.error(failure)
    }

    /// The plugin failed: its instance is not called again.
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
        // The first start after a failure is at once.
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
