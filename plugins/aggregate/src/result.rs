//! Results: the groups in their order, as columns.

use std::cmp::Ordering;

use flowgate_sdk::{Cells, bindings::flowgate::conntrack::query::Sort, query::kind};

use crate::{
    keys::{Found, Key},
    measure::{Accumulator, Measure, Value},
    texts::Interner,
};

/// What results are made of.
pub(crate) struct Parts<'a> {
    pub(crate) keys: &'a [Key],
    pub(crate) measures: &'a [Measure],
    pub(crate) found: &'a Found,
    pub(crate) texts: &'a Interner,
    pub(crate) values: &'a [Accumulator],
}

/// A key's value of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum KeyValue<'a> {
    Number(i128),
    Address(u128),
    Text(&'a [u8]),
    /// The last one in ascending order.
    Absent,
}

/// The place of a value among those of its column, as far as one number can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    absent: bool,
    rank: u128,
}

impl Rank {
    const LAST: Rank = Rank { absent: true, rank: 0 };
}

/// A group with its ranks in the two columns that decide first; that of the second one only if the first one's is
/// exact.
#[derive(Clone, Copy, Debug)]
struct Ranked {
    ranks: [Rank; 2],
    group: u32,
}

/// Restores a heap in which a place may have become smaller than those below it.
fn sink(heap: &mut [Ranked], mut place: usize, compare: impl Fn(&Ranked, &Ranked) -> Ordering) {
    loop {
        let left = 2 * place + 1;
        let Some(below) = heap.get(left..) else { return };
        let next = match below {
            [] => return,
            [one, two, ..] if compare(two, one).is_gt() => left + 1,
            _ => left,
        };
        if compare(&heap[next], &heap[place]).is_le() {
            return;
        }
        heap.swap(place, next);
        place = next;
    }
}

impl<'a> Parts<'a> {
    fn key(&self, index: usize, group: u32) -> KeyValue<'a> {
        let words = self.found.words(group);
        let (Some(key), [low, high]) = (self.keys.get(index), [words[index * 2], words[index * 2 + 1]]) else {
            return KeyValue::Absent;
        };
        let bits = u128::from(high) << 64 | u128::from(low);
        match key.kind {
            _ if words[words.len() - 1] >> index & 1 != 0 => KeyValue::Absent,
            kind::TEXT => KeyValue::Text(self.texts.text(low as u32)),
            kind::ADDRESS | kind::NETWORK => KeyValue::Address(bits),
            _ => KeyValue::Number(bits.cast_signed()),
        }
    }

    /// Returns the order of two groups by a column; absent values are last.
    fn by_column(&self, sort: &Sort, one: u32, two: u32) -> Ordering {
        let column = sort.column as usize;
        let directed = |order: Ordering| if sort.descending { order.reverse() } else { order };
        let Some(measure) = column.checked_sub(self.keys.len()) else {
            return match (self.key(column, one), self.key(column, two)) {
                (KeyValue::Absent, two) => (two != KeyValue::Absent).cmp(&false),
                (_, KeyValue::Absent) => Ordering::Less,
                (one, two) => directed(one.cmp(&two)),
            };
        };
        let Some(values) = self.values.get(measure) else { return Ordering::Equal };
        match (values.value(one), values.value(two)) {
            (Value::Absent, two) => (two != Value::Absent).cmp(&false),
            (_, Value::Absent) => Ordering::Less,
            (Value::Number(one), Value::Number(two)) => directed(one.cmp(&two)),
            (Value::Real(one), Value::Real(two)) => directed(one.total_cmp(&two)),
            (Value::Number(_), Value::Real(_)) | (Value::Real(_), Value::Number(_)) => Ordering::Equal,
        }
    }

    /// Returns the rank of a group in a column: one with a smaller rank comes first, one with the same rank is
    /// compared.
    fn rank(&self, sort: &Sort, group: u32) -> Rank {
        const SIGN: u128 = 1 << 127;
        let column = sort.column as usize;
        let rank = match column.checked_sub(self.keys.len()) {
            None => match self.key(column, group) {
                KeyValue::Absent => return Rank::LAST,
                KeyValue::Number(number) => number.cast_unsigned() ^ SIGN,
                KeyValue::Address(bits) => bits,
                KeyValue::Text(text) => {
                    let mut first = [0; 16];
                    first.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
                    u128::from_be_bytes(first)
                }
            },
            Some(measure) => match self.values.get(measure).map_or(Value::Absent, |values| values.value(group)) {
                Value::Absent => return Rank::LAST,
                Value::Number(number) => number.cast_unsigned() ^ SIGN,
                // No measure is a negative real number of importance: these are compared.
                Value::Real(real) if real > 0.0 => real.to_bits().into(),
                Value::Real(_) => 0,
            },
        };
        Rank { absent: false, rank: if sort.descending { !rank } else { rank } }
    }

    /// Returns true if values of the column with the same rank are the same.
    fn has_exact_ranks(&self, column: usize) -> bool {
        match column.checked_sub(self.keys.len()) {
            None => self.keys.get(column).is_some_and(|key| key.kind != kind::TEXT),
            Some(measure) => !matches!(self.values.get(measure), Some(Accumulator::Mean(..))),
        }
    }

    /// Returns the groups in order, at most `top`.
    pub(crate) fn order(&self, sorts: &[Sort], top: Option<u32>) -> Vec<u32> {
        let keys = (0..self.keys.len() as u32).map(|column| Sort { column, descending: false });
        let columns: Vec<Sort> = sorts.iter().copied().chain(keys).collect();
        let rank = |column: usize, group: u32| columns.get(column).map_or(Rank::LAST, |sort| self.rank(sort, group));
        let compare = |one: &Ranked, two: &Ranked| {
            let compared =
                || columns.iter().map(|sort| self.by_column(sort, one.group, two.group)).find(|it| it.is_ne());
            one.ranks.cmp(&two.ranks).then_with(|| compared().unwrap_or(Ordering::Equal))
        };
        let exact = columns.first().is_some_and(|sort| self.has_exact_ranks(sort.column as usize));
        let all = self.found.len();
        let most = top.map_or(all, |top| (top as usize).clamp(1, all.max(1)));
        let mut groups = (0..all as u32).map(|group| {
            let second = if exact { rank(1, group) } else { Rank::LAST };
            Ranked { ranks: [rank(0, group), second], group }
        });
        // The first ones of what has been seen, as a heap with the last of them at its top.
        let mut first: Vec<Ranked> = groups.by_ref().take(most).collect();
        for place in (0..first.len() / 2).rev() {
            sink(&mut first, place, compare);
        }
        for group in groups {
            if let Some(last) = first.first_mut().filter(|last| compare(&group, last).is_lt()) {
                *last = group;
                sink(&mut first, 0, compare);
            }
        }
        for end in (1..first.len()).rev() {
            first.swap(0, end);
            if let Some(rest) = first.get_mut(..end) {
                sink(rest, 0, compare);
            }
        }
        first.iter().take(top.map_or(all, |top| top as usize)).map(|ranked| ranked.group).collect()
    }

    /// Returns the columns of these groups; in a window of so many seconds, also the rates.
    pub(crate) fn columns(&self, order: &[u32], seconds: Option<f64>) -> Vec<Cells> {
        let mut columns: Vec<Cells> = (0..self.keys.len()).map(|index| self.key_column(index, order)).collect();
        let measures = || self.measures.iter().zip(self.values);
        columns.extend(measures().map(|(measure, values)| {
            let mut column = Column::new(&measure.name, measure.kind);
            order.iter().for_each(|group| column.push(values.value(*group)));
            column.cells()
        }));
        if let Some(seconds) = seconds {
            columns.extend(measures().filter(|(measure, _)| measure.grows()).map(|(measure, values)| {
                let kind = if measure.kind == kind::BYTES { kind::BYTE_RATE } else { kind::RATE };
                let mut column = Column::new(&format!("{}/s", measure.name), kind);
                order.iter().for_each(|group| {
                    column.push(match values.value(*group) {
                        Value::Number(number) => Value::Real(number as f64 / seconds),
                        other => other,
                    });
                });
                column.cells()
            }));
        }
        columns
    }

    fn key_column(&self, index: usize, order: &[u32]) -> Cells {
        let Some(key) = self.keys.get(index) else { return Cells::default() };
        let mut column = Column::new(&key.name, key.kind);
        for group in order {
            match self.key(index, *group) {
                KeyValue::Absent => column.push(Value::Absent),
                KeyValue::Number(number) => column.push(Value::Number(number)),
                KeyValue::Address(bits) => {
                    column.push(Value::Number(bits.cast_signed()));
                    if key.kind == kind::NETWORK {
                        column.cells.reals.resize(column.rows - 1, 0.0);
                        column.cells.reals.push(key.prefix(bits).into());
                    }
                }
                KeyValue::Text(text) => {
                    column.push_text(text);
                }
            }
        }
        column.cells()
    }
}

/// A column in the making.
struct Column {
    cells: Cells,
    rows: usize,
}

impl Column {
    fn new(name: &str, kind: u8) -> Self {
        Column { cells: Cells { name: name.to_owned(), kind, ..Cells::default() }, rows: 0 }
    }

    fn push(&mut self, value: Value) {
        self.rows += 1;
        let real = matches!(self.cells.kind, kind::MEAN..=kind::BYTE_RATE);
        match value {
            Value::Absent => {
                // Until now, all had a value.
                self.cells.has.resize(self.rows - 1, 1);
                self.cells.has.push(0);
                match self.cells.kind {
                    kind::TEXT => self.cells.texts.push(b""),
                    _ if real => self.cells.reals.push(0.0),
                    _ => self.push_bits(0),
                }
            }
            Value::Number(number) if real => self.cells.reals.push(number as f64),
            Value::Number(number) => self.push_bits(number.cast_unsigned()),
            Value::Real(real) => self.cells.reals.push(real),
        }
    }

    fn push_bits(&mut self, bits: u128) {
        let high = (bits >> 64) as u64;
        if high != 0 || !self.cells.hi.is_empty() {
            self.cells.hi.resize(self.rows - 1, 0);
            self.cells.hi.push(high);
        }
        self.cells.lo.push(bits as u64);
    }

    fn push_text(&mut self, text: &[u8]) {
        self.rows += 1;
        self.cells.texts.push(text);
    }

    fn cells(mut self) -> Cells {
        if !self.cells.has.is_empty() {
            self.cells.has.resize(self.rows, 1);
        }
        if self.cells.kind == kind::NETWORK {
            self.cells.reals.resize(self.rows, 0.0);
        }
        self.cells
    }
}
