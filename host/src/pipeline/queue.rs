//! The bounded queue between reader and worker: a fixed number of buffers goes round and round.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    time::Duration,
};

use super::{
    counters::Counters,
    source::{Datagram, SourceError},
};

/// How many datagrams may wait for the worker: with the reader's and the worker's own, about 300 KiB in all, and enough to
/// keep both busy.
pub(super) const DEPTH: usize = 8;

/// The reader's end.
pub(super) struct Filling {
    empty: Receiver<Datagram>,
    filled: SyncSender<Result<Datagram, SourceError>>,
    counters: Counters,
}

/// The worker's end.
pub(super) struct Draining {
    empty: SyncSender<Datagram>,
    filled: Receiver<Result<Datagram, SourceError>>,
    counters: Counters,
}

/// A queue. `counters` are told of how many datagrams wait in it.
pub(super) fn queue(counters: &Counters) -> (Filling, Draining) {
    let (give_empty, take_empty) = sync_channel(DEPTH);
    let (give_filled, take_filled) = sync_channel(DEPTH);
    for _ in 0..DEPTH {
        // Cannot fail: there is room for all of them, and the receiver is at hand.
        let _ = give_empty.try_send(Datagram::new());
    }
    let counters = || counters.clone();
    (
        Filling { empty: take_empty, filled: give_filled, counters: counters() },
        Draining { empty: give_empty, filled: take_filled, counters: counters() },
    )
}

impl Filling {
    /// A buffer to fill; none once the worker is gone.
    pub fn buffer(&self) -> Option<Datagram> {
        self.empty.recv().ok()
    }

    /// Hands a datagram, or the reason why there is none, to the worker; `false` once it is gone.
    pub fn hand(&self, datagram: Result<Datagram, SourceError>) -> bool {
        self.counters.handed();
        self.filled.send(datagram).is_ok()
    }
}

impl Draining {
    /// The next datagram, waiting for it, but no longer than this; an error once the reader is done, or the time is up.
    pub fn wait(&self, patience: Option<Duration>) -> Result<Result<Datagram, SourceError>, RecvTimeoutError> {
        let datagram = match patience {
            Some(patience) => self.filled.recv_timeout(patience),
            None => self.filled.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }?;
        self.counters.taken();
        Ok(datagram)
    }

    /// The next datagram if there is one already.
    pub fn ready(&self) -> Result<Result<Datagram, SourceError>, TryRecvError> {
        let datagram = self.filled.try_recv()?;
        self.counters.taken();
        Ok(datagram)
    }

    /// Gives a buffer back.
    pub fn give_back(&self, datagram: Datagram) {
        // Fails only when the reader is gone, and then nobody needs it.
        let _ = self.empty.try_send(datagram);
    }
}
