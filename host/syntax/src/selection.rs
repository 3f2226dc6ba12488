//! From what was typed to the selector: which flows are meant.

use std::net::IpAddr;

use super::labels::LabelSet;
use super::options::Key;
use super::protocols::{ProtocolKey, ProtocolValues};
use super::request::{Nat, Request};
use super::settings::{Command, Table};
use super::values;
use flowgate_model::{Direction, Masked, Network, Selection, Translation};

/// The bits whose absence `-u UNSET` means where a status is compared: those that saved flows are described by.
const UNSET_MASK: u32 = flowgate_model::status::EXPECTED
    | flowgate_model::status::SEEN_REPLY
    | flowgate_model::status::ASSURED
    | flowgate_model::status::FIXED_TIMEOUT;

/// The flows that a command is about; everything for commands that do not select.
pub(crate) fn build(
    request: &Request,
    command: Command,
    table: Table,
    family: Option<u8>,
    labels: LabelSet,
) -> Selection {
    let selects = matches!(command, Command::List | Command::Get | Command::Delete | Command::Update | Command::Events);
    if table == Table::Expect || !selects {
        return Selection::default();
    }
    // What -U is given besides tuples is to be set, not compared.
    let updates = command == Command::Update;
    let given = request.given;
    let compared = |key: Key| !updates && given.contains(key);
    let values = &request.protocol_values;
    let [original_l4, reply_l4] = words(request);
    Selection {
        family,
        protocol: request.protocol.map(|protocol| protocol.number),
        original: Direction {
            source: network(request.source, request.mask_source),
            destination: network(request.destination, request.mask_destination),
            source_l4: original_l4[0],
            destination_l4: original_l4[1],
            zone: given.contains(Key::OriginalZone).then_some(request.original_zone),
        },
        reply: Direction {
            source: network(request.reply_source, None),
            destination: network(request.reply_destination, None),
            source_l4: reply_l4[0],
            destination_l4: reply_l4[1],
            zone: given.contains(Key::ReplyZone).then_some(request.reply_zone),
        },
        state: values.if_given(ProtocolKey::State, values.state).filter(|_| !updates),
        status: compared(Key::Status).then(|| status(request, command)),
        mark: compared(Key::Mark).then_some(request.mark),
        secmark: compared(Key::Secmark).then_some(request.secmark),
        zone: given.contains(Key::Zone).then_some(request.zone),
        labels: labels.into_bytes(),
        source_nat: given.contains(Key::SourceNat).then(|| translation(request.source_nat)),
        destination_nat: given.contains(Key::DestinationNat).then(|| translation(request.destination_nat)),
        any_nat: given.contains(Key::AnyNat).then(|| translation(request.any_nat)),
        id: given.contains(Key::Id).then_some(request.id),
        timeout: compared(Key::Timeout).then_some(request.timeout),
    }
}

fn network(address: Option<IpAddr>, mask: Option<IpAddr>) -> Option<Network> {
    let address = address?;
    let mask = mask.map_or(flowgate_model::Address { hi: u64::MAX, lo: u64::MAX }, |mask| values::mask_halves(&mask));
    Some(Network { value: values::halves(&address), mask })
}

/// Plain names must be set and negated ones must not.
fn status(request: &Request, command: Command) -> Masked {
    let status = request.status;
    let mask = status.set | status.clear;
    if mask == 0 && command == Command::Delete {
        return Masked { value: 0, mask: UNSET_MASK };
    }
    Masked { value: status.set, mask }
}

fn translation(nat: Nat) -> Translation {
    Translation { address: nat.address.map(|address| values::halves(&address)), port: nat.port }
}

/// Conditions on the layer-4 words of both directions.
fn words(request: &Request) -> [[Option<Masked>; 2]; 2] {
    let given = &request.protocol_values;
    if request.protocol.is_some_and(|protocol| flowgate_model::protocol::is_icmp(protocol.number)) {
        return [icmp(given), [None, None]];
    }
    let word = |key, value: u16| given.if_given(key, Masked { value: u32::from(value), mask: 0xffff });
    [
        [word(ProtocolKey::Source, given.original[0]), word(ProtocolKey::Destination, given.original[1])],
        [word(ProtocolKey::ReplySource, given.reply[0]), word(ProtocolKey::ReplyDestination, given.reply[1])],
    ]
}

/// The identifier is the first word; type and code share the second.
fn icmp(given: &ProtocolValues) -> [Option<Masked>; 2] {
    let id = given.if_given(ProtocolKey::IcmpId, Masked { value: u32::from(given.icmp_id), mask: 0xffff });
    let mut type_and_code = Masked::default();
    if given.has(ProtocolKey::IcmpType) {
        type_and_code.value |= u32::from(given.icmp_type) << 8;
        type_and_code.mask |= 0xff00;
    }
    if given.has(ProtocolKey::IcmpCode) {
        type_and_code.value |= u32::from(given.icmp_code);
        type_and_code.mask |= 0xff;
    }
    [id, (type_and_code.mask != 0).then_some(type_and_code)]
}
