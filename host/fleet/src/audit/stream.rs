//! The audits of all agents, as the server keeps them.

use std::time::Duration;

use futures_util::stream::StreamExt as _;

use super::{MAX_BATCH, MAX_LINE};
use crate::{
    bus::{Bus, BusError, Stored, Stream},
    names::{self, AgentId},
};

/// The stream: each message has lines of one agent, which may publish at no other subject.
pub const STREAM: Stream = Stream {
    name: names::AUDIT,
    subjects: &[names::AUDITS],
    age: None,
    last_only: false,
    permanent: true,
    max_message: MAX_BATCH + MAX_LINE,
    max_bytes: 0,
};

/// Messages that are asked for at a time.
const AT_A_TIME: usize = 16;
/// How often a message is asked for again that is not there, and after which pause.
const ATTEMPTS: usize = 3;
const BEHIND: Duration = Duration::from_millis(100);
/// The most missing messages that are told.
const MAX_MISSING: usize = 1000;

/// Reads the lines of all agents, each agent's in their order. `take` gets the agent and a line without its newline, and
/// returns false to end. Returns the numbers of messages that the stream had and does not have any more.
///
/// # Errors
/// [`BusError`] if the stream cannot be read.
pub async fn read_all<B: Bus>(bus: &B, mut take: impl FnMut(&AgentId, &[u8]) -> bool) -> Result<Vec<u64>, BusError> {
    let (first, last) = bus.extent(names::AUDIT).await?;
    // Messages are numbered from 1 and none is deleted; one that is missing at the beginning is missing, too.
    let mut missing: Vec<u64> = (1..first).take(MAX_MISSING).collect();
    let most = missing.len() + MAX_MISSING;
    let messages = futures_util::stream::iter(first..=last).map(|sequence| async move {
        let mut message = bus.at(names::AUDIT, sequence).await;
        // A copy in a cluster may be a moment behind.
        for _ in 0..ATTEMPTS {
            if !matches!(message, Ok(None)) {
                break;
            }
            tokio::time::sleep(BEHIND).await;
            message = bus.at(names::AUDIT, sequence).await;
        }
        (sequence, message)
    });
    let mut messages = messages.buffered(AT_A_TIME);
    while let Some((sequence, message)) = messages.next().await {
        let Some(Stored { subject, payload, .. }) = message? else {
            missing.push(sequence);
            if missing.len() > most {
                return Err(BusError::Store(format!("more than {MAX_MISSING} messages are missing up to {sequence}")));
            }
            continue;
        };
        let Some(agent) = names::audited(&subject) else { continue };
        for line in payload.strip_suffix(b"\n").unwrap_or(&payload).split(|&byte| byte == b'\n') {
            if !take(&agent, line) {
                return Ok(missing);
            }
        }
    }
    Ok(missing)
}
