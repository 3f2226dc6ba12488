//! Delivering, with a stream in the process whose answers the test decides on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    task::Waker,
    time::Duration,
};

use flowgate_base::Warnings;
use tokio::sync::mpsc;

use super::*;

/// A spool in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Spool>>);

#[derive(Default)]
struct Spool {
    next: u64,
    kept: BTreeMap<u64, Batch>,
    read: u64,
    over: bool,
    waker: Option<Waker>,
}

impl Memory {
    fn put(&self, payload: &str) {
        let mut spool = self.0.lock().unwrap();
        spool.next += 1;
        let number = spool.next;
        let batch = Batch { number, id: format!("id-{number}"), payload: payload.into(), gap: None };
        spool.kept.insert(number, batch);
        spool.wake();
    }

    fn end(&self) {
        let mut spool = self.0.lock().unwrap();
        spool.over = true;
        spool.wake();
    }

    fn kept(&self) -> Vec<u64> {
        self.0.lock().unwrap().kept.keys().copied().collect()
    }
}

impl Spool {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Batches for Memory {
    fn next(&mut self) -> Result<Option<Batch>, String> {
        let mut spool = self.0.lock().unwrap();
        let next = spool.kept.range(spool.read + 1..).next().map(|(_, batch)| batch.clone());
        spool.read = next.as_ref().map_or(spool.read, |batch| batch.number);
        Ok(next)
    }

    fn acknowledge(&mut self, number: u64) -> Result<(), String> {
        let mut spool = self.0.lock().unwrap();
        spool.kept.retain(|&kept, _| kept > number);
        Ok(())
    }

    fn rewind(&mut self) {
        self.0.lock().unwrap().read = 0;
    }

    fn poll_more(&mut self, context: &mut Context<'_>, more: bool) -> Poll<bool> {
        let mut spool = self.0.lock().unwrap();
        if spool.over {
            return Poll::Ready(false);
        }
        if more && spool.kept.range(spool.read + 1..).next().is_some() {
            return Poll::Ready(true);
        }
        spool.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// A stream in the process.
struct Fake {
    link: watch::Sender<Link>,
    sent: mpsc::UnboundedSender<(Token, Batch)>,
    said: mpsc::UnboundedReceiver<Said>,
}

/// The test's end of it.
struct Server {
    link: watch::Sender<Link>,
    sent: mpsc::UnboundedReceiver<(Token, Batch)>,
    say: mpsc::UnboundedSender<Said>,
}

fn stream() -> (Fake, Server) {
    let link = watch::Sender::new(Link { count: 1, up: true });
    let (sent, received) = mpsc::unbounded_channel();
    let (say, said) = mpsc::unbounded_channel();
    (Fake { link: link.clone(), sent, said }, Server { link, sent: received, say })
}

impl Server {
    async fn receive(&mut self) -> (Token, Batch) {
        tokio::time::timeout(Duration::from_secs(20), self.sent.recv()).await.expect("a batch in time").unwrap()
    }

    /// Receives this number of batches, and returns their tokens.
    async fn batches(&mut self, count: usize) -> Vec<Token> {
        let mut tokens = Vec::new();
        for _ in 0..count {
            tokens.push(self.receive().await.0);
        }
        tokens
    }

    fn break_and_connect(&self) {
        self.link.send_modify(|link| link.up = false);
        self.link.send_modify(|link| *link = Link { count: link.count + 1, up: true });
    }
}

impl Stream for Fake {
    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    async fn send(&self, token: Token, batch: &Batch) -> Result<(), String> {
        self.sent.send((token, batch.clone())).map_err(|error| error.to_string())
    }

    async fn said(&mut self) -> Option<Said> {
        self.said.recv().await
    }

    async fn reconnect(&self) {
        self.link.send_modify(|link| *link = Link { count: link.count + 1, up: true });
    }

    async fn prepare(&self) -> Result<(), String> {
        Ok(())
    }
}

fn numbers(tokens: &[Token]) -> Vec<u64> {
    tokens.iter().map(|token| token.number).collect()
}

/// Runs a test beside what delivers to its server; returns the messages.
fn run(test: impl AsyncFnOnce(&mut Server, &Memory)) -> Vec<String> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let warnings = Warnings::new(move |line| telling.lock().unwrap().push(line.to_owned()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut fake, mut server) = stream();
        let memory = Memory::default();
        let mut batches = memory.clone();
        let test = async {
            test(&mut server, &memory).await;
            memory.end();
        };
        let (shipped, ()) = tokio::join!(ship(&mut fake, &mut batches, "nats test", &warnings), test);
        shipped.unwrap();
    });
    let told = told.lock().unwrap();
    told.clone()
}

#[test]
fn at_most_eight_are_on_their_way_and_they_leave_in_their_order() {
    let told = run(async |server, memory| {
        (1..=20).for_each(|number| memory.put(&number.to_string()));
        let tokens = server.batches(MAX_UNACKNOWLEDGED).await;
        assert_eq!(numbers(&tokens), (1..=8).collect::<Vec<u64>>());
        // Whatever is acknowledged behind the first one stays until that is.
        server.say.send(Said::Stored(tokens[1])).unwrap();
        server.say.send(Said::Stored(tokens[2])).unwrap();
        server.say.send(Said::Stored(tokens[0])).unwrap();
        assert_eq!(numbers(&server.batches(3).await), [9, 10, 11]);
        assert_eq!(memory.kept(), (4..=20).collect::<Vec<u64>>());
        assert!(server.sent.try_recv().is_err(), "eight are on their way");
    });
    assert_eq!(told, [""; 0]);
}

#[test]
fn what_was_on_its_way_is_sent_again_after_a_break_with_the_same_ids() {
    let told = run(async |server, memory| {
        (1..=3).for_each(|number| memory.put(&number.to_string()));
        let before: Vec<Batch> = [server.receive().await, server.receive().await, server.receive().await]
            .into_iter()
            .map(|(_, batch)| batch)
            .collect();
        server.break_and_connect();
        let mut after = Vec::new();
        for _ in 0..3 {
            let (token, batch) = server.receive().await;
            server.say.send(Said::Stored(token)).unwrap();
            after.push(batch);
        }
        assert_eq!(after, before);
        while !memory.kept().is_empty() {
            tokio::task::yield_now().await;
        }
    });
    assert!(told.is_empty() || told[0].contains("the connection broke"), "{told:?}");
}

#[test]
fn a_refusal_is_told_once_and_tried_again_and_an_old_one_is_none() {
    let told = run(async |server, memory| {
        memory.put("a");
        memory.put("b");
        let first = server.batches(2).await;
        let full = || "the stream does not take it: maximum bytes exceeded".to_owned();
        for &token in &first {
            server.say.send(Said::Refused(token, full())).unwrap();
        }
        let second = server.batches(2).await;
        assert_eq!(numbers(&second), [1, 2]);
        assert!(second[0].round > first[0].round);
        // An answer to what was sent before says nothing about what is on its way now.
        server.say.send(Said::Refused(first[0], "late".into())).unwrap();
        server.say.send(Said::Refused(second[0], full())).unwrap();
        for token in server.batches(2).await {
            server.say.send(Said::Stored(token)).unwrap();
        }
        while !memory.kept().is_empty() {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("sink nats test: the stream does not take it: maximum bytes exceeded"), "{told:?}");
    assert!(told[1].contains("it is delivered again"), "{told:?}");
}

#[test]
fn a_silent_server_is_connected_to_again() {
    let told = run(async |server, memory| {
        memory.put("a");
        let (first, _) = server.receive().await;
        // Nothing is said for as long as it takes.
        let (second, _) = server.receive().await;
        assert_eq!((second.number, second.round > first.round), (1, true));
        server.say.send(Said::Stored(second)).unwrap();
        while !memory.kept().is_empty() {
            tokio::task::yield_now().await;
        }
    });
    assert!(told[0].contains("nothing was acknowledged within 10s"), "{told:?}");
}

#[test]
fn nothing_is_sent_without_a_connection_and_the_end_is_seen() {
    let told = run(async |server, memory| {
        server.link.send_modify(|link| link.up = false);
        tokio::task::yield_now().await;
        memory.put("a");
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(server.sent.try_recv().is_err());
        assert_eq!(memory.kept(), [1]);
    });
    assert!(told.len() <= 1, "{told:?}");
}
