//! Splits a batch that is too large for one call of a format.

use std::ops::Range;

use super::columns::{text, with_dense, with_grouped, with_sparse, with_texts};
use crate::{
    Addresses, Annotations, Cells, Column, Expectations, ExpectedNat, Flows, Groups, Rare, RawAttributes, SparseTexts,
    Texts, Tuples,
};

/// Maximum number of rows in a call of a format.
const MAX_ROWS: usize = 8192;
/// Maximum bytes of text in a call, unless a single row has more. Escaped text is up to six times as long.
const MAX_TEXT: usize = 1 << 20;
/// Bytes that an item of a sparse column counts in addition to its text.
const ITEM_OVERHEAD: usize = 32;

/// Returns the parts into which flows are split; `None` if they fit one call.
#[must_use]
pub fn ranges(flows: &Flows) -> Option<Vec<Range<usize>>> {
    let mut columns: Vec<(&[u32], &Texts)> = Vec::new();
    macro_rules! texts {
        ($bits:expr, $group:ident, $column:ident) => {
            if let Some(group) = &flows.$group
                && !group.$column.rows.is_empty()
            {
                columns.push((&group.$column.rows, &group.$column.texts));
            }
        };
    }
    with_texts!(texts);
    if let Some(Rare { annotations, unknown, .. }) = &flows.rare {
        columns.push((&annotations.rows, &annotations.keys));
        columns.push((&annotations.rows, &annotations.values));
        columns.push((&unknown.rows, &unknown.payloads));
    }
    cut(flows.length as usize, &columns)
}

/// Returns the parts into which expectations are split; `None` if they fit one call.
#[must_use]
pub fn expectation_ranges(rows: &Expectations) -> Option<Vec<Range<usize>>> {
    let mut columns: Vec<(&[u32], &Texts)> =
        [&rows.helper, &rows.function, &rows.program].map(|column| (column.rows.as_slice(), &column.texts)).into();
    if let Some(annotations) = &rows.annotations {
        columns.push((&annotations.rows, &annotations.keys));
        columns.push((&annotations.rows, &annotations.values));
    }
    if let Some(unknown) = &rows.unknown {
        columns.push((&unknown.rows, &unknown.payloads));
    }
    cut(rows.length as usize, &columns)
}

/// Splits a table of `length` rows with these sparse columns.
fn cut(length: usize, columns: &[(&[u32], &Texts)]) -> Option<Vec<Range<usize>>> {
    let weight: usize = columns.iter().map(|(rows, texts)| rows.len() * ITEM_OVERHEAD + texts.bytes.len()).sum();
    if length <= MAX_ROWS && weight <= MAX_TEXT {
        return None;
    }
    let mut weights = vec![0usize; length];
    for (rows, texts) in columns {
        for (item, &row) in rows.iter().enumerate() {
            if let Some(weight) = weights.get_mut(row as usize) {
                *weight += ITEM_OVERHEAD + text(texts, item).len();
            }
        }
    }
    let (mut parts, mut start, mut sum) = (Vec::new(), 0, 0);
    for (row, weight) in weights.into_iter().enumerate() {
        if row > start && (row - start >= MAX_ROWS || sum + weight > MAX_TEXT) {
            parts.push(start..row);
            (start, sum) = (row, 0);
        }
        sum += weight;
    }
    parts.push(start..length);
    Some(parts)
}

/// Returns some rows of a batch as a batch of their own. The columns must be consistent.
#[must_use]
pub fn copy_rows(flows: &Flows, range: Range<usize>) -> Flows {
    let mut taken = Flows {
        length: range.len() as u32,
        time: flows.time,
        has: dense(&flows.has, &range),
        family: dense(&flows.family, &range),
        ..Flows::default()
    };
    macro_rules! dense {
        ($bits:expr, $($path:ident).+) => { taken.$($path).+ = dense(&flows.$($path).+, &range) };
    }
    with_dense!(dense);
    macro_rules! grouped {
        ($bits:expr, $group:ident, $column:ident) => {
            if let Some(from) = &flows.$group {
                taken.$group.get_or_insert_with(Default::default).$column = dense(&from.$column, &range);
            }
        };
    }
    with_grouped!(grouped);
    macro_rules! texts {
        ($bits:expr, $group:ident, $column:ident) => {
            if let Some(from) = &flows.$group {
                taken.$group.get_or_insert_with(Default::default).$column = sparse(&from.$column, &range);
            }
        };
    }
    with_texts!(texts);
    if let (Some(from), Some(to)) = (&flows.events, &mut taken.events) {
        to.kind = dense(&from.kind, &range);
        to.received = dense(&from.received, &range);
    }
    if let (Some(from), Some(to)) = (&flows.rare, &mut taken.rare) {
        rare(from, to, &range);
    }
    taken.more = flows.more.iter().map(|column| more(column, &range)).collect();
    taken
}

/// Copies the sparse groups of rare fields.
fn rare(from: &Rare, to: &mut Rare, range: &Range<usize>) {
    macro_rules! sparse {
        ($group:ident, $most:expr, $($($field:ident).+),+) => {
            let items = named(&from.$group.rows, range, &mut to.$group.rows);
            $(to.$group.$($field).+ = dense(&from.$group.$($field).+, &items);)+
        };
    }
    with_sparse!(sparse);
    to.unknown = raw(&from.unknown, range);
    to.annotations = annotations(&from.annotations, range);
}

/// Returns some rows of a batch of expectations as a batch of their own. The columns must be consistent.
#[must_use]
pub fn copy_expectation_rows(rows: &Expectations, range: Range<usize>) -> Expectations {
    Expectations {
        length: range.len() as u32,
        time: rows.time,
        has: dense(&rows.has, &range),
        event: dense(&rows.event, &range),
        family: dense(&rows.family, &range),
        protocol: dense(&rows.protocol, &range),
        expected: tuples(&rows.expected, &range),
        mask: tuples(&rows.mask, &range),
        mask_protocol: dense(&rows.mask_protocol, &range),
        master: tuples(&rows.master, &range),
        master_protocol: dense(&rows.master_protocol, &range),
        timeout: dense(&rows.timeout, &range),
        id: dense(&rows.id, &range),
        zone: dense(&rows.zone, &range),
        flags: dense(&rows.flags, &range),
        class_number: dense(&rows.class_number, &range),
        port_id: dense(&rows.port_id, &range),
        helper: sparse(&rows.helper, &range),
        function: sparse(&rows.function, &range),
        program: sparse(&rows.program, &range),
        nat: rows.nat.as_ref().map(|nat| {
            let mut taken = ExpectedNat::default();
            let items = named(&nat.rows, &range, &mut taken.rows);
            taken.direction = dense(&nat.direction, &items);
            taken.protocol = dense(&nat.protocol, &items);
            taken.tuple = tuples(&nat.tuple, &items);
            taken
        }),
        unknown: rows.unknown.as_ref().map(|unknown| raw(unknown, &range)),
        annotations: rows.annotations.as_ref().map(|notes| annotations(notes, &range)),
        more: rows.more.iter().map(|column| more(column, &range)).collect(),
    }
}

/// Returns some rows of a result of an aggregation.
#[must_use]
pub fn copy_groups(groups: &Groups, range: Range<usize>) -> Groups {
    let cells = |cells: &Cells| Cells {
        name: cells.name.clone(),
        kind: cells.kind,
        has: dense(&cells.has, &range),
        hi: dense(&cells.hi, &range),
        lo: dense(&cells.lo, &range),
        reals: dense(&cells.reals, &range),
        texts: texts(&cells.texts, &range),
    };
    Groups {
        length: range.len() as u32,
        columns: groups.columns.iter().map(cells).collect(),
        errors: dense(&groups.errors, &range),
        ..*groups
    }
}

/// Returns some elements of a column, which may be empty.
fn dense<T: Copy>(column: &[T], range: &Range<usize>) -> Vec<T> {
    column.get(range.clone()).map(<[T]>::to_vec).unwrap_or_default()
}

/// Returns the items of a sparse column that belong to these rows, and appends their row numbers in the new table to
/// `to`.
fn named(rows: &[u32], range: &Range<usize>, to: &mut Vec<u32>) -> Range<usize> {
    let before = |end: usize| rows.partition_point(|&row| (row as usize) < end);
    let items = before(range.start)..before(range.end);
    *to = rows.get(items.clone()).unwrap_or_default().iter().map(|&row| row - range.start as u32).collect();
    items
}

fn texts(from: &Texts, items: &Range<usize>) -> Texts {
    let end = |item: usize| item.checked_sub(1).and_then(|last| from.ends.get(last)).copied().unwrap_or(0);
    let (start, stop) = (end(items.start), end(items.end));
    Texts {
        ends: from.ends.get(items.clone()).unwrap_or_default().iter().map(|end| end.saturating_sub(start)).collect(),
        bytes: dense(&from.bytes, &(start as usize..stop as usize)),
    }
}

fn sparse(from: &SparseTexts, range: &Range<usize>) -> SparseTexts {
    let mut taken = SparseTexts::default();
    let items = named(&from.rows, range, &mut taken.rows);
    taken.texts = texts(&from.texts, &items);
    taken
}

fn raw(from: &RawAttributes, range: &Range<usize>) -> RawAttributes {
    let mut taken = RawAttributes::default();
    let items = named(&from.rows, range, &mut taken.rows);
    taken.paths = dense(&from.paths, &items);
    taken.payloads = texts(&from.payloads, &items);
    taken
}

fn annotations(from: &Annotations, range: &Range<usize>) -> Annotations {
    let mut taken = Annotations::default();
    let items = named(&from.rows, range, &mut taken.rows);
    taken.keys = texts(&from.keys, &items);
    taken.values = texts(&from.values, &items);
    taken
}

fn addresses(from: &Addresses, items: &Range<usize>) -> Addresses {
    Addresses { hi: dense(&from.hi, items), lo: dense(&from.lo, items) }
}

fn tuples(from: &Tuples, items: &Range<usize>) -> Tuples {
    Tuples {
        source: addresses(&from.source, items),
        destination: addresses(&from.destination, items),
        source_l4: dense(&from.source_l4, items),
        destination_l4: dense(&from.destination_l4, items),
    }
}

fn more(from: &Column, range: &Range<usize>) -> Column {
    let mut taken = Column { number: from.number, ..Column::default() };
    let items = if from.rows.is_empty() { range.clone() } else { named(&from.rows, range, &mut taken.rows) };
    taken.bytes = dense(&from.bytes, &items);
    taken.words = dense(&from.words, &items);
    taken.numbers = dense(&from.numbers, &items);
    taken.longs = dense(&from.longs, &items);
    taken.texts = texts(&from.texts, &items);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{push_sparse, push_text, retain};

    /// Returns flows with texts, sparse groups, and annotations of this many bytes.
    fn flows(rows: usize, bytes: usize) -> Flows {
        let mut flows = Flows { length: rows as u32, has: vec![0; rows], family: vec![2; rows], ..Flows::default() };
        flows.mark = (0..rows as u32).collect();
        flows.original.source.lo = (0..rows as u64).collect();
        flows.counters.get_or_insert_default().reply_bytes = (0..rows as u64).collect();
        let rare = flows.rare.get_or_insert_default();
        for row in 0..rows {
            if row % 2 == 0 {
                push_sparse(&mut rare.helper, row, format!("helper {row}").as_bytes());
                rare.sequence.rows.extend([row as u32; 2]);
                rare.sequence.reply.extend([0, 1]);
                for column in [&mut rare.sequence.position, &mut rare.sequence.before, &mut rare.sequence.after] {
                    column.extend([row as u32, 7]);
                }
            }
            if row % 3 != 1 {
                rare.annotations.rows.push(row as u32);
                push_text(&mut rare.annotations.keys, format!("k{row}").as_bytes());
                push_text(&mut rare.annotations.values, &vec![b'x'; bytes]);
                rare.unknown.rows.push(row as u32);
                rare.unknown.paths.push(row as u64);
                push_text(&mut rare.unknown.payloads, &[1, 2, 3]);
            }
        }
        flows
    }

    #[test]
    fn few_rows_with_little_text_stay_together() {
        assert_eq!(ranges(&flows(20, 10)), None);
        assert_eq!(expectation_ranges(&Expectations::default()), None);
    }

    #[test]
    fn many_rows_are_taken_apart_whatever_they_weigh() {
        let flows = |rows: usize| Flows { length: rows as u32, ..Flows::default() };
        assert_eq!(ranges(&flows(MAX_ROWS)), None);
        assert_eq!(
            ranges(&flows(2 * MAX_ROWS + 1)).unwrap(),
            [0..MAX_ROWS, MAX_ROWS..2 * MAX_ROWS, 2 * MAX_ROWS..2 * MAX_ROWS + 1]
        );
        let expectations = |rows: usize| Expectations { length: rows as u32, ..Expectations::default() };
        assert_eq!(expectation_ranges(&expectations(MAX_ROWS)), None);
        assert_eq!(expectation_ranges(&expectations(MAX_ROWS + 1)).unwrap(), [0..MAX_ROWS, MAX_ROWS..MAX_ROWS + 1]);
    }

    /// All texts count, wherever they are: a row of more than its part may weigh is alone in it.
    #[test]
    fn each_column_of_texts_counts() {
        let heavy = vec![b'x'; MAX_TEXT + 1];
        let apart = |flows: &Flows| ranges(flows).is_some_and(|parts| parts == [0..1, 1..2, 2..3]);
        let flows = |fill: &dyn Fn(&mut Rare)| {
            let mut flows = Flows { length: 3, ..Flows::default() };
            fill(flows.rare.get_or_insert_default());
            flows
        };
        assert!(apart(&flows(&|rare| push_sparse(&mut rare.helper, 1, &heavy))));
        assert!(apart(&flows(&|rare| push_sparse(&mut rare.security_context, 1, &heavy))));
        for key in [true, false] {
            assert!(apart(&flows(&|rare| {
                rare.annotations.rows.push(1);
                push_text(&mut rare.annotations.keys, if key { &heavy } else { b"k" });
                push_text(&mut rare.annotations.values, if key { b"v" } else { &heavy });
            })));
        }
        assert!(apart(&flows(&|rare| {
            rare.unknown.rows.push(1);
            rare.unknown.paths.push(0);
            push_text(&mut rare.unknown.payloads, &heavy);
        })));
    }

    /// Expectations with texts of this many bytes in every other row.
    fn expectations(rows: usize, bytes: usize) -> Expectations {
        let mut all = Expectations { length: rows as u32, has: vec![1; rows], ..Expectations::default() };
        (all.family, all.protocol) = (vec![2; rows], (0..rows as u8).collect());
        (all.timeout, all.id) = ((0..rows as u32).collect(), (0..rows as u32).rev().collect());
        (all.master.source.lo, all.mask.destination.hi) = ((0..rows as u64).collect(), vec![9; rows]);
        let nat = all.nat.get_or_insert_default();
        for row in (0..rows).step_by(2) {
            push_sparse(&mut all.helper, row, format!("helper {row}").as_bytes());
            push_sparse(&mut all.function, row, &vec![b'f'; bytes]);
            nat.rows.push(row as u32);
            nat.direction.push(1);
            nat.protocol.push(row as u8);
            nat.tuple.source_l4.push(row as u16);
            let annotations = all.annotations.get_or_insert_default();
            annotations.rows.push(row as u32);
            push_text(&mut annotations.keys, b"k");
            push_text(&mut annotations.values, &vec![b'x'; bytes]);
            let unknown = all.unknown.get_or_insert_default();
            unknown.rows.push(row as u32);
            unknown.paths.push(row as u64);
            push_text(&mut unknown.payloads, &vec![7; bytes]);
        }
        all
    }

    #[test]
    fn parts_of_expectations_are_what_is_left_when_the_other_rows_are_dropped() {
        let all = expectations(60, 100_000);
        let parts = expectation_ranges(&all).unwrap();
        assert!(parts.len() > 5, "{parts:?}");
        let mut next = 0;
        for range in parts {
            assert_eq!(range.start, next);
            next = range.end;
            let mut expected = all.clone();
            let verdicts: Vec<u8> = (0..60).map(|row| u8::from(range.contains(&row))).collect();
            crate::batch::retain_expectations(&mut expected, &verdicts);
            assert_eq!(copy_expectation_rows(&all, range), expected);
        }
        assert_eq!(next, 60);
    }

    #[test]
    fn parts_are_what_is_left_when_the_other_rows_are_dropped_and_add_up() {
        let all = flows(60, 200_000);
        let parts = ranges(&all).unwrap();
        assert!(parts.len() > 5, "{parts:?}");
        let mut next = 0;
        for range in parts {
            assert_eq!(range.start, next);
            next = range.end;
            let mut expected = all.clone();
            let verdicts: Vec<u8> = (0..60).map(|row| u8::from(range.contains(&row))).collect();
            retain(&mut expected, &verdicts);
            let part = copy_rows(&all, range);
            crate::batch::check(&part).unwrap();
            assert_eq!(part, expected);
        }
        assert_eq!(next, 60);
    }
}
