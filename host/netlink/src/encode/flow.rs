//! Encoding of requests about flows: create, update, delete, get; and the flush.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ProtoInfo, ProtoInfoTCP, Status};

use super::{EncodeError, FlowEntry, find, nul_terminated, text};
use crate::decode::normalise_labels;
use crate::filter::ExactFilter;
use crate::request::{Request, RequestHeader};
use crate::tuple::{TupleFields, address_of, nest};
use crate::wire::{self, flow, flow_message, part, protoinfo};
use flowgate_model::{at, field, protocol, status};

/// Maximum length of a helper's name, NF_CT_HELPER_NAME_LEN without the NUL.
const HELPER_NAME: usize = 15;
/// Maximum length of a helper's opaque data; an attribute is limited to 64 KiB.
const HELPER_INFO: usize = 4096;
/// Maximum length of a bit set of labels; the kernel accepts 16 bytes and answers ERANGE to more.
const LABELS: usize = 256;

/// The effect of a creation if the flow already exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// It fails with EEXIST.
    Fail,
    /// It updates the flow.
    Update,
}

/// Encodes a request to create a flow with those fields of `entry` that a creation can set: tuples, zones, status
/// (always with CONFIRMED), timeout, mark, protocol state, master, NAT, sequence adjustment, helper, labels, SYN proxy.
/// The kernel requires both tuples and the timeout.
///
/// # Errors
/// The kernel does not support the family or accept a text.
pub fn create(entry: FlowEntry<'_>, if_exists: IfExists) -> Result<Request, EncodeError> {
    encode_create(entry, if_exists, None)
}

/// Encodes a request to create or update a flow as [`create`] does, with the id of the flow that would be updated, if
/// it is given, see [`update_with_id`].
pub(crate) fn create_or_update_with_id(entry: FlowEntry<'_>) -> Result<Request, EncodeError> {
    encode_create(entry, IfExists::Update, id(&entry))
}

fn encode_create(
    entry: FlowEntry<'_>,
    if_exists: IfExists,
    id: Option<ConntrackAttribute>,
) -> Result<Request, EncodeError> {
    let exclusive = if if_exists == IfExists::Fail { wire::EXCLUSIVE } else { 0 };
    let header =
        RequestHeader { flags: wire::CREATE | wire::ACK | exclusive, family: entry.checked_family()?, version: 0 };
    let mut attributes = tuples(&entry, true);
    attributes.extend(id);
    attributes.extend(zone(&entry));
    // The kernel sets EXPECTED itself for a flow with a master, and refuses the bit (EBUSY). Without a master the bit
    // is sent, so that the kernel's refusal is reported.
    let implied = if entry.has(field::MASTER) { status::EXPECTED } else { 0 };
    values(&entry, None, !(implied | status::DYING), &mut attributes)?;
    Ok(Request::flows(flow_message::NEW, header, attributes))
}

/// Encodes a request to set the fields of `values_of` in the flow with the tuple and zone of `of` (the original tuple,
/// or the reply tuple if it is the only one).
///
/// TCP window scales and flags take effect only together with a state; a mark mask and a labels mask limit what is
/// changed. The kernel applies helper, timeout, status, protocol state, mark, sequence adjustment, SYN proxy, labels in
/// this order, and keeps what it applied before a failure.
///
/// # Errors
/// The kernel does not support the family or accept a text.
pub fn update(of: FlowEntry<'_>, values_of: FlowEntry<'_>) -> Result<Request, EncodeError> {
    encode_update(of, values_of, None)
}

/// Encodes an update as [`update`] does, with the id of `of`, if it has one. The kernel ignores the id of an update; it
/// is for a process that compares it before it updates the flow.
pub(crate) fn update_with_id(of: FlowEntry<'_>, values_of: FlowEntry<'_>) -> Result<Request, EncodeError> {
    encode_update(of, values_of, id(&of))
}

fn encode_update(
    of: FlowEntry<'_>,
    values_of: FlowEntry<'_>,
    id: Option<ConntrackAttribute>,
) -> Result<Request, EncodeError> {
    let header = RequestHeader { flags: wire::ACK, family: of.checked_family()?, version: 0 };
    let mut attributes = tuples(&of, false);
    attributes.extend(id);
    attributes.extend(zone(&of));
    let number = of.has(field::PROTOCOL | field::REPLY_PROTOCOL).then(|| at(&of.flows.protocol, of.row));
    values(&values_of, number, u32::MAX, &mut attributes)?;
    Ok(Request::flows(flow_message::NEW, header, attributes))
}

/// Encodes a request for the flow with the tuple and zone of `entry`. The answer is the flow, without an
/// acknowledgement.
///
/// # Errors
/// The kernel does not support the family.
pub fn get(entry: FlowEntry<'_>) -> Result<Request, EncodeError> {
    let header = RequestHeader { flags: 0, family: entry.checked_family()?, version: 0 };
    let mut attributes = tuples(&entry, false);
    attributes.extend(zone(&entry));
    Ok(Request::flows(flow_message::GET, header, attributes))
}

/// Encodes a request to delete the flow with the tuple and zone of `entry`: the original tuple if it is complete, else
/// the reply tuple. With an `id`, the flow is deleted only if its id is the same (else ENOENT).
///
/// # Errors
/// Neither tuple is complete; without one the kernel may delete the whole table.
pub fn delete(entry: FlowEntry<'_>) -> Result<Request, EncodeError> {
    let header = RequestHeader { flags: wire::ACK, family: entry.checked_family()?, version: 0 };
    let (original, reply) = (TupleFields::original(&entry), TupleFields::reply(&entry));
    let mut attributes = match (original.missing(), reply.missing()) {
        (0, _) => vec![ConntrackAttribute::CtaTupleOrig(original.attributes())],
        (_, 0) => vec![ConntrackAttribute::CtaTupleReply(reply.attributes())],
        (missing, _) => return Err(EncodeError::IncompleteTuple { missing }),
    };
    attributes.extend(id(&entry));
    attributes.extend(zone(&entry));
    Ok(Request::flows(flow_message::DELETE, header, attributes))
}

/// Encodes a request to delete all flows that pass a filter (since Linux 6.12; earlier kernels refuse it with EINVAL or
/// ENOENT, see [`ExactFilter::attributes`]). The kernel does not report their number.
#[must_use]
pub fn delete_matching(filter: &ExactFilter) -> Request {
    // With version 1 of the netfilter header the kernel heeds the family.
    let header = RequestHeader { flags: wire::ACK, family: filter.family(), version: 1 };
    Request::flows(flow_message::DELETE, header, filter.attributes())
}

/// Encodes a request to delete **all** flows of both families. `family` is 0, or each family in turn for a kernel that
/// refuses 0; other kernels ignore it in version 0 of the netfilter header.
#[must_use]
pub fn flush(family: u8) -> Request {
    Request::flows(flow_message::DELETE, RequestHeader { flags: wire::ACK, family, version: 0 }, Vec::new())
}

/// Encodes the tuples: both for a creation, else one, which identifies the flow.
fn tuples(entry: &FlowEntry<'_>, both: bool) -> Vec<ConntrackAttribute> {
    let mut attributes = Vec::new();
    let (original, reply) = (TupleFields::original(entry), TupleFields::reply(entry));
    if !original.is_empty() {
        attributes.push(ConntrackAttribute::CtaTupleOrig(original.attributes()));
    }
    if !reply.is_empty() && (both || original.missing() != 0) {
        attributes.push(ConntrackAttribute::CtaTupleReply(reply.attributes()));
    }
    attributes
}

fn id(entry: &FlowEntry<'_>) -> Option<ConntrackAttribute> {
    entry.has(field::ID).then(|| plain(flow::ID, &at(&entry.flows.id, entry.row).to_be_bytes()))
}

fn zone(entry: &FlowEntry<'_>) -> Option<ConntrackAttribute> {
    let zones = entry.flows.zones.as_ref().filter(|_| entry.has(field::ZONE))?;
    Some(plain(flow::ZONE, &at(&zones.zone, entry.row).to_be_bytes()))
}

/// Encodes the values, without the key. `number` is the flow's protocol, if the values do not have it.
fn values(
    entry: &FlowEntry<'_>,
    number: Option<u8>,
    status_mask: u32,
    attributes: &mut Vec<ConntrackAttribute>,
) -> Result<(), EncodeError> {
    let (flows, row) = (entry.flows, entry.row);
    if entry.has(field::STATUS) {
        // The kernel refuses a status without CONFIRMED, which every flow in its table has.
        let bits = at(&flows.status, row) & status_mask | status::CONFIRMED;
        attributes.push(ConntrackAttribute::CtaStatus(Status::from_bits_retain(bits)));
    }
    if entry.has(field::TIMEOUT) {
        attributes.push(ConntrackAttribute::CtaTimeout(at(&flows.timeout, row)));
    }
    if entry.has(field::MARK) {
        attributes.push(ConntrackAttribute::CtaMark(at(&flows.mark, row)));
    }
    let number =
        if entry.has(field::PROTOCOL | field::REPLY_PROTOCOL) { Some(at(&flows.protocol, row)) } else { number };
    attributes.extend(protoinfo_of(entry, number));
    let Some(rare) = &flows.rare else {
        return Ok(());
    };
    if entry.has(field::MARK_MASK) && entry.has(field::MARK) {
        attributes.push(plain(flow::MARK_MASK, &at(&rare.mark_mask, row).to_be_bytes()));
    }
    if entry.has(field::MASTER)
        && let Some(index) = find(&rare.master.rows, row)
    {
        attributes.push(ConntrackAttribute::Other(master(entry, index).to_attribute(flow::TUPLE_MASTER)));
    }
    translations(entry, attributes)?;
    sequences(entry, attributes)?;
    if entry.has(field::HELPER)
        && let Some(helper) = text(&rare.helper, row)
    {
        let mut parts =
            vec![DefaultNla::new(part::HELP_NAME, nul_terminated("the name of a helper", helper, HELPER_NAME)?)];
        if entry.has(field::HELPER_INFO)
            && let Some(info) = text(&rare.helper_info, row)
        {
            check_length("the data of a helper", info, HELPER_INFO)?;
            parts.push(DefaultNla::new(part::HELP_INFO, info.to_vec()));
        }
        attributes.push(ConntrackAttribute::Other(nest(flow::HELP, &parts)));
    }
    for (bit, column, kind) in
        [(field::LABELS, &rare.labels, flow::LABELS), (field::LABELS_MASK, &rare.labels_mask, flow::LABELS_MASK)]
    {
        if entry.has(bit)
            && let Some(labels) = text(column, row)
        {
            check_length("a set of labels", labels, LABELS)?;
            let mut labels = labels.to_vec();
            // Words of 32 bits; an empty set is one zero word.
            labels.resize(labels.len().next_multiple_of(4).max(4), 0);
            attributes.push(plain(kind, &normalise_labels(&labels)));
        }
    }
    if entry.has(field::SYNPROXY)
        && let Some(index) = find(&rare.synproxy.rows, row)
    {
        let proxy = &rare.synproxy;
        attributes.push(triple(
            flow::SYNPROXY,
            [
                (part::SYNPROXY_ISN, at(&proxy.isn, index)),
                (part::SYNPROXY_ITS, at(&proxy.its, index)),
                (part::SYNPROXY_TSOFF, at(&proxy.tsoff, index)),
            ],
        ));
    }
    Ok(())
}

fn protoinfo_of(entry: &FlowEntry<'_>, number: Option<u8>) -> Option<ConntrackAttribute> {
    let (flows, row) = (entry.flows, entry.row);
    let state = entry.has(field::STATE).then(|| at(&flows.state, row));
    let info = match number? {
        protocol::TCP => {
            let mut parts: Vec<ProtoInfoTCP> = state.map(ProtoInfoTCP::State).into_iter().collect();
            if let Some(tcp) = &flows.tcp {
                let flags = |kind, column: &[u16]| {
                    ProtoInfoTCP::Other(DefaultNla::new(kind, at(column, row).to_be_bytes().to_vec()))
                };
                if entry.has(field::ORIGINAL_WINDOW_SCALE) {
                    parts.push(ProtoInfoTCP::OriginalWindowScale(at(&tcp.original_window_scale, row)));
                }
                if entry.has(field::REPLY_WINDOW_SCALE) {
                    parts.push(ProtoInfoTCP::ReplyWindowScale(at(&tcp.reply_window_scale, row)));
                }
                if entry.has(field::ORIGINAL_TCP_FLAGS) {
                    parts.push(flags(protoinfo::TCP_FLAGS_ORIGINAL, &tcp.original_flags));
                }
                if entry.has(field::REPLY_TCP_FLAGS) {
                    parts.push(flags(protoinfo::TCP_FLAGS_REPLY, &tcp.reply_flags));
                }
            }
            (!parts.is_empty()).then_some(ProtoInfo::TCP(parts))?
        }
        protocol::SCTP => {
            let mut parts: Vec<DefaultNla> =
                state.map(|state| DefaultNla::new(protoinfo::SCTP_STATE, vec![state])).into_iter().collect();
            if let Some(sctp) = &flows.sctp {
                for (bit, kind, column) in [
                    (field::ORIGINAL_VTAG, protoinfo::SCTP_VTAG_ORIGINAL, &sctp.original_vtag),
                    (field::REPLY_VTAG, protoinfo::SCTP_VTAG_REPLY, &sctp.reply_vtag),
                ] {
                    if entry.has(bit) {
                        parts.push(DefaultNla::new(kind, at(column, row).to_be_bytes().to_vec()));
                    }
                }
            }
            return untyped_protoinfo(protoinfo::SCTP, &parts);
        }
        protocol::DCCP => {
            let mut parts: Vec<DefaultNla> =
                state.map(|state| DefaultNla::new(protoinfo::DCCP_STATE, vec![state])).into_iter().collect();
            if entry.has(field::DCCP)
                && let Some(dccp) = flows.rare.as_ref().map(|rare| &rare.dccp)
                && let Some(index) = find(&dccp.rows, row)
            {
                parts.push(DefaultNla::new(protoinfo::DCCP_ROLE, vec![at(&dccp.role, index)]));
                let handshake = at(&dccp.handshake, index).to_be_bytes();
                parts.push(DefaultNla::new(protoinfo::DCCP_HANDSHAKE_SEQ, handshake.to_vec()));
            }
            return untyped_protoinfo(protoinfo::DCCP, &parts);
        }
        _ => return None,
    };
    Some(ConntrackAttribute::CtaProtoInfo(vec![info]))
}

/// Returns CTA_PROTOINFO of a protocol for which netlink-packet-netfilter has no type, if it has any attribute.
fn untyped_protoinfo(kind: u16, parts: &[DefaultNla]) -> Option<ConntrackAttribute> {
    (!parts.is_empty()).then(|| ConntrackAttribute::Other(nest(flow::PROTOINFO, &[nest(kind, parts)])))
}

/// Returns the tuple of the master at `index` of the sparse column.
fn master(entry: &FlowEntry<'_>, index: usize) -> TupleFields {
    let masters = match &entry.flows.rare {
        Some(rare) => &rare.master,
        None => return TupleFields::default(),
    };
    let number = at(&masters.protocol, index);
    let zone = at(&masters.zone, index);
    let l4 = protocol::is_icmp(number) || protocol::has_ports(number) || number == protocol::GRE;
    let has = field::ORIGINAL_ADDRESSES
        | field::PROTOCOL
        | if l4 { field::ORIGINAL_L4 } else { 0 }
        | if zone != 0 { field::ORIGINAL_ZONE } else { 0 };
    TupleFields::new(&masters.tuple, index, entry.family, number, zone, has)
}

/// Encodes CTA_NAT_SRC and CTA_NAT_DST. An address of zeroes only (not even IPv4-mapped) and ports 0 are left out.
fn translations(entry: &FlowEntry<'_>, attributes: &mut Vec<ConntrackAttribute>) -> Result<(), EncodeError> {
    let Some(nat) = entry.flows.rare.as_ref().map(|rare| &rare.nat) else {
        return Ok(());
    };
    let Some(first) = find(&nat.rows, entry.row) else {
        return Ok(());
    };
    let v4 = entry.family == flowgate_model::family::IPV4;
    let [low, high] =
        if v4 { [part::NAT_V4_MINIP, part::NAT_V4_MAXIP] } else { [part::NAT_V6_MINIP, part::NAT_V6_MAXIP] };
    let mut seen = 0;
    let of_row = nat.rows.iter().skip(first).take_while(|row| **row as usize == entry.row).count();
    for index in first..first + of_row {
        let (bit, kind) = match at(&nat.destination, index) {
            0 => (field::SOURCE_NAT, flow::NAT_SRC),
            _ => (field::DESTINATION_NAT, flow::NAT_DST),
        };
        if !entry.has(bit) {
            continue;
        }
        if seen & bit != 0 {
            return Err(EncodeError::Repeated { what: "the translation of an end" });
        }
        seen |= bit;
        let mut parts = Vec::new();
        for (kind, column) in [(low, &nat.first), (high, &nat.last)] {
            let halves = (at(&column.hi, index), at(&column.lo, index));
            if halves != (0, 0) {
                let address = address_of(halves.0, halves.1, entry.family);
                let bytes = match address {
                    std::net::IpAddr::V4(address) => address.octets().to_vec(),
                    std::net::IpAddr::V6(address) => address.octets().to_vec(),
                };
                parts.push(DefaultNla::new(kind, bytes));
            }
        }
        let ports = [at(&nat.first_port, index), at(&nat.last_port, index)];
        if ports != [0, 0] {
            let [min, max] = ports.map(|port| port.to_be_bytes().to_vec());
            parts.push(nest(
                part::NAT_PROTO,
                &[DefaultNla::new(part::PROTONAT_PORT_MIN, min), DefaultNla::new(part::PROTONAT_PORT_MAX, max)],
            ));
        }
        attributes.push(ConntrackAttribute::Other(nest(kind, &parts)));
    }
    Ok(())
}

/// Encodes CTA_SEQ_ADJ_ORIG and CTA_SEQ_ADJ_REPLY.
fn sequences(entry: &FlowEntry<'_>, attributes: &mut Vec<ConntrackAttribute>) -> Result<(), EncodeError> {
    let Some(sequence) = entry.flows.rare.as_ref().map(|rare| &rare.sequence) else {
        return Ok(());
    };
    let Some(first) = find(&sequence.rows, entry.row) else {
        return Ok(());
    };
    let mut seen = 0;
    let of_row = sequence.rows.iter().skip(first).take_while(|row| **row as usize == entry.row).count();
    for index in first..first + of_row {
        let (bit, kind) = match at(&sequence.reply, index) {
            0 => (field::ORIGINAL_SEQUENCE, flow::SEQ_ADJ_ORIG),
            _ => (field::REPLY_SEQUENCE, flow::SEQ_ADJ_REPLY),
        };
        if entry.has(bit) {
            if seen & bit != 0 {
                return Err(EncodeError::Repeated { what: "the sequence adjustment of a direction" });
            }
            seen |= bit;
            attributes.push(triple(
                kind,
                [
                    (part::SEQADJ_CORRECTION_POS, at(&sequence.position, index)),
                    (part::SEQADJ_OFFSET_BEFORE, at(&sequence.before, index)),
                    (part::SEQADJ_OFFSET_AFTER, at(&sequence.after, index)),
                ],
            ));
        }
    }
    Ok(())
}

/// Encodes a nest of three 32-bit numbers.
fn triple(kind: u16, numbers: [(u16, u32); 3]) -> ConntrackAttribute {
    let parts = numbers.map(|(kind, number)| DefaultNla::new(kind, number.to_be_bytes().to_vec()));
    ConntrackAttribute::Other(nest(kind, &parts))
}

/// Returns an attribute for which netlink-packet-netfilter has no type.
fn plain(kind: u16, value: &[u8]) -> ConntrackAttribute {
    ConntrackAttribute::Other(DefaultNla::new(kind, value.to_vec()))
}

fn check_length(what: &'static str, bytes: &[u8], limit: usize) -> Result<(), EncodeError> {
    if bytes.len() > limit { Err(EncodeError::TooLong { what, length: bytes.len(), limit }) } else { Ok(()) }
}
