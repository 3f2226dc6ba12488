//! Address translation, told by the status and by the difference between a flow's two tuples.
//!
//! Answers to a flow whose source is translated go to another address (or port) than the original source; answers to one
//! whose destination is translated come from another address than the original destination. The kernel sets the bit
//! SRC_NAT_DONE or DST_NAT_DONE also when nothing was changed, so both are needed.

use flowgate_sdk::{Flow, Flows, bindings::flowgate::conntrack::selector::Translation, field, protocol, status};

/// Which end of the flow is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
    Either,
}

/// Clears the verdicts of the rows that are not translated so.
pub fn apply(verdicts: &mut [u8], batch: &Flows, side: Side, translation: &Translation) {
    for (verdict, flow) in verdicts.iter_mut().zip(batch.flows()) {
        if *verdict != 0 {
            let (source, destination) = (side != Side::Destination, side != Side::Source);
            let holds = source && one(&flow, Side::Source, translation)
                || destination && one(&flow, Side::Destination, translation);
            *verdict = u8::from(holds);
        }
    }
}

/// Whether one end is translated so.
fn one(flow: &Flow<'_>, side: Side, translation: &Translation) -> bool {
    let done = if side == Side::Source { status::SRC_NAT_DONE } else { status::DST_NAT_DONE };
    if flow.status().is_some_and(|bits| bits & done == 0) {
        return false;
    }
    let (original, reply) = (flow.original(), flow.reply());
    let (before, after, addresses) = if side == Side::Source {
        (original.source_bits(), reply.destination_bits(), field::SOURCE | field::REPLY_DESTINATION)
    } else {
        (original.destination_bits(), reply.source_bits(), field::DESTINATION | field::REPLY_SOURCE)
    };
    let address_changed = flow.has(addresses) && before != after;
    let port = port(flow, side);
    let port_changed = port.is_some_and(|(before, after)| before != after);
    match (&translation.address, translation.port) {
        (None, None) => address_changed || port_changed || identifier_changed(flow, side),
        (address, number) => {
            let address_holds = address
                .as_ref()
                .is_none_or(|wanted| address_changed && after == u128::from(wanted.hi) << 64 | u128::from(wanted.lo));
            let port_holds = number.is_none_or(|number| port_changed && port.is_some_and(|(_, after)| after == number));
            address_holds && port_holds
        }
    }
}

/// Port (or GRE key) of one end before and after translation. ICMP has none: its words are an identifier, a type and a code.
fn port(flow: &Flow<'_>, side: Side) -> Option<(u16, u16)> {
    if protocol::is_icmp(flow.protocol()) {
        return None;
    }
    let (original, reply) = (flow.original(), flow.reply());
    let (before, after, fields) = if side == Side::Source {
        (original.source_l4(), reply.destination_l4(), field::SOURCE_L4 | field::REPLY_DESTINATION_L4)
    } else {
        (original.destination_l4(), reply.source_l4(), field::DESTINATION_L4 | field::REPLY_SOURCE_L4)
    };
    flow.has(fields).then_some((before, after))
}

/// Whether the ICMP identifier is translated, which the kernel does where it would change the source port of others.
fn identifier_changed(flow: &Flow<'_>, side: Side) -> bool {
    side == Side::Source
        && protocol::is_icmp(flow.protocol())
        && flow.has(field::SOURCE_L4 | field::REPLY_SOURCE_L4)
        && flow.original().icmp_id() != flow.reply().icmp_id()
}
