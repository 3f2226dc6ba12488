//! What travels: questions and their answers, entries of the registry, beats. All of it is JSON, and all of it is read
//! within limits, whoever sent it.

use flowgate_base::text::clean;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    names::{AgentName, Label, MAX_LABELS},
    plan::{Action, SignedPlan},
    running::Running,
    table::{Facts, Form, Touched},
};

/// The version of the messages.
pub const VERSION: u32 = 1;
/// The most bytes of a question.
pub const MAX_QUESTION: usize = 64 << 10;
/// The most bytes of a command, which has a plan in it.
pub const MAX_COMMAND: usize = 768 << 10;
/// The most bytes of an answer without its rows.
pub const MAX_HEAD: usize = 64 << 10;
/// The most bytes of an entry of the registry, or of a beat.
pub const MAX_ENTRY: usize = 16 << 10;
/// The most bytes of rows in the first answer.
pub const MAX_FIRST: usize = 64 << 10;
/// The fewest bytes of rows in the first answer, where there are many agents.
pub const MIN_FIRST: usize = 4 << 10;
/// The bytes of rows in a further answer, but for a longer line.
pub const CHUNK: usize = 256 << 10;
/// The longest that an answer without any events may take, in milliseconds.
pub const MAX_WAIT: u64 = 10_000;
/// The most words of a selector.
pub const MAX_WORDS: usize = 256;
/// The most bytes of all words of a selector.
pub const MAX_WORD_BYTES: usize = 32 << 10;

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is too long.
    #[error("it has {length} bytes, and may have {limit}")]
    Long {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// It is not what is expected.
    #[error("it cannot be read: {}", clean(&.0.to_string()))]
    Json(#[from] serde_json::Error),
    /// It is of another version.
    #[error("it is of version {0} of the protocol, and this is {VERSION}")]
    Version(u32),
    /// It has too many of something.
    #[error("it has {}", clean(.0))]
    Many(String),
}

/// Reads a value from JSON of at most `limit` bytes.
///
/// # Errors
/// [`MessageError`]
pub fn read<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, MessageError> {
    if bytes.len() > limit {
        return Err(MessageError::Long { length: bytes.len(), limit });
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// Returns a value as JSON.
#[must_use]
pub fn write<T: Serialize>(value: &T) -> Vec<u8> {
    // All messages are structures of texts and numbers, of which each can be written.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Checks the number and the length of words.
///
/// # Errors
/// [`MessageError::Many`]
pub fn check_words(words: &[String]) -> Result<(), MessageError> {
    let bytes: usize = words.iter().map(String::len).sum();
    if words.len() > MAX_WORDS || bytes > MAX_WORD_BYTES {
        let what = format!(
            "a selector of {} words with {bytes} bytes; it may have {MAX_WORDS} with {MAX_WORD_BYTES}",
            words.len()
        );
        return Err(MessageError::Many(what));
    }
    Ok(())
}

/// A question to one agent, or a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// The version of the protocol.
    pub version: u32,
    /// What is asked.
    #[serde(flatten)]
    pub ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// Whether the agent is there.
    Ping,
    /// What the agent says about itself.
    Status,
    /// Whether the agent has looked at what it is to run.
    Look,
    /// The number of flows.
    Count {
        /// The selector, as words of `flowgate -L`.
        words: Vec<String>,
    },
    /// Flows.
    List {
        /// The selector, as words of `flowgate -L`.
        words: Vec<String>,
        /// The form of the rows.
        form: Form,
        /// The most bytes of rows in the first answer.
        first: usize,
    },
    /// Groups of flows, as [`crate::groups::partial`] ones.
    Group {
        /// The selector and the groups, as words of `flowgate -L`.
        words: Vec<String>,
        /// The most bytes of rows in the first answer.
        first: usize,
    },
    /// Events from now on: further answers are pulled, and each comes when there are some, or a while has passed.
    Watch {
        /// The selector, as words of `flowgate -E`.
        words: Vec<String>,
        /// The most bytes of rows in an answer.
        most: usize,
        /// How long an answer without any events may take, in milliseconds.
        wait: u64,
    },
    /// The kernel's counters.
    Stats {
        /// The form of the rows.
        form: Form,
    },
    /// The next rows of an answer.
    Pull {
        /// The cursor in the answer before.
        cursor: String,
        /// The number of answers that have been received for it.
        chunk: u64,
    },
    /// No further rows are wanted.
    Close {
        /// The cursor in the answer before.
        cursor: String,
    },
    /// What an action would touch.
    Plan {
        /// What is done.
        #[serde(default)]
        action: Action,
        /// The selector, and what is set, as words of `flowgate -D` or `-U`.
        words: Vec<String>,
    },
    /// An action: taken at the subject of commands only.
    Apply {
        /// The plan, and who signed it.
        plan: SignedPlan,
    },
}

impl Question {
    /// Returns a question of this version.
    #[must_use]
    pub fn new(ask: Ask) -> Self {
        Question { version: VERSION, ask }
    }

    /// Reads a question, or a command, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`MessageError`]
    pub fn read(bytes: &[u8], limit: usize) -> Result<Self, MessageError> {
        // The version comes first: what else another version has, this one does not know.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = read(bytes, limit)?;
        if version != VERSION {
            return Err(MessageError::Version(version));
        }
        let question: Question = read(bytes, limit)?;
        match &question.ask {
            Ask::Count { words }
            | Ask::List { words, .. }
            | Ask::Group { words, .. }
            | Ask::Watch { words, .. }
            | Ask::Plan { words, .. } => check_words(words)?,
            _ => {}
        }
        Ok(question)
    }
}

/// How an agent fared with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Answered, or the beginning of an answer.
    Answered,
    /// Not all of the answer is there, and no more will come.
    Partial,
    /// The agent does not do such a thing.
    Refused,
    /// The agent, or its kernel, could not.
    Failed,
}

/// What an answer has besides rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the protocol.
    pub version: u32,
    /// How the agent fared.
    pub state: State,
    /// Why, unless it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The agent's clock, in milliseconds since 1970.
    pub time: u64,
    /// How long the agent worked on this, in microseconds.
    #[serde(default)]
    pub took: u64,
    /// The number of flows, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<u64>,
    /// How many events before those of this answer were lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// Where further rows are to be pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// What the agent says about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
    /// What an action would touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touched: Option<Touched>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An answer: a line of JSON, and rows after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What it has besides rows.
    pub head: Head,
    /// Whole lines.
    pub rows: Vec<u8>,
}

impl Answer {
    /// Returns an answer without rows.
    #[must_use]
    pub fn new(state: State) -> Self {
        let head = Head {
            version: VERSION,
            state,
            reason: None,
            time: flowgate_base::clock::now() / 1_000_000,
            took: 0,
            flows: None,
            lost: 0,
            cursor: None,
            entry: None,
            touched: None,
        };
        Answer { head, rows: Vec::new() }
    }

    /// Returns an answer that says why there is none.
    #[must_use]
    pub fn without(state: State, reason: impl Into<String>) -> Self {
        let mut answer = Self::new(state);
        let reason = reason.into();
        answer.head.reason = Some(reason.chars().take(2048).collect());
        answer
    }

    /// Returns it as bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = write(&self.head);
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.rows);
        bytes
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`MessageError`]
    pub fn read(bytes: &[u8]) -> Result<Self, MessageError> {
        let end = bytes.iter().take(MAX_HEAD + 1).position(|&byte| byte == b'\n').unwrap_or(bytes.len());
        let (head, rows) = bytes.split_at(end);
        let head: Head = read(head, MAX_HEAD)?;
        if head.version != VERSION {
            return Err(MessageError::Version(head.version));
        }
        if let Some(entry) = &head.entry {
            entry.check()?;
        }
        Ok(Answer { head, rows: rows.get(1..).unwrap_or_default().to_vec() })
    }
}

/// What is known of an agent, and what it says about itself. Its id is the key in the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The version of the protocol.
    pub version: u32,
    /// Its name.
    pub name: AgentName,
    /// Its labels.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// A random number of this start of the agent.
    pub boot: String,
    /// What its host says about itself.
    #[serde(default)]
    pub facts: Facts,
    /// What it runs for the fleet, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
}

impl Entry {
    /// Reads an entry.
    ///
    /// # Errors
    /// [`MessageError`]
    pub fn read(bytes: &[u8]) -> Result<Self, MessageError> {
        let entry: Entry = read(bytes, MAX_ENTRY)?;
        entry.check()?;
        Ok(entry)
    }

    fn check(&self) -> Result<(), MessageError> {
        if self.labels.len() > MAX_LABELS {
            return Err(MessageError::Many(format!("{} labels; it may have {MAX_LABELS}", self.labels.len())));
        }
        Ok(())
    }
}

/// What an agent sends from time to time, whether it is asked or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The agent's clock, in milliseconds since 1970.
    pub time: u64,
    /// A random number of this start of the agent.
    pub boot: String,
    /// The number of questions that it has answered, or refused.
    pub questions: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_back() {
        let mut answer = Answer::without(State::Partial, "why");
        answer.head.cursor = Some("c".into());
        answer.head.flows = Some(3);
        for rows in [&b""[..], b"a\n", b"\n\n", b"{}\n\xff"] {
            answer.rows = rows.to_vec();
            assert_eq!(Answer::read(&answer.write()).unwrap(), answer);
        }
    }

    #[test]
    fn what_is_too_long_or_of_another_version_is_refused() {
        let question = |ask| write(&Question::new(ask));
        let words = |count: usize, length: usize| Ask::Count { words: vec!["x".repeat(length); count] };
        assert!(Question::read(&question(words(MAX_WORDS, 1)), MAX_QUESTION).is_ok());
        for bad in [words(MAX_WORDS + 1, 1), words(2, MAX_WORD_BYTES), words(1, MAX_QUESTION)] {
            assert!(Question::read(&question(bad), MAX_QUESTION).is_err());
        }
        let other = br#"{"version":2,"ask":"dance","partner":[]}"#;
        assert!(matches!(Question::read(other, MAX_QUESTION), Err(MessageError::Version(2))));
        for bad in [&b""[..], b"{", b"[]", b"null", b"{\"version\":1}", b"{\"version\":1,\"ask\":\"x\"}", b"\xff"] {
            assert!(Question::read(bad, MAX_QUESTION).is_err());
        }
        // Deeper than any message is: the parser ends by itself.
        assert!(Question::read("[".repeat(60_000).as_bytes(), MAX_QUESTION).is_err());
        assert!(Answer::read(&vec![b' '; MAX_HEAD + 10]).is_err());
        let entry = |labels: usize| {
            let labels: Vec<String> = (0..labels).map(|number| format!("\"l{number}\"")).collect();
            format!(r#"{{"version":1,"name":"a","boot":"","labels":[{}]}}"#, labels.join(","))
        };
        assert!(Entry::read(entry(MAX_LABELS).as_bytes()).is_ok());
        assert!(Entry::read(entry(MAX_LABELS + 1).as_bytes()).is_err());
        assert!(Entry::read(br#"{"version":1,"name":"a b","boot":""}"#).is_err());
    }

    #[test]
    fn every_truncated_message_is_refused_or_read() {
        let mut answer = Answer::without(State::Failed, "reason");
        answer.rows = b"row\n".to_vec();
        let bytes = answer.write();
        for end in 0..bytes.len() {
            // No panic; a head that is cut off is no head.
            let read = Answer::read(&bytes[..end]);
            assert_eq!(read.is_ok(), end >= bytes.len() - answer.rows.len() - 1, "{end}");
        }
    }
}
