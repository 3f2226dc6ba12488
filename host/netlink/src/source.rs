//! Sources: where datagrams come from.

use std::{
    error::Error,
    sync::{Arc, Mutex},
};

use super::programs::Programs;
use crate::{Namespace, SocketError, decode::Arrival};

/// Room for one datagram of a dump: the kernel never sends a longer one.
pub const DATAGRAM: usize = 32 << 10;
/// Room for the events that a live source puts together into one.
pub const EVENTS: usize = 64 << 10;

/// What a source can run into.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The kernel refused the request, or broke the dump off: a positive error number as in `errno(3)`.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Kernel(i32),
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Another kind of source failed, such as a recording that cannot be read on.
    #[error("{error}")]
    Other {
        /// The error number that comes nearest, as in `errno(3)`.
        errno: i32,
        /// What is wrong.
        error: Box<dyn Error + Send + Sync>,
    },
}

impl SourceError {
    /// The error number, as in `errno(3)`.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            SourceError::Kernel(errno) => *errno,
            SourceError::Socket(error) => error.errno(),
            SourceError::Other { errno, .. } => *errno,
        }
    }
}

/// A datagram in a reused buffer.
#[derive(Debug)]
pub struct Datagram {
    /// The buffer; the first `length` bytes are the datagram.
    pub buffer: Vec<u8>,
    /// Length of the datagram in bytes.
    pub length: usize,
    /// When it was received, nanoseconds since 1970. Sources of events fill it in; dumps leave 0.
    pub received: u64,
    /// When each of its messages was received, where it was put together from several datagrams; else empty.
    pub times: Vec<u64>,
    /// Id of the network namespace, where it is not the host's own.
    pub namespace: Option<u32>,
    /// Not a datagram, but word that some before the next one are lost.
    pub gap: bool,
    /// How many, where that is known.
    pub lost: Option<u32>,
    /// Not a datagram, but word that there is nothing more for the moment: what has arrived is to be handed on.
    pub pause: bool,
    /// The messages are entries of the table and not events, though the source is one of events.
    pub entries: bool,
    /// Ports, and the names of the programs behind them, where the source knows them ([`Source::recorded`]). They hold from
    /// here on.
    pub programs: Vec<(u32, Vec<u8>)>,
    /// The name of the namespace with the id `namespace`, where the source knows it ([`Source::recorded`]).
    pub namespace_name: Option<Vec<u8>>,
}

impl Datagram {
    /// An empty one, for a dump.
    #[must_use]
    pub fn new() -> Self {
        Self::with_room(DATAGRAM)
    }

    /// An empty one with a buffer of so many bytes.
    #[must_use]
    pub fn with_room(bytes: usize) -> Self {
        Datagram {
            buffer: vec![0; bytes],
            length: 0,
            received: 0,
            times: Vec::new(),
            namespace: None,
            gap: false,
            lost: None,
            pause: false,
            entries: false,
            programs: Vec::new(),
            namespace_name: None,
        }
    }

    /// Empties it, for a source to fill in what applies.
    #[inline]
    pub fn begin(&mut self) {
        (self.length, self.received, self.namespace) = (0, 0, None);
        (self.gap, self.pause, self.entries) = (false, false, false);
        self.lost = None;
        self.times.clear();
        self.programs.clear();
        self.namespace_name = None;
    }

    /// Makes these bytes the datagram. The buffer gets longer if it must, and never shorter: the kernel's next one must fit too.
    pub fn fill(&mut self, bytes: &[u8]) {
        if self.buffer.len() < bytes.len() {
            self.buffer.resize(bytes.len(), 0);
        }
        if let Some(place) = self.buffer.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.length = bytes.len();
    }

    /// How its message with this number came, for the decoder.
    #[must_use]
    #[inline]
    pub fn arrival(&self, live: bool, message: usize) -> Arrival {
        if !live || self.entries {
            return Arrival::Entry;
        }
        let received = self.times.get(message).copied().unwrap_or(self.received);
        Arrival::Event { received, namespace: self.namespace }
    }

    /// The datagram.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }
}

impl Default for Datagram {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts marks into the stream of a source.
pub trait Marker {
    /// Puts a mark behind everything that the kernel has sent to the source until now. It comes out of the source as a
    /// message NLMSG_ERROR without error and with the sequence number that is returned; or, where there was no room for it,
    /// a gap does.
    ///
    /// # Errors
    /// The mark cannot be sent.
    fn mark(&mut self) -> Result<u32, SourceError>;
}

/// Puts a mark into a stream that is shared: everybody gets it, and knows his own by its number.
pub type Mark = Arc<dyn Fn() -> Result<u32, SocketError> + Send + Sync>;

/// A stream of datagrams. It runs on the reader's thread and does nothing but receive.
pub trait Source: Send {
    /// Fills in the next datagram; `false` at the end of the stream (or when the stop signal was given).
    ///
    /// # Errors
    /// [`SourceError`], after which the stream is at its end.
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError>;

    /// Whether what has arrived should be handed on at once, rather than when the batch is full.
    fn live(&self) -> bool {
        false
    }

    /// Called while there is no buffer to receive into, since nobody takes what was received: a source of events makes room
    /// for those that the kernel sends meanwhile.
    fn held_up(&mut self) {}

    /// What tells that everything which was sent until now has been handed on; none where that means nothing.
    fn marker(&self) -> Option<Box<dyn Marker>> {
        None
    }

    /// How many datagrams may wait for whoever takes them, if that is less than usual: for a source that keeps what waits
    /// itself.
    fn most(&self) -> Option<usize> {
        None
    }

    /// Whether times, names of programs and pauses come with the datagrams, instead of being found by the pipeline as it
    /// goes: then it makes the same of them every time.
    fn recorded(&self) -> bool {
        false
    }

    /// Who looks up the names of programs behind its events, where that is done for several sources.
    fn programs(&self) -> Option<Arc<Mutex<Programs>>> {
        None
    }

    /// The network namespace that it receives in, where it is not that of the process.
    fn namespace(&self) -> Option<&Namespace> {
        None
    }
}
