//! Access to the columns of a batch by row.

use std::net::IpAddr;

use crate::{
    Cells,
    bindings::flowgate::conntrack::columns::{Addresses, Annotations, SparseTexts, Texts},
};

impl Cells {
    /// Returns true if a row has a value.
    #[must_use]
    pub fn has(&self, row: usize) -> bool {
        self.has.is_empty() || self.has.get(row) == Some(&1)
    }

    /// Returns the number or the address of a row, in two's complement; 0 for a row that has none.
    #[must_use]
    pub fn bits(&self, row: usize) -> u128 {
        let half = |halves: &[u64]| halves.get(row).copied().unwrap_or_default();
        u128::from(half(&self.hi)) << 64 | u128::from(half(&self.lo))
    }

    /// Returns the real number of a row, or the prefix length of a network; 0 for a row that has none.
    #[must_use]
    pub fn real(&self, row: usize) -> f64 {
        self.reals.get(row).copied().unwrap_or_default()
    }
}

impl Texts {
    /// Returns the byte string at an index; `None` if there are not that many.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = match index {
            0 => 0,
            _ => *self.ends.get(index - 1)? as usize,
        };
        self.bytes.get(start..end)
    }

    /// Appends a byte string.
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u32);
    }
}

impl SparseTexts {
    /// Returns the byte string of a row; `None` if the row carries none.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        self.texts.get(self.rows.binary_search(&(row as u32)).ok()?)
    }

    /// Appends the byte string of a row after all rows that have one.
    pub fn push(&mut self, row: usize, text: &[u8]) {
        self.rows.push(row as u32);
        self.texts.push(text);
    }
}

impl Addresses {
    /// Returns the address in a row as a 128-bit number, IPv4 in its mapped form; 0 where the column is empty.
    #[inline]
    #[must_use]
    pub fn bits(&self, row: usize) -> u128 {
        (u128::from(at(&self.hi, row)) << 64) | u128::from(at(&self.lo, row))
    }

    /// Appends an address.
    pub fn push(&mut self, address: IpAddr) {
        let bits = crate::address::bits(address);
        self.hi.push((bits >> 64) as u64);
        self.lo.push(bits as u64);
    }
}

/// Returns a number of a dense column, 0 where the column is empty.
#[inline(always)]
pub(crate) fn at<T: Copy + Default>(column: &[T], row: usize) -> T {
    column.get(row).copied().unwrap_or_default()
}

/// Returns the keys and values of a row.
pub(crate) fn annotations<'a>(
    annotations: Option<&'a Annotations>,
    row: usize,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
    let row = row as u32;
    annotations.into_iter().flat_map(move |annotations| {
        let first = annotations.rows.partition_point(|&r| r < row);
        let last = annotations.rows.partition_point(|&r| r <= row);
        (first..last).filter_map(|i| Some((annotations.keys.get(i)?, annotations.values.get(i)?)))
    })
}
