//! The kernel as a source of everything: a dump every interval, and events in between.

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

/// Receive buffer for events, in bytes. What does not fit is healed by the next dump.
const BUFFER: usize = 8 << 20;
/// How long it takes at most until a wish is heard.
const HEARS: Duration = Duration::from_millis(100);
/// The shortest time from the end of a dump to the next one.
const REST: Duration = Duration::from_millis(250);

/// What is wished of the source while it runs.
#[derive(Debug, Default)]
pub struct Wishes {
    /// No more dumps for the moment.
    pub paused: AtomicBool,
    /// A dump before its time.
    pub soon: AtomicBool,
}

/// Begins a dump.
pub type Open<'a> = Box<dyn FnMut() -> Result<Box<dyn Source>, SourceError> + Send + 'a>;

/// See the module.
pub struct Kernel<'a> {
    open: Open<'a>,
    events: Option<Arc<Socket>>,
    dump: Option<Box<dyn Source>>,
    interval: Duration,
    /// When the next dump is due, and since when one may be wished for.
    due: Instant,
    rested: Instant,
    wishes: Arc<Wishes>,
    stop: Stop,
    /// Dumps that remain; none for no end.
    remaining: Option<u32>,
    /// Where its sockets are, if not in the network namespace of the process.
    namespace: Option<Namespace>,
}

impl<'a> Kernel<'a> {
    /// Dumps at this interval, without events.
    #[must_use]
    pub fn new(open: Open<'a>, interval: Duration, wishes: &Arc<Wishes>, stop: &Stop) -> Self {
        let now = Instant::now();
        Self {
            open,
            events: None,
            dump: None,
            interval,
            due: now,
            rested: now,
            wishes: wishes.clone(),
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

    /// Ends after so many dumps.
    #[must_use]
    pub fn times(self, dumps: u32) -> Self {
        Self { remaining: Some(dumps), ..self }
    }

    /// Also receives events.
    ///
    /// # Errors
    /// The socket cannot be had; EPERM without CAP_NET_ADMIN.
    pub fn with_events(self, counters: &Counters) -> Result<Self, SocketError> {
        let options = SocketOptions {
            groups: group::FLOWS,
            receive_buffer: Some(BUFFER),
            ..SocketOptions::in_namespace(self.namespace.as_ref())
        };
        let socket = Arc::new(Socket::open(&options)?);
        counters.watch(&socket);
        Ok(Self { events: Some(socket), ..self })
    }

    /// Whether it is time for a dump.
    fn is_due(&self) -> bool {
        let now = Instant::now();
        if self.wishes.soon.load(Relaxed) && now >= self.rested {
            return true;
        }
        now >= self.due && !self.wishes.paused.load(Relaxed)
    }

    /// What events wait: whether the datagram was filled in.
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
                // What was lost is in the table.
                self.wishes.soon.store(true, Relaxed);
            }
            Err(error) => return Err(error.into()),
        }
        datagram.received = now();
        Ok(true)
    }

    /// Waits for events, or until something may be due; `false` if the stop signal came.
    fn wait(&self) -> Result<bool, SourceError> {
        let time = self.due.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), HEARS);
        match &self.events {
            Some(socket) => Ok(socket.wait(Some(&self.stop), Some(time))? != WakeReason::Stopped),
            None => Ok(!self.stop.wait(time)),
        }
    }
}

impl Source for Kernel<'_> {
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
                (self.due, self.rested) = (now + self.interval, now + REST);
                self.remaining = self.remaining.map(|dumps| dumps.saturating_sub(1));
                datagram.clear();
                datagram.flush = true;
                return Ok(true);
            }
            if self.remaining == Some(0) {
                return Ok(false);
            }
            if self.is_due() {
                self.wishes.soon.store(false, Relaxed);
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
