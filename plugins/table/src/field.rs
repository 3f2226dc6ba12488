//! The fields of a batch as values, and columns that join several fields.

use flowgate_plugin_query::{
    Addresses, LabelNames, Numbers, Texts,
    fields::{self, Type},
};
use flowgate_sdk::{Flow, Flows, Page, family, field, protocol, table_column as column};

use crate::value::{Value, write_number};

/// The values of a field for all rows of a batch.
pub(crate) enum FieldValues<'a> {
    /// With one byte per row that is 1 if the row has a value.
    Numbers(Numbers<'a>, Vec<u8>),
    /// The same.
    Addresses(Addresses<'a>, Vec<u8>),
    Texts(Texts<'a>),
}

impl<'a> FieldValues<'a> {
    /// Returns the values of a field of queries, by its number.
    pub(crate) fn new(number: u32, batch: &'a Flows, labels: &LabelNames) -> Self {
        match fields::type_of(number) {
            Some(Type::Text) => FieldValues::Texts(fields::texts(number, batch, labels)),
            Some(Type::Address) => {
                let addresses = fields::addresses(number, batch);
                let present = addresses.presence.rows(batch);
                FieldValues::Addresses(addresses, present)
            }
            _ => {
                let numbers = fields::numbers(number, batch);
                let present = numbers.presence.rows(batch);
                FieldValues::Numbers(numbers, present)
            }
        }
    }

    /// Returns the value of a row; absent for a field that the flow does not carry.
    pub(crate) fn get(&self, flow: Flow<'_>) -> Value<'_> {
        let row = flow.row();
        let is_present = |present: &[u8]| present.get(row) == Some(&1);
        match self {
            FieldValues::Numbers(numbers, present) if is_present(present) => Value::Number(numbers.get(row)),
            FieldValues::Addresses(addresses, present) if is_present(present) => {
                Value::Address(addresses.get(row), flow.family() == family::IPV4)
            }
            FieldValues::Texts(texts) => Value::text(texts.get(row).and_then(Option::as_deref)),
            _ => Value::Absent,
        }
    }
}

/// Returns the last annotation with a key.
pub(crate) fn annotation<'a>(flow: Flow<'a>, key: &str) -> Value<'a> {
    Value::text(flow.annotations().filter(|(of, _)| *of == key.as_bytes()).map(|(_, value)| value).last())
}

/// Writes a column that joins several fields.
pub(crate) fn joined(page: &mut Page, number: u32, flow: Flow<'_>) {
    match number {
        column::FROM => endpoint(page, flow, false, true, field::SOURCE, field::SOURCE_L4),
        column::TO => endpoint(page, flow, false, false, field::DESTINATION, field::DESTINATION_L4),
        column::REPLY_FROM => endpoint(page, flow, true, true, field::REPLY_SOURCE, field::REPLY_SOURCE_L4),
        column::REPLY_TO => endpoint(page, flow, true, false, field::REPLY_DESTINATION, field::REPLY_DESTINATION_L4),
        column::NAT => nat(page, flow),
        column::ZONES => zones(page, flow),
        column::ANNOTATIONS => annotations(page, flow, |_| true),
        column::NAMESPACE => match (flow.namespace_name(), flow.namespace_id()) {
            (Some(name), _) => crate::value::clean(page, name),
            (None, Some(id)) => write_number(page, id.into()),
            (None, None) => {}
        },
        _ => {}
    }
}

/// Writes the annotations with these keys.
pub(crate) fn annotations(page: &mut Page, flow: Flow<'_>, wanted: impl Fn(&[u8]) -> bool) {
    for (index, (key, value)) in flow.annotations().filter(|(key, _)| wanted(key)).enumerate() {
        if index > 0 {
            page.byte(b' ');
        }
        crate::value::clean(page, key);
        page.byte(b'=');
        crate::value::clean(page, value);
    }
}

/// Writes one end of a direction: the address with its port or GRE key; behind the destination of ICMP, its type, code
/// and identifier.
fn endpoint(page: &mut Page, flow: Flow<'_>, reply: bool, source: bool, address: u64, l4: u64) {
    if !flow.has(address) {
        return;
    }
    let direction = if reply { flow.reply() } else { flow.original() };
    let (bits, word) = match source {
        true => (direction.source_bits(), direction.source_l4()),
        false => (direction.destination_bits(), direction.destination_l4()),
    };
    let (ipv4, number) = (flow.family() == family::IPV4, flow.protocol());
    if flow.has(l4 | field::PROTOCOL) && protocol::has_ports(number) {
        socket(page, bits, ipv4, word);
        return;
    }
    crate::value::address(page, bits, ipv4);
    if flow.has(l4 | field::PROTOCOL) && number == protocol::GRE {
        page.text(b" key 0x");
        page.hex(word.into());
    } else if flow.has(l4 | field::PROTOCOL) && protocol::is_icmp(number) && !source {
        page.text(b" type ");
        write_number(page, (word >> 8).into());
        if word & 0xff != 0 {
            page.text(b" code ");
            write_number(page, (word & 0xff).into());
        }
        page.text(b" id ");
        write_number(page, direction.icmp_id().into());
    }
}

/// Writes an address and a port: `10.0.0.1:443`, `[2001:db8::1]:443`.
pub(crate) fn socket(page: &mut Page, bits: u128, ipv4: bool, port: u16) {
    if ipv4 {
        page.ipv4(bits as u32);
    } else {
        page.byte(b'[');
        page.ipv6(bits);
        page.byte(b']');
    }
    page.byte(b':');
    write_number(page, port.into());
}

/// Writes what source and destination are translated to.
fn nat(page: &mut Page, flow: Flow<'_>) {
    let start = page.len();
    for (name, source) in [(b"snat ", true), (b"dnat ", false)] {
        let translation = if source { flow.source_translation() } else { flow.destination_translation() };
        let Some(translation) = translation else { continue };
        if page.len() > start {
            page.byte(b' ');
        }
        page.text(name);
        // The end of the reply that answers it has the new address and port.
        match source {
            true => {
                endpoint(page, flow, true, false, field::REPLY_DESTINATION, port_of(flow, field::REPLY_DESTINATION_L4))
            }
            false => endpoint(page, flow, true, true, field::REPLY_SOURCE, port_of(flow, field::REPLY_SOURCE_L4)),
        }
        if let Some(id) = translation.icmp_id {
            page.text(b" id ");
            write_number(page, id.into());
        }
    }
}

/// Returns the field of a layer-4 word that is shown for NAT: not the type and code of ICMP.
fn port_of(flow: Flow<'_>, l4: u64) -> u64 {
    if protocol::is_icmp(flow.protocol()) { u64::MAX } else { l4 }
}

/// Writes the zone of both directions, or `1/-` and `-/1` for a zone of one of them.
fn zones(page: &mut Page, flow: Flow<'_>) {
    if let Some(zone) = flow.zone() {
        write_number(page, zone.into());
        return;
    }
    let (original, reply) = (flow.original_zone(), flow.reply_zone());
    if original.is_none() && reply.is_none() {
        return;
    }
    for (index, zone) in [original, reply].into_iter().enumerate() {
        if index > 0 {
            page.byte(b'/');
        }
        match zone {
            Some(zone) => write_number(page, zone.into()),
            None => page.byte(b'-'),
        }
    }
}
