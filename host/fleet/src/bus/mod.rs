//! The bus: messages between agents and operators, and the registry. [`Nats`] is the one of real fleets, [`Memory`] one
//! in the process, for tests.

mod memory;
mod nats;
mod stream;

use std::{future::Future, time::Duration};

use flowgate_base::text::clean;
use tokio::sync::watch;

pub use memory::Memory;
pub(crate) use nats::reasons;
pub use nats::{ConnectError, Connection, Nats, ServerFacts};
pub use stream::{Stored, Stream, Streams};

/// A message as it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The subject that it was sent to.
    pub subject: String,
    /// Where an answer goes.
    pub reply: Option<String>,
    /// The content.
    pub payload: Vec<u8>,
    /// True if it comes from the server, instead of an answer: nobody takes messages at the subject.
    pub nobody: bool,
}

/// Why something could not be sent, or was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Nobody takes messages at the subject.
    #[error("nobody is connected who takes it")]
    Nobody,
    /// There was no answer in time.
    #[error("no answer within {}", flowgate_base::units::show_time(*.0))]
    TimedOut(Duration),
    /// The server does not permit it.
    #[error("the server does not permit it: {}", clean(.0))]
    Denied(String),
    /// Another message has come first, or the value of a key is not the one that was to be replaced.
    #[error("another message has come first: {}", clean(.0))]
    Conflict(String),
    /// JetStream, which has the registry, refuses.
    #[error("the server's JetStream: {}", clean(.0))]
    Store(String),
    /// The connection failed, or something else.
    #[error("{}", clean(.0))]
    Other(String),
}

/// Messages of a subject. Dropping it ends the subscription.
pub trait Subscription: Send + 'static {
    /// Waits for the next message; `None` if the connection is closed for good.
    fn next(&mut self) -> impl Future<Output = Option<Delivery>> + Send;
}

/// The bus, as one user of it sees it.
pub trait Bus: Streams + Clone + Send + Sync + 'static {
    /// Messages of a subject.
    type Subscription: Subscription;

    /// Sends a message, with a subject at which answers are awaited. A subject without anybody is answered by the server.
    fn publish(
        &self,
        subject: String,
        reply: Option<String>,
        payload: Vec<u8>,
    ) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Takes messages at a subject.
    fn subscribe(&self, subject: String) -> impl Future<Output = Result<Self::Subscription, BusError>> + Send;

    /// Waits until everything that was sent is on its way to the server.
    fn flush(&self) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Sends a message and waits for one answer.
    fn request(
        &self,
        subject: String,
        payload: Vec<u8>,
        within: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, BusError>> + Send;

    /// Returns a subject for answers, which nobody else can guess or subscribe to.
    fn inbox(&self) -> String;

    /// Returns the most bytes of a message.
    fn max_payload(&self) -> usize;

    /// Counts connections, so that who waits for a change knows that the bus is there again.
    fn connections(&self) -> watch::Receiver<u64>;

    /// Creates a bucket if it does not exist.
    fn prepare(&self, bucket: &str) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Sets the value of a key of a bucket. When this returns, the server has stored it.
    fn put(&self, bucket: &str, key: &str, value: Vec<u8>) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Returns the value of a key of a bucket.
    fn get(&self, bucket: &str, key: &str) -> impl Future<Output = Result<Option<Vec<u8>>, BusError>> + Send;

    /// Returns the value of a key of a bucket, and its revision.
    fn get_revision(
        &self,
        bucket: &str,
        key: &str,
    ) -> impl Future<Output = Result<Option<(Vec<u8>, u64)>, BusError>> + Send;

    /// Sets the value of a key of a bucket if its revision is this one, 0 if it has none, and returns the new one. When
    /// this returns, the server has stored it.
    fn replace(
        &self,
        bucket: &str,
        key: &str,
        value: Vec<u8>,
        revision: u64,
    ) -> impl Future<Output = Result<u64, BusError>> + Send;

    /// Returns all keys of a bucket.
    fn keys(&self, bucket: &str) -> impl Future<Output = Result<Vec<String>, BusError>> + Send;

    /// Removes a key of a bucket.
    fn remove(&self, bucket: &str, key: &str) -> impl Future<Output = Result<(), BusError>> + Send;
}
