//! A sink that is a [`spool`], and a thread that delivers what is in it over a network.
//!
//! Lines are gathered to batches, by size and time. Each goes to disk, from where a [`Shipper`] takes it; it is removed
//! when the other end has acknowledged it. The writer waits for no network and for no disk but the kernel's copy: a
//! peer that is slow, frozen or gone costs disk space up to a limit, then whole batches, which are told as gaps.
//!
//! * `shared` is what the writers, and the two threads of a spool, have in common; a thread of its own ends batches
//!   when their time has come, and has them synchronized.
//! * [`Outgoing`] is the shipper's view.

mod outgoing;
mod shared;

use std::{
    path::PathBuf,
    sync::{Arc, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use super::{Sink, SinkError, first_line, outbox::WhenFull, whole_lines};
use crate::spool::{self, MAX_BATCH};
use flowgate_base::{Warnings, text::path_text};
use flowgate_netlink::Stop;

pub use outgoing::{Change, Content, Outgoing, Parcel};
use shared::{Inner, Shared};

/// Interval at which waits check whether to continue.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Time left at the end after a stop signal: the program does not wait longer than half a second in all.
const LINGER_AFTER_STOP: Duration = Duration::from_millis(250);

/// The most bytes of a batch if nothing else is said.
pub const DEFAULT_BATCH: usize = 256 << 10;
/// The fewest bytes that may be said.
pub const MIN_BATCH: usize = 4 << 10;
/// For how long lines are gathered if nothing else is said.
pub const DEFAULT_BATCH_TIME: Duration = Duration::from_secs(1);

/// A spool, and how lines become batches in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// The directory.
    pub path: PathBuf,
    /// The most bytes on disk.
    pub limit: u64,
    /// A batch has at most so many bytes, unless it is a longer line.
    pub batch: usize,
    /// And its first line waits for others for so long at most.
    pub batch_time: Duration,
}

impl SpoolOptions {
    /// Returns the options of a spool in this directory.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let (batch, batch_time) = (DEFAULT_BATCH, DEFAULT_BATCH_TIME);
        SpoolOptions { path: path.into(), limit: spool::DEFAULT_LIMIT, batch, batch_time }
    }
}

/// What delivers the batches of a spool.
pub trait Shipper: Send + 'static {
    /// Returns the name of the sink in messages, such as `nats nats.example.net:4222`.
    fn name(&self) -> String;

    /// Delivers batches, in their order, until [`Outgoing::poll_change`] says that it is over. Runs on a thread of its
    /// own.
    fn run(self: Box<Self>, outgoing: Outgoing, warnings: &Warnings);
}

/// The writer's end of a spool.
pub struct Spooled {
    name: String,
    shared: Arc<Shared>,
    when_full: WhenFull,
    linger: Duration,
    stop: Stop,
    warnings: Warnings,
    warned: bool,
    open: bool,
}

impl Spooled {
    /// Opens a spool, or takes part in one that this process has open, and has it delivered by `shipper` from now on.
    /// `warnings` receives warnings.
    ///
    /// # Errors
    /// [`SinkError::Spool`], [`SinkError::Thread`]
    pub fn start(
        shipper: Box<dyn Shipper>,
        options: &SpoolOptions,
        (when_full, linger): (WhenFull, Duration),
        stop: &Stop,
        warnings: Warnings,
    ) -> Result<Self, SinkError> {
        let name = shipper.name();
        let of_spool = |source| SinkError::Spool { sink: name.clone(), source };
        let of_thread = |source| SinkError::Thread { sink: name.clone(), source };
        let shared = Shared::of(options).map_err(of_spool)?;
        let turn = shared.enter(options, when_full);
        let sink = Spooled {
            name: name.clone(),
            shared: shared.clone(),
            when_full,
            linger,
            stop: stop.clone(),
            warnings: warnings.clone(),
            warned: false,
            open: true,
        };
        let tended = shared.clone();
        thread::Builder::new().name("spool".into()).spawn(move || tended.tend(turn)).map_err(of_thread)?;
        let outgoing = Outgoing::new(shared, turn);
        thread::Builder::new()
            .name("sink".into())
            .spawn(move || shipper.run(outgoing, &warnings))
            .map_err(of_thread)?;
        Ok(sink)
    }

    fn failed(&self, source: spool::SpoolError) -> SinkError {
        SinkError::Spool { sink: self.name.clone(), source }
    }

    /// Ends the batch that is being gathered. Returns false if it has to wait for room.
    fn end_batch(&self, inner: &mut Inner) -> Result<bool, SinkError> {
        let waits = self.when_full == WhenFull::Wait && !self.stop.is_stopped();
        if waits && inner.is_without_room() {
            return Ok(false);
        }
        inner.end_batch().map_err(|error| self.failed(error))?;
        Ok(true)
    }

    /// Waits while something holds, as long as the other end continues to acknowledge.
    fn linger<'a>(&self, mut inner: MutexGuard<'a, Inner>, holds: impl Fn(&Inner) -> bool) -> MutexGuard<'a, Inner> {
        let (mut seen, mut since) = (inner.spool.waiting(), Instant::now());
        while holds(&inner) {
            if inner.spool.waiting() != seen {
                (seen, since) = (inner.spool.waiting(), Instant::now());
            }
            let linger = if self.stop.is_stopped() { self.linger.min(LINGER_AFTER_STOP) } else { self.linger };
            if since.elapsed() >= linger {
                break;
            }
            inner = self.shared.wait(inner, CHECK_INTERVAL);
        }
        inner
    }

    fn warn(&mut self, lost: u64) {
        if lost > 0 && !self.warned {
            self.warned = true;
            self.warnings.line(&format!(
                "WARNING: sink {}: its spool {} is full; batches are being dropped, and gaps tell how many lines.",
                self.name,
                path_text(&self.shared.path)
            ));
        }
    }

    /// Leaves the spool. Returns true if nobody else writes into it.
    fn leave(&mut self, inner: &mut Inner) -> Result<bool, spool::SpoolError> {
        if !std::mem::replace(&mut self.open, false) {
            return Ok(false);
        }
        inner.writers = inner.writers.saturating_sub(1);
        let last = inner.writers == 0;
        let ended = inner.end_batch();
        let ended = if last { ended.and_then(|()| inner.spool.conclude()) } else { ended };
        inner.wake();
        self.shared.changed.notify_all();
        ended.map(|()| last)
    }
}

impl Sink for Spooled {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        if let Some(failure) = inner.failure.take() {
            return Err(self.failed(failure));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let fitting = match whole_lines(rest, inner.room()) {
                0 if inner.is_gathering() => {
                    if !self.end_batch(&mut inner)? {
                        inner = shared.wait(inner, CHECK_INTERVAL);
                    }
                    continue;
                }
                0 => first_line(rest),
                fitting => fitting,
            };
            let (now, later) = rest.split_at_checked(fitting).unwrap_or((rest, &[]));
            rest = later;
            match now.len() > MAX_BATCH {
                true => inner.drop_line().map_err(|error| self.failed(error))?,
                false if inner.gather(now) => shared.changed.notify_all(),
                false => {}
            }
        }
        let lost = inner.lost;
        drop(inner);
        self.warn(lost);
        Ok(())
    }

    /// Waits until everything is delivered, as long as the other end continues to acknowledge. What is not stays in the
    /// spool, which is no failure.
    fn finish(&mut self) -> Result<(), SinkError> {
        if !self.open {
            return Ok(());
        }
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        let failure = inner.failure.take();
        if self.when_full == WhenFull::Wait {
            inner = self.linger(inner, Inner::is_without_room);
        }
        let last = self.leave(&mut inner).map_err(|error| self.failed(error))?;
        if last {
            inner = self.linger(inner, |inner| inner.writers == 0 && inner.spool.waiting() > 0);
        }
        let (lost, waiting) = (inner.lost, inner.spool.waiting());
        if last && inner.writers == 0 {
            inner.abandoned = true;
            inner.wake();
            if waiting > 0 {
                inner.spool.synchronize().map_err(|error| self.failed(error))?;
                self.warnings.line(&format!(
                    "NOTICE: sink {}: {waiting} batches wait in {}, and are delivered when it is used again.",
                    self.name,
                    path_text(&shared.path)
                ));
            }
        }
        drop(inner);
        if lost > 0 {
            let (name, path) = (&self.name, path_text(&shared.path));
            self.warnings.line(&format!(
                "WARNING: sink {name}: {lost} lines have been dropped, because its spool {path} was full."
            ));
        }
        failure.map_or(Ok(()), |error| Err(self.failed(error)))
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        // Where a run has failed, what was gathered is still kept.
        if matches!(self.leave(&mut inner), Ok(true)) {
            inner.abandoned = true;
            inner.wake();
        }
    }
}

#[cfg(test)]
mod tests;
