//! Numbers of a batch in one of two types, so that what is computed from them has one loop for each.

use std::borrow::Cow;

use flowgate_plugin_query::Values;

/// The number of each row of a batch, also of rows that have none.
#[derive(Clone, Debug)]
pub(crate) enum Figures<'a> {
    /// None is negative or has more than 64 bits.
    Longs(Cow<'a, [u64]>),
    /// In two's complement.
    Wide(Vec<i128>),
}

impl<'a> Figures<'a> {
    /// Returns the values of a column, `length` of them.
    pub(crate) fn of(values: Values<'a>, length: usize) -> Self {
        match values {
            Values::Bytes(values) => Figures::Longs(longs(&values, length).into()),
            Values::Words(values) => Figures::Longs(longs(&values, length).into()),
            Values::Numbers(values) => Figures::Longs(longs(&values, length).into()),
            Values::Longs(Cow::Borrowed(values)) if values.len() >= length => Figures::Longs(values[..length].into()),
            Values::Longs(values) => {
                let mut values = values.into_owned();
                values.resize(length, 0);
                Figures::Longs(values.into())
            }
            Values::Signed(values) if values.iter().all(|value| *value >= 0) => {
                let mut values: Vec<u64> = values.into_iter().map(i64::cast_unsigned).collect();
                values.resize(length, 0);
                Figures::Longs(values.into())
            }
            Values::Signed(values) => Figures::wide(values.into_iter().map(i128::from).collect(), length),
            Values::Wide(values) => Figures::wide(values, length),
        }
    }

    fn wide(mut values: Vec<i128>, length: usize) -> Self {
        values.resize(length, 0);
        Figures::Wide(values)
    }

    /// Returns the number of a row.
    pub(crate) fn get(&self, row: usize) -> i128 {
        match self {
            Figures::Longs(values) => values.get(row).copied().unwrap_or_default().into(),
            Figures::Wide(values) => values.get(row).copied().unwrap_or_default(),
        }
    }

    /// Calls a function with the lower and the upper half of each number, in the order of the rows.
    #[inline]
    pub(crate) fn each(&self, mut take: impl FnMut(usize, u64, u64)) {
        match self {
            Figures::Longs(values) => values.iter().enumerate().for_each(|(row, value)| take(row, *value, 0)),
            Figures::Wide(values) => {
                values.iter().enumerate().for_each(|(row, value)| take(row, *value as u64, (value >> 64) as u64));
            }
        }
    }
}

fn longs<T: Copy + Into<u64>>(values: &[T], length: usize) -> Vec<u64> {
    let mut longs: Vec<u64> = values.iter().map(|&value| value.into()).collect();
    longs.resize(length, 0);
    longs
}
