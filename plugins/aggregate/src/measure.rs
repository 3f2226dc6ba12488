//! Measures: what is computed of each group.

use flowgate_plugin_query::{Column, Expression, LabelNames, Presence};
use flowgate_sdk::{Flows, bindings::flowgate::conntrack::query as wit};

use crate::{
    distinct::{Distinct, Full, Store},
    figures::Figures,
    keys::NONE,
};

/// Functions, by their number in `measure.function`.
mod function {
    pub(super) const COUNT: u8 = 0;
    pub(super) const SUM: u8 = 1;
    pub(super) const MIN: u8 = 2;
    pub(super) const AVG: u8 = 4;
    pub(super) const DISTINCT: u8 = 5;
}

/// A measure.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) kind: u8,
    pub(crate) function: u8,
    expression: Option<Expression>,
}

/// The values of a measure, one for each group.
#[derive(Clone, Debug)]
pub(crate) enum Accumulator {
    /// The number of flows.
    Count(Vec<u64>),
    /// The sum.
    Sum(Sums),
    /// The smallest values, or the largest, and a byte that says whether there is one.
    Extreme(bool, Vec<i128>, Vec<u8>),
    /// The sum, and the number of values.
    Mean(Sums, Vec<u64>),
    /// The distinct values.
    Distinct(Distinct),
}

/// Exact sums.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    /// The lower halves.
    low: Vec<u64>,
    /// The upper halves; empty as long as all are 0.
    high: Vec<i64>,
    /// How often a sum went beyond 128 bits, upwards less downwards; empty as long as none did.
    carries: Vec<i64>,
}

/// A value of a measure, for comparing and for output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Absent,
    Number(i128),
    Real(f64),
}

/// The values of a measure's expression in a batch.
pub(crate) struct Operand<'a> {
    pub(crate) values: Operands<'a>,
    /// A byte for each row: 1 if it has a value.
    present: Vec<u8>,
}

/// The values of rows, as a measure needs them.
pub(crate) enum Operands<'a> {
    /// None: flows are counted.
    Flows,
    /// Numbers.
    Figures(Figures<'a>),
    /// Distinct values of any kind.
    Column(Column<'a>),
}

impl Operand<'_> {
    pub(crate) fn has(&self, row: usize) -> bool {
        self.present.get(row) == Some(&1)
    }

    /// Returns the number of a row.
    #[inline]
    pub(crate) fn number(&self, row: usize) -> Option<i128> {
        match &self.values {
            Operands::Figures(figures) if self.has(row) => Some(figures.get(row)),
            _ => None,
        }
    }

    /// Calls a function with the group and both halves of the number of each row that has both. `groups` may end before
    /// the batch.
    #[inline]
    fn each(&self, groups: &[u32], mut take: impl FnMut(usize, u64, u64)) {
        let Operands::Figures(figures) = &self.values else { return };
        let places = groups.iter().zip(&self.present);
        match figures {
            Figures::Longs(values) => places.zip(&**values).for_each(|((&group, &present), &value)| {
                if group != NONE && present == 1 {
                    take(group as usize, value, 0);
                }
            }),
            Figures::Wide(values) => places.zip(values).for_each(|((&group, &present), &value)| {
                if group != NONE && present == 1 {
                    take(group as usize, value as u64, (value >> 64) as u64);
                }
            }),
        }
    }
}

/// Returns the number that has these halves.
fn joined(low: u64, high: u64) -> i128 {
    (u128::from(high) << 64 | u128::from(low)).cast_signed()
}

impl Sums {
    fn extend(&mut self, groups: usize) {
        self.low.resize(groups, 0);
        for upper in [&mut self.high, &mut self.carries] {
            if !upper.is_empty() {
                upper.resize(groups, 0);
            }
        }
    }

    /// Adds a number by its halves.
    #[inline]
    fn add(&mut self, group: usize, low: u64, high: u64) {
        let sum = &mut self.low[group];
        let (result, carry) = sum.overflowing_add(low);
        *sum = result;
        if carry || high != 0 {
            self.add_high(group, high.cast_signed(), carry);
        }
    }

    #[inline(never)]
    fn add_high(&mut self, group: usize, high: i64, carry: bool) {
        self.high.resize(self.low.len(), 0);
        let sum = i128::from(self.high[group]) + i128::from(high) + i128::from(carry);
        let kept = sum as i64;
        self.high[group] = kept;
        if i128::from(kept) != sum {
            self.carries.resize(self.low.len(), 0);
            self.carries[group] += if sum < 0 { -1 } else { 1 };
        }
    }

    /// Returns a sum; `None` for one of more than 128 bits.
    #[inline]
    fn get(&self, group: usize) -> Option<i128> {
        if self.carries.get(group).is_some_and(|carry| *carry != 0) {
            return None;
        }
        let high = self.high.get(group).copied().unwrap_or_default();
        Some(joined(self.low[group], high.cast_unsigned()))
    }

    /// Returns a sum as a real number, whatever its size.
    fn real(&self, group: usize) -> f64 {
        let high = self.high.get(group).copied().unwrap_or_default();
        let carry = self.carries.get(group).copied().unwrap_or_default();
        joined(self.low[group], high.cast_unsigned()) as f64 + carry as f64 * 2f64.powi(128)
    }

    fn reset(&mut self, group: usize) {
        self.low[group] = 0;
        for upper in [&mut self.high, &mut self.carries] {
            if let Some(upper) = upper.get_mut(group) {
                *upper = 0;
            }
        }
    }
}

impl Measure {
    pub(crate) fn new(measure: wit::Measure) -> Result<Self, String> {
        let wit::Measure { name, function, kind, program } = measure;
        if function > function::DISTINCT {
            return Err(format!("the measure {name} is of function {function}, which is not known"));
        }
        let expression =
            program.map(Expression::compile).transpose().map_err(|error| format!("the measure {name}: {error}"))?;
        if expression.is_none() && function != function::COUNT {
            return Err(format!("the measure {name} has no program"));
        }
        Ok(Measure { name, kind, function, expression })
    }

    /// Returns true if the measure grows with each flow, so that groups can have a weight by it, and rates.
    pub(crate) fn grows(&self) -> bool {
        matches!(self.function, function::COUNT | function::SUM)
    }

    /// Returns true if values are kept or estimated.
    pub(crate) fn counts_values(&self) -> bool {
        self.function == function::DISTINCT
    }

    /// Evaluates the expression.
    pub(crate) fn operand<'a>(&'a self, batch: &'a Flows, labels: &LabelNames) -> Operand<'a> {
        let length = batch.length as usize;
        let column = match self.function {
            // Of nothing but the flow.
            function::COUNT => None,
            _ => self.expression.as_ref().map(|expression| expression.column(batch, labels)),
        };
        let presence = match &column {
            Some(Column::Numbers(numbers)) => &numbers.presence,
            Some(Column::Addresses(addresses)) => &addresses.presence,
            Some(Column::Texts(_)) | None => &Presence::All,
        };
        let present = presence.rows(batch);
        let values = match column {
            None => Operands::Flows,
            Some(Column::Numbers(numbers)) if !self.counts_values() => {
                Operands::Figures(Figures::of(numbers.values, length))
            }
            Some(column) => Operands::Column(column),
        };
        Operand { values, present }
    }

    /// Returns an accumulator without groups.
    pub(crate) fn accumulator(&self, approximate: bool) -> Accumulator {
        match self.function {
            function::COUNT => Accumulator::Count(Vec::new()),
            function::SUM => Accumulator::Sum(Sums::default()),
            function::AVG => Accumulator::Mean(Sums::default(), Vec::new()),
            function::DISTINCT => Accumulator::Distinct(Distinct::new(approximate)),
            function => Accumulator::Extreme(function == function::MIN, Vec::new(), Vec::new()),
        }
    }
}

impl Accumulator {
    /// Makes values for so many groups.
    pub(crate) fn extend(&mut self, groups: usize) {
        match self {
            Accumulator::Count(counts) => counts.resize(groups, 0),
            Accumulator::Sum(sums) => sums.extend(groups),
            Accumulator::Extreme(least, values, has) => {
                values.resize(groups, if *least { i128::MAX } else { i128::MIN });
                has.resize(groups, 0);
            }
            Accumulator::Mean(sums, counts) => {
                sums.extend(groups);
                counts.resize(groups, 0);
            }
            Accumulator::Distinct(distinct) => distinct.extend(groups),
        }
    }

    /// Adds the rows of a batch to their groups; `groups` may end before the batch.
    pub(crate) fn add(&mut self, operand: &Operand<'_>, groups: &[u32], store: &mut Store) -> Result<(), Full> {
        match self {
            Accumulator::Count(counts) => {
                for &group in groups.iter().filter(|group| **group != NONE) {
                    counts[group as usize] += 1;
                }
            }
            Accumulator::Sum(sums) => operand.each(groups, |group, low, high| sums.add(group, low, high)),
            Accumulator::Extreme(least, values, has) => operand.each(groups, |group, low, high| {
                let (held, value) = (&mut values[group], joined(low, high));
                *held = if *least { value.min(*held) } else { value.max(*held) };
                has[group] = 1;
            }),
            Accumulator::Mean(sums, counts) => operand.each(groups, |group, low, high| {
                sums.add(group, low, high);
                counts[group] += 1;
            }),
            Accumulator::Distinct(distinct) => {
                for (row, &group) in groups.iter().enumerate().filter(|(_, group)| **group != NONE) {
                    distinct.add(group, operand, row, store)?;
                }
            }
        }
        Ok(())
    }

    /// Adds one row to a group.
    pub(crate) fn add_row(
        &mut self,
        operand: &Operand<'_>,
        row: usize,
        group: u32,
        store: &mut Store,
    ) -> Result<(), Full> {
        let at = group as usize;
        match (self, operand.number(row)) {
            (Accumulator::Count(counts), _) => counts[at] += 1,
            (Accumulator::Distinct(distinct), _) => distinct.add(group, operand, row, store)?,
            (Accumulator::Sum(sums), Some(value)) => sums.add(at, value as u64, (value >> 64) as u64),
            (Accumulator::Extreme(least, values, has), Some(value)) => {
                values[at] = if *least { value.min(values[at]) } else { value.max(values[at]) };
                has[at] = 1;
            }
            (Accumulator::Mean(sums, counts), Some(value)) => {
                sums.add(at, value as u64, (value >> 64) as u64);
                counts[at] += 1;
            }
            (Accumulator::Sum(_) | Accumulator::Extreme(..) | Accumulator::Mean(..), None) => {}
        }
        Ok(())
    }

    /// Resets the value of a group to that of an empty one.
    pub(crate) fn reset(&mut self, group: u32, store: &mut Store) {
        let at = group as usize;
        match self {
            Accumulator::Count(counts) => counts[at] = 0,
            Accumulator::Sum(sums) => sums.reset(at),
            Accumulator::Extreme(least, values, has) => {
                values[at] = if *least { i128::MAX } else { i128::MIN };
                has[at] = 0;
            }
            Accumulator::Mean(sums, counts) => {
                sums.reset(at);
                counts[at] = 0;
            }
            Accumulator::Distinct(distinct) => distinct.reset(group, store),
        }
    }

    /// Returns the weight of a group, if the measure grows.
    #[inline]
    pub(crate) fn weight(&self, group: u32) -> i128 {
        match self {
            Accumulator::Count(counts) => counts[group as usize].into(),
            Accumulator::Sum(sums) => sums.get(group as usize).unwrap_or(i128::MAX),
            _ => 0,
        }
    }

    /// Estimates what is estimated.
    pub(crate) fn conclude(&mut self) {
        if let Accumulator::Distinct(distinct) = self {
            distinct.conclude();
        }
    }

    /// Returns the value of a group, after [`conclude`](Self::conclude).
    pub(crate) fn value(&self, group: u32) -> Value {
        let at = group as usize;
        let number = |number: u64| Value::Number(number.into());
        match self {
            Accumulator::Count(counts) => number(counts[at]),
            Accumulator::Sum(sums) => sums.get(at).map_or(Value::Absent, Value::Number),
            Accumulator::Extreme(_, values, has) if has[at] == 1 => Value::Number(values[at]),
            Accumulator::Mean(sums, counts) if counts[at] > 0 => Value::Real(sums.real(at) / counts[at] as f64),
            Accumulator::Extreme(..) | Accumulator::Mean(..) => Value::Absent,
            Accumulator::Distinct(distinct) => number(distinct.count(group)),
        }
    }
}
