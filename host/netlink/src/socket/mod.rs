//! Netfilter netlink sockets: opening, joining event groups, sending and receiving whole datagrams.

mod error;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use netlink_sys::SocketAddr;

pub use error::SocketError;

use super::namespace::Namespace;
use super::stop::{POLL_INTERVAL, Stop};
use super::sys::{self, SocketMemory};
#[cfg(doc)]
use super::wire::NLMSG_ERROR;
use super::wire::{ACK, MESSAGE_HEADER, NETLINK_NETFILTER, NLMSG_NOOP, REQUEST};

/// Length of the buffer to receive into. The kernel produces no longer datagram of a dump, and sizes the next one by
/// the length of the buffer that was last offered.
pub const RECEIVE_LENGTH: usize = 32 * 1024;

/// Multicast groups of connection-tracking events as a bit set (`enum nfnetlink_groups`; group `n` is bit `n - 1`).
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

/// Options of a socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Event groups to join, bits of [`group`]. Each event takes 1,280 bytes of the receive buffer, whatever its size.
    pub groups: u32,
    /// Size of the receive buffer in bytes, of which the kernel reads the lowest 32 bits as an int; a negative or small
    /// value results in the kernel's minimum. `None`: the system's default (`net.core.rmem_default`).
    pub receive_buffer: Option<usize>,
    /// Size of the send buffer in bytes: a datagram may be 32 bytes shorter than the size in force (the kernel doubles
    /// the value). `None`: the system's default.
    pub send_buffer: Option<usize>,
    /// `NETLINK_NO_ENOBUFS`: overruns are not reported, and delivery resumes as soon as there is room.
    pub no_overrun_errors: bool,
    /// `NETLINK_BROADCAST_ERROR`: the kernel keeps entries whose event it could not deliver, and delivers it later. A
    /// listener that stalls then fills the table with dying entries.
    pub reliable: bool,
    /// `NETLINK_LISTEN_ALL_NSID`: also events of other network namespaces that have an id. Needs CAP_NET_BROADCAST.
    pub all_namespaces: bool,
    /// The network namespace that the socket belongs to; `None` for that of the calling thread.
    pub namespace: Option<Namespace>,
}

impl SocketOptions {
    /// Returns the options of a plain socket in a network namespace.
    #[must_use]
    pub fn in_namespace(namespace: Option<&Namespace>) -> Self {
        Self { namespace: namespace.cloned(), ..Self::default() }
    }
}

/// A datagram in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Length of the datagram in bytes.
    pub length: usize,
    /// Id of the network namespace that it came from, if it is not the socket's own.
    pub namespace: Option<u32>,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeReason {
    /// A datagram, or an error, can be received.
    Readable,
    /// The stop signal was given.
    Stopped,
    /// The timeout has expired.
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
    /// Opens a socket in the network namespace of the options, or in that of the calling thread.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN when groups are joined, EPROTONOSUPPORT if the kernel has no nfnetlink.
    pub fn open(options: &SocketOptions) -> Result<Self, SocketError> {
        if let Some(opener) = options.namespace.as_ref().and_then(Namespace::opener) {
            return opener.open().map(Self::connected).map_err(SocketError::Open);
        }
        match &options.namespace {
            Some(namespace) => namespace.run(|| Self::open_here(options))?,
            None => Self::open_here(options),
        }
    }

    fn open_here(options: &SocketOptions) -> Result<Self, SocketError> {
        let mut inner = netlink_sys::Socket::new(NETLINK_NETFILTER).map_err(SocketError::Open)?;
        let option = |option, result: io::Result<()>| result.map_err(|source| SocketError::Option { option, source });
        if let Some(bytes) = options.receive_buffer {
            // Beyond the system's limit if that is permitted, else up to it.
            option("SO_RCVBUF", sys::set_receive_buffer(descriptor(&inner), bytes))?;
        }
        if let Some(bytes) = options.send_buffer {
            option("SO_SNDBUF", sys::set_send_buffer(descriptor(&inner), bytes))?;
        }
        // An error without the echoed request takes less of the receive buffer at no cost, and the kernel's message is
        // useful. Both options are older than other features that are required, so that a failure is an error.
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
        // A connected netlink socket refuses messages of other processes.
        inner.connect(&SocketAddr::new(0, 0)).map_err(bind)?;
        let receive_buffer =
            inner.get_rx_buf_sz().map_err(|source| SocketError::Option { option: "SO_RCVBUF", source })?;
        let receive_buffer = AtomicUsize::new(receive_buffer);
        Ok(Self { inner, port: address.port_number(), receive_buffer, sequence: AtomicU32::new(0) })
    }

    /// Wraps a connected socket, whose peer takes the place of the kernel.
    #[allow(unsafe_code)]
    fn connected(descriptor: std::os::fd::OwnedFd) -> Self {
        use std::os::fd::{FromRawFd as _, IntoRawFd as _};
        // SAFETY: the descriptor is open, and nothing else owns it from here on.
        let inner = unsafe { netlink_sys::Socket::from_raw_fd(descriptor.into_raw_fd()) };
        Self { inner, port: 1, receive_buffer: AtomicUsize::new(8 << 20), sequence: AtomicU32::new(0) }
    }

    /// Returns the socket's netlink port id, the `nlmsg_pid` of events that this socket caused.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Returns a sequence number that none of the last 2^32 - 1 requests of this socket had; never 0, the number of
    /// events.
    pub fn next_sequence(&self) -> u32 {
        loop {
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if sequence != 0 {
                return sequence;
            }
        }
    }

    /// Returns the size in bytes of the receive buffer in force; the kernel doubles the requested size. An event takes
    /// 1,280 bytes, an acknowledgement 832.
    #[must_use]
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer.load(Ordering::Relaxed)
    }

    /// Resizes the receive buffer as [`SocketOptions::receive_buffer`] does, and returns the size in force, which may
    /// be less than twice the requested one if `net.core.rmem_max` applies. Queued datagrams are kept.
    ///
    /// # Errors
    /// The kernel refuses the option.
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<usize, SocketError> {
        let option = |source| SocketError::Option { option: "SO_RCVBUF", source };
        sys::set_receive_buffer(self.as_fd(), bytes).map_err(option)?;
        let in_force = self.inner.get_rx_buf_sz().map_err(option)?;
        self.receive_buffer.store(in_force, Ordering::Relaxed);
        Ok(in_force)
    }

    /// Returns the receive-buffer level and the number of datagrams lost because the buffer was full.
    ///
    /// # Errors
    /// The kernel is older than 4.12.
    pub fn memory(&self) -> Result<SocketMemory, SocketError> {
        sys::memory(self.as_fd()).map_err(|source| SocketError::Option { option: "SO_MEMINFO", source })
    }

    /// Returns the number of datagrams lost because the receive buffer was full.
    ///
    /// # Errors
    /// The same as [`Socket::memory`].
    pub fn dropped(&self) -> Result<u32, SocketError> {
        Ok(self.memory()?.dropped)
    }

    /// Requests an acknowledgement, which the kernel queues after everything that it has sent to this socket so far,
    /// events included. Returns its sequence number; the acknowledgement is an [`NLMSG_ERROR`] without error.
    ///
    /// # Errors
    /// The same as [`Socket::send`].
    pub fn insert_barrier(&self) -> Result<u32, SocketError> {
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
    /// EMSGSIZE if it is longer than the send buffer; nothing is executed in that case.
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

    /// Waits for the next datagram and receives it.
    ///
    /// # Errors
    /// [`SocketError::Overrun`] (a message is lost, the socket remains usable), [`SocketError::Truncated`], others.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Received, SocketError> {
        loop {
            if let Some(received) = self.receive_with(buffer, 0)? {
                return Ok(received);
            }
        }
    }

    /// Receives the next datagram, or returns `None` if the queue is empty.
    ///
    /// # Errors
    /// The same as [`Socket::receive`].
    pub fn try_receive(&self, buffer: &mut [u8]) -> Result<Option<Received>, SocketError> {
        self.receive_with(buffer, libc::MSG_DONTWAIT)
    }

    /// Returns true if a datagram is queued, and leaves it there. This is the cheapest check for a request that is
    /// answered only if it fails.
    ///
    /// # Errors
    /// The same as [`Socket::receive`].
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
                // Messages of other processes are ignored.
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

    /// Waits until a datagram is queued, the stop signal is given, or the timeout expires. The stop signal takes
    /// precedence.
    ///
    /// # Errors
    /// `poll` failed. A caught Unix signal is not an error: with a stop signal the wait ends as if the timeout had
    /// expired, since the handler may have given the stop signal; without one it continues.
    pub fn wait(&self, stop: Option<&Stop>, timeout: Option<Duration>) -> Result<WakeReason, SocketError> {
        let Some(stop) = stop else { return self.wait_without_stop(timeout) };
        if stop.is_stopped() {
            return Ok(WakeReason::Stopped);
        }
        let woken = match stop.descriptor() {
            Ok(descriptor) => sys::poll([self.as_fd(), descriptor], timeout).map(|[readable, _]| readable),
            // Without a descriptor that wakes it, the wait ends early, and the caller repeats it.
            Err(_) => {
                let interval = timeout.map_or(POLL_INTERVAL, |timeout| timeout.min(POLL_INTERVAL));
                sys::poll([self.as_fd()], Some(interval)).map(|[readable]| readable)
            }
        };
        match woken {
            _ if stop.is_stopped() => Ok(WakeReason::Stopped),
            Ok(true) => Ok(WakeReason::Readable),
            Ok(false) => Ok(WakeReason::TimedOut),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(WakeReason::TimedOut),
            Err(error) => Err(SocketError::Wait(error)),
        }
    }

    fn wait_without_stop(&self, timeout: Option<Duration>) -> Result<WakeReason, SocketError> {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            match sys::poll([self.as_fd()], left) {
                Ok([true]) => return Ok(WakeReason::Readable),
                Ok(_) => return Ok(WakeReason::TimedOut),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SocketError::Wait(error)),
            }
        }
    }

    /// Discards all queued datagrams, so that remains of a failed exchange are not taken for an answer.
    ///
    /// # Errors
    /// The same as [`Socket::receive`], except that overruns and truncated datagrams are ignored.
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

/// Returns the descriptor of a netlink-sys socket, which does not implement `AsFd`.
fn descriptor(socket: &netlink_sys::Socket) -> BorrowedFd<'_> {
    sys::borrow(socket)
}
