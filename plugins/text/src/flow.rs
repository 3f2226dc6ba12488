//! Flows as lines.
//!
//! Every field is followed by a blank, and the last blank becomes the newline.

use flowgate_sdk::{Direction, Flow, Page, event, family, field, protocol, state, status, time::SECOND};

use crate::{Plain, annotations, labels};

/// A short text, ready to be copied as one block.
#[derive(Clone, Copy)]
struct Piece {
    text: [u8; 24],
    length: usize,
}

/// Texts that depend on a number of one byte.
struct Pieces {
    /// `%-8s %u ` of each layer-4 protocol.
    protocols: [Piece; 256],
    /// States of TCP, SCTP, DCCP.
    states: [[Piece; 10]; 3],
}

/// Computed by the compiler: computing it at each start would take longer than a short listing.
static PIECES: Pieces = Pieces::new();

impl Piece {
    const EMPTY: Piece = Piece { text: [0; 24], length: 0 };

    const fn byte(mut self, byte: u8) -> Self {
        if self.length < self.text.len() {
            self.text[self.length] = byte;
            self.length += 1;
        }
        self
    }

    const fn bytes(mut self, bytes: &[u8]) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self = self.byte(bytes[at]);
            at += 1;
        }
        self
    }

    /// Makes `%-8s %u `.
    const fn named(name: Option<&str>, number: u8) -> Self {
        let name = match name {
            Some(name) => name,
            None => "unknown",
        };
        let mut piece = Piece::EMPTY.bytes(name.as_bytes());
        while piece.length < 9 {
            piece = piece.byte(b' ');
        }
        if number >= 100 {
            piece = piece.byte(b'0' + number / 100);
        }
        if number >= 10 {
            piece = piece.byte(b'0' + number / 10 % 10);
        }
        piece.byte(b'0' + number % 10).byte(b' ')
    }
}

impl Pieces {
    const fn new() -> Self {
        let mut protocols = [Piece::EMPTY; 256];
        let mut number = 0;
        while number < protocols.len() {
            protocols[number] = Piece::named(protocol::name(number as u8), number as u8);
            number += 1;
        }
        let names = [state::TCP, state::SCTP, state::DCCP];
        let mut states = [[Piece::EMPTY; 10]; 3];
        let mut at = 0;
        while at < 30 {
            states[at / 10][at % 10] = Piece::EMPTY.bytes(names[at / 10][at % 10].as_bytes()).byte(b' ');
            at += 1;
        }
        Pieces { protocols, states }
    }
}

/// Fields after the mark that most flows of a dump do not carry.
const RARE: u64 = field::SECMARK
    | field::SECURITY_CONTEXT
    | field::ZONE
    | field::START
    | field::STOP
    | field::HELPER
    | field::LABELS
    | field::PORT_ID
    | field::SYNTHETIC
    | field::NAMESPACE
    | field::ANNOTATIONS;

impl Plain {
    /// Writes the line of a flow.
    #[inline(always)]
    pub(crate) fn flow(&self, mut page: Page, flow: Flow<'_>) -> Page {
        let has = flow.fields();
        let kind = flow.event();
        if kind != event::NONE {
            // A gap is not a flow: the host warns on standard error.
            if kind == event::GAP {
                return page;
            }
            page = self.event(page, flow, kind);
        }
        let protocol = flow.protocol();
        if self.extended {
            let family = flow.family();
            let piece = Piece::named(family::name(family), family);
            page.piece(&piece.text, piece.length);
        }
        if let Some(piece) = PIECES.protocols.get(usize::from(protocol)) {
            page.piece(&piece.text, piece.length);
        }
        if has & field::TIMEOUT != 0 {
            page.number(flow.timeout().unwrap_or_default().into());
            page.byte(b' ');
        }
        if has & field::STATE != 0 {
            page = self.state(page, protocol, flow.state().unwrap_or_default());
        }

        page = direction(page, flow.original(), protocol);
        if has & field::ORIGINAL_ZONE != 0 {
            page.text(b"zone-orig=");
            page.number(flow.original_zone().unwrap_or_default().into());
            page.byte(b' ');
        }
        if has & field::ORIGINAL_COUNTERS != 0 {
            page = counters(page, flow.original_counters());
        }
        let bits = flow.status().unwrap_or(status::SEEN_REPLY);
        if bits & status::SEEN_REPLY == 0 {
            page.text(b"[UNREPLIED] ");
        }

        page = direction(page, flow.reply(), protocol);
        if has & field::REPLY_ZONE != 0 {
            page.text(b"zone-reply=");
            page.number(flow.reply_zone().unwrap_or_default().into());
            page.byte(b' ');
        }
        if has & field::REPLY_COUNTERS != 0 {
            page = counters(page, flow.reply_counters());
        }
        if bits & (status::ASSURED | status::OFFLOAD | status::HW_OFFLOAD) != 0 {
            if bits & status::HW_OFFLOAD != 0 {
                page.text(b"[HW_OFFLOAD] ");
            } else if bits & status::OFFLOAD != 0 {
                page.text(b"[OFFLOAD] ");
            } else {
                page.text(b"[ASSURED] ");
            }
        }
        if has & field::MARK != 0 {
            page.text(b"mark=");
            page.number(flow.mark().unwrap_or_default().into());
            page.byte(b' ');
        }
        if has & RARE != 0 {
            return self.rest(page, flow);
        }
        page = self.use_and_id(page, flow);
        page.replace_last(b'\n');
        page
    }

    /// Writes time and kind of an event.
    #[inline(never)]
    fn event(&self, mut page: Page, flow: Flow<'_>, kind: u8) -> Page {
        if self.timestamp {
            let time = flow.event_time().or(flow.received()).unwrap_or(flow.batch().time);
            page.byte(b'[');
            page.zero_padded(time / SECOND, 8);
            page.byte(b'.');
            page.zero_padded(time % SECOND / 1_000, 6);
            page.text(b"]\t");
        }
        page.text(tag(kind));
        page
    }

    #[inline(always)]
    fn state(&self, mut page: Page, protocol: u8, state: u8) -> Page {
        let [tcp, sctp, dccp] = &PIECES.states;
        let names = match protocol {
            protocol::TCP => tcp,
            protocol::SCTP => sctp,
            protocol::DCCP => dccp,
            _ => return page,
        };
        let piece = names.get(usize::from(state)).unwrap_or(&names[0]);
        page.piece(&piece.text, piece.length);
        page
    }

    #[inline(always)]
    fn use_and_id(&self, mut page: Page, flow: Flow<'_>) -> Page {
        if let Some(count) = flow.use_count() {
            page.text(b"use=");
            page.number(count.into());
            page.byte(b' ');
        }
        if self.id
            && let Some(id) = flow.id()
        {
            page.text(b"id=");
            page.number(id.into());
            page.byte(b' ');
        }
        page
    }

    /// Writes the line from the security mark on.
    #[inline(never)]
    fn rest(&self, mut page: Page, flow: Flow<'_>) -> Page {
        if let Some(mark) = flow.secmark() {
            page.text(b"secmark=");
            page.number(mark.into());
            page.byte(b' ');
        }
        if let Some(context) = flow.security_context() {
            page.text(b"secctx=");
            page.clean(context);
            page.byte(b' ');
        }
        if let Some(zone) = flow.zone() {
            page.text(b"zone=");
            page.number(zone.into());
            page.byte(b' ');
        }
        page = self.times(page, flow);
        if let Some(helper) = flow.helper() {
            page.text(b"helper=");
            page.clean(helper);
            page.byte(b' ');
        }
        page = self.use_and_id(page, flow);
        if !self.labels.is_empty() {
            labels(&mut page, &self.labels, &flow);
        }
        if flow.event() != event::NONE
            && let Some(port) = flow.port_id().filter(|&port| port != 0)
        {
            page.text(b"[USERSPACE] portid=");
            page.number(port.into());
            page.byte(b' ');
            if let Some(program) = flow.program() {
                page.text(b"progname=");
                page.clean(program);
                page.byte(b' ');
            }
        }
        if flow.event() != event::NONE && flow.synthetic() {
            page.text(b"[SYNTHETIC] ");
        }
        if let Some(name) = flow.namespace_name() {
            page.text(b"netns=");
            page.word(name);
            page.byte(b' ');
        } else if let Some(id) = flow.namespace_id() {
            page.text(b"nsid=");
            page.number(id.into());
            page.byte(b' ');
        }
        annotations(&mut page, flow.annotations());
        page.replace_last(b'\n');
        page
    }

    fn times(&self, mut page: Page, flow: Flow<'_>) -> Page {
        let (start, stop) = (flow.start(), flow.stop());
        if let Some(start) = start {
            let end = stop.unwrap_or(flow.batch().time);
            page.text(b"delta-time=");
            page.number((end / SECOND).saturating_sub(start / SECOND));
            page.byte(b' ');
        }
        if self.kernel_times {
            if let Some(start) = start {
                page.text(b"[start=");
                self.zone.local(start).ctime(&mut page);
                page.text(b"] ");
            }
            if let Some(stop) = stop {
                page.text(b"[stop=");
                self.zone.local(stop).ctime(&mut page);
                page.text(b"] ");
            }
        }
        page
    }
}

/// Returns the kind of an event in nine columns and a blank.
pub(crate) fn tag(kind: u8) -> &'static [u8; 10] {
    match kind {
        event::NEW => b"    [NEW] ",
        event::UPDATE => b" [UPDATE] ",
        event::DESTROY => b"[DESTROY] ",
        _ => b"[UNKNOWN] ",
    }
}

/// Writes addresses and layer-4 words of one direction.
#[inline(always)]
fn direction(mut page: Page, direction: Direction<'_>, protocol: u8) -> Page {
    match direction.family() {
        family::IPV4 => {
            page.text(b"src=");
            page.ipv4(direction.source_ipv4());
            page.text(b" dst=");
            page.ipv4(direction.destination_ipv4());
            page.byte(b' ');
        }
        family::IPV6 => {
            page.text(b"src=");
            page.ipv6(direction.source_bits());
            page.text(b" dst=");
            page.ipv6(direction.destination_bits());
            page.byte(b' ');
        }
        _ => {}
    }
    layer4(page, direction, protocol)
}

/// Writes layer-4 words, by protocol; nothing for a protocol without any.
#[inline(always)]
pub(crate) fn layer4(mut page: Page, direction: Direction<'_>, protocol: u8) -> Page {
    let (source, destination) = (direction.source_l4(), direction.destination_l4());
    if protocol::has_ports(protocol) {
        page.text(b"sport=");
        page.number(source.into());
        page.text(b" dport=");
        page.number(destination.into());
        page.byte(b' ');
    } else if protocol::is_icmp(protocol) {
        page.text(b"type=");
        page.number((destination >> 8).into());
        page.text(b" code=");
        page.number((destination & 0xff).into());
        page.text(b" id=");
        page.number(source.into());
        page.byte(b' ');
    } else if protocol == protocol::GRE {
        page.text(b"srckey=0x");
        page.hex(source.into());
        page.text(b" dstkey=0x");
        page.hex(destination.into());
        page.byte(b' ');
    }
    page
}

/// Writes packets and bytes of one direction.
#[inline(always)]
fn counters(mut page: Page, counters: Option<(u64, u64)>) -> Page {
    let (packets, bytes) = counters.unwrap_or_default();
    page.text(b"packets=");
    page.number(packets);
    page.text(b" bytes=");
    page.number(bytes);
    page.byte(b' ');
    page
}
