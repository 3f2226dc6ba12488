//! Why an operation on a socket failed.

use std::io;

use thiserror::Error;

#[cfg(doc)]
use super::group;
use crate::namespace::NamespaceError;
use flowgate_base::io_error::error_text;

/// Why an operation on a socket failed.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The socket could not be created.
    #[error("cannot open a netlink socket: {}", error_text(.0))]
    Open(#[source] io::Error),
    /// The socket could not be bound; EPERM for event groups without CAP_NET_ADMIN.
    #[error("cannot bind the netlink socket (event groups {groups:#x}): {}", error_text(source))]
    Bind {
        /// The requested groups, bits of [`group`].
        groups: u32,
        /// The error of the kernel.
        source: io::Error,
    },
    /// An option could not be set.
    #[error("cannot set {option} on the netlink socket: {}", error_text(source))]
    Option {
        /// The option's name in `netlink(7)` or `socket(7)`.
        option: &'static str,
        /// The error of the kernel.
        source: io::Error,
    },
    /// Sending failed; EMSGSIZE: the datagram is longer than the send buffer, and none of it has been executed.
    #[error("cannot send {length} bytes to the kernel: {}", error_text(source))]
    Send {
        /// Length of the datagram.
        length: usize,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The kernel took only a part of a datagram.
    #[error("the kernel took {sent} of {length} bytes")]
    ShortSend {
        /// Number of bytes that it took.
        sent: usize,
        /// Length of the datagram.
        length: usize,
    },
    /// ENOBUFS: the receive buffer was full, and a message to the socket is lost. On an event socket everything is
    /// dropped until the queue has been read empty; on a request socket the results are unknown.
    #[error("the receive buffer of the netlink socket overflowed")]
    Overrun,
    /// A datagram was longer than the buffer; its tail is lost.
    #[error("a netlink datagram did not fit into {buffer} bytes")]
    Truncated {
        /// Length of the buffer.
        buffer: usize,
    },
    /// Receiving failed for another reason.
    #[error("cannot receive from the kernel: {}", error_text(.0))]
    Receive(#[source] io::Error),
    /// The requested network namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// Waiting failed.
    #[error("cannot wait for the kernel: {}", error_text(.0))]
    Wait(#[source] io::Error),
}

impl SocketError {
    /// Returns the underlying error number, as in `errno(3)`; ENOBUFS for an overrun, EMSGSIZE for a truncated
    /// datagram.
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
