//! Calls of a stage without live rows: ticks, look-backs and the end of the stream.

use std::time::{Duration, Instant};

use super::{Stage, check};
use crate::{entries::Entries, executor::Executor, outcome::StageOutcome};
use flowgate_base::clock::now;
use flowgate_runtime::{Failure, Instance, PluginError, deadline::Watch};

/// The shortest interval between ticks.
const SHORTEST: Duration = Duration::from_millis(100);

/// The schedule of ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    every: Duration,
    next: Instant,
}

impl Rhythm {
    pub(super) fn of(milliseconds: u32) -> Self {
        let every = Duration::from_millis(milliseconds.into()).max(SHORTEST);
        Rhythm { every, next: Instant::now() + every }
    }

    /// Returns the time until the next tick.
    pub(super) fn rest(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Returns true if a tick is due. The next one is then a whole interval away, so that ticks do not pile up.
    fn due(&mut self) -> bool {
        let due = self.rest().is_zero();
        if due {
            self.next = Instant::now() + self.every;
        }
        due
    }
}

/// The reason for which the table is offered, as in `flow-look-back.begin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The stream begins.
    Start = 1,
    /// Events were lost.
    Gap = 2,
    /// The instance is new.
    Restart = 3,
}

impl Stage {
    /// Reports the end of the stream to the plugin.
    ///
    /// # Errors
    /// As [`Stage::batch`].
    pub fn finish<T: Entries>(&mut self, executor: &mut Executor<T>) -> Result<(), PluginError> {
        self.late(executor, T::finish)
    }

    /// Calls the plugin's tick function if a tick is due.
    ///
    /// # Errors
    /// As [`Stage::batch`].
    pub fn tick<T: Entries>(&mut self, executor: &mut Executor<T>) -> Result<(), PluginError> {
        if !self.rhythm.as_mut().is_some_and(Rhythm::due) {
            return Ok(());
        }
        self.stats.lock().ticks += 1;
        self.late(executor, |instance| T::tick(instance, now()))
    }

    /// Returns the reason for which the table must be offered to the plugin; `None` if it must not.
    #[must_use]
    pub fn wants_look_back(&self, reason: Option<Reason>) -> Option<Reason> {
        if !self.looks_back { None } else { reason.or(self.fresh.then_some(Reason::Restart)) }
    }

    /// Begins a look-back: the table follows.
    ///
    /// # Errors
    /// As [`Stage::batch`].
    pub fn begin_look_back<T: Entries>(
        &mut self,
        reason: Reason,
        executor: &mut Executor<T>,
    ) -> Result<(), PluginError> {
        self.fresh = false;
        self.late(executor, |instance| T::begin_look_back(instance, reason as u8).map(|()| StageOutcome::default()))
    }

    /// Passes a part of the table to the plugin.
    ///
    /// # Errors
    /// As [`Stage::batch`].
    pub fn look_back<T: Entries>(&mut self, entries: &mut T, executor: &mut Executor<T>) -> Result<(), PluginError> {
        self.charged(|stage| {
            let (reads, mut hidden) = (stage.reads, std::mem::take(&mut stage.hidden));
            let outcome = stage.call(|instance| entries.look_back(instance, reads, &mut hidden));
            stage.hidden = hidden;
            stage.only_actions(outcome, entries, executor)
        })
    }

    /// Ends a look-back: the whole table has been passed.
    ///
    /// # Errors
    /// As [`Stage::batch`].
    pub fn end_look_back<T: Entries>(&mut self, executor: &mut Executor<T>) -> Result<(), PluginError> {
        self.late(executor, T::end_look_back)
    }

    /// Makes a call without a batch.
    fn late<T: Entries>(
        &mut self,
        executor: &mut Executor<T>,
        call: impl FnOnce(&mut Instance) -> Result<StageOutcome<T>, PluginError>,
    ) -> Result<(), PluginError> {
        self.charged(|stage| {
            let outcome = stage.call(call);
            stage.only_actions(outcome, &T::default(), executor)
        })
    }

    /// Performs the actions of an outcome that contains nothing else.
    fn only_actions<T: Entries>(
        &mut self,
        outcome: Result<Option<(StageOutcome<T>, Watch)>, PluginError>,
        batch: &T,
        executor: &mut Executor<T>,
    ) -> Result<(), PluginError> {
        let done = outcome.and_then(|outcome| {
            let Some((outcome, mut watch)) = outcome else { return Ok(()) };
            check::late(&outcome).map_err(|reason| self.supervisor.error(Failure::BadValue(reason)))?;
            let checked = self.checked(outcome, batch, executor.fixed(), &mut watch)?;
            self.act(batch, &checked.requests, executor, &mut watch).map(drop)
        });
        match done {
            Ok(()) => Ok(()),
            Err(error) => self.failed(&error, executor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_do_not_pile_up() {
        let mut rhythm = Rhythm::of(1);
        assert_eq!(rhythm.every, SHORTEST);
        assert!(!rhythm.due());
        rhythm.next = Instant::now() - Duration::from_secs(5);
        assert!(rhythm.due() && !rhythm.due());
    }
}
