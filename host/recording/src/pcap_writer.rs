//! Writes a recording: a pcap file with times in nanoseconds and native byte order.

use std::io::Write;

use super::{
    ARPHRD_NETLINK, COOKED_HEADER, LINK_TYPE, MAX_PACKET, PACKET_USER, RecordingError,
    note::{Note, control},
};
use flowgate_netlink::wire::{NETLINK_NETFILTER, NLMSG_DONE, NLMSG_OVERRUN};

/// Magic number of a pcap file whose times are in nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Version of the format, 2.4 since 1998.
const VERSION: [u16; 2] = [2, 4];
/// Length of the header of a packet.
pub(super) const PACKET_HEADER: usize = 16;
/// Number of bytes that are buffered before they are written.
const WRITE_SIZE: usize = 64 << 10;

/// Writes packets. Only whole packets are written to the file, so that a growing file can be read up to its end.
#[derive(Debug)]
pub struct PcapWriter<W> {
    file: W,
    pending: Vec<u8>,
    length: u64,
}

impl<W: Write> PcapWriter<W> {
    /// Begins a recording with this title at the time `now` (nanoseconds since 1970).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(file: W, title: &Note, now: u64) -> Result<Self, RecordingError> {
        let mut writer = Self { file, pending: Vec::with_capacity(WRITE_SIZE), length: 0 };
        writer.put(&MAGIC.to_ne_bytes());
        for part in VERSION {
            writer.put(&part.to_ne_bytes());
        }
        // Time zone and accuracy, which are unused; the maximum packet length; the link type.
        for part in [0, 0, MAX_PACKET as u32, LINK_TYPE] {
            writer.put(&part.to_ne_bytes());
        }
        writer.note(title, now)?;
        writer.flush()?;
        Ok(writer)
    }

    /// Writes a datagram that was received at a time in nanoseconds since 1970.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn datagram(&mut self, bytes: &[u8], received: u64) -> Result<(), RecordingError> {
        let limit = MAX_PACKET - COOKED_HEADER;
        if bytes.len() > limit {
            return Err(RecordingError::TooLong { length: bytes.len(), limit });
        }
        // The length fits because of the check above, the seconds do until 2106.
        let length = (COOKED_HEADER + bytes.len()) as u32;
        let seconds = u32::try_from(received / 1_000_000_000).unwrap_or(u32::MAX);
        for part in [seconds, (received % 1_000_000_000) as u32, length, length] {
            self.put(&part.to_ne_bytes());
        }
        self.put(&PACKET_USER.to_be_bytes());
        self.put(&ARPHRD_NETLINK.to_be_bytes());
        self.put(&[0; 10]);
        self.put(&(NETLINK_NETFILTER as u16).to_be_bytes());
        self.put(bytes);
        if self.pending.len() >= WRITE_SIZE { self.write_buffer() } else { Ok(()) }
    }

    /// Writes a note.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(&mut self, note: &Note, now: u64) -> Result<(), RecordingError> {
        self.datagram(&note.message(), now)
    }

    /// Writes a gap, and the number of lost events if it is known.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn gap(&mut self, lost: Option<u32>, now: u64) -> Result<(), RecordingError> {
        let lost = lost.map(u32::to_ne_bytes);
        self.datagram(&control(NLMSG_OVERRUN, lost.as_ref().map_or(&[], |bytes| bytes.as_slice())), now)
    }

    /// Writes the end mark of a dump with its error number, 0 for none.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn end(&mut self, errno: i32, now: u64) -> Result<(), RecordingError> {
        self.datagram(&control(NLMSG_DONE, &errno.saturating_neg().to_ne_bytes()), now)
    }

    /// Returns the length in bytes, including buffered packets.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the length in bytes of the packet for a datagram of this length.
    #[must_use]
    pub fn packet(datagram: usize) -> u64 {
        (PACKET_HEADER + COOKED_HEADER + datagram) as u64
    }

    /// Writes the buffered packets.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&mut self) -> Result<(), RecordingError> {
        self.write_buffer()?;
        self.file.flush().map_err(RecordingError::Write)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.length += bytes.len() as u64;
    }

    fn write_buffer(&mut self) -> Result<(), RecordingError> {
        let result = self.file.write_all(&self.pending).map_err(RecordingError::Write);
        self.pending.clear();
        result
    }
}
