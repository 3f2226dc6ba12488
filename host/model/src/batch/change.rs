//! Applies changes of a stage to the displayed rows of a batch, and adds annotations.

use std::mem;

use super::columns::{SCTP, TCP, TIMES, push_sparse, push_text, text, with_dense, with_grouped, with_texts};
use crate::{Annotations, Changes, Expectations, Flows, Rare, SparseTexts, Texts, bounds, expectation_field, field};

/// Fields that [`change`] can set: all that formats show, except those that the host provides (event time, process,
/// namespace) and those that only actions use.
const CHANGEABLE: u64 = field::TUPLES
    | field::ZONES
    | field::STATUS
    | field::TIMEOUT
    | field::MARK
    | field::SECMARK
    | field::USE
    | field::ID
    | field::COUNTERS
    | TIMES
    | field::STATE
    | TCP
    | SCTP
    | field::HELPER
    | field::HELPER_INFO
    | field::LABELS
    | field::SECURITY_CONTEXT;

/// The fields that identify a flow.
pub const IDENTITY: u64 = field::TUPLES | field::ZONES | field::ID;

/// Applies a stage's changes in order: of several that set a field of a row, the last one counts. Row numbers must have
/// been checked. Fields that cannot be changed, and those in `fixed`, keep their values.
///
/// The work is linear in the rows, the changes, and the bytes of text before and after.
pub fn change(flows: &mut Flows, changes: &Changes, values: &Flows, fixed: u64) {
    let changeable = CHANGEABLE & !fixed;
    let length = flows.length as usize;
    let sets = |value: u32| values.has.get(value as usize).copied().unwrap_or(0) & changeable;
    for (item, (&row, &value)) in changes.rows.iter().zip(&changes.values).enumerate() {
        let sets = sets(value);
        let (row, value) = (row as usize, value as usize);
        let clears = changes.clear.get(item).copied().unwrap_or(0) & changeable;
        macro_rules! dense {
            ($bits:expr, $($path:ident).+) => {
                if sets & ($bits) != 0 {
                    set(&mut flows.$($path).+, length, row, &values.$($path).+, value);
                }
            };
        }
        with_dense!(dense);
        macro_rules! grouped {
            ($bits:expr, $group:ident, $column:ident) => {
                if sets & ($bits) != 0
                    && let Some(from) = &values.$group
                {
                    let group = flows.$group.get_or_insert_with(Default::default);
                    set(&mut group.$column, length, row, &from.$column, value);
                }
            };
        }
        with_grouped!(grouped);
        if sets & field::SOURCE != 0
            && let Some(&family) = values.family.get(value)
            && let Some(ours) = flows.family.get_mut(row)
        {
            *ours = family;
        }
        if let Some(has) = flows.has.get_mut(row) {
            *has = (*has & !clears) | sets;
        }
    }
    macro_rules! texts {
        ($bits:expr, $group:ident, $column:ident) => {
            if let Some(from) = &values.$group
                && let Some(chosen) = items_by_row(changes, &from.$column, length, |value| sets(value) & $bits != 0)
            {
                let group = flows.$group.get_or_insert_with(Default::default);
                set_texts(&mut group.$column, &from.$column, &chosen);
            }
        };
    }
    with_texts!(texts);
}

/// The bytes that changes would write into text fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextCost {
    /// Bytes that were passed for it: the changes, the texts that they refer to, and `has` of each row.
    pub crossed: usize,
    /// Bytes that would be written.
    pub bytes: usize,
}

/// Returns what [`change`] would write into text fields. Row numbers must have been checked.
///
/// # Errors
/// Returns an error if a text is longer than one of the kernel can be ([`bounds::max_change_text`]).
pub fn text_cost(flows: &Flows, changes: &Changes, values: &Flows, fixed: u64) -> Result<TextCost, String> {
    let changeable = CHANGEABLE & !fixed;
    let length = flows.length as usize;
    let mut written = TextCost { crossed: size_of::<u64>() * length + CHANGE_BYTES * changes.rows.len(), bytes: 0 };
    macro_rules! texts {
        ($bits:expr, $group:ident, $column:ident) => {
            if let Some(from) = &values.$group
                && changeable & $bits != 0
            {
                let from = &from.$column;
                written.crossed = written.crossed.saturating_add(from.texts.bytes.len());
                let sets = |value: u32| values.has.get(value as usize).copied().unwrap_or(0) & $bits != 0;
                let most = bounds::max_change_text($bits);
                for &item in items_by_row(changes, from, length, sets).iter().flatten().flatten() {
                    let length = text(&from.texts, item as usize).len();
                    if length > most {
                        let name = stringify!($column);
                        return Err(format!(
                            "a change by a `{name}` of {length} bytes; the kernel's have at most {most}"
                        ));
                    }
                    written.bytes = written.bytes.saturating_add(length);
                }
            }
        };
    }
    with_texts!(texts);
    Ok(written)
}

/// Bytes of a change: a row, a row of values, and the fields to remove.
const CHANGE_BYTES: usize = 16;

/// Returns, for each row of a batch of `length` rows, the item of a sparse column that the last change of the field
/// assigns to it; `None` if no row gets one.
fn items_by_row(
    changes: &Changes,
    from: &SparseTexts,
    length: usize,
    sets: impl Fn(u32) -> bool,
) -> Option<Vec<Option<u32>>> {
    if from.rows.is_empty() {
        return None;
    }
    let mut chosen = None;
    for (&row, &value) in changes.rows.iter().zip(&changes.values).filter(|&(_, &value)| sets(value)) {
        let Ok(item) = from.rows.binary_search(&value) else { continue };
        let chosen = chosen.get_or_insert_with(|| vec![None; length]);
        if let Some(place) = chosen.get_mut(row as usize) {
            *place = u32::try_from(item).ok();
        }
    }
    chosen
}

/// Sets an element of a dense column, which may be empty.
fn set<T: Copy + Default>(column: &mut Vec<T>, length: usize, row: usize, from: &[T], value: usize) {
    if column.len() < length {
        column.resize(length, T::default());
    }
    if let (Some(to), Some(from)) = (column.get_mut(row), from.get(value)) {
        *to = *from;
    }
}

/// Replaces items of a sparse column in one pass: each row with a chosen item gets that item of `from`.
fn set_texts(column: &mut SparseTexts, from: &SparseTexts, chosen: &[Option<u32>]) {
    let old = mem::take(column);
    let mut next = 0;
    let mut keep = |column: &mut SparseTexts, before: usize, replaced: Option<usize>| {
        while let Some(&row) =
            old.rows.get(next).filter(|&&row| (row as usize) < before || replaced == Some(row as usize))
        {
            if replaced != Some(row as usize) {
                push_sparse(column, row as usize, text(&old.texts, next));
            }
            next += 1;
        }
    };
    for (row, item) in chosen.iter().enumerate() {
        if let Some(item) = item {
            keep(column, row, Some(row));
            push_sparse(column, row, text(&from.texts, *item as usize));
        }
    }
    keep(column, usize::MAX, None);
}

/// Why annotations are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// A row would have too many.
    #[error(
        "more annotations for row {0} than the {many} of {bytes} bytes in all that a row has room for",
        many = bounds::ANNOTATIONS_PER_ROW,
        bytes = bounds::ANNOTATION_BYTES_PER_ROW
    )]
    OfRow(u32),
    /// All of them together would be too long ([`bounds::MAX_TEXT`]).
    #[error("annotations of {returned} bytes that become {bytes}")]
    Amplified {
        /// Bytes of the annotations as the plugin returned them.
        returned: usize,
        /// Bytes written when the limit was exceeded.
        bytes: usize,
    },
}

/// The annotations of a batch together with those that a stage adds, ready to replace the old ones.
#[derive(Debug, Default)]
pub struct MergedAnnotations {
    all: Annotations,
    /// The rows that are annotated.
    rows: Vec<u32>,
}

/// Merges the annotations `old`, in the order of rows, with those that a stage adds to a batch of `length` rows, and
/// makes the text of the latter safe for terminals. Row numbers and texts of both must have been checked. `in_time` is
/// called regularly and ends the work with an error if there is no time left.
///
/// # Errors
/// See [`AnnotationError`], or the error of `in_time`.
pub fn merge_annotations<E: From<AnnotationError>>(
    old: &Annotations,
    added: Annotations,
    length: usize,
    mut in_time: impl FnMut() -> Result<(), E>,
) -> Result<MergedAnnotations, E> {
    if added.rows.is_empty() {
        return Ok(MergedAnnotations { all: old.clone(), rows: Vec::new() });
    }
    let order = if added.rows.is_sorted() { None } else { Some(by_row(&added.rows, length)) };
    let mut all = Annotations::default();
    let room = added.keys.bytes.len() + added.values.bytes.len();
    all.rows.reserve(old.rows.len() + added.rows.len());
    for (texts, old, added) in [(&mut all.keys, &old.keys, &added.keys), (&mut all.values, &old.values, &added.values)]
    {
        texts.ends.reserve(old.ends.len() + added.ends.len());
        texts.bytes.reserve(old.bytes.len() + added.bytes.len().min(room));
    }
    let (mut next, mut written, mut of_row) = (0, 0usize, (u32::MAX, 0, 0));
    let mut keep = |all: &mut Annotations, up_to: usize| {
        while let Some(&row) = old.rows.get(next).filter(|&&row| (row as usize) <= up_to) {
            all.rows.push(row);
            push_text(&mut all.keys, text(&old.keys, next));
            push_text(&mut all.values, text(&old.values, next));
            next += 1;
        }
    };
    for place in 0..added.rows.len() {
        if place % TIME_CHECK_INTERVAL == 0 {
            in_time()?;
        }
        let item = order.as_ref().map_or(place, |order| order.get(place).copied().unwrap_or_default() as usize);
        let Some(&row) = added.rows.get(item) else { continue };
        let (key, value) = (text(&added.keys, item), text(&added.values, item));
        if of_row.0 != row {
            of_row = (row, 0, 0);
            keep(&mut all, row as usize);
        }
        of_row = (row, of_row.1 + 1, of_row.2 + key.len() + value.len());
        if of_row.1 > bounds::ANNOTATIONS_PER_ROW || of_row.2 > bounds::ANNOTATION_BYTES_PER_ROW {
            return Err(AnnotationError::OfRow(row).into());
        }
        all.rows.push(row);
        let before = all.keys.bytes.len() + all.values.bytes.len();
        push_clean(&mut all.keys, key);
        push_clean(&mut all.values, value);
        written += all.keys.bytes.len() + all.values.bytes.len() - before;
        if written > bounds::MAX_TEXT {
            return Err(AnnotationError::Amplified { returned: room, bytes: written }.into());
        }
    }
    keep(&mut all, usize::MAX);
    Ok(MergedAnnotations { all, rows: added.rows })
}

/// Number of annotations between checks of the time.
const TIME_CHECK_INTERVAL: usize = 1024;

/// Returns the numbers of all items sorted by row, where rows must be less than `length`; the sort is stable.
fn by_row(rows: &[u32], length: usize) -> Vec<u32> {
    let mut starts = vec![0u32; length + 1];
    for &row in rows {
        if let Some(count) = starts.get_mut(row as usize + 1) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    let mut order = vec![0; rows.len()];
    for (item, &row) in rows.iter().enumerate() {
        if let Some(start) = starts.get_mut(row as usize) {
            if let Some(place) = order.get_mut(*start as usize) {
                *place = item as u32;
            }
            *start += 1;
        }
    }
    order
}

/// Replaces the annotations of a batch.
pub fn set_annotations(flows: &mut Flows, annotated: MergedAnnotations) {
    flows.rare.get_or_insert_with(Rare::default).annotations = annotated.all;
    mark(&mut flows.has, &annotated.rows, field::ANNOTATIONS);
}

/// Replaces the annotations of a batch of expectations.
pub fn set_expectation_annotations(rows: &mut Expectations, annotated: MergedAnnotations) {
    rows.annotations = Some(annotated.all);
    mark(&mut rows.has, &annotated.rows, expectation_field::ANNOTATIONS);
}

/// Sets a bit in `has` of these rows.
fn mark(has: &mut [u64], rows: &[u32], bit: u64) {
    for &row in rows {
        if let Some(has) = has.get_mut(row as usize) {
            *has |= bit;
        }
    }
}

/// Appends text of a plugin, made safe for terminals.
fn push_clean(texts: &mut Texts, text: &[u8]) {
    let plain = text.iter().all(|byte| (b' '..=b'~').contains(byte));
    if plain && text.len() <= 1000 {
        push_text(texts, text);
    } else {
        push_text(texts, flowgate_base::text::clean(&String::from_utf8_lossy(text)).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch in which every other row has a helper, and values with a helper.
    fn tables(rows: usize) -> (Flows, Flows) {
        let table = |rows: usize, name: &str| {
            let mut flows =
                Flows { length: rows as u32, has: vec![0; rows], family: vec![2; rows], ..Flows::default() };
            for row in (0..rows).step_by(2) {
                push_sparse(&mut flows.rare.get_or_insert_default().helper, row, format!("{name}{row}").as_bytes());
                flows.has[row] = field::HELPER;
            }
            flows
        };
        (table(rows, "old"), table(3, "new"))
    }

    fn changes(pairs: &[(u32, u32)]) -> Changes {
        let (rows, values): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
        Changes { clear: vec![0; rows.len()], rows, values }
    }

    fn helpers(flows: &Flows) -> Vec<(u32, String)> {
        let helper = &flows.rare.as_ref().unwrap().helper;
        let name = |item| String::from_utf8(text(&helper.texts, item).to_vec()).unwrap();
        helper.rows.iter().enumerate().map(|(item, &row)| (row, name(item))).collect()
    }

    #[test]
    fn of_several_changes_of_a_row_the_last_one_that_sets_the_field_holds() {
        let (mut flows, values) = tables(6);
        // Row 1 of the values sets nothing.
        let changes = changes(&[(5, 0), (2, 0), (2, 2), (2, 1), (5, 1), (0, 2)]);
        let written = text_cost(&flows, &changes, &values, 0).unwrap();
        assert_eq!(written, TextCost { crossed: 6 * 8 + 6 * 16 + 8, bytes: 3 * 4 });
        change(&mut flows, &changes, &values, 0);
        let expected = [(0, "new2"), (2, "new2"), (4, "old4"), (5, "new0")];
        assert_eq!(helpers(&flows), expected.map(|(row, name)| (row, name.to_string())));
        assert_eq!(flows.has.iter().filter(|&&has| has & field::HELPER != 0).count(), 4);
        crate::batch::check(&flows).unwrap();
    }

    #[test]
    fn what_is_fixed_is_neither_counted_nor_changed() {
        let (mut flows, values) = tables(6);
        let before = flows.clone();
        let changes = changes(&[(1, 0)]);
        assert_eq!(text_cost(&flows, &changes, &values, field::HELPER).unwrap().bytes, 0);
        change(&mut flows, &changes, &values, field::HELPER);
        assert_eq!(flows, before);
    }

    /// Annotations of these rows; the values are their numbers.
    fn notes(rows: &[u32]) -> Annotations {
        let mut notes = Annotations { rows: rows.to_vec(), ..Annotations::default() };
        for number in 0..rows.len() {
            push_text(&mut notes.keys, b"k");
            push_text(&mut notes.values, number.to_string().as_bytes());
        }
        notes
    }

    #[test]
    fn annotations_come_in_the_order_of_rows_and_behind_those_that_are_there() {
        for (added, expected) in [
            (&[0u32, 1, 1, 3][..], "0:0 0:0 1:1 1:2 2:1 3:2 3:3"),
            (&[3, 1, 0, 1], "0:0 0:2 1:1 1:3 2:1 3:2 3:0"),
            (&[2], "0:0 2:1 2:0 3:2"),
        ] {
            let all = merge_annotations::<AnnotationError>(&notes(&[0, 2, 3]), notes(added), 4, || Ok(())).unwrap().all;
            let found: Vec<String> = all
                .rows
                .iter()
                .enumerate()
                .map(|(item, row)| format!("{row}:{}", String::from_utf8_lossy(text(&all.values, item))))
                .collect();
            assert_eq!(found.join(" "), expected);
        }
    }

    #[test]
    fn annotations_are_added_as_long_as_there_is_time() {
        #[derive(Debug, PartialEq)]
        enum Ended {
            Late,
            Notes(AnnotationError),
        }
        impl From<AnnotationError> for Ended {
            fn from(error: AnnotationError) -> Self {
                Ended::Notes(error)
            }
        }
        let rows: Vec<u32> = (0..5000).collect();
        let mut looks = 0;
        let result = merge_annotations(&notes(&[]), notes(&rows), 5000, || {
            looks += 1;
            if looks == 3 { Err(Ended::Late) } else { Ok(()) }
        });
        assert_eq!(result.map(|_| ()), Err(Ended::Late));
    }
}
