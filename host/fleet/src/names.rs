//! Names of agents and labels, and the subjects and buckets made of them. The prefix is the version of the protocol.

use std::fmt;

use flowgate_base::text::clean;
use serde::{Deserialize, Serialize};

use crate::keys;

/// The key-value bucket with an entry for each agent that has ever connected.
pub const REGISTRY: &str = "FG_AGENTS";
/// The key-value bucket with what each agent is to run.
pub const DESIRED: &str = "FG_DESIRED";
/// The key-value bucket with the parts of bundles.
pub const BUNDLES: &str = "FG_BUNDLES";
/// The key-value bucket with the states of rollouts.
pub const ROLLOUTS: &str = "FG_ROLLOUT";
/// The stream of what agents were commanded to do, refused and did.
pub const AUDIT: &str = "FG_AUDIT";
/// The stream of plans that were left for absent agents.
pub const COMMANDS: &str = "FG_CMD";
/// The subjects of all audits.
pub const AUDITS: &str = "fg.1.audit.*";
/// The subjects of all that was left for absent agents.
pub const LEFT: &str = "fg.1.later.>";
/// The subject at which the server tells about its storage, which it imports from the system account.
pub const SERVER_STATE: &str = "fg.1.server.jsz";
/// The subject at which NATS tells an account's user about itself.
pub const USER_INFO: &str = "$SYS.REQ.USER.INFO";
/// The subjects of all beats.
pub const BEATS: &str = "fg.1.beat.*";

/// The stream of what pipelines on agents show.
pub const EVENTS: &str = "FG_EVENTS";
/// The subjects that it takes.
pub const ALL_EVENTS: &str = "fg.1.events.>";

/// The most bytes that the name of an agent, a label, or either side of its `=` may have.
pub const MAX_NAME: usize = 63;
/// The most labels that an agent may have.
pub const MAX_LABELS: usize = 32;

/// Returns the most bytes that a value of a bucket may have.
#[must_use]
pub fn largest_value(bucket: &str) -> usize {
    match bucket {
        DESIRED => 32 << 10,
        BUNDLES => 320 << 10,
        ROLLOUTS => 768 << 10,
        _ => crate::message::MAX_ENTRY,
    }
}

/// Returns the most bytes that a bucket may have; `None` if only the server limits it.
#[must_use]
pub fn largest_bucket(bucket: &str) -> Option<u64> {
    (bucket == BUNDLES).then_some(384 << 20)
}

/// Why a name is refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    /// It is not an agent's key.
    #[error("`{}` is no key of an agent; it begins with U and has 56 characters, as in agent.toml", clean(.0))]
    Id(String),
    /// It has characters that names do not have.
    #[error(
        "`{}` is no name; it takes 1 to {MAX_NAME} letters, digits, '-', '_' and '.', and begins with a letter or digit",
        clean(.0)
    )]
    Name(String),
    /// It is no digest.
    #[error("`{}` is no digest; it is SHA-256 as 64 hexadecimal digits in lower case", clean(.0))]
    Digest(String),
    /// It is no id of a plan.
    #[error("`{}` is no id of a plan, which has 32 hexadecimal digits", clean(.0))]
    Plan(String),
    /// It is no label.
    #[error("`{}` is no label; it takes NAME or NAME=VALUE, of letters, digits, '-', '_' and '.', such as role=web", clean(.0))]
    Label(String),
}

fn is_word(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= MAX_NAME
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(inner)
}

/// Returns the beginning of a text, fit for a message.
fn shown(text: &str) -> String {
    text.chars().take(MAX_NAME + 1).collect()
}

macro_rules! checked {
    ($(#[$doc:meta])* $name:ident, $error:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                let holds: fn(&str) -> bool = $check;
                if holds(&text) { Ok($name(text)) } else { Err(NameError::$error(shown(&text))) }
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                text.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

checked! {
    /// The identity of an agent: the public key of its nkey.
    AgentId, Id, keys::is_user
}
checked! {
    /// The name of an agent, for people.
    AgentName, Name, is_word
}
checked! {
    /// The id of a plan: 32 hexadecimal digits.
    PlanId, Plan, |text| text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
checked! {
    /// A label of an agent: `NAME` or `NAME=VALUE`.
    Label, Label, |text| text.split_once('=').map_or_else(|| is_word(text), |(name, value)| is_word(name) && is_word(value))
}

checked! {
    /// A digest: SHA-256 as 64 hexadecimal digits.
    Digest, Digest, |text| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Digest {
    /// Returns the digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Digest(crate::random::hex(&sha2::Sha256::digest(bytes)))
    }

    /// Returns its beginning, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// Returns the subject at which an agent takes questions.
#[must_use]
pub fn question(agent: &AgentId) -> String {
    format!("fg.1.q.id.{agent}")
}

/// Returns the subject at which an agent takes commands.
#[must_use]
pub fn command(agent: &AgentId) -> String {
    format!("fg.1.cmd.{agent}")
}

/// Returns the subject of an agent's beats.
#[must_use]
pub fn beat(agent: &AgentId) -> String {
    format!("fg.1.beat.{agent}")
}

/// Returns the subject of what a pipeline on an agent shows, by the name of the pipeline.
#[must_use]
pub fn events(agent: &AgentId, pipeline: &str) -> String {
    format!("fg.1.events.{agent}.{pipeline}")
}

/// Returns the subject of an agent's audit.
#[must_use]
pub fn audit(agent: &AgentId) -> String {
    format!("fg.1.audit.{agent}")
}

/// Returns the agent whose audit a subject is of.
#[must_use]
pub fn audited(subject: &str) -> Option<AgentId> {
    subject.strip_prefix("fg.1.audit.")?.parse().ok()
}

/// Returns the subject of the list of plans that were left for an agent.
#[must_use]
pub fn notes(agent: &AgentId) -> String {
    format!("fg.1.later.{agent}")
}

/// Returns the subject of a plan that was left for an agent.
#[must_use]
pub fn left(agent: &AgentId, plan: &PlanId) -> String {
    format!("fg.1.later.{agent}.{plan}")
}

/// Returns the prefix of all inboxes of a user of the bus, by its key.
#[must_use]
pub fn inbox(key: &str) -> String {
    format!("_INBOX.{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_single_tokens_of_plain_characters() {
        for good in ["web-1", "a", "10.example.net", "A_b"] {
            assert_eq!(good.parse::<AgentName>().map(String::from).as_deref(), Ok(good));
        }
        let long = "x".repeat(MAX_NAME + 1);
        for bad in ["", "-a", ".a", "a b", "a*", "a>", "a\n", "ä", "a=b", &long] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad:?}");
        }
        for good in ["role=web", "web", "site=fra-1"] {
            assert!(good.parse::<Label>().is_ok(), "{good}");
        }
        for bad in ["", "=", "a=", "=a", "a=b=c", "a b", "a.>", "*"] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_is_a_key_with_its_checksum() {
        let id = keys::ConnectKey::generate().id();
        assert_eq!(question(&id), format!("fg.1.q.id.{id}"));
        let mut broken = id.to_string();
        let last = if broken.ends_with('A') { 'B' } else { 'A' };
        broken.pop();
        broken.push(last);
        assert!(broken.parse::<AgentId>().is_err());
        for bad in ["", "U", "*", ">", "fg.1"] {
            assert!(bad.parse::<AgentId>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<AgentId>("\"U.>\"").is_err());
    }
}
