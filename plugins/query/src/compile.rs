//! Compiles postfix programs to trees, in which comparisons of one field with constants are tests of its column.

use std::convert::Infallible;

use flowgate_sdk::{
    Operation, Program,
    bindings::flowgate::conntrack::{query as wit, selector},
    operation::{Arithmetic, COLUMNS, Comparison},
    query as q,
};

use crate::{
    condition::Node,
    expression::{Address, Number, Text, Value},
    fields::{self, Type, class},
    set::{AddressSet, Test, ascending},
    text::TextTest,
};

/// Maximum depth of a tree, which is evaluated recursively.
const DEPTH: usize = 1000;

/// An element of the stack, with the depth of its tree; `T` is a truth value.
enum Item<T> {
    Value(Value, usize),
    Truth(T, usize),
}

/// Returns the condition of a program.
pub(crate) fn condition(program: Program) -> Result<Node, String> {
    match run(program, Stack::decide)? {
        Item::Truth(node, _) => Ok(node),
        Item::Value(..) => Err("the program leaves a value and no truth value".into()),
    }
}

/// Returns the expression of a program. No truth value becomes a part of another value, so that nothing that computes
/// truth values is a part of a plugin that only has expressions.
pub(crate) fn expression(program: Program) -> Result<Value, String> {
    let truths = |_: &mut Stack<Infallible>, _| Err("the program has a truth value, which is no other value".into());
    match run(program, truths)? {
        Item::Value(value, _) => Ok(value),
    }
}

/// Returns the value that is a field.
pub(crate) fn field(number: u32) -> Result<Value, String> {
    match fields::type_of(number) {
        Some(Type::Number) => Ok(Value::Number(Number::Field(number))),
        Some(Type::Address) => Ok(Value::Address(Address::Field(number))),
        Some(Type::Text) => Ok(Value::Text(Text::Field(number))),
        None => Err(format!("there is no field {number}")),
    }
}

/// Performs the operations of a program; `decide` performs those on truth values.
fn run<T>(
    program: Program,
    decide: impl Fn(&mut Stack<T>, Operation) -> Result<(), String>,
) -> Result<Item<T>, String> {
    let mut stack = Stack(Vec::new());
    for operation in program.operations {
        match operation {
            Operation::Field(number) => stack.push(field(number)?, 0)?,
            Operation::Annotation(key) => stack.push(Value::Text(Text::Annotation(key.into_bytes())), 0)?,
            Operation::Number(number) => stack.push(Value::Number(Number::Constant(wide(number))), 0)?,
            Operation::Address(address) => stack.push(Value::Address(Address::Constant(bits(address))), 0)?,
            Operation::Text(text) => stack.push(Value::Text(Text::Constant(text.into_bytes())), 0)?,
            Operation::Arithmetic(code) => {
                let operation = Arithmetic::of_code(code).ok_or_else(|| format!("there is no operation {code}"))?;
                let ((right, one), (left, two)) = (stack.number()?, stack.number()?);
                let node = Number::Arithmetic(operation, Box::new(left), Box::new(right));
                stack.push(Value::Number(node), one.max(two) + 1)?;
            }
            Operation::Negate => stack.computed(Arithmetic::Subtract, 0)?,
            // `-1 ^ x`.
            Operation::Complement => stack.computed(Arithmetic::Xor, -1)?,
            other => decide(&mut stack, other)?,
        }
        if stack.0.len() > COLUMNS {
            return Err(format!("the program needs more than {COLUMNS} columns at a time"));
        }
    }
    match (stack.0.pop(), stack.0.is_empty()) {
        (Some(item), true) => Ok(item),
        (None, _) => Err("the program is empty".into()),
        (Some(_), false) => Err("the program leaves more than one column".into()),
    }
}

struct Stack<T>(Vec<Item<T>>);

impl Stack<Node> {
    fn decide(&mut self, operation: Operation) -> Result<(), String> {
        match operation {
            Operation::Truth(value) => self.conclude(Node::truth(value), 0),
            Operation::Compare(code) => {
                let comparison = Comparison::of_code(code).ok_or_else(|| format!("there is no comparison {code}"))?;
                let ((right, one), (left, two)) = (self.value()?, self.value()?);
                self.conclude(compare(left, right, comparison)?, one.max(two) + 1)
            }
            Operation::NumberIn(ranges) => {
                let (number, depth) = self.number()?;
                let ranges = ascending(ranges.iter().map(|range| (wide(range.first), wide(range.last))))?;
                self.conclude(number_in(number, ranges), depth + 1)
            }
            Operation::AddressIn(ranges) => {
                let (address, depth) = match self.value()? {
                    (Value::Address(address), depth) => (address, depth),
                    _ => return Err("an operation on addresses has something else".into()),
                };
                let set = AddressSet::new(ranges.iter().map(|range| (bits(range.first), bits(range.last))))?;
                self.conclude(address_in(address, set), depth + 1)
            }
            Operation::TextIn(texts) => {
                if texts.windows(2).any(|pair| pair[0] >= pair[1]) {
                    return Err("the texts of a set do not ascend".into());
                }
                self.test(TextTest::In(texts))
            }
            Operation::Contains(text) => self.test(TextTest::Contains(text.into_bytes())),
            Operation::StartsWith(text) => self.test(TextTest::StartsWith(text.into_bytes())),
            Operation::EndsWith(text) => self.test(TextTest::EndsWith(text.into_bytes())),
            Operation::Matches(pattern) => self.test(TextTest::matches(&pattern)?),
            Operation::Label(bit) => self.conclude(Node::Label(bit), 0),
            Operation::Has => {
                let (value, depth) = self.value()?;
                let node = match value {
                    Value::Number(Number::Field(number)) if !fields::is_dynamic(number) => {
                        let (fields, classes) = fields::required(number);
                        Node::All { fields, classes, nodes: Vec::new() }
                    }
                    Value::Address(Address::Field(number)) if !fields::is_dynamic(number) => {
                        Node::All { fields: fields::required(number).0, classes: 0, nodes: Vec::new() }
                    }
                    other => Node::Has(other),
                };
                self.conclude(node, depth + 1)
            }
            Operation::All(count) => {
                let nodes = self.truths(count)?;
                let depth = nodes.iter().map(|(_, depth)| *depth).max().unwrap_or_default();
                self.conclude(join(nodes.into_iter().map(|(node, _)| node)), depth + 1)
            }
            Operation::Any(count) => {
                let nodes = self.truths(count)?;
                let depth = nodes.iter().map(|(_, depth)| *depth).max().unwrap_or_default();
                let mut any = Vec::with_capacity(nodes.len());
                for (node, _) in nodes {
                    match node {
                        Node::Any(inner) => any.extend(inner),
                        other => any.push(other),
                    }
                }
                self.conclude(Node::Any(any), depth + 1)
            }
            Operation::Not => {
                let (node, depth) = self.truth()?;
                let node = match node {
                    Node::Not(inner) => *inner,
                    other => Node::Not(Box::new(other)),
                };
                self.conclude(node, depth + 1)
            }
            // Those on other values have been performed.
            _ => Err("an operation has no truth value".into()),
        }
    }

    fn conclude(&mut self, node: Node, depth: usize) -> Result<(), String> {
        self.0.push(Item::Truth(node, checked(depth)?));
        Ok(())
    }

    fn truth(&mut self) -> Result<(Node, usize), String> {
        match self.0.pop() {
            Some(Item::Truth(node, depth)) => Ok((node, depth)),
            Some(Item::Value(..)) => Err("an operation on truth values has another value".into()),
            None => Err("an operation lacks a truth value".into()),
        }
    }

    /// Returns as many truth values, in the order in which they were pushed.
    fn truths(&mut self, count: u32) -> Result<Vec<(Node, usize)>, String> {
        if count == 0 || count as usize > self.0.len() {
            return Err(format!("an operation on {count} truth values has {} columns", self.0.len()));
        }
        let mut nodes = (0..count).map(|_| self.truth()).collect::<Result<Vec<_>, _>>()?;
        nodes.reverse();
        Ok(nodes)
    }

    fn test(&mut self, test: TextTest) -> Result<(), String> {
        let (text, depth) = match self.value()? {
            (Value::Text(text), depth) => (text, depth),
            _ => return Err("an operation on texts has something else".into()),
        };
        self.conclude(Node::Text { text, test }, depth + 1)
    }
}

impl<T> Stack<T> {
    fn push(&mut self, value: Value, depth: usize) -> Result<(), String> {
        self.0.push(Item::Value(value, checked(depth)?));
        Ok(())
    }

    fn value(&mut self) -> Result<(Value, usize), String> {
        match self.0.pop() {
            Some(Item::Value(value, depth)) => Ok((value, depth)),
            Some(Item::Truth(..)) => Err("an operation on values has a truth value".into()),
            None => Err("an operation lacks a value".into()),
        }
    }

    fn number(&mut self) -> Result<(Number, usize), String> {
        match self.value()? {
            (Value::Number(number), depth) => Ok((number, depth)),
            _ => Err("an operation on numbers has something else".into()),
        }
    }

    /// Replaces a number by the result of an operation on a constant and it.
    fn computed(&mut self, operation: Arithmetic, constant: i128) -> Result<(), String> {
        let (number, depth) = self.number()?;
        let node = Number::Arithmetic(operation, Box::new(Number::Constant(constant)), Box::new(number));
        self.push(Value::Number(node), depth + 1)
    }
}

fn checked(depth: usize) -> Result<usize, String> {
    if depth > DEPTH { Err(format!("the program is nested deeper than {DEPTH} levels")) } else { Ok(depth) }
}

fn wide(number: wit::Number) -> i128 {
    i128::from(number.hi) << 64 | i128::from(number.lo)
}

fn bits(address: selector::Address) -> u128 {
    u128::from(address.hi) << 64 | u128::from(address.lo)
}

/// Returns a condition on rows that carry some fields and have a protocol of some classes.
fn all(fields: u64, classes: u8, node: Node) -> Node {
    Node::All { fields, classes, nodes: vec![node] }
}

/// Joins conditions that must all hold: what they require is checked once, and not at all where another one implies it.
fn join(conditions: impl Iterator<Item = Node>) -> Node {
    let (mut fields, mut classes, mut nodes) = (0, 0, Vec::new());
    for condition in conditions {
        match condition {
            Node::All { fields: more, classes: further, nodes: inner } => {
                fields |= more;
                classes |= further;
                nodes.extend(inner);
            }
            other => nodes.push(other),
        }
    }
    // `proto == tcp and dport == 443`: TCP has ports.
    for node in &nodes {
        if let Node::Test { field: q::PROTOCOL, test: Test::Range { first, last, inside: true } } = node
            && first == last
            && let Ok(number) = u8::try_from(*first)
        {
            for class in class::ALL.into_iter().filter(|class| class::contains(*class, number)) {
                classes &= !class;
            }
        }
    }
    Node::All { fields, classes, nodes }
}

/// Returns whether an address is in a set.
fn address_in(address: Address, set: AddressSet) -> Node {
    let required = match address {
        Address::Field(number) => fields::required(number).0,
        Address::Constant(_) => 0,
    };
    all(required, 0, Node::AddressIn { address, set })
}

/// Returns whether a number is in some ranges.
fn number_in(number: Number, ranges: Vec<(i128, i128)>) -> Node {
    if let Number::Field(field) = number
        && let Some(most) = fields::largest(field)
    {
        return test(field, Test::within(ranges, most));
    }
    Node::In { number, ranges }
}

/// Returns a test of a field.
fn test(field: u32, test: Test) -> Node {
    let (fields, classes) = fields::required(field);
    all(fields, classes, Node::Test { field, test })
}

/// Returns a comparison of two values of one kind.
fn compare(left: Value, right: Value, comparison: Comparison) -> Result<Node, String> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => Ok(compare_numbers(left, right, comparison)),
        (Value::Address(left), Value::Address(right)) => {
            let equal = match comparison {
                Comparison::Equal => true,
                Comparison::NotEqual => false,
                _ => return Err("addresses can only be equal or not".into()),
            };
            match (left, right) {
                (address, Address::Constant(one)) | (Address::Constant(one), address) => {
                    let inside = address_in(address.clone(), AddressSet::new([(one, one)])?);
                    let present = |address: &Address| match address {
                        Address::Field(field) if !fields::is_dynamic(*field) => {
                            Node::All { fields: fields::required(*field).0, classes: 0, nodes: Vec::new() }
                        }
                        other => Node::Has(Value::Address(other.clone())),
                    };
                    Ok(if equal { inside } else { join([present(&address), Node::Not(Box::new(inside))].into_iter()) })
                }
                (Address::Field(left), Address::Field(right)) => {
                    let fields = fields::required(left).0 | fields::required(right).0;
                    let (left, right) = (Address::Field(left), Address::Field(right));
                    Ok(all(fields, 0, Node::SameAddress { left, right, equal }))
                }
            }
        }
        (Value::Text(left), Value::Text(right)) => Ok(Node::CompareTexts { left, right, comparison }),
        _ => Err("a comparison has values of different kinds".into()),
    }
}

fn compare_numbers(left: Number, right: Number, comparison: Comparison) -> Node {
    // Constants stand to the right.
    let (left, right, comparison) =
        if left.constant().is_some() { (right, left, comparison.mirrored()) } else { (left, right, comparison) };
    if let Some(constant) = right.constant() {
        if let Number::Field(field) = left
            && let Some(most) = fields::largest(field)
        {
            return test(field, compared(comparison, constant, most));
        }
        if let Some((field, mask)) = masked(&left)
            && matches!(comparison, Comparison::Equal | Comparison::NotEqual)
        {
            let equal = comparison == Comparison::Equal;
            // A value that is negative, or has bits outside of the mask, is never equal.
            return match u64::try_from(constant).ok().filter(|value| value & mask == *value) {
                Some(value) => test(field, Test::Masked { mask, value, equal }),
                None => test(field, Test::Always(!equal)),
            };
        }
    }
    Node::Compare { left, right, comparison }
}

/// Returns the field and the mask of `field & mask`.
fn masked(number: &Number) -> Option<(u32, u64)> {
    let Number::Arithmetic(Arithmetic::And, left, right) = number else { return None };
    let (field, mask) = match (&**left, &**right) {
        (Number::Field(field), Number::Constant(mask)) | (Number::Constant(mask), Number::Field(field)) => {
            (*field, *mask)
        }
        _ => return None,
    };
    let most = fields::largest(field)?;
    // Bits beyond the field are 0 in it; a negative mask has all of them.
    Some((field, (mask & i128::from(most)) as u64))
}

/// Returns the test of a comparison with a constant, for numbers from 0 to `most`.
fn compared(comparison: Comparison, constant: i128, most: u64) -> Test {
    let within = |first: i128, last: i128| Test::within([(first, last)], most);
    match comparison {
        Comparison::Equal => within(constant, constant),
        Comparison::NotEqual => within(constant, constant).inverted().unwrap_or(Test::Always(true)),
        Comparison::Less => within(0, constant.saturating_sub(1)),
        Comparison::LessOrEqual => within(0, constant),
        Comparison::Greater => within(constant.saturating_add(1), i128::MAX),
        Comparison::GreaterOrEqual => within(constant, i128::MAX),
    }
}
