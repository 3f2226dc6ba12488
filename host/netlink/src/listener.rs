//! Events of the kernel as a source: a socket that is read before it overflows, and that tells where it did.
//!
//! The kernel puts each event into the socket's receive buffer, 1,280 bytes of it whatever the event's size. When there is no
//! room it says so once (ENOBUFS), before what is queued is read, and drops everything until the queue has been read empty.
//! So the buffer is doubled when it is half full or has overflowed, up to a limit, and a gap is told where it is: behind
//! what was queued.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Namespace, Options, Socket, SocketError, Stop, Woken,
    source::{Datagram, Mark, Marker, Source, SourceError},
    wire::{MESSAGE_HEADER, align},
};
use flowgate_base::clock::now;

/// Receive buffer for events, in bytes, unless the user sets one: room for about 13,000 events (the kernel doubles it), where
/// the system's default has room for 166.
pub const EVENT_BUFFER: usize = 8 << 20;
/// What it may grow to unless the user says otherwise: room for about 210,000 events.
pub const EVENT_BUFFER_MAX: usize = 128 << 20;

/// An event is received where there is this much room; none is nearly as long.
const ROOM: usize = 16 << 10;
/// After how many events it is looked at how full the receive buffer is.
const LOOK: u32 = 64;
/// What an event takes of the receive buffer at the very least.
const CHARGE: usize = 512;
/// Events that follow each other faster than this are left to gather. Being woken for each costs more than the event itself.
const BUSY: Duration = Duration::from_micros(500);
/// How long they are left to gather.
const GATHER: Duration = Duration::from_millis(1);
/// They are where the receive buffer has room for what comes in that time, and more: so many bytes.
const GATHERING: usize = 2 << 20;

/// What is listened to, and how.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Event groups.
    pub groups: u32,
    /// Receive buffer to begin with, in bytes before the kernel doubles it.
    pub buffer: Option<usize>,
    /// What it may grow to, likewise.
    pub buffer_max: Option<usize>,
    /// `--reliable`: the kernel keeps what it cannot deliver.
    pub reliable: bool,
    /// The network namespace, if not that of the process.
    pub namespace: Option<Namespace>,
    /// `--all-netns`: events of all namespaces that have an id in it.
    pub all_namespaces: bool,
    /// Whether it is told where nothing more was found to receive, and each datagram stays as it is.
    pub pauses: bool,
}

/// Events of the kernel, until the stop signal.
pub struct Listener {
    socket: Arc<Socket>,
    namespace: Option<Namespace>,
    stop: Stop,
    reliable: bool,
    pauses: bool,
    /// Whether something was received since the last pause.
    received: bool,
    /// Receive buffer that was last asked for.
    buffer: usize,
    buffer_max: usize,
    /// Events since the receive buffer was last looked at.
    unlooked: u32,
    /// How many events the kernel has dropped, as far as that has been told.
    dropped: u32,
    /// After an overrun: how many events may still be queued from before it.
    overrun: Option<usize>,
    /// Whether there was one before that, whose place this is.
    due: bool,
    /// After the stop signal: how many events may still be queued from before it.
    ending: Option<usize>,
    /// An event of another namespace, which begins the next datagram: bytes, namespace, when it was received.
    held: Option<(Vec<u8>, Option<u32>, u64)>,
    /// Whether events are left to gather before the next look.
    busy: bool,
}

impl Listener {
    /// Joins the groups.
    ///
    /// # Errors
    /// See [`Socket::open`].
    pub fn open(wanted: &Wanted, stop: &Stop) -> Result<Self, SocketError> {
        let Wanted { groups, reliable, pauses, .. } = *wanted;
        let options = Options {
            groups,
            receive_buffer: Some(wanted.buffer.unwrap_or(EVENT_BUFFER)),
            // What the kernel keeps is not lost, and there is no reason to stop listening.
            no_overrun_errors: reliable,
            reliable,
            all_namespaces: wanted.all_namespaces,
            ..Options::within(wanted.namespace.as_ref())
        };
        let socket = Socket::open(&options)?;
        let buffer = socket.receive_buffer() / 2;
        let listener = Listener {
            socket: Arc::new(socket),
            namespace: wanted.namespace.clone(),
            stop: stop.clone(),
            reliable,
            pauses,
            received: false,
            buffer,
            buffer_max: wanted.buffer_max.unwrap_or(EVENT_BUFFER_MAX),
            unlooked: 0,
            dropped: 0,
            overrun: None,
            due: false,
            ending: None,
            held: None,
            busy: false,
        };
        Ok(listener)
    }

    /// The socket, for whoever wants to know how full it is.
    pub fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// The receive buffer in force, in bytes.
    pub fn receive_buffer(&self) -> usize {
        self.socket.receive_buffer()
    }

    /// Doubles the receive buffer, unless it may not grow.
    fn grow(&mut self) {
        let wanted = self.buffer.saturating_mul(2).min(self.buffer_max);
        if wanted <= self.buffer {
            return;
        }
        let before = self.socket.receive_buffer();
        match self.socket.set_receive_buffer(wanted) {
            Ok(now) if now > before => self.buffer = wanted,
            // The system's limit is reached: it is of no use to ask again.
            _ => self.buffer_max = 0,
        }
    }

    /// Makes the receive buffer larger if it is half full.
    fn relieve(&mut self) {
        if self.buffer < self.buffer_max
            && let Ok(memory) = self.socket.memory()
            && memory.queued > memory.limit / 2
        {
            self.grow();
        }
    }

    /// Looks now and then at how full the receive buffer is, and whether to end: what comes faster than it can be read has no
    /// end by itself, and what was there when the signal came is shown.
    fn look(&mut self) {
        self.unlooked += 1;
        if self.unlooked < LOOK {
            return;
        }
        self.unlooked = 0;
        self.relieve();
        self.ending = match self.ending {
            Some(left) => Some(left.saturating_sub(LOOK as usize)),
            None => self.stop.is_stopped().then(|| self.socket.receive_buffer() / CHARGE),
        };
    }

    /// How many events were dropped since this was last asked; none if the kernel does not tell.
    fn newly_dropped(&mut self) -> Option<u32> {
        let dropped = self.socket.memory().ok()?.dropped;
        let new = dropped.wrapping_sub(self.dropped);
        self.dropped = dropped;
        Some(new)
    }

    /// Tells of a gap, if there is one here.
    fn gap(&mut self, datagram: &mut Datagram) -> bool {
        let lost = if std::mem::take(&mut self.due) || self.overrun.take().is_some() {
            self.newly_dropped()
        } else if self.reliable && self.newly_dropped().is_some_and(|dropped| dropped > 0) {
            // These are attempts: what could not be delivered is tried again.
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

    /// Receives what is queued, as far as there is room; `false` if there was nothing more.
    fn fill(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        loop {
            let room = datagram.buffer.get_mut(datagram.length..).unwrap_or_default();
            if room.len() < ROOM || self.due || self.overrun == Some(0) || self.ending == Some(0) {
                return Ok(true);
            }
            let received = match self.socket.try_receive(room) {
                Ok(Some(received)) => received,
                Ok(None) => return Ok(false),
                Err(SocketError::Overrun) => {
                    self.grow();
                    // What was queued before another one has been read by now.
                    self.due = self.overrun.is_some();
                    self.overrun = Some(self.socket.receive_buffer() / CHARGE);
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
            take(datagram, received.length, time);
            self.look();
            if self.pauses {
                return Ok(true);
            }
        }
    }

    /// Waits for more; `false` if the stop signal was given.
    fn wait(&mut self) -> Result<bool, SourceError> {
        if self.busy {
            self.busy = false;
            return Ok(!self.stop.wait(GATHER));
        }
        let before = Instant::now();
        let woken = self.socket.wait(Some(&self.stop), None)?;
        self.busy = before.elapsed() < BUSY && self.socket.receive_buffer() >= GATHERING;
        Ok(woken != Woken::Stopped)
    }
}

/// Takes in what was received behind what is there.
fn take(datagram: &mut Datagram, length: usize, time: u64) {
    if datagram.length == 0 {
        datagram.received = time;
    }
    // An event is one message, and the next one begins where it is aligned.
    let whole = if length < MESSAGE_HEADER { length } else { align(length) };
    datagram.length = (datagram.length + whole).min(datagram.buffer.len());
    datagram.times.push(time);
}

impl Source for Listener {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        datagram.begin();
        if let Some((bytes, namespace, time)) = self.held.take() {
            if let Some(place) = datagram.buffer.get_mut(..bytes.len()) {
                place.copy_from_slice(&bytes);
            }
            datagram.namespace = namespace;
            take(datagram, bytes.len(), time);
        }
        let mut gathered = false;
        loop {
            // What is queued is taken without asking whether there is something.
            let more = self.fill(datagram)?;
            if datagram.length > 0 {
                // So fast that more is there already when what was there has been taken in: or soon will be.
                self.busy |= gathered;
                return Ok(true);
            }
            if (!more || self.due || self.overrun == Some(0)) && self.gap(datagram) {
                return Ok(true);
            }
            if self.ending == Some(0) {
                return Ok(false);
            }
            if self.pauses && self.received {
                self.received = false;
                datagram.pause = true;
                return Ok(true);
            }
            gathered = self.busy;
            if !self.wait()? {
                return Ok(false);
            }
        }
    }

    fn live(&self) -> bool {
        true
    }

    fn held_up(&mut self) {
        self.relieve();
    }

    fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    fn marker(&self) -> Option<Box<dyn Marker>> {
        Some(Box::new(Marks(self.socket.clone())))
    }
}

impl Listener {
    /// What puts marks into the stream, for several who listen to it.
    pub fn mark(&self) -> Mark {
        let socket = self.socket.clone();
        Arc::new(move || socket.mark())
    }
}

/// Marks in the events of a socket.
struct Marks(Arc<Socket>);

impl Marker for Marks {
    fn mark(&mut self) -> Result<u32, SourceError> {
        Ok(self.0.mark()?)
    }
}
