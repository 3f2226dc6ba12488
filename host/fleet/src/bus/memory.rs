//! A bus in the process, for tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use super::{Bus, BusError, Delivery, Stored, Stream, Subscription};

#[derive(Debug)]
struct Interest {
    subject: String,
    sender: mpsc::UnboundedSender<Delivery>,
}

#[derive(Debug, Default)]
struct Shared {
    interests: Vec<Interest>,
    /// Values with their revisions, by bucket and key.
    buckets: BTreeMap<String, BTreeMap<String, (Vec<u8>, u64)>>,
    revision: u64,
    /// Subjects at which messages vanish, as if who takes them had been stopped.
    frozen: BTreeSet<String>,
    /// Messages that were sent, as far as there is room for them.
    sent: Vec<(String, Vec<u8>)>,
    /// The bytes of these.
    kept: usize,
    /// The bytes of messages that have not been taken, and the most that there were at a time.
    waiting: usize,
    peak: usize,
}

/// The most bytes of sent messages that are kept.
const KEPT: usize = 8 << 20;

/// A bus in the process. Clones are connections to the same one.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    shared: Arc<Mutex<Shared>>,
    /// True if nothing reaches the bus over this connection.
    cut: Arc<AtomicBool>,
    streams: Arc<Mutex<BTreeMap<String, Kept>>>,
    connections: Arc<watch::Sender<u64>>,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Kept {
    stream: Stream,
    pub(super) messages: BTreeMap<u64, Stored>,
    /// The number of the last message that there was.
    pub(super) last: u64,
    /// The number of messages that will be kept, but whose acknowledgement is lost.
    losing: u32,
}

impl Kept {
    pub(super) fn new(stream: Stream) -> Self {
        Kept { stream, messages: BTreeMap::new(), last: 0, losing: 0 }
    }

    pub(super) fn takes(&self, subject: &str) -> bool {
        self.stream.subjects.iter().any(|pattern| matches(pattern, subject))
    }

    /// Appends a message, and returns its number, and true if the acknowledgement is lost.
    pub(super) fn append(&mut self, subject: &str, payload: &[u8], after: u64) -> Result<(u64, bool), BusError> {
        let last = self.messages.values().rev().find(|stored| stored.subject == subject).map(|stored| stored.sequence);
        if last.unwrap_or(0) != after {
            return Err(BusError::Conflict(format!("wrong last sequence: {}", last.unwrap_or(0))));
        }
        if payload.len() > self.stream.max_message {
            return Err(BusError::Store("message size exceeds maximum allowed".into()));
        }
        if self.stream.last_only {
            last.map(|last| self.messages.remove(&last));
        }
        self.last += 1;
        let stored = Stored { sequence: self.last, subject: subject.to_owned(), payload: payload.to_vec() };
        self.messages.insert(self.last, stored);
        let lost = self.losing > 0;
        self.losing = self.losing.saturating_sub(1);
        Ok((self.last, lost))
    }
}

/// Messages of a subject.
#[derive(Debug)]
pub struct MemorySubscription(mpsc::UnboundedReceiver<Delivery>, Memory);

impl Subscription for MemorySubscription {
    async fn next(&mut self) -> Option<Delivery> {
        let delivery = self.0.recv().await?;
        self.1.lock().waiting -= delivery.payload.len();
        Some(delivery)
    }
}

impl Drop for MemorySubscription {
    fn drop(&mut self) {
        self.0.close();
        while let Ok(delivery) = self.0.try_recv() {
            self.1.lock().waiting -= delivery.payload.len();
        }
    }
}

/// Returns true if a subject is one of those that a pattern stands for.
fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

impl Memory {
    /// Returns another connection to the same bus, which can be cut off by itself.
    #[must_use]
    pub fn connection(&self) -> Self {
        Memory { cut: Arc::default(), ..self.clone() }
    }

    /// Cuts this connection and its clones off, so that whatever is asked over it fails, or joins it again.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }

    fn connected(&self) -> Result<MutexGuard<'_, Shared>, BusError> {
        match self.cut.load(Ordering::SeqCst) {
            true => Err(BusError::Other("the connection is cut".into())),
            false => Ok(self.lock()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes messages to a subject vanish, as if who takes them had been stopped, until it is thawed.
    pub fn freeze(&self, subject: &str, frozen: bool) {
        let mut shared = self.lock();
        match frozen {
            true => shared.frozen.insert(subject.to_owned()),
            false => shared.frozen.remove(subject),
        };
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loses the acknowledgements of the next messages of a stream.
    pub fn lose_acknowledgements(&self, stream: &str, count: u32) {
        if let Some(kept) = self.kept().get_mut(stream) {
            kept.losing = count;
        }
    }

    /// Changes the messages of a stream, as whoever has the server's files could, and as a server does that loses what
    /// it has acknowledged.
    pub fn tamper(&self, stream: &str, change: impl FnOnce(&mut BTreeMap<u64, Stored>)) {
        if let Some(kept) = self.kept().get_mut(stream) {
            change(&mut kept.messages);
            kept.last = kept.messages.keys().next_back().copied().unwrap_or_default();
        }
    }

    /// Tells all connections that they were broken and made again.
    pub fn reconnect(&self) {
        self.connections.send_modify(|count| *count += 1);
    }

    /// Returns the most bytes of messages that have waited at a time to be taken.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.lock().peak
    }

    /// Returns the messages that were sent to subjects of a pattern: the first 8 MiB of all messages.
    #[must_use]
    pub fn sent(&self, pattern: &str) -> Vec<Vec<u8>> {
        let shared = self.lock();
        let of = shared.sent.iter().filter(|(subject, _)| matches(pattern, subject));
        of.map(|(_, payload)| payload.clone()).collect()
    }
}

impl Bus for Memory {
    type Subscription = MemorySubscription;

    async fn publish(&self, subject: String, reply: Option<String>, payload: Vec<u8>) -> Result<(), BusError> {
        let mut shared = self.connected()?;
        if shared.kept < KEPT {
            shared.kept += payload.len();
            shared.sent.push((subject.clone(), payload.clone()));
        }
        if shared.frozen.contains(&subject) {
            return Ok(());
        }
        let deliver = |shared: &mut Shared, delivery: Delivery| {
            let mut taken = false;
            let length = delivery.payload.len();
            let Shared { interests, waiting, .. } = shared;
            interests.retain(|interest| {
                let wanted = matches(&interest.subject, &delivery.subject);
                let alive =
                    if wanted { interest.sender.send(delivery.clone()).is_ok() } else { !interest.sender.is_closed() };
                taken |= wanted && alive;
                *waiting += if wanted && alive { length } else { 0 };
                alive
            });
            shared.peak = shared.peak.max(shared.waiting);
            taken
        };
        let delivery = Delivery { subject, reply: reply.clone(), payload, nobody: false };
        if !deliver(&mut shared, delivery)
            && let Some(reply) = reply
        {
            deliver(&mut shared, Delivery { subject: reply, reply: None, payload: Vec::new(), nobody: true });
        }
        Ok(())
    }

    async fn subscribe(&self, subject: String) -> Result<MemorySubscription, BusError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().interests.push(Interest { subject, sender });
        Ok(MemorySubscription(receiver, self.clone()))
    }

    async fn flush(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn request(&self, subject: String, payload: Vec<u8>, within: Duration) -> Result<Vec<u8>, BusError> {
        let reply = self.inbox();
        let mut answers = self.subscribe(reply.clone()).await?;
        self.publish(subject, Some(reply), payload).await?;
        match tokio::time::timeout(within, answers.next()).await {
            Ok(Some(Delivery { nobody: false, payload, .. })) => Ok(payload),
            Ok(Some(_)) => Err(BusError::Nobody),
            Ok(None) => Err(BusError::Other("closed".into())),
            Err(_) => Err(BusError::TimedOut(within)),
        }
    }

    fn inbox(&self) -> String {
        format!("_INBOX.memory.{}", crate::random::id())
    }

    fn max_payload(&self) -> usize {
        1 << 20
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    async fn prepare(&self, bucket: &str) -> Result<(), BusError> {
        self.connected()?.buckets.entry(bucket.to_owned()).or_default();
        Ok(())
    }

    async fn put(&self, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), BusError> {
        self.connected()?.set(bucket, key, value, None).map(drop)
    }

    async fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, BusError> {
        Ok(self.get_revision(bucket, key).await?.map(|(value, _)| value))
    }

    async fn get_revision(&self, bucket: &str, key: &str) -> Result<Option<(Vec<u8>, u64)>, BusError> {
        Ok(self.connected()?.buckets.get(bucket).and_then(|values| values.get(key)).cloned())
    }

    async fn replace(&self, bucket: &str, key: &str, value: Vec<u8>, revision: u64) -> Result<u64, BusError> {
        self.connected()?.set(bucket, key, value, Some(revision))
    }

    async fn keys(&self, bucket: &str) -> Result<Vec<String>, BusError> {
        let shared = self.connected()?;
        Ok(shared.buckets.get(bucket).map(|values| values.keys().cloned().collect()).unwrap_or_default())
    }

    async fn remove(&self, bucket: &str, key: &str) -> Result<(), BusError> {
        self.connected()?.buckets.get_mut(bucket).map(|values| values.remove(key));
        Ok(())
    }
}

impl Shared {
    /// Sets a value, if its revision is the expected one, and returns the new revision.
    fn set(&mut self, bucket: &str, key: &str, value: Vec<u8>, expected: Option<u64>) -> Result<u64, BusError> {
        let values = self.buckets.get_mut(bucket).ok_or(BusError::Nobody)?;
        let found = values.get(key).map_or(0, |&(_, revision)| revision);
        if expected.is_some_and(|expected| expected != found) {
            return Err(BusError::Conflict(format!("the revision is {found}")));
        }
        self.revision += 1;
        values.insert(key.to_owned(), (value, self.revision));
        Ok(self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_nats() {
        for (pattern, subject, holds) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.b", "a", false),
            (">", "a.b", true),
        ] {
            assert_eq!(matches(pattern, subject), holds, "{pattern} {subject}");
        }
    }
}
