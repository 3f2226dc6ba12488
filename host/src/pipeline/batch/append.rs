//! Puts the rows of one batch after those of another.

use super::columns::{push_sparse, push_text, text, with_dense, with_grouped, with_texts};
use super::part::expectation_part;
use crate::model::{Addresses, Expectations, Flows, Rare, SparseTexts, at, field};

/// Appends `more` to `flows`: what a command line can put into a row. Masters, sequence adjustment, SYN proxy and DCCP,
/// which it cannot, are left out, and so are annotations and unknown attributes.
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
    if let Some(from) = &more.rare
        && !from.nat.rows.is_empty()
    {
        let nat = &mut flows.rare.get_or_insert_with(Rare::default).nat;
        nat.rows.extend(from.nat.rows.iter().map(|row| row + before as u32));
        nat.destination.extend_from_slice(&from.nat.destination);
        join_addresses(&mut nat.first, &from.nat.first);
        join_addresses(&mut nat.last, &from.nat.last);
        nat.first_port.extend_from_slice(&from.nat.first_port);
        nat.last_port.extend_from_slice(&from.nat.last_port);
    }
    flows.length = after as u32;
}

/// One row as a table of its own, with what [`append`] takes along.
#[must_use]
pub fn pick(flows: &Flows, row: usize) -> Flows {
    pick_bounded(flows, row, |_| usize::MAX)
}

/// As [`pick`], without byte strings that are longer than `most` says for their field, or that the row does not carry by its `has`.
/// What it costs does not depend on how long these are.
#[must_use]
pub fn pick_bounded(flows: &Flows, row: usize, most: impl Fn(u64) -> usize) -> Flows {
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
        let nat = &from.nat;
        let first = nat.rows.partition_point(|&other| (other as usize) < row);
        let of_row = nat.rows.iter().skip(first).take_while(|&&other| other as usize == row).count();
        for item in first..first + of_row {
            // What is missing counts as 0, as it does where it is encoded.
            let to = &mut picked.rare.get_or_insert_with(Rare::default).nat;
            to.rows.push(0);
            to.destination.push(at(&nat.destination, item));
            for (to, from) in [(&mut to.first, &nat.first), (&mut to.last, &nat.last)] {
                to.hi.push(at(&from.hi, item));
                to.lo.push(at(&from.lo, item));
            }
            to.first_port.push(at(&nat.first_port, item));
            to.last_port.push(at(&nat.last_port, item));
        }
    }
    picked
}

/// One row of expectations as a table of its own, with what a request or a command line can say of it.
#[must_use]
pub fn pick_expectation(rows: &Expectations, row: usize) -> Expectations {
    let mut picked = expectation_part(rows, row..row + 1);
    (picked.unknown, picked.annotations) = (None, None);
    picked.more.clear();
    picked
}

/// Appends a dense column; one of the two may be empty, which counts as zeroes.
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

fn join_addresses(addresses: &mut Addresses, more: &Addresses) {
    addresses.hi.extend_from_slice(&more.hi);
    addresses.lo.extend_from_slice(&more.lo);
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
}
