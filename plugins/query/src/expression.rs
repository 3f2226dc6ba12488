//! Expressions: what computes a column.

use std::borrow::Cow;

use flowgate_sdk::{Flows, Program, operation::Arithmetic};

use crate::{
    LabelNames,
    column::{Addresses, Column, Numbers, Presence, Texts, Values},
    compile, fields,
};

/// An expression, compiled from a program that leaves numbers, addresses or texts.
#[derive(Clone, Debug)]
pub struct Expression(pub(crate) Value);

/// A value of any kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// A number.
    Number(Number),
    /// An address.
    Address(Address),
    /// A text.
    Text(Text),
}

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Number {
    Field(u32),
    Constant(i128),
    Arithmetic(Arithmetic, Box<Number>, Box<Number>),
}

/// An address.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Address {
    Field(u32),
    Constant(u128),
}

/// A text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Text {
    Field(u32),
    Annotation(Vec<u8>),
    Constant(Vec<u8>),
}

/// Returns the result of an operation if operands and result are small; `None` says nothing about the result in 128
/// bits.
#[inline]
fn narrow_result(operation: Arithmetic, left: i64, right: i64) -> Option<i64> {
    match operation {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide => left.checked_div(right),
        Arithmetic::Remainder => left.checked_rem(right),
        Arithmetic::And => Some(left & right),
        Arithmetic::Or => Some(left | right),
        Arithmetic::Xor => Some(left ^ right),
        Arithmetic::ShiftLeft | Arithmetic::ShiftRight => None,
    }
}

/// One of two operands: a value for each row, or one for all.
enum Operand<T> {
    Rows(Vec<T>),
    All(T),
}

impl<T: Copy> Operand<T> {
    #[inline]
    fn get(&self, row: usize) -> T {
        match self {
            Operand::Rows(rows) => rows[row],
            Operand::All(value) => *value,
        }
    }
}

impl Number {
    /// Computes the number of each row.
    pub(crate) fn column<'a>(&self, batch: &'a Flows) -> Numbers<'a> {
        match self {
            Number::Field(number) => fields::numbers(*number, batch),
            Number::Constant(value) => {
                Numbers { values: Values::Wide(vec![*value; batch.length as usize]), presence: Presence::All }
            }
            Number::Arithmetic(operation, left, right) => compute(*operation, left, right, batch),
        }
    }

    /// Returns the constant, if it is one.
    pub(crate) fn constant(&self) -> Option<i128> {
        if let Number::Constant(value) = self { Some(*value) } else { None }
    }
}

/// Computes an operation on two columns.
fn compute<'a>(operation: Arithmetic, left: &Number, right: &Number, batch: &'a Flows) -> Numbers<'a> {
    let length = batch.length as usize;
    let operand = |number: &Number| match number.constant() {
        Some(value) => (Operand::All(value), Presence::All),
        None => {
            let Numbers { values, presence } = number.column(batch);
            (Operand::Rows(wide(values, length)), presence)
        }
    };
    // In 64 bits first, as nearly all operands and results fit.
    let small = |number: &Number| match number.constant() {
        Some(value) => i64::try_from(value).ok().map(|value| (Operand::All(value), Presence::All)),
        None => {
            let Numbers { values, presence } = number.column(batch);
            narrow(values, length).map(|values| (Operand::Rows(values), presence))
        }
    };
    if let (Some((left, one)), Some((right, two))) = (small(left), small(right)) {
        let results: Option<Vec<i64>> =
            (0..length).map(|row| narrow_result(operation, left.get(row), right.get(row))).collect();
        if let Some(results) = results {
            return Numbers { values: Values::Signed(results), presence: one.and(two, batch) };
        }
    }
    let ((left, one), (right, two)) = (operand(left), operand(right));
    let mut present = one.and(two, batch).rows(batch);
    let mut results = Vec::with_capacity(length);
    for (row, present) in present.iter_mut().enumerate() {
        let result = operation.checked(left.get(row), right.get(row));
        *present &= u8::from(result.is_some());
        results.push(result.unwrap_or_default());
    }
    Numbers { values: Values::Wide(results), presence: Presence::Rows(present) }
}

/// Returns the numbers in a wider type, `length` of them: missing ones are 0.
fn widened<S: Copy + Into<T>, T: Clone + Default>(values: &[S], length: usize) -> Vec<T> {
    let mut wide: Vec<T> = values.iter().map(|&value| value.into()).collect();
    wide.resize(length, T::default());
    wide
}

/// Returns the numbers in 128 bits, `length` of them.
fn wide(values: Values<'_>, length: usize) -> Vec<i128> {
    match values {
        Values::Bytes(values) => widened(&values, length),
        Values::Words(values) => widened(&values, length),
        Values::Numbers(values) => widened(&values, length),
        Values::Longs(values) => widened(&values, length),
        Values::Signed(values) => widened(&values, length),
        Values::Wide(values) => widened(&values, length),
    }
}

/// Returns the numbers in 64 bits if all fit, `length` of them.
fn narrow(values: Values<'_>, length: usize) -> Option<Vec<i64>> {
    Some(match values {
        Values::Bytes(values) => widened(&values, length),
        Values::Words(values) => widened(&values, length),
        Values::Numbers(values) => widened(&values, length),
        Values::Longs(values) => {
            if values.iter().fold(0, |all, value| all | value) > i64::MAX.cast_unsigned() {
                return None;
            }
            let mut narrow: Vec<i64> = values.iter().map(|value| value.cast_signed()).collect();
            narrow.resize(length, 0);
            narrow
        }
        Values::Signed(values) => widened(&values, length),
        Values::Wide(_) => return None,
    })
}

impl Address {
    /// Computes the address of each row.
    pub(crate) fn column<'a>(&self, batch: &'a Flows) -> Addresses<'a> {
        match self {
            Address::Field(number) => fields::addresses(*number, batch),
            Address::Constant(address) => {
                let half = |half: u64| Cow::Owned(vec![half; batch.length as usize]);
                let (hi, lo) = (half((address >> 64) as u64), half(*address as u64));
                Addresses { hi, lo, presence: Presence::All }
            }
        }
    }
}

impl Text {
    /// Returns the text of each row.
    pub(crate) fn column<'a>(&'a self, batch: &'a Flows, labels: &LabelNames) -> Texts<'a> {
        match self {
            Text::Field(number) => fields::texts(*number, batch, labels),
            Text::Annotation(key) => {
                let last = |annotations: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>| {
                    annotations.filter(|(of, _)| of == key).last().map(|(_, value)| Cow::Borrowed(value))
                };
                batch.flows().map(|flow| last(&mut flow.annotations())).collect()
            }
            Text::Constant(text) => vec![Some(Cow::Borrowed(&text[..])); batch.length as usize],
        }
    }
}

impl Expression {
    /// Compiles a program that leaves one column of numbers, addresses or texts.
    ///
    /// # Errors
    /// What is wrong with the program.
    pub fn compile(program: Program) -> Result<Self, String> {
        compile::expression(program).map(Expression)
    }

    /// Returns the expression that is a field.
    ///
    /// # Errors
    /// The field is not known.
    pub fn field(number: u32) -> Result<Self, String> {
        compile::field(number).map(Expression)
    }

    /// Computes the column of a batch.
    #[must_use]
    pub fn column<'a>(&'a self, batch: &'a Flows, labels: &LabelNames) -> Column<'a> {
        match &self.0 {
            Value::Number(number) => Column::Numbers(number.column(batch)),
            Value::Address(address) => Column::Addresses(address.column(batch)),
            Value::Text(text) => Column::Texts(text.column(batch, labels)),
        }
    }
}
