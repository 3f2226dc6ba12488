//! The audit of an agent: what it was commanded to do, refused and did, on its own disk before anything happens.
//!
//! A file of JSON objects, one on each line. Each has the hash of the line before it, so that a line that was removed
//! or changed shows ([`Chain`]). The agent ships its lines in order to a stream of the server, of which [`read_all`]
//! reads those of all agents.

mod chain;
mod file;
mod stream;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::random;
pub use chain::{Chain, Flaw, verify};
pub use file::{Audit, AuditError, Tail, lines_from, locate};
pub use stream::{STREAM, read_all};

/// The most bytes of a line.
pub const MAX_LINE: usize = 64 << 10;
/// The most bytes of lines in a message of the stream.
pub const MAX_BATCH: usize = 128 << 10;
/// The most bytes of an audit.
const MAX_FILE: u64 = 256 << 20;
/// The most characters of a text in a line.
const MAX_TEXT: usize = 4096;

/// What a line records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Something is about to be done.
    #[default]
    Intent,
    /// What came of it.
    Result,
    /// It was not done.
    Refused,
}

/// What is recorded. The names are those of the audit of the service for tenants, where it has the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// What it is about.
    pub stage: Stage,
    /// The plan, if that is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub plan: String,
    /// What is done, such as `delete`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// To how many flows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Of a result: `done` or `failed`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub result: String,
    /// Of a refusal: a word for why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// What is meant, why it was refused, or why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// True if the plan had been left for the agent while it was absent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub later: bool,
    /// Who signed, as far as the signatures hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<String>,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The number of the line, from 1.
    pub number: u64,
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// What is recorded.
    #[serde(flatten)]
    pub record: Record,
    /// The hash of the line before; empty for the first.
    pub before: String,
}

/// What makes a line one of a chain.
#[derive(Debug, Deserialize)]
struct Link {
    number: u64,
    before: String,
}

impl Link {
    fn of(line: &[u8]) -> Option<Self> {
        if line.len() > MAX_LINE {
            return None;
        }
        serde_json::from_slice(line).ok()
    }
}

fn hash(line: &[u8]) -> String {
    random::hex(&Sha256::digest(line))
}
