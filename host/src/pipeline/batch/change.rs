//! Changes what is shown of the rows of a batch, and notes things on them.

use std::mem;

use super::columns::{SCTP, TCP, TIMES, push_text, text, with_dense, with_grouped, with_texts};
use crate::model::{Annotations, Changes, Expectations, Flows, Rare, SparseTexts, Texts, expectation_field, field};

/// Fields that [`change`] can set: all that formats show, except those that belong to the host (event time, process,
/// namespace) or that only actions use.
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

/// What tells a flow from others.
pub const IDENTITY: u64 = field::TUPLES | field::ZONES | field::ID;

/// Applies a stage's changes. Row numbers must have been checked; fields that cannot be changed, and those in `fixed`, are
/// left alone.
pub fn change(flows: &mut Flows, changes: &Changes, values: &Flows, fixed: u64) {
    let changeable = CHANGEABLE & !fixed;
    let length = flows.length as usize;
    for (item, (&row, &value)) in changes.rows.iter().zip(&changes.values).enumerate() {
        let (row, value) = (row as usize, value as usize);
        let sets = values.has.get(value).copied().unwrap_or(0) & changeable;
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
        macro_rules! texts {
            ($bits:expr, $group:ident, $column:ident) => {
                if sets & ($bits) != 0
                    && let Some(from) = &values.$group
                {
                    let group = flows.$group.get_or_insert_with(Default::default);
                    if let Ok(at) = from.$column.rows.binary_search(&(value as u32)) {
                        set_text(&mut group.$column, row as u32, text(&from.$column.texts, at));
                    }
                }
            };
        }
        with_texts!(texts);
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
}

/// Sets an element of a dense column, which may be empty so far.
fn set<T: Copy + Default>(column: &mut Vec<T>, length: usize, row: usize, from: &[T], value: usize) {
    if column.len() < length {
        column.resize(length, T::default());
    }
    if let (Some(to), Some(from)) = (column.get_mut(row), from.get(value)) {
        *to = *from;
    }
}

/// Sets an item of a sparse column.
fn set_text(column: &mut SparseTexts, row: u32, value: &[u8]) {
    let mut changed = SparseTexts::default();
    let mut done = false;
    for (item, &other) in column.rows.iter().enumerate() {
        if !done && other >= row {
            changed.rows.push(row);
            push_text(&mut changed.texts, value);
            done = true;
        }
        if other != row {
            changed.rows.push(other);
            push_text(&mut changed.texts, text(&column.texts, item));
        }
    }
    if !done {
        changed.rows.push(row);
        push_text(&mut changed.texts, value);
    }
    *column = changed;
}

/// Adds annotations to those that the batch has, so that the rows stay in order, and cleans their text.
pub fn annotate(flows: &mut Flows, added: &Annotations) {
    merge_annotations(&mut flows.rare.get_or_insert_with(Rare::default).annotations, added);
    for &row in &added.rows {
        if let Some(has) = flows.has.get_mut(row as usize) {
            *has |= field::ANNOTATIONS;
        }
    }
}

/// Adds annotations to others, so that the rows stay in order, and cleans their text.
fn merge_annotations(all: &mut Annotations, added: &Annotations) {
    let old = mem::take(all);
    let mut order: Vec<(u32, bool, usize)> = Vec::with_capacity(old.rows.len() + added.rows.len());
    order.extend(old.rows.iter().enumerate().map(|(item, &row)| (row, false, item)));
    order.extend(added.rows.iter().enumerate().map(|(item, &row)| (row, true, item)));
    order.sort_by_key(|&(row, new, item)| (row, new, item));
    for (row, new, item) in order {
        all.rows.push(row);
        if new {
            push_clean(&mut all.keys, text(&added.keys, item));
            push_clean(&mut all.values, text(&added.values, item));
        } else {
            push_text(&mut all.keys, text(&old.keys, item));
            push_text(&mut all.values, text(&old.values, item));
        }
    }
}

/// Adds text of a plugin, fit for a terminal.
fn push_clean(texts: &mut Texts, text: &[u8]) {
    let plain = text.iter().all(|byte| (b' '..=b'~').contains(byte));
    if plain && text.len() <= 1000 {
        push_text(texts, text);
    } else {
        push_text(texts, crate::text::clean(&String::from_utf8_lossy(text)).as_bytes());
    }
}

/// As [`annotate`], for expectations.
pub fn annotate_expectations(rows: &mut Expectations, added: &Annotations) {
    merge_annotations(rows.annotations.get_or_insert_with(Annotations::default), added);
    for &row in &added.rows {
        if let Some(has) = rows.has.get_mut(row as usize) {
            *has |= expectation_field::ANNOTATIONS;
        }
    }
}
