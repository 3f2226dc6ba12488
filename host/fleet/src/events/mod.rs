//! Events: batches of lines that are delivered into a stream, each once, in their order.
//!
//! Batches come from a spool on disk ([`Batches`]) and leave it when the stream has stored them. After a connection
//! broke, or a restart, those that were on their way are sent again with the ids that they had, by which the stream
//! knows them. [`ship`] does that on any [`Stream`]; [`NatsStream`] is the real one.

mod nats;
mod ship;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    task::{Context, Poll},
};

use tokio::sync::watch;

pub use nats::{NatsStream, StreamOptions, create};
pub use ship::{MAX_UNACKNOWLEDGED, ship};

/// The header that a gap has instead of rows: how many lines are missing at least.
pub const GAP_HEADER: &str = "Flowgate-Gap";

/// A message for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its number, which grows.
    pub number: u64,
    /// What tells it from all others, and is the same whenever it is sent.
    pub id: String,
    /// Its content.
    pub payload: Vec<u8>,
    /// For a gap, the lines that are missing.
    pub gap: Option<u64>,
}

/// Where batches come from.
pub trait Batches {
    /// Returns the next batch; `None` if there is none yet.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn next(&mut self) -> Result<Option<Batch>, String>;

    /// Removes all batches up to this number: the stream has stored them.
    ///
    /// # Errors
    /// Why that cannot be noted.
    fn acknowledge(&mut self, number: u64) -> Result<(), String>;

    /// Begins anew with the first that is not acknowledged.
    fn rewind(&mut self);

    /// Waits until there is a batch, if `more` is true, or until nothing is to be delivered any more. Returns true if
    /// there is a batch.
    fn poll_more(&mut self, context: &mut Context<'_>, more: bool) -> Poll<bool>;
}

/// The connection to a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The number of connections so far.
    pub count: u64,
    /// True if there is one now.
    pub up: bool,
}

/// What a stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A batch is stored.
    Stored(Token),
    /// A batch is refused, for a reason.
    Refused(Token, String),
    /// Something is not permitted.
    Denied(String),
}

/// What an answer is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Grows each time that everything on its way is sent again.
    pub round: u64,
    /// The number of the batch.
    pub number: u64,
}

/// A stream, as who sends into it sees it.
pub trait Stream {
    /// Returns the state of the connection, which is made again whenever it breaks.
    fn link(&self) -> watch::Receiver<Link>;

    /// Sends a batch, without waiting for an answer.
    ///
    /// # Errors
    /// Why it cannot be sent.
    fn send(&self, token: Token, batch: &Batch) -> impl Future<Output = Result<(), String>>;

    /// Waits for what the stream says; `None` if it says nothing any more.
    fn said(&mut self) -> impl Future<Output = Option<Said>>;

    /// Breaks the connection, and makes another one.
    fn reconnect(&self) -> impl Future<Output = ()>;

    /// Prepares for sending after a connection was made, or a refusal.
    ///
    /// # Errors
    /// Why that is not possible.
    fn prepare(&self) -> impl Future<Output = Result<(), String>>;
}
