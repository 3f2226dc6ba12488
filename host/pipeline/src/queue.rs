//! The bounded queue between reader and worker: buffers go round and round. There are no more of them than were ever needed at
//! once, and never more than a fixed number.

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

/// How many datagrams of a dump may wait for the worker: about 300 KiB in all, and enough to keep both busy. The kernel waits
/// with the next one.
const DUMP_DEPTH: usize = 8;
/// The same for events, 64 KiB full of them each: 8 MiB in all, about 35,000 events. The kernel does not wait, so that the
/// reader must go on while the output is held up.
const EVENT_DEPTH: usize = 128;
/// How many datagrams of a dump are handed over at once: the worker is the faster one and sleeps in between, and to wake it costs the
/// reader more than it takes to put a datagram down. Events are handed over one by one, since there may be no others.
const TOGETHER: usize = 4;
/// How often a source that is held up is called.
const HELD_UP: Duration = Duration::from_millis(2);

/// Datagrams that are handed over at once; an error is the last one.
type Group = VecDeque<Result<Datagram, SourceError>>;

/// The reader's end.
pub(super) struct Filling {
    empty: Receiver<Datagram>,
    filled: SyncSender<Group>,
    /// What has not been handed over yet, and how many that may be.
    group: Group,
    together: usize,
    /// Buffers that may still be made.
    unmade: usize,
    /// Bytes of each.
    room: usize,
    counters: Counters,
}

/// The worker's end.
pub(super) struct Draining {
    empty: SyncSender<Datagram>,
    filled: Receiver<Group>,
    /// What has been handed over and not been taken yet.
    group: Group,
    counters: Counters,
}

/// Bytes of a buffer for what a source yields.
pub(super) fn room(source: &dyn Source) -> usize {
    if source.is_live() && !source.is_replay() { EVENT_BUFFER_LENGTH } else { RECEIVE_LENGTH }
}

/// A queue for what a source yields. `counters` are told of how many datagrams wait in it.
pub(super) fn queue(source: &dyn Source, counters: &Counters) -> (Filling, Draining) {
    let depth = if source.is_live() { EVENT_DEPTH } else { DUMP_DEPTH };
    let room = room(source);
    let depth = source.max_in_flight().map_or(depth, |limit| depth.min(limit.max(1)));
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
    /// A buffer to fill; none once the worker is gone. While there is none, `source` is told that it is held up.
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

    /// Hands a datagram, or the reason why there is none, to the worker, perhaps with later ones; `false` once it is gone.
    pub(crate) fn hand(&mut self, datagram: Result<Datagram, SourceError>) -> bool {
        self.counters.handed();
        self.group.push_back(datagram);
        self.group.len() < self.together || self.hand_over()
    }

    /// Hands over what has not been yet; `false` once the worker is gone.
    pub(crate) fn hand_over(&mut self) -> bool {
        self.group.is_empty() || self.filled.send(std::mem::take(&mut self.group)).is_ok()
    }
}

impl Draining {
    /// The next datagram, waiting for it, but no longer than this; an error once the reader is done, or the time is up.
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

    /// The next datagram if there is one already.
    pub(crate) fn ready(&mut self) -> Result<Result<Datagram, SourceError>, TryRecvError> {
        loop {
            if let Some(datagram) = self.group.pop_front() {
                self.counters.taken();
                return Ok(datagram);
            }
            self.group = self.filled.try_recv()?;
        }
    }

    /// Gives a buffer back.
    pub(crate) fn give_back(&self, datagram: Datagram) {
        // Fails only when the reader is gone, and then nobody needs it.
        let _ = self.empty.try_send(datagram);
    }
}
