//! What the writers and the threads of a spool share.

use std::{
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    task::Waker,
    time::{Duration, Instant},
};

use super::{SpoolOptions, WhenFull};
use crate::{
    sink::count_lines,
    spool::{Appended, MAX_BATCH, Spool, SpoolError},
};

/// How long a batch that is not delivered may be nowhere but in the kernel's memory.
const SYNCHRONIZE: Duration = Duration::from_secs(1);

/// The spools that this process has open: while a service reloads its file, the old generation still writes into the
/// spool that the new one opens.
static OPEN: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// A spool in use.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    inner: Mutex<Inner>,
    /// Notified when lines begin to be gathered, when something was acknowledged, and at the end.
    pub(super) changed: Condvar,
}

pub(super) struct Inner {
    pub(super) spool: Spool,
    /// Whole lines that are being gathered.
    gathered: Vec<u8>,
    /// Since when.
    since: Option<Instant>,
    batch: usize,
    batch_time: Duration,
    /// True if a batch without room waits.
    waits: bool,
    pub(super) writers: usize,
    /// Grows with every writer, whose shipper takes over.
    pub(super) turn: u64,
    /// True if nothing is to be delivered any more.
    pub(super) abandoned: bool,
    /// Wakes the shipper.
    pub(super) waker: Option<Waker>,
    /// Lines that were dropped.
    pub(super) lost: u64,
    /// A failure on the thread, for the next writer.
    pub(super) failure: Option<SpoolError>,
    /// Since when something is not synchronized.
    unsynchronized: Option<Instant>,
}

impl Shared {
    /// Returns the spool of a directory.
    pub(super) fn of(options: &SpoolOptions) -> Result<Arc<Self>, SpoolError> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|shared| shared.strong_count() > 0);
        let resolved = std::fs::canonicalize(&options.path).unwrap_or_else(|_| options.path.clone());
        if let Some(shared) = open.iter().filter_map(Weak::upgrade).find(|shared| shared.path == resolved) {
            return Ok(shared);
        }
        let spool = Spool::open(&options.path, options.limit)?;
        let shared = Arc::new(Shared {
            path: std::fs::canonicalize(spool.path()).unwrap_or(resolved),
            inner: Mutex::new(Inner {
                spool,
                gathered: Vec::new(),
                since: None,
                batch: options.batch,
                batch_time: options.batch_time,
                waits: false,
                writers: 0,
                turn: 0,
                abandoned: false,
                waker: None,
                lost: 0,
                failure: None,
                unsynchronized: None,
            }),
            changed: Condvar::new(),
        });
        open.push(Arc::downgrade(&shared));
        Ok(shared)
    }

    /// Adds a writer, and returns the turn of its threads: those before end.
    pub(super) fn enter(&self, options: &SpoolOptions, when_full: WhenFull) -> u64 {
        let mut inner = self.lock();
        inner.spool.set_limit(options.limit);
        inner.spool.rewind();
        (inner.batch, inner.batch_time) = (options.batch.min(MAX_BATCH), options.batch_time);
        inner.waits = when_full == WhenFull::Wait;
        inner.writers += 1;
        inner.turn += 1;
        inner.abandoned = false;
        inner.wake();
        self.changed.notify_all();
        inner.turn
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait<'a>(&self, inner: MutexGuard<'a, Inner>, time: Duration) -> MutexGuard<'a, Inner> {
        self.changed.wait_timeout(inner, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Ends batches when their time has come, and has what is not delivered soon written to disk, until there is no
    /// writer or another turn begins.
    pub(super) fn tend(&self, turn: u64) {
        let mut inner = self.lock();
        while inner.turn == turn && inner.writers > 0 {
            let now = Instant::now();
            let due = |since: Option<Instant>, time: Duration| since.map(|since| since + time);
            let end = due(inner.since, inner.batch_time);
            if end.is_some_and(|end| end <= now) {
                match inner.waits && inner.is_without_room() {
                    // The writer waits, too, as soon as it has gathered as much.
                    true => inner.since = Some(now),
                    false => {
                        let ended = inner.end_batch();
                        inner.keep_failure(ended);
                    }
                }
                continue;
            }
            if inner.spool.waiting() == 0 {
                inner.unsynchronized = None;
            }
            let synchronize = due(inner.unsynchronized, SYNCHRONIZE);
            if synchronize.is_some_and(|time| time <= now) {
                let files = inner.spool.unsynchronized();
                inner.unsynchronized = None;
                drop(inner);
                let path = self.path.clone();
                let written = files.synchronize().map_err(|source| SpoolError::File { path, source });
                inner = self.lock();
                inner.keep_failure(written);
                continue;
            }
            let next = end.into_iter().chain(synchronize).min();
            inner = match next {
                Some(time) => self.wait(inner, time.saturating_duration_since(now)),
                None => self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Inner {
    /// Returns how many bytes still fit into the batch that is being gathered.
    pub(super) fn room(&self) -> usize {
        self.batch.saturating_sub(self.gathered.len())
    }

    pub(super) fn is_gathering(&self) -> bool {
        !self.gathered.is_empty()
    }

    pub(super) fn is_without_room(&self) -> bool {
        !self.spool.has_room(self.gathered.len())
    }

    /// Adds lines. Returns true if they are the first.
    pub(super) fn gather(&mut self, lines: &[u8]) -> bool {
        self.gathered.extend_from_slice(lines);
        let first = self.since.is_none();
        if first {
            self.since = Some(Instant::now());
        }
        first
    }

    /// Puts the lines that were gathered into the spool as a batch.
    pub(super) fn end_batch(&mut self) -> Result<(), SpoolError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let lines = count_lines(&self.gathered);
        let appended = self.spool.append(&self.gathered, lines)?;
        self.gathered.clear();
        self.since = None;
        if appended == Appended::Dropped {
            self.lost += lines;
        }
        self.appended();
        Ok(())
    }

    /// Drops a line that is longer than a batch may be.
    pub(super) fn drop_line(&mut self) -> Result<(), SpoolError> {
        self.lost += 1;
        self.spool.drop_batch(1)?;
        self.appended();
        Ok(())
    }

    fn appended(&mut self) {
        self.unsynchronized.get_or_insert_with(Instant::now);
        self.wake();
    }

    fn keep_failure(&mut self, result: Result<(), SpoolError>) {
        if let Err(error) = result {
            self.failure.get_or_insert(error);
            // It is not tried again before somebody writes.
            self.since = None;
        }
    }

    /// Wakes the shipper.
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
