//! The values that a plugin requests, as a table of one row with bounded size: as they would be sent, and as the entry
//! would be afterwards.

use super::{
    judge::{ESTABLISHED, PLAIN, has, invalid},
    reason::{Reason, Refusal},
};
use flowgate_model::{Changes, Flows, at, batch, bounds, field, result};
use flowgate_netlink::EncodeError;

/// Returns an entry as it would be with these values, whose texts have valid lengths.
pub(super) fn updated(found: (&Flows, usize), values: (&Flows, usize)) -> Flows {
    let mut after = batch::copy_row(found.0, found.1);
    let mut to = asked(values.0, values.1);
    let old = if has(found) & field::MARK != 0 { at(&found.0.mark, found.1) } else { 0 };
    if let Some((mark, mask)) = mark(values) {
        to.mark = vec![(old & !mask) ^ mark];
    }
    if has(values) & field::STATUS != 0 {
        to.status = vec![at(&found.0.status, found.1) | at(&values.0.status, values.1)];
    }
    if let (true, Some(rare)) = (has(values) & field::LABELS != 0, &mut to.rare) {
        let mask = (has(values) & field::LABELS_MASK != 0).then(|| std::mem::take(&mut rare.labels_mask));
        let result = labelled(
            after.rare.as_ref().map_or(&[], |rare| batch::text(&rare.labels.texts, 0)),
            batch::text(&rare.labels.texts, 0),
            mask.as_ref().map(|mask| batch::text(&mask.texts, 0)),
        );
        rare.labels = Default::default();
        batch::push_sparse(&mut rare.labels, 0, &result);
    }
    let changes = Changes { rows: vec![0], values: vec![0], clear: vec![0] };
    batch::change(&mut after, &changes, &to, batch::IDENTITY);
    after
}

/// Returns the labels that the kernel derives from those of a flow: `(old & !mask) ^ set` in each word of the set, and
/// none in the words beyond it; without a mask the set itself (`nf_connlabels_replace`).
fn labelled(old: &[u8], set: &[u8], mask: Option<&[u8]>) -> [u8; 16] {
    let given = set.len().next_multiple_of(4).max(4);
    let mut result = [0; 16];
    for (index, byte) in result.iter_mut().enumerate().take(given) {
        let of = |bytes: &[u8]| bytes.get(index).copied().unwrap_or_default();
        *byte = (of(old) & !mask.map_or(0xff, of)) ^ of(set);
    }
    result
}

/// Returns the maximum length of a field's text in the kernel, in bytes; 0 for fields that are not sent.
fn longest(field: u64) -> usize {
    match field {
        field::HELPER => bounds::MAX_HELPER,
        field::HELPER_INFO => bounds::MAX_HELPER_INFO,
        field::LABELS | field::LABELS_MASK => bounds::MAX_LABELS,
        _ => 0,
    }
}

/// Checks that the texts of a row can be sent.
///
/// # Errors
/// A text is longer than the kernel accepts.
pub(super) fn fits((flows, row): (&Flows, usize)) -> Result<(), Refusal> {
    let Some(rare) = &flows.rare else { return Ok(()) };
    for (field, what, column) in [
        (field::HELPER, "the name of a helper", &rare.helper),
        (field::HELPER_INFO, "the data of a helper", &rare.helper_info),
        (field::LABELS, "a set of labels", &rare.labels),
        (field::LABELS_MASK, "a mask of labels", &rare.labels_mask),
    ] {
        let item = column.rows.binary_search(&u32::try_from(row).unwrap_or(u32::MAX)).ok();
        let length = item.map_or(0, |item| batch::text(&column.texts, item).len());
        let limit = longest(field);
        if has((flows, row)) & field != 0 && length > limit {
            return Err(invalid(Reason::Unspeakable(EncodeError::TooLong { what, length, limit })));
        }
    }
    Ok(())
}

/// Fields that a request can have.
const SENT: u64 = field::TUPLES
    | field::ZONES
    | field::ID
    | PLAIN
    | ESTABLISHED
    | field::MARK
    | field::MARK_MASK
    | field::HELPER
    | field::HELPER_INFO
    | field::LABELS
    | field::LABELS_MASK;

/// Returns the requested values for the record of a refusal: without fields that no request has, and without texts that
/// are too long.
#[must_use]
pub(super) fn recorded(flows: &Flows, row: usize) -> Flows {
    let mut row = asked(flows, row);
    let rare = row.rare.get_or_insert_default();
    let texts = [
        (field::HELPER, &rare.helper),
        (field::HELPER_INFO, &rare.helper_info),
        (field::LABELS, &rare.labels),
        (field::LABELS_MASK, &rare.labels_mask),
    ];
    let missing = texts.iter().filter(|(_, column)| column.rows.is_empty()).fold(0, |bits, (bit, _)| bits | bit);
    for has in &mut row.has {
        *has &= SENT & !missing;
    }
    row
}

/// Returns the requested values as far as they can be sent: a table of one row, whose size is bounded whatever the
/// plugin returned.
#[must_use]
pub(super) fn asked(flows: &Flows, row: usize) -> Flows {
    batch::copy_row_bounded(flows, row, longest)
}

/// Returns the mark to be set and the bits of the old one that it replaces, if a mark is set.
pub(super) fn mark((values, row): (&Flows, usize)) -> Option<(u32, u32)> {
    let set = has((values, row));
    let mask = match &values.rare {
        Some(rare) if set & field::MARK_MASK != 0 => at(&rare.mark_mask, row),
        _ => u32::MAX,
    };
    (set & field::MARK != 0).then(|| (at(&values.mark, row), mask))
}

/// Returns a new flow as it would be, with the requested translations applied.
pub(super) fn translated(named: (&Flows, usize)) -> Result<Flows, Refusal> {
    let mut made = asked(named.0, named.1);
    let Some(nat) = made.rare.as_ref().map(|rare| rare.nat.clone()) else { return Ok(made) };
    let wanted = has(named);
    let mut seen = 0;
    for item in 0..nat.rows.len() {
        let destination = at(&nat.destination, item);
        let bit = if destination == 0 { field::SOURCE_NAT } else { field::DESTINATION_NAT };
        if wanted & bit == 0 {
            continue;
        }
        let range = || Refusal { result: result::OUTSIDE, errno: 0, reason: Reason::Range };
        // If one end is translated twice, the kernel applies the last translation only.
        if seen & bit != 0 {
            return Err(range());
        }
        seen |= bit;
        let first = (at(&nat.first.hi, item), at(&nat.first.lo, item));
        let last = (at(&nat.last.hi, item), at(&nat.last.lo, item));
        let ports = (at(&nat.first_port, item), at(&nat.last_port, item));
        // The kernel's choice from a range cannot be judged in advance. Ports from 5 to 0 are ports from 0 to 5.
        if (last != (0, 0) && last != first) || ports.1 != ports.0 {
            return Err(range());
        }
        let (addresses, words) = match destination {
            0 => (&mut made.reply.destination, &mut made.reply.destination_l4),
            _ => (&mut made.reply.source, &mut made.reply.source_l4),
        };
        if first != (0, 0) {
            (addresses.hi, addresses.lo) = (vec![first.0], vec![first.1]);
        }
        if ports.0 != 0 {
            *words = vec![ports.0];
        }
    }
    Ok(made)
}
