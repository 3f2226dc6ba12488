//! Flows as lines of options.

use flowgate_sdk::{Flow, Page, event, family, field, protocol, state, status};

use crate::Save;

impl Save {
    /// Writes the line of a flow. A family that the options cannot express is left out.
    #[inline(always)]
    pub(crate) fn flow(&self, mut page: Page, flow: Flow<'_>) -> Page {
        let kind = flow.event();
        if kind == event::GAP || family::name(flow.family()).is_none() {
            return page;
        }
        if flow.has(field::ANNOTATIONS) {
            annotations(&mut page, flow);
        }
        if self.complete {
            self.complete(&mut page, flow);
            return end(page, flow);
        }
        page.text(self.letter(kind));
        if let Some(timeout) = flow.timeout() {
            page.text(b" -t ");
            page.number(timeout.into());
        }
        if let Some(bits) = flow.status() {
            page = status_names(page, bits);
        }
        if let Some(mark) = flow.secmark() {
            page.text(b" -c ");
            page.number(mark.into());
        }
        if let Some(zone) = flow.zone() {
            page.text(b" -w ");
            page.number(zone.into());
        }
        if let Some(zone) = flow.original_zone() {
            page.text(b" --orig-zone ");
            page.number(zone.into());
        }
        if let Some(zone) = flow.reply_zone() {
            page.text(b" --reply-zone ");
            page.number(zone.into());
        }
        page = addresses(page, flow);
        page = layer4(page, flow);
        end(page, flow)
    }
}

/// Writes the process and the namespace of an event, and the end of the line.
#[inline(always)]
fn end(mut page: Page, flow: Flow<'_>) -> Page {
    if flow.event() != event::NONE
        && let Some(port) = flow.port_id().filter(|&port| port != 0)
    {
        page.text(b" [USERSPACE] portid=");
        page.number(port.into());
        if let Some(program) = flow.program() {
            page.text(b" progname=");
            page.clean(program);
        }
    }
    if let Some(name) = flow.namespace_name() {
        page.text(b" netns=");
        page.word(name);
    } else if let Some(id) = flow.namespace_id() {
        page.text(b" nsid=");
        page.number(id.into());
    }
    page.byte(b'\n');
    page
}

/// Writes annotations as a comment: `conntrack -R` skips such lines.
#[inline(never)]
fn annotations(page: &mut Page, flow: Flow<'_>) {
    let start = page.len();
    for (key, value) in flow.annotations() {
        page.bytes(if page.len() == start { b"# " } else { b" " });
        page.word(key);
        page.byte(b'=');
        page.word(value);
    }
    if page.len() != start {
        page.byte(b'\n');
    }
}

/// The status bits for which the option `-u` has names and that can be set again.
pub(crate) const LOADABLE: u32 = status::EXPECTED | status::SEEN_REPLY | status::ASSURED | status::FIXED_TIMEOUT;

/// Writes the option `-u`.
#[inline(always)]
pub(crate) fn status_names(mut page: Page, bits: u32) -> Page {
    page.text(b" -u ");
    if bits & LOADABLE == 0 {
        page.text(b"UNSET");
        return page;
    }
    if bits & status::EXPECTED != 0 {
        page.text(b"EXPECTED,");
    }
    if bits & status::SEEN_REPLY != 0 {
        page.text(b"SEEN_REPLY,");
    }
    if bits & status::ASSURED != 0 {
        page.text(b"ASSURED,");
    }
    if bits & status::FIXED_TIMEOUT != 0 {
        page.text(b"FIXED_TIMEOUT,");
    }
    page.truncate(page.len() - 1);
    page
}

/// Writes the four addresses; those of the reply as NAT if they differ from the reverse of the original tuple.
#[inline(always)]
fn addresses(mut page: Page, flow: Flow<'_>) -> Page {
    let (original, reply) = (flow.original(), flow.reply());
    let done = |bit: u32| flow.status().is_none_or(|bits| bits & bit != 0);
    if flow.has(field::SOURCE) {
        page.text(b" -s ");
        page = address(page, flow, original.source_bits());
    }
    if flow.has(field::DESTINATION) {
        page.text(b" -d ");
        page = address(page, flow, original.destination_bits());
    }
    if flow.has(field::REPLY_SOURCE) {
        let translated = done(status::DST_NAT_DONE) && reply.source_bits() != original.destination_bits();
        page.text(if translated { b" -g " } else { b" -r " });
        page = address(page, flow, reply.source_bits());
    }
    if flow.has(field::REPLY_DESTINATION) {
        let translated = done(status::SRC_NAT_DONE) && reply.destination_bits() != original.source_bits();
        page.text(if translated { b" -n " } else { b" -q " });
        page = address(page, flow, reply.destination_bits());
    }
    page
}

#[inline(always)]
pub(crate) fn address(mut page: Page, flow: Flow<'_>, bits: u128) -> Page {
    if flow.family() == family::IPV4 {
        page.ipv4(bits as u32);
    } else {
        page.ipv6(bits);
    }
    page
}

/// Writes the protocol and its options.
#[inline(always)]
fn layer4(mut page: Page, flow: Flow<'_>) -> Page {
    let number = flow.protocol();
    page.text(b" -p ");
    match protocol::name(number) {
        Some(name) => page.bytes(name.as_bytes()),
        None => page.number(number.into()),
    }
    if protocol::has_ports(number) {
        page = words(page, flow, [b" --sport ", b" --dport ", b" --reply-port-src ", b" --reply-port-dst "]);
    } else if number == protocol::GRE {
        page = words(page, flow, [b" --srckey ", b" --dstkey ", b" --reply-key-src ", b" --reply-key-dst "]);
    } else if protocol::is_icmp(number) {
        page = icmp(page, flow, number);
    }
    match number {
        protocol::TCP => page = state_name(page, flow),
        protocol::SCTP => {
            page = state_name(page, flow);
            page = vtags(page, flow);
        }
        protocol::DCCP => {
            page = state_name(page, flow);
            if let Some((role, _)) = flow.dccp() {
                page.bytes(if role == 0 { b" --role client" } else { b" --role server" });
            }
        }
        _ => {}
    }
    page
}

/// Writes the layer-4 words that the flow carries, in decimal.
#[inline(always)]
fn words(mut page: Page, flow: Flow<'_>, names: [&[u8]; 4]) -> Page {
    let (original, reply) = (flow.original(), flow.reply());
    for (name, field, word) in [
        (names[0], field::SOURCE_L4, original.source_l4()),
        (names[1], field::DESTINATION_L4, original.destination_l4()),
        (names[2], field::REPLY_SOURCE_L4, reply.source_l4()),
        (names[3], field::REPLY_DESTINATION_L4, reply.destination_l4()),
    ] {
        if flow.has(field) {
            page.bytes(name);
            page.number(word.into());
        }
    }
    page
}

fn icmp(mut page: Page, flow: Flow<'_>, number: u8) -> Page {
    let name = if number == protocol::ICMP { b" --icmp".as_slice() } else { b" --icmpv6" };
    let (kind, code) = flow.original().icmp_type_code();
    if flow.has(field::DESTINATION_L4) {
        page.bytes(name);
        page.text(b"-type ");
        page.number(kind.into());
        page.bytes(name);
        page.text(b"-code ");
        page.number(code.into());
    }
    if flow.has(field::SOURCE_L4) {
        page.bytes(name);
        page.text(b"-id ");
        page.number(flow.original().icmp_id().into());
    }
    page
}

#[inline(always)]
fn state_name(mut page: Page, flow: Flow<'_>) -> Page {
    if let Some(value) = flow.state() {
        page.text(b" --state ");
        page.bytes(state::name(flow.protocol(), value).unwrap_or("NONE").as_bytes());
    }
    page
}

/// Writes verification tags. The option's number is sent with the lowest byte first, although the kernel takes the
/// field for big-endian; the tag is therefore printed with its bytes reversed, so that loading it restores the tag.
fn vtags(mut page: Page, flow: Flow<'_>) -> Page {
    let (original, reply) = flow.vtags();
    for (name, tag) in [(b" --orig-vtag ".as_slice(), original), (b" --reply-vtag ", reply)] {
        if let Some(tag) = tag {
            page.bytes(name);
            page.number(tag.swap_bytes().into());
        }
    }
    page
}
