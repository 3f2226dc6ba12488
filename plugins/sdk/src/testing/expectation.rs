//! Expectations for tests.

use super::{Tuple, push};
use crate::{
    Expectations,
    bindings::flowgate::conntrack::{
        columns::{Annotations, RawAttributes, SparseTexts},
        expectation::ExpectedNat,
    },
    expectation_field,
};

/// An expectation for tests: the fields whose bits are in `has` are carried.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Expected {
    pub has: u64,
    pub event: u8,
    pub family: u8,
    pub protocol: u8,
    pub mask_protocol: u8,
    pub master_protocol: u8,
    pub expected: Tuple,
    pub mask: Tuple,
    pub master: Tuple,
    pub timeout: u32,
    pub id: u32,
    pub zone: u16,
    pub flags: u32,
    pub class: u32,
    pub port_id: u32,
    pub helper: Vec<u8>,
    pub function: Vec<u8>,
    pub program: Vec<u8>,
    /// Direction, protocol and tuple.
    pub nat: (u32, u8, Tuple),
    /// Paths and payloads.
    pub unknown: Vec<(u64, Vec<u8>)>,
    /// Keys and values.
    pub annotations: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Expected {
    /// Makes an expectation of a family and a protocol, with three empty tuples.
    #[must_use]
    pub fn new(family: u8, protocol: u8) -> Self {
        use expectation_field::{EXPECTED, EXPECTED_L4, MASK, MASK_L4, MASTER, MASTER_L4};
        Expected {
            has: EXPECTED | MASK | MASTER | EXPECTED_L4 | MASK_L4 | MASTER_L4,
            family,
            protocol,
            master_protocol: protocol,
            mask_protocol: 255,
            ..Expected::default()
        }
    }

    /// Sets fields, and their bits in `has`.
    #[must_use]
    pub fn set(mut self, fields: u64, set: impl FnOnce(&mut Self)) -> Self {
        set(&mut self);
        self.has |= fields;
        self
    }
}

/// Returns the rows as a batch.
pub fn expectations(rows: impl IntoIterator<Item = Expected>) -> Expectations {
    use expectation_field::{ANNOTATIONS, FUNCTION, HELPER, NAT, PROGRAM, UNKNOWN};
    fn text(column: &mut SparseTexts, row: usize, has: u64, field: u64, text: &[u8]) {
        if has & field != 0 {
            column.push(row, text);
        }
    }
    let mut batch = Expectations::default();
    for (i, row) in rows.into_iter().enumerate() {
        batch.length += 1;
        batch.has.push(row.has);
        batch.event.push(row.event);
        batch.family.push(row.family);
        batch.protocol.push(row.protocol);
        batch.mask_protocol.push(row.mask_protocol);
        batch.master_protocol.push(row.master_protocol);
        push(&mut batch.expected, &row.expected);
        push(&mut batch.mask, &row.mask);
        push(&mut batch.master, &row.master);
        batch.timeout.push(row.timeout);
        batch.id.push(row.id);
        batch.zone.push(row.zone);
        batch.flags.push(row.flags);
        batch.class_number.push(row.class);
        batch.port_id.push(row.port_id);
        text(&mut batch.helper, i, row.has, HELPER, &row.helper);
        text(&mut batch.function, i, row.has, FUNCTION, &row.function);
        text(&mut batch.program, i, row.has, PROGRAM, &row.program);
        if row.has & NAT != 0 {
            let ExpectedNat { rows, direction, protocol, tuple } = batch.nat.get_or_insert_default();
            rows.push(i as u32);
            direction.push(row.nat.0);
            protocol.push(row.nat.1);
            push(tuple, &row.nat.2);
        }
        if row.has & UNKNOWN != 0 {
            let RawAttributes { rows, paths, payloads } = batch.unknown.get_or_insert_default();
            for (path, payload) in &row.unknown {
                rows.push(i as u32);
                paths.push(*path);
                payloads.push(payload);
            }
        }
        if row.has & ANNOTATIONS != 0 {
            let Annotations { rows, keys, values } = batch.annotations.get_or_insert_default();
            for (key, value) in &row.annotations {
                rows.push(i as u32);
                keys.push(key);
                values.push(value);
            }
        }
    }
    batch
}
