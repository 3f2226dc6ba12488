//! What an agent asks to answer questions: the kernel's table, or in tests a made-up one. It knows nothing of the bus.

use std::io::Write;

use flowgate_base::text::clean;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{event_queue::EventWriter, plan::Action, random};

/// The form of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Lines as `flowgate -L` prints them.
    #[default]
    Text,
    /// Objects as `flowgate -L -o json` prints them, one on each line.
    Json,
}

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is not a question that is answered, whoever asks.
    #[error("{}", clean(.0))]
    Refused(String),
    /// The kernel, or something else on the host, failed.
    #[error("{}", clean(.0))]
    Failed(String),
    /// Who asked is gone.
    #[error("nobody reads the answer any more")]
    Gone,
}

/// What a host says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The version of flowgate.
    pub flowgate: String,
    /// The release of the kernel.
    pub kernel: String,
    /// The number of flows.
    pub flows: u64,
    /// The most flows that the kernel tracks.
    pub flows_max: u64,
}

/// The flows that an action would touch, or has touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Their number.
    pub count: u64,
    /// A hash of their identities, in any order, as hexadecimal digits.
    pub hash: String,
}

/// A hash of a set of lines, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetHash(u128);

impl SetHash {
    /// Adds a line.
    pub fn add(&mut self, line: &[u8]) {
        let mut half = [0; 16];
        half.iter_mut().zip(Sha256::digest(line)).for_each(|(to, from)| *to = from);
        self.0 = self.0.wrapping_add(u128::from_le_bytes(half));
    }

    /// Returns it as hexadecimal digits.
    #[must_use]
    pub fn digits(&self) -> String {
        random::hex(&self.0.to_le_bytes())
    }
}

/// Events that are being written. Dropping it ends them.
pub struct Watching(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Watching {
    /// Returns it with what ends the events.
    #[must_use]
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Watching(Some(Box::new(end)))
    }
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Watching")
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

/// The table of a host. The words are those of `flowgate -L`, `-D` or `-U` after the command.
pub trait Table: Send + Sync + 'static {
    /// Returns what does not change while the process runs, or only slowly.
    fn facts(&self) -> Facts;

    /// Returns the number of flows that the words select.
    ///
    /// # Errors
    /// [`TableError`] if the words are refused, or the kernel fails.
    fn count(&self, words: &[String]) -> Result<u64, TableError>;

    /// Writes the flows that the words select, whole lines at a time, and returns their number.
    ///
    /// # Errors
    /// [`TableError`]; [`TableError::Gone`] if writing failed.
    fn list(&self, words: &[String], form: Form, out: &mut dyn Write) -> Result<u64, TableError>;

    /// Writes the groups that the words ask for, of the flows that they select, as [`crate::groups::write`] does, and
    /// returns the number of these flows.
    ///
    /// # Errors
    /// [`TableError`]; [`TableError::Gone`] if writing failed.
    fn group(&self, words: &[String], out: &mut dyn Write) -> Result<u64, TableError> {
        let _ = (words, out);
        Err(TableError::Refused("this agent groups no flows".into()))
    }

    /// Begins to write the events that the words select, an object of JSON on each line. When this returns, all that
    /// happens from then on is written. The words are those of `flowgate -E`.
    ///
    /// # Errors
    /// [`TableError`]
    fn watch(&self, words: &[String], out: EventWriter) -> Result<Watching, TableError> {
        let _ = (words, out);
        Err(TableError::Refused("this agent watches no events".into()))
    }

    /// Writes the kernel's counters, a line for each CPU, and returns the number of lines.
    ///
    /// # Errors
    /// [`TableError`]; [`TableError::Gone`] if writing failed.
    fn stats(&self, form: Form, out: &mut dyn Write) -> Result<u64, TableError>;

    /// Returns what an action on these flows would touch, and touches nothing. The agent's own connection is never
    /// among them.
    ///
    /// # Errors
    /// [`TableError`]
    fn plan(&self, action: Action, words: &[String]) -> Result<Touched, TableError>;

    /// Does it, and returns the number of flows that were touched.
    ///
    /// # Errors
    /// [`TableError`]
    fn act(&self, action: Action, words: &[String]) -> Result<u64, TableError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_do_not_depend_on_the_order() {
        let of = |lines: &[&str]| {
            let mut hash = SetHash::default();
            lines.iter().for_each(|line| hash.add(line.as_bytes()));
            hash.digits()
        };
        assert_eq!(of(&["a", "b"]), of(&["b", "a"]));
        assert_ne!(of(&["a", "b"]), of(&["a", "a"]));
        assert_ne!(of(&["a", "b"]), of(&["ab"]));
        assert_eq!(of(&[]).len(), 32);
    }
}
