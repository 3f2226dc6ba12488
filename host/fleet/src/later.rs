//! Plans for agents that are absent when a plan is applied, and that say that these do it later.
//!
//! The server keeps such a plan for each absent agent, and a list of them, which that agent alone reads when it connects.
//! Whatever is there is checked as any other command is.

use std::time::Duration;

use futures_util::stream::StreamExt as _;
use serde::{Deserialize, Serialize};

use crate::{
    bus::{Bus, BusError, Stream},
    message::{self, MAX_COMMAND},
    names::{self, AgentId, PlanId},
    plan::{self, MAX_LIFE, Plan, SignedPlan},
};

/// The stream of plans and of lists of them.
pub const STREAM: Stream = Stream {
    name: names::COMMANDS,
    subjects: &[names::LEFT],
    // No plan is valid for longer.
    age: Some(Duration::from_secs(MAX_LIFE)),
    last_only: true,
    permanent: false,
    max_message: MAX_COMMAND,
    max_bytes: 256 << 20,
};

/// The most notes for an agent.
pub const MAX_NOTES: usize = 64;
/// The most bytes of a list of notes.
const MAX_LIST: usize = 16 << 10;
/// Agents that are written to at a time.
const AT_A_TIME: usize = 32;
/// How often a note is tried while others write to the same agent.
const ATTEMPTS: usize = 20;

/// That there is a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Note {
    /// The plan.
    pub plan: PlanId,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    /// How many signatures it has, so that one more makes it worth another look.
    pub signatures: usize,
}

/// Why a plan could not be left for an agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaveError {
    /// The plan has no id that is one.
    #[error(transparent)]
    Id(#[from] names::NameError),
    /// The server does not take it.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// There are too many.
    #[error("{MAX_NOTES} plans wait for it already")]
    Full,
}

/// Reads a list of notes.
///
/// # Errors
/// [`message::MessageError`] if it is none, or too long.
pub fn read(bytes: &[u8]) -> Result<Vec<Note>, message::MessageError> {
    let notes: Vec<Note> = message::read(bytes, MAX_LIST)?;
    if notes.len() > MAX_NOTES {
        return Err(message::MessageError::Many(format!("{} notes; it may have {MAX_NOTES}", notes.len())));
    }
    Ok(notes)
}

/// Leaves a plan for agents, and returns for each how that went.
///
/// # Errors
/// [`LeaveError`] if it could be left for none of them.
pub async fn leave<B: Bus>(
    bus: &B,
    plan: &Plan,
    signed: &SignedPlan,
    agents: &[AgentId],
) -> Result<Vec<Result<(), LeaveError>>, LeaveError> {
    let note = Note { plan: plan.id.parse()?, expires: plan.expires, signatures: signed.signatures.len() };
    bus.prepare_stream(&STREAM).await?;
    let text = message::write(signed);
    let left = futures_util::stream::iter(agents).map(|agent| async {
        // The plan comes first, so that whoever finds the note finds it.
        replace(bus, names::left(agent, &note.plan), |_| Ok(text.clone())).await?;
        replace(bus, names::notes(agent), |last| with(last, &note)).await
    });
    Ok(left.buffered(AT_A_TIME).collect().await)
}

/// Returns a list with a note more, and without those that have expired.
fn with(last: Option<&[u8]>, note: &Note) -> Result<Vec<u8>, LeaveError> {
    // What cannot be read is of no use to the agent either.
    let mut notes = last.and_then(|bytes| read(bytes).ok()).unwrap_or_default();
    let now = plan::now();
    notes.retain(|other| other.expires > now && other.plan != note.plan);
    if notes.len() >= MAX_NOTES {
        return Err(LeaveError::Full);
    }
    notes.push(note.clone());
    Ok(message::write(&notes))
}

/// Replaces the message of a subject, also while others do.
async fn replace<B: Bus>(
    bus: &B,
    subject: String,
    next: impl Fn(Option<&[u8]>) -> Result<Vec<u8>, LeaveError>,
) -> Result<(), LeaveError> {
    let mut attempts = 0;
    loop {
        let last = bus.last(names::COMMANDS, &subject).await?;
        let after = last.as_ref().map_or(0, |stored| stored.sequence);
        let payload = next(last.as_ref().map(|stored| stored.payload.as_slice()))?;
        match bus.append(subject.clone(), payload, after).await {
            Err(BusError::Conflict(_)) if attempts < ATTEMPTS => attempts += 1,
            other => return Ok(other.map(drop)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_and_those_that_have_expired_make_room() {
        let plan = |number: usize| format!("{number:032x}").parse().unwrap();
        let note = |number: usize, expires| Note { plan: plan(number), expires, signatures: 1 };
        let never = plan::now() + 1000;
        let mut list = Vec::new();
        for number in 0..MAX_NOTES {
            list = with(Some(&list), &note(number, never)).unwrap();
            // Twice is once.
            list = with(Some(&list), &note(number, never)).unwrap();
        }
        assert!(list.len() <= MAX_LIST, "{}", list.len());
        assert_eq!(read(&list).unwrap().len(), MAX_NOTES);
        assert_eq!(with(Some(&list), &note(MAX_NOTES, never)), Err(LeaveError::Full));
        let old = message::write(&(0..MAX_NOTES).map(|number| note(number, 1)).collect::<Vec<_>>());
        assert_eq!(read(&with(Some(&old), &note(1, never)).unwrap()).unwrap(), [note(1, never)]);
        assert_eq!(read(&with(Some(b"{"), &note(1, never)).unwrap()).unwrap().len(), 1);
        for bad in [&b"{}"[..], b"[{}]", b"[{\"plan\":\"x\",\"expires\":1}]", &[b' '; MAX_LIST + 1]] {
            assert!(read(bad).is_err());
        }
        let many = message::write(&(0..=MAX_NOTES).map(|number| note(number, never)).collect::<Vec<_>>());
        assert!(read(&many).is_err());
    }
}
