//! Events that are watched: written by the table into a bounded queue, and held for who pulls them. A watch ends with
//! its lease, which each pull renews.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{Inner, without};
use crate::{
    bus::Bus,
    event_queue::{self, EventReader, Piece},
    message::{Answer, MAX_FIRST, MAX_WAIT, MIN_FIRST, State},
    random,
    table::{Table, Watching},
};

/// The most watches at a time.
const WATCHES: usize = 8;
/// How long a watch is held for who does not pull.
const LEASE: Duration = Duration::from_secs(30);
/// How long further events are awaited once there are some, so that answers are fewer.
const GATHER: Duration = Duration::from_millis(20);

/// All watches, by their cursors.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<HashMap<String, Arc<Watch>>>);

/// A watch.
#[derive(Debug)]
pub(super) struct Watch {
    events: EventReader,
    /// Ends the events when it is dropped, also while an answer is on its way.
    watching: Mutex<Option<Watching>>,
    most: usize,
    wait: Duration,
    used: Mutex<Instant>,
    /// Locked while an answer is on its way.
    sent: tokio::sync::Mutex<Sent>,
}

/// What has been sent.
#[derive(Debug, Default)]
struct Sent {
    /// The number of answers.
    count: u64,
    /// The last answer: whether it has arrived is known only when the next one is pulled.
    last: Option<Answer>,
}

impl Watches {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Watch>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a watch.
    pub(super) fn find(&self, cursor: &str) -> Option<Arc<Watch>> {
        self.lock().get(cursor).cloned()
    }

    /// Ends a watch.
    pub(super) fn remove(&self, cursor: &str) {
        let removed = self.lock().remove(cursor);
        // Whatever ends it runs without the lock.
        drop(removed.and_then(|watch| watch.watching.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }

    /// Adds a watch, unless there are too many. Those whose lease has ended do not count.
    fn insert(&self, cursor: &str, watch: Watch) -> bool {
        let mut watches = self.lock();
        if watches.len() >= WATCHES {
            return false;
        }
        watches.insert(cursor.to_owned(), Arc::new(watch));
        true
    }

    fn is_full(&self) -> bool {
        self.lock().len() >= WATCHES
    }
}

impl Watch {
    fn used(&self) -> MutexGuard<'_, Instant> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Bus, T: Table> Inner<B, T> {
    /// Begins a watch, and answers when events are being written.
    pub(super) async fn watch(self: &Arc<Self>, words: Vec<String>, most: usize, wait: u64) -> Answer {
        let busy = || Answer::without(State::Refused, format!("{WATCHES} watch its events already; ask again"));
        if self.watches.is_full() {
            return busy();
        }
        let (writer, reader) = event_queue::channel();
        let table = self.table.clone();
        let begun = tokio::task::spawn_blocking(move || table.watch(&words, writer)).await;
        let watching = match begun {
            Ok(Ok(watching)) => watching,
            Ok(Err(error)) => return without(&error, false),
            Err(_) => return Answer::without(State::Failed, "the agent failed at this question"),
        };
        let watch = Watch {
            events: reader,
            watching: Mutex::new(Some(watching)),
            most: most.clamp(MIN_FIRST, MAX_FIRST).min(self.bus.max_payload() / 2),
            wait: Duration::from_millis(wait.min(MAX_WAIT)),
            used: Mutex::new(Instant::now()),
            sent: tokio::sync::Mutex::default(),
        };
        let cursor = random::id();
        if !self.watches.insert(&cursor, watch) {
            return busy();
        }
        tokio::spawn(self.clone().end_of_lease(cursor.clone()));
        let mut answer = Answer::new(State::Answered);
        answer.head.cursor = Some(cursor);
        answer
    }

    /// Ends a watch that nobody pulls.
    async fn end_of_lease(self: Arc<Self>, cursor: String) {
        while let Some(watch) = self.watches.find(&cursor) {
            let end = *watch.used() + LEASE;
            drop(watch);
            if end <= Instant::now() {
                self.watches.remove(&cursor);
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    /// Answers with the next events, of which those of `count` answers have arrived.
    pub(super) async fn next_events(&self, cursor: &str, watch: &Watch, count: u64) -> Answer {
        *watch.used() = Instant::now();
        let mut sent = watch.sent.lock().await;
        let last = sent.last.as_ref().filter(|_| count + 1 == sent.count);
        if let Some(last) = last {
            return last.clone();
        }
        if sent.count != count {
            let reason = format!("events {count} were asked for, and {} are next", sent.count);
            return Answer::without(State::Partial, reason);
        }
        if timeout(watch.wait, watch.events.wait()).await.is_ok() && watch.events.bytes() < watch.most {
            tokio::time::sleep(GATHER.min(watch.wait)).await;
        }
        let piece = watch.events.take(watch.most);
        if piece.is_none()
            && let Some(end) = watch.events.ended()
        {
            self.watches.remove(cursor);
            return match end {
                Ok(()) => Answer::without(State::Partial, "its events have ended"),
                Err(error) => without(&error, true),
            };
        }
        let Piece { lost, rows } = piece.unwrap_or_default();
        let mut answer = Answer::new(State::Answered);
        (answer.head.lost, answer.rows) = (lost, rows);
        answer.head.cursor = Some(cursor.to_owned());
        *sent = Sent { count: count + 1, last: Some(answer.clone()) };
        *watch.used() = Instant::now();
        answer
    }
}
