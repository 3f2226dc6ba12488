//! One direction of a flow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{bindings::flowgate::conntrack::flow::Tuples, columns::at, family};

/// One direction of a flow.
#[derive(Clone, Copy)]
pub struct Direction<'a> {
    tuples: &'a Tuples,
    row: usize,
    family: u8,
}

impl<'a> Direction<'a> {
    /// Makes the view of a row of a table of tuples.
    #[inline]
    #[must_use]
    pub fn new(tuples: &'a Tuples, row: usize, family: u8) -> Self {
        Direction { tuples, row, family }
    }

    /// Returns the layer-3 family of the addresses.
    #[inline]
    #[must_use]
    pub fn family(&self) -> u8 {
        self.family
    }

    /// Returns the source address of an IPv4 flow, as a number.
    #[inline]
    #[must_use]
    pub fn source_ipv4(&self) -> u32 {
        at(&self.tuples.source.lo, self.row) as u32
    }

    /// Returns the destination address of an IPv4 flow, as a number.
    #[inline]
    #[must_use]
    pub fn destination_ipv4(&self) -> u32 {
        at(&self.tuples.destination.lo, self.row) as u32
    }

    /// Returns the source address as a 128-bit number, IPv4 in its mapped form.
    #[inline]
    #[must_use]
    pub fn source_bits(&self) -> u128 {
        self.tuples.source.bits(self.row)
    }

    /// Returns the destination address as a 128-bit number, IPv4 in its mapped form.
    #[inline]
    #[must_use]
    pub fn destination_bits(&self) -> u128 {
        self.tuples.destination.bits(self.row)
    }

    /// Returns the source address.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        address(self.family, self.source_bits())
    }

    /// Returns the destination address.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        address(self.family, self.destination_bits())
    }

    /// Returns the first word of the layer-4 key: source port, source key, or ICMP identifier.
    #[inline]
    #[must_use]
    pub fn source_l4(&self) -> u16 {
        at(&self.tuples.source_l4, self.row)
    }

    /// Returns the second word of the layer-4 key: destination port, destination key, or ICMP type times 256 plus code.
    #[inline]
    #[must_use]
    pub fn destination_l4(&self) -> u16 {
        at(&self.tuples.destination_l4, self.row)
    }

    /// Returns the source port of TCP, UDP, UDP-Lite, SCTP and DCCP.
    #[inline]
    #[must_use]
    pub fn source_port(&self) -> u16 {
        self.source_l4()
    }

    /// Returns the destination port of TCP, UDP, UDP-Lite, SCTP and DCCP.
    #[inline]
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        self.destination_l4()
    }

    /// Returns the ICMP type and code.
    #[inline]
    #[must_use]
    pub fn icmp_type_code(&self) -> (u8, u8) {
        let word = self.destination_l4();
        ((word >> 8) as u8, word as u8)
    }

    /// Returns the ICMP identifier.
    #[inline]
    #[must_use]
    pub fn icmp_id(&self) -> u16 {
        self.source_l4()
    }
}

/// Returns an address of a family from its 128 bits.
fn address(of_family: u8, bits: u128) -> IpAddr {
    if of_family == family::IPV4 {
        IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    }
}
