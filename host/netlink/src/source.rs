//! Sources of datagrams.

use std::{error::Error, sync::Arc, time::Duration};

use flowgate_base::{io_error::errno_text, text::line};

use crate::{Namespace, RECEIVE_LENGTH, SocketError, decode::Arrival};

/// Buffer size for the events that a live source combines into one datagram: two of the longest.
pub const EVENT_BUFFER_LENGTH: usize = 2 * RECEIVE_LENGTH;

/// Why a source failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The kernel refused the request or aborted the dump; a positive error number as in `errno(3)`.
    #[error("{}", errno_text(*.0))]
    Kernel(i32),
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A source of another kind failed, for example a recording that is damaged.
    #[error("{}", line(error.to_string().as_bytes()))]
    Other {
        /// The closest error number, as in `errno(3)`.
        errno: i32,
        /// The cause.
        error: Box<dyn Error + Send + Sync>,
    },
}

impl SourceError {
    /// Returns the error number, as in `errno(3)`.
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
    /// The buffer; its first `length` bytes are the datagram.
    pub buffer: Vec<u8>,
    /// Length of the datagram in bytes.
    pub length: usize,
    /// When it was received, in nanoseconds since 1970. Sources of events set it; dumps leave it 0.
    pub received: u64,
    /// When each message was received, if the datagram is combined from several; else empty.
    pub times: Vec<u64>,
    /// Id of the network namespace, if it is not the source's own.
    pub namespace: Option<u32>,
    /// Not a datagram but a gap: datagrams before the next one were lost.
    pub gap: bool,
    /// Number of lost events, if it is known.
    pub lost: Option<u32>,
    /// Not a datagram but a request to flush: nothing more is queued, and batches are handed on.
    pub flush: bool,
    /// True if the messages are table entries although the source yields events.
    pub entries: bool,
    /// Netlink ports and the names of the processes that own them, if the source knows them ([`Source::is_replay`]).
    /// They are valid from here on.
    pub process_names: Vec<(u32, Vec<u8>)>,
    /// Name of the namespace with the id `namespace`, if the source knows it ([`Source::is_replay`]).
    pub namespace_name: Option<Vec<u8>>,
}

impl Datagram {
    /// Returns an empty datagram for a dump.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(RECEIVE_LENGTH)
    }

    /// Returns an empty datagram with a buffer of `bytes` bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Datagram {
            buffer: vec![0; bytes],
            length: 0,
            received: 0,
            times: Vec::new(),
            namespace: None,
            gap: false,
            lost: None,
            flush: false,
            entries: false,
            process_names: Vec::new(),
            namespace_name: None,
        }
    }

    /// Resets all fields except the buffer, before a source fills them in.
    #[inline]
    pub fn clear(&mut self) {
        (self.length, self.received, self.namespace) = (0, 0, None);
        (self.gap, self.flush, self.entries) = (false, false, false);
        self.lost = None;
        self.times.clear();
        self.process_names.clear();
        self.namespace_name = None;
    }

    /// Copies `bytes` into the datagram. The buffer grows if necessary and never shrinks: the next datagram of the
    /// kernel must fit too.
    pub fn fill(&mut self, bytes: &[u8]) {
        if self.buffer.len() < bytes.len() {
            self.buffer.resize(bytes.len(), 0);
        }
        if let Some(place) = self.buffer.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.length = bytes.len();
    }

    /// Returns how the message with this index arrived, for the decoder.
    #[must_use]
    #[inline]
    pub fn arrival(&self, live: bool, message: usize) -> Arrival {
        if !live || self.entries {
            return Arrival::Entry;
        }
        let received = self.times.get(message).copied().unwrap_or(self.received);
        Arrival::Event { received, namespace: self.namespace }
    }

    /// Returns the bytes of the datagram.
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

/// Inserts barriers into the stream of a source.
pub trait Barriers {
    /// Inserts a barrier after everything that the kernel has sent to the source so far, and returns its sequence
    /// number. The source yields the barrier as an NLMSG_ERROR message without error and with this number, or yields a
    /// gap if the receive buffer was full.
    ///
    /// # Errors
    /// The request for the barrier cannot be sent.
    fn insert(&mut self) -> Result<u32, SourceError>;
}

/// Inserts a barrier into a stream that several consumers share. All of them see it, and each recognises its own by the
/// sequence number.
pub type InsertBarrier = Arc<dyn Fn() -> Result<u32, SocketError> + Send + Sync>;

/// A stream of datagrams. It runs on the reader's thread and only receives.
pub trait Source: Send {
    /// Fills in the next datagram; returns false at the end of the stream or after the stop signal.
    ///
    /// # Errors
    /// [`SourceError`], after which the stream has ended.
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError>;

    /// Receives the next datagram as [`Source::next`] does, but waits at most this long; returns `None` if none has
    /// arrived by then. Only sources that [wait themselves](Source::is_timed) do.
    ///
    /// # Errors
    /// As [`Source::next`].
    fn next_within(
        &mut self,
        datagram: &mut Datagram,
        _patience: Option<Duration>,
    ) -> Result<Option<bool>, SourceError> {
        self.next(datagram).map(Some)
    }

    /// Returns true if the source can wait for a limited time, so that a pipeline needs no second thread for it.
    fn is_timed(&self) -> bool {
        false
    }

    /// Returns true if the names of processes come with the datagrams ([`Datagram::process_names`]), although the
    /// source is live.
    fn has_process_names(&self) -> bool {
        self.is_replay()
    }

    /// Returns true if datagrams should be handed on at once instead of when a batch is full.
    fn is_live(&self) -> bool {
        false
    }

    /// Called while the pipeline applies back-pressure (no free buffer). A source of events enlarges its receive
    /// buffer.
    fn on_backpressure(&mut self) {}

    /// Returns the means to insert barriers into this stream, or `None` if the source has no kernel behind it.
    fn barriers(&self) -> Option<Box<dyn Barriers>> {
        None
    }

    /// Returns true if times, process names and flushes come with the datagrams. The pipeline then looks nothing up,
    /// and every replay has the same result.
    fn is_replay(&self) -> bool {
        false
    }

    /// Returns the network namespace that the source receives in, if it is not that of the process.
    fn namespace(&self) -> Option<&Namespace> {
        None
    }
}
