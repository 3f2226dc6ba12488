//! Counters of received messages, for metrics. They are updated once per batch or datagram, and can be read at any
//! time.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use flowgate_model::event;
use flowgate_netlink::{Socket, SocketMemory};

/// The counters of a running pipeline. Clones share the same counters.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    entries: AtomicU64,
    new: AtomicU64,
    update: AtomicU64,
    destroy: AtomicU64,
    other: AtomicU64,
    gaps: AtomicU64,
    resyncs: AtomicU64,
    lost: AtomicU64,
    malformed: AtomicU64,
    datagrams: AtomicU64,
    bytes: AtomicU64,
    shown: AtomicU64,
    /// Number of datagrams put into the queue, and of those taken from it.
    handed: AtomicU64,
    taken: AtomicU64,
    /// Capacity of the queue.
    limit: AtomicU64,
    /// The socket from which events are received, while it is open.
    socket: Mutex<Weak<Socket>>,
}

/// The values of the counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number of entries from dumps.
    pub entries: u64,
    /// Number of NEW events.
    pub new: u64,
    /// Number of UPDATE events.
    pub update: u64,
    /// Number of DESTROY events.
    pub destroy: u64,
    /// Number of events of kinds that this version does not know.
    pub other: u64,
    /// Number of times that the kernel lost events because they were not received fast enough.
    pub gaps: u64,
    /// Number of dumps of the table because of gaps.
    pub resyncs: u64,
    /// Number of messages, or rests of datagrams, that could not be decoded.
    pub malformed: u64,
    /// Number of received datagrams.
    pub datagrams: u64,
    /// Size of these datagrams in bytes.
    pub bytes: u64,
    /// Number of rows that passed the last stage.
    pub shown: u64,
    /// Number of datagrams that wait between reader and worker.
    pub waiting: u64,
    /// Capacity of the queue between them.
    pub limit: u64,
    /// Number of events that are known to be lost.
    pub lost: u64,
}

impl Counters {
    /// Counts decoded rows. `kinds` are their events ([`event`]), empty for entries.
    pub fn rows(&self, rows: usize, kinds: &[u8]) {
        let mut counts = [0u64; 5];
        for &kind in kinds {
            if let Some(count) = counts.get_mut(usize::from(kind).min(4)) {
                *count += 1;
            }
        }
        let [none, new, update, destroy, rest] = counts;
        let gaps = kinds.iter().filter(|&&kind| kind == event::GAP).count() as u64;
        add(&self.0.entries, none + (rows as u64).saturating_sub(kinds.len() as u64));
        add(&self.0.new, new);
        add(&self.0.update, update);
        add(&self.0.destroy, destroy);
        add(&self.0.other, rest.saturating_sub(gaps));
    }

    /// Counts received datagrams.
    pub fn datagrams(&self, number: usize, bytes: usize) {
        add(&self.0.datagrams, number as u64);
        add(&self.0.bytes, bytes as u64);
    }

    /// Counts a gap in which at least this many events were lost.
    pub fn gap(&self, lost: u32) {
        add(&self.0.gaps, 1);
        add(&self.0.lost, lost.into());
    }

    /// Counts a dump of the table because of lost events.
    pub(super) fn resync(&self) {
        add(&self.0.resyncs, 1);
    }

    /// Counts a message, or the rest of a datagram, that could not be decoded.
    pub fn malformed(&self) {
        add(&self.0.malformed, 1);
    }

    /// Counts rows that passed the last stage.
    pub(super) fn shown(&self, rows: u64) {
        add(&self.0.shown, rows);
    }

    /// Sets the capacity of the queue.
    pub(super) fn queue(&self, limit: usize) {
        self.0.limit.store(limit as u64, Relaxed);
    }

    /// Counts a datagram put into the queue.
    pub(super) fn handed(&self) {
        add(&self.0.handed, 1);
    }

    /// Counts a datagram taken from the queue.
    pub(super) fn taken(&self) {
        add(&self.0.taken, 1);
    }

    /// Sets the socket whose receive buffer is reported, as long as it is open.
    pub fn watch(&self, socket: &Arc<Socket>) {
        *self.0.socket.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(socket);
    }

    /// Returns the state of that socket's receive buffer; `None` without a socket, or if the kernel does not report it.
    #[must_use]
    pub fn memory(&self) -> Option<SocketMemory> {
        let socket = self.0.socket.lock().unwrap_or_else(PoisonError::into_inner).upgrade()?;
        socket.memory().ok()
    }

    /// Returns the current values.
    #[must_use]
    pub fn read(&self) -> Counts {
        let numbers = &self.0;
        let get = |number: &AtomicU64| number.load(Relaxed);
        Counts {
            entries: get(&numbers.entries),
            new: get(&numbers.new),
            update: get(&numbers.update),
            destroy: get(&numbers.destroy),
            other: get(&numbers.other),
            gaps: get(&numbers.gaps),
            resyncs: get(&numbers.resyncs),
            malformed: get(&numbers.malformed),
            datagrams: get(&numbers.datagrams),
            bytes: get(&numbers.bytes),
            shown: get(&numbers.shown),
            limit: get(&numbers.limit),
            lost: get(&numbers.lost),
            // The two are read one after the other, so that the difference may be wrong for a moment.
            waiting: get(&numbers.handed).saturating_sub(get(&numbers.taken)),
        }
    }
}

fn add(number: &AtomicU64, more: u64) {
    if more > 0 {
        number.fetch_add(more, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_by_their_event() {
        let counters = Counters::default();
        counters.rows(3, &[]);
        counters.rows(7, &[event::NONE, event::NEW, event::NEW, event::UPDATE, event::DESTROY, event::GAP, 200]);
        let counts = counters.read();
        assert_eq!((counts.entries, counts.new, counts.update, counts.destroy, counts.other), (4, 2, 1, 1, 1));
    }

    #[test]
    fn what_was_handed_and_not_taken_waits() {
        let counters = Counters::default();
        for _ in 0..3 {
            counters.handed();
        }
        counters.clone().taken();
        assert_eq!(counters.read().waiting, 2);
        assert_eq!(counters.memory(), None, "no socket is watched");
    }
}
