//! Sets of numbers and addresses, as ascending ranges.

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
            Test::Ranges(ranges) => and(rows, values, |number| {
                let next = ranges.partition_point(|&(first, _)| first <= number);
                next.checked_sub(1).is_some_and(|index| number <= ranges[index].1)
            }),
            Test::Bits(bits) => and(rows, values, |number| {
                bits.get((number / 64) as usize).is_some_and(|bits| bits >> (number % 64) & 1 != 0)
            }),
        }
    }
}

/// Clears the bytes of rows whose number does not pass. A column that is too short continues with zeros.
#[inline]
fn and<T: Copy + Default + Into<u64>>(rows: &mut [u8], values: &[T], test: impl Fn(u64) -> bool) {
    if values.len() < rows.len() {
        let zero = u8::from(test(0));
        rows.iter_mut().skip(values.len()).for_each(|row| *row &= zero);
    }
    for (row, &value) in rows.iter_mut().zip(values) {
        *row &= u8::from(test(value.into()));
    }
}

/// A set of addresses: ranges of 128-bit numbers, ascending.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AddressSet(pub Vec<(u128, u128)>);

impl AddressSet {
    /// Clears the bytes of rows whose address is not in the set.
    pub(crate) fn apply(&self, rows: &mut [u8], hi: &[u64], lo: &[u64]) {
        let half = |range: &(u128, u128)| (range.1 >> 64 == 0).then_some((range.0 as u64, range.1 as u64));
        // IPv4: the upper half is 0.
        if let Some(lower) = self.0.iter().map(half).collect::<Option<Vec<_>>>() {
            if !hi.is_empty() {
                and(rows, hi, |hi| hi == 0);
            }
            let test = match lower.as_slice() {
                [] => Test::Always(false),
                [(first, last)] => Test::Range { first: *first, last: *last, inside: true },
                _ => Test::Ranges(lower),
            };
            return test.apply(rows, lo);
        }
        for (row, keep) in rows.iter_mut().enumerate().filter(|(_, keep)| **keep != 0) {
            let at = |halves: &[u64]| halves.get(row).copied().unwrap_or_default();
            *keep = u8::from(self.contains(u128::from(at(hi)) << 64 | u128::from(at(lo))));
        }
    }

    fn contains(&self, address: u128) -> bool {
        let next = self.0.partition_point(|&(first, _)| first <= address);
        next.checked_sub(1).is_some_and(|index| address <= self.0[index].1)
    }
}
