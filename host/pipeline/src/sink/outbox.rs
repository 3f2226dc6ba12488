//! A sink that is a bounded buffer, and a thread that empties it into a connection. The thread connects, reconnects
//! with growing pauses when the connection breaks, and sends whole lines.
//!
//! Lines that do not fit are dropped and counted, or block the writer, as [`WhenFull`] says. The memory is bounded by
//! the buffer and one chunk, however long the peer is away.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{Sink, SinkError, count_lines, first_line, whole_lines};
use flowgate_base::Backoff;
use flowgate_base::Warnings;
use flowgate_netlink::Stop;

/// Number of bytes that the thread takes out of the buffer at once, unless a line is longer.
const CHUNK: usize = 64 << 10;
/// Interval at which waits check whether to continue.
const GLANCE: Duration = Duration::from_millis(20);
/// Time left at the end after a stop signal: the program does not wait longer than half a second in all.
const HASTE: Duration = Duration::from_millis(250);

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
    shared: Arc<Shared>,
    stop: Stop,
    warnings: Warnings,
    told: bool,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    /// Notified when the contents of the buffer change, or when it is closing.
    changed: Condvar,
}

impl Shared {
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
        let shared = Arc::new(Shared::default());
        let for_thread = shared.clone();
        thread::Builder::new()
            .name("sink".into())
            .spawn(move || {
                Sender { transport, shared: for_thread, warnings: sender_warnings, connection: None, failures: 0 }.run()
            })
            .map_err(|source| SinkError::Thread { sink: name.clone(), source })?;
        Ok(Outbox { name, options, shared, stop: stop.clone(), warnings, told: false })
    }

    /// Returns the number of lines dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped
    }

    fn drop_lines(&mut self, lines: &[u8]) {
        self.shared.lock().dropped += count_lines(lines);
        if !self.told {
            self.told = true;
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
            inner = shared.wait(inner, GLANCE);
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
            let linger = if self.stop.is_stopped() { self.options.linger.min(HASTE) } else { self.options.linger };
            if since.elapsed() >= linger {
                inner.abandoned = true;
                shared.changed.notify_all();
                break;
            }
            inner = shared.wait(inner, GLANCE);
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

/// The thread's end of the buffer.
struct Sender<T: Transport> {
    transport: T,
    shared: Arc<Shared>,
    warnings: Warnings,
    connection: Option<T::Connection>,
    /// Number of failed attempts since the last successful one, including connections that broke before anything was
    /// sent.
    failures: u32,
}

impl<T: Transport> Sender<T> {
    fn run(mut self) {
        while let Some(chunk) = self.chunk() {
            if !self.send(&chunk) {
                break;
            }
        }
        if let Some(mut connection) = self.connection.take() {
            connection.close();
        }
        let mut inner = self.shared.lock();
        inner.remark = self.transport.remark();
        inner.ended = true;
        self.shared.changed.notify_all();
    }

    /// Takes whole lines out of the buffer, and waits for them; `None` once there will be no more.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        loop {
            if inner.abandoned || inner.closing && inner.buffer.is_empty() {
                return None;
            }
            if !inner.buffer.is_empty() {
                break;
            }
            if self.connection.is_none() && self.failures == 0 {
                // Connects before there is anything to send, which shows if the peer is present.
                drop(inner);
                self.connect();
                inner = shared.lock();
                continue;
            }
            inner = shared.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let bytes = inner.buffer.make_contiguous();
        let length = match whole_lines(bytes, CHUNK) {
            0 => first_line(bytes),
            length => length,
        };
        let chunk: Vec<u8> = inner.buffer.drain(..length).collect();
        inner.under_way = chunk.len();
        inner.lines_under_way = count_lines(&chunk);
        Some(chunk)
    }

    /// Sends a chunk, over as many connections as necessary; returns `false` if the rest must be discarded.
    fn send(&mut self, chunk: &[u8]) -> bool {
        let mut sent = 0;
        while let Some(rest) = chunk.get(sent..).filter(|rest| !rest.is_empty()) {
            if self.shared.lock().abandoned {
                return false;
            }
            let Some(connection) = &mut self.connection else {
                self.connect();
                continue;
            };
            match connection.send(rest) {
                Ok(count) if count > 0 => {
                    sent += count;
                    self.failures = 0;
                    let mut inner = self.shared.lock();
                    inner.progress += count as u64;
                    inner.lines_under_way = count_lines(chunk.get(sent..).unwrap_or_default());
                }
                Ok(_) => self.lost(&io::ErrorKind::WriteZero.into()),
                Err(error) if is_momentary(&error) => {}
                Err(error) => {
                    self.lost(&error);
                    // The next connection begins with a whole line.
                    let before = chunk.get(..sent).unwrap_or_default();
                    sent = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
                }
            }
        }
        let mut inner = self.shared.lock();
        inner.under_way = 0;
        inner.lines_under_way = 0;
        self.shared.changed.notify_all();
        true
    }

    fn lost(&mut self, error: &io::Error) {
        self.connection = None;
        if self.failures == 0 {
            self.warnings.line(&format!(
                "WARNING: sink {}: the connection broke: {}; connecting again.",
                self.transport.name(),
                flowgate_base::io_error::error_text(error)
            ));
        }
        self.failures += 1;
    }

    /// Tries to connect, after a pause if the previous attempt failed.
    fn connect(&mut self) {
        let until = Instant::now() + Backoff::RESTART.pause(self.failures);
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        while !inner.abandoned {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner = shared.wait(inner, left);
        }
        if inner.abandoned {
            return;
        }
        drop(inner);
        match self.transport.connect() {
            Ok(connection) => {
                if self.failures > 0 {
                    self.warnings.line(&format!("sink {}: connected again.", self.transport.name()));
                }
                self.connection = Some(connection);
            }
            Err(error) => {
                if self.failures == 0 {
                    self.warnings.line(&format!(
                        "WARNING: sink {}: cannot connect: {}; trying again.",
                        self.transport.name(),
                        flowgate_base::io_error::error_text(&error)
                    ));
                }
                self.failures = self.failures.saturating_add(1);
            }
        }
    }
}

/// Returns true if the error only means that the peer accepts nothing at the moment.
fn is_momentary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::mpsc::{Receiver, Sender as Channel, channel};

    use super::*;

    /// A small buffer that does not wait at the end.
    pub(crate) const OPTIONS: OutboxOptions =
        OutboxOptions { capacity: 64, when_full: WhenFull::Drop, linger: Duration::from_millis(50) };

    /// A transport that connects a limited number of times. Sent bytes arrive at a channel, and each connection breaks
    /// after `breaks` bytes.
    struct Fake {
        allowed: Receiver<usize>,
        sent: Channel<Vec<u8>>,
    }

    struct FakeConnection {
        left: usize,
        sent: Channel<Vec<u8>>,
    }

    impl Transport for Fake {
        type Connection = FakeConnection;

        fn name(&self) -> String {
            "fake".into()
        }

        fn connect(&mut self) -> io::Result<FakeConnection> {
            let left = self.allowed.try_recv().map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(FakeConnection { left, sent: self.sent.clone() })
        }
    }

    impl Connection for FakeConnection {
        fn send(&mut self, lines: &[u8]) -> io::Result<usize> {
            if self.left == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let count = self.left.min(lines.len()).min(3);
            self.left -= count;
            self.sent.send(lines[..count].to_vec()).unwrap();
            Ok(count)
        }
    }

    fn fake(options: OutboxOptions) -> (Outbox, Channel<usize>, Receiver<Vec<u8>>) {
        let (allow, allowed) = channel();
        let (sent, receive) = channel();
        let outbox =
            Outbox::start(Fake { allowed, sent }, options, &Stop::new().unwrap(), flowgate_base::Warnings::ignored())
                .unwrap();
        (outbox, allow, receive)
    }

    #[test]
    fn a_broken_connection_goes_on_with_a_whole_line() {
        let (mut outbox, allow, sent) = fake(OutboxOptions { linger: Duration::from_secs(20), ..OPTIONS });
        outbox.write(b"11111\n22222\n33333\n").unwrap();
        allow.send(8).unwrap();
        allow.send(7).unwrap();
        allow.send(100).unwrap();
        outbox.finish().unwrap();
        let all: Vec<u8> = sent.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(all).unwrap(), "11111\n2222222\n333333\n");
    }

    #[test]
    fn what_does_not_fit_is_dropped_by_whole_lines_and_counted() {
        let (mut outbox, allow, sent) = fake(OutboxOptions { linger: Duration::from_secs(20), ..OPTIONS });
        for number in 0..10 {
            outbox.write(format!("line {number} of ten\n").repeat(2).as_bytes()).unwrap();
        }
        assert_eq!(outbox.dropped(), 16, "64 bytes hold four lines of 15");
        allow.send(1000).unwrap();
        outbox.finish().unwrap();
        let all: Vec<u8> = sent.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(all).unwrap(), "line 0 of ten\nline 0 of ten\nline 1 of ten\nline 1 of ten\n");
    }

    #[test]
    fn waiting_loses_nothing() {
        let options = OutboxOptions { when_full: WhenFull::Wait, linger: Duration::from_secs(20), ..OPTIONS };
        let (mut outbox, allow, sent) = fake(options);
        allow.send(usize::MAX).unwrap();
        let line = format!("{}\n", "x".repeat(200));
        for _ in 0..100 {
            outbox.write(b"12345\n12345\n12345\n").unwrap();
            outbox.write(line.as_bytes()).unwrap();
        }
        outbox.finish().unwrap();
        assert_eq!(outbox.dropped(), 0);
        assert_eq!(sent.try_iter().map(|part| part.len()).sum::<usize>(), 100 * (18 + 201));
    }

    #[test]
    fn what_is_left_at_the_end_is_told() {
        let (mut outbox, _allow, _sent) = fake(OPTIONS);
        outbox.write(b"1\n2\n3\n").unwrap();
        let error = outbox.finish().unwrap_err();
        assert_eq!(error.to_string(), "sink fake: 3 lines could not be delivered before the end");
    }
}
