//! What a pipeline has received, for metrics: cheap to add to, once a batch or a datagram, and readable at any time.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use flowgate_model::event;
use flowgate_netlink::{Socket, SocketMemory};

/// Counters of what runs. Clones speak of the same ones.
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
    /// Datagrams that went into the queue, and that were taken from it.
    handed: AtomicU64,
    taken: AtomicU64,
    /// How many can wait in it.
    limit: AtomicU64,
    /// The socket that events come from, while it is open.
    socket: Mutex<Weak<Socket>>,
}

/// The counters as they were at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries of dumps.
    pub entries: u64,
    /// Events NEW.
    pub new: u64,
    /// Events UPDATE.
    pub update: u64,
    /// Events DESTROY.
    pub destroy: u64,
    /// Events of a kind that this version does not know.
    pub other: u64,
    /// Times that the kernel has lost events because nobody fetched them fast enough.
    pub gaps: u64,
    /// Dumps of the table that were made because of gaps.
    pub resyncs: u64,
    /// Messages, or rests of datagrams, that could not be read.
    pub malformed: u64,
    /// Datagrams received.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that came out of the last stage.
    pub shown: u64,
    /// Datagrams that wait between reader and worker.
    pub waiting: u64,
    /// How many can wait there.
    pub limit: u64,
    /// Events that are known to be lost.
    pub lost: u64,
}

impl Counters {
    /// Rows that have been decoded: `kinds` are their events ([`event`]), none where they are entries.
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

    /// Datagrams have been received.
    pub fn datagrams(&self, number: usize, bytes: usize) {
        add(&self.0.datagrams, number as u64);
        add(&self.0.bytes, bytes as u64);
    }

    /// Events were lost, at least so many.
    pub fn gap(&self, lost: u32) {
        add(&self.0.gaps, 1);
        add(&self.0.lost, lost.into());
    }

    /// The table is dumped because events were lost.
    pub(super) fn resync(&self) {
        add(&self.0.resyncs, 1);
    }

    /// Something could not be read.
    pub fn malformed(&self) {
        add(&self.0.malformed, 1);
    }

    /// Rows came out of the last stage.
    pub(super) fn shown(&self, rows: u64) {
        add(&self.0.shown, rows);
    }

    /// So many datagrams can wait.
    pub(super) fn queue(&self, limit: usize) {
        self.0.limit.store(limit as u64, Relaxed);
    }

    /// A datagram went into the queue.
    pub(super) fn handed(&self) {
        add(&self.0.handed, 1);
    }

    /// One was taken from it.
    pub(super) fn taken(&self) {
        add(&self.0.taken, 1);
    }

    /// The socket whose receive buffer is of interest, as long as it is open.
    pub fn watch(&self, socket: &Arc<Socket>) {
        *self.0.socket.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(socket);
    }

    /// The receive buffer of the socket that is watched; none if there is none, or the kernel does not tell.
    #[must_use]
    pub fn memory(&self) -> Option<SocketMemory> {
        let socket = self.0.socket.lock().unwrap_or_else(PoisonError::into_inner).upgrade()?;
        socket.memory().ok()
    }

    /// The counters as they are now.
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
            // Read one after the other, so that the difference may be off for a moment.
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
