//! Recordings of kernel messages in a pcap file, which Wireshark can open and any pipeline can replay.
//!
//! * [`Recorder`] is a source that passes on the datagrams of another source and writes them to a file.
//! * [`Recording`] is such a file, or one that tcpdump or Wireshark captured from an nlmon interface;
//!   [`RecordingSource`] plays it.
//!
//! ```
//! use flowgate_model::Table;
//! use flowgate_netlink::{
//!     Stop,
//!     source::{Datagram, Source as _},
//! };
//! use flowgate_recording::{RecordingInput, RecordingKind, Note, Recording, Speed, RecordingSelection, PcapWriter};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A NEW event without attributes, as the kernel sends it: length, type and flags, sequence and port; family IPv4.
//! let mut event = Vec::new();
//! event.extend_from_slice(&20u32.to_ne_bytes());
//! event.extend_from_slice(&0x0100u16.to_ne_bytes());
//! event.extend_from_slice(&0x0600u16.to_ne_bytes());
//! event.extend_from_slice(&[0; 8]);
//! event.extend_from_slice(&[2, 0, 0, 0]);
//!
//! let noon = 1_767_268_800_000_000_000;
//! let mut file = Vec::new();
//! let title = Note::Title { kind: RecordingKind::Events, table: Table::Conntrack, pauses: false };
//! let mut writer = PcapWriter::new(&mut file, &title, noon)?;
//! writer.datagram(&event, noon)?;
//! writer.gap(Some(3), noon + 1_000)?;
//! writer.end(0, noon + 1_000)?;
//! writer.flush()?;
//!
//! let recording = Recording::open(RecordingInput::Bytes(std::io::Cursor::new(file)))?;
//! assert_eq!((recording.kind(), recording.table()), (RecordingKind::Events, Table::Conntrack));
//! let wanted = RecordingSelection { kind: RecordingKind::Events, new: true, update: true, destroy: true, family: 0 };
//! let mut source = recording.play(wanted, Speed::Max, &Stop::new()?);
//! let mut datagram = Datagram::new();
//! assert!(source.next(&mut datagram)?);
//! assert_eq!((datagram.bytes(), datagram.received), (&event[..], noon));
//! assert!(source.next(&mut datagram)?);
//! assert_eq!((datagram.gap, datagram.lost), (true, Some(3)));
//! assert!(!source.next(&mut datagram)?, "this is the end");
//! # Ok(())
//! # }
//! ```
//!
//! `docs/RECORDING.md` describes the file format: link type NETLINK (253), each packet a cooked header of 16 bytes and
//! a datagram as it was received. Information that the kernel's messages do not have is stored in messages of type
//! NLMSG_NOOP, which every netlink reader ignores (`note`): the title of the recording, process names of ports, the
//! namespace of datagrams, and where the reader found the queue empty. A gap is a message NLMSG_OVERRUN, the end of a
//! dump NLMSG_DONE with its error number.

mod error;
mod input;
mod note;
mod pcap_reader;
mod pcap_writer;
mod recorder;
mod source;
mod speed;

#[cfg(test)]
mod tests;

pub use error::RecordingError;
pub use input::RecordingInput;
pub use note::{Note, RecordingKind};
pub use pcap_reader::{Packet, PcapReader};
pub use pcap_writer::PcapWriter;
pub use recorder::{Recorder, RecordingStats};
pub use source::{Recording, RecordingSelection, RecordingSource};
pub use speed::Speed;

/// LINKTYPE_NETLINK of tcpdump.org's registry of link types.
pub const LINK_TYPE: u32 = 253;
/// Length of the cooked header in front of each datagram.
pub const COOKED_HEADER: usize = 16;
/// ARPHRD_NETLINK of `linux/if_arp.h`.
const ARPHRD_NETLINK: u16 = 824;
/// PACKET_USER of `linux/if_packet.h`: to user space, for datagrams of the kernel.
const PACKET_USER: u16 = 6;
/// PACKET_KERNEL of `linux/if_packet.h`: to the kernel, for requests.
const PACKET_KERNEL: u16 = 7;
/// Maximum length of a packet; netlink datagrams are much shorter.
const MAX_PACKET: usize = 16 << 20;
