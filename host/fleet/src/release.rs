//! Releases: which bundle agents are to run. Operators sign one as the very bytes that it is sent as; agents take it if
//! enough of their keys have signed it, if it is for them, and if its generation is higher than all before.

use std::collections::BTreeSet;

use flowgate_base::text::clean;
use serde::{Deserialize, Serialize};

use crate::{
    bundle::{Bundle, Kind, MAX_BUNDLE},
    keys::{Keyring, Signed, SigningKey},
    message,
    names::{self, AgentId, Digest, Label, MAX_LABELS},
    plan::{Signature, now},
    random,
};

/// The version of releases.
const VERSION: u32 = 1;
/// The longest that a release may be valid, in seconds.
pub const MAX_LIFE: u64 = 30 * 86_400;
/// How far the clocks of who signs and who runs may be apart, in seconds.
const SKEW: u64 = 60;
/// The most signatures of a release.
const MAX_SIGNATURES: usize = 16;
/// The most agents that a release names.
pub const MAX_NAMED: usize = 64;
/// The most bytes of a release.
const MAX_RELEASE: usize = 8 << 10;

/// A bundle, as a release names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRef {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// What the file is that is run.
    pub kind: Kind,
}

impl BundleRef {
    /// Returns how a release names a bundle.
    #[must_use]
    pub fn of(bundle: &Bundle) -> Self {
        BundleRef { digest: bundle.digest(), size: bundle.bytes().len() as u64, kind: bundle.manifest().kind }
    }
}

/// Which agents a release is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audience {
    /// Labels, which an agent must have all of.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// Agents, of which it must be one, unless there are none.
    #[serde(default)]
    pub agents: Vec<AgentId>,
}

impl Audience {
    /// Returns true if an agent with these labels is one of them.
    #[must_use]
    pub fn has(&self, id: &AgentId, labels: &[Label]) -> bool {
        self.labels.iter().all(|label| labels.contains(label)) && (self.agents.is_empty() || self.agents.contains(id))
    }
}

/// A release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The version of releases.
    pub version: u32,
    /// A random number, which is that of the rollout.
    pub id: String,
    /// Its generation, which is higher than those before.
    pub generation: u64,
    /// What is run; `None` if nothing is.
    pub bundle: Option<BundleRef>,
    /// By whom.
    pub audience: Audience,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// Until when agents begin with it, in seconds since 1970.
    pub expires: u64,
}

/// A release as it was signed, and the signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRelease {
    /// The release as JSON: what is signed.
    pub release: String,
    /// Who signed it.
    #[serde(default)]
    pub signatures: Vec<Signature>,
}

/// What the bucket says that an agent is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// The release.
    #[serde(flatten)]
    pub signed: SignedRelease,
    /// Why it is taken back, if it is: the agent goes back to what it ran before. Whoever could forge this could as well
    /// withhold the release, and what was run before was signed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<String>,
}

/// Why a release is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// It is too long, or has too many of something.
    #[error("the release has {}", clean(.0))]
    Size(String),
    /// It cannot be read.
    #[error("the release cannot be read: {}", clean(.0))]
    Unreadable(String),
    /// It is of another version.
    #[error("the release is of version {0}, and this is {VERSION}")]
    Version(u32),
    /// Too few signatures hold.
    #[error("the release has {valid} valid signatures of the keys that this agent trusts, and needs {need}")]
    Signatures {
        /// How many hold.
        valid: usize,
        /// How many it takes.
        need: usize,
    },
    /// The agent trusts no key.
    #[error("this agent trusts no key: `signers` of agent.toml is empty, so that it runs nothing from elsewhere")]
    NoSigners,
    /// It is for others.
    #[error("the release is not for this agent: it lacks the labels, or is not named")]
    Others,
    /// It is older than what was there before.
    #[error("the release is of generation {generation}, and {newest} was there before; a new one takes a higher one")]
    Older {
        /// Its generation.
        generation: u64,
        /// The highest before.
        newest: u64,
    },
    /// There is another one of the same generation.
    #[error("another release of generation {0} was there before")]
    Twice(u64),
    /// Its time is over.
    #[error("the release expired {0} s ago")]
    Expired(u64),
    /// Its time has not come.
    #[error("the release was made {0} s in the future; compare the clocks")]
    Early(u64),
    /// Its time is too long.
    #[error("the release is valid for {0} s, and may be for {MAX_LIFE}")]
    Long(u64),
}

impl ReleaseError {
    /// Returns a word for it, as in the audit.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            ReleaseError::Size(_) | ReleaseError::Unreadable(_) | ReleaseError::Version(_) => "unreadable",
            ReleaseError::Signatures { .. } | ReleaseError::NoSigners => "signatures",
            ReleaseError::Others => "not-named",
            ReleaseError::Older { .. } | ReleaseError::Twice(_) => "generation",
            ReleaseError::Expired(_) => "expired",
            ReleaseError::Early(_) | ReleaseError::Long(_) => "times",
        }
    }
}

impl Release {
    /// Returns a release that is made now and valid for some seconds.
    #[must_use]
    pub fn new(generation: u64, bundle: Option<BundleRef>, audience: Audience, life: u64) -> Self {
        let made = now();
        let expires = made.saturating_add(life.min(MAX_LIFE));
        Release { version: VERSION, id: random::id(), generation, bundle, audience, made, expires }
    }

    /// Reads a release.
    ///
    /// # Errors
    /// [`ReleaseError`]
    pub fn read(text: &str) -> Result<Self, ReleaseError> {
        if text.len() > MAX_RELEASE {
            return Err(ReleaseError::Size(format!("{} bytes, and may have {MAX_RELEASE}", text.len())));
        }
        let release: Release =
            message::read(text.as_bytes(), MAX_RELEASE).map_err(|error| ReleaseError::Unreadable(error.to_string()))?;
        if release.version != VERSION {
            return Err(ReleaseError::Version(release.version));
        }
        release.check()?;
        Ok(release)
    }

    fn check(&self) -> Result<(), ReleaseError> {
        let Audience { labels, agents } = &self.audience;
        if agents.len() > MAX_NAMED {
            let count = agents.len();
            return Err(ReleaseError::Size(format!("{count} agents by name, and may have {MAX_NAMED}; take labels")));
        }
        if labels.len() > MAX_LABELS {
            return Err(ReleaseError::Size(format!("{} labels, and may have {MAX_LABELS}", labels.len())));
        }
        match &self.bundle {
            Some(bundle) if bundle.size > MAX_BUNDLE => {
                Err(ReleaseError::Size(format!("a bundle of {} bytes, and may have {MAX_BUNDLE}", bundle.size)))
            }
            _ => Ok(()),
        }
    }

    /// Returns it without signatures.
    ///
    /// # Errors
    /// [`ReleaseError::Size`] if it has too much to be sent.
    pub fn unsigned(&self) -> Result<SignedRelease, ReleaseError> {
        self.check()?;
        let release = String::from_utf8_lossy(&message::write(self)).into_owned();
        match release.len() {
            length if length > MAX_RELEASE => {
                Err(ReleaseError::Size(format!("{length} bytes, and may have {MAX_RELEASE}")))
            }
            _ => Ok(SignedRelease { release, signatures: Vec::new() }),
        }
    }

    /// Checks that its time is now.
    ///
    /// # Errors
    /// [`ReleaseError`]
    pub fn check_time(&self, now: u64) -> Result<(), ReleaseError> {
        let life = self.expires.saturating_sub(self.made);
        if life > MAX_LIFE {
            return Err(ReleaseError::Long(life));
        }
        if self.made > now.saturating_add(SKEW) {
            return Err(ReleaseError::Early(self.made.saturating_sub(now)));
        }
        if self.expires <= now {
            return Err(ReleaseError::Expired(now.saturating_sub(self.expires)));
        }
        Ok(())
    }
}

impl SignedRelease {
    /// Adds a signature, in place of an earlier one of the same key.
    pub fn sign(&mut self, key: &SigningKey) {
        let public = key.public();
        self.signatures.retain(|signature| signature.key != public);
        let signature = key.sign_as(Signed::Release, self.release.as_bytes());
        self.signatures.push(Signature { signature, key: public });
    }

    /// Returns the keys whose signatures hold.
    #[must_use]
    pub fn signers(&self, ring: &Keyring) -> BTreeSet<String> {
        let pairs = self.signatures.iter().take(MAX_SIGNATURES).map(|of| (of.key.as_str(), of.signature.as_str()));
        ring.valid_as(Signed::Release, self.release.as_bytes(), pairs)
    }

    /// Checks the signatures and that an agent is one of those it is for, and returns the release. Nothing of it is read
    /// before the signatures hold.
    ///
    /// # Errors
    /// [`ReleaseError`]
    pub fn check(&self, ring: &Keyring, agent: &AgentId, labels: &[Label]) -> Result<Release, ReleaseError> {
        if ring.is_empty() {
            return Err(ReleaseError::NoSigners);
        }
        if self.signatures.len() > MAX_SIGNATURES {
            let count = self.signatures.len();
            return Err(ReleaseError::Size(format!("{count} signatures, and may have {MAX_SIGNATURES}")));
        }
        let valid = self.signers(ring).len();
        if valid < ring.need() {
            return Err(ReleaseError::Signatures { valid, need: ring.need() });
        }
        let release = Release::read(&self.release)?;
        match release.audience.has(agent, labels) {
            true => Ok(release),
            false => Err(ReleaseError::Others),
        }
    }
}

impl Desired {
    /// Reads a value of the bucket.
    ///
    /// # Errors
    /// [`ReleaseError`]
    pub fn read(bytes: &[u8]) -> Result<Self, ReleaseError> {
        message::read(bytes, names::largest_value(names::DESIRED))
            .map_err(|error| ReleaseError::Unreadable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::ConnectKey, plan::SignedPlan};

    fn release() -> Release {
        let bundle = BundleRef { digest: Digest::of(b"x"), size: 1, kind: Kind::Policy };
        Release::new(3, Some(bundle), Audience::default(), 600)
    }

    #[test]
    fn it_takes_signatures_of_releases_and_labels() {
        let (id, key, other) = (ConnectKey::generate().id(), SigningKey::generate(), SigningKey::generate());
        let ring = Keyring::new(&[key.public(), other.public()], 2).unwrap();
        let web: Label = "role=web".parse().unwrap();
        let audience = Audience { labels: vec![web.clone()], agents: Vec::new() };
        let mut signed = Release { audience, ..release() }.unsigned().unwrap();
        let check = |signed: &SignedRelease, labels: &[Label]| signed.check(&ring, &id, labels);
        assert_eq!(check(&signed, &[]), Err(ReleaseError::Signatures { valid: 0, need: 2 }));
        signed.sign(&key);
        signed.sign(&key);
        assert_eq!(check(&signed, &[]), Err(ReleaseError::Signatures { valid: 1, need: 2 }));
        signed.sign(&other);
        assert_eq!(check(&signed, &[]), Err(ReleaseError::Others));
        assert_eq!(check(&signed, std::slice::from_ref(&web)).unwrap().generation, 3);
        // A signature of a plan with the same text is none.
        let mut plan = SignedPlan { plan: signed.release.clone(), signatures: Vec::new() };
        plan.sign(&key);
        plan.sign(&other);
        let moved = SignedRelease { release: signed.release.clone(), signatures: plan.signatures };
        assert_eq!(check(&moved, std::slice::from_ref(&web)), Err(ReleaseError::Signatures { valid: 0, need: 2 }));
        for at in 0..signed.release.len() {
            let mut bytes = signed.release.clone().into_bytes();
            bytes[at] ^= 1;
            let forged = SignedRelease { release: String::from_utf8(bytes).unwrap(), ..signed.clone() };
            assert!(
                matches!(check(&forged, std::slice::from_ref(&web)), Err(ReleaseError::Signatures { valid: 0, .. })),
                "{at}"
            );
        }
        let none = Keyring::new(&[], 1).unwrap();
        assert_eq!(signed.check(&none, &id, &[web]), Err(ReleaseError::NoSigners));
    }

    #[test]
    fn times_and_sizes_are_checked() {
        let release = release();
        let now = release.made;
        assert_eq!(release.check_time(now), Ok(()));
        assert_eq!(release.check_time(now + 601), Err(ReleaseError::Expired(1)));
        assert_eq!(release.check_time(now - 61), Err(ReleaseError::Early(61)));
        let long = Release { expires: now + MAX_LIFE + 1, ..release.clone() };
        assert_eq!(long.check_time(now), Err(ReleaseError::Long(MAX_LIFE + 1)));
        let agents = vec![ConnectKey::generate().id(); MAX_NAMED];
        let full = Release { audience: Audience { agents, labels: Vec::new() }, ..release.clone() };
        let mut signed = full.unsigned().unwrap();
        for _ in 0..MAX_SIGNATURES {
            signed.sign(&SigningKey::generate());
        }
        let desired = Desired { signed, taken_back: Some("x".repeat(1024)) };
        let bytes = message::write(&desired);
        assert!(bytes.len() <= names::largest_value(names::DESIRED), "{}", bytes.len());
        assert_eq!(Desired::read(&bytes).unwrap(), desired);
        let mut more = full;
        more.audience.agents.push(ConnectKey::generate().id());
        assert!(matches!(more.unsigned(), Err(ReleaseError::Size(_))));
        let large = BundleRef { size: MAX_BUNDLE + 1, ..release.bundle.clone().unwrap() };
        assert!(Release { bundle: Some(large), ..release }.unsigned().is_err());
    }
}
