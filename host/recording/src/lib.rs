//! Recordings: what the kernel sent, in a pcap file that Wireshark opens, and from there through any pipeline again.
//!
//! * [`Recorder`] is a source that hands on what another one yields, and writes it down.
//! * [`Recording`] is a file that was written so, or that tcpdump or Wireshark captured from an nlmon interface;
//!   [`RecordingSource`] plays it.
//!
//! docs/RECORDING.md describes the file. In short: link type NETLINK (253), each packet a cooked header of 16 bytes and a
//! datagram as it was received. What is not in the kernel's bytes stands beside them in messages of type NLMSG_NOOP, which
//! every reader of netlink passes over (`note`): what the recording is, which programs the ports belong to, which
//! namespace a datagram is about, where the reader found nothing more to receive. A gap is a message NLMSG_OVERRUN, the end
//! of a dump NLMSG_DONE with its error number.

mod error;
mod input;
mod note;
mod packets;
mod recorder;
mod source;
mod speed;
mod writer;

#[cfg(test)]
mod tests;

pub use error::RecordingError;
pub use input::Input;
pub use note::{Kind, Note};
pub use packets::{Packet, Packets};
pub use recorder::{Count, Recorder};
pub use source::{Recording, RecordingSource, Wanted};
pub use speed::Speed;
pub use writer::Writer;

/// LINKTYPE_NETLINK of the registry of link types at tcpdump.org.
pub const LINK_TYPE: u32 = 253;
/// Length of the cooked header in front of each datagram.
pub const COOKED_HEADER: usize = 16;
/// ARPHRD_NETLINK of `linux/if_arp.h`.
const ARPHRD_NETLINK: u16 = 824;
/// PACKET_USER of `linux/if_packet.h`: to user space. What comes from the kernel.
const PACKET_USER: u16 = 6;
/// PACKET_KERNEL of `linux/if_packet.h`: to the kernel. Requests.
const PACKET_KERNEL: u16 = 7;
/// The longest packet that is believed; netlink datagrams are much shorter.
const LONGEST_PACKET: usize = 16 << 20;
