//! Reads the packets of a pcap or pcapng file, each with its time and its offset in the file.

use std::{io::Read, ops::Range};

use pcap_parser::{
    Block, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_header,
    pcapng::{parse_block_be, parse_block_le},
    traits::PcapNGPacketBlock as _,
};

use super::{LINK_TYPE, MAX_PACKET, RecordingError, RecordingInput};
use flowgate_netlink::Stop;

/// First bytes of a pcapng file: the type of its section header, in either byte order.
const SECTION_HEADER_TYPE: u32 = 0x0a0d_0d0a;
/// Offset of the byte-order magic in a section header, and its value.
const BYTE_ORDER_MAGIC: (usize, u32) = (8, 0x1a2b_3c4d);
/// Magic numbers of pcap files: times in microseconds and in nanoseconds.
const MAGIC: [u32; 2] = [0xa1b2_c3d4, 0xa1b2_3c4d];
/// Length of the header of a pcap file, and of each of its packets.
const FILE_HEADER: usize = 24;
/// See [`FILE_HEADER`].
const PACKET_HEADER: usize = 16;
/// Minimum length of a block of a pcapng file, and the maximum that its other parts add to its packet.
const MIN_BLOCK: usize = 12;
/// See [`MIN_BLOCK`].
const MAX_BLOCK_OVERHEAD: usize = 1 << 20;
/// Number of bytes per read.
const READ_SIZE: usize = 256 << 10;
/// Maximum number of interfaces of a section.
const MAX_INTERFACES: usize = 1 << 16;

/// True on a big-endian machine.
const BIG_ENDIAN: bool = cfg!(target_endian = "big");

/// A packet of link type NETLINK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When it was captured, in nanoseconds since 1970; 0 if the file does not have it.
    pub time: u64,
    /// Its offset in the file.
    pub offset: u64,
    /// The cooked header and the datagram.
    pub data: &'a [u8],
}

/// An interface of a pcapng file.
#[derive(Debug, Clone, Copy)]
struct Interface {
    link_type: u32,
    /// Ticks of its clock per second.
    resolution: u64,
    /// Seconds to add to its times.
    offset: i64,
}

/// The format of a file, and the contents of its headers.
#[derive(Debug)]
enum Format {
    /// pcap; true if its times are in nanoseconds.
    Pcap(bool),
    /// pcapng: the interfaces of the section.
    Blocks(Vec<Interface>),
}

/// A packet or block of the file.
struct Record {
    /// Its length in the file.
    length: usize,
    /// Time and range in the buffer, if it is a netlink packet.
    packet: Option<(u64, Range<usize>)>,
}

/// Reads the packets of a file.
#[derive(Debug)]
pub struct PcapReader {
    input: RecordingInput,
    buffer: Vec<u8>,
    /// The unused part of the buffer.
    unread: Range<usize>,
    /// Offset of the unused part in the file.
    offset: u64,
    format: Format,
    /// A link type other than netlink, as long as no netlink interface has been seen.
    other: Option<u32>,
}

impl PcapReader {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// [`RecordingError`]: the file is not a pcap or pcapng file, or has another byte order or link type.
    pub fn new(input: RecordingInput) -> Result<Self, RecordingError> {
        let mut packets = Self {
            input,
            buffer: vec![0; READ_SIZE],
            unread: 0..0,
            offset: 0,
            format: Format::Blocks(Vec::new()),
            other: None,
        };
        if !packets.fill(4)? {
            return match packets.unread.len() {
                0 => Err(RecordingError::Empty),
                left => Err(RecordingError::Truncated { offset: 0, left, needed: FILE_HEADER }),
            };
        }
        let magic = packets.number(0);
        if magic == SECTION_HEADER_TYPE {
            return Ok(packets);
        }
        if MAGIC.contains(&magic.swap_bytes()) {
            return Err(RecordingError::ByteOrder { found: other_order() });
        }
        if !MAGIC.contains(&magic) {
            return Err(RecordingError::Foreign { magic: magic.to_ne_bytes() });
        }
        packets.require(FILE_HEADER)?;
        let Ok((_, header)) = parse_pcap_header(packets.rest()) else {
            return Err(RecordingError::Foreign { magic: magic.to_ne_bytes() });
        };
        // The upper bits are the length of the frame check sequence, which netlink does not have.
        let found = header.network.0 as u32 & 0xffff;
        if found != LINK_TYPE {
            return Err(RecordingError::LinkType { found });
        }
        packets.format = Format::Pcap(magic == MAGIC[1]);
        packets.consume(FILE_HEADER);
        Ok(packets)
    }

    /// Reads the next packet; returns `None` at the end of the file.
    ///
    /// # Errors
    /// [`RecordingError`], after which no packet follows.
    pub fn read(&mut self) -> Result<Option<Packet<'_>>, RecordingError> {
        let (time, offset, place) = loop {
            if !self.fill(1)? {
                return match self.other.take() {
                    Some(found) => Err(RecordingError::LinkType { found }),
                    None => Ok(None),
                };
            }
            let found = match self.format {
                Format::Pcap(nanoseconds) => self.frame(nanoseconds)?,
                Format::Blocks(_) => self.block()?,
            };
            let offset = self.offset;
            self.consume(found.length);
            if let Some((time, place)) = found.packet {
                break (time, offset, place);
            }
        };
        Ok(Some(Packet { time, offset, data: self.buffer.get(place).unwrap_or_default() }))
    }

    /// Returns true if the buffer is empty and reading would block.
    pub(super) fn would_wait(&self) -> bool {
        self.unread.is_empty() && self.input.would_wait()
    }

    /// Waits until input is available; returns false if the stop signal came first.
    pub(super) fn wait(&self, stop: &Stop) -> bool {
        self.input.wait(stop)
    }

    /// Reads a packet of a pcap file.
    fn frame(&mut self, nanoseconds: bool) -> Result<Record, RecordingError> {
        self.require(PACKET_HEADER)?;
        let claimed = self.number(8) as usize;
        if claimed > MAX_PACKET {
            return Err(self.too_long(claimed, MAX_PACKET));
        }
        self.require(PACKET_HEADER + claimed)?;
        let parse = if BIG_ENDIAN { parse_pcap_frame_be } else { parse_pcap_frame };
        let Ok((_, frame)) = parse(self.rest()) else { return Err(self.invalid_block("it cannot be parsed")) };
        let part = u64::from(frame.ts_usec) * if nanoseconds { 1 } else { 1000 };
        let time = u64::from(frame.ts_sec) * 1_000_000_000 + part;
        let start = self.unread.start + PACKET_HEADER;
        Ok(Record { length: PACKET_HEADER + claimed, packet: Some((time, start..start + claimed)) })
    }

    /// Reads a block of a pcapng file.
    fn block(&mut self) -> Result<Record, RecordingError> {
        self.require(MIN_BLOCK)?;
        if self.number(0) == SECTION_HEADER_TYPE {
            match self.number(BYTE_ORDER_MAGIC.0) {
                order if order == BYTE_ORDER_MAGIC.1 => {}
                order if order == BYTE_ORDER_MAGIC.1.swap_bytes() => {
                    return Err(RecordingError::ByteOrder { found: other_order() });
                }
                order => return Err(self.invalid_block(&format!("byte-order mark {order:#x}"))),
            }
        }
        let length = self.number(4) as usize;
        if !length.is_multiple_of(4) || length < MIN_BLOCK {
            return Err(self.invalid_block(&format!("a length of {length}")));
        }
        if length > MAX_PACKET + MAX_BLOCK_OVERHEAD {
            return Err(self.too_long(length, MAX_PACKET + MAX_BLOCK_OVERHEAD));
        }
        self.require(length)?;
        let parse = if BIG_ENDIAN { parse_block_be } else { parse_block_le };
        let whole = self.buffer.get(self.unread.start..self.unread.start + length).unwrap_or_default();
        let Ok((_, block)) = parse(whole) else { return Err(self.invalid_block("it cannot be parsed")) };
        let Format::Blocks(interfaces) = &mut self.format else { return Ok(Record { length, packet: None }) };
        let (interface, ticks, data) = match &block {
            Block::SectionHeader(_) => {
                interfaces.clear();
                return Ok(Record { length, packet: None });
            }
            Block::InterfaceDescription(description) => {
                let link_type = description.linktype.0 as u32 & 0xffff;
                let resolution = description.ts_resolution().unwrap_or(1_000_000).max(1);
                if interfaces.len() < MAX_INTERFACES {
                    interfaces.push(Interface { link_type, resolution, offset: description.ts_offset() });
                }
                match link_type {
                    LINK_TYPE => self.other = None,
                    _ if interfaces.iter().any(|known| known.link_type == LINK_TYPE) => {}
                    found => self.other = Some(found),
                }
                return Ok(Record { length, packet: None });
            }
            Block::EnhancedPacket(packet) => {
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                (packet.if_id as usize, ticks, packet.packet_data())
            }
            Block::SimplePacket(packet) => (0, 0, packet.packet_data()),
            _ => return Ok(Record { length, packet: None }),
        };
        let Some(&interface) = interfaces.get(interface) else {
            return Err(self.invalid_block("a packet of an interface that was not described"));
        };
        if interface.link_type != LINK_TYPE {
            return Ok(Record { length, packet: None });
        }
        // The data is a part of the block; its offset follows from the headers of both packet formats.
        let header = if matches!(block, Block::SimplePacket(_)) { 12 } else { 28 };
        let start = self.unread.start + header;
        let time = interface.nanoseconds(ticks);
        Ok(Record { length, packet: Some((time, start..start + data.len())) })
    }

    /// Returns a number of the unread part in native byte order; 0 beyond its end.
    fn number(&self, at: usize) -> u32 {
        self.rest().get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.unread.clone()).unwrap_or_default()
    }

    fn consume(&mut self, length: usize) {
        self.unread.start = self.unread.start.saturating_add(length).min(self.unread.end);
        self.offset += length as u64;
    }

    /// Reads until `needed` bytes are unread; returns false if the file has fewer.
    fn fill(&mut self, needed: usize) -> Result<bool, RecordingError> {
        if self.unread.len() >= needed {
            return Ok(true);
        }
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        while self.unread.len() < needed {
            // The buffer grows only as bytes arrive, whatever length the file claims.
            if self.unread.end == self.buffer.len() {
                self.buffer.resize((2 * self.unread.end).min(needed.next_multiple_of(READ_SIZE)), 0);
            }
            let free = self.buffer.get_mut(self.unread.end..).unwrap_or_default();
            match self.input.read(free) {
                Ok(0) => return Ok(false),
                Ok(length) => self.unread.end += length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.offset + self.unread.len() as u64;
                    return Err(RecordingError::Read { offset, source });
                }
            }
        }
        Ok(true)
    }

    /// The same as [`PcapReader::fill`], but fewer bytes are an error.
    fn require(&mut self, needed: usize) -> Result<(), RecordingError> {
        if self.fill(needed)? {
            return Ok(());
        }
        Err(RecordingError::Truncated { offset: self.offset, left: self.unread.len(), needed })
    }

    fn invalid_block(&self, problem: &str) -> RecordingError {
        RecordingError::Block { offset: self.offset, problem: problem.to_owned() }
    }

    fn too_long(&self, length: usize, limit: usize) -> RecordingError {
        RecordingError::PacketLength { offset: self.offset, length, limit }
    }
}

impl Interface {
    /// Converts a time in ticks of the interface's clock to nanoseconds since 1970.
    fn nanoseconds(self, ticks: u64) -> u64 {
        let time = u128::from(ticks) * 1_000_000_000 / u128::from(self.resolution);
        let time = i128::try_from(time).unwrap_or(i128::MAX) + i128::from(self.offset) * 1_000_000_000;
        u64::try_from(time.max(0)).unwrap_or(u64::MAX)
    }
}

/// Returns the byte order that this machine does not have.
fn other_order() -> &'static str {
    if BIG_ENDIAN { "little" } else { "big" }
}
