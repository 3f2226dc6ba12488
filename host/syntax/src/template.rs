//! From what was typed to the row that is created, looked up, or set.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::labels::LabelSet;
use super::options::Key;
use super::protocols::ProtocolKey;
use super::request::{Nat, Request};
use super::settings::Command;
use super::values;
use flowgate_model::{Addresses, Flows, Tuples, batch, field, put};

/// IP_CT_TCP_FLAG_SACK_PERM and IP_CT_TCP_FLAG_BE_LIBERAL: what TCP flows that are made or changed here always get, so
/// that the kernel's window tracking does not object to what it has not seen.
const TCP_FLAGS: u16 = 0x02 | 0x08;
/// IP_CT_TCP_FLAG_CLOSE_INIT, for states in which one side has closed.
const TCP_CLOSE_INIT: u16 = 0x04;

/// What an update does with labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum LabelChange {
    /// Leaves them.
    #[default]
    Keep,
    /// Sets these; those of a flow that is made.
    Add(LabelSet),
    /// Removes these.
    Remove(LabelSet),
    /// Removes all.
    Clear,
}

/// A table with the row for I, A, G and U; without rows for the others.
pub(crate) fn build(request: &Request, command: Command, family: Option<u8>, labels: LabelChange) -> Flows {
    let mut flows = Flows::default();
    push(&mut flows, request, command, family, labels);
    flows
}

/// Adds the row for I, A, G and U to a table; no row for the others. Dense columns may stay shorter than the table.
pub(crate) fn push(flows: &mut Flows, request: &Request, command: Command, family: Option<u8>, labels: LabelChange) {
    let row = flows.length as usize;
    let mut has = match command {
        Command::Create | Command::Add => created(flows, row, request),
        Command::Get => looked_up(flows, row, request),
        Command::Update => 0,
        _ => return,
    };
    flows.length += 1;
    put(&mut flows.family, row, family.unwrap_or(0));
    if let Some(protocol) = request.protocol {
        put(&mut flows.protocol, row, protocol.number);
    }
    if command != Command::Get {
        has |= set_values(flows, row, request, command, labels);
    }
    has |= protocol_state(flows, row, request);
    if let Some(details) = &request.details {
        has |= details.put(flows, row, command == Command::Update);
    }
    put(&mut flows.has, row, has);
}

/// Addresses and layer-4 words of one direction.
#[derive(Debug, Clone, Copy)]
struct Side {
    addresses: [IpAddr; 2],
    words: [u16; 2],
}

impl Side {
    fn reversed(self, words: [u16; 2]) -> Self {
        let [source, destination] = self.addresses;
        Self { addresses: [destination, source], words }
    }

    fn put(self, tuples: &mut Tuples, row: usize) {
        let [source, destination] = self.addresses;
        put_address(&mut tuples.source, row, source);
        put_address(&mut tuples.destination, row, destination);
        let [source, destination] = self.words;
        put(&mut tuples.source_l4, row, source);
        put(&mut tuples.destination_l4, row, destination);
    }
}

/// Sets an address of a row.
pub(crate) fn put_address(column: &mut Addresses, row: usize, address: IpAddr) {
    let halves = values::halves(&address);
    put(&mut column.hi, row, halves.hi);
    put(&mut column.lo, row, halves.lo);
}

/// A direction of which an address was given. One that is missing is all zero, as in saved flows with translation: the
/// kernel fills in what the translation makes of it.
fn side(source: Option<IpAddr>, destination: Option<IpAddr>, words: [u16; 2]) -> Option<Side> {
    let unspecified: IpAddr = match source.or(destination)? {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Some(Side { addresses: [source.unwrap_or(unspecified), destination.unwrap_or(unspecified)], words })
}

/// The layer-4 words of both directions as given, and whether those of the reply were.
fn words(request: &Request) -> ([u16; 2], [u16; 2], bool) {
    let given = &request.protocol_values;
    if request.protocol.is_some_and(|protocol| flowgate_model::protocol::is_icmp(protocol.number)) {
        let word = |kind: u8| u16::from(kind) << 8 | u16::from(given.icmp_code);
        let answer = answer(given.icmp_type, request.family);
        return ([given.icmp_id, word(given.icmp_type)], [given.icmp_id, word(answer)], true);
    }
    let reply = given.has(ProtocolKey::ReplySource) || given.has(ProtocolKey::ReplyDestination);
    (given.original, given.reply, reply)
}

/// The ICMP type that answers a type; 255 if there is none, which the kernel refuses.
fn answer(kind: u8, family: Option<u8>) -> u8 {
    let pairs: &[(u8, u8)] = match family {
        Some(flowgate_model::family::IPV6) => &[(128, 129), (139, 140)],
        _ => &[(8, 0), (13, 14), (15, 16), (17, 18)],
    };
    let found = pairs.iter().find_map(|(ask, answer)| match kind {
        kind if kind == *ask => Some(*answer),
        kind if kind == *answer => Some(*ask),
        _ => None,
    });
    found.unwrap_or(u8::MAX)
}

/// Whether the protocol has layer-4 words.
fn has_words(request: &Request) -> bool {
    request.protocol.is_some_and(|protocol| protocol.handler.is_some())
}

/// Both tuples of a flow that is to be made. Where addresses of one direction only are given, the other direction is
/// that one reversed, whatever ports were given for it.
fn created(flows: &mut Flows, row: usize, request: &Request) -> u64 {
    let (original_words, reply_words, reply_given) = words(request);
    let icmp = request.protocol.is_some_and(|protocol| flowgate_model::protocol::is_icmp(protocol.number));
    let swap = |[first, second]: [u16; 2]| [second, first];
    let original = side(request.source, request.destination, original_words);
    let reply = side(request.reply_source, request.reply_destination, reply_words);
    let mut derived = true;
    let (original, reply) = match (original, reply) {
        (Some(original), None) => {
            let words = if icmp { reply_words } else { swap(original_words) };
            (Some(original), Some(original.reversed(words)))
        }
        (None, Some(reply)) => {
            let words = if icmp { original_words } else { swap(reply_words) };
            (Some(reply.reversed(words)), Some(reply))
        }
        both => {
            derived = false;
            both
        }
    };
    let mut has = 0;
    if request.protocol.is_some() {
        has |= field::PROTOCOL;
    }
    if let Some(original) = original {
        original.put(&mut flows.original, row);
        has |= field::ORIGINAL_ADDRESSES;
    }
    if let Some(reply) = reply {
        reply.put(&mut flows.reply, row);
        has |= field::REPLY_ADDRESSES;
    }
    let words = has_words(request);
    if words {
        has |= field::ORIGINAL_L4;
    }
    // With addresses of both directions and ports of the original one, the reply is left without a protocol, and the
    // kernel refuses it.
    if derived || !words || reply_given {
        has |= if request.protocol.is_some() { field::REPLY_PROTOCOL } else { 0 };
        has |= if words { field::REPLY_L4 } else { 0 };
    }
    has
}

/// The original tuple of a flow that is to be found. Without one the request cannot be made.
fn looked_up(flows: &mut Flows, row: usize, request: &Request) -> u64 {
    let (words, _, _) = words(request);
    let Some(original) = side(request.source, request.destination, words) else { return 0 };
    original.put(&mut flows.original, row);
    let l4 = if has_words(request) { field::ORIGINAL_L4 } else { 0 };
    field::ORIGINAL_ADDRESSES | field::PROTOCOL | l4
}

/// Timeout, status, mark, zones, translation and labels.
fn set_values(flows: &mut Flows, row: usize, request: &Request, command: Command, labels: LabelChange) -> u64 {
    let given = request.given;
    let updates = command == Command::Update;
    let mut has = 0;
    if given.contains(Key::Timeout) {
        put(&mut flows.timeout, row, request.timeout);
        has |= field::TIMEOUT;
    }
    if given.contains(Key::Status) {
        // A flow that is made is in the table.
        let confirmed = if updates { 0 } else { flowgate_model::status::CONFIRMED };
        put(&mut flows.status, row, request.status.set | confirmed);
        has |= field::STATUS;
    }
    if given.contains(Key::Mark) {
        put(&mut flows.mark, row, request.mark.value);
        has |= field::MARK;
        if updates {
            put(&mut flows.rare.get_or_insert_default().mark_mask, row, request.mark.mask);
            has |= field::MARK_MASK;
        }
    }
    if given.contains(Key::Zone) {
        put(&mut flows.zones.get_or_insert_default().zone, row, request.zone);
        has |= field::ZONE;
    }
    if given.contains(Key::OriginalZone) {
        put(&mut flows.zones.get_or_insert_default().original, row, request.original_zone);
        has |= field::ORIGINAL_ZONE;
    }
    if given.contains(Key::ReplyZone) {
        put(&mut flows.zones.get_or_insert_default().reply, row, request.reply_zone);
        has |= field::REPLY_ZONE;
    }
    has |= translate(flows, row, request, request.source_nat, 0, field::SOURCE_NAT);
    has |= translate(flows, row, request, request.destination_nat, 1, field::DESTINATION_NAT);
    let labels = match labels {
        LabelChange::Keep => None,
        LabelChange::Add(set) => Some((set.clone(), set)),
        LabelChange::Remove(set) => Some((LabelSet::cleared(&set), set)),
        LabelChange::Clear => Some((LabelSet::none(), LabelSet::all())),
    };
    if let Some((value, mask)) = labels {
        let rare = flows.rare.get_or_insert_default();
        batch::push_sparse(&mut rare.labels, row, &value.into_bytes());
        has |= field::LABELS;
        // The mask keeps the other labels of a flow that is there already.
        if updates || command == Command::Add {
            batch::push_sparse(&mut rare.labels_mask, row, &mask.into_bytes());
            has |= field::LABELS_MASK;
        }
    }
    has
}

/// Asks for a translation, if an address was given. `conntrack` sends a port with TCP and UDP only.
fn translate(flows: &mut Flows, row: usize, request: &Request, nat: Nat, destination: u8, bit: u64) -> u64 {
    let Some(address) = nat.address else {
        return 0;
    };
    let ports = request.protocol.is_some_and(|protocol| match protocol.number {
        flowgate_model::protocol::TCP | flowgate_model::protocol::UDP => true,
        _ => request.own && protocol.handler.is_some(),
    });
    let port = nat.port.filter(|_| ports).unwrap_or(0);
    let halves = values::halves(&address);
    let column = &mut flows.rare.get_or_insert_default().nat;
    column.rows.push(row as u32);
    column.destination.push(destination);
    for addresses in [&mut column.first, &mut column.last] {
        addresses.hi.push(halves.hi);
        addresses.lo.push(halves.lo);
    }
    column.first_port.push(port);
    column.last_port.push(port);
    bit
}

/// State, TCP flags, verification tags, role.
fn protocol_state(flows: &mut Flows, row: usize, request: &Request) -> u64 {
    let given = &request.protocol_values;
    let mut has = 0;
    if given.has(ProtocolKey::State) {
        put(&mut flows.state, row, given.state);
        has |= field::STATE;
    }
    // By its own name in the protocols database TCP would have no options, but it is always found with them first.
    if request.protocol.is_some_and(|protocol| protocol.number == flowgate_model::protocol::TCP) {
        let closing = given.has(ProtocolKey::State) && given.state >= flowgate_model::state::TCP_TIME_WAIT;
        let flags = TCP_FLAGS | if closing { TCP_CLOSE_INIT } else { 0 };
        let word = flags << 8 | flags;
        let tcp = flows.tcp.get_or_insert_default();
        put(&mut tcp.original_flags, row, word);
        put(&mut tcp.reply_flags, row, word);
        has |= field::ORIGINAL_TCP_FLAGS | field::REPLY_TCP_FLAGS;
    }
    for (key, bit, tag) in [
        (ProtocolKey::OriginalVtag, field::ORIGINAL_VTAG, given.vtags[0]),
        (ProtocolKey::ReplyVtag, field::REPLY_VTAG, given.vtags[1]),
    ] {
        if given.has(key) {
            let sctp = flows.sctp.get_or_insert_default();
            let original = key == ProtocolKey::OriginalVtag;
            let column = if original { &mut sctp.original_vtag } else { &mut sctp.reply_vtag };
            // The classic program sends and shows tags in the byte order of the machine where the kernel has that of the
            // network; what it shows must stay what it takes.
            put(column, row, u32::from_be_bytes(tag.to_ne_bytes()));
            has |= bit;
        }
    }
    if given.has(ProtocolKey::Role) {
        let dccp = &mut flows.rare.get_or_insert_default().dccp;
        dccp.rows.push(row as u32);
        dccp.role.push(given.role);
        dccp.handshake.push(0);
        has |= field::DCCP;
    }
    has
}
