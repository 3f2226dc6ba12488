//! The kernel as a source: a dump at every interval, and events in between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use flowgate_base::clock::now;
use flowgate_netlink::{
    Namespace, Socket, SocketError, SocketOptions, Stop, WakeReason, group,
    source::{Datagram, Source, SourceError},
};
use flowgate_pipeline::counters::Counters;

/// Receive buffer for events, in bytes. The next dump makes up for events that do not fit.
const EVENT_BUFFER: usize = 8 << 20;
/// Maximum delay until a request is noticed.
const MAX_REQUEST_DELAY: Duration = Duration::from_millis(100);
/// Minimum time from the end of a dump to the next one.
const MIN_PAUSE: Duration = Duration::from_millis(250);

/// Requests to the source while it runs.
#[derive(Debug, Default)]
pub struct Controls {
    /// True while no dumps are wanted.
    pub paused: AtomicBool,
    /// True if a dump is wanted before its time.
    pub dump_now: AtomicBool,
}

/// Starts a dump.
pub type Open<'a> = Box<dyn FnMut() -> Result<Box<dyn Source>, SourceError> + Send + 'a>;

/// The source; see the module.
pub struct KernelSource<'a> {
    open: Open<'a>,
    events: Option<Arc<Socket>>,
    dump: Option<Box<dyn Source>>,
    interval: Duration,
    /// When the next dump is due, and the earliest time of a requested one.
    due: Instant,
    rested: Instant,
    controls: Arc<Controls>,
    stop: Stop,
    /// Remaining dumps; `None` for no limit.
    remaining: Option<u32>,
    /// The network namespace of its sockets, if it is not that of the process.
    namespace: Option<Namespace>,
}

impl<'a> KernelSource<'a> {
    /// Makes a source of dumps at this interval, without events.
    #[must_use]
    pub fn new(open: Open<'a>, interval: Duration, controls: &Arc<Controls>, stop: &Stop) -> Self {
        let now = Instant::now();
        Self {
            open,
            events: None,
            dump: None,
            interval,
            due: now,
            rested: now,
            controls: controls.clone(),
            stop: stop.clone(),
            remaining: None,
            namespace: None,
        }
    }

    /// Receives events of this network namespace.
    #[must_use]
    pub fn within(self, namespace: Option<&Namespace>) -> Self {
        Self { namespace: namespace.cloned(), ..self }
    }

    /// Ends after `dumps` dumps.
    #[must_use]
    pub fn times(self, dumps: u32) -> Self {
        Self { remaining: Some(dumps), ..self }
    }

    /// Also receives events.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be opened; EPERM without CAP_NET_ADMIN.
    pub fn with_events(self, counters: &Counters) -> Result<Self, SocketError> {
        let options = SocketOptions {
            groups: group::FLOWS,
            receive_buffer: Some(EVENT_BUFFER),
            ..SocketOptions::in_namespace(self.namespace.as_ref())
        };
        let socket = Arc::new(Socket::open(&options)?);
        counters.watch(&socket);
        Ok(Self { events: Some(socket), ..self })
    }

    /// Returns true if a dump is due.
    fn is_due(&self) -> bool {
        let now = Instant::now();
        if self.controls.dump_now.load(Relaxed) && now >= self.rested {
            return true;
        }
        now >= self.due && !self.controls.paused.load(Relaxed)
    }

    /// Receives a queued event; returns true if the datagram was filled.
    fn event(&self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        let Some(socket) = &self.events else { return Ok(false) };
        match socket.try_receive(&mut datagram.buffer) {
            Ok(None) => return Ok(false),
            Ok(Some(received)) => {
                datagram.length = received.length;
                datagram.namespace = received.namespace;
            }
            Err(SocketError::Overrun) => {
                datagram.gap = true;
                // Lost changes are in the table.
                self.controls.dump_now.store(true, Relaxed);
            }
            Err(error) => return Err(error.into()),
        }
        datagram.received = now();
        Ok(true)
    }

    /// Waits for events, or until something may be due; returns false if the stop signal was given.
    fn wait(&self) -> Result<bool, SourceError> {
        let time =
            self.due.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), MAX_REQUEST_DELAY);
        match &self.events {
            Some(socket) => Ok(socket.wait(Some(&self.stop), Some(time))? != WakeReason::Stopped),
            None => Ok(!self.stop.wait(time)),
        }
    }
}

impl Source for KernelSource<'_> {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        loop {
            datagram.clear();
            if self.stop.is_stopped() {
                return Ok(false);
            }
            if let Some(dump) = &mut self.dump {
                if dump.next(datagram)? {
                    datagram.entries = true;
                    return Ok(true);
                }
                self.dump = None;
                if self.stop.is_stopped() {
                    return Ok(false);
                }
                let now = Instant::now();
                (self.due, self.rested) = (now + self.interval, now + MIN_PAUSE);
                self.remaining = self.remaining.map(|dumps| dumps.saturating_sub(1));
                datagram.clear();
                datagram.flush = true;
                return Ok(true);
            }
            if self.remaining == Some(0) {
                return Ok(false);
            }
            if self.is_due() {
                self.controls.dump_now.store(false, Relaxed);
                self.dump = Some((self.open)()?);
                continue;
            }
            if self.event(datagram)? {
                return Ok(true);
            }
            if !self.wait()? {
                return Ok(false);
            }
        }
    }

    fn is_live(&self) -> bool {
        true
    }

    fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }
}
