//! The conditions of a selector, each with the column that it reads.

use flowgate_plugin_query::keep;
use flowgate_sdk::{
    Flows, Selection,
    bindings::flowgate::conntrack::{
        columns::Addresses,
        selector::{Direction, Masked, Network, Translation},
    },
    field,
};

use crate::nat::{self, Side};

/// A condition. All conditions of a selector must hold.
pub(crate) enum Condition {
    Family(u8),
    Protocol(u8),
    Address(Word, Network),
    Layer4(Word, Masked),
    Zone(Zone, u16),
    State(u8),
    Status(Masked),
    Mark(Masked),
    Secmark(u32),
    Labels(Vec<u8>),
    Id(u32),
    Timeout(u32),
    Nat(Side, Translation),
}

/// One of the four addresses or layer-4 words.
#[derive(Clone, Copy)]
pub(crate) enum Word {
    Source,
    Destination,
    ReplySource,
    ReplyDestination,
}

/// One of the three zones.
#[derive(Clone, Copy)]
pub(crate) enum Zone {
    Both,
    Original,
    Reply,
}

/// Returns the conditions of a selector.
pub(crate) fn compile(selection: Selection) -> Vec<Condition> {
    let mut all = Vec::new();
    all.extend(selection.family.map(Condition::Family));
    all.extend(selection.protocol.map(Condition::Protocol));
    direction(&mut all, selection.original, [Word::Source, Word::Destination], Zone::Original);
    direction(&mut all, selection.reply, [Word::ReplySource, Word::ReplyDestination], Zone::Reply);
    all.extend(selection.state.map(Condition::State));
    all.extend(selection.status.map(Condition::Status));
    all.extend(selection.mark.map(Condition::Mark));
    all.extend(selection.secmark.map(Condition::Secmark));
    all.extend(selection.zone.map(|zone| Condition::Zone(Zone::Both, zone)));
    all.extend(selection.id.map(Condition::Id));
    all.extend(selection.timeout.map(Condition::Timeout));
    if !selection.labels.is_empty() {
        all.push(Condition::Labels(selection.labels));
    }
    all.extend(selection.source_nat.map(|nat| Condition::Nat(Side::Source, nat)));
    all.extend(selection.destination_nat.map(|nat| Condition::Nat(Side::Destination, nat)));
    all.extend(selection.any_nat.map(|nat| Condition::Nat(Side::Either, nat)));
    all
}

fn direction(all: &mut Vec<Condition>, direction: Direction, [source, destination]: [Word; 2], zone: Zone) {
    all.extend(direction.source.map(|network| Condition::Address(source, network)));
    all.extend(direction.destination.map(|network| Condition::Address(destination, network)));
    all.extend(direction.source_l4.map(|word| Condition::Layer4(source, word)));
    all.extend(direction.destination_l4.map(|word| Condition::Layer4(destination, word)));
    all.extend(direction.zone.map(|number| Condition::Zone(zone, number)));
}

impl Condition {
    /// Returns the fields that a flow must carry. A missing zone counts as 0, and NAT checks its fields itself.
    pub(crate) fn requires(&self) -> u64 {
        match self {
            Condition::Family(_) | Condition::Zone(..) | Condition::Nat(..) => 0,
            Condition::Protocol(_) => field::PROTOCOL,
            Condition::Address(Word::Source, _) => field::SOURCE,
            Condition::Address(Word::Destination, _) => field::DESTINATION,
            Condition::Address(Word::ReplySource, _) => field::REPLY_SOURCE,
            Condition::Address(Word::ReplyDestination, _) => field::REPLY_DESTINATION,
            Condition::Layer4(Word::Source, _) => field::SOURCE_L4,
            Condition::Layer4(Word::Destination, _) => field::DESTINATION_L4,
            Condition::Layer4(Word::ReplySource, _) => field::REPLY_SOURCE_L4,
            Condition::Layer4(Word::ReplyDestination, _) => field::REPLY_DESTINATION_L4,
            Condition::State(_) => field::STATE,
            Condition::Status(_) => field::STATUS,
            Condition::Mark(_) => field::MARK,
            Condition::Secmark(_) => field::SECMARK,
            Condition::Labels(_) => field::LABELS,
            Condition::Id(_) => field::ID,
            Condition::Timeout(_) => field::TIMEOUT,
        }
    }

    /// Clears the verdicts of rows that do not match.
    pub(crate) fn apply(&self, batch: &Flows, verdicts: &mut [u8]) {
        match self {
            Condition::Family(number) => keep(verdicts, &batch.family, |family| family == *number),
            Condition::Protocol(number) => keep(verdicts, &batch.protocol, |protocol| protocol == *number),
            Condition::Address(which, network) => {
                let (original, reply) = (&batch.original, &batch.reply);
                let column = match which {
                    Word::Source => &original.source,
                    Word::Destination => &original.destination,
                    Word::ReplySource => &reply.source,
                    Word::ReplyDestination => &reply.destination,
                };
                address(verdicts, column, network);
            }
            Condition::Layer4(which, Masked { value, mask }) => {
                let column = match which {
                    Word::Source => &batch.original.source_l4,
                    Word::Destination => &batch.original.destination_l4,
                    Word::ReplySource => &batch.reply.source_l4,
                    Word::ReplyDestination => &batch.reply.destination_l4,
                };
                keep(verdicts, column, |word| u32::from(word) & mask == *value);
            }
            Condition::Zone(which, number) => zone(verdicts, batch, *which, *number),
            Condition::State(number) => keep(verdicts, &batch.state, |state| state == *number),
            Condition::Status(Masked { value, mask }) => keep(verdicts, &batch.status, |bits| bits & mask == *value),
            Condition::Mark(Masked { value, mask }) => keep(verdicts, &batch.mark, |mark| mark & mask == *value),
            Condition::Secmark(number) => {
                let column = batch.rare.as_ref().map_or(&[][..], |rare| &rare.secmark);
                keep(verdicts, column, |mark| mark == *number);
            }
            Condition::Id(number) => keep(verdicts, &batch.id, |id| id == *number),
            Condition::Timeout(seconds) => keep(verdicts, &batch.timeout, |timeout| timeout == *seconds),
            Condition::Labels(bits) => labels(verdicts, batch, bits),
            Condition::Nat(side, translation) => nat::apply(verdicts, batch, *side, translation),
        }
    }
}

/// Halves with an empty mask are skipped.
fn address(verdicts: &mut [u8], column: &Addresses, Network { value, mask }: &Network) {
    for (half, value, mask) in [(&column.hi, value.hi, mask.hi), (&column.lo, value.lo, mask.lo)] {
        if mask != 0 {
            let value = value & mask;
            keep(verdicts, half, |half| half & mask == value);
        }
    }
}

fn zone(verdicts: &mut [u8], batch: &Flows, which: Zone, number: u16) {
    let Some(zones) = &batch.zones else {
        return keep(verdicts, &[], |_: u16| number == 0);
    };
    let (column, bit) = match which {
        Zone::Both => (&zones.zone, field::ZONE),
        Zone::Original => (&zones.original, field::ORIGINAL_ZONE),
        Zone::Reply => (&zones.reply, field::REPLY_ZONE),
    };
    if column.is_empty() {
        return keep(verdicts, column, |_| number == 0);
    }
    for ((verdict, &has), &zone) in verdicts.iter_mut().zip(&batch.has).zip(column) {
        let zone = if has & bit != 0 { zone } else { 0 };
        *verdict &= u8::from(zone == number);
    }
}

/// Labels are sparse and their rows ascend, so that one pass over both suffices.
fn labels(verdicts: &mut [u8], batch: &Flows, wanted: &[u8]) {
    let Some(labels) = batch.rare.as_ref().map(|rare| &rare.labels) else {
        return verdicts.fill(0);
    };
    let mut rows = labels.rows.iter().enumerate().peekable();
    for (row, verdict) in verdicts.iter_mut().enumerate() {
        while rows.next_if(|&(_, &of)| (of as usize) < row).is_some() {}
        let bits = match rows.peek() {
            Some(&(item, &of)) if of as usize == row => labels.texts.get(item),
            _ => None,
        };
        let set =
            |bits: &[u8]| wanted.iter().enumerate().all(|(i, &want)| bits.get(i).copied().unwrap_or(0) & want == want);
        *verdict &= u8::from(bits.is_some_and(set));
    }
}
