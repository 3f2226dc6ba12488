//! Requests: encoded messages to the kernel, complete except for the sequence number, and those that dump a whole
//! table.

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NetlinkHeader, Nla};
use netlink_packet_netfilter::{NetfilterHeader, conntrack::ConntrackAttribute};

use super::filter::DumpFilter;
use super::wire::{
    self, MESSAGE_HEADER, NETFILTER_HEADER, SUBSYSTEM_EXPECTATIONS, SUBSYSTEM_FLOWS, align, expectation_message,
    flow_message,
};
use flowgate_model::Table;

/// The dumps that the kernel supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DumpKind {
    /// The entries of a table: IPCTNL_MSG_CT_GET, IPCTNL_MSG_EXP_GET, IPCTNL_MSG_CT_GET_DYING (flows that have ended
    /// but whose event could not be delivered yet), or IPCTNL_MSG_CT_GET_UNCONFIRMED (always empty since Linux 6.0).
    Table(Table),
    /// The flows; the kernel zeroes the counters that it reports (IPCTNL_MSG_CT_GET_CTRZERO).
    FlowsAndZero,
    /// Statistics of flows, one entry per CPU (IPCTNL_MSG_CT_GET_STATS_CPU).
    CpuStatistics,
    /// Statistics of expectations, one entry per CPU (IPCTNL_MSG_EXP_GET_STATS_CPU).
    ExpectationStatistics,
}

impl DumpKind {
    /// The flows.
    pub const FLOWS: Self = Self::Table(Table::Conntrack);
    /// The expectations.
    pub const EXPECTATIONS: Self = Self::Table(Table::Expect);
}

/// An encoded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `struct nlmsghdr`, `struct nfgenmsg` and the attributes, padded.
    bytes: Vec<u8>,
}

/// The header fields of a request, except for its sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestHeader {
    /// NLM_F_* flags other than NLM_F_REQUEST.
    pub flags: u16,
    /// `nfgen_family`
    pub family: u8,
    /// `version`
    pub version: u8,
}

impl Request {
    /// Encodes a request to the flow subsystem.
    pub(super) fn flows(message_type: u8, header: RequestHeader, attributes: Vec<ConntrackAttribute>) -> Self {
        let attributes: Vec<NestedAttribute<'_>> = attributes.iter().map(NestedAttribute).collect();
        Self::new(SUBSYSTEM_FLOWS, message_type, header, &attributes)
    }

    /// Encodes a request to the expectation subsystem.
    pub(super) fn expectations(message_type: u8, header: RequestHeader, attributes: Vec<DefaultNla>) -> Self {
        Self::new(SUBSYSTEM_EXPECTATIONS, message_type, header, &attributes)
    }

    /// Encodes a request.
    fn new<A: Nla>(subsystem: u8, message_type: u8, fields: RequestHeader, attributes: &[A]) -> Self {
        let length = MESSAGE_HEADER + NETFILTER_HEADER + attributes.buffer_len();
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(length).unwrap_or(u32::MAX);
        header.message_type = u16::from(subsystem) << 8 | u16::from(message_type);
        header.flags = wire::REQUEST | fields.flags;
        let mut bytes = vec![0; align(length)];
        let (first, rest) = bytes.split_at_mut(MESSAGE_HEADER);
        let (second, rest) = rest.split_at_mut(NETFILTER_HEADER);
        header.emit(first);
        NetfilterHeader::new(fields.family.into(), fields.version, 0).emit(second);
        attributes.emit(rest);
        Self { bytes }
    }

    /// Encodes a dump of the entries of a table that pass `filter`. Only dumps of flows take a filter beyond the
    /// family.
    #[must_use]
    pub fn dump(kind: DumpKind, filter: &DumpFilter) -> Self {
        let header = RequestHeader { flags: wire::DUMP, family: filter.family(), version: 0 };
        match kind {
            DumpKind::Table(Table::Conntrack) => Self::flows(flow_message::GET, header, filter.attributes()),
            DumpKind::FlowsAndZero => Self::flows(flow_message::GET_AND_ZERO, header, filter.attributes()),
            DumpKind::Table(Table::Dying) => Self::flows(flow_message::GET_DYING, header, Vec::new()),
            DumpKind::Table(Table::Unconfirmed) => Self::flows(flow_message::GET_UNCONFIRMED, header, Vec::new()),
            DumpKind::CpuStatistics => Self::flows(flow_message::GET_CPU_STATISTICS, header, Vec::new()),
            DumpKind::Table(Table::Expect) => Self::expectations(expectation_message::GET, header, Vec::new()),
            DumpKind::ExpectationStatistics => {
                Self::expectations(expectation_message::GET_CPU_STATISTICS, header, Vec::new())
            }
        }
    }

    /// Encodes a request for the statistics of the whole table (IPCTNL_MSG_CT_GET_STATS), which are one message
    /// followed by the acknowledgement.
    #[must_use]
    pub fn global_statistics() -> Self {
        Self::flows(flow_message::GET_STATISTICS, RequestHeader { flags: wire::ACK, family: 0, version: 0 }, Vec::new())
    }

    /// Appends the message with this sequence number to `datagram`, which may already hold others.
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

    /// Returns the message's flags, NLM_F_*.
    #[must_use]
    pub fn flags(&self) -> u16 {
        self.bytes.get(6..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_ne_bytes)
    }

    /// Returns the message's type, `nlmsg_type`.
    #[must_use]
    pub fn message_type(&self) -> u16 {
        self.bytes.get(4..6).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_ne_bytes)
    }

    /// Returns true if it requests a dump.
    #[must_use]
    pub fn is_dump(&self) -> bool {
        self.flags() & wire::DUMP == wire::DUMP && matches!(self.message_type() & 0xff, 1 | 3..)
    }

    /// Returns true if it requests an acknowledgement.
    #[must_use]
    pub fn wants_acknowledgement(&self) -> bool {
        self.flags() & wire::ACK != 0
    }

    /// Returns its length in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the encoded message, with sequence number 0.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// An attribute with its nested flag. netlink-packet-netfilter drops the flag of nests that it has no type for, and
/// without it the kernel refuses CTA_FILTER.
struct NestedAttribute<'a>(&'a ConntrackAttribute);

impl Nla for NestedAttribute<'_> {
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
