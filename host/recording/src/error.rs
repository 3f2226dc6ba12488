//! Errors of recordings.

use std::io;

use thiserror::Error;

use flowgate_base::{io_error::error_text, text::clean};
use flowgate_netlink::source::SourceError;

/// Why a recording cannot be written or read. Offsets are in bytes from the beginning of the file.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// The file cannot be created.
    #[error("cannot create the recording {}: {}", clean(path), error_text(source))]
    Create {
        /// Its name as given.
        path: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The file cannot be opened.
    #[error("cannot open the recording {}: {}", clean(path), error_text(source))]
    Open {
        /// Its name as given.
        path: String,
        /// The error of the system.
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write the recording: {}", error_text(.0))]
    Write(io::Error),
    /// A datagram exceeds the maximum length of a packet.
    #[error("a datagram of {length} bytes is too long for a recording; the maximum is {limit}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Reading failed.
    #[error("cannot read the recording at offset {offset}: {}", error_text(source))]
    Read {
        /// The offset.
        offset: u64,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is empty.
    #[error("the recording is empty; a pcap file begins with a header of 24 bytes")]
    Empty,
    /// The file does not begin like a pcap or pcapng file.
    #[error(
        "this is no recording: it begins with the bytes {magic:02x?}, where a pcap or pcapng file has its magic number"
    )]
    Foreign {
        /// Its first bytes.
        magic: [u8; 4],
    },
    /// The packets are not netlink messages.
    #[error(
        "the capture is of link type {found}; a recording has link type 253 (netlink), as captured from an nlmon interface"
    )]
    LinkType {
        /// The link type.
        found: u32,
    },
    /// Recorded on a machine with the other byte order, in which its netlink messages are.
    #[error(
        "the recording is {found}-endian, and so are its netlink messages; they can be replayed on a {found}-endian machine only"
    )]
    ByteOrder {
        /// `big` or `little`.
        found: &'static str,
    },
    /// The file ends within a packet or header.
    #[error(
        "the recording ends in the middle of a packet: at offset {offset} there are {left} bytes of at least {needed}"
    )]
    Truncated {
        /// Offset of the incomplete part.
        offset: u64,
        /// Number of bytes present.
        left: usize,
        /// Number of bytes required.
        needed: usize,
    },
    /// The length of a packet is impossible.
    #[error("the recording is damaged: the packet at offset {offset} claims {length} bytes; the maximum is {limit}")]
    PacketLength {
        /// Offset of the packet.
        offset: u64,
        /// The length in its header.
        length: usize,
        /// The maximum length.
        limit: usize,
    },
    /// A dump without its end.
    #[error("the recording ends before the dump does: the recording was stopped, or the file has been cut")]
    Unfinished,
    /// A block of a pcapng file is invalid.
    #[error("the recording is damaged: the block at offset {offset} makes no sense ({})", clean(problem))]
    Block {
        /// Offset of the block.
        offset: u64,
        /// The defect.
        problem: String,
    },
}

impl RecordingError {
    /// Returns the closest error number, as in `errno(3)`.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Create { source, .. }
            | Self::Open { source, .. }
            | Self::Write(source)
            | Self::Read { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Self::TooLong { .. } => libc::EMSGSIZE,
            _ => libc::EBADMSG,
        }
    }
}

impl From<RecordingError> for SourceError {
    fn from(error: RecordingError) -> Self {
        SourceError::Other { errno: error.errno(), error: Box::new(error) }
    }
}
