//! Plans: what an action would touch, on which agent, until when. A plan is signed as the very bytes that it is sent
//! as; nothing is ever written anew before a signature is checked.

use flowgate_base::text::clean;
use serde::{Deserialize, Serialize};

use crate::{
    keys::{Keyring, SigningKey},
    message::{self, MAX_COMMAND},
    names::{AgentId, AgentName},
    random,
    table::Touched,
};

/// The version of plans.
const VERSION: u32 = 1;
/// The longest that a plan may be valid, in seconds.
pub const MAX_LIFE: u64 = 86_400;
/// How far the clocks of who plans and who applies may be apart, in seconds.
const SKEW: u64 = 60;
/// The most signatures of a plan.
const MAX_SIGNATURES: usize = 16;
/// The most bytes of a plan, which leaves room for the signatures and for JSON in JSON.
const MAX_PLAN: usize = MAX_COMMAND / 2;

/// An action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Flows are deleted.
    #[default]
    Delete,
    /// Values of flows are set.
    Update,
}

impl Action {
    /// Returns the word for it, as in `flowgate delete`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Action::Delete => "delete",
            Action::Update => "update",
        }
    }

    /// Returns the word for what it has done to flows.
    #[must_use]
    pub fn done(self) -> &'static str {
        match self {
            Action::Delete => "deleted",
            Action::Update => "updated",
        }
    }
}

/// What a plan is for one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The agent.
    pub id: AgentId,
    /// Its name when the plan was made.
    pub name: AgentName,
    /// What it would touch.
    #[serde(flatten)]
    pub touched: Touched,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The version of plans.
    pub version: u32,
    /// A random number, so that the plan is done once.
    pub id: String,
    /// What is done.
    pub action: Action,
    /// To which flows, and what is set: words of `flowgate -D` or `-U`.
    pub words: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    /// By how many percent the flows of an agent may have become more.
    pub allowance: u32,
    /// True if an agent that is absent when the plan is applied does it when it connects before the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent_later: bool,
    /// The agents, each with what it would touch.
    pub agents: Vec<Share>,
}

/// Until when a plan holds, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// For how many seconds it is valid.
    pub life: u64,
    /// By how many percent the flows of an agent may have become more.
    pub allowance: u32,
    /// True if an agent that is absent when the plan is applied does it when it connects before the end.
    pub absent_later: bool,
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The public key of who signed.
    pub key: String,
    /// The signature, as hexadecimal digits.
    pub signature: String,
}

/// A plan as it was signed, and the signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedPlan {
    /// The plan as JSON: what is signed.
    pub plan: String,
    /// Who signed it.
    #[serde(default)]
    pub signatures: Vec<Signature>,
}

/// Why a plan is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It is too long, or has too many signatures.
    #[error("the plan has {}", clean(.0))]
    Size(String),
    /// It cannot be read.
    #[error("the plan cannot be read: {}", clean(.0))]
    Unreadable(String),
    /// It is of another version.
    #[error("the plan is of version {0}, and this is {VERSION}")]
    Version(u32),
    /// Too few signatures hold.
    #[error("the plan has {valid} valid signatures of the keys that this agent trusts, and needs {need}")]
    Signatures {
        /// How many hold.
        valid: usize,
        /// How many it takes.
        need: usize,
    },
    /// The agent trusts no key.
    #[error("this agent trusts no key: `signers` of agent.toml is empty, so that it never acts")]
    NoSigners,
    /// Its time is over.
    #[error("the plan expired {0} s ago")]
    Expired(u64),
    /// Its time has not come.
    #[error("the plan was made {0} s in the future; compare the clocks")]
    Early(u64),
    /// Its time is too long.
    #[error("the plan is valid for {0} s, and may be for {MAX_LIFE}")]
    Long(u64),
    /// The agent is not in it.
    #[error("the plan does not name this agent")]
    NotNamed,
}

impl PlanError {
    /// Returns the word for it in an audit.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            PlanError::Size(_) | PlanError::Unreadable(_) | PlanError::Version(_) => "unreadable",
            PlanError::Signatures { .. } | PlanError::NoSigners => "signatures",
            PlanError::Expired(_) => "expired",
            PlanError::Early(_) | PlanError::Long(_) => "times",
            PlanError::NotNamed => "not-named",
        }
    }
}

impl Plan {
    /// Returns a plan that is made now.
    #[must_use]
    pub fn new(action: Action, words: Vec<String>, agents: Vec<Share>, terms: Terms) -> Self {
        let Terms { life, allowance, absent_later } = terms;
        let made = now();
        let expires = made.saturating_add(life.min(MAX_LIFE));
        Plan { version: VERSION, id: random::id(), action, words, made, expires, allowance, absent_later, agents }
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// [`PlanError`]
    pub fn read(text: &str) -> Result<Self, PlanError> {
        if text.len() > MAX_PLAN {
            return Err(PlanError::Size(format!("{} bytes, and may have {MAX_PLAN}", text.len())));
        }
        let unreadable = |error: message::MessageError| PlanError::Unreadable(error.to_string());
        let plan: Plan = message::read(text.as_bytes(), MAX_PLAN).map_err(unreadable)?;
        if plan.version != VERSION {
            return Err(PlanError::Version(plan.version));
        }
        message::check_words(&plan.words).map_err(unreadable)?;
        Ok(plan)
    }

    /// Returns the most flows that an agent may touch that counted this many.
    #[must_use]
    pub fn most(&self, count: u64) -> u64 {
        let more = u128::from(count) * u128::from(self.allowance);
        count.saturating_add(u64::try_from(more.div_ceil(100)).unwrap_or(u64::MAX))
    }

    /// Returns it without signatures.
    ///
    /// # Errors
    /// [`PlanError::Size`] if it has too many agents to be sent.
    pub fn unsigned(&self) -> Result<SignedPlan, PlanError> {
        let plan = String::from_utf8_lossy(&message::write(self)).into_owned();
        if plan.len() > MAX_PLAN {
            let agents = self.agents.len();
            return Err(PlanError::Size(format!("{agents} agents, {} bytes; it may have {MAX_PLAN}", plan.len())));
        }
        Ok(SignedPlan { plan, signatures: Vec::new() })
    }
}

impl SignedPlan {
    /// Adds a signature, in place of an earlier one of the same key.
    pub fn sign(&mut self, key: &SigningKey) {
        let public = key.public();
        self.signatures.retain(|signature| signature.key != public);
        self.signatures.push(Signature { signature: key.sign(self.plan.as_bytes()), key: public });
    }

    /// Checks everything that an agent checks before it looks at its table, and returns the plan with the agent's share
    /// of it. Nothing of the plan is read before the signatures hold.
    ///
    /// # Errors
    /// [`PlanError`]
    pub fn check(&self, ring: &Keyring, agent: &AgentId, now: u64) -> Result<(Plan, Share), PlanError> {
        if ring.is_empty() {
            return Err(PlanError::NoSigners);
        }
        if self.signatures.len() > MAX_SIGNATURES {
            let count = self.signatures.len();
            return Err(PlanError::Size(format!("{count} signatures, and may have {MAX_SIGNATURES}")));
        }
        let pairs = self.signatures.iter().map(|of| (of.key.as_str(), of.signature.as_str()));
        let valid = ring.valid(self.plan.as_bytes(), pairs).len();
        if valid < ring.need() {
            return Err(PlanError::Signatures { valid, need: ring.need() });
        }
        let plan = Plan::read(&self.plan)?;
        let life = plan.expires.saturating_sub(plan.made);
        if life > MAX_LIFE {
            return Err(PlanError::Long(life));
        }
        if plan.made > now.saturating_add(SKEW) {
            return Err(PlanError::Early(plan.made.saturating_sub(now)));
        }
        if plan.expires <= now {
            return Err(PlanError::Expired(now.saturating_sub(plan.expires)));
        }
        let share = plan.agents.iter().find(|share| share.id == *agent).cloned().ok_or(PlanError::NotNamed)?;
        Ok((plan, share))
    }
}

/// Returns the time in seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    flowgate_base::clock::now() / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ConnectKey;

    fn plan(agent: &AgentId) -> Plan {
        let touched = Touched { count: 10, hash: "00".into() };
        let share = Share { id: agent.clone(), name: "a".parse().unwrap(), touched };
        let terms = Terms { life: 600, allowance: 10, absent_later: false };
        Plan::new(Action::Delete, vec!["-p".into(), "udp".into()], vec![share], terms)
    }

    #[test]
    fn it_takes_as_many_signatures_as_the_agent_needs() {
        let agent = ConnectKey::generate().id();
        let keys: Vec<SigningKey> = (0..3).map(|_| SigningKey::generate()).collect();
        let public: Vec<String> = keys.iter().map(SigningKey::public).collect();
        let ring = Keyring::new(&public, 2).unwrap();
        let mut signed = plan(&agent).unsigned().unwrap();
        let too_few = |valid| Err(PlanError::Signatures { valid, need: 2 });
        let check = |signed: &SignedPlan| signed.check(&ring, &agent, now()).map(|(_, share)| share.touched.count);
        assert_eq!(check(&signed), too_few(0));
        signed.sign(&keys[0]);
        signed.sign(&keys[0]);
        assert_eq!((signed.signatures.len(), check(&signed)), (1, too_few(1)));
        signed.sign(&keys[2]);
        assert_eq!(check(&signed), Ok(10));
        let none = Keyring::new(&[], 0).unwrap();
        assert_eq!(signed.check(&none, &agent, now()), Err(PlanError::NoSigners));
        signed.signatures = vec![signed.signatures[0].clone(); MAX_SIGNATURES + 1];
        assert!(matches!(check(&signed), Err(PlanError::Size(_))));
    }

    #[test]
    fn a_single_changed_byte_breaks_it() {
        let (agent, key) = (ConnectKey::generate().id(), SigningKey::generate());
        let ring = Keyring::new(&[key.public()], 1).unwrap();
        let mut signed = plan(&agent).unsigned().unwrap();
        signed.sign(&key);
        assert!(signed.check(&ring, &agent, now()).is_ok());
        for at in 0..signed.plan.len() {
            let mut forged = signed.clone();
            let mut bytes = forged.plan.into_bytes();
            bytes[at] ^= 1;
            forged.plan = String::from_utf8(bytes).unwrap();
            assert!(matches!(forged.check(&ring, &agent, now()), Err(PlanError::Signatures { valid: 0, .. })), "{at}");
        }
    }

    #[test]
    fn times_and_names_are_checked() {
        let (agent, key) = (ConnectKey::generate().id(), SigningKey::generate());
        let ring = Keyring::new(&[key.public()], 1).unwrap();
        let check = |change: &dyn Fn(&mut Plan), now: u64| {
            let mut plan = plan(&agent);
            change(&mut plan);
            let mut signed = plan.unsigned().unwrap();
            signed.sign(&key);
            signed.check(&ring, &agent, now).map(|_| ())
        };
        let now = now();
        assert_eq!(check(&|_| {}, now), Ok(()));
        assert_eq!(check(&|plan| plan.expires = now, now), Err(PlanError::Expired(0)));
        assert!(matches!(check(&|_| {}, now + 601), Err(PlanError::Expired(_))));
        assert!(matches!(check(&|plan| plan.expires = now + MAX_LIFE + 10, now), Err(PlanError::Long(_))));
        assert!(matches!(check(&|plan| plan.made = now + SKEW + 5, now), Err(PlanError::Early(_))));
        assert_eq!(check(&|plan| plan.agents.clear(), now), Err(PlanError::NotNamed));
        let other = |plan: &mut Plan| plan.agents[0].id = ConnectKey::generate().id();
        assert_eq!(check(&other, now), Err(PlanError::NotNamed));
        assert_eq!(check(&|plan| plan.version = 2, now), Err(PlanError::Version(2)));
    }

    #[test]
    fn the_allowance_is_rounded_up() {
        let plan = |allowance| Plan { allowance, ..plan(&ConnectKey::generate().id()) };
        assert_eq!((plan(10).most(10), plan(10).most(1), plan(10).most(0), plan(0).most(7)), (11, 2, 0, 7));
        assert_eq!(plan(u32::MAX).most(u64::MAX), u64::MAX);
    }
}
