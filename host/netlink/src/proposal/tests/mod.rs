//! What the encoder makes is read as what it was made of, and nothing else is read.

mod changed;
mod rows;

use super::*;
use crate::{
    Messages,
    decode::{Arrival, FlowDecoder},
};
use flowgate_model::{Rare, Sequences, at, batch, field, protocol, status};
use flowgate_netlink_testing::{Random, rows::Rows, rows::SENT};

const KINDS: [u8; 4] = [action::DELETE, action::UPDATE, action::CREATE, action::CREATE_OR_UPDATE];
/// Protocols with a treatment of their own, and one without.
const PROTOCOLS: [u8; 9] = [
    protocol::TCP,
    protocol::UDP,
    protocol::UDPLITE,
    protocol::SCTP,
    protocol::DCCP,
    protocol::GRE,
    protocol::ICMP,
    protocol::ICMPV6,
    99,
];

fn entry(flows: &Flows) -> FlowEntry<'_> {
    FlowEntry::new(flows, 0).unwrap()
}

/// A row with everything that can be requested, in its longest form.
fn whole(family: u8, number: u8) -> Flows {
    let mut random = Random(5);
    let mut next = || random.next();
    let mut flows = Rows(&mut next).row(family, number, true);
    let address = if family == 2 { (0, 0xffff_0a00_0001) } else { (0x2001_0db8_0000_0000, 1) };
    let master = &mut flows.rare.as_mut().unwrap().master;
    for tuples in [&mut flows.original, &mut flows.reply, &mut master.tuple] {
        for column in [&mut tuples.source, &mut tuples.destination] {
            (column.hi, column.lo) = (vec![address.0], vec![address.1]);
        }
    }
    flows.has = vec![SENT];
    flows.status = vec![status::ASSURED | status::FIXED_TIMEOUT];
    let rare = flows.rare.as_mut().unwrap();
    for (column, text) in [
        (&mut rare.helper, &b"fifteen-letters"[..]),
        (&mut rare.helper_info, &[7; 256]),
        (&mut rare.labels, &[8; 16]),
        (&mut rare.labels_mask, &[9; 16]),
    ] {
        *column = Default::default();
        batch::push_sparse(column, 0, text);
    }
    rare.master.protocol = vec![protocol::ICMPV6];
    rare.master.zone = vec![7];
    rare.sequence.rows = vec![0, 0];
    rare.sequence.reply = vec![0, 1];
    for column in [&mut rare.sequence.position, &mut rare.sequence.before, &mut rare.sequence.after] {
        *column = vec![1, 2];
    }
    let nat = &mut rare.nat;
    (nat.rows, nat.destination) = (vec![0, 0], vec![0, 1]);
    for column in [&mut nat.first, &mut nat.last] {
        (column.hi, column.lo) = (vec![address.0; 2], vec![address.1; 2]);
    }
    (nat.first_port, nat.last_port) = (vec![80; 2], vec![81; 2]);
    flows
}

/// Requests of all kinds about whole rows of all protocols in both families.
fn requests() -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    for family in [2, 10] {
        for number in PROTOCOLS {
            let flows = whole(family, number);
            for kind in KINDS {
                requests.push(propose(kind, None, Some(entry(&flows))).unwrap().as_bytes().to_vec());
            }
        }
    }
    requests
}

/// Checks what must hold for any bytes; returns true if they are accepted.
fn holds(request: &[u8]) -> bool {
    let Ok(proposal) = read(request) else { return false };
    batch::check(&proposal.flows).unwrap();
    assert_eq!(proposal.encode().unwrap().as_bytes(), request, "{proposal:?}");
    true
}

/// The row as the decoder of the kernel's messages reads it, which is code of its own.
fn decoded(request: &Request) -> Flows {
    let mut flows = Flows::default();
    let message = Messages::new(request.as_bytes()).next().unwrap().unwrap();
    FlowDecoder::new(field::ALL).push(&mut flows, &message, Arrival::Entry).unwrap();
    flows
}

/// Compares the fields of two rows as far as `has` says.
fn assert_same(one: &Flows, other: &Flows, fields: u64) {
    let none = Rare::default();
    macro_rules! same {
        ($($bits:expr => $($path:ident).+;)*) => {
            $(if fields & $bits != 0 { assert_eq!(at(&one.$($path).+, 0), at(&other.$($path).+, 0), stringify!($($path).+)); })*
        };
    }
    macro_rules! grouped {
        ($($bits:expr => $group:ident.$column:ident;)*) => {
            $(if fields & $bits != 0 {
                let of = |flows: &Flows| flows.$group.as_ref().map(|group| at(&group.$column, 0)).unwrap_or_default();
                assert_eq!(of(one), of(other), stringify!($group.$column));
            })*
        };
    }
    macro_rules! rare {
        ($($bits:expr => $column:ident;)*) => {
            $(if fields & $bits != 0 {
                let (one, other) = (one.rare.as_ref().unwrap_or(&none), other.rare.as_ref().unwrap_or(&none));
                assert_eq!(one.$column, other.$column);
            })*
        };
    }
    same! {
        field::SOURCE => original.source.hi; field::SOURCE => original.source.lo;
        field::DESTINATION => original.destination.hi; field::DESTINATION => original.destination.lo;
        field::SOURCE_L4 => original.source_l4; field::DESTINATION_L4 => original.destination_l4;
        field::REPLY_SOURCE => reply.source.hi; field::REPLY_SOURCE => reply.source.lo;
        field::REPLY_DESTINATION => reply.destination.hi; field::REPLY_DESTINATION => reply.destination.lo;
        field::REPLY_SOURCE_L4 => reply.source_l4; field::REPLY_DESTINATION_L4 => reply.destination_l4;
        field::PROTOCOL => protocol; field::TIMEOUT => timeout; field::MARK => mark;
        field::ID => id; field::STATE => state;
    }
    if fields & field::STATUS != 0 {
        assert_eq!(at(&one.status, 0) & !status::CONFIRMED, at(&other.status, 0) & !status::CONFIRMED);
    }
    grouped! {
        field::ZONE => zones.zone; field::ORIGINAL_ZONE => zones.original; field::REPLY_ZONE => zones.reply;
        field::ORIGINAL_WINDOW_SCALE => tcp.original_window_scale; field::REPLY_WINDOW_SCALE => tcp.reply_window_scale;
        field::ORIGINAL_TCP_FLAGS => tcp.original_flags; field::REPLY_TCP_FLAGS => tcp.reply_flags;
        field::ORIGINAL_VTAG => sctp.original_vtag; field::REPLY_VTAG => sctp.reply_vtag;
        field::MARK_MASK => rare.mark_mask;
    }
    rare! {
        field::HELPER => helper; field::HELPER_INFO => helper_info; field::LABELS => labels;
        field::LABELS_MASK => labels_mask; field::MASTER => master;
        field::SYNPROXY => synproxy; field::DCCP => dccp;
    }
    // The decoder loses their order.
    let sequences = |flows: &Flows| {
        let Sequences { rows, reply, position, before, after } = &flows.rare.as_ref().unwrap_or(&none).sequence;
        let numbers = reply.iter().zip(position).zip(before).zip(after);
        let mut sorted: Vec<_> =
            numbers.map(|(((reply, position), before), after)| (*reply, *position, *before, *after)).collect();
        assert_eq!(sorted.len(), rows.len());
        sorted.sort_unstable();
        sorted
    };
    if fields & (field::ORIGINAL_SEQUENCE | field::REPLY_SEQUENCE) != 0 {
        assert_eq!(sequences(one), sequences(other));
    }
}
