//! The bounded queue between reader and worker. Buffers circulate between them; no more are allocated than were ever
//! needed at once, and never more than a fixed number.

use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    time::Duration,
};

use super::counters::Counters;
use flowgate_netlink::{
    RECEIVE_LENGTH,
    source::{Datagram, EVENT_BUFFER_LENGTH, Source, SourceError},
};

/// Number of datagrams of a dump that may wait for the worker: about 300 KiB in all, and enough to keep both threads
/// busy. The kernel does not send the next one until there is room.
const DUMP_DEPTH: usize = 8;
/// Number of datagrams of events that may wait, each up to 64 KiB: 8 MiB in all, about 35,000 events. The kernel does
/// not wait, so that the reader must continue while the output is blocked.
const EVENT_DEPTH: usize = 128;
/// Number of datagrams of a dump that are passed on at once: the worker is faster and sleeps in between, and waking it
/// costs the reader more than storing a datagram. Events are passed on one by one, since no others may follow.
const TOGETHER: usize = 4;
/// Interval of calls to a source that is blocked.
const HELD_UP: Duration = Duration::from_millis(2);

/// Datagrams that are passed on at once; an error is the last element.
type Group = VecDeque<Result<Datagram, SourceError>>;

/// The reader's end of the queue.
pub(super) struct Filling {
    empty: Receiver<Datagram>,
    filled: SyncSender<Group>,
    /// Datagrams that have not been passed on yet, and their maximum number.
    group: Group,
    together: usize,
    /// Number of buffers that may still be allocated.
    unmade: usize,
    /// Size of each buffer in bytes.
    room: usize,
    counters: Counters,
}

/// The worker's end of the queue.
pub(super) struct Draining {
    empty: SyncSender<Datagram>,
    filled: Receiver<Group>,
    /// Datagrams that have been passed on and not been taken yet.
    group: Group,
    counters: Counters,
}

/// Returns the size in bytes of a buffer for the datagrams of a source.
pub(super) fn room(source: &dyn Source) -> usize {
    if source.is_live() && !source.is_replay() { EVENT_BUFFER_LENGTH } else { RECEIVE_LENGTH }
}

/// Returns a queue for the datagrams of a source. `counters` count the waiting ones.
pub(super) fn queue(source: &dyn Source, counters: &Counters) -> (Filling, Draining) {
    let depth = if source.is_live() { EVENT_DEPTH } else { DUMP_DEPTH };
    let room = room(source);
    let (give_empty, take_empty) = sync_channel(depth);
    let (give_filled, take_filled) = sync_channel(depth);
    let together = if source.is_live() { 1 } else { TOGETHER.min(depth / 2).max(1) };
    let filling = Filling {
        empty: take_empty,
        filled: give_filled,
        group: Group::new(),
        together,
        unmade: depth,
        room,
        counters: counters.clone(),
    };
    counters.queue(depth);
    (filling, Draining { empty: give_empty, filled: take_filled, group: Group::new(), counters: counters.clone() })
}

impl Filling {
    /// Returns a buffer to fill; `None` once the worker has ended. While there is none, the `source` is notified that
    /// it is blocked.
    pub(crate) fn buffer(&mut self, source: &mut dyn Source) -> Option<Datagram> {
        match self.empty.try_recv() {
            Ok(datagram) => return Some(datagram),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        if let Some(left) = self.unmade.checked_sub(1) {
            self.unmade = left;
            return Some(Datagram::with_capacity(self.room));
        }
        if !self.hand_over() {
            return None;
        }
        loop {
            match self.empty.recv_timeout(HELD_UP) {
                Ok(datagram) => return Some(datagram),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => source.on_backpressure(),
            }
        }
    }

    /// Passes a datagram or an error to the worker, possibly together with later ones; returns `false` once the worker
    /// has ended.
    pub(crate) fn hand(&mut self, datagram: Result<Datagram, SourceError>) -> bool {
        self.counters.handed();
        self.group.push_back(datagram);
        self.group.len() < self.together || self.hand_over()
    }

    /// Passes on pending datagrams; returns `false` once the worker has ended.
    pub(crate) fn hand_over(&mut self) -> bool {
        self.group.is_empty() || self.filled.send(std::mem::take(&mut self.group)).is_ok()
    }
}

impl Draining {
    /// Waits for the next datagram, at most for this time; fails once the reader has ended, or when the time is over.
    pub(crate) fn wait(
        &mut self,
        patience: Option<Duration>,
    ) -> Result<Result<Datagram, SourceError>, RecvTimeoutError> {
        loop {
            if let Some(datagram) = self.group.pop_front() {
                self.counters.taken();
                return Ok(datagram);
            }
            self.group = match patience {
                Some(patience) => self.filled.recv_timeout(patience),
                None => self.filled.recv().map_err(|_| RecvTimeoutError::Disconnected),
            }?;
        }
    }

    /// Returns the next datagram if there is one already.
    pub(crate) fn ready(&mut self) -> Result<Result<Datagram, SourceError>, TryRecvError> {
        loop {
            if let Some(datagram) = self.group.pop_front() {
                self.counters.taken();
                return Ok(datagram);
            }
            self.group = self.filled.try_recv()?;
        }
    }

    /// Returns a buffer to the reader.
    pub(crate) fn give_back(&self, datagram: Datagram) {
        // This fails only when the reader has ended, and then the buffer is not needed.
        let _ = self.empty.try_send(datagram);
    }
}
