//! Columns: the values of a field or an expression for each row of a batch.

use std::borrow::Cow;

use flowgate_sdk::Flows;

/// The rows that have a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Presence {
    /// All.
    All,
    /// Those that carry all of these fields (bits of `flows.has`).
    Fields(u64),
    /// Those with a 1, one byte per row.
    Rows(Vec<u8>),
}

impl Presence {
    /// Clears the bytes of rows without a value.
    pub fn apply(&self, batch: &Flows, rows: &mut [u8]) {
        match self {
            Presence::All | Presence::Fields(0) => {}
            Presence::Fields(fields) => carrying(batch, *fields, rows),
            Presence::Rows(present) => {
                for (row, present) in rows.iter_mut().zip(present) {
                    *row &= present;
                }
            }
        }
    }

    /// Returns one byte per row: 1 if it has a value.
    #[must_use]
    pub fn rows(&self, batch: &Flows) -> Vec<u8> {
        let mut rows = vec![1; batch.length as usize];
        self.apply(batch, &mut rows);
        rows
    }

    /// Returns the rows of both.
    #[must_use]
    pub fn and(self, other: Presence, batch: &Flows) -> Presence {
        match (self, other) {
            (Presence::All, other) | (other, Presence::All) => other,
            (Presence::Fields(one), Presence::Fields(two)) => Presence::Fields(one | two),
            (Presence::Rows(mut rows), other) | (other, Presence::Rows(mut rows)) => {
                other.apply(batch, &mut rows);
                Presence::Rows(rows)
            }
        }
    }
}

/// Clears the bytes of rows whose value does not pass. A column that is too short continues with zeros.
#[inline]
pub fn keep<T: Copy + Default>(rows: &mut [u8], values: &[T], test: impl Fn(T) -> bool) {
    if values.len() < rows.len() {
        let zero = u8::from(test(T::default()));
        rows.iter_mut().skip(values.len()).for_each(|row| *row &= zero);
    }
    for (row, &value) in rows.iter_mut().zip(values) {
        *row &= u8::from(test(value));
    }
}

/// Clears the bytes of rows that do not carry all of these fields.
pub fn carrying(batch: &Flows, fields: u64, rows: &mut [u8]) {
    if fields != 0 {
        keep(rows, &batch.has, |has| has & fields == fields);
    }
}

/// Numbers in the type of their column. A column that is shorter than the batch continues with zeros.
#[derive(Clone, Debug, PartialEq)]
pub enum Values<'a> {
    /// 8 bits.
    Bytes(Cow<'a, [u8]>),
    /// 16 bits.
    Words(Cow<'a, [u16]>),
    /// 32 bits.
    Numbers(Cow<'a, [u32]>),
    /// 64 bits.
    Longs(Cow<'a, [u64]>),
    /// Signed, 64 bits.
    Signed(Vec<i64>),
    /// Signed, 128 bits.
    Wide(Vec<i128>),
}

/// A column of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers<'a> {
    /// The values, also of rows that have none.
    pub values: Values<'a>,
    /// The rows that have one.
    pub presence: Presence,
}

impl Numbers<'_> {
    /// Returns the number of a row, whether it is present or not.
    #[must_use]
    pub fn get(&self, row: usize) -> i128 {
        fn at<T: Copy + Into<i128>>(values: &[T], row: usize) -> i128 {
            values.get(row).copied().map_or(0, Into::into)
        }
        match &self.values {
            Values::Bytes(values) => at(values, row),
            Values::Words(values) => at(values, row),
            Values::Numbers(values) => at(values, row),
            Values::Longs(values) => at(values, row),
            Values::Signed(values) => at(values, row),
            Values::Wide(values) => at(values, row),
        }
    }
}

/// A column of addresses, in the form of `columns.addresses`.
#[derive(Clone, Debug, PartialEq)]
pub struct Addresses<'a> {
    /// Upper halves; may be empty where all are 0.
    pub hi: Cow<'a, [u64]>,
    /// Lower halves.
    pub lo: Cow<'a, [u64]>,
    /// The rows that have an address.
    pub presence: Presence,
}

impl Addresses<'_> {
    /// Returns the address of a row as a number, whether it is present or not.
    #[must_use]
    pub fn get(&self, row: usize) -> u128 {
        let half = |halves: &[u64]| halves.get(row).copied().unwrap_or_default();
        u128::from(half(&self.hi)) << 64 | u128::from(half(&self.lo))
    }
}

/// A column of texts; `None` for rows without one.
pub type Texts<'a> = Vec<Option<Cow<'a, [u8]>>>;

/// A column of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Column<'a> {
    /// Numbers.
    Numbers(Numbers<'a>),
    /// Addresses.
    Addresses(Addresses<'a>),
    /// Texts.
    Texts(Texts<'a>),
}
