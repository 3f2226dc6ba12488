//! Decoding of one direction of a flow: CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_TUPLE_MASTER and the tuples of
//! expectations.

use super::attribute::{Attributes, DecodeError, be16, byte, child};
use super::unknown::UnknownAttributes;
use crate::wire::{NESTED, tuple};
use flowgate_model::field;

/// An address as in the columns: the first and the last eight bytes as numbers, IPv4 as an IPv4-mapped address.
pub(super) type AddressHalves = (u64, u64);

/// The prefix ::ffff:0:0/96 of an IPv4-mapped address in its last eight bytes.
const MAPPED: u64 = 0x0000_ffff_0000_0000;

/// Temporary bits of [`TupleRow::has`], above those of fields: which half of an ICMP type and code has been decoded.
const ICMP_TYPE: u64 = 1 << 62;
const ICMP_CODE: u64 = 1 << 63;

/// The fields of one direction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TupleRow {
    /// The fields that are set, as bits of the *original* direction in [`field`].
    has: u64,
    pub source: AddressHalves,
    pub destination: AddressHalves,
    pub source_l4: u16,
    pub destination_l4: u16,
    pub zone: u16,
    pub protocol: u8,
}

/// Returns the IPv4-mapped form of an IPv4 address.
#[inline]
pub(super) const fn mapped(address: u32) -> AddressHalves {
    (0, MAPPED | address as u64)
}

/// Returns the address in a payload of 4 or 16 bytes.
#[inline]
pub(super) fn address(payload: &[u8]) -> Option<AddressHalves> {
    if let Ok(bytes) = payload.try_into() {
        return Some(mapped(u32::from_be_bytes(bytes)));
    }
    let bytes = u128::from_be_bytes(payload.try_into().ok()?);
    Some(((bytes >> 64) as u64, bytes as u64))
}

/// Returns the address in a payload of exactly `length` bytes.
#[inline]
fn address_of_length(payload: &[u8], length: usize) -> Option<AddressHalves> {
    if payload.len() == length { address(payload) } else { None }
}

/// Returns an attribute's header as the native 32-bit number that is in the datagram.
const fn header(length: u16, kind: u16) -> u32 {
    let [l0, l1] = length.to_ne_bytes();
    let [k0, k1] = kind.to_ne_bytes();
    u32::from_ne_bytes([l0, l1, k0, k1])
}

/// Returns the native 32-bit number at `AT`.
#[inline(always)]
fn word<const N: usize, const AT: usize>(bytes: &[u8; N]) -> u32 {
    const { assert!(AT + 4 <= N) }
    u32::from_ne_bytes([bytes[AT], bytes[AT + 1], bytes[AT + 2], bytes[AT + 3]])
}

/// Returns the big-endian 64-bit number at `AT`.
#[inline(always)]
fn long<const N: usize, const AT: usize>(bytes: &[u8; N]) -> u64 {
    u64::from(u32::from_be(word::<N, AT>(bytes))) << 32 | u64::from(u32::from_be(tail::<N, AT>(bytes)))
}

/// Returns the native 32-bit number at `AT + 4`.
#[inline(always)]
fn tail<const N: usize, const AT: usize>(bytes: &[u8; N]) -> u32 {
    const { assert!(AT + 8 <= N) }
    u32::from_ne_bytes([bytes[AT + 4], bytes[AT + 5], bytes[AT + 6], bytes[AT + 7]])
}

/// All fields of a tuple with ports.
const COMPLETE: u64 = field::SOURCE | field::DESTINATION | field::PROTOCOL | field::SOURCE_L4 | field::DESTINATION_L4;

impl TupleRow {
    /// Returns the fields that are set, as bits of the original direction.
    #[inline]
    pub(super) fn original_bits(&self) -> u64 {
        self.has & !(ICMP_TYPE | ICMP_CODE)
    }

    /// Returns the fields that are set, as bits of the reply direction.
    #[inline]
    pub(super) fn reply_bits(&self) -> u64 {
        const BY_TWO: u64 = field::SOURCE | field::DESTINATION | field::SOURCE_L4 | field::DESTINATION_L4;
        const BY_ONE: u64 = field::PROTOCOL | field::ORIGINAL_ZONE;
        (self.has & BY_TWO) << 2 | (self.has & BY_ONE) << 1
    }

    /// Returns true if any of these fields (bits of the original direction) is set.
    #[inline]
    pub(super) fn has(&self, fields: u64) -> bool {
        self.has & fields != 0
    }

    /// Sets a field's bit; returns false if it was set.
    #[inline]
    fn set_once(&mut self, bit: u64) -> bool {
        let fresh = self.has & bit == 0;
        self.has |= bit;
        fresh
    }

    /// Sets the bit of one half of the ICMP type and code, which share a field; returns false if it was set.
    #[inline]
    fn set_half_once(&mut self, half: u64) -> bool {
        if self.has & field::DESTINATION_L4 != 0 && self.has & (ICMP_TYPE | ICMP_CODE) == 0 {
            return false;
        }
        self.has |= field::DESTINATION_L4;
        self.set_once(half)
    }

    /// Decodes a tuple's payload. The attribute is at `path`; attributes without a field are kept in `unknown`.
    #[inline]
    pub(super) fn decode(
        &mut self,
        payload: &[u8],
        path: u64,
        unknown: &mut UnknownAttributes,
    ) -> Result<(), DecodeError> {
        if self.has == 0 {
            // The fixed layouts that the kernel writes for protocols with ports; the offsets are within the payload.
            if let Ok(bytes) = payload.try_into()
                && self.decode_ipv4(bytes)
            {
                return Ok(());
            }
            if let Ok(bytes) = payload.try_into()
                && self.decode_ipv6(bytes)
            {
                return Ok(());
            }
        }
        self.decode_attributes(payload, path, unknown)
    }

    #[inline(always)]
    fn decode_ipv4(&mut self, bytes: &[u8; 48]) -> bool {
        let same = (word::<48, 0>(bytes) ^ header(20, tuple::IP | NESTED))
            | (word::<48, 4>(bytes) ^ header(8, tuple::V4_SRC))
            | (word::<48, 12>(bytes) ^ header(8, tuple::V4_DST))
            | (word::<48, 20>(bytes) ^ header(28, tuple::PROTO | NESTED))
            | (word::<48, 24>(bytes) ^ header(5, tuple::NUM))
            | (word::<48, 32>(bytes) ^ header(6, tuple::SRC_PORT))
            | (word::<48, 40>(bytes) ^ header(6, tuple::DST_PORT));
        if same != 0 {
            return false;
        }
        self.has = COMPLETE;
        self.source = mapped(u32::from_be(word::<48, 8>(bytes)));
        self.destination = mapped(u32::from_be(word::<48, 16>(bytes)));
        self.protocol = bytes[28];
        self.source_l4 = u16::from_be_bytes([bytes[36], bytes[37]]);
        self.destination_l4 = u16::from_be_bytes([bytes[44], bytes[45]]);
        true
    }

    #[inline(always)]
    fn decode_ipv6(&mut self, bytes: &[u8; 72]) -> bool {
        let same = (word::<72, 0>(bytes) ^ header(44, tuple::IP | NESTED))
            | (word::<72, 4>(bytes) ^ header(20, tuple::V6_SRC))
            | (word::<72, 24>(bytes) ^ header(20, tuple::V6_DST))
            | (word::<72, 44>(bytes) ^ header(28, tuple::PROTO | NESTED))
            | (word::<72, 48>(bytes) ^ header(5, tuple::NUM))
            | (word::<72, 56>(bytes) ^ header(6, tuple::SRC_PORT))
            | (word::<72, 64>(bytes) ^ header(6, tuple::DST_PORT));
        if same != 0 {
            return false;
        }
        self.has = COMPLETE;
        self.source = (long::<72, 8>(bytes), long::<72, 16>(bytes));
        self.destination = (long::<72, 28>(bytes), long::<72, 36>(bytes));
        self.protocol = bytes[52];
        self.source_l4 = u16::from_be_bytes([bytes[60], bytes[61]]);
        self.destination_l4 = u16::from_be_bytes([bytes[68], bytes[69]]);
        true
    }

    /// Decodes any layout: other protocols, zones, future attributes.
    fn decode_attributes(
        &mut self,
        payload: &[u8],
        path: u64,
        unknown: &mut UnknownAttributes,
    ) -> Result<(), DecodeError> {
        let mut attributes = Attributes::new(payload);
        while let Some((kind, value)) = attributes.next() {
            match kind {
                tuple::IP => self.decode_addresses(value, child(path, kind), unknown)?,
                tuple::PROTO => self.decode_protocol(value, child(path, kind), unknown)?,
                tuple::ZONE => match be16(value) {
                    Some(zone) if self.set_once(field::ORIGINAL_ZONE) => self.zone = zone,
                    _ => unknown.keep(child(path, kind), value),
                },
                _ => unknown.keep(child(path, kind), value),
            }
        }
        attributes.finish(path)
    }

    fn decode_addresses(
        &mut self,
        payload: &[u8],
        path: u64,
        unknown: &mut UnknownAttributes,
    ) -> Result<(), DecodeError> {
        let mut attributes = Attributes::new(payload);
        while let Some((kind, value)) = attributes.next() {
            let (bit, address) = match kind {
                tuple::V4_SRC => (field::SOURCE, address_of_length(value, 4)),
                tuple::V4_DST => (field::DESTINATION, address_of_length(value, 4)),
                tuple::V6_SRC => (field::SOURCE, address_of_length(value, 16)),
                tuple::V6_DST => (field::DESTINATION, address_of_length(value, 16)),
                _ => (0, None),
            };
            match address {
                Some(address) if self.set_once(bit) => {
                    if bit == field::SOURCE {
                        self.source = address;
                    } else {
                        self.destination = address;
                    }
                }
                _ => unknown.keep(child(path, kind), value),
            }
        }
        attributes.finish(path)
    }

    fn decode_protocol(
        &mut self,
        payload: &[u8],
        path: u64,
        unknown: &mut UnknownAttributes,
    ) -> Result<(), DecodeError> {
        let mut attributes = Attributes::new(payload);
        while let Some((kind, value)) = attributes.next() {
            let taken = match (kind, byte(value), be16(value)) {
                (tuple::NUM, Some(number), _) => self.set_once(field::PROTOCOL).then(|| self.protocol = number),
                (tuple::SRC_PORT | tuple::ICMP_ID | tuple::ICMPV6_ID, _, Some(number)) => {
                    self.set_once(field::SOURCE_L4).then(|| self.source_l4 = number)
                }
                (tuple::DST_PORT, _, Some(number)) => {
                    self.set_once(field::DESTINATION_L4).then(|| self.destination_l4 = number)
                }
                (tuple::ICMP_TYPE | tuple::ICMPV6_TYPE, Some(number), _) => {
                    self.set_half_once(ICMP_TYPE).then(|| self.destination_l4 |= u16::from(number) << 8)
                }
                (tuple::ICMP_CODE | tuple::ICMPV6_CODE, Some(number), _) => {
                    self.set_half_once(ICMP_CODE).then(|| self.destination_l4 |= u16::from(number))
                }
                _ => None,
            };
            if taken.is_none() {
                unknown.keep(child(path, kind), value);
            }
        }
        attributes.finish(path)
    }
}
