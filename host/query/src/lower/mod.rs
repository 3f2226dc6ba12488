//! From syntax to conditions and values: names get their meaning, types are checked, constants are computed.

mod comparisons;
mod kinds;
mod names;
mod values;

use std::{cell::Cell, ops::Range};

use flowgate_model::{Operation, Program};
use flowgate_names::{
    field,
    query::{self, QueryField, kind},
};

use crate::{
    Context,
    condition::Condition,
    error::{Diagnostic, quoted},
    parser::{Id, NodeKind, Tree},
};
use kinds::Shape;
use names::{status_bit, status_test, status_truth};

pub(crate) use kinds::{Type, Value};
pub(crate) use names::EVENTS;

/// Looks names up and checks types.
pub(crate) struct Lowering<'t> {
    pub(crate) tree: &'t Tree<'t>,
    context: &'t Context<'t>,
    /// Number of regular expressions so far.
    regexes: Cell<u32>,
}

type Hint = Option<&'static QueryField>;

/// Returns the program of these operations.
pub(crate) fn program(operations: Vec<Operation>) -> Program {
    let reads = operations.iter().map(|operation| match operation {
        Operation::Field(number) => query::by_number(*number).map_or(0, |field| field.reads),
        Operation::Annotation(_) => field::ANNOTATIONS,
        Operation::Label(_) => field::LABELS,
        _ => 0,
    });
    let reads = reads.fold(0, |all, bits| all | bits);
    Program { operations, reads }
}

/// Returns the number of columns that the operations need at a time.
pub(crate) fn depth(operations: &[Operation]) -> usize {
    let (mut depth, mut most) = (0usize, 0);
    for operation in operations {
        match operation {
            Operation::Field(_)
            | Operation::Annotation(_)
            | Operation::Number(_)
            | Operation::Address(_)
            | Operation::Text(_)
            | Operation::Truth(_)
            | Operation::Label(_) => depth += 1,
            Operation::Arithmetic(_) | Operation::Compare(_) => depth = depth.saturating_sub(1),
            Operation::All(number) | Operation::Any(number) => {
                depth = depth.saturating_sub((*number as usize).saturating_sub(1));
            }
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

impl<'t> Lowering<'t> {
    pub(crate) fn new(tree: &'t Tree<'t>, context: &'t Context<'t>) -> Self {
        Lowering { tree, context, regexes: Cell::new(0) }
    }
}

impl Lowering<'_> {
    fn at(&self, id: Id) -> Range<usize> {
        self.tree.node(id).at.clone()
    }

    fn part(&self, id: Id) -> &str {
        self.tree.part(&self.tree.node(id).at)
    }

    /// Returns the text of a name.
    fn word(&self, id: Id) -> &str {
        self.tree.part(&self.tree.node(id).inner)
    }

    /// Returns a part of the text for a hint, or something in its place if it is long.
    fn brief(&self, id: Id, instead: &'static str) -> &str {
        let part = self.part(id);
        if part.len() <= 60 && !part.contains(char::is_control) { part } else { instead }
    }

    fn is_name(&self, id: Id) -> bool {
        matches!(self.tree.node(id).kind, NodeKind::Name)
    }

    /// Returns the field that decides what names in this value mean.
    pub(crate) fn hint(&self, id: Id) -> Hint {
        match &self.tree.node(id).kind {
            NodeKind::Name => query::by_name(self.word(id)),
            NodeKind::Negate(inner) | NodeKind::Complement(inner) => self.hint(*inner),
            NodeKind::Arithmetic(first, rest) => {
                self.hint(*first).or_else(|| rest.iter().find_map(|(_, operand)| self.hint(*operand)))
            }
            _ => None,
        }
    }

    /// Returns the condition that a node is.
    pub(crate) fn condition(&self, id: Id) -> Result<Condition, Diagnostic> {
        match &self.tree.node(id).kind {
            NodeKind::All(operands) => {
                let operands: Result<Vec<_>, _> = operands.iter().map(|operand| self.condition(*operand)).collect();
                Ok(Condition::all(operands?))
            }
            NodeKind::Any(operands) => {
                let operands: Result<Vec<_>, _> = operands.iter().map(|operand| self.condition(*operand)).collect();
                Ok(Condition::any(operands?))
            }
            NodeKind::Not(operand) => Ok(self.condition(*operand)?.negated()),
            NodeKind::Compare(comparison, left, right) => self.comparison(*comparison, *left, *right),
            NodeKind::In(value, members, negated) => self.membership(*value, members, *negated),
            NodeKind::Test(test, value, text) => self.text_test(*test, *value, *text),
            NodeKind::Has(value) => {
                let mut operations = Vec::new();
                match self.value(*value, self.hint(*value), &mut operations)? {
                    Value::Computed(_) => operations.push(Operation::Has),
                    Value::Constant(_) => {
                        return Err(
                            Diagnostic::new(self.at(*value), "a constant is always present").hint("has(helper)")
                        );
                    }
                }
                Ok(Condition::Test(operations))
            }
            NodeKind::Label(label) => self.label(*label),
            NodeKind::Name => self.truth(id),
            _ => self.no_condition(id),
        }
    }

    /// Returns the truth value that a name alone is.
    fn truth(&self, id: Id) -> Result<Condition, Diagnostic> {
        let name = self.word(id);
        match name {
            "true" => return Ok(Condition::Truth(true)),
            "false" => return Ok(Condition::Truth(false)),
            _ => {}
        }
        if let Some(bit) = status_truth(name) {
            return Ok(status_test(bit));
        }
        if query::by_name(name).is_none() && !name.starts_with("annotations") {
            if status_bit(name).is_some() {
                return Err(Diagnostic::new(self.at(id), format!("{} is a number and not a condition", quoted(name)))
                    .hint(format!("{}, or status & {} != 0", name.to_ascii_lowercase(), name.to_ascii_uppercase())));
            }
            return Err(self.unknown(id, None, true));
        }
        self.no_condition(id)
    }

    fn no_condition(&self, id: Id) -> Result<Condition, Diagnostic> {
        let hint = self.hint(id);
        let value = self.value(id, hint, &mut Vec::new())?;
        let text = self.brief(id, "...");
        let (what, hint) = match value {
            Value::Constant(constant) => (constant.is().name(), "compare it with a field".to_owned()),
            Value::Computed(Shape { field: Some(field), .. }) if field.kind == kind::ADDRESS => {
                ("an address", format!("has({text}), or {text} == 10.0.0.1"))
            }
            Value::Computed(Shape { kind: kind::TEXT, .. }) => ("a text", format!("has({text}), or {text} == \"...\"")),
            Value::Computed(Shape { field: Some(_), .. }) => {
                ("a number", format!("has({text}) where it is carried, {text} != 0 where it is not 0"))
            }
            Value::Computed(shape) => (shape.is().name(), format!("{text} != 0")),
        };
        Err(Diagnostic::new(self.at(id), format!("{} is {what} and not a condition", quoted(self.part(id)))).hint(hint))
    }

    fn is_bare(&self, id: Id, number: u32) -> bool {
        self.is_name(id) && query::by_name(self.word(id)).is_some_and(|field| field.number == number)
    }
}
