//! An agent: answers questions about its host, and does what was planned and signed.
//!
//! Everything that it does for somebody is bounded: questions at a time, answers that are being pulled, and for how
//! long. Work on the table has threads of its own, and is held up by nothing but its reader.

use std::{
    collections::HashMap,
    future::Future,
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use flowgate_base::{TokenBucket, Warnings};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

use crate::{
    audit::Audit,
    bus::{Bus, BusError, Delivery, Subscription as _},
    journal::{Journal, JournalError},
    keys::Keyring,
    message::{
        self, Answer, Ask, Beat, CHUNK, Entry, MAX_COMMAND, MAX_FIRST, MAX_QUESTION, MIN_FIRST, Question, State,
    },
    names::{self, AgentId, AgentName, Label},
    plan::{self, Action, SignedPlan},
    random,
    table::{Table, TableError},
};

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
    work: Semaphore,
    questions: AtomicU64,
    warnings: Warnings,
}

/// An answer that is being pulled.
#[derive(Debug)]
struct Cursor {
    chunks: mpsc::Receiver<Chunk>,
    /// The number of answers that have been sent.
    sent: u64,
    used: Instant,
}

/// Rows on their way to who asked.
#[derive(Debug)]
struct Chunk {
    rows: Vec<u8>,
    /// How it ended, if these are the last ones.
    end: Option<Result<u64, TableError>>,
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
            work: Semaphore::new(WORK),
            questions: AtomicU64::new(0),
            warnings,
        }))
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
        let mut connections = inner.bus.connections();
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
        }
    }

    /// Writes the entry of the registry, if that is another one.
    async fn register(&self) -> Result<(), BusError> {
        let mut entry = self.entry();
        // It changes all the time.
        entry.facts.flows = 0;
        let (bytes, key) = (message::write(&entry), self.identity.id.as_str());
        if self.bus.get(names::REGISTRY, key).await? != Some(bytes.clone()) {
            self.bus.put(names::REGISTRY, key, bytes).await?;
        }
        Ok(())
    }

    fn lock_cursors(&self) -> std::sync::MutexGuard<'_, HashMap<String, Cursor>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what nobody has pulled for long, which ends its thread.
    fn drop_cursors(&self) {
        self.lock_cursors().retain(|_, cursor| cursor.used.elapsed() < HOLD);
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
            Ask::Pull { cursor, chunk } => return self.pull(&cursor, chunk).await,
            Ask::Close { cursor } => {
                self.lock_cursors().remove(&cursor);
                return Answer::new(State::Answered);
            }
            _ => {}
        }
        let Ok(_permit) = self.work.try_acquire() else {
            return Answer::without(State::Refused, format!("it is working on {WORK} questions already; ask again"));
        };
        match ask {
            Ask::List { words, form, first } => self.rows(first, move |table, out| table.list(&words, form, out)).await,
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
            Ask::Plan { words } => self.table.plan_delete(&words).map(|touched| {
                let mut answer = Answer::new(State::Answered);
                answer.head.touched = Some(touched);
                answer
            }),
            Ask::Apply { plan } => Ok(self.apply(&plan)),
            Ask::Ping | Ask::List { .. } | Ask::Stats { .. } | Ask::Pull { .. } | Ask::Close { .. } => {
                Ok(Answer::new(State::Answered))
            }
        };
        result.unwrap_or_else(|error| without(&error, false))
    }

    /// Answers with rows, which `write` writes on a thread of its own, and returns the first ones.
    async fn rows(
        &self,
        first: usize,
        write: impl FnOnce(&T, &mut ChunkWriter) -> Result<u64, TableError> + Send + 'static,
    ) -> Answer {
        self.drop_cursors();
        if self.lock_cursors().len() >= CURSORS {
            let reason = format!("{CURSORS} answers of it are being pulled already; ask again");
            return Answer::without(State::Refused, reason);
        }
        let most = CHUNK.min(self.bus.max_payload() / 2);
        let (sender, chunks) = mpsc::channel(1);
        let mut writer =
            ChunkWriter { sender, rows: Vec::new(), limit: first.clamp(MIN_FIRST, MAX_FIRST).min(most), most };
        let table = self.table.clone();
        tokio::task::spawn_blocking(move || {
            let end = write(&table, &mut writer);
            writer.end(end);
        });
        self.next(random::id(), Cursor { chunks, sent: 0, used: Instant::now() }).await
    }

    async fn pull(&self, id: &str, chunk: u64) -> Answer {
        // While an answer is on its way there is no cursor, so that nobody else pulls the same rows.
        let Some(cursor) = self.lock_cursors().remove(id) else {
            let held = flowgate_base::units::show_time(HOLD);
            return Answer::without(State::Partial, format!("its further rows are gone; it holds them for {held}"));
        };
        if cursor.sent != chunk {
            let reason = format!("rows {chunk} were asked for, and {} are next", cursor.sent);
            return Answer::without(State::Partial, reason);
        }
        self.next(id.to_owned(), cursor).await
    }

    /// Returns the next rows, and keeps the cursor if there are more.
    async fn next(&self, id: String, mut cursor: Cursor) -> Answer {
        let chunk = cursor.chunks.recv().await;
        let chunk = chunk.unwrap_or_else(|| Chunk {
            rows: Vec::new(),
            end: Some(Err(TableError::Failed("the agent failed at this question".into()))),
        });
        let mut answer = match chunk.end {
            None => {
                let mut answer = Answer::new(State::Answered);
                (cursor.sent, cursor.used) = (cursor.sent + 1, Instant::now());
                answer.head.cursor = Some(id.clone());
                self.lock_cursors().insert(id, cursor);
                answer
            }
            Some(Ok(flows)) => {
                let mut answer = Answer::new(State::Answered);
                answer.head.flows = Some(flows);
                answer
            }
            Some(Err(error)) => without(&error, cursor.sent > 0 || !chunk.rows.is_empty()),
        };
        answer.rows = chunk.rows;
        answer
    }

    /// Does what a plan says, if everything about it is right.
    fn apply(&self, signed: &SignedPlan) -> Answer {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, refusals) = &mut *records;
        let now = plan::now();
        let mut refuse = |records: &mut Records, id: &str, reason: String| {
            if refusals.take(1) == 1
                && let Err(error) = records.audit.append("refused", id, &reason, Vec::new())
            {
                self.warnings.line(&error.to_string());
            }
            Answer::without(State::Refused, reason)
        };
        let (plan, share) = match signed.check(&self.identity.ring, &self.identity.id, now) {
            Ok(checked) => checked,
            Err(error) => return refuse(records, "", error.to_string()),
        };
        let pairs = signed.signatures.iter().map(|of| (of.key.as_str(), of.signature.as_str()));
        let signers: Vec<String> = self.identity.ring.valid(signed.plan.as_bytes(), pairs).into_iter().collect();
        let Action::Delete = plan.action;
        let touched = match self.table.plan_delete(&plan.words) {
            Ok(touched) => touched,
            Err(TableError::Refused(reason)) => return refuse(records, &plan.id, reason),
            Err(error) => return without(&error, false),
        };
        let most = plan.most(share.touched.count);
        if touched.count > most {
            let reason = format!(
                "there are {} such flows now, the plan has {}, and {most} with its allowance of {} %; plan again",
                touched.count, share.touched.count, plan.allowance
            );
            return refuse(records, &plan.id, reason);
        }
        match records.journal.begin(&plan.id, plan.expires, now) {
            Ok(()) => {}
            Err(seen @ JournalError::Seen(_)) => return refuse(records, &plan.id, seen.to_string()),
            Err(error) => return Answer::without(State::Failed, error.to_string()),
        }
        let intent = format!("delete {} flows: {}", touched.count, plan.words.join(" "));
        if let Err(error) = records.audit.append("intent", &plan.id, &intent, signers.clone()) {
            return Answer::without(State::Failed, error.to_string());
        }
        let result = self.table.delete(&plan.words);
        let outcome = match &result {
            Ok(count) => format!("{count} flows deleted"),
            Err(error) => format!("failed: {error}"),
        };
        let recorded = records.audit.append("result", &plan.id, &outcome, signers).map_err(|error| error.to_string());
        let recorded = recorded.and(records.journal.end(&plan.id, &outcome).map_err(|error| error.to_string()));
        let mut answer = match (result, recorded) {
            (Ok(_), Ok(())) => Answer::new(State::Answered),
            (Ok(_), Err(error)) => Answer::without(State::Partial, error),
            (Err(error), _) => return without(&error, true),
        };
        answer.head.flows = outcome.split(' ').next().and_then(|count| count.parse().ok());
        answer.head.touched = Some(touched);
        answer
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

/// Cuts rows into chunks, at the ends of lines, and waits until there is room for each.
struct ChunkWriter {
    sender: mpsc::Sender<Chunk>,
    rows: Vec<u8>,
    /// The most bytes of the next chunk.
    limit: usize,
    /// The most bytes of those after it.
    most: usize,
}

impl ChunkWriter {
    fn send(&mut self, length: usize) -> io::Result<()> {
        let rest = self.rows.split_off(length);
        let rows = std::mem::replace(&mut self.rows, rest);
        self.limit = self.most;
        self.sender.blocking_send(Chunk { rows, end: None }).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Sends the rest, and how it ended.
    fn end(self, end: Result<u64, TableError>) {
        let gone = self.sender.blocking_send(Chunk { rows: self.rows, end: Some(end) });
        // Who asked is gone.
        drop(gone);
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rows.extend_from_slice(bytes);
        while self.rows.len() > self.limit {
            let newline = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
            let within = self.rows.get(..self.limit).and_then(newline);
            let next = || self.rows.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
            match within.or_else(next) {
                Some(length) => self.send(length)?,
                None => break,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_whole_lines_within_the_limit() {
        let (sender, mut chunks) = mpsc::channel(1000);
        let mut writer = ChunkWriter { sender, rows: Vec::new(), limit: 10, most: 20 };
        let mut all = Vec::new();
        for line in 0..40_u32 {
            let line = format!("{}\n", "x".repeat(line as usize));
            all.extend_from_slice(line.as_bytes());
            writer.write_all(line.as_bytes()).unwrap();
        }
        writer.end(Ok(40));
        let (mut together, mut count) = (Vec::new(), 0);
        while let Ok(chunk) = chunks.try_recv() {
            assert!(chunk.rows.is_empty() && chunk.end.is_some() || chunk.rows.ends_with(b"\n"));
            let one_line = chunk.rows.iter().filter(|&&byte| byte == b'\n').count() == 1;
            let limit = if count == 0 { 10 } else { 20 };
            assert!(chunk.rows.len() <= limit || one_line, "{chunk:?}");
            together.extend(chunk.rows);
            count += 1;
        }
        assert_eq!(together, all);
        assert!(count > 20, "{count}");
    }
}
