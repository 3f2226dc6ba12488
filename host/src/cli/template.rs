//! From what was typed to the one row that is created, looked up, or set.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::labels::LabelSet;
use super::options::Key;
use super::protocols::ProtocolKey;
use super::request::{Nat, Request};
use super::settings::Command;
use super::values;
use crate::model::{
    self, Addresses, Dccps, Flows, Rare, Sctp, SparseTexts, Tcp, Texts, Translations, Tuples, Zones, field,
};

/// IP_CT_TCP_FLAG_SACK_PERM and IP_CT_TCP_FLAG_BE_LIBERAL: what TCP flows that are made or changed here always get, so
/// that the kernel's window tracking does not object to what it has not seen.
const TCP_FLAGS: u16 = 0x02 | 0x08;
/// IP_CT_TCP_FLAG_CLOSE_INIT, for states in which one side has closed.
const TCP_CLOSE_INIT: u16 = 0x04;

/// What an update does with labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LabelChange {
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

/// The row for I, A, G and U; no row for the others.
pub fn build(request: &Request, command: Command, family: Option<u8>, labels: LabelChange) -> Flows {
    let mut row = match command {
        Command::Create | Command::Add => created(request),
        Command::Get => looked_up(request),
        Command::Update => Flows::default(),
        _ => return Flows::default(),
    };
    row.length = 1;
    row.family = vec![family.unwrap_or(0)];
    let mut has = row.has.first().copied().unwrap_or(0);
    if let Some(protocol) = request.protocol {
        row.protocol = vec![protocol.number];
    }
    if command != Command::Get {
        has |= set_values(&mut row, request, command, labels);
    }
    has |= protocol_state(&mut row, request);
    row.has = vec![has];
    row
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

    fn tuples(self) -> Tuples {
        let [source, destination] = self.addresses;
        let [source_l4, destination_l4] = self.words;
        Tuples {
            source: addresses(source),
            destination: addresses(destination),
            source_l4: vec![source_l4],
            destination_l4: vec![destination_l4],
        }
    }
}

fn addresses(address: IpAddr) -> Addresses {
    let halves = values::halves(&address);
    Addresses { hi: vec![halves.hi], lo: vec![halves.lo] }
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
    if request.protocol.is_some_and(|protocol| model::protocol::is_icmp(protocol.number)) {
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
        Some(model::family::IPV6) => &[(128, 129), (139, 140)],
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
fn created(request: &Request) -> Flows {
    let (original_words, reply_words, reply_given) = words(request);
    let icmp = request.protocol.is_some_and(|protocol| model::protocol::is_icmp(protocol.number));
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
    let mut row = Flows::default();
    if request.protocol.is_some() {
        has |= field::PROTOCOL;
    }
    if let Some(original) = original {
        row.original = original.tuples();
        has |= field::ORIGINAL_ADDRESSES;
    }
    if let Some(reply) = reply {
        row.reply = reply.tuples();
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
    row.has = vec![has];
    row
}

/// The original tuple of a flow that is to be found. Without one the request cannot be made.
fn looked_up(request: &Request) -> Flows {
    let (words, _, _) = words(request);
    let mut row = Flows { has: vec![0], ..Flows::default() };
    if let Some(original) = side(request.source, request.destination, words) {
        row.original = original.tuples();
        let l4 = if has_words(request) { field::ORIGINAL_L4 } else { 0 };
        row.has = vec![field::ORIGINAL_ADDRESSES | field::PROTOCOL | l4];
    }
    row
}

/// Timeout, status, mark, zones, translation and labels.
fn set_values(row: &mut Flows, request: &Request, command: Command, labels: LabelChange) -> u64 {
    let given = request.given;
    let updates = command == Command::Update;
    let mut has = 0;
    let mut rare = Rare::default();
    if given.contains(Key::Timeout) {
        row.timeout = vec![request.timeout];
        has |= field::TIMEOUT;
    }
    if given.contains(Key::Status) {
        // A flow that is made is in the table.
        let confirmed = if updates { 0 } else { model::status::CONFIRMED };
        row.status = vec![request.status.set | confirmed];
        has |= field::STATUS;
    }
    if given.contains(Key::Mark) {
        row.mark = vec![request.mark.value];
        has |= field::MARK;
        if updates {
            rare.mark_mask = vec![request.mark.mask];
            has |= field::MARK_MASK;
        }
    }
    let zones = [
        (Key::Zone, field::ZONE, request.zone),
        (Key::OriginalZone, field::ORIGINAL_ZONE, request.original_zone),
        (Key::ReplyZone, field::REPLY_ZONE, request.reply_zone),
    ]
    .map(|(key, bit, zone)| {
        let given = given.contains(key);
        has |= if given { bit } else { 0 };
        if given { vec![zone] } else { Vec::new() }
    });
    if has & field::ZONES != 0 {
        let [zone, original, reply] = zones;
        row.zones = Some(Zones { zone, original, reply });
    }
    has |= translate(&mut rare.nat, request, request.source_nat, 0, field::SOURCE_NAT);
    has |= translate(&mut rare.nat, request, request.destination_nat, 1, field::DESTINATION_NAT);
    let labels = match labels {
        LabelChange::Keep => None,
        LabelChange::Add(set) => Some((set.clone(), set)),
        LabelChange::Remove(set) => Some((LabelSet::cleared(&set), set)),
        LabelChange::Clear => Some((LabelSet::none(), LabelSet::all())),
    };
    if let Some((value, mask)) = labels {
        rare.labels = single(value.into_bytes());
        has |= field::LABELS;
        if updates {
            rare.labels_mask = single(mask.into_bytes());
            has |= field::LABELS_MASK;
        }
    }
    if has & (field::MARK_MASK | field::SOURCE_NAT | field::DESTINATION_NAT | field::LABELS) != 0 {
        row.rare = Some(rare);
    }
    has
}

/// A sparse column with a value for row 0.
fn single(bytes: Vec<u8>) -> SparseTexts {
    let ends = vec![u32::try_from(bytes.len()).unwrap_or(u32::MAX)];
    SparseTexts { rows: vec![0], texts: Texts { ends, bytes } }
}

/// Asks for a translation, if an address was given. A port is meaningful for TCP and UDP only.
fn translate(column: &mut Translations, request: &Request, nat: Nat, destination: u8, bit: u64) -> u64 {
    let Some(address) = nat.address else {
        return 0;
    };
    let ports =
        request.protocol.is_some_and(|protocol| matches!(protocol.number, model::protocol::TCP | model::protocol::UDP));
    let port = nat.port.filter(|_| ports).unwrap_or(0);
    let halves = values::halves(&address);
    column.rows.push(0);
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
fn protocol_state(row: &mut Flows, request: &Request) -> u64 {
    let given = &request.protocol_values;
    let mut has = 0;
    if given.has(ProtocolKey::State) {
        row.state = vec![given.state];
        has |= field::STATE;
    }
    // By its own name in the protocols database TCP would have no options, but it is always found with them first.
    if request.protocol.is_some_and(|protocol| protocol.number == model::protocol::TCP) {
        let closing = given.has(ProtocolKey::State) && given.state >= model::state::TCP_TIME_WAIT;
        let flags = TCP_FLAGS | if closing { TCP_CLOSE_INIT } else { 0 };
        let word = flags << 8 | flags;
        row.tcp = Some(Tcp { original_flags: vec![word], reply_flags: vec![word], ..Tcp::default() });
        has |= field::ORIGINAL_TCP_FLAGS | field::REPLY_TCP_FLAGS;
    }
    let vtags = [
        (ProtocolKey::OriginalVtag, field::ORIGINAL_VTAG, given.vtags[0]),
        (ProtocolKey::ReplyVtag, field::REPLY_VTAG, given.vtags[1]),
    ]
    .map(|(key, bit, tag)| {
        has |= if given.has(key) { bit } else { 0 };
        // The classic program sends and shows tags in the byte order of the machine where the kernel has that of the
        // network; what it shows must stay what it takes.
        given.if_given(key, vec![u32::from_be_bytes(tag.to_ne_bytes())]).unwrap_or_default()
    });
    if has & (field::ORIGINAL_VTAG | field::REPLY_VTAG) != 0 {
        let [original_vtag, reply_vtag] = vtags;
        row.sctp = Some(Sctp { original_vtag, reply_vtag });
    }
    if given.has(ProtocolKey::Role) {
        let dccp = Dccps { rows: vec![0], role: vec![given.role], handshake: vec![0] };
        row.rare.get_or_insert_default().dccp = dccp;
        has |= field::DCCP;
    }
    has
}
