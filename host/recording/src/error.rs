//! What can be wrong with a recording.

use std::io;

use thiserror::Error;

use flowgate_netlink::source::SourceError;

/// Why a recording cannot be written or read on. Offsets are in bytes from the beginning of the file.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// The file cannot be made.
    #[error("cannot create the recording {path}: {source}")]
    Create {
        /// Its name as it was given.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be opened.
    #[error("cannot open the recording {path}: {source}")]
    Open {
        /// Its name as it was given.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write the recording: {0}")]
    Write(io::Error),
    /// A datagram that no packet of a pcap file can hold.
    #[error("a datagram of {length} bytes is too long for a recording, which takes {most}")]
    Long {
        /// Its length.
        length: usize,
        /// What fits.
        most: usize,
    },
    /// Reading failed.
    #[error("cannot read the recording at offset {offset}: {source}")]
    Read {
        /// Where.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It is empty.
    #[error("the recording is empty; a pcap file begins with a header of 24 bytes")]
    Empty,
    /// It does not begin as pcap or pcapng files do.
    #[error(
        "this is no recording: it begins with the bytes {magic:02x?}, where a pcap or pcapng file has its magic number"
    )]
    Foreign {
        /// The first bytes.
        magic: [u8; 4],
    },
    /// Packets of something else than netlink.
    #[error(
        "the capture is of link type {found}; a recording has link type 253 (netlink), as captured from an nlmon interface"
    )]
    LinkType {
        /// The link type.
        found: u32,
    },
    /// Recorded on a machine of the other byte order, which netlink messages are in.
    #[error(
        "the recording is {found}-endian, and so are its netlink messages; they can be replayed on a {found}-endian machine only"
    )]
    ByteOrder {
        /// `big` or `little`.
        found: &'static str,
    },
    /// The file ends in the middle of something.
    #[error(
        "the recording ends in the middle of a packet: at offset {offset} there are {left} bytes of at least {needed}"
    )]
    Truncated {
        /// Where what is incomplete begins.
        offset: u64,
        /// What there is of it.
        left: usize,
        /// What there would have to be.
        needed: usize,
    },
    /// A packet claims a length that cannot be.
    #[error(
        "the recording is damaged: the packet at offset {offset} claims {length} bytes; {most} are the most that is possible"
    )]
    PacketLength {
        /// Where it begins.
        offset: u64,
        /// What it claims.
        length: usize,
        /// What could be.
        most: usize,
    },
    /// A dump that stops before its end.
    #[error("the recording ends before the dump does: the recording was stopped, or the file has been cut")]
    Unfinished,
    /// A block of a pcapng file that makes no sense.
    #[error("the recording is damaged: the block at offset {offset} makes no sense ({problem})")]
    Block {
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        problem: String,
    },
}

impl RecordingError {
    /// The error number that comes nearest, as in `errno(3)`.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Create { source, .. }
            | Self::Open { source, .. }
            | Self::Write(source)
            | Self::Read { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Self::Long { .. } => libc::EMSGSIZE,
            _ => libc::EBADMSG,
        }
    }
}

impl From<RecordingError> for SourceError {
    fn from(error: RecordingError) -> Self {
        SourceError::Other { errno: error.errno(), error: Box::new(error) }
    }
}
