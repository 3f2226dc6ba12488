//! Rollouts: a release is given to agents in stages, and comes back if they do not take it well.
//!
//! All that a controller knows is one value of a bucket, which is replaced only if nobody else has replaced it
//! meanwhile. It can be killed at any time, and another one goes on; two at a time do the same.
//!
//! * `store` has the parts of bundles in a bucket.
//! * `gate` judges what agents report.
//! * `state` is where the state of a rollout is kept.
//! * `control` goes from stage to stage.

mod control;
mod gate;
mod state;
mod store;

use flowgate_base::text::clean;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use control::{Pace, Progress, Review, drive, review};
pub use gate::{Gate, GateError, Limit, Measure};
pub use state::next_generation;
pub use store::{PART, part, prune, upload};

use crate::{
    bus::BusError,
    collector::Member,
    message::MessageError,
    names::{AgentId, AgentName},
    release::{Release, ReleaseError, SignedRelease},
};

/// The version of the state.
const VERSION: u32 = 1;
/// The most agents of a rollout: what fits into the state.
pub const MAX_AGENTS: usize = 4000;
/// The most problems that are remembered, one of each agent.
const MAX_PROBLEMS: usize = 100;
/// The most stages.
const MAX_STAGES: usize = 32;

/// Why a rollout cannot be started or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// The server cannot be asked.
    #[error("the state of the rollout: {0}")]
    Bus(#[from] BusError),
    /// The state cannot be read.
    #[error("the state of the rollout {0}")]
    State(#[from] MessageError),
    /// The release is wrong.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// There is none.
    #[error("there is no rollout; `flowgate fleet rollout start` begins one")]
    None,
    /// Another one is not over.
    #[error(
        "rollout {} is {phase}; `flowgate fleet rollout resume` has it end, and `flowgate fleet rollout abort` takes it back",
        clean(id)
    )]
    Unfinished {
        /// The other one.
        id: String,
        /// Its phase.
        phase: &'static str,
    },
    /// It is over.
    #[error("the rollout is over: it is {0}")]
    Over(&'static str),
    /// There are too many agents.
    #[error("there are {0} agents, and a rollout takes {MAX_AGENTS}; divide them by labels")]
    Agents(usize),
    /// The stages are none.
    #[error("`{}` are no stages; they are percents that grow up to 100, such as 5,25,100", clean(.0))]
    Stages(String),
    /// Others change it all the time.
    #[error("others change the rollout all the time; try again")]
    Busy,
}

/// What is done when a stage does not go well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// No further agent gets the release; those that have it keep it.
    Halt,
    /// All agents that have it go back.
    #[default]
    Return,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The agents of the stage are being told.
    Push,
    /// They begin.
    Wait,
    /// They have begun, and are watched.
    Bake,
    /// All agents have it.
    Done,
    /// All agents are being told to go back.
    Return,
    /// They go back.
    Returning,
    /// It was taken back.
    Returned,
    /// It goes no further.
    Halted,
}

impl Phase {
    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Phase::Push | Phase::Wait => "starting",
            Phase::Bake => "baking",
            Phase::Done => "done",
            Phase::Return | Phase::Returning => "returning",
            Phase::Returned => "returned",
            Phase::Halted => "halted",
        }
    }

    /// Returns true if nothing more is done.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Done | Phase::Returned | Phase::Halted)
    }
}

/// An agent of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its id.
    pub id: AgentId,
    /// Its name when the rollout began.
    pub name: AgentName,
}

/// What went wrong with an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The agent.
    pub agent: AgentName,
    /// What.
    pub reason: String,
}

/// How a rollout is to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The stages, as percents of all agents.
    pub stages: Vec<u32>,
    /// How long the agents of a stage are watched, in milliseconds.
    pub bake: u64,
    /// How long the agents of a stage may take to begin, their trial included, in milliseconds.
    pub within: u64,
    /// What agents may report.
    pub gate: Gate,
    /// What is done when a stage does not go well.
    pub on_failure: OnFailure,
    /// How many agents may be absent.
    pub allow_missing: usize,
}

/// The state of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The version of the state.
    pub version: u32,
    /// The release, which has the id of the rollout.
    pub signed: SignedRelease,
    /// Who has started it.
    pub by: AgentName,
    /// How it is to go.
    pub terms: Terms,
    /// All agents, in the order in which they get the release.
    pub agents: Vec<Target>,
    /// The number of the stage, from 0.
    pub stage: usize,
    /// How far it is.
    pub phase: Phase,
    /// Since when, in milliseconds since 1970.
    pub since: u64,
    /// True if nothing is done until it is resumed.
    #[serde(default)]
    pub paused: bool,
    /// What went wrong.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// Agents that are absent, and did not hold it up; or have not gone back.
    #[serde(default)]
    pub missing: Vec<Problem>,
}

/// Returns the time in milliseconds since 1970.
pub(crate) fn now() -> u64 {
    flowgate_base::clock::now() / 1_000_000
}

/// Returns stages that are written as percents with commas.
///
/// # Errors
/// [`RolloutError::Stages`]
pub fn stages(text: &str) -> Result<Vec<u32>, RolloutError> {
    let wrong = || RolloutError::Stages(text.chars().take(100).collect());
    let percent = |part: &str| part.trim().trim_end_matches('%').parse::<u32>().map_err(|_| wrong());
    let stages: Vec<u32> = text.split(',').map(percent).collect::<Result<_, _>>()?;
    let grow = stages.is_sorted_by(|one, other| one < other);
    match stages.len() <= MAX_STAGES && grow && stages.first() != Some(&0) && stages.last() == Some(&100) {
        true => Ok(stages),
        false => Err(wrong()),
    }
}

/// Returns agents in the order of a rollout: by a hash of both, so that it is another order in each rollout, and the same
/// for whoever continues it.
fn ordered(id: &str, members: &[Member]) -> Vec<Target> {
    let target = |member: &Member| Target { id: member.id.clone(), name: member.name.clone() };
    let mut agents: Vec<Target> = members.iter().map(target).collect();
    agents.sort_by_cached_key(|agent| Sha256::digest(format!("{id} {}", agent.id)).to_vec());
    agents
}

impl Rollout {
    /// Returns a rollout of a release to these agents, which nobody knows yet.
    ///
    /// # Errors
    /// [`RolloutError`] if the release is none, or there are too many agents.
    pub fn new(signed: SignedRelease, by: AgentName, terms: Terms, members: &[Member]) -> Result<Self, RolloutError> {
        let release = Release::read(&signed.release)?;
        if members.len() > MAX_AGENTS {
            return Err(RolloutError::Agents(members.len()));
        }
        Ok(Rollout {
            version: VERSION,
            agents: ordered(&release.id, members),
            signed,
            by,
            terms,
            stage: 0,
            phase: Phase::Push,
            since: now(),
            paused: false,
            problems: Vec::new(),
            missing: Vec::new(),
        })
    }

    /// Returns the release.
    ///
    /// # Errors
    /// [`RolloutError::Release`]
    pub fn release(&self) -> Result<Release, RolloutError> {
        Ok(Release::read(&self.signed.release)?)
    }

    /// Returns how many agents have been told at the end of a stage.
    #[must_use]
    pub fn end_of(&self, stage: usize) -> usize {
        let percent = self.terms.stages.get(stage).copied().unwrap_or(100).min(100) as usize;
        (self.agents.len() * percent).div_ceil(100)
    }

    /// Returns the agents of this stage and those before.
    #[must_use]
    pub fn told(&self) -> &[Target] {
        self.agents.get(..self.end_of(self.stage)).unwrap_or(&self.agents)
    }

    /// Returns the agents of this stage alone.
    #[must_use]
    pub fn in_stage(&self) -> &[Target] {
        let before = self.stage.checked_sub(1).map_or(0, |before| self.end_of(before));
        self.told().get(before..).unwrap_or_default()
    }

    fn enter(&mut self, phase: Phase) {
        (self.phase, self.since) = (phase, now());
    }

    /// Enters what follows when something went wrong.
    fn fail(&mut self, mut problems: Vec<Problem>, on_failure: OnFailure) {
        problems.truncate(MAX_PROBLEMS);
        self.problems = problems;
        self.enter(match on_failure {
            OnFailure::Halt => Phase::Halted,
            OnFailure::Return => Phase::Return,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::ConnectKey, message, names, release::Audience};

    fn rollout(agents: usize, stages: &str) -> Rollout {
        let member = |number: usize| Member {
            id: ConnectKey::generate().id(),
            name: format!("a{number}").parse().unwrap(),
            entry: None,
        };
        let members: Vec<Member> = (0..agents).map(member).collect();
        let terms = Terms {
            stages: super::stages(stages).unwrap(),
            bake: 1,
            within: 1,
            gate: Gate::default(),
            on_failure: OnFailure::Return,
            allow_missing: 0,
        };
        let signed = Release::new(1, None, Audience::default(), 60).unsigned().unwrap();
        Rollout::new(signed, "admin".parse().unwrap(), terms, &members).unwrap()
    }

    #[test]
    fn stages_are_percents_that_grow_to_a_hundred() {
        assert_eq!(stages("5,25,100").unwrap(), [5, 25, 100]);
        assert_eq!(stages("1%, 100%").unwrap(), [1, 100]);
        let many = (1..=40).map(|number| number.to_string()).collect::<Vec<_>>().join(",") + ",100";
        for bad in ["", "5", "0,100", "100,5", "5,5,100", "x", "50,101", "-5,100", &many] {
            assert!(matches!(stages(bad), Err(RolloutError::Stages(_))), "{bad}");
        }
    }

    #[test]
    fn each_agent_is_in_one_stage_and_the_order_is_the_rollouts() {
        let mut rollout = rollout(37, "5,25,100");
        let mut seen = Vec::new();
        for (stage, count) in [(0, 2), (1, 8), (2, 27)] {
            rollout.stage = stage;
            assert_eq!(rollout.in_stage().len(), count);
            seen.extend(rollout.in_stage().to_vec());
            assert_eq!(rollout.told(), seen);
        }
        assert_eq!(seen, rollout.agents);
        let members = rollout.agents.iter().rev();
        let members = members.map(|target| Member { id: target.id.clone(), name: target.name.clone(), entry: None });
        let members: Vec<Member> = members.collect();
        let id = rollout.release().unwrap().id;
        assert_eq!(ordered(&id, &members), rollout.agents);
        assert_ne!(ordered("another", &members), rollout.agents);
        rollout.agents.truncate(1);
        rollout.stage = 0;
        assert_eq!(rollout.in_stage().len(), 1, "a stage has at least one agent");
    }

    #[test]
    fn the_largest_rollout_fits() {
        let mut rollout = rollout(0, "100");
        let target = Target { id: ConnectKey::generate().id(), name: "x".repeat(names::MAX_NAME).parse().unwrap() };
        rollout.agents = vec![target; MAX_AGENTS];
        let problem = Problem { agent: "x".repeat(names::MAX_NAME).parse().unwrap(), reason: "x".repeat(600) };
        rollout.problems = vec![problem.clone(); MAX_PROBLEMS];
        rollout.missing = vec![problem; MAX_PROBLEMS];
        let length = message::write(&rollout).len();
        assert!(length <= names::largest_value(names::ROLLOUTS), "{length}");
    }
}
