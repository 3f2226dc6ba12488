//! From parsed options to the selection: which flows a command applies to.

use std::net::IpAddr;

use super::labels::LabelSet;
use super::options::OptionKey;
use super::parsed_options::{Nat, ParsedOptions};
use super::protocols::{ProtocolKey, ProtocolValues};
use super::settings::{Command, Table};
use super::values;
use flowgate_model::{Direction, Masked, Network, Selection, Translation};

/// The bits that `-u UNSET` requires to be clear where a status is compared: those that `-o save` writes.
const UNSET_MASK: u32 = flowgate_model::status::EXPECTED
    | flowgate_model::status::SEEN_REPLY
    | flowgate_model::status::ASSURED
    | flowgate_model::status::FIXED_TIMEOUT;

/// Returns the flows that a command applies to: all flows for commands that do not select.
pub(crate) fn build(
    parsed: &ParsedOptions,
    command: Command,
    table: Table,
    family: Option<u8>,
    labels: LabelSet,
) -> Selection {
    let selects = matches!(command, Command::List | Command::Get | Command::Delete | Command::Update | Command::Events);
    if table == Table::Expect || !selects {
        return Selection::default();
    }
    // Options of -U other than tuples are set, not compared.
    let updates = command == Command::Update;
    let given = parsed.given;
    let compared = |key: OptionKey| !updates && given.contains(key);
    let values = &parsed.protocol_values;
    let [original_l4, reply_l4] = l4_words(parsed);
    Selection {
        family,
        protocol: parsed.protocol.map(|protocol| protocol.number),
        original: Direction {
            source: network(parsed.source, parsed.mask_source),
            destination: network(parsed.destination, parsed.mask_destination),
            source_l4: original_l4[0],
            destination_l4: original_l4[1],
            zone: given.contains(OptionKey::OriginalZone).then_some(parsed.original_zone),
        },
        reply: Direction {
            source: network(parsed.reply_source, None),
            destination: network(parsed.reply_destination, None),
            source_l4: reply_l4[0],
            destination_l4: reply_l4[1],
            zone: given.contains(OptionKey::ReplyZone).then_some(parsed.reply_zone),
        },
        state: values.if_given(ProtocolKey::State, values.state).filter(|_| !updates),
        status: compared(OptionKey::Status).then(|| status(parsed, command)),
        mark: compared(OptionKey::Mark).then_some(parsed.mark),
        secmark: compared(OptionKey::Secmark).then_some(parsed.secmark),
        zone: given.contains(OptionKey::Zone).then_some(parsed.zone),
        labels: labels.into_bytes(),
        source_nat: given.contains(OptionKey::SourceNat).then(|| translation(parsed.source_nat)),
        destination_nat: given.contains(OptionKey::DestinationNat).then(|| translation(parsed.destination_nat)),
        any_nat: given.contains(OptionKey::AnyNat).then(|| translation(parsed.any_nat)),
        id: given.contains(OptionKey::Id).then_some(parsed.id),
        timeout: compared(OptionKey::Timeout).then_some(parsed.timeout),
    }
}

fn network(address: Option<IpAddr>, mask: Option<IpAddr>) -> Option<Network> {
    let address = address?;
    let mask = mask.map_or(flowgate_model::Address { hi: u64::MAX, lo: u64::MAX }, |mask| values::to_model_mask(&mask));
    Some(Network { value: values::to_model_address(&address), mask })
}

/// The named bits must be set, the negated bits must be clear.
fn status(parsed: &ParsedOptions, command: Command) -> Masked {
    let status = parsed.status;
    let mask = status.set | status.clear;
    if mask == 0 && command == Command::Delete {
        return Masked { value: 0, mask: UNSET_MASK };
    }
    Masked { value: status.set, mask }
}

fn translation(nat: Nat) -> Translation {
    Translation { address: nat.address.map(|address| values::to_model_address(&address)), port: nat.port }
}

/// Returns the conditions on the layer-4 words of both directions.
fn l4_words(parsed: &ParsedOptions) -> [[Option<Masked>; 2]; 2] {
    let given = &parsed.protocol_values;
    if parsed.protocol.is_some_and(|protocol| flowgate_model::protocol::is_icmp(protocol.number)) {
        return [icmp(given), [None, None]];
    }
    let word = |key, value: u16| given.if_given(key, Masked { value: u32::from(value), mask: 0xffff });
    [
        [word(ProtocolKey::Source, given.original[0]), word(ProtocolKey::Destination, given.original[1])],
        [word(ProtocolKey::ReplySource, given.reply[0]), word(ProtocolKey::ReplyDestination, given.reply[1])],
    ]
}

/// Returns the conditions for ICMP: the identifier is the first word; type and code share the second.
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
