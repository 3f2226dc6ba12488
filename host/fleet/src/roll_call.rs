//! The roll call: every agent that was asked ends in exactly one state.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::names::{AgentId, AgentName};

/// How it ended with an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of its answer is here.
    Answered,
    /// A part of its answer is here.
    Partial(String),
    /// It does not do such a thing.
    Refused(String),
    /// It could not.
    Failed(String),
    /// It is there, and did not answer in time.
    Late(String),
    /// Nobody is there.
    Absent(String),
}

impl Fate {
    /// All words, in the order in which they are counted.
    pub const WORDS: [&'static str; 6] = ["answered", "partial", "refused", "failed", "late", "absent"];

    /// Returns the word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let [answered, partial, refused, failed, late, absent] = Self::WORDS;
        match self {
            Fate::Answered => answered,
            Fate::Partial(_) => partial,
            Fate::Refused(_) => refused,
            Fate::Failed(_) => failed,
            Fate::Late(_) => late,
            Fate::Absent(_) => absent,
        }
    }

    /// Returns why; `None` if it answered.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Fate::Answered => None,
            Fate::Partial(reason)
            | Fate::Refused(reason)
            | Fate::Failed(reason)
            | Fate::Late(reason)
            | Fate::Absent(reason) => Some(reason),
        }
    }
}

/// An agent in the roll call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// Its id.
    pub id: AgentId,
    /// Its name.
    pub name: AgentName,
    /// How it ended.
    pub fate: Fate,
}

/// A complete roll call, in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollCall(Vec<Called>);

/// A line of a roll call as JSON.
#[derive(Serialize)]
struct Line<'a> {
    agent: &'a str,
    id: &'a str,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl RollCall {
    /// Returns a roll call of all who were asked.
    #[must_use]
    pub fn new(mut called: Vec<Called>) -> Self {
        called.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        RollCall(called)
    }

    /// Returns the agents.
    #[must_use]
    pub fn agents(&self) -> &[Called] {
        &self.0
    }

    /// Returns how many ended in each state, in the order of [`Fate::WORDS`].
    #[must_use]
    pub fn counts(&self) -> [(&'static str, usize); 6] {
        Fate::WORDS.map(|word| (word, self.0.iter().filter(|called| called.fate.word() == word).count()))
    }

    /// Returns how many have not answered.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.0.iter().filter(|called| called.fate != Fate::Answered).count()
    }

    /// Adds something to the reason of an agent that did not answer.
    pub fn add(&mut self, agent: &AgentId, note: &str) {
        let called = self.0.iter_mut().find(|called| called.id == *agent);
        match called.map(|called| &mut called.fate) {
            Some(
                Fate::Partial(reason)
                | Fate::Refused(reason)
                | Fate::Failed(reason)
                | Fate::Late(reason)
                | Fate::Absent(reason),
            ) => *reason = format!("{reason}; {note}"),
            Some(Fate::Answered) | None => {}
        }
    }

    /// Returns one JSON object a line: each agent, and the sums.
    #[must_use]
    pub fn json(&self) -> String {
        let mut text = String::new();
        for Called { id, name, fate } in &self.0 {
            let line = Line { agent: name.as_str(), id: id.as_str(), state: fate.word(), reason: fate.reason() };
            text += &String::from_utf8_lossy(&crate::message::write(&line));
            text.push('\n');
        }
        let counts: BTreeMap<&str, usize> = self.counts().into_iter().collect();
        let sums = serde_json::json!({ "asked": self.0.len(), "states": counts });
        text + &format!("{sums}\n")
    }
}

/// As text: those who did not answer, one a line, and the sums.
impl fmt::Display for RollCall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|called| called.name.as_str().len()).max().unwrap_or_default();
        for Called { name, fate, .. } in &self.0 {
            if let Some(reason) = fate.reason() {
                let reason = flowgate_base::text::clean(reason);
                writeln!(formatter, "{:width$}  {:8}  {reason}", name.as_str(), fate.word())?;
            }
        }
        let counts = self.counts().into_iter().filter(|&(word, count)| count > 0 || word == Fate::WORDS[0]);
        let counts: Vec<String> = counts.map(|(word, count)| format!("{count} {word}")).collect();
        write!(formatter, "{} of {} agents: {}", self.0.len() - self.missing(), self.0.len(), counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ConnectKey;

    fn called(name: &str, fate: Fate) -> Called {
        Called { id: ConnectKey::generate().id(), name: name.parse().unwrap(), fate }
    }

    #[test]
    fn each_is_named_and_counted_once() {
        let roll = RollCall::new(vec![
            called("b", Fate::Absent("nobody\x1b[2J".into())),
            called("a", Fate::Answered),
            called("ccc", Fate::Late("slow".into())),
        ]);
        assert_eq!(roll.missing(), 2);
        assert_eq!(roll.counts().iter().map(|(_, count)| count).sum::<usize>(), 3);
        let text = roll.to_string();
        assert!(text.starts_with("b    absent    nobody"), "{text}");
        assert!(!text.contains('\x1b'));
        assert!(text.ends_with("1 of 3 agents: 1 answered, 1 late, 1 absent"), "{text}");
        let json = roll.json();
        let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0]["state"], "answered");
        assert_eq!(lines[3]["asked"], 3);
        assert_eq!(lines[3]["states"]["partial"], 0);
        assert_eq!(RollCall::default().to_string(), "0 of 0 agents: 0 answered");
    }
}
