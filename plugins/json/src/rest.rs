//! Flows as objects: the fields that few flows carry.

use flowgate_sdk::{AddressRange, Flow, Page, event, field, protocol};

use crate::{
    Json,
    value::{self, Parts, address, annotations, bits, close, hex, key, named, object, plain, signed, text, unknown},
};

/// Rare fields that are members of the object of their direction.
pub(crate) const DIRECTIONS: u64 = field::ORIGINAL_WINDOW_SCALE
    | field::REPLY_WINDOW_SCALE
    | field::ORIGINAL_TCP_FLAGS
    | field::REPLY_TCP_FLAGS
    | field::ORIGINAL_VTAG
    | field::REPLY_VTAG
    | field::ORIGINAL_SEQUENCE
    | field::REPLY_SEQUENCE;

/// Writes the members of a direction beyond its tuple.
#[inline(never)]
pub(crate) fn direction(mut page: Page, flow: Flow<'_>, reply: bool) -> Page {
    fn one<T>((original, answer): (T, T), reply: bool) -> T {
        if reply { answer } else { original }
    }
    if let Some(scale) = one(flow.window_scales(), reply) {
        page = value::number(page, b"\"window_scale\":", scale.into());
    }
    if let Some((flags, mask)) = one(flow.tcp_flags(), reply) {
        page = value::number(page, b"\"tcp_flags\":", flags.into());
        page = value::number(page, b"\"tcp_flags_mask\":", mask.into());
    }
    if let Some(tag) = one(flow.vtags(), reply) {
        plain(&mut page, b"vtag", tag.into());
    }
    if let Some(sequence) = if reply { flow.reply_sequence() } else { flow.original_sequence() } {
        object(&mut page, b"sequence", |page| {
            plain(page, b"position", sequence.position.into());
            signed(page, b"before", sequence.before.into());
            signed(page, b"after", sequence.after.into());
        });
    }
    page
}

impl Json {
    /// Writes the members at the end of the object.
    #[inline(never)]
    pub(crate) fn rest(&self, mut page: Page, flow: Flow<'_>) -> Page {
        if let Some(mask) = flow.mark_mask() {
            plain(&mut page, b"mark_mask", mask.into());
        }
        if let Some(mark) = flow.secmark() {
            plain(&mut page, b"secmark", mark.into());
        }
        if let Some(context) = flow.security_context() {
            text(&mut page, b"security_context", context);
        }
        if let Some(helper) = flow.helper() {
            text(&mut page, b"helper", helper);
        }
        if let Some(info) = flow.helper_info() {
            hex(&mut page, b"helper_info", info);
        }
        if let Some(labels) = flow.labels() {
            self.labels(&mut page, b"labels", labels);
        }
        if let Some(mask) = flow.labels_mask() {
            self.labels(&mut page, b"labels_mask", mask);
        }
        if let Some(master) = flow.master() {
            object(&mut page, b"master", |page| {
                named(page, b"protocol", master.protocol.into(), protocol::name(master.protocol));
                let known = protocol::has_ports(master.protocol)
                    || protocol::is_icmp(master.protocol)
                    || master.protocol == protocol::GRE;
                *page = value::direction(std::mem::take(page), master.tuple, master.protocol, Parts::all(known));
                if master.zone != 0 {
                    plain(page, b"zone", master.zone.into());
                }
            });
        }
        if let Some(synproxy) = flow.synproxy() {
            object(&mut page, b"synproxy", |page| {
                plain(page, b"isn", synproxy.isn.into());
                plain(page, b"its", synproxy.its.into());
                plain(page, b"tsoff", synproxy.tsoff.into());
            });
        }
        if let Some((role, handshake)) = flow.dccp() {
            let name = match role {
                0 => Some("client"),
                1 => Some("server"),
                _ => None,
            };
            object(&mut page, b"dccp", |page| {
                named(page, b"role", role.into(), name);
                plain(page, b"handshake_sequence", handshake);
            });
        }
        let (source, destination) = (flow.source_nat(), flow.destination_nat());
        if source.is_some() || destination.is_some() {
            object(&mut page, b"nat_request", |page| {
                for (name, wanted) in [(b"source".as_slice(), source), (b"destination", destination)] {
                    if let Some(wanted) = wanted {
                        object(page, name, |page| range(page, flow.family(), wanted));
                    }
                }
            });
        }
        unknown(&mut page, flow.unknown());
        // The number of lost events has a member of its own.
        let number = |(key, _): &(&[u8], &[u8])| flow.event() == event::GAP && *key == event::LOST.as_bytes();
        annotations(&mut page, flow.annotations().filter(|note| !number(note)));
        page
    }

    /// Writes an array of the labels that are set: their names, or the numbers of those without one.
    fn labels(&self, page: &mut Page, name: &[u8], set: &[u8]) {
        key(page, name);
        page.byte(b'[');
        for bit in bits(set) {
            match self.labels.get(bit) {
                Some(Some(name)) => page.bytes(name),
                _ => page.number(bit as u64),
            }
            page.byte(b',');
        }
        close(page, b']');
        page.byte(b',');
    }
}

fn range(page: &mut Page, family: u8, range: AddressRange) {
    for (name, bits) in [(b"first".as_slice(), range.first), (b"last", range.last)] {
        key(page, name);
        *page = address(std::mem::take(page), family, bits);
        page.byte(b',');
    }
    plain(page, b"first_port", range.first_port.into());
    plain(page, b"last_port", range.last_port.into());
}
