//! Delivering batches.

use std::{collections::VecDeque, future::poll_fn, time::Duration};

use flowgate_base::{Backoff, Warnings, text::clean, units::show_time};
use tokio::time::{Instant, sleep_until};

use super::{Batches, Link, Said, Stream, Token};
use crate::random;

/// The most batches on their way.
pub const MAX_UNACKNOWLEDGED: usize = 8;

/// How long nothing may be acknowledged before the connection is made anew.
const SILENCE: Duration = Duration::from_secs(10);
/// Pauses after refusals.
const REFUSED: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));

/// A batch on its way.
struct Sent {
    number: u64,
    stored: bool,
}

/// What is going on.
struct Shipping<'a, B> {
    batches: &'a mut B,
    name: &'a str,
    warnings: &'a Warnings,
    /// In the order of their numbers.
    sent: VecDeque<Sent>,
    round: u64,
    /// The connection that `sent` went over.
    link: Link,
    /// True if the stream is ready for them.
    prepared: bool,
    refusals: u32,
    /// Nothing is sent before.
    pause: Option<Instant>,
    /// When something was last sent or acknowledged.
    moved: Instant,
    /// True if this connection was asked to end, which it does when what it holds has left it.
    given_up: bool,
    /// What was said last, so that it is said once.
    told: String,
}

impl<B: Batches> Shipping<'_, B> {
    fn tell(&mut self, text: String) {
        if self.told != text {
            self.warnings.line(&format!("WARNING: sink {}: {text}", self.name));
            self.told = text;
        }
    }

    /// Sends everything again that is not acknowledged.
    fn rewind(&mut self) {
        self.batches.rewind();
        self.sent.clear();
        self.round += 1;
    }

    fn refused(&mut self, reason: &str) {
        self.refusals = self.refusals.saturating_add(1);
        self.pause = Some(Instant::now() + random::jitter(REFUSED.pause(self.refusals)));
        self.prepared = false;
        self.rewind();
        self.tell(format!("{}; what is written is in its spool, and it tries again.", clean(reason)));
    }

    fn stored(&mut self, token: Token) -> Result<(), String> {
        let Some(sent) = self.sent.iter_mut().find(|sent| sent.number == token.number) else { return Ok(()) };
        sent.stored = true;
        self.moved = Instant::now();
        (self.refusals, self.given_up) = (0, false);
        let mut last = None;
        while self.sent.front().is_some_and(|sent| sent.stored) {
            last = self.sent.pop_front();
        }
        if let Some(sent) = last {
            self.batches.acknowledge(sent.number)?;
        }
        if !std::mem::take(&mut self.told).is_empty() {
            self.warnings.line(&format!("NOTICE: sink {}: it is delivered again.", self.name));
        }
        Ok(())
    }

    /// Sends as much as may be on its way.
    async fn fill<S: Stream>(&mut self, stream: &S) -> Result<(), String> {
        if !self.prepared {
            if let Err(reason) = stream.prepare().await {
                self.refused(&reason);
                return Ok(());
            }
            self.prepared = true;
        }
        while self.sent.len() < MAX_UNACKNOWLEDGED {
            let Some(batch) = self.batches.next()? else { break };
            if self.sent.is_empty() {
                self.moved = Instant::now();
            }
            let token = Token { round: self.round, number: batch.number };
            if let Err(reason) = stream.send(token, &batch).await {
                self.refused(&reason);
                break;
            }
            self.sent.push_back(Sent { number: batch.number, stored: false });
        }
        Ok(())
    }
}

/// Delivers batches into a stream until there are no more. `name` is that of the sink in messages, `warnings` gets
/// them.
///
/// # Errors
/// Why batches cannot be read or removed, or that the connection was closed for good.
pub async fn ship<S: Stream, B: Batches>(
    stream: &mut S,
    batches: &mut B,
    name: &str,
    warnings: &Warnings,
) -> Result<(), String> {
    let mut link = stream.link();
    let now = Instant::now();
    let mut shipping = Shipping {
        batches,
        name,
        warnings,
        sent: VecDeque::new(),
        round: 0,
        link: Link::default(),
        prepared: false,
        refusals: 0,
        pause: None,
        moved: now,
        given_up: false,
        told: String::new(),
    };
    loop {
        let current = *link.borrow_and_update();
        if current.count != shipping.link.count {
            shipping.rewind();
            (shipping.prepared, shipping.given_up) = (false, false);
        }
        shipping.link = current;
        shipping.pause = shipping.pause.filter(|&pause| pause > Instant::now());
        let sends = current.up && shipping.pause.is_none();
        if sends {
            shipping.fill(stream).await?;
        }
        let wants = sends && shipping.pause.is_none() && shipping.sent.len() < MAX_UNACKNOWLEDGED;
        let waits = current.up && !shipping.sent.is_empty() && !shipping.given_up;
        let silent = waits.then(|| shipping.moved + SILENCE);
        let wake = shipping.pause.into_iter().chain(silent).min();
        tokio::select! {
            more = poll_fn(|context| shipping.batches.poll_more(context, wants)) => if !more {
                return Ok(());
            },
            changed = link.changed() => if changed.is_err() {
                return Err("the connection was closed".into());
            },
            said = stream.said() => match said {
                Some(Said::Stored(token)) => shipping.stored(token)?,
                // Of an earlier round: what is sent now has not been answered.
                Some(Said::Refused(token, reason)) => if token.round == shipping.round {
                    shipping.refused(&reason);
                },
                Some(Said::Denied(reason)) => shipping.refused(&reason),
                None => return Err("the connection was closed".into()),
            },
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                if silent.is_some_and(|silent| silent <= Instant::now()) {
                    shipping.tell(format!(
                        "nothing was acknowledged within {}; connecting again; what is written is in its spool.",
                        show_time(SILENCE)
                    ));
                    shipping.given_up = true;
                    stream.reconnect().await;
                }
            },
        }
        if current.up && !link.borrow().up {
            shipping.tell("the connection broke; connecting again; what is written is in its spool.".into());
        }
    }
}
