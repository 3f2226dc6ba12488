//! A sink that is a bounded buffer, and a thread that empties it into a connection. The thread connects, reconnects
//! with growing pauses when the connection breaks, and sends whole lines.
//!
//! Lines that do not fit are dropped and counted, or block the writer, as [`WhenFull`] says. The memory is bounded by
//! the buffer and one chunk, however long the peer is away.
//!
//! This module has the writer's end of the buffer, `sender` the thread's.

mod sender;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{Sink, SinkError, count_lines, first_line, whole_lines};
use flowgate_base::Warnings;
use flowgate_netlink::Stop;
use sender::Sender;

/// Interval at which waits check whether to continue.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Time left at the end after a stop signal: the program does not wait longer than half a second in all.
const LINGER_AFTER_STOP: Duration = Duration::from_millis(250);

/// A factory of connections to one peer.
pub trait Transport: Send + 'static {
    /// The type of connection.
    type Connection: Connection;

    /// Returns the name of the sink in messages, such as `tcp 10.0.0.1:5000`.
    fn name(&self) -> String;

    /// Connects to the peer.
    ///
    /// # Errors
    /// The cause of the failure; the attempt is repeated.
    fn connect(&mut self) -> io::Result<Self::Connection>;

    /// Returns a further message for the end, such as the number of lines that were too long for the protocol.
    fn remark(&self) -> Option<String> {
        None
    }
}

/// A connection to the peer.
pub trait Connection {
    /// Sends from the beginning of whole lines, and returns the number of bytes sent. Returns after a fraction of a
    /// second even if nothing could be sent.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`], `TimedOut` and `Interrupted` if the peer accepts nothing at the moment; after any
    /// other error the connection is abandoned.
    fn send(&mut self, lines: &[u8]) -> io::Result<usize>;

    /// Closes the connection gracefully.
    fn close(&mut self) {}
}

/// The handling of lines that do not fit into the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// They are dropped and counted: right for events, which arrive whether they are read or not.
    Drop,
    /// They block the writer: right for dumps, which wait.
    Wait,
}

/// The options of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxOptions {
    /// Size of the buffer in bytes.
    pub capacity: usize,
    /// The handling of lines that do not fit.
    pub when_full: WhenFull,
    /// Time that the end of the run waits for a peer that accepts nothing.
    pub linger: Duration,
}

/// The state that is shared by the writer and the thread.
#[derive(Default)]
struct Inner {
    buffer: VecDeque<u8>,
    /// Size in bytes of the chunk that is being sent.
    under_way: usize,
    /// Number of lines of that chunk that have not been sent.
    lines_under_way: u64,
    /// Counter that grows with every successful send.
    progress: u64,
    dropped: u64,
    /// True if nothing more is written.
    closing: bool,
    /// True if the thread must discard the rest.
    abandoned: bool,
    /// True if the thread has ended.
    ended: bool,
    remark: Option<String>,
}

impl Inner {
    fn held(&self) -> usize {
        self.buffer.len() + self.under_way
    }
}

/// The writer's end of the buffer.
pub struct Outbox {
    name: String,
    options: OutboxOptions,
    shared: Arc<OutboxState>,
    stop: Stop,
    warnings: Warnings,
    warned: bool,
}

#[derive(Default)]
struct OutboxState {
    inner: Mutex<Inner>,
    /// Notified when the contents of the buffer change, or when it is closing.
    changed: Condvar,
}

impl OutboxState {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>, time: Duration) -> MutexGuard<'a, Inner> {
        self.changed.wait_timeout(inner, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Outbox {
    /// Starts the thread, which begins to connect. `warnings` receives warnings.
    ///
    /// # Errors
    /// [`SinkError::Thread`].
    pub fn start<T: Transport>(
        transport: T,
        options: OutboxOptions,
        stop: &Stop,
        warnings: Warnings,
    ) -> Result<Self, SinkError> {
        let name = transport.name();
        let sender_warnings = warnings.clone();
        let shared = Arc::new(OutboxState::default());
        let for_thread = shared.clone();
        thread::Builder::new()
            .name("sink".into())
            .spawn(move || Sender::new(transport, for_thread, sender_warnings).run())
            .map_err(|source| SinkError::Thread { sink: name.clone(), source })?;
        Ok(Outbox { name, options, shared, stop: stop.clone(), warnings, warned: false })
    }

    /// Returns the number of lines dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped
    }

    fn drop_lines(&mut self, lines: &[u8]) {
        self.shared.lock().dropped += count_lines(lines);
        if !self.warned {
            self.warned = true;
            self.warnings.line(&format!(
                "WARNING: sink {}: its buffer of {} bytes is full; lines are being dropped. Their number is reported at the end.",
                self.name, self.options.capacity
            ));
        }
    }
}

impl Sink for Outbox {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        let mut rest = bytes;
        loop {
            let room = self.options.capacity.saturating_sub(inner.held());
            let fitting = match whole_lines(rest, room) {
                // A line that would never fit does not wait forever.
                0 if inner.held() == 0 && self.options.when_full == WhenFull::Wait => first_line(rest),
                fitting => fitting,
            };
            let (now, later) = rest.split_at_checked(fitting).unwrap_or((rest, &[]));
            inner.buffer.extend(now);
            if !now.is_empty() {
                shared.changed.notify_all();
            }
            rest = later;
            if rest.is_empty() {
                return Ok(());
            }
            if self.options.when_full == WhenFull::Drop || self.stop.is_stopped() {
                drop(inner);
                self.drop_lines(rest);
                return Ok(());
            }
            inner = shared.wait(inner, CHECK_INTERVAL);
        }
    }

    /// Waits until everything is sent, as long as the peer continues to accept bytes.
    fn finish(&mut self) -> Result<(), SinkError> {
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        inner.closing = true;
        shared.changed.notify_all();
        let mut seen = inner.progress;
        let mut since = Instant::now();
        while !inner.ended {
            if inner.progress != seen {
                seen = inner.progress;
                since = Instant::now();
            }
            let linger =
                if self.stop.is_stopped() { self.options.linger.min(LINGER_AFTER_STOP) } else { self.options.linger };
            if since.elapsed() >= linger {
                inner.abandoned = true;
                shared.changed.notify_all();
                break;
            }
            inner = shared.wait(inner, CHECK_INTERVAL);
        }
        let (front, back) = inner.buffer.as_slices();
        let left = inner.lines_under_way + count_lines(&[front, back].concat());
        let dropped = inner.dropped;
        let remark = inner.remark.take();
        drop(inner);
        if dropped > 0 {
            self.warnings.line(&format!("WARNING: sink {}: {dropped} lines have been dropped.", self.name));
        }
        if let Some(remark) = remark {
            self.warnings.line(&format!("WARNING: sink {}: {remark}", self.name));
        }
        match left {
            0 => Ok(()),
            lines => Err(SinkError::Undelivered { sink: self.name.clone(), lines }),
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.closing = true;
        inner.abandoned = true;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
pub(super) mod tests;
