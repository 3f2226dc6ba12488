//! The complete form: a line for every flow that restores it, in flowgate's own options where conntrack has none.
//! Actions of a dry run are printed in this form too.

use flowgate_sdk::{AddressRange, Flow, Page, Sequence, event, family, field, protocol, state, status};

use crate::{
    Command, Save,
    flow::{LOADABLE, address, status_names},
};

/// Fields besides those that every line may need.
pub(crate) const READS: u64 = field::MARK
    | field::MARK_MASK
    | field::LABELS
    | field::LABELS_MASK
    | field::HELPER
    | field::SOURCE_NAT
    | field::DESTINATION_NAT
    | field::ORIGINAL_TCP_FLAGS
    | field::REPLY_TCP_FLAGS
    | field::ORIGINAL_WINDOW_SCALE
    | field::REPLY_WINDOW_SCALE
    | field::ORIGINAL_SEQUENCE
    | field::REPLY_SEQUENCE
    | field::SYNPROXY
    | field::MASTER;

/// Timeout in seconds for flows without one, which a flow table forwards: that of established flows in the kernel.
const TCP_TIMEOUT: u32 = 432_000;
const UDP_TIMEOUT: u32 = 120;
const OTHER_TIMEOUT: u32 = 600;

/// The TCP flags that the command line adds to a flow, with or without IP_CT_TCP_FLAG_CLOSE_INIT (0x04).
const ADDED_FLAGS: u8 = 0x0a;

/// The purpose of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Make,
    Change,
    Delete,
}

impl Save {
    /// Writes a line, without its end.
    #[inline(never)]
    pub(crate) fn complete(&self, page: &mut Page, flow: Flow<'_>) {
        let kind = flow.event();
        // An update event has the flow's current state, and the flow may not exist where the line is loaded.
        let letter = match (self.command, kind) {
            (Command::Event, event::UPDATE) => b"-A",
            _ => self.letter(kind),
        };
        let purpose = match letter {
            b"-D" => Purpose::Delete,
            b"-U" => Purpose::Change,
            _ => Purpose::Make,
        };
        page.text(letter);
        if purpose != Purpose::Delete {
            times_and_status(page, flow, purpose);
        }
        for (option, zone) in [
            (b" -w ".as_slice(), flow.zone()),
            (b" --orig-zone ", flow.original_zone()),
            (b" --reply-zone ", flow.reply_zone()),
        ] {
            if let Some(zone) = zone {
                page.bytes(option);
                page.number(zone.into());
            }
        }
        tuples(page, flow, purpose);
        if purpose == Purpose::Delete {
            return;
        }
        protocol_state(page, flow, purpose);
        if let Some(mark) = flow.mark() {
            page.text(b" -m ");
            page.number(mark.into());
            if let Some(mask) = flow.mark_mask().filter(|&mask| mask != u32::MAX) {
                page.byte(b'/');
                page.number(mask.into());
            }
        }
        for (option, range) in [(b" -n ", flow.source_nat()), (b" -g ", flow.destination_nat())] {
            if let Some(AddressRange { first, first_port, .. }) = range {
                page.text(option);
                translation(page, flow, first, first_port);
            }
        }
        self.labels(page, flow);
        if let Some(helper) = flow.helper() {
            page.text(b" --helper ");
            quoted(page, helper);
        }
        details(page, flow);
    }

    /// Writes labels: those of the flow, or those that an update adds and removes; the new ones are `(old & !mask) ^
    /// labels`.
    fn labels(&self, page: &mut Page, flow: Flow<'_>) {
        let Some(labels) = flow.labels() else { return };
        let set = wide(labels);
        let Some(mask) = flow.labels_mask() else {
            page.text(b" --labels 0x");
            hexadecimal(page, set);
            return;
        };
        // Removing all labels has a form of its own.
        if mask.len() >= 16 && wide(mask) == u128::MAX && set == 0 {
            page.text(b" --label-del");
            return;
        }
        let cleared = wide(mask) & !set;
        let named = |bits: u128| {
            (0..128).filter(move |bit| bits >> bit & 1 != 0).map(|bit| self.labels.get(bit).and_then(Option::as_deref))
        };
        let (option, bits) = if cleared == 0 { (b" --label-add ", set) } else { (b" --label-del ", cleared) };
        if set & cleared == 0 && (set == 0 || cleared == 0) && bits != 0 && named(bits).all(|name| name.is_some()) {
            page.text(option);
            for (index, name) in named(bits).flatten().enumerate() {
                if index > 0 {
                    page.byte(b',');
                }
                page.bytes(name.as_bytes());
            }
            return;
        }
        page.text(b" --labels 0x");
        hexadecimal(page, set);
        page.text(b"/0x");
        hexadecimal(page, wide(mask));
    }
}

/// Writes timeout and status. A flow that a flow table forwards has no timeout.
fn times_and_status(page: &mut Page, flow: Flow<'_>, purpose: Purpose) {
    let timeout = flow.timeout().or_else(|| {
        (purpose == Purpose::Make && offloaded(flow)).then(|| match flow.protocol() {
            protocol::TCP => TCP_TIMEOUT,
            protocol::UDP => UDP_TIMEOUT,
            _ => OTHER_TIMEOUT,
        })
    });
    if let Some(timeout) = timeout {
        page.text(b" -t ");
        page.number(timeout.into());
    }
    if let Some(bits) = flow.status() {
        // The kernel sets EXPECTED itself for a flow with a master, and rejects it for others.
        let refused = if purpose == Purpose::Make && flow.master().is_none() { status::EXPECTED } else { 0 };
        *page = status_names(std::mem::take(page), bits & LOADABLE & !refused);
    }
}

fn offloaded(flow: Flow<'_>) -> bool {
    flow.status().is_some_and(|bits| bits & (status::OFFLOAD | status::HW_OFFLOAD) != 0)
}

/// Returns true for source and for destination if they are translated, by the status or else by the difference of the
/// two directions.
fn translated(flow: Flow<'_>) -> [bool; 2] {
    match flow.status() {
        Some(bits) => [bits & status::SRC_NAT != 0, bits & status::DST_NAT != 0],
        None => {
            let (original, reply) = (flow.original(), flow.reply());
            let words = protocol::has_ports(flow.protocol());
            [
                reply.destination_bits() != original.source_bits()
                    || words && reply.destination_l4() != original.source_l4(),
                reply.source_bits() != original.destination_bits()
                    || words && reply.source_l4() != original.destination_l4(),
            ]
        }
    }
}

/// Writes the addresses of both directions, the protocol, and the words of both directions. If source and destination
/// are translated, the reply follows from the NAT options, which then have its ports.
fn tuples(page: &mut Page, flow: Flow<'_>, purpose: Purpose) {
    let (original, reply) = (flow.original(), flow.reply());
    let number = flow.protocol();
    // NAT of a request has fields of its own.
    let asked = flow.has(field::SOURCE_NAT | field::DESTINATION_NAT);
    let [source, destination] = if purpose == Purpose::Make && !asked { translated(flow) } else { [false; 2] };
    let words = protocol::has_ports(number) || number == protocol::GRE;
    let icmp = protocol::is_icmp(number);
    for (option, field, bits) in
        [(b" -s ", field::SOURCE, original.source_bits()), (b" -d ", field::DESTINATION, original.destination_bits())]
    {
        if flow.has(field) {
            page.text(option);
            plain(page, flow, bits);
        }
    }
    for (translated, field, options, bits, word) in [
        (destination, field::REPLY_SOURCE, [b" -g ", b" -r "], reply.source_bits(), reply.source_l4()),
        (
            source,
            field::REPLY_DESTINATION,
            [b" -n ", b" -q "],
            reply.destination_bits(),
            // The identifier of ICMP is the same word in both directions.
            if icmp { reply.icmp_id() } else { reply.destination_l4() },
        ),
    ] {
        if !flow.has(field) {
            continue;
        }
        page.text(options[usize::from(!translated)]);
        if translated {
            translation(page, flow, bits, if words || icmp { word } else { 0 });
        } else {
            plain(page, flow, bits);
        }
    }
    page.text(b" -p ");
    match protocol::name(number) {
        Some(name) => page.bytes(name.as_bytes()),
        None => page.number(number.into()),
    }
    if words {
        let names: [&[u8]; 4] = match number {
            protocol::GRE => [b" --srckey ", b" --dstkey ", b" --reply-key-src ", b" --reply-key-dst "],
            _ => [b" --sport ", b" --dport ", b" --reply-port-src ", b" --reply-port-dst "],
        };
        let values = [
            (field::SOURCE_L4, field::SOURCE, original.source_l4()),
            (field::DESTINATION_L4, field::SOURCE, original.destination_l4()),
            (field::REPLY_SOURCE_L4, field::REPLY_SOURCE, reply.source_l4()),
            (field::REPLY_DESTINATION_L4, field::REPLY_SOURCE, reply.destination_l4()),
        ];
        // Both NAT options have the reply's words.
        let count = if source && destination { 2 } else { 4 };
        for (name, (field, direction, value)) in names.into_iter().zip(values).take(count) {
            // A kernel that does not track the protocol has no words of it, but the command line requires them.
            if flow.has(field) || purpose == Purpose::Make && flow.has(direction) {
                page.bytes(name);
                page.number(value.into());
            }
        }
    } else if icmp {
        let name: &[u8] = if number == protocol::ICMP { b" --icmp-" } else { b" --icmpv6-" };
        let (kind, code) = original.icmp_type_code();
        let values: [(&[u8], u64, u64); 3] = [
            (b"type ", field::DESTINATION_L4, kind.into()),
            (b"code ", field::DESTINATION_L4, code.into()),
            (b"id ", field::SOURCE_L4, original.icmp_id().into()),
        ];
        for (option, field, value) in values {
            if flow.has(field) {
                page.bytes(name);
                page.bytes(option);
                page.number(value);
            }
        }
    }
}

/// Writes the protocol state. To create a flow, the command line requires one, even if the kernel has none.
fn protocol_state(page: &mut Page, flow: Flow<'_>, purpose: Purpose) {
    let number = flow.protocol();
    if !matches!(number, protocol::TCP | protocol::SCTP | protocol::DCCP) {
        return;
    }
    let making = purpose == Purpose::Make;
    let name = match flow.state() {
        Some(value) => Some(state::name(number, value).unwrap_or("NONE")),
        None if making && offloaded(flow) && number != protocol::DCCP => Some("ESTABLISHED"),
        None => making.then_some("NONE"),
    };
    if let Some(name) = name {
        page.text(b" --state ");
        page.bytes(name.as_bytes());
    }
    if number == protocol::SCTP {
        let (original, reply) = flow.vtags();
        for (option, tag) in [(b" --orig-vtag ".as_slice(), original), (b" --reply-vtag ", reply)] {
            if let Some(tag) = tag.or(making.then_some(0)) {
                page.bytes(option);
                page.number(tag.swap_bytes().into());
            }
        }
    }
    if number == protocol::DCCP
        && let Some((role, _)) = flow.dccp().or(making.then_some((0, 0)))
    {
        page.bytes(if role == 0 { b" --role client" } else { b" --role server" });
    }
}

/// Writes the fields that few flows have.
fn details(page: &mut Page, flow: Flow<'_>) {
    if flow.protocol() == protocol::TCP {
        let (original, reply) = flow.tcp_flags();
        for (option, flags) in [(b" --orig-tcp-flags 0x".as_slice(), original), (b" --reply-tcp-flags 0x", reply)] {
            let Some((flags, mask)) = flags else { continue };
            if flags == mask && flags & !0x04 == ADDED_FLAGS {
                continue;
            }
            page.bytes(option);
            hexadecimal(page, flags.into());
            // The kernel sends no mask.
            if !matches!(mask, 0 | 0xff) {
                page.text(b"/0x");
                hexadecimal(page, mask.into());
            }
        }
        let (original, reply) = flow.window_scales();
        for (option, scale) in [(b" --orig-wscale ".as_slice(), original), (b" --reply-wscale ", reply)] {
            if let Some(scale) = scale {
                page.bytes(option);
                page.number(scale.into());
            }
        }
        for (option, sequence) in
            [(b" --orig-seqadj ".as_slice(), flow.original_sequence()), (b" --reply-seqadj ", flow.reply_sequence())]
        {
            if let Some(Sequence { position, before, after }) = sequence {
                page.bytes(option);
                page.number(position.into());
                page.bytes(std::format!(":{before}:{after}").as_bytes());
            }
        }
        if let Some(proxy) = flow.synproxy().filter(|proxy| (proxy.isn, proxy.its, proxy.tsoff) != (0, 0, 0)) {
            page.bytes(std::format!(" --synproxy {}:{}:{}", proxy.isn, proxy.its, proxy.tsoff).as_bytes());
        }
    }
    if let Some(master) = flow.master() {
        page.text(b" --master ");
        match protocol::name(master.protocol) {
            Some(name) => page.bytes(name.as_bytes()),
            None => page.number(master.protocol.into()),
        }
        for bits in [master.tuple.source_bits(), master.tuple.destination_bits()] {
            page.byte(b',');
            plain(page, flow, bits);
        }
        let of = master.protocol;
        if protocol::has_ports(of) || of == protocol::GRE || protocol::is_icmp(of) {
            for word in [master.tuple.source_l4(), master.tuple.destination_l4()] {
                page.byte(b',');
                page.number(word.into());
            }
        }
    }
}

/// Writes an address of the flow's family.
fn plain(page: &mut Page, flow: Flow<'_>, bits: u128) {
    *page = address(std::mem::take(page), flow, bits);
}

/// Writes `ADDRESS` or `ADDRESS:PORT`, in IPv6 `[ADDRESS]:PORT`.
fn translation(page: &mut Page, flow: Flow<'_>, bits: u128, port: u16) {
    let brackets = flow.family() != family::IPV4 && port != 0;
    if brackets {
        page.byte(b'[');
    }
    plain(page, flow, bits);
    if brackets {
        page.byte(b']');
    }
    if port != 0 {
        page.byte(b':');
        page.number(port.into());
    }
}

/// Writes a word as load files accept it.
fn quoted(page: &mut Page, text: &[u8]) {
    let special = |byte: &u8| matches!(byte, b' ' | b'\t' | b'"' | b'\\' | b'#');
    if !text.is_empty() && !text.iter().any(special) {
        return page.clean(text);
    }
    page.byte(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            page.byte(b'\\');
        }
        page.clean(&[*byte]);
    }
    page.byte(b'"');
}

/// Returns a set of labels as a number: label `n` is bit `n`.
fn wide(bytes: &[u8]) -> u128 {
    bytes.iter().take(16).enumerate().fold(0, |all, (index, byte)| all | u128::from(*byte) << (8 * index))
}

fn hexadecimal(page: &mut Page, number: u128) {
    page.bytes(std::format!("{number:x}").as_bytes());
}
