//! The queue of a tenant, with a maximum number of bytes. Events that do not fit are lost, which is reported at their
//! place, as in the stream of the kernel.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use flowgate_base::{Backoff, TokenBucket};
use flowgate_netlink::source::{Datagram, Source, SourceError};

/// Messages are combined up to this many bytes.
const TOGETHER: usize = 32 << 10;
/// Minimum interval between two reported gaps. It doubles as long as there are more, since each makes
/// the tenant read the table again.
const BETWEEN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(32));
/// Minimum interval between two batches of a tenant, for each tenant that shares a processor, unless much is waiting.
/// Waking a thread and calling its plugins costs some 50 us, an event 2 us: this spends at most a tenth of the
/// processors' time on wake-ups. The first event after a pause is delivered at once.
const GATHER_PER_TENANT: Duration = Duration::from_micros(400);
const GATHER_MAX: Duration = Duration::from_millis(100);

/// Returns the time for which messages of a tenant are collected if this many tenants share the machine.
#[must_use]
pub fn gather_time(tenants: usize) -> Duration {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let share = u32::try_from(tenants.div_ceil(processors)).unwrap_or(u32::MAX);
    GATHER_PER_TENANT.saturating_mul(share).min(GATHER_MAX)
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
    /// The waiting thread is woken from this number of bytes on.
    wake_at: usize,
    closed: bool,
    /// True while the thread that waits for messages is to stop waiting.
    interrupted: bool,
    received: u64,
    lost: u64,
    gaps: u64,
    handed: u64,
}

/// The queue. Adding to it never blocks.
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
    /// place.
    pub fn push(&self, bytes: &[u8], times: &[u64], count: u64) {
        if bytes.is_empty() {
            return;
        }
        let mut inner = self.lock();
        if inner.closed {
            return;
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
        let wake = inner.bytes >= inner.wake_at;
        drop(inner);
        if wake {
            self.ready.notify_one();
        }
    }

    /// Adds a gap.
    pub fn push_gap(&self, received: u64, lost: Option<u32>) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.gap(received, lost);
        }
        drop(inner);
        self.ready.notify_one();
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

    /// Waits until `until` for as many messages as can be combined.
    fn gather(&self, until: Instant) {
        let enough = TOGETHER.min(self.limit / 2);
        let mut inner = self.lock();
        while inner.bytes < enough && !inner.closed && !inner.interrupted {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            inner.wake_at = enough;
            inner = self.ready.wait_timeout(inner, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.wake_at = 0;
    }

    /// Waits for the next item; returns `None` at the end, and after `patience` if that is given.
    fn take(&self, patience: Option<Duration>) -> Result<Option<Item>, ()> {
        let mut inner = self.lock();
        loop {
            if inner.interrupted {
                return Err(());
            }
            if let Some(item) = inner.items.pop_front() {
                if let Item::Messages(bytes, _, count) = &item {
                    inner.bytes -= bytes.len();
                    inner.handed += count;
                }
                return Ok(Some(item));
            }
            if inner.closed {
                return Ok(None);
            }
            inner = match patience {
                None => self.ready.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let (inner, waited) =
                        self.ready.wait_timeout(inner, patience).unwrap_or_else(PoisonError::into_inner);
                    if waited.timed_out() && inner.items.is_empty() && !inner.closed && !inner.interrupted {
                        return Err(());
                    }
                    inner
                }
            };
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
    /// Time for which a few messages wait for more, and its end.
    gather: Duration,
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
            gather: GATHER_PER_TENANT,
            rest: None,
            charge: None,
        }
    }

    /// Sets the time for which messages are collected; see [`gather_time`].
    #[must_use]
    pub fn gather_time(mut self, time: Duration) -> Self {
        self.gather = time;
        self
    }

    /// Calls this before the budget is looked at: it charges the CPU time that has been used since.
    #[must_use]
    pub fn charging(mut self, charge: Box<dyn FnMut() + Send>) -> Self {
        self.charge = Some(charge);
        self
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
}

impl Source for QueueSource {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        datagram.clear();
        // Some have just been delivered: others may follow.
        if let Some(until) = self.rest.take() {
            self.queue.gather(until);
        }
        loop {
            if let Some((received, lost)) = self.gap
                && self.rest().is_zero()
                && !self.exhausted()
            {
                self.gap = None;
                self.begin_gap();
                (datagram.gap, datagram.received, datagram.lost) = (true, received, lost);
                return Ok(true);
            }
            let patience = self.gap.map(|_| self.rest().max(Duration::from_millis(20)));
            match self.queue.take(patience) {
                Err(()) if self.queue.lock().interrupted => return Err(SourceError::Kernel(libc::EINTR)),
                Err(()) => {}
                Ok(None) => return Ok(false),
                Ok(Some(Item::Gap(received, lost))) => {
                    self.gap = Some((received, add(self.gap.and_then(|gap| gap.1), lost)));
                }
                Ok(Some(Item::Messages(_, times, count))) if self.gap.is_some() || self.exhausted() => {
                    let mut inner = self.queue.lock();
                    inner.lost += count;
                    inner.handed = inner.handed.saturating_sub(count);
                    inner.gaps += u64::from(self.gap.is_none());
                    let received = times.last().copied().unwrap_or_default();
                    self.gap = Some((received, add(self.gap.and_then(|gap| gap.1), Some(small(count)))));
                }
                Ok(Some(Item::Messages(bytes, times, _))) => {
                    datagram.fill(&bytes);
                    datagram.received = times.first().copied().unwrap_or_default();
                    datagram.times = times;
                    self.rest = Some(Instant::now() + self.gather);
                    return Ok(true);
                }
            }
        }
    }

    fn is_live(&self) -> bool {
        true
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
        let kinds: Vec<(usize, Option<u32>)> = std::iter::from_fn(|| queue.take(None).unwrap())
            .map(|item| match item {
                Item::Messages(bytes, ..) => (bytes.len(), None),
                Item::Gap(_, lost) => (0, lost),
            })
            .collect();
        assert_eq!(kinds, [(60, None), (0, Some(4)), (20, None)]);
        let counts = queue.counts();
        assert_eq!((counts.received, counts.handed, counts.lost, counts.gaps), (7, 3, 4, 1));
    }

    /// Returns the time for which messages are collected, if `put` adds some.
    fn waiting(rest: Duration, put: impl FnOnce(&Queue) + Send) -> Duration {
        let queue = Queue::new(1 << 20);
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| put(&queue));
            queue.gather(start + rest);
        });
        start.elapsed()
    }

    #[test]
    fn a_few_messages_wait_for_more_and_many_do_not() {
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(600));
        assert!(waiting(short, |queue| queue.push(&[1; 60], &[1], 1)) >= short);
        assert!(waiting(long, |queue| (0..TOGETHER).step_by(64).for_each(|_| queue.push(&[1; 64], &[1], 1))) < long);
        assert!(waiting(long, Queue::close) < long);
        assert!(waiting(short, |_| ()) >= short);
        Queue::new(1 << 20).gather(Instant::now());
    }
}
