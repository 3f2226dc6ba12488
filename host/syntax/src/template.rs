//! From parsed options to the row that is created, looked up or set.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::labels::LabelSet;
use super::options::OptionKey;
use super::parsed_options::{Nat, ParsedOptions};
use super::protocols::ProtocolKey;
use super::settings::Command;
use super::values;
use flowgate_model::{Addresses, Flows, Tuples, batch, field, put};

/// IP_CT_TCP_FLAG_SACK_PERM and IP_CT_TCP_FLAG_BE_LIBERAL. Flows that are created or changed always get these TCP
/// flags, so that the kernel's window tracking accepts packets although it has not seen the connection begin.
const TCP_FLAGS: u16 = 0x02 | 0x08;
/// IP_CT_TCP_FLAG_CLOSE_INIT, for states in which one side has closed.
const TCP_CLOSE_INIT: u16 = 0x04;

/// How an update changes labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum LabelChange {
    /// Leaves the labels unchanged.
    #[default]
    Keep,
    /// Sets these labels, also those of a new flow.
    Add(LabelSet),
    /// Removes these labels.
    Remove(LabelSet),
    /// Removes all labels.
    Clear,
}

/// Returns a table of one row for -I, -A, -G and -U, and an empty table for the other commands.
pub(crate) fn build(parsed: &ParsedOptions, command: Command, family: Option<u8>, labels: LabelChange) -> Flows {
    let mut flows = Flows::default();
    push(&mut flows, parsed, command, family, labels);
    flows
}

/// Adds the row for -I, -A, -G and -U to a table; none for the other commands. Dense columns may stay shorter than the
/// table.
pub(crate) fn push(
    flows: &mut Flows,
    parsed: &ParsedOptions,
    command: Command,
    family: Option<u8>,
    labels: LabelChange,
) {
    let row = flows.length as usize;
    let mut has = match command {
        Command::Create | Command::Add => put_new_tuples(flows, row, parsed),
        Command::Get => put_lookup_tuple(flows, row, parsed),
        Command::Update => 0,
        _ => return,
    };
    flows.length += 1;
    put(&mut flows.family, row, family.unwrap_or(0));
    if let Some(protocol) = parsed.protocol {
        put(&mut flows.protocol, row, protocol.number);
    }
    if command != Command::Get {
        has |= put_values(flows, row, parsed, command, labels);
    }
    has |= put_protocol_state(flows, row, parsed);
    if let Some(extra) = &parsed.extra {
        has |= extra.put(flows, row, command == Command::Update);
    }
    put(&mut flows.has, row, has);
}

/// Addresses and layer-4 words of one direction.
#[derive(Debug, Clone, Copy)]
struct DirectionTuple {
    addresses: [IpAddr; 2],
    words: [u16; 2],
}

impl DirectionTuple {
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
    let to_model_address = values::to_model_address(&address);
    put(&mut column.hi, row, to_model_address.hi);
    put(&mut column.lo, row, to_model_address.lo);
}

/// Returns a direction if one of its addresses was given. A missing address is all zero, as in saved flows with NAT:
/// the kernel computes it from the NAT.
fn direction(source: Option<IpAddr>, destination: Option<IpAddr>, words: [u16; 2]) -> Option<DirectionTuple> {
    let unspecified: IpAddr = match source.or(destination)? {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Some(DirectionTuple { addresses: [source.unwrap_or(unspecified), destination.unwrap_or(unspecified)], words })
}

/// Returns the layer-4 words of both directions as given, and true if those of the reply were given.
fn l4_words(parsed: &ParsedOptions) -> ([u16; 2], [u16; 2], bool) {
    let given = &parsed.protocol_values;
    if parsed.protocol.is_some_and(|protocol| flowgate_model::protocol::is_icmp(protocol.number)) {
        let word = |kind: u8| u16::from(kind) << 8 | u16::from(given.icmp_code);
        let answer = icmp_reply_type(given.icmp_type, parsed.family);
        return ([given.icmp_id, word(given.icmp_type)], [given.icmp_id, word(answer)], true);
    }
    let reply = given.has(ProtocolKey::ReplySource) || given.has(ProtocolKey::ReplyDestination);
    (given.original, given.reply, reply)
}

/// Returns the ICMP type that answers a type; 255, which the kernel rejects, if there is none.
fn icmp_reply_type(kind: u8, family: Option<u8>) -> u8 {
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

/// Returns true if the protocol has layer-4 words.
fn has_words(parsed: &ParsedOptions) -> bool {
    parsed.protocol.is_some_and(|protocol| protocol.spec.is_some())
}

/// Writes both tuples of a flow to create. If addresses of only one direction are given, the other direction is derived
/// by reversing it, and ports given for it are ignored.
fn put_new_tuples(flows: &mut Flows, row: usize, parsed: &ParsedOptions) -> u64 {
    let (original_words, reply_words, reply_given) = l4_words(parsed);
    let icmp = parsed.protocol.is_some_and(|protocol| flowgate_model::protocol::is_icmp(protocol.number));
    let swap = |[first, second]: [u16; 2]| [second, first];
    let original = direction(parsed.source, parsed.destination, original_words);
    let reply = direction(parsed.reply_source, parsed.reply_destination, reply_words);
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
    if parsed.protocol.is_some() {
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
    let words = has_words(parsed);
    if words {
        has |= field::ORIGINAL_L4;
    }
    // With addresses of both directions but ports of the original only, the reply has no protocol, and the kernel
    // rejects it.
    if derived || !words || reply_given {
        has |= if parsed.protocol.is_some() { field::REPLY_PROTOCOL } else { 0 };
        has |= if words { field::REPLY_L4 } else { 0 };
    }
    has
}

/// Writes the original tuple of a flow to look up. Without one no request can be made.
fn put_lookup_tuple(flows: &mut Flows, row: usize, parsed: &ParsedOptions) -> u64 {
    let (words, _, _) = l4_words(parsed);
    let Some(original) = direction(parsed.source, parsed.destination, words) else { return 0 };
    original.put(&mut flows.original, row);
    let l4 = if has_words(parsed) { field::ORIGINAL_L4 } else { 0 };
    field::ORIGINAL_ADDRESSES | field::PROTOCOL | l4
}

/// Writes timeout, status, mark, zones, NAT and labels.
fn put_values(flows: &mut Flows, row: usize, parsed: &ParsedOptions, command: Command, labels: LabelChange) -> u64 {
    let given = parsed.given;
    let updates = command == Command::Update;
    let mut has = 0;
    if given.contains(OptionKey::Timeout) {
        put(&mut flows.timeout, row, parsed.timeout);
        has |= field::TIMEOUT;
    }
    if given.contains(OptionKey::Status) {
        // A new flow is in the table.
        let confirmed = if updates { 0 } else { flowgate_model::status::CONFIRMED };
        put(&mut flows.status, row, parsed.status.set | confirmed);
        has |= field::STATUS;
    }
    if given.contains(OptionKey::Mark) {
        put(&mut flows.mark, row, parsed.mark.value);
        has |= field::MARK;
        if updates {
            put(&mut flows.rare.get_or_insert_default().mark_mask, row, parsed.mark.mask);
            has |= field::MARK_MASK;
        }
    }
    if given.contains(OptionKey::Zone) {
        put(&mut flows.zones.get_or_insert_default().zone, row, parsed.zone);
        has |= field::ZONE;
    }
    if given.contains(OptionKey::OriginalZone) {
        put(&mut flows.zones.get_or_insert_default().original, row, parsed.original_zone);
        has |= field::ORIGINAL_ZONE;
    }
    if given.contains(OptionKey::ReplyZone) {
        put(&mut flows.zones.get_or_insert_default().reply, row, parsed.reply_zone);
        has |= field::REPLY_ZONE;
    }
    has |= put_nat(flows, row, parsed, parsed.source_nat, 0, field::SOURCE_NAT);
    has |= put_nat(flows, row, parsed, parsed.destination_nat, 1, field::DESTINATION_NAT);
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
        // The mask keeps the other labels of an existing flow.
        if updates || command == Command::Add {
            batch::push_sparse(&mut rare.labels_mask, row, &mask.into_bytes());
            has |= field::LABELS_MASK;
        }
    }
    has
}

/// Writes a NAT if an address was given. `conntrack` sends a port with TCP and UDP only.
fn put_nat(flows: &mut Flows, row: usize, parsed: &ParsedOptions, nat: Nat, destination: u8, bit: u64) -> u64 {
    let Some(address) = nat.address else {
        return 0;
    };
    let ports = parsed.protocol.is_some_and(|protocol| match protocol.number {
        flowgate_model::protocol::TCP | flowgate_model::protocol::UDP => true,
        _ => parsed.own_name && protocol.spec.is_some(),
    });
    let port = nat.port.filter(|_| ports).unwrap_or(0);
    let to_model_address = values::to_model_address(&address);
    let column = &mut flows.rare.get_or_insert_default().nat;
    column.rows.push(row as u32);
    column.destination.push(destination);
    for addresses in [&mut column.first, &mut column.last] {
        addresses.hi.push(to_model_address.hi);
        addresses.lo.push(to_model_address.lo);
    }
    column.first_port.push(port);
    column.last_port.push(port);
    bit
}

/// Writes state, TCP flags, verification tags and role.
fn put_protocol_state(flows: &mut Flows, row: usize, parsed: &ParsedOptions) -> u64 {
    let given = &parsed.protocol_values;
    let mut has = 0;
    if given.has(ProtocolKey::State) {
        put(&mut flows.state, row, given.state);
        has |= field::STATE;
    }
    // If TCP came from the protocols database it would have no options, but it is always found among the protocols with
    // options first.
    if parsed.protocol.is_some_and(|protocol| protocol.number == flowgate_model::protocol::TCP) {
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
            // `conntrack` sends and shows tags in the byte order of the machine, although the kernel has network byte
            // order. It must accept the values that it shows.
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
