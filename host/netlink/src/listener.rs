//! Kernel events as a source: a socket whose receive buffer grows before it overflows, and that reports where it did
//! overflow.
//!
//! The kernel charges 1,280 bytes of the receive buffer for each event, whatever the event's size. When the buffer is
//! full, the kernel reports ENOBUFS once, before the queued events are read, and drops every event until the queue has
//! been read empty. The listener therefore doubles the buffer, up to a limit, when it is half full or has overflowed,
//! and reports a gap at its place in the stream: after the events that were queued.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Namespace, Socket, SocketError, SocketOptions, Stop, WakeReason,
    source::{Barriers, Datagram, InsertBarrier, Source, SourceError},
    wire::{MESSAGE_HEADER, align},
};
use flowgate_base::clock::now;

/// Default size in bytes of the receive buffer for events: room for about 13,000 events (the kernel doubles the size).
/// The system's default has room for 166.
pub const EVENT_BUFFER: usize = 8 << 20;
/// Default limit in bytes of the receive buffer for events: room for about 210,000 events.
pub const EVENT_BUFFER_MAX: usize = 128 << 20;

/// Free space in the datagram's buffer below which no further event is received. No event is nearly as long.
const MIN_FREE: usize = 16 << 10;
/// Number of events between checks of the receive-buffer level.
const CHECK_INTERVAL: u32 = 64;
/// Lower bound in bytes of the receive-buffer space that one event takes.
const MIN_CHARGE: usize = 512;
/// If a wait is shorter than this, events are coalesced: a wake-up for each event costs more than the event itself.
const COALESCE_BELOW: Duration = Duration::from_micros(500);
/// Time for which events are coalesced.
const COALESCE_TIME: Duration = Duration::from_millis(1);
/// Smallest receive buffer in bytes with which events are coalesced: room for more events than arrive in that time.
const COALESCE_MIN_BUFFER: usize = 2 << 20;

/// The groups that a [`Listener`] joins, and the options of its socket.
#[derive(Debug, Clone, Default)]
pub struct ListenerOptions {
    /// Event groups, bits of [`crate::group`].
    pub groups: u32,
    /// Initial receive buffer in bytes, before the kernel doubles it; [`EVENT_BUFFER`] if `None`.
    pub buffer: Option<usize>,
    /// Limit of the receive buffer in bytes, before the kernel doubles it; [`EVENT_BUFFER_MAX`] if `None`.
    pub buffer_max: Option<usize>,
    /// `--reliable`: the kernel keeps entries whose event it cannot deliver.
    pub reliable: bool,
    /// The network namespace, if it is not the namespace of the process.
    pub namespace: Option<Namespace>,
    /// `--all-netns`: also events of all namespaces that have an id in this one.
    pub all_namespaces: bool,
    /// Yields each event as a datagram of its own, and a flush whenever the queue has been read empty.
    pub flush_when_idle: bool,
}

/// A source of kernel events that ends at the stop signal.
pub struct Listener {
    socket: Arc<Socket>,
    namespace: Option<Namespace>,
    stop: Stop,
    reliable: bool,
    flush_when_idle: bool,
    /// True if something was received since the last flush.
    received: bool,
    /// Size that the receive buffer was last set to.
    buffer: usize,
    buffer_max: usize,
    /// Events since the last check of the receive-buffer level.
    unchecked: u32,
    /// Number of dropped events that have been reported.
    dropped: u32,
    /// After an overrun: upper bound of the events from before it that are still queued.
    overrun: Option<usize>,
    /// True if an earlier overrun must be reported here, before the one in `overrun`.
    overrun_due: bool,
    /// After the stop signal: upper bound of the events from before it that are still queued.
    left_to_end: Option<usize>,
    /// An event of another namespace, which begins the next datagram: its bytes, its namespace, and when it was
    /// received.
    held: Option<(Vec<u8>, Option<u32>, u64)>,
    /// True if events are coalesced before the next read.
    coalesces: bool,
}

impl Listener {
    /// Opens the socket and joins the groups.
    ///
    /// # Errors
    /// See [`Socket::open`].
    pub fn open(options: &ListenerOptions, stop: &Stop) -> Result<Self, SocketError> {
        let ListenerOptions { groups, reliable, flush_when_idle, .. } = *options;
        let socket = SocketOptions {
            groups,
            receive_buffer: Some(options.buffer.unwrap_or(EVENT_BUFFER)),
            // With `reliable`, nothing is lost, so that there is no reason to stop listening.
            no_overrun_errors: reliable,
            reliable,
            all_namespaces: options.all_namespaces,
            ..SocketOptions::in_namespace(options.namespace.as_ref())
        };
        let socket = Socket::open(&socket)?;
        let buffer = socket.receive_buffer() / 2;
        Ok(Listener {
            socket: Arc::new(socket),
            namespace: options.namespace.clone(),
            stop: stop.clone(),
            reliable,
            flush_when_idle,
            received: false,
            buffer,
            buffer_max: options.buffer_max.unwrap_or(EVENT_BUFFER_MAX),
            unchecked: 0,
            dropped: 0,
            overrun: None,
            overrun_due: false,
            left_to_end: None,
            held: None,
            coalesces: false,
        })
    }

    /// Returns the socket, for reading its receive-buffer level.
    pub fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Returns the size of the receive buffer in force, in bytes.
    pub fn receive_buffer(&self) -> usize {
        self.socket.receive_buffer()
    }

    /// Doubles the receive buffer, up to its limit.
    fn grow(&mut self) {
        let size = self.buffer.saturating_mul(2).min(self.buffer_max);
        if size <= self.buffer {
            return;
        }
        let before = self.socket.receive_buffer();
        match self.socket.set_receive_buffer(size) {
            Ok(now) if now > before => self.buffer = size,
            // The system's limit is reached; a further attempt would fail too.
            _ => self.buffer_max = 0,
        }
    }

    /// Doubles the receive buffer if it is half full.
    fn grow_if_half_full(&mut self) {
        if self.buffer < self.buffer_max
            && let Ok(memory) = self.socket.memory()
            && memory.queued > memory.limit / 2
        {
            self.grow();
        }
    }

    /// Checks the receive-buffer level and the stop signal once in [`CHECK_INTERVAL`] events. Without this check a
    /// stream that is faster than the reader would never end. Events that were queued when the signal was given are
    /// still yielded.
    fn check(&mut self) {
        self.unchecked += 1;
        if self.unchecked < CHECK_INTERVAL {
            return;
        }
        self.unchecked = 0;
        self.grow_if_half_full();
        self.left_to_end = match self.left_to_end {
            Some(left) => Some(left.saturating_sub(CHECK_INTERVAL as usize)),
            None => self.stop.is_stopped().then(|| self.socket.receive_buffer() / MIN_CHARGE),
        };
    }

    /// Returns the number of events dropped since the last call, or `None` if the kernel does not report it.
    fn take_dropped(&mut self) -> Option<u32> {
        let dropped = self.socket.memory().ok()?.dropped;
        let new = dropped.wrapping_sub(self.dropped);
        self.dropped = dropped;
        Some(new)
    }

    /// Turns the datagram into a gap if there is one at this place; returns false otherwise.
    fn report_gap(&mut self, datagram: &mut Datagram) -> bool {
        let lost = if std::mem::take(&mut self.overrun_due) || self.overrun.take().is_some() {
            self.take_dropped()
        } else if self.reliable && self.take_dropped().is_some_and(|dropped| dropped > 0) {
            // The kernel counts failed attempts here, and repeats them: nothing is lost.
            None
        } else {
            return false;
        };
        if self.reliable {
            self.grow();
        }
        datagram.gap = true;
        datagram.lost = lost.filter(|&lost| lost > 0);
        datagram.received = now();
        self.received = true;
        true
    }

    /// Receives queued events while there is space in the buffer; returns false if the queue is empty.
    fn fill(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        loop {
            let room = datagram.buffer.get_mut(datagram.length..).unwrap_or_default();
            if room.len() < MIN_FREE || self.overrun_due || self.overrun == Some(0) || self.left_to_end == Some(0) {
                return Ok(true);
            }
            let received = match self.socket.try_receive(room) {
                Ok(Some(received)) => received,
                Ok(None) => return Ok(false),
                Err(SocketError::Overrun) => {
                    self.grow();
                    // An overrun that was pending has been passed by now: the queue was read empty in between.
                    self.overrun_due = self.overrun.is_some();
                    self.overrun = Some(self.socket.receive_buffer() / MIN_CHARGE);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.received = true;
            if let Some(left) = &mut self.overrun {
                *left = left.saturating_sub(1);
            }
            let time = now();
            if datagram.length > 0 && datagram.namespace != received.namespace {
                let bytes = room.get(..received.length).unwrap_or_default().to_vec();
                self.held = Some((bytes, received.namespace, time));
                return Ok(true);
            }
            datagram.namespace = received.namespace;
            append(datagram, received.length, time);
            self.check();
            if self.flush_when_idle {
                return Ok(true);
            }
        }
    }

    /// Waits for further events, at most until `end`. An event may have arrived unless the stop signal was given or the
    /// time is over.
    fn wait(&mut self, end: Option<Instant>) -> Result<WakeReason, SourceError> {
        let before = Instant::now();
        let left = end.map(|end| end.saturating_duration_since(before));
        if left == Some(Duration::ZERO) {
            return Ok(WakeReason::TimedOut);
        }
        if self.coalesces {
            self.coalesces = false;
            let stopped = self.stop.wait(left.map_or(COALESCE_TIME, |left| left.min(COALESCE_TIME)));
            return Ok(if stopped { WakeReason::Stopped } else { WakeReason::Readable });
        }
        let woken = self.socket.wait(Some(&self.stop), left)?;
        self.coalesces = woken == WakeReason::Readable
            && before.elapsed() < COALESCE_BELOW
            && self.socket.receive_buffer() >= COALESCE_MIN_BUFFER;
        Ok(woken)
    }

    /// Receives the next datagram as [`Source::next`] does, but waits at most until `end`; returns `None` if none has
    /// arrived by then.
    ///
    /// # Errors
    /// As [`Source::next`].
    pub fn next_until(&mut self, datagram: &mut Datagram, end: Option<Instant>) -> Result<Option<bool>, SourceError> {
        datagram.clear();
        if let Some((bytes, namespace, time)) = self.held.take() {
            if let Some(place) = datagram.buffer.get_mut(..bytes.len()) {
                place.copy_from_slice(&bytes);
            }
            datagram.namespace = namespace;
            append(datagram, bytes.len(), time);
        }
        let mut gathered = false;
        loop {
            // Reads without polling first.
            let more = self.fill(datagram)?;
            if datagram.length > 0 {
                // More events were queued after the first read: the next ones are coalesced too.
                self.coalesces |= gathered;
                return Ok(Some(true));
            }
            if (!more || self.overrun_due || self.overrun == Some(0)) && self.report_gap(datagram) {
                return Ok(Some(true));
            }
            if self.left_to_end == Some(0) {
                return Ok(Some(false));
            }
            if self.flush_when_idle && self.received {
                self.received = false;
                datagram.flush = true;
                return Ok(Some(true));
            }
            gathered = self.coalesces;
            match self.wait(end)? {
                WakeReason::Stopped => return Ok(Some(false)),
                WakeReason::TimedOut if end.is_some_and(|end| Instant::now() >= end) => return Ok(None),
                WakeReason::Readable | WakeReason::TimedOut => {}
            }
        }
    }
}

/// Appends a received event to the datagram.
fn append(datagram: &mut Datagram, length: usize, time: u64) {
    if datagram.length == 0 {
        datagram.received = time;
    }
    // An event is one message, and the next one begins at an aligned offset.
    let whole = if length < MESSAGE_HEADER { length } else { align(length) };
    datagram.length = (datagram.length + whole).min(datagram.buffer.len());
    datagram.times.push(time);
}

impl Source for Listener {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        // Without a deadline there is always an answer.
        self.next_until(datagram, None).map(|received| received == Some(true))
    }

    fn is_live(&self) -> bool {
        true
    }

    fn on_backpressure(&mut self) {
        self.grow_if_half_full();
    }

    fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    fn barriers(&self) -> Option<Box<dyn Barriers>> {
        Some(Box::new(SocketBarriers(self.socket.clone())))
    }
}

impl Listener {
    /// Returns a function that inserts a barrier into the event stream, for several consumers of it.
    pub fn barrier_inserter(&self) -> InsertBarrier {
        let socket = self.socket.clone();
        Arc::new(move || socket.insert_barrier())
    }
}

/// Inserts barriers into the events of a socket.
struct SocketBarriers(Arc<Socket>);

impl Barriers for SocketBarriers {
    fn insert(&mut self) -> Result<u32, SourceError> {
        Ok(self.0.insert_barrier()?)
    }
}
