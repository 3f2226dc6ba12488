//! An agent: answers questions about its host, and does what was planned and signed.
//!
//! Everything that it does for somebody is bounded: questions at a time, answers that are being pulled, and for how
//! long. Work on the table has threads of its own, and is held up by nothing but its reader.

mod action;
mod cache;
mod desired;
mod keeper;
mod later;
mod rows;
mod ship;
mod stored;
mod watches;

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use flowgate_base::{TokenBucket, Warnings};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use crate::{
    audit::Audit,
    bus::{Bus, BusError, Delivery, Subscription as _},
    journal::Journal,
    keys::Keyring,
    message::{self, Answer, Ask, Beat, Entry, MAX_COMMAND, MAX_FIRST, MAX_QUESTION, Question, State},
    names::{self, AgentId, AgentName, Label},
    random,
    table::{Table, TableError},
};
use action::Way;
use desired::Following;
pub use keeper::Keeper;
use rows::Cursor;
pub use stored::StoredError;
use watches::Watches;

/// The most questions that are worked on at a time.
const WORK: usize = 8;
/// The most answers that are being pulled at a time.
const CURSORS: usize = 16;
/// How long rows are held for who does not pull them.
const HOLD: Duration = Duration::from_secs(120);
/// The least time between two beats; the most is twice that.
const BEAT: Duration = Duration::from_secs(15);
/// The least time between two looks at the agent's entry in the registry.
const CHECK: Duration = Duration::from_secs(300);
/// The least time until another attempt to register.
const AGAIN: Duration = Duration::from_secs(2);
/// Refusals in the audit in a minute; others are refused without being recorded, so that nobody fills the disk.
const REFUSALS: u64 = 60;

/// Who an agent is, and whom it obeys.
#[derive(Debug)]
pub struct Identity {
    /// Its id.
    pub id: AgentId,
    /// Its name.
    pub name: AgentName,
    /// Its labels.
    pub labels: Vec<Label>,
    /// Whose signatures count.
    pub ring: Keyring,
}

/// What an agent has on disk.
#[derive(Debug)]
pub struct Records {
    /// The plans that have begun.
    pub journal: Journal,
    /// What it was commanded to do, refused and did.
    pub audit: Audit,
}

/// An agent.
#[derive(Debug)]
pub struct Agent<B, T>(Arc<Inner<B, T>>);

#[derive(Debug)]
struct Inner<B, T> {
    bus: B,
    table: Arc<T>,
    identity: Identity,
    boot: String,
    /// Locked for the whole of an action, so that there is one at a time.
    records: Mutex<(Records, TokenBucket)>,
    cursors: Mutex<HashMap<String, Cursor>>,
    watches: Watches,
    work: Semaphore,
    questions: AtomicU64,
    /// What it runs for the fleet.
    following: Option<Following>,
    warnings: Warnings,
}

impl<B: Bus, T: Table> Agent<B, T> {
    /// Returns an agent.
    #[must_use]
    pub fn new(bus: B, table: T, identity: Identity, records: Records, warnings: Warnings) -> Self {
        Agent(Arc::new(Inner {
            bus,
            table: Arc::new(table),
            identity,
            boot: random::id(),
            records: Mutex::new((records, TokenBucket::new(REFUSALS, Duration::from_secs(60)))),
            cursors: Mutex::new(HashMap::new()),
            watches: Watches::default(),
            work: Semaphore::new(WORK),
            questions: AtomicU64::new(0),
            following: None,
            warnings,
        }))
    }

    /// Returns the agent with what it runs for the fleet, which goes on until the keeper is stopped.
    #[must_use]
    pub fn with_keeper(mut self, keeper: Keeper) -> Self {
        // Nobody else has it yet.
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.following = Some(Following::new(keeper));
        }
        self
    }

    /// Answers until `stop` is ready.
    ///
    /// # Errors
    /// [`BusError`] if the connection is closed for good.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), BusError> {
        let inner = self.0;
        let id = &inner.identity.id;
        let mut questions = inner.bus.subscribe(names::question(id)).await?;
        let mut commands = inner.bus.subscribe(names::command(id)).await?;
        inner.bus.flush().await?;
        // They end with this.
        let mut beside = JoinSet::new();
        beside.spawn(inner.clone().ship());
        beside.spawn(inner.clone().do_later());
        let mut connections = inner.bus.connections();
        let _follow = EndTask(tokio::spawn(inner.clone().follow()).abort_handle());
        let (mut beat, mut check) = (Instant::now(), Instant::now());
        tokio::pin!(stop);
        let closed = || BusError::Other("the connection is closed".into());
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                delivery = questions.next() => {
                    tokio::spawn(inner.clone().take(delivery.ok_or_else(closed)?, false));
                }
                delivery = commands.next() => {
                    tokio::spawn(inner.clone().take(delivery.ok_or_else(closed)?, true));
                }
                () = tokio::time::sleep_until(beat) => {
                    beat = Instant::now() + random::jitter(BEAT);
                    inner.drop_cursors();
                    // A beat that cannot be sent is one that is missing, which is what beats are for.
                    let _ = inner.bus.publish(names::beat(id), None, message::write(&inner.beat())).await;
                }
                () = tokio::time::sleep_until(check) => {
                    let pause = match inner.register().await {
                        Ok(()) => CHECK,
                        Err(_) => AGAIN,
                    };
                    check = Instant::now() + random::jitter(pause);
                }
                changed = connections.changed() => {
                    match changed {
                        Ok(()) => check = check.min(Instant::now() + random::jitter(Duration::from_millis(200))),
                        // The bus does not count connections.
                        Err(_) => connections = never(),
                    }
                }
            }
        }
    }
}

/// A task that ends with this.
#[derive(Debug)]
struct EndTask(tokio::task::AbortHandle);

impl Drop for EndTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns a counter that never changes.
fn never() -> tokio::sync::watch::Receiver<u64> {
    let (sender, receiver) = tokio::sync::watch::channel(0);
    std::mem::forget(sender);
    receiver
}

impl<B: Bus, T: Table> Inner<B, T> {
    fn beat(&self) -> Beat {
        let time = flowgate_base::clock::now() / 1_000_000;
        Beat { time, boot: self.boot.clone(), questions: self.questions.load(Ordering::Relaxed) }
    }

    fn entry(&self) -> Entry {
        Entry {
            version: message::VERSION,
            name: self.identity.name.clone(),
            labels: self.identity.labels.clone(),
            boot: self.boot.clone(),
            facts: self.table.facts(),
            running: self.following.as_ref().map(|following| following.keeper.running().borrow().clone()),
        }
    }

    /// Writes the entry of the registry, if that is another one.
    async fn register(&self) -> Result<(), BusError> {
        let mut entry = self.entry();
        // It changes all the time.
        entry.facts.flows = 0;
        entry.running = entry.running.map(|running| running.without_counters());
        let (bytes, key) = (message::write(&entry), self.identity.id.as_str());
        if self.bus.get(names::REGISTRY, key).await? != Some(bytes.clone()) {
            self.bus.put(names::REGISTRY, key, bytes).await?;
        }
        Ok(())
    }

    /// Takes a message, and answers it. Nothing is sent to who awaits no answer.
    async fn take(self: Arc<Self>, delivery: Delivery, commands: bool) {
        let Some(reply) = delivery.reply else { return };
        let started = Instant::now();
        self.questions.fetch_add(1, Ordering::Relaxed);
        let limit = if commands { MAX_COMMAND } else { MAX_QUESTION };
        let mut answer = match Question::read(&delivery.payload, limit) {
            Ok(question) => self.clone().answer(question.ask, commands).await,
            Err(error) => Answer::without(State::Refused, format!("the question: {error}")),
        };
        answer.head.took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Err(error) = self.bus.publish(reply, None, answer.write()).await {
            self.warnings.line(&format!("an answer could not be sent: {error}"));
        }
    }

    async fn answer(self: Arc<Self>, ask: Ask, commands: bool) -> Answer {
        if commands != matches!(ask, Ask::Apply { .. }) {
            let reason = if commands { "this is no command" } else { "commands are not taken as questions" };
            return Answer::without(State::Refused, reason);
        }
        match ask {
            Ask::Ping => return Answer::new(State::Answered),
            Ask::Look => return self.look_at_desired().await,
            Ask::Pull { cursor, chunk } => {
                return match self.watches.find(&cursor) {
                    Some(watch) => self.next_events(&cursor, &watch, chunk).await,
                    None => self.pull(&cursor, chunk).await,
                };
            }
            Ask::Close { cursor } => {
                self.lock_cursors().remove(&cursor);
                self.watches.remove(&cursor);
                return Answer::new(State::Answered);
            }
            _ => {}
        }
        let Ok(_permit) = self.work.try_acquire() else {
            return Answer::without(State::Refused, format!("it is working on {WORK} questions already; ask again"));
        };
        match ask {
            Ask::List { words, form, first } => self.rows(first, move |table, out| table.list(&words, form, out)).await,
            Ask::Group { words, first } => self.rows(first, move |table, out| table.group(&words, out)).await,
            Ask::Watch { words, most, wait } => self.watch(words, most, wait).await,
            Ask::Stats { form } => self.rows(MAX_FIRST, move |table, out| table.stats(form, out)).await,
            other => {
                let inner = self.clone();
                let work = tokio::task::spawn_blocking(move || inner.work_on(other));
                work.await.unwrap_or_else(|_| Answer::without(State::Failed, "the agent failed at this question"))
            }
        }
    }

    /// Answers what takes a while, but not many rows.
    fn work_on(&self, ask: Ask) -> Answer {
        let result = match ask {
            Ask::Status => {
                let mut answer = Answer::new(State::Answered);
                answer.head.entry = Some(self.entry());
                Ok(answer)
            }
            Ask::Count { words } => self.table.count(&words).map(|flows| {
                let mut answer = Answer::new(State::Answered);
                answer.head.flows = Some(flows);
                answer
            }),
            Ask::Plan { action, words } => self.table.plan(action, &words).map(|touched| {
                let mut answer = Answer::new(State::Answered);
                answer.head.touched = Some(touched);
                answer
            }),
            Ask::Apply { plan } => Ok(self.apply(&plan, Way::Asked)),
            Ask::Ping
            | Ask::Look
            | Ask::List { .. }
            | Ask::Group { .. }
            | Ask::Watch { .. }
            | Ask::Stats { .. }
            | Ask::Pull { .. }
            | Ask::Close { .. } => Ok(Answer::new(State::Answered)),
        };
        result.unwrap_or_else(|error| without(&error, false))
    }
}

/// Returns the answer for an error; `some` is true if something was answered or done before it.
fn without(error: &TableError, some: bool) -> Answer {
    let state = match error {
        TableError::Refused(_) => State::Refused,
        _ if some => State::Partial,
        _ => State::Failed,
    };
    Answer::without(state, error.to_string())
}
