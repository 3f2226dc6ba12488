//! Flows as objects: the fields that most flows carry.

use flowgate_sdk::{Flow, Page, event, field, state};

use crate::{
    Json, rest,
    value::{Parts, address, close, direction, event_kind, family, number, plain, status, text},
};

/// Fields that an ordinary flow of a dump does not carry.
const RARE: u64 = field::ALL
    & !(field::TUPLES
        | field::COUNTERS
        | field::ZONES
        | field::STATE
        | field::STATUS
        | field::TIMEOUT
        | field::MARK
        | field::USE
        | field::ID
        | field::START
        | field::STOP
        | rest::DIRECTIONS
        | EVENT);

/// Fields that only events carry.
const EVENT: u64 =
    field::EVENT_TIME | field::PORT_ID | field::PROGRAM | field::NAMESPACE | field::NAMESPACE_NAME | field::SYNTHETIC;

/// The presence bits and values of one direction.
struct Side {
    source: u64,
    destination: u64,
    source_l4: u64,
    destination_l4: u64,
    reply: bool,
}

const ORIGINAL: Side = Side {
    source: field::SOURCE,
    destination: field::DESTINATION,
    source_l4: field::SOURCE_L4,
    destination_l4: field::DESTINATION_L4,
    reply: false,
};

const REPLY: Side = Side {
    source: field::REPLY_SOURCE,
    destination: field::REPLY_DESTINATION,
    source_l4: field::REPLY_SOURCE_L4,
    destination_l4: field::REPLY_DESTINATION_L4,
    reply: true,
};

impl Json {
    /// Writes the object of a flow from its third member on.
    #[inline(always)]
    pub(crate) fn flow(&mut self, mut page: Page, flow: Flow<'_>) -> Page {
        let has = flow.fields();
        let kind = flow.event();
        if flow.batch().events.is_some() {
            page = self.event(page, flow, kind);
        }
        if kind != event::GAP {
            page = family(page, flow.family());
        }
        if has & (field::PROTOCOL | field::REPLY_PROTOCOL) != 0 {
            page = self.protocol(page, flow.protocol());
        }
        if let Some(value) = flow.state() {
            page = number(page, b"\"state\":", value.into());
            if let Some(name) = state::name(flow.protocol(), value) {
                page.text(b"\"state_name\":\"");
                page.bytes(name.as_bytes());
                page.text(b"\",");
            }
        }
        if let Some(timeout) = flow.timeout() {
            page = number(page, b"\"timeout\":", timeout.into());
        }
        page = side(page, flow, has, &ORIGINAL);
        page = side(page, flow, has, &REPLY);
        page = nat(page, flow);
        if let Some(bits) = flow.status() {
            page.bytes(self.status(bits));
        }
        if let Some(mark) = flow.mark() {
            page = number(page, b"\"mark\":", mark.into());
        }
        if let Some(zone) = flow.zone() {
            page = number(page, b"\"zone\":", zone.into());
        }
        if let Some(count) = flow.use_count() {
            page = number(page, b"\"use\":", count.into());
        }
        if let Some(id) = flow.id() {
            page = number(page, b"\"id\":", id.into());
        }
        if let Some(start) = flow.start() {
            page = number(page, b"\"start\":", start);
        }
        if let Some(stop) = flow.stop() {
            page = number(page, b"\"stop\":", stop);
        }
        if has & RARE != 0 {
            page = self.rest(page, flow);
        }
        close(&mut page, b'}');
        page.byte(b'\n');
        page
    }

    /// Writes the fields of an event.
    #[inline(never)]
    fn event(&self, mut page: Page, flow: Flow<'_>, kind: u8) -> Page {
        if kind != event::NONE {
            event_kind(&mut page, kind);
        }
        if kind == event::GAP
            && let Some(lost) = lost(flow)
        {
            plain(&mut page, b"lost", lost);
        }
        if flow.synthetic() {
            page.text(b"\"synthetic\":true,");
        }
        for (name, time) in [(b"event_time".as_slice(), flow.event_time()), (b"received", flow.received())] {
            if let Some(time) = time {
                plain(&mut page, name, time);
            }
        }
        if let Some(port) = flow.port_id() {
            plain(&mut page, b"port_id", port.into());
        }
        if let Some(program) = flow.program() {
            text(&mut page, b"program", program);
        }
        if let Some(id) = flow.namespace_id() {
            plain(&mut page, b"namespace_id", id.into());
        }
        if let Some(name) = flow.namespace_name() {
            text(&mut page, b"namespace_name", name);
        }
        page
    }

    /// Returns the members `status` and `status_names`, from the cache.
    #[inline(always)]
    fn status(&mut self, bits: u32) -> &[u8] {
        let slot = bits.wrapping_mul(0x9e37_79b9) >> 28;
        let cached = &mut self.statuses[slot as usize & 15];
        if cached.0 != bits {
            *cached = (bits, status(bits));
        }
        &cached.1
    }
}

/// Returns the number of events lost before a gap row.
fn lost(flow: Flow<'_>) -> Option<u64> {
    let (_, number) = flow.annotations().find(|(key, _)| *key == event::LOST.as_bytes())?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Writes one direction as an object; nothing if the flow carries none of it.
#[inline(always)]
fn side(mut page: Page, flow: Flow<'_>, has: u64, side: &Side) -> Page {
    let start = page.len();
    page.bytes(if side.reply { b"\"reply\":{" } else { b"\"original\":{" });
    let empty = page.len();
    let parts = Parts {
        source: has & side.source != 0,
        destination: has & side.destination != 0,
        source_l4: has & side.source_l4 != 0,
        destination_l4: has & side.destination_l4 != 0,
    };
    let tuple = if side.reply { flow.reply() } else { flow.original() };
    page = direction(page, tuple, flow.protocol(), parts);
    if has & field::ZONES != 0
        && let Some(zone) = if side.reply { flow.reply_zone() } else { flow.original_zone() }
    {
        page = number(page, b"\"zone\":", zone.into());
    }
    if let Some((packets, bytes)) = if side.reply { flow.reply_counters() } else { flow.original_counters() } {
        page = number(page, b"\"packets\":", packets);
        page = number(page, b"\"bytes\":", bytes);
    }
    if has & rest::DIRECTIONS != 0 {
        page = rest::direction(page, flow, side.reply);
    }
    if page.len() == empty {
        page.truncate(start);
        return page;
    }
    close(&mut page, b'}');
    page.byte(b',');
    page
}

/// Writes the NAT of source and destination, as derived from tuples and status.
#[inline(always)]
fn nat(mut page: Page, flow: Flow<'_>) -> Page {
    let (source, destination) = (flow.source_translation(), flow.destination_translation());
    if source.is_none() && destination.is_none() {
        return page;
    }
    page.text(b"\"nat\":{");
    for (name, translated) in [(b"\"source\":{".as_slice(), source), (b"\"destination\":{", destination)] {
        if let Some(translated) = translated {
            page.bytes(name);
            if let Some(bits) = translated.address {
                page.text(b"\"address\":");
                page = address(page, flow.family(), bits);
                page.byte(b',');
            }
            if let Some(port) = translated.port {
                page = number(page, b"\"port\":", port.into());
            }
            if let Some(id) = translated.icmp_id {
                page = number(page, b"\"icmp_id\":", id.into());
            }
            close(&mut page, b'}');
            page.byte(b',');
        }
    }
    close(&mut page, b'}');
    page.byte(b',');
    page
}
