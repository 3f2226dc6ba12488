//! Flows as elements, one per line.

use flowgate_sdk::{Direction, Flow, Page, event, family, field, protocol, state, status, time::SECOND};

use crate::{Xml, escape};

/// Any of these fields adds the block that concerns both directions. (A security context alone does not.)
const INDEPENDENT: u64 = field::STATE
    | field::TIMEOUT
    | field::MARK
    | field::SECMARK
    | field::ZONE
    | field::USE
    | field::STATUS
    | field::ID
    | field::LABELS
    | field::START
    | field::STOP;

impl Xml {
    /// Writes the element of a flow.
    #[inline(always)]
    pub(crate) fn flow(&self, mut page: Page, flow: Flow<'_>) -> Page {
        let kind = flow.event();
        if kind == event::NONE {
            page.text(b"<flow>");
        } else {
            page.bytes(opening(kind));
            if flow.synthetic() {
                page.replace_last(b' ');
                page.text(b"synthetic=\"true\">");
            }
        }
        let counted = flow.has(field::ORIGINAL_COUNTERS);
        page.text(b"<meta direction=\"original\">");
        page = direction(page, flow.original(), flow.protocol());
        if let Some(zone) = flow.original_zone() {
            page = number(page, b"<zone>", zone.into(), b"</zone>");
        }
        if counted {
            page = counters(page, flow.original_counters());
        }
        page.text(b"</meta><meta direction=\"reply\">");
        page = direction(page, flow.reply(), flow.protocol());
        if let Some(zone) = flow.reply_zone() {
            page = number(page, b"<zone>", zone.into(), b"</zone>");
        }
        if counted {
            page = counters(page, flow.reply_counters());
        }
        page.text(b"</meta>");
        if flow.fields() & INDEPENDENT != 0 {
            page.text(b"<meta direction=\"independent\">");
            page = self.independent(page, flow);
            page.text(b"</meta>");
        }
        if flow.has(field::HELPER) || flow.has(field::ANNOTATIONS) || kind != event::NONE {
            page = self.rest(page, flow, kind);
        }
        page.text(b"</flow>\n");
        page
    }

    #[inline(always)]
    fn independent(&self, mut page: Page, flow: Flow<'_>) -> Page {
        if let Some(number) = flow.state() {
            // `conntrack` uses the names of TCP for every protocol, and readers of its XML rely on that.
            let name = state::TCP.get(usize::from(number)).unwrap_or(&state::TCP[0]);
            page.text(b"<state>");
            page.bytes(name.as_bytes());
            page.text(b"</state>");
        }
        if let Some(timeout) = flow.timeout() {
            page = number(page, b"<timeout>", timeout.into(), b"</timeout>");
        }
        if let Some(mark) = flow.mark() {
            page = number(page, b"<mark>", mark.into(), b"</mark>");
        }
        if flow.has(field::LABELS) && !self.labels.is_empty() {
            page = self.labels(page, flow);
        }
        if let Some(mark) = flow.secmark() {
            page = number(page, b"<secmark>", mark.into(), b"</secmark>");
        }
        if let Some(context) = flow.security_context() {
            page = text(page, b"<secctx>", context, b"</secctx>");
        }
        if let Some(zone) = flow.zone() {
            page = number(page, b"<zone>", zone.into(), b"</zone>");
        }
        if let Some(count) = flow.use_count() {
            page = number(page, b"<use>", count.into(), b"</use>");
        }
        if let Some(id) = flow.id() {
            page = number(page, b"<id>", id.into(), b"</id>");
        }
        if let Some(bits) = flow.status() {
            if bits & status::ASSURED != 0 {
                page.text(b"<assured/>");
            }
            if bits & status::SEEN_REPLY == 0 {
                page.text(b"<unreplied/>");
            }
        }
        if flow.fields() & (field::START | field::STOP) != 0 {
            page = self.times(page, flow);
        }
        page
    }

    fn labels(&self, mut page: Page, flow: Flow<'_>) -> Page {
        page.text(b"<labels>");
        for (_, name) in self.labels.iter().filter(|(bit, _)| flow.has_label(*bit)) {
            page.text(b"<label>");
            page.bytes(name);
            page.text(b"</label>");
        }
        page.text(b"</labels>");
        page
    }

    fn times(&self, mut page: Page, flow: Flow<'_>) -> Page {
        let (start, stop) = (flow.start(), flow.stop());
        if self.kernel_times {
            page.text(b"<timestamp>");
            if let Some(start) = start {
                page = number(page, b"<start>", start, b"</start>");
            }
            if let Some(stop) = stop {
                page = number(page, b"<stop>", stop, b"</stop>");
            }
            page.text(b"</timestamp>");
        }
        if let Some(start) = start {
            // With an end the difference is truncated to seconds; without one it is the difference of the truncated
            // numbers.
            let age = match stop {
                Some(stop) => stop.saturating_sub(start) / SECOND,
                None => (flow.batch().time / SECOND).saturating_sub(start / SECOND),
            };
            page = number(page, b"<deltatime>", age, b"</deltatime>");
        }
        page
    }

    /// Writes the time of an event, the helper, and annotations.
    #[inline(never)]
    fn rest(&self, mut page: Page, flow: Flow<'_>, kind: u8) -> Page {
        if self.timestamp && kind != event::NONE {
            let time = flow.event_time().or(flow.received()).unwrap_or(flow.batch().time);
            self.when(&mut page, time);
        }
        if let Some(helper) = flow.helper() {
            page = text(page, b"<helper>", helper, b"</helper>");
        }
        if let Some(id) = flow.namespace_id() {
            page = number(page, b"<nsid>", id.into(), b"</nsid>");
        }
        if let Some(name) = flow.namespace_name() {
            page = text(page, b"<netns>", name, b"</netns>");
        }
        escape::annotations(&mut page, flow.annotations());
        page
    }
}

/// Returns the start tag, which has the kind of event.
pub(crate) fn opening(kind: u8) -> &'static [u8] {
    match kind {
        event::NEW => b"<flow type=\"new\">",
        event::UPDATE => b"<flow type=\"update\">",
        event::DESTROY => b"<flow type=\"destroy\">",
        _ => b"<flow>",
    }
}

/// Writes addresses and layer-4 words of one direction.
#[inline(always)]
fn direction(mut page: Page, direction: Direction<'_>, protocol: u8) -> Page {
    match direction.family() {
        family::IPV4 => {
            page.text(b"<layer3 protonum=\"2\" protoname=\"ipv4\"><src>");
            page.ipv4(direction.source_ipv4());
            page.text(b"</src><dst>");
            page.ipv4(direction.destination_ipv4());
            page.text(b"</dst>");
        }
        family::IPV6 => {
            page.text(b"<layer3 protonum=\"10\" protoname=\"ipv6\"><src>");
            page.ipv6(direction.source_bits());
            page.text(b"</src><dst>");
            page.ipv6(direction.destination_bits());
            page.text(b"</dst>");
        }
        other => {
            page.text(b"<layer3 protonum=\"");
            page.number(other.into());
            page.text(b"\" protoname=\"unknown\">");
        }
    }
    page.text(b"</layer3><layer4 protonum=\"");
    page.number(protocol.into());
    page.text(b"\" protoname=\"");
    page.bytes(protocol::name(protocol).unwrap_or("unknown").as_bytes());
    page.text(b"\">");
    page = layer4(page, direction, protocol);
    page.text(b"</layer4>");
    page
}

/// Writes layer-4 words, by protocol; nothing for ICMP and for protocols without any.
#[inline(always)]
pub(crate) fn layer4(mut page: Page, direction: Direction<'_>, protocol: u8) -> Page {
    let (source, destination) = (direction.source_l4(), direction.destination_l4());
    if protocol::has_ports(protocol) {
        page.text(b"<sport>");
        page.number(source.into());
        page.text(b"</sport><dport>");
        page.number(destination.into());
        page.text(b"</dport>");
    } else if protocol == protocol::GRE {
        page.text(b"<srckey>0x");
        page.hex(source.into());
        page.text(b"</srckey><dstkey>0x");
        page.hex(destination.into());
        page.text(b"</dstkey>");
    }
    page
}

#[inline(always)]
fn counters(mut page: Page, counters: Option<(u64, u64)>) -> Page {
    let (packets, bytes) = counters.unwrap_or_default();
    page.text(b"<counters><packets>");
    page.number(packets);
    page.text(b"</packets><bytes>");
    page.number(bytes);
    page.text(b"</bytes></counters>");
    page
}

/// Writes a number between two tags.
#[inline(always)]
pub(crate) fn number<const N: usize, const M: usize>(
    mut page: Page,
    open: &[u8; N],
    number: u64,
    close: &[u8; M],
) -> Page {
    page.text(open);
    page.number(number);
    page.text(close);
    page
}

/// Writes a foreign text between two tags.
pub(crate) fn text(mut page: Page, open: &[u8], text: &[u8], close: &[u8]) -> Page {
    page.bytes(open);
    escape::text(&mut page, text);
    page.bytes(close);
    page
}
