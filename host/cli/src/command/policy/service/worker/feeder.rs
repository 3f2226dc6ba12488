//! Passes the events of a tenant's queue to its worker.
//!
//! The thread that distributes events passes them on ([`Outlet::pass`]), which never blocks. What would block, because
//! the worker does not keep up or the owner of a port has to be searched for, is left to a thread of the tenant
//! ([`Outlet::serve`]) until it has emptied the queue.

use std::{
    io,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use flowgate_isolation::Record;
use flowgate_netlink::{Messages, process_names::ProcessNames, source::Datagram};
use flowgate_policy::delivery::{Next, Queue, QueueSource};
use flowgate_worker::{
    Link,
    protocol::{BYTES, kind},
};

/// Longest name of a process, in bytes (`TASK_COMM_LEN` is 16).
const NAME: usize = 64;
/// Maximum number of messages of a frame: the time of each takes 8 bytes.
const MESSAGES: usize = 1024;

/// The place at which a tenant's worker is fed, while there is one.
#[derive(Default)]
pub(in crate::command::policy::service) struct Outlet(Mutex<Option<Feeder>>);

impl Outlet {
    fn lock(&self) -> MutexGuard<'_, Option<Feeder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what feeds the worker, and has the thread of the queue pass what has been waiting.
    pub(super) fn attach(&self, feeder: Feeder) {
        let queue = feeder.source.queue().clone();
        *self.lock() = Some(feeder);
        queue.hand_over();
    }

    /// Forgets what feeds the worker, which has ended.
    pub(super) fn detach(&self) {
        *self.lock() = None;
    }

    /// Passes messages on without blocking; if that is not possible, the thread of the queue does. Returns when
    /// messages that wait for more are due.
    pub(in crate::command::policy::service) fn pass(&self, queue: &Queue, now: Instant) -> Option<Instant> {
        let mut feeder = match self.0.try_lock() {
            Ok(feeder) => feeder,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                queue.hand_over();
                return None;
            }
        };
        match feeder.as_mut()?.pass_now(now) {
            Passed::All => None,
            Passed::Until(due) => Some(due),
            Passed::Some => {
                queue.hand_over();
                None
            }
        }
    }

    /// Passes messages on whenever [`Outlet::pass`] could not, until the queue has ended, taking from it is
    /// interrupted, or the worker has ended.
    pub(super) fn serve(&self, queue: &Queue) {
        while queue.wait_for_turn() {
            match self.lock().as_mut().map(Feeder::pass_all) {
                Some(Ok(true)) => {}
                Some(Ok(false) | Err(_)) | None => return,
            }
        }
    }
}

/// How much has been passed on.
enum Passed {
    /// All that waited.
    All,
    /// What was due; the rest waits for more until then.
    Until(Instant),
    /// Less than was due.
    Some,
}

/// Passes events to a worker.
pub(super) struct Feeder {
    events: Link,
    source: QueueSource,
    programs: Arc<Mutex<ProcessNames>>,
    /// Number of frames that have been sent.
    sent: Arc<AtomicU64>,
    /// True once all have been sent.
    ended: Arc<AtomicBool>,
    /// What is being passed, if `passing`.
    datagram: Datagram,
    passing: bool,
    /// The bytes and the messages of it that have been passed.
    passed: (usize, usize),
    /// True if the next frame has been counted.
    counted: bool,
}

impl Feeder {
    /// Returns what passes the messages of `source` to a worker. It counts frames in `sent`, and sets `ended` at the
    /// end.
    pub(super) fn new(
        events: Link,
        source: QueueSource,
        programs: Arc<Mutex<ProcessNames>>,
        (sent, ended): (Arc<AtomicU64>, Arc<AtomicBool>),
    ) -> Self {
        let datagram = Datagram::with_capacity(0);
        Feeder { events, source, programs, sent, ended, datagram, passing: false, passed: (0, 0), counted: false }
    }

    /// Passes what is due, as far as that does not block.
    fn pass_now(&mut self, now: Instant) -> Passed {
        loop {
            // If the worker has ended, its session will know.
            if !self.pass(false).unwrap_or(false) {
                return Passed::Some;
            }
            if let Some(until) = self.source.gathers_until(now) {
                return Passed::Until(until);
            }
            match self.source.try_next(&mut self.datagram) {
                Next::Datagram => self.begin(),
                Next::Empty | Next::Interrupted => return Passed::All,
                Next::Later(_) | Next::Ended => return Passed::Some,
            }
        }
    }

    /// Passes all that waits. Returns false at the end.
    ///
    /// # Errors
    /// The worker has ended, or taking from the queue is interrupted.
    fn pass_all(&mut self) -> io::Result<bool> {
        loop {
            self.pass(true)?;
            match self.source.try_next(&mut self.datagram) {
                Next::Datagram => self.begin(),
                Next::Empty => return Ok(true),
                Next::Later(time) => self.source.queue().wait(time),
                Next::Interrupted => return Err(io::ErrorKind::Interrupted.into()),
                Next::Ended => {
                    // The worker processes what it has, and ends.
                    self.ended.store(true, Ordering::Release);
                    self.events.channel().finish();
                    return Ok(false);
                }
            }
        }
    }

    /// Begins with a datagram.
    fn begin(&mut self) {
        (self.passing, self.passed) = (true, (0, 0));
    }

    /// Passes the rest of the datagram, in as many frames as it takes. Returns false if that would block, unless it
    /// `blocks`.
    fn pass(&mut self, blocks: bool) -> io::Result<bool> {
        while self.passing {
            let Some((frame, passed)) = self.frame(blocks) else { return Ok(false) };
            if let Some(frame) = frame {
                // Counted before, so that the answer never comes first.
                if !std::mem::replace(&mut self.counted, true) {
                    self.sent.fetch_add(1, Ordering::AcqRel);
                }
                match blocks {
                    true => self.events.send(frame)?,
                    false if !self.events.try_send(frame)? => return Ok(false),
                    false => {}
                }
                self.counted = false;
            }
            self.passed = passed;
            self.passing = passed.0 < self.datagram.length;
        }
        Ok(true)
    }

    /// Returns the next frame of the datagram, and what has been passed with it: the bytes and the messages. Bytes that
    /// are no message have no frame. Returns `None` if making it would block, unless it `blocks`.
    fn frame(&self, blocks: bool) -> Option<(Option<Record>, (usize, usize))> {
        let datagram = &self.datagram;
        if datagram.gap {
            let frame = self.events.frame(kind::GAP).u64(datagram.received).bool(datagram.lost.is_some());
            let frame = datagram.lost.into_iter().fold(frame, Record::u32);
            return Some((Some(frame), (datagram.length, 0)));
        }
        let (start, first) = self.passed;
        let rest = datagram.bytes().get(start..).unwrap_or_default();
        let (mut length, mut count) = (0, 0);
        for message in Messages::new(rest).map_while(Result::ok) {
            let more = message.padded_length();
            if count > 0 && (length + more > BYTES - 8 * (count + 1) || count == MESSAGES) {
                break;
            }
            (length, count) = ((length + more).min(rest.len()), count + 1);
        }
        if count == 0 {
            return Some((None, (datagram.length, first)));
        }
        let frame = self.events_frame(start..start + length, first..first + count, blocks)?;
        Some((Some(frame), (start + length, first + count)))
    }

    fn events_frame(&self, part: Range<usize>, messages: Range<usize>, blocks: bool) -> Option<Record> {
        let bytes = self.datagram.bytes().get(part).unwrap_or_default();
        let times = self.datagram.times.get(messages).unwrap_or_default();
        let names = self.names(bytes, blocks)?;
        let received = times.first().copied().unwrap_or(self.datagram.received);
        let frame = self.events.frame(kind::EVENTS).u64(received).bool(self.source.is_prompt());
        let frame = frame.u16(u16::try_from(times.len()).unwrap_or_default());
        let frame = times.iter().fold(frame, |frame, time| frame.u64(*time));
        let frame = frame.u16(u16::try_from(names.len()).unwrap_or_default());
        let frame = names.iter().fold(frame, |frame, (port, name)| frame.u32(*port).bytes(name));
        Some(frame.append(bytes))
    }

    /// Returns the names of the processes that have caused these events. Returns `None` if one has to be searched for,
    /// unless it `blocks`.
    fn names(&self, bytes: &[u8], blocks: bool) -> Option<Vec<(u32, Vec<u8>)>> {
        let mut names: Vec<(u32, Vec<u8>)> = Vec::new();
        // Most events in a row have the same cause.
        let mut last = 0;
        for message in Messages::new(bytes).map_while(Result::ok) {
            let port = message.port;
            if std::mem::replace(&mut last, port) == port || port == 0 {
                continue;
            }
            if names.len() == 16 || names.iter().any(|(named, _)| *named == port) {
                continue;
            }
            let name = if blocks {
                ProcessNames::shared_name(&self.programs, None, port)
            } else {
                let mut programs = match self.programs.try_lock() {
                    Ok(programs) => programs,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => return None,
                };
                if programs.would_search(None, port) {
                    return None;
                }
                programs.name(None, port).map(<[u8]>::to_vec)
            };
            if let Some(mut name) = name {
                name.truncate(NAME);
                names.push((port, name));
            }
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flowgate_base::TokenBucket;
    use flowgate_isolation::Channel;
    use flowgate_netlink::wire::MESSAGE_HEADER as HEADER;
    use flowgate_policy::delivery::Gathering;

    use super::*;

    /// A frame of events.
    struct Events {
        times: Vec<u64>,
        names: Vec<(u32, Vec<u8>)>,
        bytes: Vec<u8>,
    }

    /// Returns a message with a body of this many bytes, of a process.
    fn message(length: usize, port: u32) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + length).unwrap().to_ne_bytes().to_vec();
        bytes.extend(0x0100u16.to_ne_bytes());
        bytes.extend([0; 6]);
        bytes.extend(port.to_ne_bytes());
        bytes.extend((0..length.next_multiple_of(4)).map(|at| at as u8));
        bytes
    }

    /// Passes these messages, received at 1, 2, 3 ..., and returns the frames.
    fn passed(messages: &[Vec<u8>], programs: ProcessNames) -> Vec<Events> {
        let (mut feeder, other) = feeder(Arc::new(Queue::new(0)), programs);
        let sent = feeder.sent.clone();
        feeder.datagram.fill(&messages.concat());
        feeder.datagram.times = (1..=messages.len() as u64).collect();
        feeder.begin();
        let frames = std::thread::scope(|scope| {
            let receiving = scope.spawn(|| received(other));
            assert!(feeder.pass(true).unwrap() && !feeder.passing);
            drop(feeder);
            receiving.join().unwrap()
        });
        assert_eq!(sent.load(Ordering::Acquire), frames.len() as u64);
        frames
    }

    /// Returns what passes the messages of a queue, and the other end of the channel.
    fn feeder(queue: Arc<Queue>, programs: ProcessNames) -> (Feeder, Channel) {
        let (events, other) = Channel::pair().unwrap();
        let budget = Arc::new(Mutex::new(TokenBucket::per_second(1 << 40)));
        let source = QueueSource::new(queue, budget).gathering(Gathering::always(Duration::from_secs(600)));
        (Feeder::new(Link::new(events), source, Arc::new(Mutex::new(programs)), Default::default()), other)
    }

    /// Receives all frames.
    fn received(channel: Channel) -> Vec<Events> {
        let (mut link, mut frames) = (Link::new(channel), Vec::new());
        while let Ok(frame) = link.receive() {
            assert_eq!(frame.kind, kind::EVENTS);
            let mut body = frame.body;
            let received = body.u64().unwrap();
            body.bool().unwrap();
            let times: Vec<u64> = (0..body.u16().unwrap()).map(|_| body.u64().unwrap()).collect();
            assert_eq!(times.first(), Some(&received));
            let names = 0..body.u16().unwrap();
            let names = names.map(|_| (body.u32().unwrap(), body.bytes(NAME).unwrap().to_vec())).collect();
            frames.push(Events { times, names, bytes: body.rest().to_vec() });
        }
        frames
    }

    #[test]
    fn messages_are_passed_on_where_they_are_added_as_long_as_that_does_not_block() {
        let queue = Arc::new(Queue::new(16 << 20));
        let (feeder, other) = feeder(queue.clone(), ProcessNames::fixed());
        let (sent, ended) = (feeder.sent.clone(), feeder.ended.clone());
        let outlet = Outlet::default();
        let now = Instant::now();
        let mut number = 0;
        // Adds a message that is larger than what waits for more.
        let mut add = || {
            number += 1;
            queue.push(&message(40_000, 0), &[number], 1);
        };
        add();
        assert!(outlet.pass(&queue, now).is_none() && queue.counts().waiting > 0, "there is no worker yet");
        outlet.attach(feeder);
        assert!(outlet.pass(&queue, now).is_none());
        assert_eq!((sent.load(Ordering::Acquire), queue.counts().waiting), (1, 0));
        // A small one waits for more.
        queue.push(&message(40, 0), &[2], 1);
        assert!(outlet.pass(&queue, now).is_some_and(|due| due >= now + Duration::from_secs(600)));
        assert_eq!(sent.load(Ordering::Acquire), 1);
        // The worker does not keep up. The thread has not been needed so far, but for what waited at the start.
        assert!(queue.wait_for_turn());
        while queue.counts().waiting < 1 << 20 {
            add();
            outlet.pass(&queue, now);
        }
        let frames = std::thread::scope(|scope| {
            let serving = scope.spawn(|| outlet.serve(&queue));
            let receiving = scope.spawn(|| received(other));
            (0..100).for_each(|_| {
                add();
                outlet.pass(&queue, now);
            });
            queue.close();
            serving.join().unwrap();
            receiving.join().unwrap()
        });
        assert!(ended.load(Ordering::Acquire));
        assert_eq!(sent.load(Ordering::Acquire), frames.len() as u64);
        let small = |frame: &&Events| frame.bytes.len() < 1000;
        assert_eq!(frames.iter().filter(small).map(|frame| frame.times[0]).collect::<Vec<_>>(), [2]);
        let large = frames.iter().filter(|frame| !small(frame)).map(|frame| frame.times[0]);
        assert_eq!(large.collect::<Vec<_>>(), (1..=number).collect::<Vec<_>>());
        assert_eq!(queue.counts().handed, number + 1);
    }

    #[test]
    fn names_are_searched_for_by_the_thread() {
        let queue = Arc::new(Queue::new(1 << 20));
        // No process has this port.
        let (feeder, other) = feeder(queue.clone(), ProcessNames::in_namespace(None));
        let sent = feeder.sent.clone();
        let outlet = Outlet::default();
        outlet.attach(feeder);
        assert!(queue.wait_for_turn());
        queue.push(&message(4, u32::MAX), &[1], 1);
        assert!(outlet.pass(&queue, Instant::now()).is_none());
        assert_eq!(sent.load(Ordering::Acquire), 0);
        queue.close();
        outlet.serve(&queue);
        outlet.detach();
        assert_eq!(sent.load(Ordering::Acquire), 1);
        let frames = received(other);
        assert_eq!((frames.len(), frames[0].names.len()), (1, 0));
    }

    #[test]
    fn datagrams_are_split_between_messages() {
        // More bytes than a frame has room for, more messages than it may have, and both; lengths that need padding.
        for (count, length) in
            [(1, 0), (1, 50_000), (3000, 0), (3000, 4), (2000, 101), (40, 20_001), (1024, 40), (1025, 1)]
        {
            let messages: Vec<Vec<u8>> = (0..count).map(|number| message(length + number % 3, 0)).collect();
            let frames = passed(&messages, ProcessNames::fixed());
            let together: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.clone()).collect();
            assert!(together == messages.concat(), "{count} messages of {length} bytes");
            let times: Vec<u64> = frames.iter().flat_map(|frame| frame.times.clone()).collect();
            assert_eq!(times, (1..=count as u64).collect::<Vec<_>>());
            for frame in &frames {
                let whole = Messages::new(&frame.bytes).collect::<Result<Vec<_>, _>>().unwrap();
                assert_eq!(whole.len(), frame.times.len());
                assert!(whole.len() <= MESSAGES && frame.bytes.len() + 8 * whole.len() <= BYTES);
            }
            // No more frames than it takes.
            let least = messages.concat().len().div_ceil(BYTES).max(messages.len().div_ceil(MESSAGES));
            assert!(frames.len() <= 2 * least, "{} frames for {count} messages of {length} bytes", frames.len());
        }
    }

    #[test]
    fn each_process_is_named_once_in_a_frame() {
        let mut programs = ProcessNames::fixed();
        programs.insert(None, 5, b"ulogd".to_vec());
        programs.insert(None, 6, vec![b'x'; 100]);
        (100..130).for_each(|port| programs.insert(None, port, b"many".to_vec()));
        let messages = [message(4, 0), message(4, 5), message(4, 6), message(4, 5), message(4, 7)];
        let frames = passed(&messages, programs);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].names, [(5, b"ulogd".to_vec()), (6, vec![b'x'; NAME])]);
        let mut programs = ProcessNames::fixed();
        (100..130).for_each(|port| programs.insert(None, port, b"many".to_vec()));
        let messages: Vec<Vec<u8>> = (100..130).map(|port| message(4, port)).collect();
        assert_eq!(passed(&messages, programs)[0].names.len(), 16);
    }

    #[test]
    fn a_gap_has_its_time_and_its_number() {
        for lost in [None, Some(7)] {
            let (mut feeder, other) = feeder(Arc::new(Queue::new(0)), ProcessNames::fixed());
            let datagram = &mut feeder.datagram;
            (datagram.gap, datagram.received, datagram.lost) = (true, 9, lost);
            feeder.begin();
            assert!(feeder.pass(true).unwrap());
            let mut link = Link::new(other);
            let mut body = link.receive().unwrap().body;
            assert_eq!((body.u64(), body.bool()), (Ok(9), Ok(lost.is_some())));
            assert_eq!(body.u32().ok(), lost);
        }
    }
}
