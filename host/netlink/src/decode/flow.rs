//! Decoding of flows into the columns of a batch.

use super::attribute::DecodeError;
use super::columns::{
    ROW_LIMIT, TEXT_LIMIT, clear_tuples, get_or_insert, push_address, push_sparse, push_text, recycle,
};
use super::row::{FlowRow, Nat, RareRow, normalise_labels};
use super::tuple::TupleRow;
use super::unknown::UnknownAttributes;
use crate::message::Message;
use flowgate_model::{Counters, Events, Flows, Rare, Sctp, Tcp, Times, Zones, event, field};

/// How a message arrived, which the message itself does not contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrival {
    /// As an entry of a dump or as the answer to a GET.
    #[default]
    Entry,
    /// As an event.
    Event {
        /// When it was read, in nanoseconds since 1970.
        received: u64,
        /// Id of the network namespace that it came from, if it is not the socket's own.
        namespace: Option<u32>,
    },
}

/// Fields whose columns a decoder never fills, because messages do not contain them.
const NOT_DECODED: u64 = field::ANNOTATIONS | field::PROGRAM | field::NAMESPACE_NAME | field::SYNTHETIC;

/// Decodes flow messages into a batch, whose columns and allocations are reused.
///
/// A decoder fills the columns of the wanted fields, and only these have bits in `has`. Between [`FlowDecoder::clear`]
/// and the last [`FlowDecoder::push`] no other code may change the batch.
#[derive(Debug, Default)]
pub struct FlowDecoder {
    wanted: u64,
    unknown: UnknownAttributes,
    zones: Vec<Zones>,
    counters: Vec<Counters>,
    times: Vec<Times>,
    tcp: Vec<Tcp>,
    sctp: Vec<Sctp>,
    events: Vec<Events>,
    rare: Vec<Rare>,
}

/// Appends to the wanted columns.
macro_rules! push {
    ($wanted:expr; $($bits:expr => $column:expr, $value:expr;)*) => {
        $(if $wanted & ($bits) != 0 { $column.push($value); })*
    };
}

impl FlowDecoder {
    /// Returns a decoder that fills the fields of `wanted`, bits of [`field`].
    #[must_use]
    pub fn new(wanted: u64) -> Self {
        Self { wanted: wanted & field::ALL & !NOT_DECODED, ..Self::default() }
    }

    /// Returns the fields that it fills.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        self.wanted
    }

    /// Appends the flow of `message`.
    ///
    /// # Errors
    /// The message is malformed, or the batch is full; the batch is unchanged.
    pub fn push(&mut self, flows: &mut Flows, message: &Message<'_>, arrival: Arrival) -> Result<(), DecodeError> {
        let Some(body) = message.netfilter() else {
            return Err(DecodeError::Header { length: message.body.len() });
        };
        self.check_space(flows)?;
        let wanted = self.wanted;
        let mut row = FlowRow::default();
        self.unknown.begin(wanted & field::UNKNOWN != 0);
        row.decode(body.attributes, wanted, &mut self.unknown)?;
        if !self.unknown.is_empty() {
            row.has |= field::UNKNOWN;
        }
        let arrived = match arrival {
            Arrival::Entry if row.has & wanted & field::EVENT_TIME == 0 => None,
            Arrival::Entry => Some((event::NONE, 0, 0)),
            Arrival::Event { received, namespace } => {
                row.has |= field::PORT_ID | if namespace.is_some() { field::NAMESPACE } else { 0 };
                Some((message.event(), received, namespace.unwrap_or_default()))
            }
        };
        self.append(flows, &row, body.family, arrived, message.port);
        Ok(())
    }

    /// Appends a gap: a row without a flow, before which events were lost. Their number, if it is known, is an
    /// annotation `lost`.
    ///
    /// # Errors
    /// The batch is full.
    pub fn push_gap(&mut self, flows: &mut Flows, received: u64, lost: Option<u32>) -> Result<(), DecodeError> {
        self.check_space(flows)?;
        self.unknown.begin(false);
        self.append(flows, &FlowRow::default(), 0, Some((event::GAP, received, 0)), 0);
        let row = flows.length.saturating_sub(1);
        if let (Some(lost), Some(has)) = (lost, flows.has.last_mut()) {
            *has |= field::ANNOTATIONS;
            let rare = get_or_insert(&mut flows.rare, &mut self.rare, self.wanted, row as usize);
            rare.annotations.rows.push(row);
            push_text(&mut rare.annotations.keys, event::LOST.as_bytes());
            push_text(&mut rare.annotations.values, lost.to_string().as_bytes());
        }
        Ok(())
    }

    /// Checks that the batch has space for one more row, however long its texts.
    fn check_space(&self, flows: &Flows) -> Result<(), DecodeError> {
        if flows.length >= ROW_LIMIT {
            return Err(DecodeError::Full);
        }
        if let Some(rare) = &flows.rare {
            let texts = [&rare.helper, &rare.helper_info, &rare.labels, &rare.labels_mask, &rare.security_context];
            let longest = texts.map(|column| column.texts.bytes.len()).into_iter().max().unwrap_or_default();
            if longest.max(rare.unknown.payloads.bytes.len()) >= TEXT_LIMIT {
                return Err(DecodeError::Full);
            }
        }
        Ok(())
    }

    /// Appends a decoded row to the columns. `arrived`: kind of event, time of receipt, namespace.
    #[inline]
    fn append(&mut self, flows: &mut Flows, row: &FlowRow<'_>, family: u8, arrived: Option<(u8, u64, u32)>, port: u32) {
        let wanted = self.wanted;
        let has = row.has & wanted;
        let rows = flows.length as usize;
        flows.has.push(has);
        flows.family.push(family);
        let (original, reply) = (&mut flows.original, &mut flows.reply);
        push!(wanted;
            field::SOURCE => original.source.hi, row.original.source.0;
            field::SOURCE => original.source.lo, row.original.source.1;
            field::DESTINATION => original.destination.hi, row.original.destination.0;
            field::DESTINATION => original.destination.lo, row.original.destination.1;
            field::REPLY_SOURCE => reply.source.hi, row.reply.source.0;
            field::REPLY_SOURCE => reply.source.lo, row.reply.source.1;
            field::REPLY_DESTINATION => reply.destination.hi, row.reply.destination.0;
            field::REPLY_DESTINATION => reply.destination.lo, row.reply.destination.1;
            field::PROTOCOL | field::REPLY_PROTOCOL => flows.protocol, row.original.protocol;
            field::SOURCE_L4 => original.source_l4, row.original.source_l4;
            field::DESTINATION_L4 => original.destination_l4, row.original.destination_l4;
            field::REPLY_SOURCE_L4 => reply.source_l4, row.reply.source_l4;
            field::REPLY_DESTINATION_L4 => reply.destination_l4, row.reply.destination_l4;
            field::STATUS => flows.status, row.status;
            field::TIMEOUT => flows.timeout, row.timeout;
            field::MARK => flows.mark, row.mark;
            field::USE => flows.use_count, row.use_count;
            field::ID => flows.id, row.id;
            field::STATE => flows.state, row.state;
        );
        if has & field::ZONES != 0 || flows.zones.is_some() {
            let zones = get_or_insert(&mut flows.zones, &mut self.zones, wanted, rows);
            push!(wanted;
                field::ZONE => zones.zone, row.zone;
                field::ORIGINAL_ZONE => zones.original, row.original.zone;
                field::REPLY_ZONE => zones.reply, row.reply.zone;
            );
        }
        if has & field::COUNTERS != 0 || flows.counters.is_some() {
            let counters = get_or_insert(&mut flows.counters, &mut self.counters, wanted, rows);
            let [[original_packets, original_bytes], [reply_packets, reply_bytes]] = row.counters;
            push!(wanted;
                field::ORIGINAL_COUNTERS => counters.original_packets, original_packets;
                field::ORIGINAL_COUNTERS => counters.original_bytes, original_bytes;
                field::REPLY_COUNTERS => counters.reply_packets, reply_packets;
                field::REPLY_COUNTERS => counters.reply_bytes, reply_bytes;
            );
        }
        if has & (field::START | field::STOP) != 0 || flows.times.is_some() {
            let times = get_or_insert(&mut flows.times, &mut self.times, wanted, rows);
            push!(wanted;
                field::START => times.start, row.start;
                field::STOP => times.stop, row.stop;
            );
        }
        const TCP: u64 = field::ORIGINAL_WINDOW_SCALE
            | field::REPLY_WINDOW_SCALE
            | field::ORIGINAL_TCP_FLAGS
            | field::REPLY_TCP_FLAGS;
        if has & TCP != 0 || flows.tcp.is_some() {
            let tcp = get_or_insert(&mut flows.tcp, &mut self.tcp, wanted, rows);
            push!(wanted;
                field::ORIGINAL_WINDOW_SCALE => tcp.original_window_scale, row.window_scales[0];
                field::REPLY_WINDOW_SCALE => tcp.reply_window_scale, row.window_scales[1];
                field::ORIGINAL_TCP_FLAGS => tcp.original_flags, row.tcp_flags[0];
                field::REPLY_TCP_FLAGS => tcp.reply_flags, row.tcp_flags[1];
            );
        }
        if has & (field::ORIGINAL_VTAG | field::REPLY_VTAG) != 0 || flows.sctp.is_some() {
            let sctp = get_or_insert(&mut flows.sctp, &mut self.sctp, wanted, rows);
            push!(wanted;
                field::ORIGINAL_VTAG => sctp.original_vtag, row.vtags[0];
                field::REPLY_VTAG => sctp.reply_vtag, row.vtags[1];
            );
        }
        if arrived.is_some() || flows.events.is_some() {
            let events = get_or_insert(&mut flows.events, &mut self.events, wanted, rows);
            let (kind, received, namespace) = arrived.unwrap_or_default();
            events.kind.push(kind);
            events.received.push(received);
            push!(wanted;
                field::EVENT_TIME => events.time, row.event_time;
                field::PORT_ID => events.port_id, if has & field::PORT_ID != 0 { port } else { 0 };
                field::NAMESPACE => events.namespace_id, namespace;
            );
        }
        if has & field::RARE != 0 || flows.rare.is_some() {
            self.append_rare(flows, row, has, rows);
        }
        flows.length = flows.length.saturating_add(1);
    }

    fn append_rare(&mut self, flows: &mut Flows, row: &FlowRow<'_>, has: u64, rows: usize) {
        let none = RareRow::default();
        let of_row = row.rare.as_ref().unwrap_or(&none);
        let rare = get_or_insert(&mut flows.rare, &mut self.rare, self.wanted, rows);
        for (bit, value, column) in [
            (field::SECMARK, of_row.secmark, &mut rare.secmark),
            (field::MARK_MASK, of_row.mark_mask, &mut rare.mark_mask),
        ] {
            if has & bit != 0 || !column.is_empty() {
                column.resize(rows, 0);
                column.push(value);
            }
        }
        if has & field::RARE == 0 {
            return;
        }
        let number = flows.length;
        for (bit, text, column) in [
            (field::HELPER, of_row.helper, &mut rare.helper),
            (field::HELPER_INFO, of_row.helper_info, &mut rare.helper_info),
            (field::SECURITY_CONTEXT, of_row.security_context, &mut rare.security_context),
        ] {
            if has & bit != 0 {
                push_sparse(column, number, text);
            }
        }
        for (bit, labels, column) in [
            (field::LABELS, of_row.labels, &mut rare.labels),
            (field::LABELS_MASK, of_row.labels_mask, &mut rare.labels_mask),
        ] {
            if has & bit != 0 {
                push_sparse(column, number, &normalise_labels(labels));
            }
        }
        if has & field::MASTER != 0 {
            rare.master.rows.push(number);
            rare.master.protocol.push(of_row.master.protocol);
            push_tuple(&mut rare.master.tuple, &of_row.master);
            rare.master.zone.push(of_row.master.zone);
        }
        let [original, reply] = of_row.sequences;
        for (bit, direction, [position, before, after]) in
            [(field::ORIGINAL_SEQUENCE, 0, original), (field::REPLY_SEQUENCE, 1, reply)]
        {
            if has & bit != 0 {
                rare.sequence.rows.push(number);
                rare.sequence.reply.push(direction);
                rare.sequence.position.push(position);
                rare.sequence.before.push(before);
                rare.sequence.after.push(after);
            }
        }
        if has & field::SYNPROXY != 0 {
            let [isn, its, tsoff] = of_row.synproxy;
            rare.synproxy.rows.push(number);
            rare.synproxy.isn.push(isn);
            rare.synproxy.its.push(its);
            rare.synproxy.tsoff.push(tsoff);
        }
        if has & field::DCCP != 0 {
            let (role, handshake) = of_row.dccp;
            rare.dccp.rows.push(number);
            rare.dccp.role.push(role);
            rare.dccp.handshake.push(handshake);
        }
        let [source, destination] = of_row.nat;
        for (bit, which, Nat { first, last, ports: [low, high] }) in
            [(field::SOURCE_NAT, 0, source), (field::DESTINATION_NAT, 1, destination)]
        {
            if has & bit != 0 {
                rare.nat.rows.push(number);
                rare.nat.destination.push(which);
                push_address(&mut rare.nat.first, first);
                push_address(&mut rare.nat.last, last);
                rare.nat.first_port.push(low);
                rare.nat.last_port.push(high);
            }
        }
        if has & field::UNKNOWN != 0 {
            self.unknown.append_to(&mut rare.unknown, number);
        }
    }

    /// Clears the batch but keeps its allocations. The batch may have been changed by other code.
    pub fn clear(&mut self, flows: &mut Flows) {
        let Flows {
            length,
            time,
            has,
            family,
            protocol,
            original,
            reply,
            status,
            timeout,
            mark,
            use_count,
            id,
            state,
            zones,
            counters,
            times,
            tcp,
            sctp,
            events,
            rare,
            more,
        } = flows;
        (*length, *time) = (0, 0);
        has.clear();
        for column in [family, protocol, state] {
            column.clear();
        }
        for column in [status, timeout, mark, use_count, id] {
            column.clear();
        }
        clear_tuples(original);
        clear_tuples(reply);
        recycle(zones, &mut self.zones);
        recycle(counters, &mut self.counters);
        recycle(times, &mut self.times);
        recycle(tcp, &mut self.tcp);
        recycle(sctp, &mut self.sctp);
        recycle(events, &mut self.events);
        recycle(rare, &mut self.rare);
        more.clear();
    }
}

/// Appends one direction to columns that are all filled.
pub(super) fn push_tuple(tuples: &mut flowgate_model::Tuples, key: &TupleRow) {
    push_address(&mut tuples.source, key.source);
    push_address(&mut tuples.destination, key.destination);
    tuples.source_l4.push(key.source_l4);
    tuples.destination_l4.push(key.destination_l4);
}
