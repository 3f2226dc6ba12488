//! The fields of a flow that a scope checks, whatever batch they come from.

use crate::sets::key;
use flowgate_model::{Flows, at, field, protocol};

/// The fields of a flow that a scope checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScopeView {
    /// Address family: 2 is IPv4, 10 is IPv6.
    pub family: u8,
    /// Layer-4 protocol.
    pub protocol: u8,
    /// Fields that the flow carries, bits of [`field`].
    pub has: u64,
    /// Source address of the original direction, as returned by [`key`].
    pub source: u128,
    /// Of the original direction.
    pub destination: u128,
    /// Of the reply direction.
    pub reply_source: u128,
    /// Of the reply direction.
    pub reply_destination: u128,
    /// Layer-4 words of the original direction.
    pub ports: (u16, u16),
    /// Layer-4 words of the reply direction.
    pub reply_ports: (u16, u16),
    /// Zones of the original and of the reply direction.
    pub zones: (u16, u16),
    /// Connection mark.
    pub mark: u32,
}

impl ScopeView {
    /// Returns those of a row; missing columns count as 0.
    #[must_use]
    pub fn of(flows: &Flows, row: usize) -> Self {
        let has = at(&flows.has, row);
        let family = at(&flows.family, row);
        let address = |column: &flowgate_model::Addresses| key(family, at(&column.hi, row), at(&column.lo, row));
        let zones = match &flows.zones {
            None => (0, 0),
            Some(zones) => {
                let of = |bit: u64, column: &[u16]| if has & bit != 0 { at(column, row) } else { 0 };
                match of(field::ZONE, &zones.zone) {
                    0 => (of(field::ORIGINAL_ZONE, &zones.original), of(field::REPLY_ZONE, &zones.reply)),
                    both => (both, both),
                }
            }
        };
        ScopeView {
            family,
            protocol: at(&flows.protocol, row),
            has,
            source: address(&flows.original.source),
            destination: address(&flows.original.destination),
            reply_source: address(&flows.reply.source),
            reply_destination: address(&flows.reply.destination),
            ports: (at(&flows.original.source_l4, row), at(&flows.original.destination_l4, row)),
            reply_ports: (at(&flows.reply.source_l4, row), at(&flows.reply.destination_l4, row)),
            zones,
            mark: if has & field::MARK != 0 { at(&flows.mark, row) } else { 0 },
        }
    }

    /// Returns true if the source is translated: replies go to another address.
    #[must_use]
    pub fn source_translated(&self) -> bool {
        self.has & field::REPLY_DESTINATION != 0 && self.reply_destination != self.source
    }

    /// Returns true if the destination is translated: replies come from another address.
    #[must_use]
    pub fn destination_translated(&self) -> bool {
        self.has & field::REPLY_SOURCE != 0 && self.reply_source != self.destination
    }

    /// Returns the end at which the reply direction is not the reverse of the original one: `source`, `destination`, or
    /// `None` if it is at both, layer-4 words included.
    #[must_use]
    pub fn not_reversed(&self) -> Option<&'static str> {
        let (source, destination) = match self.protocol {
            // The identifier stays the same; the type is that of the answer.
            number if protocol::is_icmp(number) => {
                (self.reply_ports.0 == self.ports.0, icmp_answer(number, self.ports.1) == Some(self.reply_ports.1))
            }
            number if protocol::has_ports(number) || number == protocol::GRE => {
                (self.reply_ports.1 == self.ports.0, self.reply_ports.0 == self.ports.1)
            }
            _ => (true, true),
        };
        if self.reply_destination != self.source || !source {
            return Some("source");
        }
        (self.reply_source != self.destination || !destination).then_some("destination")
    }
}

/// Returns type and code (256 * type + code) of the ICMP or ICMPv6 message that answers this one; `None` if the kernel
/// knows no answer.
fn icmp_answer(number: u8, type_and_code: u16) -> Option<u16> {
    let [kind, code] = type_and_code.to_be_bytes();
    let pairs: &[(u8, u8)] = match number {
        protocol::ICMP => &[(8, 0), (13, 14), (15, 16), (17, 18)],
        _ => &[(128, 129), (139, 140)],
    };
    let answer = pairs.iter().find_map(|&(ask, answer)| match kind {
        _ if kind == ask => Some(answer),
        _ if kind == answer => Some(ask),
        _ => None,
    })?;
    Some(u16::from_be_bytes([answer, code]))
}
