//! Removes rows from a batch.

use super::columns::{push_text, text, with_dense, with_grouped, with_sparse, with_texts};
use crate::{Addresses, Annotations, Column, Expectations, Flows, Rare, RawAttributes, SparseTexts, Texts, Tuples};

/// Keeps the rows with a verdict other than 0. `verdicts` must have one element per row.
pub fn retain(flows: &mut Flows, verdicts: &[u8]) {
    let rows = verdicts.len();
    let kept = verdicts.iter().filter(|&&verdict| verdict != 0).count();
    if kept == rows {
        return;
    }
    each_dense(flows, |column| column.retain(verdicts));
    let new_rows = new_rows(verdicts);
    macro_rules! texts {
        ($bits:expr, $group:ident, $column:ident) => {
            if let Some(group) = &mut flows.$group {
                retain_texts(&mut group.$column, &new_rows);
            }
        };
    }
    with_texts!(texts);
    if let Some(rare) = &mut flows.rare {
        retain_rare(rare, &new_rows);
    }
    for column in &mut flows.more {
        retain_more(column, verdicts, &new_rows);
    }
    flows.length = kept as u32;
}

/// Returns the new number of each row, `None` for a removed row.
fn new_rows(verdicts: &[u8]) -> Vec<Option<u32>> {
    let mut next = 0;
    verdicts
        .iter()
        .map(|&verdict| {
            (verdict != 0).then(|| {
                next += 1;
                next - 1
            })
        })
        .collect()
}

/// Keeps the rows of expectations with a verdict other than 0. `verdicts` must have one element per row.
pub fn retain_expectations(rows: &mut Expectations, verdicts: &[u8]) {
    let new_rows = new_rows(verdicts);
    let stay: Vec<usize> = (0..verdicts.len()).filter(|&row| new_rows.get(row).is_some_and(Option::is_some)).collect();
    keep(&mut rows.has, verdicts);
    for column in
        [&mut rows.event, &mut rows.family, &mut rows.protocol, &mut rows.mask_protocol, &mut rows.master_protocol]
    {
        keep(column, verdicts);
    }
    for tuples in [&mut rows.expected, &mut rows.mask, &mut rows.master] {
        pick_tuples(tuples, &stay);
    }
    for column in [&mut rows.timeout, &mut rows.id, &mut rows.flags, &mut rows.class_number, &mut rows.port_id] {
        keep(column, verdicts);
    }
    keep(&mut rows.zone, verdicts);
    for column in [&mut rows.helper, &mut rows.function, &mut rows.program] {
        retain_texts(column, &new_rows);
    }
    if let Some(nat) = &mut rows.nat {
        let stay = retained_items(&mut nat.rows, &new_rows);
        pick(&mut nat.direction, &stay);
        pick(&mut nat.protocol, &stay);
        pick_tuples(&mut nat.tuple, &stay);
    }
    if let Some(unknown) = &mut rows.unknown {
        retain_raw(unknown, &new_rows);
    }
    if let Some(annotations) = &mut rows.annotations {
        retain_annotations(annotations, &new_rows);
    }
    for column in &mut rows.more {
        retain_more(column, verdicts, &new_rows);
    }
    rows.length = stay.len() as u32;
}

/// A dense column of any width.
enum DenseColumn<'a> {
    Bytes(&'a mut Vec<u8>),
    Words(&'a mut Vec<u16>),
    Numbers(&'a mut Vec<u32>),
    Longs(&'a mut Vec<u64>),
}

impl<'a> From<&'a mut Vec<u8>> for DenseColumn<'a> {
    fn from(column: &'a mut Vec<u8>) -> Self {
        DenseColumn::Bytes(column)
    }
}

impl<'a> From<&'a mut Vec<u16>> for DenseColumn<'a> {
    fn from(column: &'a mut Vec<u16>) -> Self {
        DenseColumn::Words(column)
    }
}

impl<'a> From<&'a mut Vec<u32>> for DenseColumn<'a> {
    fn from(column: &'a mut Vec<u32>) -> Self {
        DenseColumn::Numbers(column)
    }
}

impl<'a> From<&'a mut Vec<u64>> for DenseColumn<'a> {
    fn from(column: &'a mut Vec<u64>) -> Self {
        DenseColumn::Longs(column)
    }
}

impl DenseColumn<'_> {
    fn retain(&mut self, verdicts: &[u8]) {
        match self {
            DenseColumn::Bytes(column) => keep(column, verdicts),
            DenseColumn::Words(column) => keep(column, verdicts),
            DenseColumn::Numbers(column) => keep(column, verdicts),
            DenseColumn::Longs(column) => keep(column, verdicts),
        }
    }
}

/// Moves the elements with a verdict other than 0 to the front, and truncates the column.
fn keep<T: Copy>(column: &mut Vec<T>, verdicts: &[u8]) {
    if column.is_empty() {
        return;
    }
    let mut next = 0;
    for (row, &verdict) in verdicts.iter().enumerate().take(column.len()) {
        column[next] = column[row];
        next += usize::from(verdict != 0);
    }
    column.truncate(next);
}

/// Visits every dense column.
fn each_dense(flows: &mut Flows, visit: impl Fn(&mut DenseColumn<'_>)) {
    visit(&mut (&mut flows.has).into());
    visit(&mut (&mut flows.family).into());
    macro_rules! dense {
        ($bits:expr, $($path:ident).+) => { visit(&mut (&mut flows.$($path).+).into()) };
    }
    with_dense!(dense);
    macro_rules! grouped {
        ($bits:expr, $group:ident, $column:ident) => {
            if let Some(group) = &mut flows.$group {
                visit(&mut (&mut group.$column).into());
            }
        };
    }
    with_grouped!(grouped);
    if let Some(events) = &mut flows.events {
        visit(&mut (&mut events.kind).into());
        visit(&mut (&mut events.received).into());
    }
}

/// Returns the items of a sparse column that remain, and renumbers its rows.
fn retained_items(rows: &mut Vec<u32>, new_rows: &[Option<u32>]) -> Vec<usize> {
    let mut stay = Vec::with_capacity(rows.len());
    let mut next = 0;
    for item in 0..rows.len() {
        if let Some(Some(place)) = new_rows.get(rows[item] as usize) {
            rows[next] = *place;
            next += 1;
            stay.push(item);
        }
    }
    rows.truncate(next);
    stay
}

fn pick<T: Copy>(column: &mut Vec<T>, stay: &[usize]) {
    if column.is_empty() {
        return;
    }
    for (next, &item) in stay.iter().enumerate() {
        column[next] = column[item];
    }
    column.truncate(stay.len());
}

fn pick_texts(texts: &mut Texts, stay: &[usize]) {
    let mut kept = Texts { ends: Vec::with_capacity(stay.len()), bytes: Vec::with_capacity(texts.bytes.len()) };
    for &item in stay {
        push_text(&mut kept, text(texts, item));
    }
    *texts = kept;
}

fn retain_texts(column: &mut SparseTexts, new_rows: &[Option<u32>]) {
    if !column.rows.is_empty() {
        let stay = retained_items(&mut column.rows, new_rows);
        pick_texts(&mut column.texts, &stay);
    }
}

fn pick_addresses(addresses: &mut Addresses, stay: &[usize]) {
    pick(&mut addresses.hi, stay);
    pick(&mut addresses.lo, stay);
}

fn pick_tuples(tuples: &mut Tuples, stay: &[usize]) {
    pick_addresses(&mut tuples.source, stay);
    pick_addresses(&mut tuples.destination, stay);
    pick(&mut tuples.source_l4, stay);
    pick(&mut tuples.destination_l4, stay);
}

/// Removes rows from the sparse groups of rare fields, except from their texts.
fn retain_rare(rare: &mut Rare, new_rows: &[Option<u32>]) {
    macro_rules! sparse {
        ($group:ident, $most:expr, $($($field:ident).+),+) => {
            let stay = retained_items(&mut rare.$group.rows, new_rows);
            $(pick(&mut rare.$group.$($field).+, &stay);)+
        };
    }
    with_sparse!(sparse);
    retain_raw(&mut rare.unknown, new_rows);
    retain_annotations(&mut rare.annotations, new_rows);
}

fn retain_raw(unknown: &mut RawAttributes, new_rows: &[Option<u32>]) {
    let stay = retained_items(&mut unknown.rows, new_rows);
    pick(&mut unknown.paths, &stay);
    pick_texts(&mut unknown.payloads, &stay);
}

fn retain_annotations(annotations: &mut Annotations, new_rows: &[Option<u32>]) {
    let stay = retained_items(&mut annotations.rows, new_rows);
    pick_texts(&mut annotations.keys, &stay);
    pick_texts(&mut annotations.values, &stay);
}

fn retain_more(column: &mut Column, verdicts: &[u8], new_rows: &[Option<u32>]) {
    if column.rows.is_empty() {
        keep(&mut column.bytes, verdicts);
        keep(&mut column.words, verdicts);
        keep(&mut column.numbers, verdicts);
        keep(&mut column.longs, verdicts);
        let stay: Vec<usize> =
            (0..column.texts.ends.len()).filter(|&i| new_rows.get(i).is_some_and(Option::is_some)).collect();
        pick_texts(&mut column.texts, &stay);
    } else {
        let stay = retained_items(&mut column.rows, new_rows);
        pick(&mut column.bytes, &stay);
        pick(&mut column.words, &stay);
        pick(&mut column.numbers, &stay);
        pick(&mut column.longs, &stay);
        pick_texts(&mut column.texts, &stay);
    }
}
