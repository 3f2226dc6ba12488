//! One direction of a flow, and its encoding in requests and filters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, Nla};
use netlink_packet_netfilter::conntrack::{IPTuple, ProtoTuple, Tuple};

use crate::wire::tuple;
use flowgate_model::{Addresses, Tuples, at, field, protocol};

/// The fields of one direction, taken from the columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TupleFields {
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
    pub protocol: Option<u8>,
    pub source_l4: Option<u16>,
    pub destination_l4: Option<u16>,
    pub zone: Option<u16>,
}

/// Returns an address of a column. `family` decides whether it is an IPv4-mapped one.
pub(crate) fn address(column: &Addresses, row: usize, family: u8) -> IpAddr {
    address_of(at(&column.hi, row), at(&column.lo, row), family)
}

/// Returns an address from its two halves.
pub(crate) fn address_of(hi: u64, lo: u64, family: u8) -> IpAddr {
    if family == flowgate_model::family::IPV4 {
        Ipv4Addr::from_bits(lo as u32).into()
    } else {
        Ipv6Addr::from_bits(u128::from(hi) << 64 | u128::from(lo)).into()
    }
}

impl TupleFields {
    /// Returns a direction of `tuples`; `has` are the fields that are set, as bits of the original direction.
    pub(crate) fn new(tuples: &Tuples, row: usize, family: u8, protocol: u8, zone: u16, has: u64) -> Self {
        let given = |bit: u64| has & bit != 0;
        Self {
            source: given(field::SOURCE).then(|| address(&tuples.source, row, family)),
            destination: given(field::DESTINATION).then(|| address(&tuples.destination, row, family)),
            protocol: given(field::PROTOCOL).then_some(protocol),
            source_l4: given(field::SOURCE_L4).then(|| at(&tuples.source_l4, row)),
            destination_l4: given(field::DESTINATION_L4).then(|| at(&tuples.destination_l4, row)),
            zone: given(field::ORIGINAL_ZONE).then_some(zone),
        }
    }

    /// Returns true if no field is set.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the fields that the kernel needs to find or create a flow but that are not set, as bits of the original
    /// direction. Depending on the kernel, DCCP and GRE may be tracked without ports and keys.
    pub(crate) fn missing(&self) -> u64 {
        let number = self.protocol.unwrap_or_default();
        let l4 = protocol::is_icmp(number) || protocol::has_ports(number) && number != protocol::DCCP;
        [
            (field::SOURCE, self.source.is_none()),
            (field::DESTINATION, self.destination.is_none()),
            (field::PROTOCOL, self.protocol.is_none()),
            (field::SOURCE_L4, l4 && self.source_l4.is_none()),
            (field::DESTINATION_L4, l4 && self.destination_l4.is_none()),
        ]
        .iter()
        .filter(|(_, missing)| *missing)
        .fold(0, |bits, (bit, _)| bits | bit)
    }

    /// Returns the attributes of a tuple.
    pub(crate) fn attributes(&self) -> Vec<Tuple> {
        let mut parts = Vec::with_capacity(3);
        let addresses: Vec<IPTuple> =
            [self.source.map(IPTuple::SourceAddress), self.destination.map(IPTuple::DestinationAddress)]
                .into_iter()
                .flatten()
                .collect();
        if !addresses.is_empty() {
            parts.push(Tuple::Ip(addresses));
        }
        let protocol = self.protocol_attributes();
        if !protocol.is_empty() {
            parts.push(Tuple::Proto(protocol));
        }
        if let Some(zone) = self.zone {
            parts.push(Tuple::Other(DefaultNla::new(tuple::ZONE, zone.to_be_bytes().to_vec())));
        }
        parts
    }

    fn protocol_attributes(&self) -> Vec<ProtoTuple> {
        let plain = |kind: u16, value: &[u8]| ProtoTuple::Other(DefaultNla::new(kind, value.to_vec()));
        let mut parts: Vec<ProtoTuple> =
            self.protocol.map(|number| ProtoTuple::Protocol(number.into())).into_iter().collect();
        let icmp = match self.protocol {
            Some(protocol::ICMP) => Some([tuple::ICMP_ID, tuple::ICMP_TYPE, tuple::ICMP_CODE]),
            Some(protocol::ICMPV6) => Some([tuple::ICMPV6_ID, tuple::ICMPV6_TYPE, tuple::ICMPV6_CODE]),
            _ => None,
        };
        match icmp {
            Some([id, kind, code]) => {
                parts.extend(self.source_l4.map(|number| plain(id, &number.to_be_bytes())));
                if let Some([high, low]) = self.destination_l4.map(u16::to_be_bytes) {
                    parts.push(plain(kind, &[high]));
                    parts.push(plain(code, &[low]));
                }
            }
            None => {
                parts.extend(self.source_l4.map(ProtoTuple::SourcePort));
                parts.extend(self.destination_l4.map(ProtoTuple::DestinationPort));
            }
        }
        parts
    }

    /// Returns the tuple as an untyped attribute, for expectations and masters.
    pub(crate) fn to_attribute(self, kind: u16) -> DefaultNla {
        nest(kind, &self.attributes())
    }
}

/// Returns a nest as an untyped attribute.
pub(crate) fn nest<T: Nla>(kind: u16, parts: &[T]) -> DefaultNla {
    let mut value = vec![0; parts.buffer_len()];
    parts.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}
