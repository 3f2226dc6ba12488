//! What a condition says about every flow that satisfies it, as far as the kernel's filter can compare it.
//!
//! The result is weaker than the condition, never stronger: a conjunction says what any of its parts says, a
//! disjunction what all of its parts say. The opposite of a comparison says nothing, since it is true of flows without
//! the field, unless each entry of the kernel's table has it. Conditions that contradict each other say either.

use flowgate_model::{Masked, Network, Operation, Selection};
use flowgate_names::{family, protocol, query};

use crate::condition::{Condition, Set, address, bits, integer, is_ipv6_range, members};

/// Mask of a layer-4 word.
const WORD: u32 = 0xffff;

/// Returns what every flow that satisfies the condition satisfies.
pub(crate) fn selection(condition: &Condition) -> Selection {
    let mut selection = implied(condition, true).unwrap_or_default();
    // The kernel compares whole addresses and words.
    for direction in [&mut selection.original, &mut selection.reply] {
        for network in [&mut direction.source, &mut direction.destination] {
            *network = network.filter(|network| bits(network.mask) == u128::MAX);
        }
        let icmp = selection.protocol.is_some_and(protocol::is_icmp);
        for word in [&mut direction.source_l4, &mut direction.destination_l4] {
            let parts = |mask: u32| mask == WORD || (icmp && matches!(mask, 0xff00 | 0x00ff));
            *word = word.filter(|word| parts(word.mask));
        }
    }
    selection
}

/// Returns what is implied by the condition, or by its opposite; `None` if that is never true.
fn implied(condition: &Condition, positive: bool) -> Option<Selection> {
    match condition {
        Condition::Truth(truth) => (*truth == positive).then(Selection::default),
        Condition::Not(inner) => implied(inner, !positive),
        Condition::All(chain) | Condition::Any(chain) => {
            if matches!(condition, Condition::All(_)) == positive {
                chain.iter().try_fold(Selection::default(), |all, part| Some(both(all, implied(part, positive)?)))
            } else {
                let parts = chain.iter().filter_map(|part| implied(part, positive));
                parts.reduce(common)
            }
        }
        Condition::Test(operations) if positive => Some(test(operations)),
        Condition::Test(operations) => {
            Some(opposite(operations).map_or_else(Selection::default, |inverse| test(&inverse)))
        }
    }
}

/// Returns a comparison that is true where this one is false, of fields that each entry of the kernel's table has.
fn opposite(operations: &[Operation]) -> Option<Vec<Operation>> {
    let (Operation::Compare(comparison @ (0 | 1)), before) = operations.split_last()? else { return None };
    let field = before.iter().take(2).find_map(|operation| match operation {
        Operation::Field(number) => Some(*number),
        _ => None,
    })?;
    let carried = matches!(
        field,
        query::FAMILY
            | query::PROTOCOL
            | query::ORIGINAL_SOURCE
            | query::ORIGINAL_DESTINATION
            | query::REPLY_SOURCE
            | query::REPLY_DESTINATION
            | query::STATUS
            | query::ZONE
            | query::ORIGINAL_ZONE
            | query::REPLY_ZONE
    );
    let constants = before.iter().filter(|operation| matches!(operation, Operation::Field(_))).count() == 1;
    (carried && constants).then(|| before.iter().cloned().chain([Operation::Compare(1 - comparison)]).collect())
}

/// Returns what a comparison implies.
fn test(operations: &[Operation]) -> Selection {
    let mut selection = Selection::default();
    match operations {
        [Operation::Field(field), rest @ ..] => {
            let (mask, rest) = match rest {
                [Operation::Number(mask), Operation::Arithmetic(5), rest @ ..] => (integer(*mask), rest),
                _ => (i128::MAX, rest),
            };
            of_field(*field, mask, rest, &mut selection);
        }
        [Operation::Number(mask), Operation::Field(field), Operation::Arithmetic(5), rest @ ..] => {
            of_field(*field, integer(*mask), rest, &mut selection);
        }
        _ => {}
    }
    selection
}

/// Adds what a test of a field implies, of which the bits of a mask are compared.
fn of_field(field: u32, mask: i128, test: &[Operation], selection: &mut Selection) {
    match field {
        query::ORIGINAL_SOURCE_KEY
        | query::ORIGINAL_DESTINATION_KEY
        | query::REPLY_SOURCE_KEY
        | query::REPLY_DESTINATION_KEY => {
            // Only flows of GRE have one, whatever is compared.
            selection.protocol = Some(protocol::GRE);
        }
        query::ORIGINAL_SOURCE | query::ORIGINAL_DESTINATION | query::REPLY_SOURCE | query::REPLY_DESTINATION => {
            return of_address(field, test, selection);
        }
        query::FAMILY_NAME | query::PROTOCOL_NAME => return of_name(field, test, selection),
        _ => {}
    }
    let Some(masked) = masked(mask, test) else { return };
    let word = |shift: u32, most: u32| {
        Some(Masked { value: (masked.value & most) << shift, mask: (masked.mask & most) << shift })
            .filter(|word| word.mask != 0)
    };
    let whole = |most: u32| (masked.mask & most == most).then_some(masked.value & most);
    let byte = || whole(0xff).and_then(|value| u8::try_from(value).ok());
    let zone = || whole(WORD).and_then(|value| u16::try_from(value).ok());
    let (original, reply) = (&mut selection.original, &mut selection.reply);
    match field {
        query::FAMILY => selection.family = byte(),
        query::PROTOCOL => selection.protocol = byte(),
        query::MARK => selection.mark = word(0, u32::MAX),
        query::STATUS => selection.status = word(0, u32::MAX),
        query::ZONE => selection.zone = zone(),
        query::ORIGINAL_ZONE => original.zone = zone(),
        query::REPLY_ZONE => reply.zone = zone(),
        query::ORIGINAL_SOURCE_PORT | query::ORIGINAL_ICMP_ID | query::ORIGINAL_SOURCE_KEY => {
            original.source_l4 = word(0, WORD);
        }
        query::ORIGINAL_DESTINATION_PORT | query::ORIGINAL_DESTINATION_KEY => original.destination_l4 = word(0, WORD),
        query::REPLY_SOURCE_PORT | query::REPLY_ICMP_ID | query::REPLY_SOURCE_KEY => reply.source_l4 = word(0, WORD),
        query::REPLY_DESTINATION_PORT | query::REPLY_DESTINATION_KEY => reply.destination_l4 = word(0, WORD),
        query::ORIGINAL_ICMP_TYPE => original.destination_l4 = word(8, 0xff),
        query::ORIGINAL_ICMP_CODE => original.destination_l4 = word(0, 0xff),
        query::REPLY_ICMP_TYPE => reply.destination_l4 = word(8, 0xff),
        query::REPLY_ICMP_CODE => reply.destination_l4 = word(0, 0xff),
        _ => {}
    }
}

/// Returns the bits, of the lowest 32, that all numbers have in common that pass a test of those in the mask. Numbers
/// with other bits do not pass in a field of 32 bits; a field without them has zeros there.
fn masked(mask: i128, test: &[Operation]) -> Option<Masked> {
    let low = mask as u32;
    match test {
        // A single bit, which is set or not.
        [Operation::Number(number), Operation::Compare(1)] if mask.count_ones() == 1 => match integer(*number) {
            0 => Some(Masked { value: low, mask: low }),
            number if number == mask => Some(Masked { value: 0, mask: low }),
            _ => None,
        },
        _ => {
            let Set::Numbers(ranges) = members(test)? else { return None };
            let mut all: Option<Masked> = None;
            for (first, last) in ranges {
                let differs = first ^ last;
                // All bits from the highest that differs on.
                let same = if differs == 0 { !0 } else { !(u128::MAX >> (differs as u128).leading_zeros()) } as u32;
                let range = Masked { value: first as u32 & same & low, mask: same & low };
                all = Some(match all {
                    Some(all) => common_bits(all, range),
                    None => range,
                });
            }
            all
        }
    }
}

fn common_bits(one: Masked, other: Masked) -> Masked {
    let mask = one.mask & other.mask & !(one.value ^ other.value);
    Masked { value: one.value & mask, mask }
}

/// Adds what a test of an address implies: the family, and the bits that all have in common.
fn of_address(field: u32, test: &[Operation], selection: &mut Selection) {
    let Some(Set::Addresses(ranges)) = members(test) else { return };
    let firsts = ranges.iter().map(|(first, _)| *first).min();
    let (Some(first), Some(last)) = (firsts, ranges.iter().map(|(_, last)| *last).max()) else { return };
    match ranges.iter().filter(|range| is_ipv6_range(**range)).count() {
        0 => selection.family = Some(family::IPV4),
        six if six == ranges.len() => selection.family = Some(family::IPV6),
        _ => {}
    }
    // Between the first and the last address are all of them.
    let differs = first ^ last;
    let mask = if differs == 0 { u128::MAX } else { !(u128::MAX >> differs.leading_zeros()) };
    let network = Some(Network { value: address(first & mask), mask: address(mask) });
    let direction = match field {
        query::ORIGINAL_SOURCE | query::ORIGINAL_DESTINATION => &mut selection.original,
        _ => &mut selection.reply,
    };
    match field {
        query::ORIGINAL_SOURCE | query::REPLY_SOURCE => direction.source = network,
        _ => direction.destination = network,
    }
}

/// Adds what the comparison of a name implies.
fn of_name(field: u32, test: &[Operation], selection: &mut Selection) {
    let Some(Set::Texts(names)) = members(test) else { return };
    let [name] = names.as_slice() else { return };
    if field == query::FAMILY_NAME {
        selection.family =
            [family::IPV4, family::IPV6].into_iter().find(|number| family::name(*number) == Some(name.as_str()));
    } else {
        selection.protocol = (0..=u8::MAX).find(|number| protocol::name(*number) == Some(name.as_str()));
    }
}

/// Applies one of these to each condition that the kernel's filter has. The others are those of the first selection.
fn combined(
    one: Selection,
    other: Selection,
    byte: fn(Option<u8>, Option<u8>) -> Option<u8>,
    zone: fn(Option<u16>, Option<u16>) -> Option<u16>,
    word: fn(Option<Masked>, Option<Masked>) -> Option<Masked>,
    network: fn(Option<Network>, Option<Network>) -> Option<Network>,
) -> Selection {
    let mut all = Selection {
        family: byte(one.family, other.family),
        protocol: byte(one.protocol, other.protocol),
        status: word(one.status, other.status),
        mark: word(one.mark, other.mark),
        zone: zone(one.zone, other.zone),
        ..one
    };
    for (all, other) in [(&mut all.original, other.original), (&mut all.reply, other.reply)] {
        let one = *all;
        all.source = network(one.source, other.source);
        all.destination = network(one.destination, other.destination);
        all.source_l4 = word(one.source_l4, other.source_l4);
        all.destination_l4 = word(one.destination_l4, other.destination_l4);
        all.zone = zone(one.zone, other.zone);
    }
    all
}

/// Returns what is implied if both are.
pub(crate) fn both(one: Selection, other: Selection) -> Selection {
    combined(one, other, Option::or, Option::or, both_masked, |one, other| match (one, other) {
        // The longer prefix.
        (Some(one), Some(other)) if bits(other.mask) > bits(one.mask) => Some(other),
        (one, other) => one.or(other),
    })
}

fn both_masked(one: Option<Masked>, other: Option<Masked>) -> Option<Masked> {
    match (one, other) {
        // Where they contradict each other, no flow satisfies both.
        (Some(one), Some(other)) => {
            Some(Masked { value: one.value | (other.value & !one.mask), mask: one.mask | other.mask })
        }
        (one, other) => one.or(other),
    }
}

/// Returns what is implied if either is.
fn common(one: Selection, other: Selection) -> Selection {
    fn same<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<T> {
        one.filter(|one| other.as_ref() == Some(one))
    }
    combined(
        one,
        other,
        same,
        same,
        |one, other| Some(common_bits(one?, other?)).filter(|masked| masked.mask != 0),
        |one, other| {
            let (one, other) = (one?, other?);
            let mask = bits(one.mask) & bits(other.mask);
            let differs = (bits(one.value) ^ bits(other.value)) & mask;
            let mask = if differs == 0 { mask } else { mask & !(u128::MAX >> differs.leading_zeros()) };
            Some(Network { value: address(bits(one.value) & mask), mask: address(mask) })
        },
    )
}
