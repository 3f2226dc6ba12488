//! Sets of numbers and addresses, as ascending ranges.

use flowgate_sdk::family;

use crate::column::keep;

/// A test of unsigned numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    /// Any number, if true; none otherwise.
    Always(bool),
    /// In this range, or outside of it.
    Range { first: u64, last: u64, inside: bool },
    /// Under a mask equal to this value, or not.
    Masked { mask: u64, value: u64, equal: bool },
    /// In one of these ranges.
    Ranges(Vec<(u64, u64)>),
    /// Among the 65,536 numbers of 16 bits, one bit each; larger ones are not.
    Bits(Vec<u64>),
}

/// Number of ranges from which on a bit set is used for numbers of 16 bits.
const MANY: usize = 4;

impl Test {
    /// Returns the test whether a number is in one of some ranges, of a column with numbers up to `most`.
    pub(crate) fn within(ranges: impl IntoIterator<Item = (i128, i128)>, most: u64) -> Test {
        let most_wide = i128::from(most);
        let ranges: Vec<(u64, u64)> = ranges
            .into_iter()
            .filter(|&(first, last)| first <= last && last >= 0 && first <= most_wide)
            .map(|(first, last)| (first.max(0) as u64, last.min(most_wide) as u64))
            .collect();
        match ranges.as_slice() {
            [] => Test::Always(false),
            [(0, last)] if *last == most => Test::Always(true),
            [(first, last)] => Test::Range { first: *first, last: *last, inside: true },
            _ if ranges.len() > MANY && most <= u64::from(u16::MAX) => {
                let mut bits = vec![0u64; 1024];
                for number in ranges.iter().flat_map(|&(first, last)| first..=last) {
                    bits[number as usize / 64] |= 1 << (number % 64);
                }
                Test::Bits(bits)
            }
            _ => Test::Ranges(ranges),
        }
    }

    /// Returns the opposite test.
    pub(crate) fn inverted(self) -> Option<Test> {
        Some(match self {
            Test::Always(all) => Test::Always(!all),
            Test::Range { first, last, inside } => Test::Range { first, last, inside: !inside },
            Test::Masked { mask, value, equal } => Test::Masked { mask, value, equal: !equal },
            Test::Ranges(_) | Test::Bits(_) => return None,
        })
    }

    /// Clears the bytes of rows whose number does not pass.
    pub(crate) fn apply<T: Copy + Default + Into<u64>>(&self, rows: &mut [u8], values: &[T]) {
        match self {
            Test::Always(true) => {}
            Test::Always(false) => rows.fill(0),
            Test::Range { first, last, inside: true } => {
                let (first, length) = (*first, last - first);
                and(rows, values, |number| number.wrapping_sub(first) <= length);
            }
            Test::Range { first, last, inside: false } => {
                let (first, length) = (*first, last - first);
                and(rows, values, |number| number.wrapping_sub(first) > length);
            }
            Test::Masked { mask, value, equal: true } => and(rows, values, |number| number & mask == *value),
            Test::Masked { mask, value, equal: false } => and(rows, values, |number| number & mask != *value),
            Test::Ranges(ranges) if ranges.len() <= MANY => and(rows, values, |number| {
                ranges.iter().fold(false, |any, &(first, last)| any | (number.wrapping_sub(first) <= last - first))
            }),
            Test::Ranges(ranges) => and(rows, values, |number| is_within(ranges, number)),
            Test::Bits(bits) => and(rows, values, |number| {
                bits.get((number / 64) as usize).is_some_and(|bits| bits >> (number % 64) & 1 != 0)
            }),
        }
    }
}

/// Clears the bytes of rows whose number, in the type of the tests, does not pass.
#[inline]
fn and<T: Copy + Default + Into<u64>>(rows: &mut [u8], values: &[T], test: impl Fn(u64) -> bool) {
    keep(rows, values, |value| test(value.into()));
}

/// A set of addresses: ranges of 128-bit numbers, ascending.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AddressSet {
    /// Of IPv4: a test of the lower half of the mapped form.
    four: Test,
    /// Of IPv6.
    six: Vec<(u128, u128)>,
}

/// The upper part of the mapped form of IPv4: `::ffff:0:0/96`.
const MAPPED: u128 = 0xffff;

impl AddressSet {
    /// Returns the set of some ranges: those of IPv4 first, each ascending and without overlap.
    pub(crate) fn new(ranges: impl IntoIterator<Item = (u128, u128)>) -> Result<Self, String> {
        let (mut four, mut six) = (Vec::new(), Vec::new());
        for (first, last) in ranges {
            if first >> 32 == MAPPED && last >> 32 == MAPPED && six.is_empty() {
                four.push((first as u64, last as u64));
            } else {
                six.push((first, last));
            }
        }
        let four = match ascending(four.into_iter())?.as_slice() {
            [] => Test::Always(false),
            [(first, last)] => Test::Range { first: *first, last: *last, inside: true },
            ranges => Test::Ranges(ranges.to_vec()),
        };
        Ok(AddressSet { four, six: ascending(six.into_iter())? })
    }

    /// Clears the bytes of rows whose address is not in the set.
    pub(crate) fn apply(&self, rows: &mut [u8], families: &[u8], hi: &[u64], lo: &[u64]) {
        if self.six.is_empty() {
            return self.apply_four(rows, families, lo);
        }
        let mut four = rows.to_vec();
        self.apply_four(&mut four, families, lo);
        keep(rows, families, |family| family == family::IPV6);
        for (row, keep) in rows.iter_mut().enumerate().filter(|(_, keep)| **keep != 0) {
            let at = |halves: &[u64]| halves.get(row).copied().unwrap_or_default();
            let address = u128::from(at(hi)) << 64 | u128::from(at(lo));
            *keep = u8::from(is_within(&self.six, address));
        }
        rows.iter_mut().zip(&four).for_each(|(row, four)| *row |= four);
    }

    fn apply_four(&self, rows: &mut [u8], families: &[u8], lo: &[u64]) {
        keep(rows, families, |family| family == family::IPV4);
        self.four.apply(rows, lo);
    }
}

/// Returns ranges if they ascend and do not overlap.
pub(crate) fn ascending<T: Ord>(ranges: impl Iterator<Item = (T, T)>) -> Result<Vec<(T, T)>, String> {
    let ranges: Vec<(T, T)> = ranges.collect();
    let sound = ranges.iter().all(|(first, last)| first <= last) && ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
    if sound { Ok(ranges) } else { Err("the ranges of a set do not ascend".into()) }
}

/// Returns true if a number is in one of ranges that ascend.
#[inline]
pub(crate) fn is_within<T: Copy + Ord>(ranges: &[(T, T)], number: T) -> bool {
    let next = ranges.partition_point(|&(first, _)| first <= number);
    next.checked_sub(1).is_some_and(|index| number <= ranges[index].1)
}
