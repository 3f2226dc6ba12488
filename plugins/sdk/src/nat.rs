//! NAT, derived from the status and from the difference between a flow's two tuples.
//!
//! Replies to a flow with source NAT go to an address (or port) that differs from the original source; replies to one
//! with destination NAT come from an address that differs from the original destination. The kernel sets the bits
//! SRC_NAT_DONE and DST_NAT_DONE even if nothing was changed, so both conditions are needed.

use crate::{Flow, field, protocol, status};

/// The translation of one end of a flow; parts that do not change are `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translated {
    /// The new address, as a 128-bit number, IPv4 in its mapped form.
    pub address: Option<u128>,
    /// The new port or GRE key. ICMP has none: its words are an identifier, and type and code.
    pub port: Option<u16>,
    /// The new ICMP identifier, which the kernel changes as it changes the source port of other protocols.
    pub icmp_id: Option<u16>,
}

impl Flow<'_> {
    /// Returns the translation of the source, `None` if there is none. A flow without a status is judged by its tuples
    /// alone.
    #[must_use]
    pub fn source_translation(&self) -> Option<Translated> {
        if self.status().is_some_and(|bits| bits & status::SRC_NAT_DONE == 0) {
            return None;
        }
        let (original, reply) = (self.original(), self.reply());
        let icmp = protocol::is_icmp(self.protocol());
        translated(
            self.change(field::SOURCE | field::REPLY_DESTINATION, original.source_bits(), reply.destination_bits()),
            self.change(field::SOURCE_L4 | field::REPLY_DESTINATION_L4, original.source_l4(), reply.destination_l4())
                .filter(|_| !icmp),
            self.change(field::SOURCE_L4 | field::REPLY_SOURCE_L4, original.icmp_id(), reply.icmp_id())
                .filter(|_| icmp),
        )
    }

    /// Returns the translation of the destination, `None` if there is none. A flow without a status is judged by its
    /// tuples alone.
    #[must_use]
    pub fn destination_translation(&self) -> Option<Translated> {
        if self.status().is_some_and(|bits| bits & status::DST_NAT_DONE == 0) {
            return None;
        }
        let (original, reply) = (self.original(), self.reply());
        let icmp = protocol::is_icmp(self.protocol());
        translated(
            self.change(field::DESTINATION | field::REPLY_SOURCE, original.destination_bits(), reply.source_bits()),
            self.change(field::DESTINATION_L4 | field::REPLY_SOURCE_L4, original.destination_l4(), reply.source_l4())
                .filter(|_| !icmp),
            None,
        )
    }

    /// Returns `after` if it differs from `before` and the flow carries both.
    fn change<T: PartialEq>(&self, fields: u64, before: T, after: T) -> Option<T> {
        if self.has(fields) && before != after { Some(after) } else { None }
    }
}

fn translated(address: Option<u128>, port: Option<u16>, icmp_id: Option<u16>) -> Option<Translated> {
    let any = address.is_some() || port.is_some() || icmp_id.is_some();
    any.then_some(Translated { address, port, icmp_id })
}
