//! The queue of a tenant, with a maximum number of bytes. Events that do not fit are lost, which is reported at their
//! place, as in the stream of the kernel.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use flowgate_base::{Backoff, TokenBucket};
use flowgate_netlink::source::Datagram;

/// Messages are combined up to this many bytes.
const TOGETHER: usize = 32 << 10;
/// Minimum interval between two reported gaps. It doubles as long as there are more, since each makes
/// the tenant read the table again.
const BETWEEN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(32));
/// Interval at which an empty budget is looked at while a gap waits for it.
const BUDGET: Duration = Duration::from_millis(20);
/// Minimum interval between two batches of a busy tenant, for each tenant that shares a processor, unless much is
/// waiting. Waking a worker and calling its plugins costs some 60 us, an event 2 us: this spends at most a tenth of the
/// processors' time on wake-ups.
const GATHER_PER_TENANT: Duration = Duration::from_micros(600);
const GATHER_MAX: Duration = Duration::from_millis(100);
/// One wake-up in this many more is free: it is made at once, whichever tenant it is for.
const FREE: u128 = 4;
/// Time for which the number of free wake-ups is counted.
const PERIOD: Duration = Duration::from_millis(100);

/// When messages that arrive for a tenant are passed to its worker: at once as long as few workers are woken, and
/// otherwise together with those that follow within some time. All tenants share the number of free wake-ups, so that a
/// tenant does not wait because there are others, only because they are busy.
#[derive(Clone, Debug)]
pub struct Gathering {
    /// Time for which messages are collected.
    pub time: Duration,
    free: Arc<Mutex<TokenBucket>>,
}

impl Gathering {
    /// Returns the same with the time for tenants of whom this many share the machine, and the same free wake-ups.
    #[must_use]
    pub fn among(&self, tenants: usize) -> Self {
        let share = u32::try_from(tenants.div_ceil(processors())).unwrap_or(u32::MAX);
        Gathering { time: GATHER_PER_TENANT.saturating_mul(share).min(GATHER_MAX), free: self.free.clone() }
    }

    /// Has no free wake-ups: messages are collected for this time, unless none came for as long.
    #[must_use]
    pub fn always(time: Duration) -> Self {
        Gathering { time, free: Arc::new(Mutex::new(TokenBucket::new(0, PERIOD))) }
    }

    /// Takes a free wake-up if there is one.
    fn is_free(&self) -> bool {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).take(1) == 1
    }
}

impl Default for Gathering {
    /// For a single tenant, with free wake-ups of its own.
    fn default() -> Self {
        let free = PERIOD.as_nanos() * processors() as u128 / GATHER_PER_TENANT.as_nanos() / FREE;
        let free = TokenBucket::new(u64::try_from(free).unwrap_or(u64::MAX), PERIOD);
        Gathering { time: GATHER_PER_TENANT, free: Arc::new(Mutex::new(free)) }
    }
}

/// Returns the number of processors that the process may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// An item of the queue.
enum Item {
    /// Messages, the time of each, and the number of events among them.
    Messages(Vec<u8>, Vec<u64>, u64),
    /// A gap: its time, and the number of lost events if known.
    Gap(u64, Option<u32>),
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    bytes: usize,
    /// True if the thread of the queue is to take over, because the thread that adds messages cannot pass them on.
    handed_over: bool,
    /// True while that thread waits for messages.
    awaited: bool,
    closed: bool,
    /// True while no messages are to be taken.
    interrupted: bool,
    received: u64,
    lost: u64,
    gaps: u64,
    handed: u64,
}

/// The queue. Adding to it never blocks.
///
/// The thread that adds messages passes them on as well, as long as that does not block. If it would, the queue is
/// handed over to a thread of its own, which returns it when it has been emptied.
pub struct Queue {
    limit: usize,
    inner: Mutex<Inner>,
    ready: Condvar,
}

/// Counts of a tenant's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events in its scope.
    pub received: u64,
    /// Events that it was given.
    pub handed: u64,
    /// Events that are known to be lost.
    pub lost: u64,
    /// Gaps.
    pub gaps: u64,
    /// Bytes in the queue.
    pub waiting: usize,
}

impl Queue {
    /// Returns a queue for this many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Queue { limit, inner: Mutex::default(), ready: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds messages, of which this many are events (the others are barriers); if there is no room, a gap takes their
    /// place. Returns true if the queue has as many messages as can be combined.
    pub fn push(&self, bytes: &[u8], times: &[u64], count: u64) -> bool {
        if bytes.is_empty() {
            return false;
        }
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        inner.received += count;
        if inner.bytes + bytes.len() > self.limit {
            let received = times.last().copied().unwrap_or_default();
            inner.gap(received, Some(small(count)));
        } else {
            inner.bytes += bytes.len();
            match inner.items.back_mut() {
                Some(Item::Messages(others, theirs, before)) if others.len() + bytes.len() <= TOGETHER => {
                    others.extend_from_slice(bytes);
                    theirs.extend_from_slice(times);
                    *before += count;
                }
                _ => inner.items.push_back(Item::Messages(bytes.to_vec(), times.to_vec(), count)),
            }
        }
        let (awaited, enough) = (inner.awaited, inner.bytes >= self.enough());
        drop(inner);
        if awaited {
            self.ready.notify_one();
        }
        enough
    }

    /// Returns the number of bytes that do not wait for more.
    fn enough(&self) -> usize {
        TOGETHER.min(self.limit / 2)
    }

    /// Adds a gap, and hands over.
    pub fn push_gap(&self, received: u64, lost: Option<u32>) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.gap(received, lost);
        }
        drop(inner);
        self.hand_over();
    }

    /// Has the thread of the queue take over ([`Queue::wait_for_turn`]).
    pub fn hand_over(&self) {
        if !std::mem::replace(&mut self.lock().handed_over, true) {
            self.ready.notify_one();
        }
    }

    /// Waits until the thread of the queue is to take over, or the queue has been closed. Returns false if the waiting
    /// is interrupted.
    pub fn wait_for_turn(&self) -> bool {
        let mut inner = self.lock();
        while !inner.handed_over && !inner.closed && !inner.interrupted {
            inner = self.ready.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.handed_over = false;
        !inner.interrupted
    }

    /// Waits for messages, at most for this time.
    pub fn wait(&self, time: Duration) {
        let mut inner = self.lock();
        if inner.items.is_empty() && !inner.closed && !inner.interrupted {
            inner.awaited = true;
            inner = self.ready.wait_timeout(inner, time).unwrap_or_else(PoisonError::into_inner).0;
            inner.awaited = false;
        }
    }

    /// Closes the queue: nothing is added any more, and what it holds is still delivered.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// Ends all waiting for messages until [`Queue::resume`]; what the queue holds stays.
    pub fn interrupt(&self) {
        self.lock().interrupted = true;
        self.ready.notify_all();
    }

    /// Allows waiting for messages again.
    pub fn resume(&self) {
        self.lock().interrupted = false;
    }

    /// Returns true if nothing is added any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Closes the queue and drops what it holds.
    pub fn end(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.items.clear();
        inner.bytes = 0;
        drop(inner);
        self.ready.notify_all();
    }

    /// Returns the counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let inner = self.lock();
        Counts {
            received: inner.received,
            handed: inner.handed,
            lost: inner.lost,
            gaps: inner.gaps,
            waiting: inner.bytes,
        }
    }

    /// Takes the next item. Returns an error if there is none.
    fn take(&self) -> Result<Item, Next> {
        let mut inner = self.lock();
        if inner.interrupted {
            return Err(Next::Interrupted);
        }
        match inner.items.pop_front() {
            Some(item) => {
                if let Item::Messages(bytes, _, count) = &item {
                    inner.bytes -= bytes.len();
                    inner.handed += count;
                }
                Ok(item)
            }
            None if inner.closed => Err(Next::Ended),
            None => Err(Next::Empty),
        }
    }
}

impl Inner {
    fn gap(&mut self, received: u64, lost: Option<u32>) {
        self.lost += u64::from(lost.unwrap_or(0));
        match self.items.back_mut() {
            Some(Item::Gap(_, before)) => *before = add(*before, lost),
            _ => {
                self.gaps += 1;
                self.items.push_back(Item::Gap(received, lost));
            }
        }
    }
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn add(one: Option<u32>, two: Option<u32>) -> Option<u32> {
    match (one, two) {
        (None, None) => None,
        (one, two) => Some(one.unwrap_or(0).saturating_add(two.unwrap_or(0))),
    }
}

/// What [`QueueSource::try_next`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The datagram has been filled in.
    Datagram,
    /// The queue is empty.
    Empty,
    /// A gap is reported after this time at the earliest.
    Later(Duration),
    /// The queue has been closed, and is empty.
    Ended,
    /// Taking messages is interrupted.
    Interrupted,
}

/// The receiving end of the queue: the source of what the tenant's worker is sent.
pub struct QueueSource {
    queue: Arc<Queue>,
    /// CPU time that its plugins may still use.
    budget: Arc<Mutex<TokenBucket>>,
    /// A gap that waits until it may be reported.
    gap: Option<(u64, Option<u32>)>,
    next_gap: Option<Instant>,
    /// Number of consecutive gaps.
    gaps: u32,
    /// When a few messages wait for more, and until when they do.
    gathering: Gathering,
    rest: Option<Instant>,
    charge: Option<Box<dyn FnMut() + Send>>,
}

impl QueueSource {
    /// Returns the receiving end of a queue. While `budget` is empty, events are lost.
    #[must_use]
    pub fn new(queue: Arc<Queue>, budget: Arc<Mutex<TokenBucket>>) -> Self {
        QueueSource {
            queue,
            budget,
            gap: None,
            next_gap: None,
            gaps: 0,
            gathering: Gathering::default(),
            rest: None,
            charge: None,
        }
    }

    /// Sets when messages wait for more.
    #[must_use]
    pub fn gathering(mut self, gathering: Gathering) -> Self {
        self.gathering = gathering;
        self
    }

    /// Returns true if the next messages do not wait for more, since few workers are woken.
    #[must_use]
    pub fn is_prompt(&self) -> bool {
        self.rest.is_none()
    }

    /// Calls this before the budget is looked at: it charges the CPU time that has been used since.
    #[must_use]
    pub fn charging(mut self, charge: Box<dyn FnMut() + Send>) -> Self {
        self.charge = Some(charge);
        self
    }

    /// Returns the queue.
    #[must_use]
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Returns until when the messages in the queue wait for more; `None` if there are none, or as many as can be
    /// combined, or if nothing has been taken for a while.
    #[must_use]
    pub fn gathers_until(&self, now: Instant) -> Option<Instant> {
        let until = self.rest.filter(|until| *until > now)?;
        let inner = self.queue.lock();
        let few = inner.bytes < self.queue.enough()
            && !inner.closed
            && matches!(inner.items.front(), Some(Item::Messages(..)));
        few.then_some(until)
    }

    fn exhausted(&mut self) -> bool {
        if let Some(charge) = &mut self.charge {
            charge();
        }
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Returns the time until a gap may be reported.
    fn rest(&self) -> Duration {
        self.next_gap.map_or(Duration::ZERO, |next| next.saturating_duration_since(Instant::now()))
    }

    /// Reports a gap, and sets the earliest time of the next one.
    fn begin_gap(&mut self) {
        let now = Instant::now();
        let calm = self.next_gap.is_none_or(|next| now.saturating_duration_since(next) > BETWEEN.longest());
        self.gaps = if calm { 1 } else { self.gaps.saturating_add(1) };
        self.next_gap = Some(now + BETWEEN.pause(self.gaps));
    }

    /// Fills in the next datagram if there is one. Does not block.
    pub fn try_next(&mut self, datagram: &mut Datagram) -> Next {
        datagram.clear();
        loop {
            if let Some((received, lost)) = self.gap
                && self.rest().is_zero()
                && !self.exhausted()
            {
                self.gap = None;
                self.begin_gap();
                (datagram.gap, datagram.received, datagram.lost) = (true, received, lost);
                return Next::Datagram;
            }
            match self.queue.take() {
                Err(Next::Empty) if self.gap.is_some() => return Next::Later(self.rest().max(BUDGET)),
                Err(none) => return none,
                Ok(Item::Gap(received, lost)) => {
                    self.gap = Some((received, add(self.gap.and_then(|gap| gap.1), lost)));
                }
                Ok(Item::Messages(_, times, count)) if self.gap.is_some() || self.exhausted() => {
                    let mut inner = self.queue.lock();
                    inner.lost += count;
                    inner.handed = inner.handed.saturating_sub(count);
                    inner.gaps += u64::from(self.gap.is_none());
                    let received = times.last().copied().unwrap_or_default();
                    self.gap = Some((received, add(self.gap.and_then(|gap| gap.1), Some(small(count)))));
                }
                Ok(Item::Messages(bytes, times, _)) => {
                    datagram.fill(&bytes);
                    datagram.received = times.first().copied().unwrap_or_default();
                    datagram.times = times;
                    self.rest = (!self.gathering.is_free()).then(|| Instant::now() + self.gathering.time);
                    return Next::Datagram;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_a_gap_where_it_was() {
        let queue = Queue::new(100);
        queue.push(&[1; 60], &[1, 2], 2);
        queue.push(&[2; 60], &[3, 4, 5], 3);
        queue.push(&[3; 41], &[6], 1);
        queue.push(&[4; 20], &[7], 1);
        queue.close();
        let kinds: Vec<(usize, Option<u32>)> = std::iter::from_fn(|| queue.take().ok())
            .map(|item| match item {
                Item::Messages(bytes, ..) => (bytes.len(), None),
                Item::Gap(_, lost) => (0, lost),
            })
            .collect();
        assert_eq!(kinds, [(60, None), (0, Some(4)), (20, None)]);
        let counts = queue.counts();
        assert_eq!((counts.received, counts.handed, counts.lost, counts.gaps), (7, 3, 4, 1));
    }

    /// Returns a queue, its source, and a datagram.
    fn source(gathering: Gathering) -> (Arc<Queue>, QueueSource, Datagram) {
        let queue = Arc::new(Queue::new(1 << 20));
        let budget = Arc::new(Mutex::new(TokenBucket::per_second(1 << 40)));
        (queue.clone(), QueueSource::new(queue, budget).gathering(gathering), Datagram::new())
    }

    #[test]
    fn a_few_messages_wait_for_more_and_many_do_not() {
        let (queue, mut source, mut datagram) = source(Gathering::always(Duration::from_secs(600)));
        let put = |count: usize| {
            for _ in 0..count {
                queue.push(&[1; 64], &[1], 1);
            }
        };
        assert_eq!(source.try_next(&mut datagram), Next::Empty);
        put(1);
        let now = Instant::now();
        assert_eq!(source.gathers_until(now), None, "the first one after a pause");
        assert_eq!((source.try_next(&mut datagram), datagram.length), (Next::Datagram, 64));
        assert_eq!(source.gathers_until(now), None, "there are none");
        put(1);
        let until = source.gathers_until(now).unwrap();
        assert!(until >= now + Duration::from_secs(600), "they wait");
        assert_eq!(source.gathers_until(until), None, "the time is over");
        put(TOGETHER / 64);
        assert_eq!(source.gathers_until(now), None, "enough");
        assert_eq!((source.try_next(&mut datagram), datagram.length), (Next::Datagram, TOGETHER));
        assert!(source.gathers_until(now).is_some());
        queue.push_gap(1, None);
        queue.close();
        assert_eq!(source.gathers_until(now), None, "no more will come");
        assert_eq!((source.try_next(&mut datagram), datagram.gap), (Next::Datagram, false));
        assert_eq!((source.try_next(&mut datagram), datagram.gap), (Next::Datagram, true));
        assert_eq!(source.try_next(&mut datagram), Next::Ended);
    }

    #[test]
    fn nobody_waits_because_of_tenants_that_have_no_events() {
        let gathering = Gathering::default().among(1000);
        let (queue, mut source, mut datagram) = source(gathering.clone());
        let mut next = || {
            queue.push(&[1; 64], &[1], 1);
            assert_eq!(source.try_next(&mut datagram), Next::Datagram);
            source.is_prompt()
        };
        assert!((0..40).all(|_| next()), "few wake-ups are free");
        // Others are busy.
        let busy = (0..1_000_000).find(|_| !gathering.is_free());
        assert!(busy.is_some() && !next(), "they share the number of free wake-ups");
    }

    #[test]
    fn gaps_are_reported_once_in_a_while() {
        let (queue, mut source, mut datagram) = source(Gathering::default());
        queue.push_gap(1, Some(3));
        assert_eq!((source.try_next(&mut datagram), datagram.gap, datagram.lost), (Next::Datagram, true, Some(3)));
        queue.push_gap(2, Some(4));
        queue.push(&[1; 64], &[3], 1);
        // What follows belongs to the gap, since the worker must read the table in any case.
        let Next::Later(time) = source.try_next(&mut datagram) else { panic!("it is reported at once") };
        assert!(time > Duration::from_millis(500) && time <= BETWEEN.longest(), "{time:?}");
        let counts = queue.counts();
        assert_eq!((counts.lost, counts.handed, counts.gaps), (3 + 4 + 1, 0, 2));
        queue.interrupt();
        assert_eq!(source.try_next(&mut datagram), Next::Interrupted);
    }

    #[test]
    fn the_thread_takes_over_when_the_queue_is_handed_over() {
        let queue = Queue::new(100);
        queue.hand_over();
        assert!(queue.wait_for_turn());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.wait_for_turn());
            queue.push(&[1; 10], &[1], 1);
            assert!(!waiting.is_finished(), "what is added is passed on by the thread that has added it");
            queue.push_gap(1, None);
            assert!(waiting.join().unwrap());
            let waiting = scope.spawn(|| queue.wait_for_turn());
            queue.interrupt();
            assert!(!waiting.join().unwrap());
        });
        queue.resume();
        queue.close();
        assert!(queue.wait_for_turn() && queue.wait_for_turn());
    }
}
