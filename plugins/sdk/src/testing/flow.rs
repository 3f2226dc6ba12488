//! Flows for tests.

use std::net::IpAddr;

use crate::{
    Flows, address,
    bindings::flowgate::conntrack::{
        columns::{Addresses, SparseTexts},
        flow::{
            Counters, Dccps, Events, Masters, Rare, Sctp, Sequences, Synproxies, Tcp, Times, Translations, Tuples,
            Zones,
        },
    },
    event, family, field,
};

/// Addresses and layer-4 words of one direction, addresses as 128-bit numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple {
    /// Source address, IPv4 in its mapped form.
    pub source: u128,
    /// Destination address.
    pub destination: u128,
    /// Source port, key or ICMP identifier.
    pub source_l4: u16,
    /// Destination port, key, or ICMP type times 256 plus code.
    pub destination_l4: u16,
}

impl Tuple {
    /// Makes a tuple from addresses as text; an invalid address becomes 0.
    #[must_use]
    pub fn new(source: &str, destination: &str, source_l4: u16, destination_l4: u16) -> Self {
        let bits = |text: &str| text.parse::<IpAddr>().map_or(0, address::bits);
        Tuple { source: bits(source), destination: bits(destination), source_l4, destination_l4 }
    }

    /// Returns the tuple of the reply.
    #[must_use]
    pub fn reversed(self) -> Self {
        Tuple {
            source: self.destination,
            destination: self.source,
            source_l4: self.destination_l4,
            destination_l4: self.source_l4,
        }
    }
}

/// A flow for tests: the fields whose bits are in `has` are carried.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Row {
    pub has: u64,
    pub family: u8,
    pub protocol: u8,
    pub original: Tuple,
    pub reply: Tuple,
    pub original_zone: u16,
    pub reply_zone: u16,
    pub zone: u16,
    pub status: u32,
    pub timeout: u32,
    pub mark: u32,
    pub secmark: u32,
    pub use_count: u32,
    pub id: u32,
    /// Packets and bytes.
    pub original_counters: (u64, u64),
    pub reply_counters: (u64, u64),
    pub start: u64,
    pub stop: u64,
    pub event_time: u64,
    pub received: u64,
    pub event: u8,
    pub state: u8,
    pub window_scales: (u8, u8),
    pub tcp_flags: (u16, u16),
    pub vtags: (u32, u32),
    pub helper: Vec<u8>,
    pub helper_info: Vec<u8>,
    pub labels: Vec<u8>,
    pub labels_mask: Vec<u8>,
    pub mark_mask: u32,
    pub security_context: Vec<u8>,
    /// Protocol, tuple and zone.
    pub master: (u8, Tuple, u16),
    /// Position, before, after.
    pub original_sequence: (u32, u32, u32),
    pub reply_sequence: (u32, u32, u32),
    /// Initial sequence number, initial timestamp, timestamp offset.
    pub synproxy: (u32, u32, u32),
    /// Role and handshake sequence number.
    pub dccp: (u8, u64),
    /// First and last address, first and last port.
    pub source_nat: (u128, u128, u16, u16),
    pub destination_nat: (u128, u128, u16, u16),
    /// Paths and payloads.
    pub unknown: Vec<(u64, Vec<u8>)>,
    /// Keys and values.
    pub annotations: Vec<(Vec<u8>, Vec<u8>)>,
    pub port_id: u32,
    pub program: Vec<u8>,
    pub namespace_id: u32,
    pub namespace_name: Vec<u8>,
}

impl Row {
    /// Makes a flow of a family and a protocol, without other fields.
    #[must_use]
    pub fn new(family: u8, protocol: u8) -> Self {
        Row { family, protocol, has: field::PROTOCOL | field::REPLY_PROTOCOL, ..Row::default() }
    }

    /// Makes an IPv4 flow.
    #[must_use]
    pub fn ipv4(protocol: u8) -> Self {
        Row::new(family::IPV4, protocol)
    }

    /// Makes an IPv6 flow.
    #[must_use]
    pub fn ipv6(protocol: u8) -> Self {
        Row::new(family::IPV6, protocol)
    }

    /// Sets the original tuple, and the reply tuple to its reverse.
    #[must_use]
    pub fn original(mut self, source: &str, destination: &str, source_l4: u16, destination_l4: u16) -> Self {
        self.original = Tuple::new(source, destination, source_l4, destination_l4);
        self.reply = self.original.reversed();
        self.has |= field::ORIGINAL_ADDRESSES | field::REPLY_ADDRESSES | field::ORIGINAL_L4 | field::REPLY_L4;
        self
    }

    /// Sets the reply tuple.
    #[must_use]
    pub fn reply(mut self, source: &str, destination: &str, source_l4: u16, destination_l4: u16) -> Self {
        self.reply = Tuple::new(source, destination, source_l4, destination_l4);
        self.has |= field::REPLY_ADDRESSES | field::REPLY_L4;
        self
    }

    /// Sets fields, and their bits in `has`.
    #[must_use]
    pub fn set(mut self, fields: u64, set: impl FnOnce(&mut Self)) -> Self {
        set(&mut self);
        self.has |= fields;
        self
    }

    /// Removes the bits of these fields from `has`.
    #[must_use]
    pub fn without(mut self, fields: u64) -> Self {
        self.has &= !fields;
        self
    }

    /// Turns it into an event.
    #[must_use]
    pub fn event(mut self, kind: u8) -> Self {
        self.event = kind;
        self
    }
}

/// Returns the rows as a batch. Groups of which no row carries a field are absent, as in batches of the host.
pub fn batch(rows: impl IntoIterator<Item = Row>) -> Flows {
    let rows: Vec<Row> = rows.into_iter().collect();
    let any = |fields: u64| rows.iter().any(|row| row.has & fields != 0);
    fn column<T>(rows: &[Row], value: impl Fn(&Row) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    fn texts<'a>(rows: &'a [Row], field: u64, value: impl Fn(&'a Row) -> &'a Vec<u8>) -> SparseTexts {
        let mut texts = SparseTexts::default();
        for (i, row) in rows.iter().enumerate().filter(|(_, row)| row.has & field != 0) {
            texts.push(i, value(row));
        }
        texts
    }
    let carrying = |field: u64| rows.iter().enumerate().filter(move |(_, row)| row.has & field != 0);

    let mut rare = Rare {
        helper: texts(&rows, field::HELPER, |row| &row.helper),
        helper_info: texts(&rows, field::HELPER_INFO, |row| &row.helper_info),
        labels: texts(&rows, field::LABELS, |row| &row.labels),
        labels_mask: texts(&rows, field::LABELS_MASK, |row| &row.labels_mask),
        security_context: texts(&rows, field::SECURITY_CONTEXT, |row| &row.security_context),
        secmark: if any(field::SECMARK) { column(&rows, |row| row.secmark) } else { Vec::new() },
        mark_mask: if any(field::MARK_MASK) { column(&rows, |row| row.mark_mask) } else { Vec::new() },
        ..Rare::default()
    };
    for (i, row) in carrying(field::MASTER) {
        let Masters { rows, protocol, tuple, zone } = &mut rare.master;
        rows.push(i as u32);
        protocol.push(row.master.0);
        push(tuple, &row.master.1);
        zone.push(row.master.2);
    }
    for (i, row) in carrying(field::ORIGINAL_SEQUENCE | field::REPLY_SEQUENCE) {
        for (field, reply, (at, first, then)) in
            [(field::ORIGINAL_SEQUENCE, 0, row.original_sequence), (field::REPLY_SEQUENCE, 1, row.reply_sequence)]
        {
            if row.has & field != 0 {
                let Sequences { rows, reply: direction, position, before, after } = &mut rare.sequence;
                rows.push(i as u32);
                direction.push(reply);
                position.push(at);
                before.push(first);
                after.push(then);
            }
        }
    }
    for (i, row) in carrying(field::SYNPROXY) {
        let Synproxies { rows, isn, its, tsoff } = &mut rare.synproxy;
        rows.push(i as u32);
        isn.push(row.synproxy.0);
        its.push(row.synproxy.1);
        tsoff.push(row.synproxy.2);
    }
    for (i, row) in carrying(field::DCCP) {
        let Dccps { rows, role, handshake } = &mut rare.dccp;
        rows.push(i as u32);
        role.push(row.dccp.0);
        handshake.push(row.dccp.1);
    }
    for (i, row) in carrying(field::SOURCE_NAT | field::DESTINATION_NAT) {
        for (field, which, (least, most, low, high)) in
            [(field::SOURCE_NAT, 0, row.source_nat), (field::DESTINATION_NAT, 1, row.destination_nat)]
        {
            if row.has & field != 0 {
                let Translations { rows, destination, first, last, first_port, last_port } = &mut rare.nat;
                rows.push(i as u32);
                destination.push(which);
                push_address(first, least);
                push_address(last, most);
                first_port.push(low);
                last_port.push(high);
            }
        }
    }
    for (i, row) in carrying(field::UNKNOWN) {
        for (path, payload) in &row.unknown {
            rare.unknown.rows.push(i as u32);
            rare.unknown.paths.push(*path);
            rare.unknown.payloads.push(payload);
        }
    }
    for (i, row) in carrying(field::ANNOTATIONS) {
        for (key, value) in &row.annotations {
            rare.annotations.rows.push(i as u32);
            rare.annotations.keys.push(key);
            rare.annotations.values.push(value);
        }
    }

    let zones = any(field::ZONES).then(|| Zones {
        zone: column(&rows, |row| row.zone),
        original: column(&rows, |row| row.original_zone),
        reply: column(&rows, |row| row.reply_zone),
    });
    let counters = any(field::COUNTERS).then(|| Counters {
        original_packets: column(&rows, |row| row.original_counters.0),
        original_bytes: column(&rows, |row| row.original_counters.1),
        reply_packets: column(&rows, |row| row.reply_counters.0),
        reply_bytes: column(&rows, |row| row.reply_counters.1),
    });
    let times = any(field::START | field::STOP)
        .then(|| Times { start: column(&rows, |row| row.start), stop: column(&rows, |row| row.stop) });
    let tcp_fields =
        field::ORIGINAL_WINDOW_SCALE | field::REPLY_WINDOW_SCALE | field::ORIGINAL_TCP_FLAGS | field::REPLY_TCP_FLAGS;
    let tcp = any(tcp_fields).then(|| Tcp {
        original_window_scale: column(&rows, |row| row.window_scales.0),
        reply_window_scale: column(&rows, |row| row.window_scales.1),
        original_flags: column(&rows, |row| row.tcp_flags.0),
        reply_flags: column(&rows, |row| row.tcp_flags.1),
    });
    let sctp = any(field::ORIGINAL_VTAG | field::REPLY_VTAG).then(|| Sctp {
        original_vtag: column(&rows, |row| row.vtags.0),
        reply_vtag: column(&rows, |row| row.vtags.1),
    });
    let events = rows.iter().any(|row| row.event != event::NONE).then(|| Events {
        kind: column(&rows, |row| row.event),
        time: column(&rows, |row| row.event_time),
        received: column(&rows, |row| row.received),
        port_id: column(&rows, |row| row.port_id),
        program: texts(&rows, field::PROGRAM, |row| &row.program),
        namespace_id: column(&rows, |row| row.namespace_id),
        namespace_name: texts(&rows, field::NAMESPACE_NAME, |row| &row.namespace_name),
    });
    let rare_fields = field::HELPER
        | field::HELPER_INFO
        | field::LABELS
        | field::LABELS_MASK
        | field::MARK_MASK
        | field::SECMARK
        | field::SECURITY_CONTEXT
        | field::MASTER
        | field::ORIGINAL_SEQUENCE
        | field::REPLY_SEQUENCE
        | field::SYNPROXY
        | field::DCCP
        | field::SOURCE_NAT
        | field::DESTINATION_NAT
        | field::UNKNOWN
        | field::ANNOTATIONS;

    let (mut original, mut reply) = (Tuples::default(), Tuples::default());
    for row in &rows {
        push(&mut original, &row.original);
        push(&mut reply, &row.reply);
    }
    Flows {
        length: rows.len() as u32,
        time: 0,
        has: column(&rows, |row| row.has),
        family: column(&rows, |row| row.family),
        protocol: column(&rows, |row| row.protocol),
        original,
        reply,
        status: column(&rows, |row| row.status),
        timeout: column(&rows, |row| row.timeout),
        mark: column(&rows, |row| row.mark),
        use_count: column(&rows, |row| row.use_count),
        id: column(&rows, |row| row.id),
        state: column(&rows, |row| row.state),
        zones,
        counters,
        times,
        tcp,
        sctp,
        events,
        rare: any(rare_fields).then_some(rare),
        more: Vec::new(),
    }
}

/// Appends a tuple to a table.
pub fn push(tuples: &mut Tuples, tuple: &Tuple) {
    push_address(&mut tuples.source, tuple.source);
    push_address(&mut tuples.destination, tuple.destination);
    tuples.source_l4.push(tuple.source_l4);
    tuples.destination_l4.push(tuple.destination_l4);
}

fn push_address(addresses: &mut Addresses, bits: u128) {
    addresses.hi.push((bits >> 64) as u64);
    addresses.lo.push(bits as u64);
}
