//! Sockets of the netfilter netlink protocol: opening, joining event groups, sending and receiving whole datagrams.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use netlink_sys::SocketAddr;
use thiserror::Error;

use super::namespace::{Namespace, NamespaceError};
use super::stop::{GLANCE, Stop};
use super::sys::{self, Memory};
#[cfg(doc)]
use super::wire::NLMSG_ERROR;
use super::wire::{ACK, MESSAGE_HEADER, NETLINK_NETFILTER, NLMSG_NOOP, REQUEST};

/// Length of the buffer to receive into: the kernel makes no longer datagram of a dump, and sizes the next one by the
/// length of the buffer that was last offered.
pub const RECEIVE_LENGTH: usize = 32 * 1024;

/// Multicast groups of connection-tracking events, a bit set (`enum nfnetlink_groups`, group `n` being bit `n - 1`).
pub mod group {
    /// `NFNLGRP_CONNTRACK_NEW`
    pub const NEW: u32 = 1 << 0;
    /// `NFNLGRP_CONNTRACK_UPDATE`
    pub const UPDATE: u32 = 1 << 1;
    /// `NFNLGRP_CONNTRACK_DESTROY`
    pub const DESTROY: u32 = 1 << 2;
    /// `NFNLGRP_CONNTRACK_EXP_NEW`
    pub const EXPECTATION_NEW: u32 = 1 << 3;
    /// `NFNLGRP_CONNTRACK_EXP_UPDATE`, never used by the kernel.
    pub const EXPECTATION_UPDATE: u32 = 1 << 4;
    /// `NFNLGRP_CONNTRACK_EXP_DESTROY`
    pub const EXPECTATION_DESTROY: u32 = 1 << 5;
    /// All events of flows.
    pub const FLOWS: u32 = NEW | UPDATE | DESTROY;
    /// All events of expectations.
    pub const EXPECTATIONS: u32 = EXPECTATION_NEW | EXPECTATION_UPDATE | EXPECTATION_DESTROY;
}

/// What went wrong with a socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The socket could not be made.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// It could not be bound; EPERM if it was to join event groups without CAP_NET_ADMIN.
    #[error("cannot bind the netlink socket (event groups {groups:#x}): {source}")]
    Bind {
        /// The groups that it was to join, bits of [`group`].
        groups: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// An option could not be set.
    #[error("cannot set {option} on the netlink socket: {source}")]
    Option {
        /// The option's name in `netlink(7)` or `socket(7)`.
        option: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Sending failed; EMSGSIZE: the datagram is longer than the send buffer, and none of it has been executed.
    #[error("cannot send {length} bytes to the kernel: {source}")]
    Send {
        /// Length of the datagram.
        length: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel took only a part of a datagram.
    #[error("the kernel took {sent} of {length} bytes")]
    ShortSend {
        /// What it took.
        sent: usize,
        /// Length of the datagram.
        length: usize,
    },
    /// ENOBUFS: the receive buffer was full, and something that was meant for the socket is lost. On an event socket
    /// everything is dropped until the queue has been read empty; on a request socket the results are unknown.
    #[error("the receive buffer of the netlink socket overflowed")]
    Overrun,
    /// A datagram was longer than the buffer; its tail is lost.
    #[error("a netlink datagram did not fit into {buffer} bytes")]
    Truncated {
        /// Length of the buffer.
        buffer: usize,
    },
    /// Receiving failed otherwise.
    #[error("cannot receive from the kernel: {0}")]
    Receive(#[source] io::Error),
    /// The network namespace that it was to be in cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// Waiting failed.
    #[error("cannot wait for the kernel: {0}")]
    Wait(#[source] io::Error),
}

impl SocketError {
    /// The error number behind it, as in `errno(3)`; ENOBUFS for an overrun, EMSGSIZE for a datagram that was cut.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Open(source) | Self::Receive(source) | Self::Wait(source) => source.raw_os_error(),
            Self::Bind { source, .. } | Self::Option { source, .. } | Self::Send { source, .. } => {
                source.raw_os_error()
            }
            Self::ShortSend { .. } | Self::Truncated { .. } => Some(libc::EMSGSIZE),
            Self::Overrun => Some(libc::ENOBUFS),
            Self::Namespace(error) => Some(error.errno()),
        }
        .unwrap_or(libc::EIO)
    }
}

/// How a socket is set up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Event groups to join, bits of [`group`]. Each event takes 1,280 bytes of the receive buffer, whatever its size.
    pub groups: u32,
    /// Wanted receive buffer in bytes, of which the lowest 32 bits count, as an int; what is negative or small gives the
    /// kernel's minimum. `None`: the system's default (`net.core.rmem_default`).
    pub receive_buffer: Option<usize>,
    /// Wanted send buffer in bytes: a datagram may be 32 bytes shorter than what is in force (the kernel doubles the
    /// value). `None`: the system's default.
    pub send_buffer: Option<usize>,
    /// `NETLINK_NO_ENOBUFS`: overruns are not reported, and delivery resumes as soon as there is room.
    pub no_overrun_errors: bool,
    /// `NETLINK_BROADCAST_ERROR`: the kernel keeps what it could not deliver and delivers it later. A listener that
    /// stalls then fills the table with dying entries.
    pub reliable: bool,
    /// `NETLINK_LISTEN_ALL_NSID`: also events of other network namespaces that have an id. Needs CAP_NET_BROADCAST.
    pub all_namespaces: bool,
    /// The network namespace that the socket belongs to; none for that of the calling thread.
    pub namespace: Option<Namespace>,
}

impl Options {
    /// Those of a plain socket in a network namespace.
    #[must_use]
    pub fn within(namespace: Option<&Namespace>) -> Self {
        Self { namespace: namespace.cloned(), ..Self::default() }
    }
}

/// A datagram in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes of the buffer it takes.
    pub length: usize,
    /// Id of the network namespace that it is about, where it is not the socket's own.
    pub namespace: Option<u32>,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// There is something to receive (or an error to be told by receiving).
    Readable,
    /// The stop signal was given.
    Stopped,
    /// The time is over.
    TimedOut,
}

/// A netfilter netlink socket, connected to the kernel.
#[derive(Debug)]
pub struct Socket {
    inner: netlink_sys::Socket,
    port: u32,
    receive_buffer: AtomicUsize,
    sequence: AtomicU32,
}

impl Socket {
    /// Opens a socket, in the network namespace of the calling thread or in the one that is asked for.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN when groups are joined, EPROTONOSUPPORT where the kernel has no nfnetlink.
    pub fn open(options: &Options) -> Result<Self, SocketError> {
        if let Some(opener) = options.namespace.as_ref().and_then(Namespace::opener) {
            return opener.open().map(Self::connected).map_err(SocketError::Open);
        }
        match &options.namespace {
            Some(namespace) => namespace.within(|| Self::open_here(options))?,
            None => Self::open_here(options),
        }
    }

    fn open_here(options: &Options) -> Result<Self, SocketError> {
        let mut inner = netlink_sys::Socket::new(NETLINK_NETFILTER).map_err(SocketError::Open)?;
        let option = |option, result: io::Result<()>| result.map_err(|source| SocketError::Option { option, source });
        if let Some(bytes) = options.receive_buffer {
            // Forced where that is allowed, else as much as the system's limit allows.
            option("SO_RCVBUF", sys::set_receive_buffer(descriptor(&inner), bytes))?;
        }
        if let Some(bytes) = options.send_buffer {
            option("SO_SNDBUF", sys::set_send_buffer(descriptor(&inner), bytes))?;
        }
        // Errors that do not echo the request take less of the receive buffer and cost nothing; and the kernel's own
        // words are worth having. Both are older than what else is needed of the kernel, so a failure is one.
        option("NETLINK_CAP_ACK", inner.set_cap_ack(true))?;
        option("NETLINK_EXT_ACK", inner.set_ext_ack(true))?;
        if options.no_overrun_errors {
            option("NETLINK_NO_ENOBUFS", inner.set_no_enobufs(true))?;
        }
        if options.reliable {
            option("NETLINK_BROADCAST_ERROR", inner.set_broadcast_error(true))?;
        }
        if options.all_namespaces {
            option("NETLINK_LISTEN_ALL_NSID", inner.set_listen_all_namespaces(true))?;
        }
        // All options are in force before the first event can arrive.
        let bind = |source| SocketError::Bind { groups: options.groups, source };
        inner.bind(&SocketAddr::new(0, options.groups)).map_err(bind)?;
        let mut address = SocketAddr::new(0, 0);
        inner.get_address(&mut address).map_err(bind)?;
        // A connected netlink socket refuses what other processes send to it.
        inner.connect(&SocketAddr::new(0, 0)).map_err(bind)?;
        let receive_buffer =
            inner.get_rx_buf_sz().map_err(|source| SocketError::Option { option: "SO_RCVBUF", source })?;
        let receive_buffer = AtomicUsize::new(receive_buffer);
        Ok(Self { inner, port: address.port_number(), receive_buffer, sequence: AtomicU32::new(0) })
    }

    /// A socket that is connected already, to what answers in the place of the kernel.
    #[allow(unsafe_code)]
    fn connected(descriptor: std::os::fd::OwnedFd) -> Self {
        use std::os::fd::{FromRawFd as _, IntoRawFd as _};
        // SAFETY: the descriptor is open, and nothing else owns it from here on.
        let inner = unsafe { netlink_sys::Socket::from_raw_fd(descriptor.into_raw_fd()) };
        Self { inner, port: 1, receive_buffer: AtomicUsize::new(8 << 20), sequence: AtomicU32::new(0) }
    }

    /// The socket's netlink port id: what `nlmsg_pid` of an event says if this socket caused it.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// A sequence number that the last four thousand million requests of this socket did not have; never 0, which is
    /// that of events.
    pub fn next_sequence(&self) -> u32 {
        loop {
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if sequence != 0 {
                return sequence;
            }
        }
    }

    /// The receive buffer in force, in bytes; the kernel doubles what it is asked for. 1,280 bytes hold one event,
    /// 832 one acknowledgement.
    #[must_use]
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer.load(Ordering::Relaxed)
    }

    /// Sets the receive buffer anew, as [`Options::receive_buffer`] does; what is in force then, which may be less than
    /// twice that where `net.core.rmem_max` holds. What is queued stays.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<usize, SocketError> {
        let option = |source| SocketError::Option { option: "SO_RCVBUF", source };
        sys::set_receive_buffer(self.as_fd(), bytes).map_err(option)?;
        let in_force = self.inner.get_rx_buf_sz().map_err(option)?;
        self.receive_buffer.store(in_force, Ordering::Relaxed);
        Ok(in_force)
    }

    /// How full the receive buffer is, and how many datagrams were lost so far because it was.
    ///
    /// # Errors
    /// On kernels older than 4.12.
    pub fn memory(&self) -> Result<Memory, SocketError> {
        sys::memory(self.as_fd()).map_err(|source| SocketError::Option { option: "SO_MEMINFO", source })
    }

    /// How many datagrams were lost so far because the receive buffer was full.
    ///
    /// # Errors
    /// As [`Socket::memory`].
    pub fn dropped(&self) -> Result<u32, SocketError> {
        Ok(self.memory()?.dropped)
    }

    /// Has the kernel answer on this socket behind everything that is queued on it now, and so behind every event that it
    /// has sent: the sequence number of the answer, which is an [`NLMSG_ERROR`] without error.
    ///
    /// # Errors
    /// As [`Socket::send`].
    pub fn mark(&self) -> Result<u32, SocketError> {
        let sequence = self.next_sequence();
        let mut message = Vec::with_capacity(MESSAGE_HEADER);
        message.extend((MESSAGE_HEADER as u32).to_ne_bytes());
        message.extend(NLMSG_NOOP.to_ne_bytes());
        message.extend((REQUEST | ACK).to_ne_bytes());
        message.extend(sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        self.send(&message)?;
        Ok(sequence)
    }

    /// Sends one datagram, which may hold several messages, to the kernel. The kernel executes it before this returns.
    ///
    /// # Errors
    /// EMSGSIZE if it is longer than the send buffer; nothing is executed then.
    pub fn send(&self, datagram: &[u8]) -> Result<(), SocketError> {
        let length = datagram.len();
        loop {
            match self.inner.send(datagram, 0) {
                Ok(sent) if sent == length => return Ok(()),
                Ok(sent) => return Err(SocketError::ShortSend { sent, length }),
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(SocketError::Send { length, source }),
            }
        }
    }

    /// Receives the next datagram, waiting for it.
    ///
    /// # Errors
    /// [`SocketError::Overrun`] (something is lost, the socket lives on), [`SocketError::Truncated`], others.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Received, SocketError> {
        loop {
            if let Some(received) = self.receive_with(buffer, 0)? {
                return Ok(received);
            }
        }
    }

    /// Receives the next datagram if there is one; `None` when the queue is empty.
    ///
    /// # Errors
    /// As [`Socket::receive`].
    pub fn try_receive(&self, buffer: &mut [u8]) -> Result<Option<Received>, SocketError> {
        self.receive_with(buffer, libc::MSG_DONTWAIT)
    }

    /// Whether there is something to receive, which is left where it is: the cheapest way to ask after a request that is
    /// answered only if it fails.
    ///
    /// # Errors
    /// As [`Socket::receive`].
    pub fn has_answer(&self) -> Result<bool, SocketError> {
        let mut first = [0u8; 1];
        loop {
            match self.inner.recv(&mut &mut first[..], libc::MSG_DONTWAIT | libc::MSG_PEEK) {
                Ok(_) => return Ok(true),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN) => return Ok(false),
                    Some(libc::ENOBUFS) => return Err(SocketError::Overrun),
                    _ => return Err(SocketError::Receive(error)),
                },
            }
        }
    }

    fn receive_with(&self, buffer: &mut [u8], flags: i32) -> Result<Option<Received>, SocketError> {
        loop {
            match sys::receive(self.as_fd(), buffer, flags) {
                // Only the kernel is listened to.
                Ok(datagram) if datagram.sender != 0 => {}
                Ok(datagram) if datagram.truncated => return Err(SocketError::Truncated { buffer: buffer.len() }),
                Ok(datagram) => {
                    return Ok(Some(Received { length: datagram.length, namespace: datagram.namespace }));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Err(SocketError::Overrun),
                Err(error) => return Err(SocketError::Receive(error)),
            }
        }
    }

    /// Waits until there is something to receive, the stop signal is given, or the time is over. The stop signal wins.
    ///
    /// # Errors
    /// When `poll` fails. A caught Unix signal is not an error: with a stop signal to watch, the wait ends as if its time were
    /// over, since one may have led to the other; without one it goes on.
    pub fn wait(&self, stop: Option<&Stop>, timeout: Option<Duration>) -> Result<Woken, SocketError> {
        let Some(stop) = stop else { return self.wait_without_stop(timeout) };
        if stop.is_stopped() {
            return Ok(Woken::Stopped);
        }
        let woken = match stop.descriptor() {
            Ok(descriptor) => sys::poll([self.as_fd(), descriptor], timeout).map(|[readable, _]| readable),
            // Without a descriptor to be woken by, the wait ends early, and the caller comes back.
            Err(_) => {
                let glance = timeout.map_or(GLANCE, |timeout| timeout.min(GLANCE));
                sys::poll([self.as_fd()], Some(glance)).map(|[readable]| readable)
            }
        };
        match woken {
            _ if stop.is_stopped() => Ok(Woken::Stopped),
            Ok(true) => Ok(Woken::Readable),
            Ok(false) => Ok(Woken::TimedOut),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Woken::TimedOut),
            Err(error) => Err(SocketError::Wait(error)),
        }
    }

    fn wait_without_stop(&self, timeout: Option<Duration>) -> Result<Woken, SocketError> {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            match sys::poll([self.as_fd()], left) {
                Ok([true]) => return Ok(Woken::Readable),
                Ok(_) => return Ok(Woken::TimedOut),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SocketError::Wait(error)),
            }
        }
    }

    /// Throws away everything that is queued; what a failed exchange left behind must not be taken for an answer.
    ///
    /// # Errors
    /// As [`Socket::receive`], except that overruns and cut datagrams are passed over.
    pub fn discard(&self) -> Result<(), SocketError> {
        let mut buffer = [0; 4096];
        loop {
            match self.try_receive(&mut buffer) {
                Ok(Some(_)) | Err(SocketError::Overrun | SocketError::Truncated { .. }) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        descriptor(&self.inner)
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.inner.as_raw_fd()
    }
}

/// The descriptor of a socket of netlink-sys, which has no `AsFd`.
fn descriptor(socket: &netlink_sys::Socket) -> BorrowedFd<'_> {
    sys::borrow(socket)
}
