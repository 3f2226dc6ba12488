//! Requests: a message to the kernel, complete but for its sequence number, and those that ask for a whole table.

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NetlinkHeader, Nla};
use netlink_packet_netfilter::{NetfilterHeader, conntrack::ConntrackAttribute};

use super::filter::DumpFilter;
use super::wire::{
    self, MESSAGE_HEADER, NETFILTER_HEADER, SUBSYSTEM_EXPECTATIONS, SUBSYSTEM_FLOWS, align, expectation_message,
    flow_message,
};

/// A table of the kernel that can be dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// The flows (IPCTNL_MSG_CT_GET).
    Flows,
    /// The flows; the counters that are reported are set to zero (IPCTNL_MSG_CT_GET_CTRZERO).
    FlowsAndZero,
    /// Flows that have ended and whose event could not be delivered yet (IPCTNL_MSG_CT_GET_DYING).
    Dying,
    /// Flows of packets that are still under way (IPCTNL_MSG_CT_GET_UNCONFIRMED); always empty since Linux 6.0.
    Unconfirmed,
    /// Statistics of flows, by CPU (IPCTNL_MSG_CT_GET_STATS_CPU).
    CpuStatistics,
    /// The expectations (IPCTNL_MSG_EXP_GET).
    Expectations,
    /// Statistics of expectations, by CPU (IPCTNL_MSG_EXP_GET_STATS_CPU).
    ExpectationStatistics,
}

/// An encoded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `struct nlmsghdr`, `struct nfgenmsg` and the attributes, padded.
    bytes: Vec<u8>,
}

/// The header of a request, apart from its sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// NLM_F_* besides REQUEST.
    pub flags: u16,
    /// `nfgen_family`
    pub family: u8,
    /// `version`
    pub version: u8,
}

impl Request {
    /// A request to the flow subsystem.
    pub(super) fn flows(message_type: u8, head: Head, attributes: Vec<ConntrackAttribute>) -> Self {
        let attributes: Vec<Whole<'_>> = attributes.iter().map(Whole).collect();
        Self::new(SUBSYSTEM_FLOWS, message_type, head, &attributes)
    }

    /// A request to the expectation subsystem.
    pub(super) fn expectations(message_type: u8, head: Head, attributes: Vec<DefaultNla>) -> Self {
        Self::new(SUBSYSTEM_EXPECTATIONS, message_type, head, &attributes)
    }

    /// Writes it in one go.
    fn new<A: Nla>(subsystem: u8, message_type: u8, head: Head, attributes: &[A]) -> Self {
        let length = MESSAGE_HEADER + NETFILTER_HEADER + attributes.buffer_len();
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(length).unwrap_or(u32::MAX);
        header.message_type = u16::from(subsystem) << 8 | u16::from(message_type);
        header.flags = wire::REQUEST | head.flags;
        let mut bytes = vec![0; align(length)];
        let (first, rest) = bytes.split_at_mut(MESSAGE_HEADER);
        let (second, rest) = rest.split_at_mut(NETFILTER_HEADER);
        header.emit(first);
        NetfilterHeader::new(head.family.into(), head.version, 0).emit(second);
        attributes.emit(rest);
        Self { bytes }
    }

    /// A dump of a table, as far as `filter` lets through. Tables other than the flows take the family only.
    #[must_use]
    pub fn dump(table: Table, filter: &DumpFilter) -> Self {
        let head = Head { flags: wire::DUMP, family: filter.family(), version: 0 };
        match table {
            Table::Flows => Self::flows(flow_message::GET, head, filter.attributes()),
            Table::FlowsAndZero => Self::flows(flow_message::GET_AND_ZERO, head, filter.attributes()),
            Table::Dying => Self::flows(flow_message::GET_DYING, head, Vec::new()),
            Table::Unconfirmed => Self::flows(flow_message::GET_UNCONFIRMED, head, Vec::new()),
            Table::CpuStatistics => Self::flows(flow_message::GET_CPU_STATISTICS, head, Vec::new()),
            Table::Expectations => Self::expectations(expectation_message::GET, head, Vec::new()),
            Table::ExpectationStatistics => {
                Self::expectations(expectation_message::GET_CPU_STATISTICS, head, Vec::new())
            }
        }
    }

    /// The statistics of the table as a whole (IPCTNL_MSG_CT_GET_STATS): one message, then the acknowledgement.
    #[must_use]
    pub fn global_statistics() -> Self {
        Self::flows(flow_message::GET_STATISTICS, Head { flags: wire::ACK, family: 0, version: 0 }, Vec::new())
    }

    /// The message as it is sent, with this sequence number. Appended to `datagram`, which may hold others before it.
    pub fn append_to(&self, datagram: &mut Vec<u8>, sequence: u32, acknowledge: bool) {
        let start = datagram.len();
        datagram.extend_from_slice(&self.bytes);
        let Some(header) = datagram.get_mut(start..).and_then(|rest| rest.first_chunk_mut::<MESSAGE_HEADER>()) else {
            return;
        };
        let flags = if acknowledge { self.flags() | wire::ACK } else { self.flags() & !wire::ACK };
        header[6..8].copy_from_slice(&flags.to_ne_bytes());
        header[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    /// The message's flags, NLM_F_*.
    #[must_use]
    pub fn flags(&self) -> u16 {
        self.bytes.get(6..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_ne_bytes)
    }

    /// The message's type, `nlmsg_type`.
    #[must_use]
    pub fn kind(&self) -> u16 {
        self.bytes.get(4..6).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_ne_bytes)
    }

    /// Whether it asks for a dump.
    #[must_use]
    pub fn is_dump(&self) -> bool {
        self.flags() & wire::DUMP == wire::DUMP && matches!(self.kind() & 0xff, 1 | 3..)
    }

    /// Whether it asks for an acknowledgement.
    #[must_use]
    pub fn wants_acknowledgement(&self) -> bool {
        self.flags() & wire::ACK != 0
    }

    /// Its length in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The encoded message, with sequence number 0.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Which subsystem it is for.
    #[must_use]
    pub fn is_for_flows(&self) -> bool {
        self.kind() >> 8 == u16::from(SUBSYSTEM_FLOWS)
    }
}

/// An attribute with its nested flag: netlink-packet-netfilter drops that of the nests that it has no type for, and without it the
/// kernel refuses CTA_FILTER.
struct Whole<'a>(&'a ConntrackAttribute);

impl Nla for Whole<'_> {
    fn value_len(&self) -> usize {
        self.0.value_len()
    }

    fn kind(&self) -> u16 {
        self.0.kind()
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        self.0.emit_value(buffer);
    }

    fn is_nested(&self) -> bool {
        self.0.is_nested() || self.0.kind() & NLA_F_NESTED != 0
    }
}
