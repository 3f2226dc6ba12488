//! Ships the agent's audit to the stream of audits, in order.
//!
//! Where to go on is worked out from the stream alone: its last message of this agent has the number and the hash of a
//! line. The server takes the next message only behind that one, so that nothing is there twice and nothing is missing,
//! whoever is killed in between.

use std::sync::{Arc, PoisonError};

use flowgate_base::Backoff;

use super::Inner;
use crate::{
    audit::{self, Chain, MAX_BATCH, Tail},
    bus::{Bus, BusError},
    names, random,
    table::Table,
};
use std::time::Duration;

/// Pauses after an attempt that failed.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(300));

/// How far the audit has been shipped.
#[derive(Clone, Debug)]
struct Position {
    /// The number of the stream's last message.
    sequence: u64,
    /// The number and the hash of the last line.
    number: u64,
    hash: String,
    /// Where the next line begins in the file.
    offset: u64,
}

impl<B: Bus, T: Table> Inner<B, T> {
    /// Ships lines for as long as the agent runs.
    pub(super) async fn ship(self: Arc<Self>) {
        let mut tail = self.records.lock().unwrap_or_else(PoisonError::into_inner).0.audit.tail();
        let mut connections = self.bus.connections();
        let (mut known, mut failures, mut said) = (None, 0, String::new());
        loop {
            let pause = match self.ship_all(&mut tail, &mut known).await {
                Ok(()) => {
                    failures = 0;
                    said.clear();
                    Duration::MAX
                }
                Err(error) => {
                    failures += 1;
                    // Before an operator has connected there is no stream, and after a break no server.
                    let quiet = matches!(error, BusError::Nobody | BusError::TimedOut(_) | BusError::Conflict(_));
                    let text = error.to_string();
                    if !quiet && text != said {
                        self.warnings.line(&format!("the audit cannot be shipped, and stays here: {text}"));
                        said = text;
                    }
                    random::jitter(AGAIN.pause(failures))
                }
            };
            let appended = async {
                match failures {
                    0 => tail.length.changed().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = appended => if ended.is_err() { return },
                () = tokio::time::sleep(pause) => {}
                changed = connections.changed() => match changed {
                    // A server that was killed may have lost what it had acknowledged.
                    Ok(()) => tokio::time::sleep(random::jitter(Duration::from_millis(100))).await,
                    Err(_) => connections = super::never(),
                }
            }
        }
    }

    /// Ships all lines that there are. `known` is the position of the time before, so that the file need not be
    /// searched.
    async fn ship_all(&self, tail: &mut Tail, known: &mut Option<Position>) -> Result<(), BusError> {
        let subject = names::audit(&self.identity.id);
        let mut position = self.position(&subject, tail, known.take()).await?;
        loop {
            let end = *tail.length.borrow_and_update();
            if position.offset >= end {
                *known = Some(position);
                return Ok(());
            }
            let (file, offset) = (tail.file.clone(), position.offset);
            let most = MAX_BATCH.min(self.bus.max_payload() / 2);
            let lines = blocking(move || audit::lines_from(&file, offset, end, most)).await?;
            position.offset += lines.len() as u64;
            (position.number, position.hash) = last_of(&lines);
            position.sequence = self.bus.append(subject.clone(), lines, position.sequence).await?;
            *known = Some(position.clone());
        }
    }

    /// Works out from the stream where to go on.
    async fn position(&self, subject: &str, tail: &Tail, known: Option<Position>) -> Result<Position, BusError> {
        let Some(last) = self.bus.last(names::AUDIT, subject).await? else {
            return Ok(Position { sequence: 0, number: 0, hash: String::new(), offset: 0 });
        };
        let (number, hash) = last_of(&last.payload);
        if let Some(known) = known.filter(|known| known.number == number && known.hash == hash) {
            return Ok(Position { sequence: last.sequence, ..known });
        }
        let (file, end, sum) = (tail.file.clone(), *tail.length.borrow(), hash.clone());
        let offset = blocking(move || audit::locate(&file, end, number, &sum)).await?;
        if offset.is_none() {
            self.warnings.line(&format!(
                "the server's copy of the audit ends with line {number}, which is another one here; all lines are \
                 shipped anew, and `flowgate audit verify --fleet` will tell of it"
            ));
        }
        Ok(Position { sequence: last.sequence, number, hash, offset: offset.unwrap_or(0) })
    }
}

/// Returns the number and the hash of the last of some lines.
fn last_of(lines: &[u8]) -> (u64, String) {
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    let mut chain = Chain::default();
    let (number, _) = chain.follow(lines.rsplit(|&byte| byte == b'\n').next().unwrap_or_default());
    (number, chain.hash().to_owned())
}

/// Reads the file on a thread of its own.
async fn blocking<R: Send + 'static>(
    read: impl FnOnce() -> std::io::Result<R> + Send + 'static,
) -> Result<R, BusError> {
    let failed = |error: String| BusError::Other(format!("the audit: {error}"));
    let result = tokio::task::spawn_blocking(read).await.map_err(|error| failed(error.to_string()))?;
    result.map_err(|error| failed(flowgate_base::io_error::error_text(&error)))
}
