//! The row of a proposed request, attribute by attribute in the order of `encode/flow.rs`.

mod protocol_state;
mod tuple;

use std::net::IpAddr;

use super::{ProposalError, walk::Walk};
use crate::{
    decode::normalise_labels,
    tuple::TupleFields,
    wire::{flow, part},
};
use flowgate_model::{
    Addresses, Flows, Rare, SparseTexts, Tuples, Zones, action, batch::push_sparse, bounds, field, protocol, status,
};
use tuple::{address, complete, direction};

/// Two halves of an address, as in the columns.
type Halves = (u64, u64);

/// A row in the making: a table of one row, with columns only for the fields that it has.
pub(super) struct Row {
    flows: Flows,
    has: u64,
    family: u8,
    protocol: u8,
}

fn halves(address: IpAddr) -> Halves {
    let bits = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    ((bits >> 64) as u64, bits as u64)
}

fn push(column: &mut Addresses, (hi, lo): Halves) {
    column.hi.push(hi);
    column.lo.push(lo);
}

/// Reads three 32-bit numbers.
fn triple(mut walk: Walk<'_>, kinds: [u16; 3]) -> Result<[u32; 3], ProposalError> {
    let mut numbers = [0; 3];
    for (number, kind) in numbers.iter_mut().zip(kinds) {
        *number = u32::from_be_bytes(walk.required(kind)?);
    }
    walk.end()?;
    Ok(numbers)
}

impl Row {
    /// Returns a row without fields.
    pub(super) fn new(family: u8) -> Self {
        Row { flows: Flows::default(), has: 0, family, protocol: 0 }
    }

    /// Returns the table.
    pub(super) fn finish(self) -> Flows {
        Flows { length: 1, has: vec![self.has], family: vec![self.family], ..self.flows }
    }

    fn rare(&mut self) -> &mut Rare {
        self.flows.rare.get_or_insert_default()
    }

    fn zones(&mut self) -> &mut Zones {
        self.flows.zones.get_or_insert_default()
    }

    /// Takes what names the flow: the original tuple, the reply tuple of a flow that may be created, the id of one that
    /// may exist, and the zone.
    pub(super) fn key(&mut self, walk: &mut Walk<'_>, kind: u8) -> Result<(), ProposalError> {
        self.original(walk)?;
        if matches!(kind, action::CREATE | action::CREATE_OR_UPDATE) {
            let fields = complete(walk, flow::TUPLE_REPLY, self.family)?;
            let reply = fields.protocol.unwrap_or_default();
            if reply != self.protocol {
                return Err(ProposalError::Protocols { original: self.protocol, reply });
            }
            self.direction(&fields, true);
        }
        if kind != action::CREATE
            && let Some(id) = walk.array(flow::ID)?
        {
            self.has |= field::ID;
            self.flows.id = vec![u32::from_be_bytes(id)];
        }
        self.zone(walk)
    }

    /// Takes what a look-up names the flow by: the original tuple and the zone.
    pub(super) fn lookup_key(&mut self, walk: &mut Walk<'_>) -> Result<(), ProposalError> {
        self.original(walk)?;
        self.zone(walk)
    }

    fn original(&mut self, walk: &mut Walk<'_>) -> Result<(), ProposalError> {
        let fields = complete(walk, flow::TUPLE_ORIG, self.family)?;
        self.protocol = fields.protocol.unwrap_or_default();
        self.flows.protocol = vec![self.protocol];
        self.direction(&fields, false);
        Ok(())
    }

    fn zone(&mut self, walk: &mut Walk<'_>) -> Result<(), ProposalError> {
        if let Some(zone) = walk.array(flow::ZONE)? {
            self.has |= field::ZONE;
            self.zones().zone = vec![u16::from_be_bytes(zone)];
        }
        Ok(())
    }

    /// Sets the fields of a direction.
    fn direction(&mut self, fields: &TupleFields, reply: bool) {
        let TupleFields { source, destination, protocol, source_l4, destination_l4, zone } = *fields;
        let (tuples, bits) = if reply {
            let bits = [
                field::REPLY_SOURCE,
                field::REPLY_DESTINATION,
                field::REPLY_PROTOCOL,
                field::REPLY_SOURCE_L4,
                field::REPLY_DESTINATION_L4,
                field::REPLY_ZONE,
            ];
            (&mut self.flows.reply, bits)
        } else {
            let bits = [
                field::SOURCE,
                field::DESTINATION,
                field::PROTOCOL,
                field::SOURCE_L4,
                field::DESTINATION_L4,
                field::ORIGINAL_ZONE,
            ];
            (&mut self.flows.original, bits)
        };
        for (address, column) in [(source, &mut tuples.source), (destination, &mut tuples.destination)] {
            if let Some(address) = address {
                push(column, halves(address));
            }
        }
        tuples.source_l4.extend(source_l4);
        tuples.destination_l4.extend(destination_l4);
        if let Some(zone) = zone {
            let zones = self.flows.zones.get_or_insert_default();
            *(if reply { &mut zones.reply } else { &mut zones.original }) = vec![zone];
        }
        let given = [
            source.is_some(),
            destination.is_some(),
            protocol.is_some(),
            source_l4.is_some(),
            destination_l4.is_some(),
            zone.is_some(),
        ];
        self.has |= bits.iter().zip(given).filter(|(_, given)| *given).fold(0, |has, (bit, _)| has | bit);
    }

    /// Takes the values that are requested.
    pub(super) fn values(&mut self, walk: &mut Walk<'_>, creates: bool) -> Result<(), ProposalError> {
        let status = walk.array(flow::STATUS)?.map(u32::from_be_bytes);
        if let Some(status) = status {
            // The encoder adds CONFIRMED to whatever is requested.
            self.has |= field::STATUS;
            self.flows.status = vec![status & !status::CONFIRMED];
        }
        if let Some(timeout) = walk.array(flow::TIMEOUT)? {
            self.has |= field::TIMEOUT;
            self.flows.timeout = vec![u32::from_be_bytes(timeout)];
        }
        if let Some(mark) = walk.array(flow::MARK)? {
            self.has |= field::MARK;
            self.flows.mark = vec![u32::from_be_bytes(mark)];
        }
        if let Some(walk) = walk.nest(flow::PROTOINFO)? {
            self.protoinfo(walk)?;
        }
        // A mask alone has no meaning, and is not asked for.
        if self.has & field::MARK != 0
            && let Some(mask) = walk.array(flow::MARK_MASK)?
        {
            self.has |= field::MARK_MASK;
            self.rare().mark_mask = vec![u32::from_be_bytes(mask)];
        }
        if let Some(inner) = walk.nest(flow::TUPLE_MASTER)? {
            self.master(inner, walk.path(flow::TUPLE_MASTER))?;
        }
        self.translations(walk)?;
        self.sequences(walk)?;
        if let Some(walk) = walk.nest(flow::HELP)? {
            self.helper(walk)?;
        }
        self.labels(walk, flow::LABELS, field::LABELS)?;
        self.labels(walk, flow::LABELS_MASK, field::LABELS_MASK)?;
        if let Some(walk) = walk.nest(flow::SYNPROXY)? {
            let [isn, its, tsoff] = triple(walk, [part::SYNPROXY_ISN, part::SYNPROXY_ITS, part::SYNPROXY_TSOFF])?;
            self.has |= field::SYNPROXY;
            let synproxy = &mut self.rare().synproxy;
            (synproxy.rows, synproxy.isn, synproxy.its, synproxy.tsoff) = (vec![0], vec![isn], vec![its], vec![tsoff]);
        }
        status.map_or(Ok(()), |status| self.check_status(status, creates))
    }

    /// Checks that the encoder writes such a status.
    fn check_status(&self, status: u32, creates: bool) -> Result<(), ProposalError> {
        let expected = if self.has & field::MASTER != 0 { status::EXPECTED } else { 0 };
        let forbidden = if creates { status::DYING | expected } else { 0 };
        if status & status::CONFIRMED == 0 || status & forbidden != 0 {
            return Err(ProposalError::Status { status, forbidden });
        }
        Ok(())
    }

    /// Reads the tuple of the master, which has layer-4 words if and only if its protocol has.
    fn master(&mut self, walk: Walk<'_>, path: u64) -> Result<(), ProposalError> {
        let fields = direction(walk, self.family)?;
        let number = fields.protocol.unwrap_or_default();
        let words = protocol::is_icmp(number) || protocol::has_ports(number) || number == protocol::GRE;
        let missing = fields.missing()
            | if words && fields.source_l4.is_none() { field::SOURCE_L4 } else { 0 }
            | if words && fields.destination_l4.is_none() { field::DESTINATION_L4 } else { 0 };
        if missing != 0 {
            return Err(ProposalError::IncompleteTuple { path, missing });
        }
        if fields.zone == Some(0) || !words && (fields.source_l4.is_some() || fields.destination_l4.is_some()) {
            return Err(ProposalError::Superfluous { path });
        }
        self.has |= field::MASTER;
        let mut tuple = Tuples::default();
        for (address, column) in [(fields.source, &mut tuple.source), (fields.destination, &mut tuple.destination)] {
            push(column, address.map_or((0, 0), halves));
        }
        tuple.source_l4.push(fields.source_l4.unwrap_or_default());
        tuple.destination_l4.push(fields.destination_l4.unwrap_or_default());
        let master = &mut self.rare().master;
        (master.rows, master.protocol, master.tuple) = (vec![0], vec![number], tuple);
        master.zone = vec![fields.zone.unwrap_or_default()];
        Ok(())
    }

    /// Takes the translations of both ends, which the encoder writes in the order of their column.
    fn translations(&mut self, walk: &mut Walk<'_>) -> Result<(), ProposalError> {
        let source = self.translation(walk, flow::NAT_SRC)?;
        self.translation(walk, flow::NAT_DST)?;
        if !source {
            self.translation(walk, flow::NAT_SRC)?;
        }
        Ok(())
    }

    /// Takes the translation of one end; returns false if it is not the next attribute.
    fn translation(&mut self, walk: &mut Walk<'_>, kind: u16) -> Result<bool, ProposalError> {
        let Some(mut walk) = walk.nest(kind)? else { return Ok(false) };
        let (mut first, mut last): (Halves, Halves) = ((0, 0), (0, 0));
        for (end, v4, v6) in
            [(&mut first, part::NAT_V4_MINIP, part::NAT_V6_MINIP), (&mut last, part::NAT_V4_MAXIP, part::NAT_V6_MAXIP)]
        {
            if let Some(address) = address(&mut walk, self.family, [v4, v6])? {
                *end = halves(address);
                if *end == (0, 0) {
                    return Err(ProposalError::Superfluous { path: walk.path(v6) });
                }
            }
        }
        let mut ports = [0; 2];
        let path = walk.path(part::NAT_PROTO);
        if let Some(mut walk) = walk.nest(part::NAT_PROTO)? {
            for (port, kind) in ports.iter_mut().zip([part::PROTONAT_PORT_MIN, part::PROTONAT_PORT_MAX]) {
                *port = u16::from_be_bytes(walk.required(kind)?);
            }
            walk.end()?;
            if ports == [0, 0] {
                return Err(ProposalError::Superfluous { path });
            }
        }
        walk.end()?;
        let [first_port, last_port] = ports;
        let destination = kind == flow::NAT_DST;
        self.has |= if destination { field::DESTINATION_NAT } else { field::SOURCE_NAT };
        let nat = &mut self.rare().nat;
        nat.rows.push(0);
        nat.destination.push(destination.into());
        push(&mut nat.first, first);
        push(&mut nat.last, last);
        nat.first_port.push(first_port);
        nat.last_port.push(last_port);
        Ok(true)
    }

    /// Takes the sequence adjustments of both directions, which the encoder writes in the order of their column.
    fn sequences(&mut self, walk: &mut Walk<'_>) -> Result<(), ProposalError> {
        let original = self.sequence(walk, flow::SEQ_ADJ_ORIG)?;
        self.sequence(walk, flow::SEQ_ADJ_REPLY)?;
        if !original {
            self.sequence(walk, flow::SEQ_ADJ_ORIG)?;
        }
        Ok(())
    }

    /// Takes the sequence adjustment of one direction; returns false if it is not the next attribute.
    fn sequence(&mut self, walk: &mut Walk<'_>, kind: u16) -> Result<bool, ProposalError> {
        let Some(walk) = walk.nest(kind)? else { return Ok(false) };
        let parts = [part::SEQADJ_CORRECTION_POS, part::SEQADJ_OFFSET_BEFORE, part::SEQADJ_OFFSET_AFTER];
        let [position, before, after] = triple(walk, parts)?;
        let reply = kind == flow::SEQ_ADJ_REPLY;
        self.has |= if reply { field::REPLY_SEQUENCE } else { field::ORIGINAL_SEQUENCE };
        let sequence = &mut self.rare().sequence;
        sequence.rows.push(0);
        sequence.reply.push(reply.into());
        sequence.position.push(position);
        sequence.before.push(before);
        sequence.after.push(after);
        Ok(true)
    }

    fn helper(&mut self, mut walk: Walk<'_>) -> Result<(), ProposalError> {
        let path = walk.path(part::HELP_NAME);
        let name = walk.bytes(part::HELP_NAME, 1, bounds::MAX_HELPER + 1)?.ok_or(ProposalError::Missing { path })?;
        let name = name.strip_suffix(&[0]).filter(|name| !name.contains(&0)).ok_or(ProposalError::HelperName)?;
        self.has |= field::HELPER;
        push_sparse(&mut self.rare().helper, 0, name);
        if let Some(info) = walk.bytes(part::HELP_INFO, 0, bounds::MAX_HELPER_INFO)? {
            self.has |= field::HELPER_INFO;
            push_sparse(&mut self.rare().helper_info, 0, info);
        }
        walk.end()
    }

    /// Takes a set of labels, words of 32 bits.
    fn labels(&mut self, walk: &mut Walk<'_>, kind: u16, bit: u64) -> Result<(), ProposalError> {
        let Some(set) = walk.bytes(kind, 4, bounds::MAX_LABELS)? else { return Ok(()) };
        if !set.len().is_multiple_of(4) {
            return Err(ProposalError::Words { path: walk.path(kind), length: set.len() });
        }
        self.has |= bit;
        let rare = self.rare();
        let column: &mut SparseTexts = if bit == field::LABELS { &mut rare.labels } else { &mut rare.labels_mask };
        push_sparse(column, 0, &normalise_labels(set));
        Ok(())
    }
}
