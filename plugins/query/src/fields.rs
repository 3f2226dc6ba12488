//! The fields of queries as columns of a batch (the table in `wit/query.wit`).

use std::borrow::Cow;

use flowgate_sdk::{Flow, Flows, event, family, field, protocol, query as q, query::kind, state, text::Text as _};

use crate::{
    LabelNames,
    column::{Addresses, Numbers, Presence, Texts, Values, keep},
};

/// The type of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A number.
    Number,
    /// An address.
    Address,
    /// A text.
    Text,
}

/// Returns the type of a field; `None` for a number that this version does not know.
#[must_use]
pub fn type_of(number: u32) -> Option<Type> {
    Some(match q::by_number(number)?.kind {
        kind::TEXT => Type::Text,
        kind::ADDRESS => Type::Address,
        _ => Type::Number,
    })
}

/// Protocols that have a field: bits of a set.
pub(crate) mod class {
    /// Those with ports.
    pub(crate) const PORTS: u8 = 1;
    /// ICMP and ICMPv6.
    pub(crate) const ICMP: u8 = 2;
    /// GRE.
    pub(crate) const KEYS: u8 = 4;
    /// All classes, for loops.
    pub(crate) const ALL: [u8; 3] = [PORTS, ICMP, KEYS];

    use flowgate_sdk::protocol;

    /// Returns true if a protocol is in a class.
    #[inline]
    pub(crate) fn contains(class: u8, number: u8) -> bool {
        match class {
            PORTS => protocol::has_ports(number),
            ICMP => protocol::is_icmp(number),
            _ => number == protocol::GRE,
        }
    }
}

/// What every row with a value of a field has: bits of `flows.has`, and classes of protocols.
pub(crate) fn required(number: u32) -> (u64, u8) {
    let bits = q::by_number(number).map_or(0, |field| field.reads);
    match number {
        q::ORIGINAL_SOURCE_PORT..=q::REPLY_DESTINATION_PORT => (bits, class::PORTS),
        q::ORIGINAL_ICMP_ID..=q::REPLY_ICMP_CODE => (bits, class::ICMP),
        q::ORIGINAL_SOURCE_KEY..=q::REPLY_DESTINATION_KEY => (bits, class::KEYS),
        q::PACKETS
        | q::BYTES
        | q::NAT_SOURCE_ADDRESS..=q::NAT_DESTINATION_ICMP_ID
        | q::ZONE
        | q::ORIGINAL_ZONE
        | q::REPLY_ZONE => (0, 0),
        q::AGE => (field::START, 0),
        _ => (bits, 0),
    }
}

/// Returns true if a row that carries what [`required`] says may lack the value nevertheless.
pub(crate) fn is_dynamic(number: u32) -> bool {
    matches!(
        number,
        q::EVENT
            | q::PACKETS
            | q::BYTES
            | q::NAT_SOURCE_ADDRESS..=q::NAT_DESTINATION_ICMP_ID
            | q::RECEIVED
            | q::SYNTHETIC..
    )
}

/// Clears the bytes of rows whose protocol is not in each of these classes.
pub(crate) fn of_class(batch: &Flows, classes: u8, rows: &mut [u8]) {
    for class in class::ALL.into_iter().filter(|class| classes & class != 0) {
        keep(rows, &batch.protocol, |number| class::contains(class, number));
    }
}

/// Returns the largest number that a field can have; `None` for a field that is signed or computed.
pub(crate) fn largest(number: u32) -> Option<u64> {
    Some(match number {
        q::EVENT | q::FAMILY | q::PROTOCOL | q::STATE => u64::from(u8::MAX),
        q::ORIGINAL_SOURCE_PORT..=q::REPLY_DESTINATION_KEY | q::ZONE | q::ORIGINAL_ZONE | q::REPLY_ZONE => {
            u64::from(u16::MAX)
        }
        q::TIMEOUT | q::STATUS | q::MARK | q::USE | q::ID | q::SECMARK | q::PORT_ID | q::NAMESPACE_ID => {
            u64::from(u32::MAX)
        }
        q::ORIGINAL_PACKETS..=q::BYTES | q::START..=q::TIME | q::EVENT_TIME | q::RECEIVED => u64::MAX,
        _ => return None,
    })
}

/// Returns a field of numbers. The rows that have a value are those of its presence which also carry what
/// [`required`] says.
fn column<'a>(number: u32, batch: &'a Flows) -> (Values<'a>, Presence) {
    let (original, reply) = (&batch.original, &batch.reply);
    let words = |words: &'a [u16]| (Values::Words(Cow::Borrowed(words)), Presence::All);
    let numbers = |numbers: &'a [u32]| (Values::Numbers(Cow::Borrowed(numbers)), Presence::All);
    let longs = |longs: &'a [u64]| (Values::Longs(Cow::Borrowed(longs)), Presence::All);
    let bytes = |bytes: &'a [u8]| (Values::Bytes(Cow::Borrowed(bytes)), Presence::All);
    let shifted = |words: &'a [u16], shift: u32| {
        let parts = words.iter().map(|word| word >> shift & 0xff).collect();
        (Values::Words(Cow::Owned(parts)), Presence::All)
    };
    let counters = batch.counters.as_ref();
    let times = batch.times.as_ref();
    let events = batch.events.as_ref();
    match number {
        q::EVENT => match events {
            Some(events) => {
                let present = events.kind.iter().map(|&kind| u8::from(kind != event::NONE)).collect();
                (Values::Bytes(Cow::Borrowed(&events.kind)), Presence::Rows(present))
            }
            None => (Values::Bytes(Cow::Borrowed(&[])), Presence::Rows(vec![0; batch.length as usize])),
        },
        q::FAMILY => bytes(&batch.family),
        q::PROTOCOL => bytes(&batch.protocol),
        q::STATE => bytes(&batch.state),
        q::TIMEOUT => numbers(&batch.timeout),
        q::ORIGINAL_SOURCE_PORT | q::ORIGINAL_ICMP_ID | q::ORIGINAL_SOURCE_KEY => words(&original.source_l4),
        q::ORIGINAL_DESTINATION_PORT | q::ORIGINAL_DESTINATION_KEY => words(&original.destination_l4),
        q::REPLY_SOURCE_PORT | q::REPLY_ICMP_ID | q::REPLY_SOURCE_KEY => words(&reply.source_l4),
        q::REPLY_DESTINATION_PORT | q::REPLY_DESTINATION_KEY => words(&reply.destination_l4),
        q::ORIGINAL_ICMP_TYPE => shifted(&original.destination_l4, 8),
        q::ORIGINAL_ICMP_CODE => shifted(&original.destination_l4, 0),
        q::REPLY_ICMP_TYPE => shifted(&reply.destination_l4, 8),
        q::REPLY_ICMP_CODE => shifted(&reply.destination_l4, 0),
        q::ORIGINAL_PACKETS => longs(counters.map_or(&[], |counters| &counters.original_packets)),
        q::ORIGINAL_BYTES => longs(counters.map_or(&[], |counters| &counters.original_bytes)),
        q::REPLY_PACKETS => longs(counters.map_or(&[], |counters| &counters.reply_packets)),
        q::REPLY_BYTES => longs(counters.map_or(&[], |counters| &counters.reply_bytes)),
        q::PACKETS => both(batch, counters.map(|c| (&c.original_packets[..], &c.reply_packets[..]))),
        q::BYTES => both(batch, counters.map(|c| (&c.original_bytes[..], &c.reply_bytes[..]))),
        q::STATUS => numbers(&batch.status),
        q::MARK => numbers(&batch.mark),
        q::ZONE => zone(batch, batch.zones.as_ref().map_or(&[], |zones| &zones.zone), field::ZONE),
        q::ORIGINAL_ZONE => {
            zone(batch, batch.zones.as_ref().map_or(&[], |zones| &zones.original), field::ORIGINAL_ZONE)
        }
        q::REPLY_ZONE => zone(batch, batch.zones.as_ref().map_or(&[], |zones| &zones.reply), field::REPLY_ZONE),
        q::USE => numbers(&batch.use_count),
        q::ID => numbers(&batch.id),
        q::START => longs(times.map_or(&[], |times| &times.start)),
        q::STOP => longs(times.map_or(&[], |times| &times.stop)),
        q::AGE => age(batch),
        q::TIME => (Values::Longs(Cow::Owned(vec![batch.time; batch.length as usize])), Presence::All),
        q::SECMARK => numbers(batch.rare.as_ref().map_or(&[], |rare| &rare.secmark)),
        q::EVENT_TIME => longs(events.map_or(&[], |events| &events.time)),
        q::RECEIVED => {
            let carried = Presence::Rows(vec![u8::from(events.is_some()); batch.length as usize]);
            (Values::Longs(Cow::Borrowed(events.map_or(&[], |events| &events.received))), carried)
        }
        q::PORT_ID => numbers(events.map_or(&[], |events| &events.port_id)),
        q::NAMESPACE_ID => numbers(events.map_or(&[], |events| &events.namespace_id)),
        other => by_row(batch, |flow| rare(other, flow)),
    }
}

/// Returns a field of numbers.
#[must_use]
pub fn numbers(number: u32, batch: &Flows) -> Numbers<'_> {
    let (values, presence) = column(number, batch);
    let (fields, classes) = required(number);
    let mut presence = presence.and(Presence::Fields(fields), batch);
    if classes != 0 {
        let mut rows = presence.rows(batch);
        of_class(batch, classes, &mut rows);
        presence = Presence::Rows(rows);
    }
    Numbers { values, presence }
}

/// As [`numbers`], for rows of which is known that they carry what [`required`] says.
pub(crate) fn numbers_of_required(number: u32, batch: &Flows) -> Numbers<'_> {
    let (values, presence) = column(number, batch);
    Numbers { values, presence }
}

/// Returns the sums of two directions, of which a row carries one at least.
fn both<'a>(batch: &Flows, columns: Option<(&[u64], &[u64])>) -> (Values<'a>, Presence) {
    const BOTH: u64 = field::ORIGINAL_COUNTERS | field::REPLY_COUNTERS;
    let Some((original, reply)) = columns else {
        return (Values::Longs(Cow::Borrowed(&[])), Presence::Rows(vec![0; batch.length as usize]));
    };
    // Both columns are there in ordinary batches, in which all rows carry both or none.
    if original.len() == reply.len() && batch.has.iter().all(|has| has & BOTH == BOTH) {
        let sums = original.iter().zip(reply).map(|(original, reply)| original.saturating_add(*reply)).collect();
        return (Values::Longs(Cow::Owned(sums)), Presence::All);
    }
    let at = |values: &[u64], row: usize| values.get(row).copied().unwrap_or_default();
    let (mut sums, mut present) = (Vec::new(), Vec::new());
    for (row, has) in batch.has.iter().enumerate() {
        let original = if has & field::ORIGINAL_COUNTERS != 0 { at(original, row) } else { 0 };
        let reply = if has & field::REPLY_COUNTERS != 0 { at(reply, row) } else { 0 };
        sums.push(original.saturating_add(reply));
        present.push(u8::from(has & BOTH != 0));
    }
    (Values::Longs(Cow::Owned(sums)), Presence::Rows(present))
}

/// Returns a zone, which is 0 for a row that does not carry it.
fn zone<'a>(batch: &Flows, column: &'a [u16], bit: u64) -> (Values<'a>, Presence) {
    if column.is_empty() || batch.has.iter().all(|has| has & bit != 0) {
        return (Values::Words(Cow::Borrowed(column)), Presence::All);
    }
    let zones = column.iter().zip(&batch.has).map(|(&zone, has)| if has & bit != 0 { zone } else { 0 });
    (Values::Words(Cow::Owned(zones.collect())), Presence::All)
}

/// Returns the seconds from the start of each row to its end, or to the time of the batch.
fn age<'a>(batch: &Flows) -> (Values<'a>, Presence) {
    const SECOND: u64 = 1_000_000_000;
    let Some(times) = &batch.times else { return (Values::Longs(Cow::Borrowed(&[])), Presence::All) };
    let ages = times.start.iter().enumerate().map(|(row, &start)| {
        let stopped = batch.has.get(row).is_some_and(|has| has & field::STOP != 0);
        let end = times.stop.get(row).copied().filter(|_| stopped).unwrap_or(batch.time);
        end.saturating_sub(start) / SECOND
    });
    (Values::Longs(Cow::Owned(ages.collect())), Presence::All)
}

/// Returns the column of a value that is found row by row.
fn by_row<'a>(batch: &'a Flows, value: impl Fn(Flow<'a>) -> Option<i64>) -> (Values<'a>, Presence) {
    let values: Vec<Option<i64>> = batch.flows().map(value).collect();
    let present = values.iter().map(|value| u8::from(value.is_some())).collect();
    (Values::Signed(values.into_iter().map(Option::unwrap_or_default).collect()), Presence::Rows(present))
}

/// Returns a number that few flows have.
fn rare(number: u32, flow: Flow<'_>) -> Option<i64> {
    let master = || flow.master();
    let ports = |word: u16| protocol::has_ports(master()?.protocol).then_some(i64::from(word));
    match number {
        q::NAT_SOURCE_PORT => flow.source_translation()?.port.map(i64::from),
        q::NAT_SOURCE_ICMP_ID => flow.source_translation()?.icmp_id.map(i64::from),
        q::NAT_DESTINATION_PORT => flow.destination_translation()?.port.map(i64::from),
        q::NAT_DESTINATION_ICMP_ID => flow.destination_translation()?.icmp_id.map(i64::from),
        q::SYNTHETIC => flow.synthetic().then_some(1),
        q::ORIGINAL_WINDOW_SCALE => flow.window_scales().0.map(i64::from),
        q::REPLY_WINDOW_SCALE => flow.window_scales().1.map(i64::from),
        q::ORIGINAL_TCP_FLAGS => flow.tcp_flags().0.map(|(flags, _)| i64::from(flags)),
        q::REPLY_TCP_FLAGS => flow.tcp_flags().1.map(|(flags, _)| i64::from(flags)),
        q::ORIGINAL_VTAG => flow.vtags().0.map(i64::from),
        q::REPLY_VTAG => flow.vtags().1.map(i64::from),
        q::ORIGINAL_SEQUENCE_POSITION => flow.original_sequence().map(|sequence| sequence.position.into()),
        q::ORIGINAL_SEQUENCE_BEFORE => flow.original_sequence().map(|sequence| sequence.before.into()),
        q::ORIGINAL_SEQUENCE_AFTER => flow.original_sequence().map(|sequence| sequence.after.into()),
        q::REPLY_SEQUENCE_POSITION => flow.reply_sequence().map(|sequence| sequence.position.into()),
        q::REPLY_SEQUENCE_BEFORE => flow.reply_sequence().map(|sequence| sequence.before.into()),
        q::REPLY_SEQUENCE_AFTER => flow.reply_sequence().map(|sequence| sequence.after.into()),
        q::SYNPROXY_ISN => flow.synproxy().map(|state| state.isn.into()),
        q::SYNPROXY_ITS => flow.synproxy().map(|state| state.its.into()),
        q::SYNPROXY_TSOFF => flow.synproxy().map(|state| state.tsoff.into()),
        q::DCCP_ROLE => flow.dccp().map(|(role, _)| role.into()),
        // 48 bits (RFC 4340).
        q::DCCP_HANDSHAKE_SEQUENCE => flow.dccp().map(|(_, sequence)| i64::try_from(sequence).unwrap_or(i64::MAX)),
        q::MASTER_PROTOCOL => master().map(|master| master.protocol.into()),
        q::MASTER_SOURCE_PORT => ports(master()?.tuple.source_l4()),
        q::MASTER_DESTINATION_PORT => ports(master()?.tuple.destination_l4()),
        q::MASTER_ZONE => master().map(|master| i64::from(master.zone)).filter(|zone| *zone != 0),
        _ => None,
    }
}

/// Returns a field of addresses.
#[must_use]
pub fn addresses(number: u32, batch: &Flows) -> Addresses<'_> {
    let fields = required(number).0;
    let column = match number {
        q::ORIGINAL_SOURCE => &batch.original.source,
        q::ORIGINAL_DESTINATION => &batch.original.destination,
        q::REPLY_SOURCE => &batch.reply.source,
        q::REPLY_DESTINATION => &batch.reply.destination,
        other => {
            let found = |flow: Flow<'_>| match other {
                q::NAT_SOURCE_ADDRESS => flow.source_translation()?.address,
                q::NAT_DESTINATION_ADDRESS => flow.destination_translation()?.address,
                q::MASTER_SOURCE => flow.master().map(|master| master.tuple.source_bits()),
                q::MASTER_DESTINATION => flow.master().map(|master| master.tuple.destination_bits()),
                _ => None,
            };
            let values: Vec<Option<u128>> = batch.flows().map(found).collect();
            let present = values.iter().map(|value| u8::from(value.is_some())).collect();
            let half = |shift: u32| values.iter().map(|value| (value.unwrap_or_default() >> shift) as u64).collect();
            return Addresses { hi: Cow::Owned(half(64)), lo: Cow::Owned(half(0)), presence: Presence::Rows(present) };
        }
    };
    Addresses { hi: Cow::Borrowed(&column.hi), lo: Cow::Borrowed(&column.lo), presence: Presence::Fields(fields) }
}

/// Returns a field of texts.
#[must_use]
pub fn texts<'a>(number: u32, batch: &'a Flows, labels: &LabelNames) -> Texts<'a> {
    batch.flows().map(|flow| text(number, flow, labels)).collect()
}

/// Returns the text of one row.
fn text<'a>(number: u32, flow: Flow<'a>, labels: &LabelNames) -> Option<Cow<'a, [u8]>> {
    let name = |name: &'static str| Some(Cow::Borrowed(name.as_bytes()));
    match number {
        q::SECURITY_CONTEXT => flow.security_context().map(Cow::Borrowed),
        q::HELPER => flow.helper().map(Cow::Borrowed),
        q::HELPER_INFO => flow.helper_info().map(|bytes| Cow::Owned(hexadecimal(bytes))),
        q::PROGRAM => flow.program().map(Cow::Borrowed),
        q::NAMESPACE_NAME => flow.namespace_name().map(Cow::Borrowed),
        q::LABELS => flow.labels().map(|bits| Cow::Owned(label_list(bits, labels))),
        q::STATE_NAME => name(state::name(flow.protocol(), flow.state()?)?),
        q::PROTOCOL_NAME if flow.has(field::PROTOCOL) => name(protocol::name(flow.protocol())?),
        q::FAMILY_NAME => name(family::name(flow.family())?),
        q::EVENT_NAME => match flow.event() {
            event::NONE => None,
            kind => name(event_name(kind)),
        },
        _ => None,
    }
}

/// Returns the name of a kind of event, as in the JSON output.
#[must_use]
pub fn event_name(kind: u8) -> &'static str {
    event::name(kind).unwrap_or("unknown")
}

fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]).collect()
}

/// Returns the names of the labels that are set, or their numbers, separated by commas.
fn label_list(bits: &[u8], labels: &LabelNames) -> Vec<u8> {
    let mut list = Vec::new();
    for (index, byte) in bits.iter().enumerate() {
        for bit in (0..8).filter(|bit| byte >> bit & 1 != 0) {
            let number = (index * 8 + bit) as u16;
            if !list.is_empty() {
                list.push(b',');
            }
            match labels.binary_search_by_key(&number, |label| label.0) {
                Ok(found) => list.extend_from_slice(labels[found].1.as_bytes()),
                Err(_) => list.number(number.into()),
            }
        }
    }
    list
}
