//! Members of objects. Each is followed by a comma, which the end of the object replaces.

use flowgate_sdk::{Direction, Page, event, family, protocol, status};

/// Writes a number; the key includes its quotes and its colon.
#[inline(always)]
pub(crate) fn number<const N: usize>(mut page: Page, key: &[u8; N], number: u64) -> Page {
    page.text(key);
    page.number(number);
    page.byte(b',');
    page
}

/// Writes a signed number.
pub(crate) fn signed(page: &mut Page, name: &[u8], number: i64) {
    key(page, name);
    if number < 0 {
        page.byte(b'-');
    }
    page.number(number.unsigned_abs());
    page.byte(b',');
}

/// Writes a key and its colon.
pub(crate) fn key(page: &mut Page, name: &[u8]) {
    page.byte(b'"');
    page.bytes(name);
    page.text(b"\":");
}

/// Writes a number.
pub(crate) fn plain(page: &mut Page, name: &[u8], number: u64) {
    key(page, name);
    page.number(number);
    page.byte(b',');
}

/// Writes a number, and the member `NAME_name` if it has a name.
pub(crate) fn named(page: &mut Page, name: &[u8], number: u64, word: Option<&str>) {
    plain(page, name, number);
    if let Some(word) = word {
        page.byte(b'"');
        page.bytes(name);
        page.text(b"_name\":");
        page.json(word.as_bytes());
        page.byte(b',');
    }
}

/// Writes a foreign text.
pub(crate) fn text(page: &mut Page, name: &[u8], value: &[u8]) {
    key(page, name);
    page.json(value);
    page.byte(b',');
}

/// Writes a string of hexadecimal digits.
pub(crate) fn hex(page: &mut Page, name: &[u8], value: &[u8]) {
    key(page, name);
    page.byte(b'"');
    for &byte in value {
        page.hex_byte(byte);
    }
    page.text(b"\",");
}

/// Ends an object or an array.
#[inline(always)]
pub(crate) fn close(page: &mut Page, bracket: u8) {
    if page.last() == Some(b',') {
        page.replace_last(bracket);
    } else {
        page.byte(bracket);
    }
}

/// Writes an object.
pub(crate) fn object(page: &mut Page, name: &[u8], members: impl FnOnce(&mut Page)) {
    key(page, name);
    page.byte(b'{');
    members(page);
    close(page, b'}');
    page.byte(b',');
}

/// Writes an array of strings.
pub(crate) fn names<'a>(page: &mut Page, name: &[u8], values: impl Iterator<Item = &'a str>) {
    key(page, name);
    page.byte(b'[');
    for value in values {
        page.json(value.as_bytes());
        page.byte(b',');
    }
    close(page, b']');
    page.byte(b',');
}

/// Returns the members `status` and `status_names`.
pub(crate) fn status(bits: u32) -> Vec<u8> {
    let mut page = Page::default();
    plain(&mut page, b"status", bits.into());
    names(&mut page, b"status_names", status::NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name));
    page.into_bytes()
}

/// Writes the kind of an event.
pub(crate) fn event_kind(page: &mut Page, kind: u8) {
    text(page, b"event", event::name(kind).unwrap_or("unknown").as_bytes());
    plain(page, b"event_kind", kind.into());
}

/// Writes the members `family` and `family_name`.
#[inline(always)]
pub(crate) fn family(mut page: Page, number: u8) -> Page {
    match number {
        family::IPV4 => page.text(b"\"family\":2,\"family_name\":\"ipv4\","),
        family::IPV6 => page.text(b"\"family\":10,\"family_name\":\"ipv6\","),
        other => plain(&mut page, b"family", other.into()),
    }
    page
}

/// Writes an address in quotes; IPv6 notation for families other than IPv4.
#[inline(always)]
pub(crate) fn address(mut page: Page, of_family: u8, bits: u128) -> Page {
    page.byte(b'"');
    if of_family == family::IPV4 {
        page.ipv4(bits as u32);
    } else {
        page.ipv6(bits);
    }
    page.byte(b'"');
    page
}

/// The parts of a direction that are carried.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    pub source: bool,
    pub destination: bool,
    pub source_l4: bool,
    pub destination_l4: bool,
}

impl Parts {
    /// Returns all parts, or only the addresses.
    pub(crate) const fn all(with_l4: bool) -> Self {
        Parts { source: true, destination: true, source_l4: with_l4, destination_l4: with_l4 }
    }
}

/// Writes addresses and layer-4 words of one direction, the words with the names that the protocol has for them.
#[inline(always)]
pub(crate) fn direction(mut page: Page, direction: Direction<'_>, of_protocol: u8, parts: Parts) -> Page {
    let of_family = direction.family();
    if parts.source {
        page.text(b"\"source\":");
        page = address(page, of_family, direction.source_bits());
        page.byte(b',');
    }
    if parts.destination {
        page.text(b"\"destination\":");
        page = address(page, of_family, direction.destination_bits());
        page.byte(b',');
    }
    let (source, destination) = (direction.source_l4(), direction.destination_l4());
    if protocol::has_ports(of_protocol) {
        if parts.source_l4 {
            page = number(page, b"\"source_port\":", source.into());
        }
        if parts.destination_l4 {
            page = number(page, b"\"destination_port\":", destination.into());
        }
    } else if parts.source_l4 || parts.destination_l4 {
        other_words(
            &mut page,
            of_protocol,
            parts.source_l4.then_some(source),
            parts.destination_l4.then_some(destination),
        );
    }
    page
}

/// Writes layer-4 words that are not ports.
fn other_words(page: &mut Page, of_protocol: u8, source: Option<u16>, destination: Option<u16>) {
    let icmp = protocol::is_icmp(of_protocol);
    let (source_name, destination_name) = match of_protocol {
        protocol::GRE => (b"source_key".as_slice(), b"destination_key".as_slice()),
        _ if icmp => (b"icmp_id".as_slice(), b"".as_slice()),
        _ => (b"source_l4".as_slice(), b"destination_l4".as_slice()),
    };
    if let Some(word) = source {
        plain(page, source_name, word.into());
    }
    match destination {
        Some(word) if icmp => {
            plain(page, b"icmp_type", (word >> 8).into());
            plain(page, b"icmp_code", (word & 0xff).into());
        }
        Some(word) => plain(page, destination_name, word.into()),
        None => {}
    }
}

/// Writes attributes without a field of their own: the path of each, from the outside in, and its payload in
/// hexadecimal.
pub(crate) fn unknown<'a>(page: &mut Page, attributes: impl Iterator<Item = (u64, &'a [u8])>) {
    let start = page.len();
    page.text(b"\"unknown\":[");
    let empty = page.len();
    for (path, payload) in attributes {
        page.text(b"{\"path\":[");
        for level in (0..4).rev() {
            let attribute = path >> (16 * level) & 0xffff;
            if attribute != 0 {
                page.number(attribute);
                page.byte(b',');
            }
        }
        close(page, b']');
        page.byte(b',');
        hex(page, b"payload", payload);
        close(page, b'}');
        page.byte(b',');
    }
    if page.len() == empty {
        page.truncate(start);
        return;
    }
    close(page, b']');
    page.byte(b',');
}

/// Writes annotations as an object of strings. Of equal keys the last one counts.
pub(crate) fn annotations<'a>(page: &mut Page, annotations: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    let all: Vec<_> = annotations.collect();
    if all.is_empty() {
        return;
    }
    object(page, b"annotations", |page| {
        for (i, (name, value)) in all.iter().enumerate() {
            let later = all.get(i + 1..).unwrap_or_default();
            if later.iter().all(|(other, _)| other != name) {
                page.json(name);
                page.byte(b':');
                page.json(value);
                page.byte(b',');
            }
        }
    });
}

/// Returns the numbers of the bits that are set.
pub(crate) fn bits(set: &[u8]) -> impl Iterator<Item = usize> + '_ {
    set.iter()
        .enumerate()
        .flat_map(|(i, &byte)| (0..8).filter(move |bit| byte >> bit & 1 != 0).map(move |bit| i * 8 + bit))
}
