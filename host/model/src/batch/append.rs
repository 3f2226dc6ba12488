//! Appends the rows of one batch to another.

use std::ops::Range;

use super::columns::{push_sparse, push_text, text, with_dense, with_grouped, with_sparse, with_texts};
use super::split::copy_expectation_rows;
use crate::{Expectations, Flows, Rare, SparseTexts, at, field};

/// Appends `more` to `flows`, with all fields that a command line can set; annotations and unknown attributes are left
/// out.
pub fn append(flows: &mut Flows, more: &Flows) {
    let (before, added) = (flows.length as usize, more.length as usize);
    let after = before + added;
    macro_rules! dense {
        ($bits:expr, $($path:ident).+) => { join(&mut flows.$($path).+, before, &more.$($path).+, after) };
    }
    with_dense!(dense);
    join(&mut flows.has, before, &more.has, after);
    join(&mut flows.family, before, &more.family, after);
    macro_rules! grouped {
        ($bits:expr, $group:ident, $column:ident) => {
            if let Some(from) = &more.$group
                && !from.$column.is_empty()
            {
                let group = flows.$group.get_or_insert_with(Default::default);
                join(&mut group.$column, before, &from.$column, after);
            } else if let Some(group) = &mut flows.$group
                && !group.$column.is_empty()
            {
                group.$column.resize(after, Default::default());
            }
        };
    }
    with_grouped!(grouped);
    macro_rules! texts {
        ($bits:expr, $group:ident, $column:ident) => {
            if let Some(from) = &more.$group
                && !from.$column.rows.is_empty()
            {
                let group = flows.$group.get_or_insert_with(Default::default);
                join_texts(&mut group.$column, before, &from.$column);
            }
        };
    }
    with_texts!(texts);
    if let Some(from) = &more.rare {
        take_translations(flows, from, 0..usize::MAX, |row| row + before as u32);
        take_details(flows, from, 0..usize::MAX, |row| row + before as u32);
    }
    flows.length = after as u32;
}

/// Returns one row as a table of its own, with the fields that [`append`] copies.
#[must_use]
pub fn copy_row(flows: &Flows, row: usize) -> Flows {
    let mut picked = copy_row_bounded(flows, row, |_| usize::MAX);
    if let Some(from) = &flows.rare {
        take_details(&mut picked, from, row..row + 1, |_| 0);
    }
    picked
}

/// Returns one row like [`copy_row`], without byte strings that are longer than `most` allows for their field, or whose
/// bit is not in the row's `has`. The cost does not depend on the length of these.
#[must_use]
pub fn copy_row_bounded(flows: &Flows, row: usize, most: impl Fn(u64) -> usize) -> Flows {
    let has = at(&flows.has, row);
    fn one<T: Copy>(column: &[T], row: usize) -> Vec<T> {
        column.get(row).copied().into_iter().collect()
    }
    let mut picked =
        Flows { length: 1, has: one(&flows.has, row), family: one(&flows.family, row), ..Flows::default() };
    macro_rules! dense {
        ($bits:expr, $($path:ident).+) => { picked.$($path).+ = one(&flows.$($path).+, row) };
    }
    with_dense!(dense);
    macro_rules! grouped {
        ($bits:expr, $group:ident, $column:ident) => {
            if let Some(from) = &flows.$group
                && !from.$column.is_empty()
            {
                picked.$group.get_or_insert_with(Default::default).$column = one(&from.$column, row);
            }
        };
    }
    with_grouped!(grouped);
    macro_rules! texts {
        ($bits:expr, $group:ident, $column:ident) => {
            if has & ($bits) != 0
                && let Some(from) = &flows.$group
                && let Ok(item) = from.$column.rows.binary_search(&(row as u32))
                && text(&from.$column.texts, item).len() <= most($bits)
            {
                let group = picked.$group.get_or_insert_with(Default::default);
                push_sparse(&mut group.$column, 0, text(&from.$column.texts, item));
            }
        };
    }
    with_texts!(texts);
    if let Some(from) = &flows.rare {
        take_translations(&mut picked, from, row..row + 1, |_| 0);
    }
    picked
}

/// Returns one row of expectations as a table of its own, with the fields that a request or a command line can have.
#[must_use]
pub fn copy_expectation_row(rows: &Expectations, row: usize) -> Expectations {
    let mut picked = copy_expectation_rows(rows, row..row + 1);
    (picked.unknown, picked.annotations) = (None, None);
    picked.more.clear();
    picked
}

/// Appends the items of a sparse group that belong to the rows `of`, which are renumbered. A missing value counts as 0,
/// as it does for encoding. The cost is that of these items and of a search for them.
macro_rules! take_sparse {
    ($flows:ident, $from:ident, $of:ident, $number:ident, $group:ident, $($($field:ident).+),+) => {
        let rows = &$from.$group.rows;
        let first = rows.partition_point(|&row| (row as usize) < $of.start);
        for (item, &row) in rows.iter().enumerate().skip(first).take_while(|(_, row)| (**row as usize) < $of.end) {
            let to = &mut $flows.rare.get_or_insert_with(Rare::default).$group;
            to.rows.push($number(row));
            $(to.$($field).+.push(at(&$from.$group.$($field).+, item));)+
        }
    };
}

/// Appends the NAT of some rows.
fn take_translations(flows: &mut Flows, from: &Rare, of: Range<usize>, number: impl Fn(u32) -> u32) {
    macro_rules! sparse {
        (nat, $most:expr, $($($field:ident).+),+) => { take_sparse!(flows, from, of, number, nat, $($($field).+),+); };
        ($group:ident, $($rest:tt)+) => {};
    }
    with_sparse!(sparse);
}

/// Appends the sequence adjustments, the states of SYN proxy and DCCP, and the masters of some rows.
fn take_details(flows: &mut Flows, from: &Rare, of: Range<usize>, number: impl Fn(u32) -> u32) {
    macro_rules! sparse {
        (nat, $($rest:tt)+) => {};
        ($group:ident, $most:expr, $($($field:ident).+),+) => {
            take_sparse!(flows, from, of, number, $group, $($($field).+),+);
        };
    }
    with_sparse!(sparse);
}

/// Appends a dense column; an empty one counts as zeros.
fn join<T: Copy + Default>(column: &mut Vec<T>, before: usize, more: &[T], after: usize) {
    if column.is_empty() && more.is_empty() {
        return;
    }
    column.resize(before, T::default());
    column.extend_from_slice(more);
    column.resize(after, T::default());
}

fn join_texts(column: &mut SparseTexts, before: usize, more: &SparseTexts) {
    for (item, row) in more.rows.iter().enumerate() {
        column.rows.push(row + before as u32);
        push_text(&mut column.texts, text(&more.texts, item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_as_long_as_the_table() {
        let plain = Flows { length: 1, has: vec![0], family: vec![2], timeout: vec![5], ..Flows::default() };
        let mut labelled = Flows { length: 1, has: vec![0], family: vec![10], mark: vec![7], ..Flows::default() };
        let rare = labelled.rare.get_or_insert_with(Rare::default);
        rare.mark_mask = vec![3];
        rare.labels.rows = vec![0];
        push_text(&mut rare.labels.texts, b"abc");

        let mut all = Flows::default();
        for more in [&plain, &labelled, &plain, &labelled] {
            append(&mut all, more);
        }
        assert_eq!(all.length, 4);
        assert_eq!(all.family, [2, 10, 2, 10]);
        assert_eq!(all.timeout, [5, 0, 5, 0]);
        assert_eq!(all.mark, [0, 7, 0, 7]);
        let rare = all.rare.as_ref().unwrap();
        assert_eq!(rare.mark_mask, [0, 3, 0, 3]);
        assert_eq!(rare.labels.rows, [1, 3]);
        assert_eq!(rare.labels.texts.ends, [3, 6]);
        super::super::check(&all).unwrap();
    }

    #[test]
    fn sparse_columns_follow_their_rows() {
        let mut one = Flows { length: 1, has: vec![0], family: vec![2], ..Flows::default() };
        let rare = one.rare.get_or_insert_with(Rare::default);
        rare.sequence.rows = vec![0, 0];
        rare.sequence.reply = vec![0, 1];
        rare.sequence.position = vec![7, 8];
        rare.sequence.before = vec![1, 2];
        rare.sequence.after = vec![3, 4];
        rare.dccp.rows = vec![0];
        rare.dccp.role = vec![1];
        rare.dccp.handshake = vec![0];
        rare.master.rows = vec![0];
        rare.master.protocol = vec![6];
        rare.master.zone = vec![0];
        rare.master.tuple.source_l4 = vec![21];
        let mut all = Flows::default();
        append(&mut all, &one);
        append(&mut all, &Flows { length: 1, has: vec![0], family: vec![2], ..Flows::default() });
        append(&mut all, &one);
        let rare = all.rare.as_ref().unwrap();
        assert_eq!((&rare.sequence.rows[..], &rare.dccp.rows[..]), (&[0, 0, 2, 2][..], &[0, 2][..]));
        assert_eq!(rare.master.tuple.source_l4, [21, 21]);
        let picked = copy_row(&all, 2).rare.unwrap();
        assert_eq!((picked.sequence.rows, picked.sequence.position), (vec![0, 0], vec![7, 8]));
        assert_eq!((picked.master.rows, picked.dccp.role), (vec![0], vec![1]));
        assert!(copy_row(&all, 1).rare.is_none_or(|rare| rare.sequence.rows.is_empty()));
    }
}
