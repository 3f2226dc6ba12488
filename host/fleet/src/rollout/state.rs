//! The state of a rollout: one value of a bucket, which is replaced only if nobody else has replaced it.

use super::{OnFailure, Phase, Problem, Rollout, RolloutError, VERSION};
use crate::{
    bus::{Bus, BusError},
    collector::Member,
    message::{self, MessageError},
    names::{self, AgentName},
    running::Version,
};

/// The key of the state.
const KEY: &str = "current";
/// How often a change is tried again that somebody else came before.
const ATTEMPTS: usize = 20;

impl Rollout {
    /// Returns the rollout that there is, and its revision; `None` if there has been none.
    ///
    /// # Errors
    /// [`RolloutError`]
    pub async fn load<B: Bus>(bus: &B) -> Result<Option<(Self, u64)>, RolloutError> {
        let Some((value, revision)) = bus.get_revision(names::ROLLOUTS, KEY).await? else { return Ok(None) };
        let rollout: Rollout = message::read(&value, names::largest_value(names::ROLLOUTS))?;
        if rollout.version != VERSION {
            return Err(MessageError::Version(rollout.version).into());
        }
        Ok(Some((rollout, revision)))
    }

    /// Stores it in place of that revision, and returns the new one.
    pub(super) async fn store<B: Bus>(&self, bus: &B, revision: u64) -> Result<u64, BusError> {
        bus.replace(names::ROLLOUTS, KEY, message::write(self), revision).await
    }

    /// Makes it the rollout that there is, unless another one is not over.
    ///
    /// # Errors
    /// [`RolloutError`]
    pub async fn begin<B: Bus>(&self, bus: &B) -> Result<(), RolloutError> {
        let revision = match Self::load(bus).await? {
            Some((other, _)) if !other.phase.is_over() => {
                return Err(RolloutError::Unfinished { id: other.release()?.id, phase: other.phase.word() });
            }
            Some((_, revision)) => revision,
            None => 0,
        };
        match self.store(bus, revision).await {
            Ok(_) => Ok(()),
            Err(BusError::Conflict(_)) => Err(RolloutError::Busy),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes the rollout that there is.
    async fn change<B: Bus>(
        bus: &B,
        mut change: impl FnMut(&mut Self) -> Result<(), RolloutError>,
    ) -> Result<Self, RolloutError> {
        for _ in 0..ATTEMPTS {
            let (mut rollout, revision) = Self::load(bus).await?.ok_or(RolloutError::None)?;
            change(&mut rollout)?;
            match rollout.store(bus, revision).await {
                Ok(_) => return Ok(rollout),
                Err(BusError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RolloutError::Busy)
    }

    /// Has nothing done until it is resumed, or has it go on.
    ///
    /// # Errors
    /// [`RolloutError`]
    pub async fn pause<B: Bus>(bus: &B, paused: bool) -> Result<Self, RolloutError> {
        Self::change(bus, |rollout| {
            if rollout.phase.is_over() {
                return Err(RolloutError::Over(rollout.phase.word()));
            }
            rollout.paused = paused;
            Ok(())
        })
        .await
    }

    /// Takes it back, or halts it, also if it is done.
    ///
    /// # Errors
    /// [`RolloutError`]
    pub async fn abort<B: Bus>(bus: &B, by: &AgentName, on_failure: OnFailure) -> Result<Self, RolloutError> {
        Self::change(bus, |rollout| {
            if matches!(rollout.phase, Phase::Return | Phase::Returning | Phase::Returned) {
                return Err(RolloutError::Over(rollout.phase.word()));
            }
            rollout.paused = false;
            rollout.fail(vec![Problem { agent: by.clone(), reason: "aborted it".into() }], on_failure);
            Ok(())
        })
        .await
    }
}

/// Returns the generation of the next release: higher than what any of these agents has taken, and than the last
/// rollout's.
///
/// # Errors
/// [`RolloutError`]
pub async fn next_generation<B: Bus>(bus: &B, members: &[Member]) -> Result<u64, RolloutError> {
    let last = match Rollout::load(bus).await? {
        Some((rollout, _)) => rollout.release()?.generation,
        None => 0,
    };
    let newest = |member: &Member| {
        let running = member.entry.as_ref()?.running.as_ref()?;
        running.desired.as_ref().map(|Version { generation, .. }| *generation)
    };
    let highest = members.iter().filter_map(newest).fold(last, u64::max);
    Ok(highest.saturating_add(1))
}
