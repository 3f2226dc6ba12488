//! Conditions: what clears the verdicts of rows that do not satisfy it.

use flowgate_sdk::{Flows, Program, operation::Comparison};

use crate::{
    LabelNames,
    column::{self, Values},
    compile,
    expression::{Address, Number, Text, Value},
    fields,
    set::{AddressSet, Test, is_within},
    text::TextTest,
};

/// A condition, compiled from a program that leaves truth values.
#[derive(Clone, Debug)]
pub struct Condition(pub(crate) Node);

/// A condition as a tree.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// All of these, of rows that carry these fields and have a protocol of each of these classes.
    All {
        fields: u64,
        classes: u8,
        nodes: Vec<Node>,
    },
    /// Any of these.
    Any(Vec<Node>),
    Not(Box<Node>),
    /// A field of numbers passes a test. The row is known to carry what the field requires.
    Test {
        field: u32,
        test: Test,
    },
    /// Two numbers compare in this way.
    Compare {
        left: Number,
        right: Number,
        comparison: Comparison,
    },
    /// A number is in one of these ranges, ascending.
    In {
        number: Number,
        ranges: Vec<(i128, i128)>,
    },
    /// An address is in a set.
    AddressIn {
        address: Address,
        set: AddressSet,
    },
    /// Two addresses are equal, or not.
    SameAddress {
        left: Address,
        right: Address,
        equal: bool,
    },
    /// A text passes a test.
    Text {
        text: Text,
        test: TextTest,
    },
    /// Two texts compare in this way.
    CompareTexts {
        left: Text,
        right: Text,
        comparison: Comparison,
    },
    /// A label is set.
    Label(u16),
    /// A value is present.
    Has(Value),
}

impl Condition {
    /// Compiles a program that leaves one column of truth values.
    ///
    /// # Errors
    /// What is wrong with the program.
    pub fn compile(program: Program) -> Result<Self, String> {
        compile::condition(program).map(Condition)
    }

    /// Clears the verdicts of rows that do not satisfy the condition.
    pub fn apply(&self, batch: &Flows, labels: &LabelNames, verdicts: &mut [u8]) {
        self.0.apply(batch, labels, verdicts);
    }
}

impl Node {
    /// Returns the truth value that is the same for all rows.
    pub(crate) fn truth(value: bool) -> Node {
        let all = Node::All { fields: 0, classes: 0, nodes: Vec::new() };
        if value { all } else { Node::Not(Box::new(all)) }
    }

    fn apply(&self, batch: &Flows, labels: &LabelNames, rows: &mut [u8]) {
        match self {
            Node::All { fields, classes, nodes } => {
                column::carrying(batch, *fields, rows);
                fields::of_class(batch, *classes, rows);
                for (index, node) in nodes.iter().enumerate() {
                    // What few rows pass spares the rest, which costs more than this look.
                    if index > 0 && rows.iter().all(|row| *row == 0) {
                        return;
                    }
                    node.apply(batch, labels, rows);
                }
            }
            Node::Any(nodes) => {
                // Rows that are still looked for, and those that have been found.
                let mut found = vec![0u8; rows.len()];
                let mut left = vec![0u8; rows.len()];
                for node in nodes {
                    left.copy_from_slice(rows);
                    node.apply(batch, labels, &mut left);
                    for (found, left) in found.iter_mut().zip(&left) {
                        *found |= left;
                    }
                }
                rows.copy_from_slice(&found);
            }
            Node::Not(node) => {
                let mut passed = rows.to_vec();
                node.apply(batch, labels, &mut passed);
                for (row, passed) in rows.iter_mut().zip(&passed) {
                    *row &= passed ^ 1;
                }
            }
            Node::Test { field, test } => {
                let column = fields::numbers_of_required(*field, batch);
                column.presence.apply(batch, rows);
                match &column.values {
                    Values::Bytes(values) => test.apply(rows, values),
                    Values::Words(values) => test.apply(rows, values),
                    Values::Numbers(values) => test.apply(rows, values),
                    Values::Longs(values) => test.apply(rows, values),
                    // No field with a largest number has these.
                    Values::Signed(_) | Values::Wide(_) => rows.fill(0),
                }
            }
            Node::Compare { left, right, comparison } => compare(left, right, *comparison, batch, rows),
            Node::In { number, ranges } => {
                let column = number.column(batch);
                column.presence.apply(batch, rows);
                for (index, row) in rows.iter_mut().enumerate() {
                    *row &= u8::from(is_within(ranges, column.get(index)));
                }
            }
            Node::AddressIn { address, set } => {
                let column = address.column(batch);
                column.presence.apply(batch, rows);
                set.apply(rows, &batch.family, &column.hi, &column.lo);
            }
            Node::SameAddress { left, right, equal } => {
                let (left, right) = (left.column(batch), right.column(batch));
                left.presence.apply(batch, rows);
                right.presence.apply(batch, rows);
                for (index, row) in rows.iter_mut().enumerate() {
                    *row &= u8::from((left.get(index) == right.get(index)) == *equal);
                }
            }
            Node::Text { text, test } => test.apply(text, batch, labels, rows),
            Node::CompareTexts { left, right, comparison } => {
                let (left, right) = (left.column(batch, labels), right.column(batch, labels));
                for (row, pair) in rows.iter_mut().zip(left.iter().zip(&right)) {
                    let (Some(left), Some(right)) = pair else {
                        *row = 0;
                        continue;
                    };
                    *row &= u8::from(comparison.accepts(left.cmp(right)));
                }
            }
            Node::Label(bit) => {
                for (row, flow) in rows.iter_mut().zip(batch.flows()) {
                    *row &= u8::from(flow.has_label(*bit));
                }
            }
            Node::Has(Value::Number(number)) => number.column(batch).presence.apply(batch, rows),
            Node::Has(Value::Address(address)) => address.column(batch).presence.apply(batch, rows),
            Node::Has(Value::Text(text)) => {
                for (row, text) in rows.iter_mut().zip(text.column(batch, labels)) {
                    *row &= u8::from(text.is_some());
                }
            }
        }
    }
}

/// Clears the bytes of rows whose numbers do not compare in this way.
fn compare(left: &Number, right: &Number, comparison: Comparison, batch: &Flows, rows: &mut [u8]) {
    let left = left.column(batch);
    left.presence.apply(batch, rows);
    if let Some(constant) = right.constant() {
        if let (Values::Signed(values), Ok(constant)) = (&left.values, i64::try_from(constant)) {
            for (row, value) in rows.iter_mut().zip(values) {
                *row &= u8::from(comparison.accepts(value.cmp(&constant)));
            }
            return;
        }
        for (index, row) in rows.iter_mut().enumerate() {
            *row &= u8::from(comparison.accepts(left.get(index).cmp(&constant)));
        }
        return;
    }
    let right = right.column(batch);
    right.presence.apply(batch, rows);
    for (index, row) in rows.iter_mut().enumerate() {
        *row &= u8::from(comparison.accepts(left.get(index).cmp(&right.get(index))));
    }
}
