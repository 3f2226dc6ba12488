//! The controller: goes from stage to stage, and back.
//!
//! Each step reads the state, does something that does no harm if it is done again, and replaces the state. Whatever
//! happens in between, the next controller does the step once more.

use std::{collections::BTreeMap, time::Duration};

use futures_util::stream::{StreamExt as _, TryStreamExt as _};

use super::{MAX_PROBLEMS, Phase, Problem, Rollout, RolloutError, Target, now};
use crate::{
    bus::{Bus, BusError},
    collector::{self, Member, Taken},
    message::{self, Answer, Ask},
    names::{self, AgentName},
    release::Desired,
    roll_call::{Fate, RollCall},
    running::{Running, Version, bounded},
};

/// Values that are put at a time.
const AT_A_TIME: usize = 64;

/// How fast a controller goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The pause between two looks at the agents.
    pub look: Duration,
    /// How long agents have to answer.
    pub answer: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { look: Duration::from_secs(2), answer: Duration::from_secs(10) }
    }
}

/// What a controller tells of its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another phase began.
    Entered(Box<Rollout>),
    /// An agent has not begun, or not gone back, and why.
    Pending(Vec<Problem>),
    /// The rollout is paused.
    Paused,
}

/// How an agent does with the release.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// It runs it, and passes the gate.
    Good,
    /// It has not begun yet, or its trial is not over.
    Pending(String),
    /// It is not there.
    Absent(String),
    /// It did not take it well.
    Bad(String),
}

/// Has the rollout go on until it is over.
///
/// # Errors
/// [`RolloutError`]; another controller can go on from there.
pub async fn drive<B: Bus>(bus: &B, pace: Pace, mut tell: impl FnMut(Progress)) -> Result<Rollout, RolloutError> {
    let mut told: Option<(Phase, usize)> = None;
    let mut said: Option<Progress> = None;
    loop {
        let (mut rollout, revision) = Rollout::load(bus).await?.ok_or(RolloutError::None)?;
        if told != Some((rollout.phase, rollout.stage)) {
            told = Some((rollout.phase, rollout.stage));
            tell(Progress::Entered(Box::new(rollout.clone())));
        }
        if rollout.phase.is_over() {
            return Ok(rollout);
        }
        let mut once = |progress: Progress| {
            if said.as_ref() != Some(&progress) {
                tell(progress.clone());
                said = Some(progress);
            }
        };
        if rollout.paused {
            once(Progress::Paused);
            tokio::time::sleep(pace.look).await;
            continue;
        }
        let before = rollout.clone();
        let pending = step(bus, &mut rollout, pace).await?;
        if !pending.is_empty() {
            once(Progress::Pending(pending));
        }
        if rollout == before {
            tokio::time::sleep(pace.look).await;
            continue;
        }
        match rollout.store(bus, revision).await {
            // Somebody else has changed it: what they have made of it is what goes on.
            Ok(_) | Err(BusError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes one step, and returns who is not ready.
async fn step<B: Bus>(bus: &B, rollout: &mut Rollout, pace: Pace) -> Result<Vec<Problem>, RolloutError> {
    match rollout.phase {
        Phase::Push => {
            put(bus, rollout, rollout.in_stage(), None).await?;
            let members = members(rollout.in_stage());
            let roll = collector::ask(bus, &members, Ask::Look, pace.answer, |_, _| Taken::Used).await?;
            // Those that are not there, or could not look, look later.
            let refused = roll.agents().iter().filter_map(|called| match &called.fate {
                Fate::Refused(reason) => Some(problem(&called.name, &format!("refused: {reason}"))),
                _ => None,
            });
            let refused: Vec<Problem> = refused.collect();
            match refused.is_empty() {
                true => rollout.enter(Phase::Wait),
                false => rollout.fail(refused, rollout.terms.on_failure),
            }
            Ok(Vec::new())
        }
        Phase::Wait | Phase::Bake => watch(bus, rollout, pace).await,
        Phase::Return => {
            let reasons: Vec<String> = rollout
                .problems
                .iter()
                .take(3)
                .map(|problem| format!("{}: {}", problem.agent, problem.reason))
                .collect();
            put(bus, rollout, rollout.told(), Some(bounded(&reasons.join("; ")))).await?;
            let members = members(rollout.told());
            collector::ask(bus, &members, Ask::Look, pace.answer, |_, _| Taken::Used).await?;
            rollout.enter(Phase::Returning);
            Ok(Vec::new())
        }
        Phase::Returning => {
            let late = since(rollout) >= rollout.terms.within;
            let pending = not_returned(bus, rollout, pace).await?;
            if pending.is_empty() || late {
                rollout.missing = pending.iter().take(MAX_PROBLEMS).cloned().collect();
                rollout.enter(Phase::Returned);
            }
            Ok(pending)
        }
        Phase::Done | Phase::Returned | Phase::Halted => Ok(Vec::new()),
    }
}

/// Watches the agents that have the release, while they begin and afterwards.
async fn watch<B: Bus>(bus: &B, rollout: &mut Rollout, pace: Pace) -> Result<Vec<Problem>, RolloutError> {
    let standings = standings(bus, rollout, pace).await?;
    let of = |pick: &dyn Fn(&Standing) -> Option<String>| {
        let picked = standings.iter().filter_map(|(name, standing)| Some(problem(name, &pick(standing)?)));
        picked.collect::<Vec<Problem>>()
    };
    let bad = of(&|standing| match standing {
        Standing::Bad(reason) => Some(reason.clone()),
        _ => None,
    });
    if !bad.is_empty() {
        rollout.fail(bad, rollout.terms.on_failure);
        return Ok(Vec::new());
    }
    let absent = of(&|standing| match standing {
        Standing::Absent(reason) => Some(reason.clone()),
        _ => None,
    });
    let pending = of(&|standing| match standing {
        Standing::Pending(reason) => Some(reason.clone()),
        _ => None,
    });
    let may_miss = absent.len() <= rollout.terms.allow_missing;
    let all = || [pending.as_slice(), absent.as_slice()].concat();
    let remembered = || absent.iter().take(MAX_PROBLEMS).cloned().collect::<Vec<_>>();
    match rollout.phase {
        Phase::Wait if pending.is_empty() && may_miss => {
            rollout.missing = remembered();
            rollout.enter(Phase::Bake);
        }
        Phase::Wait if since(rollout) >= rollout.terms.within => {
            rollout.fail(all(), rollout.terms.on_failure);
        }
        Phase::Bake if since(rollout) >= rollout.terms.bake => match pending.is_empty() && may_miss {
            true if rollout.end_of(rollout.stage) >= rollout.agents.len() => {
                rollout.missing = remembered();
                rollout.enter(Phase::Done);
            }
            true => {
                rollout.missing = remembered();
                rollout.stage += 1;
                rollout.enter(Phase::Push);
            }
            false => rollout.fail(all(), rollout.terms.on_failure),
        },
        _ => {}
    }
    Ok(all())
}

fn since(rollout: &Rollout) -> u64 {
    now().saturating_sub(rollout.since)
}

fn problem(name: &AgentName, reason: &str) -> Problem {
    Problem { agent: name.clone(), reason: bounded(reason) }
}

fn members(targets: &[Target]) -> Vec<Member> {
    let member = |target: &Target| Member { id: target.id.clone(), name: target.name.clone(), entry: None };
    targets.iter().map(member).collect()
}

/// Puts what agents are to run into the bucket, each at its own key.
async fn put<B: Bus>(
    bus: &B,
    rollout: &Rollout,
    targets: &[Target],
    taken_back: Option<String>,
) -> Result<(), RolloutError> {
    let value = &message::write(&Desired { signed: rollout.signed.clone(), taken_back });
    let keys: Vec<String> = targets.iter().map(|target| target.id.to_string()).collect();
    let put =
        futures_util::stream::iter(keys).map(|key| async move { bus.put(names::DESIRED, &key, value.clone()).await });
    Ok(put.buffer_unordered(AT_A_TIME).try_collect::<()>().await?)
}

/// Asks agents what they run.
async fn asked<B: Bus>(
    bus: &B,
    targets: &[Target],
    pace: Pace,
) -> Result<(RollCall, BTreeMap<usize, Running>), BusError> {
    let members = members(targets);
    let mut found = BTreeMap::new();
    let take = |index: usize, answer: &Answer| {
        let running = answer.head.entry.as_ref().and_then(|entry| entry.running.clone());
        found.insert(index, running.unwrap_or_default());
        Taken::Used
    };
    let roll = collector::ask(bus, &members, Ask::Status, pace.answer, take).await?;
    Ok((roll, found))
}

/// Returns how each agent that was told does with the release.
async fn standings<B: Bus>(bus: &B, rollout: &Rollout, pace: Pace) -> Result<Vec<(AgentName, Standing)>, RolloutError> {
    let generation = rollout.release()?.generation;
    let targets = rollout.told();
    let (roll, found) = asked(bus, targets, pace).await?;
    let fates: BTreeMap<_, _> = roll.agents().iter().map(|called| (called.id.as_str(), &called.fate)).collect();
    let standing = |(index, target): (usize, &Target)| {
        let fate = fates.get(target.id.as_str());
        let standing = match (fate, found.get(&index)) {
            (Some(Fate::Answered), Some(running)) => judge(rollout, generation, running),
            (Some(fate), _) => Standing::Absent(format!("{}: {}", fate.word(), fate.reason().unwrap_or_default())),
            (None, _) => Standing::Absent("it is not in the roll call".into()),
        };
        (target.name.clone(), standing)
    };
    Ok(targets.iter().enumerate().map(standing).collect())
}

/// How an agent does with the release, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// The agent.
    pub agent: AgentName,
    /// The number of its stage, from 0.
    pub stage: usize,
    /// `good`, `pending`, `absent`, `bad`, or `later`.
    pub state: &'static str,
    /// Why, unless it is good or comes later.
    pub reason: Option<String>,
}

/// Returns how each agent does with the release of a rollout.
///
/// # Errors
/// [`RolloutError`]
pub async fn review<B: Bus>(bus: &B, rollout: &Rollout, pace: Pace) -> Result<Vec<Review>, RolloutError> {
    let standings = standings(bus, rollout, pace).await?;
    let mut reviews = Vec::with_capacity(rollout.agents.len());
    for (index, target) in rollout.agents.iter().enumerate() {
        let stage = (0..rollout.terms.stages.len()).find(|&stage| index < rollout.end_of(stage)).unwrap_or_default();
        let (state, reason) = match standings.get(index).map(|(_, standing)| standing.clone()) {
            None => ("later", None),
            Some(Standing::Good) => ("good", None),
            Some(Standing::Pending(reason)) => ("pending", Some(reason)),
            Some(Standing::Absent(reason)) => ("absent", Some(reason)),
            Some(Standing::Bad(reason)) => ("bad", Some(reason)),
        };
        reviews.push(Review { agent: target.name.clone(), stage, state, reason });
    }
    Ok(reviews)
}

/// Judges what an agent reports.
fn judge(rollout: &Rollout, generation: u64, running: &Running) -> Standing {
    let is = |version: &Option<Version>| version.as_ref().map(|version| version.generation);
    if let Some(failed) = running.failed.as_ref().filter(|failed| failed.generation == generation) {
        return Standing::Bad(failed.reason.clone());
    }
    if is(&running.desired).is_some_and(|desired| desired > generation) {
        return Standing::Bad("it has taken a newer release, which is not of this rollout".into());
    }
    let on_trial = is(&running.trial) == Some(generation);
    if !on_trial && is(&running.applied) != Some(generation) {
        let waiting = running.waiting.clone().unwrap_or_else(|| "it has not begun".into());
        return Standing::Pending(waiting);
    }
    match rollout.terms.gate.judge(&running.health) {
        Some(reason) => Standing::Bad(reason),
        None if on_trial => Standing::Pending("its trial is not over".into()),
        None => match running.health.state {
            crate::running::ServiceState::Ended => {
                Standing::Bad(running.health.reason.clone().unwrap_or_else(|| "it has ended".into()))
            }
            crate::running::ServiceState::Starting => {
                Standing::Pending(running.health.reason.clone().unwrap_or_else(|| "it is not ready".into()))
            }
            _ => Standing::Good,
        },
    }
}

/// Returns the agents that still run the release, or of which that is not known.
async fn not_returned<B: Bus>(bus: &B, rollout: &Rollout, pace: Pace) -> Result<Vec<Problem>, RolloutError> {
    let generation = rollout.release()?.generation;
    let targets = rollout.told();
    let (roll, found) = asked(bus, targets, pace).await?;
    let fates: BTreeMap<_, _> = roll.agents().iter().map(|called| (called.id.as_str(), &called.fate)).collect();
    let pending = targets.iter().enumerate().filter_map(|(index, target)| {
        let fate = fates.get(target.id.as_str());
        let reason = match (fate, found.get(&index)) {
            (Some(Fate::Answered), Some(running)) => {
                let runs = |version: &Option<Version>| {
                    version.as_ref().is_some_and(|version| version.generation == generation)
                };
                if !runs(&running.trial) && !runs(&running.applied) {
                    return None;
                }
                "it still runs it".to_owned()
            }
            (Some(fate), _) => format!(
                "{}: {}; it goes back when it connects before the release expires",
                fate.word(),
                fate.reason().unwrap_or_default()
            ),
            (None, _) => "it is not in the roll call".into(),
        };
        Some(problem(&target.name, &reason))
    });
    Ok(pending.collect())
}
