//! A reference: random expressions with their text, and what they mean of a flow, without the crate's own code.

use std::collections::BTreeMap;

use flowgate_model::{Masked, Network, Operation, Program, Selection, wit::query::Number};
use flowgate_names::query;
use flowgate_test_support::Random;

/// A value of a flow.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub(crate) enum Value {
    Number(i128),
    Address(u128),
    Text(String),
}

/// A flow: the fields that it carries, its labels, its annotations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) fields: BTreeMap<u32, Value>,
    pub(crate) labels: Vec<u16>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// An expression that is a value.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Field(u32),
    Annotation(&'static str),
    Constant(Value),
    Arithmetic(u8, Box<Operand>, Box<Operand>),
    Negate(Box<Operand>),
    Complement(Box<Operand>),
}

/// An expression that is a condition.
#[derive(Clone, Debug)]
pub(crate) enum Expression {
    Truth(bool),
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Compare(u8, Operand, Operand),
    In(Operand, Vec<(Value, Value)>, bool),
    Has(Operand),
    Test(&'static str, Operand, &'static str),
    Label(u16),
    Status(u32, &'static str),
    /// A state by name: protocol and number of each, and whether it is `!=`.
    State(&'static str, &'static [(i128, i128)], bool),
}

const SIGNS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];
const WORDS: [&str; 6] = ["eq", "ne", "lt", "le", "gt", "ge"];
const ARITHMETIC: [&str; 10] = ["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"];

/// Addresses that random flows and expressions have.
fn address(random: &mut Random, ipv4: bool) -> u128 {
    let last = random.below(4) as u128;
    if ipv4 { 0xffff_0a00_0000 | last | ((random.below(2) as u128) << 8) } else { 0x2001_0db8 << 96 | last }
}

fn show_address(bits: u128) -> String {
    std::net::Ipv6Addr::from_bits(bits).to_canonical().to_string()
}

/// Returns a flow. Its fields go together as the kernel's do.
pub(crate) fn row(random: &mut Random) -> Row {
    let mut row = Row::default();
    let mut put = |field: u32, value: Value| row.fields.insert(field, value);
    let number = |number: usize| Value::Number(number as i128);
    let ipv4 = random.chance(1, 2);
    let protocol = *random.pick::<usize>(&[&1, &6, &6, &17, &47, &58, &132, &33, &200]);
    put(query::FAMILY, number(if ipv4 { 2 } else { 10 }));
    put(query::FAMILY_NAME, Value::Text(if ipv4 { "ipv4" } else { "ipv6" }.into()));
    put(query::PROTOCOL, number(protocol));
    let names = [(1, "icmp"), (6, "tcp"), (17, "udp"), (47, "gre"), (58, "icmpv6"), (132, "sctp"), (33, "dccp")];
    if let Some((_, name)) = names.iter().find(|(number, _)| *number == protocol) {
        put(query::PROTOCOL_NAME, Value::Text((*name).into()));
    }
    for field in [query::ORIGINAL_SOURCE, query::ORIGINAL_DESTINATION, query::REPLY_SOURCE, query::REPLY_DESTINATION] {
        put(field, Value::Address(address(random, ipv4)));
    }
    for (port, id, kind, code, key) in [
        (query::ORIGINAL_SOURCE_PORT, Some(query::ORIGINAL_ICMP_ID), None, None, query::ORIGINAL_SOURCE_KEY),
        (
            query::ORIGINAL_DESTINATION_PORT,
            None,
            Some(query::ORIGINAL_ICMP_TYPE),
            Some(query::ORIGINAL_ICMP_CODE),
            query::ORIGINAL_DESTINATION_KEY,
        ),
        (query::REPLY_SOURCE_PORT, Some(query::REPLY_ICMP_ID), None, None, query::REPLY_SOURCE_KEY),
        (
            query::REPLY_DESTINATION_PORT,
            None,
            Some(query::REPLY_ICMP_TYPE),
            Some(query::REPLY_ICMP_CODE),
            query::REPLY_DESTINATION_KEY,
        ),
    ] {
        match protocol {
            6 | 17 | 132 | 33 => {
                put(port, number(random.below(8)));
            }
            1 | 58 => {
                for field in [id, kind, code].into_iter().flatten() {
                    put(field, number(random.below(8)));
                }
            }
            47 => {
                put(key, number(random.below(8)));
            }
            _ => {}
        }
    }
    if matches!(protocol, 6 | 132 | 33) {
        put(query::STATE, number(random.below(8)));
    }
    for field in [query::STATUS, query::MARK, query::PACKETS, query::BYTES, query::ID, query::USE, query::AGE] {
        if random.chance(3, 4) {
            put(field, number(random.below(8)));
        }
    }
    for field in [query::ZONE, query::ORIGINAL_ZONE, query::REPLY_ZONE] {
        put(field, number(random.below(3)));
    }
    if random.chance(1, 2) {
        put(query::ORIGINAL_SEQUENCE_BEFORE, Value::Number(random.below(8) as i128 - 4));
    }
    if random.chance(1, 2) {
        put(query::HELPER, Value::Text((*random.pick(&["a", "ab", "b"])).into()));
    }
    row.labels = (0..3).filter(|_| random.chance(1, 2)).collect();
    if random.chance(1, 2) {
        row.annotations.insert("key".into(), (*random.pick(&["a", "ab", "b"])).into());
    }
    row
}

/// Fields that random expressions compare with numbers.
const NUMBERS: [u32; 28] = [
    query::FAMILY,
    query::PROTOCOL,
    query::PROTOCOL,
    query::STATE,
    query::STATUS,
    query::STATUS,
    query::MARK,
    query::MARK,
    query::PACKETS,
    query::BYTES,
    query::ID,
    query::USE,
    query::AGE,
    query::ZONE,
    query::ORIGINAL_ZONE,
    query::REPLY_ZONE,
    query::ORIGINAL_SOURCE_PORT,
    query::ORIGINAL_DESTINATION_PORT,
    query::REPLY_SOURCE_PORT,
    query::REPLY_DESTINATION_PORT,
    query::ORIGINAL_ICMP_ID,
    query::ORIGINAL_ICMP_TYPE,
    query::REPLY_ICMP_CODE,
    query::ORIGINAL_SOURCE_KEY,
    query::REPLY_DESTINATION_KEY,
    query::ORIGINAL_SEQUENCE_BEFORE,
    query::EVENT,
    query::TIMEOUT,
];
/// Fields that may be compared with each other.
const PLAIN: [u32; 7] =
    [query::MARK, query::PACKETS, query::ID, query::USE, query::ZONE, query::ORIGINAL_ZONE, query::REPLY_ZONE];
const ADDRESSES: [u32; 4] =
    [query::ORIGINAL_SOURCE, query::ORIGINAL_DESTINATION, query::REPLY_SOURCE, query::REPLY_DESTINATION];
const TEXTS: [&str; 3] = ["a", "ab", "b"];
const STATES: [(&str, &[(i128, i128)]); 4] = [
    ("ESTABLISHED", &[(6, 3), (132, 4)]),
    ("SYN_SENT", &[(6, 1)]),
    ("OPEN", &[(33, 4)]),
    ("NONE", &[(6, 0), (132, 0), (33, 0)]),
];

fn one<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len())]
}

fn constant(random: &mut Random, field: u32) -> i128 {
    match field {
        query::PROTOCOL => one(random, &[1, 6, 17, 47, 132]),
        query::FAMILY => one(random, &[2, 10]),
        query::ORIGINAL_SEQUENCE_BEFORE => random.below(8) as i128 - 4,
        _ => random.below(8) as i128,
    }
}

/// Returns arithmetic with one field of these.
fn computed(random: &mut Random, fields: &[u32], depth: usize) -> Operand {
    if depth == 0 || random.chance(1, 2) {
        return Operand::Field(one(random, fields));
    }
    match random.below(12) {
        0 => Operand::Negate(Box::new(computed(random, fields, depth - 1))),
        1 => Operand::Complement(Box::new(computed(random, fields, depth - 1))),
        number => {
            let operator = one(random, &[0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9]);
            let constant = if matches!(operator, 3 | 4) { 1 + random.below(5) } else { random.below(8) };
            let constant = Box::new(Operand::Constant(Value::Number(constant as i128)));
            let left = Box::new(computed(random, fields, depth - 1));
            match number {
                2 => Operand::Arithmetic(operator, left, Box::new(computed(random, fields, depth - 1))),
                3 => Operand::Arithmetic(operator, constant, left),
                _ => Operand::Arithmetic(operator, left, constant),
            }
        }
    }
}

/// Returns an expression.
pub(crate) fn expression(random: &mut Random, depth: usize) -> Expression {
    if depth > 0 && random.chance(2, 3) {
        let many = 2 + random.below(3);
        let mut operands = || (0..many).map(|_| expression(random, depth - 1)).collect();
        return match many {
            _ if depth.is_multiple_of(2) => Expression::All(operands()),
            2 | 3 => Expression::Any(operands()),
            _ => Expression::Not(Box::new(expression(random, depth - 1))),
        };
    }
    match random.below(24) {
        0 => Expression::Truth(random.chance(1, 2)),
        1 => Expression::Label(random.below(3) as u16),
        2 => {
            let (bit, name) = one(random, &[(1, "expected"), (2, "seen_reply"), (4, "assured")]);
            Expression::Status(bit, name)
        }
        3 => {
            let (name, of) = one(random, &STATES);
            Expression::State(name, of, random.chance(1, 3))
        }
        4 => Expression::Has(match random.below(3) {
            0 => computed(random, &NUMBERS, 1),
            1 => Operand::Field(query::HELPER),
            _ => Operand::Annotation("key"),
        }),
        5 | 6 => {
            let left = text(random);
            let right = Operand::Constant(Value::Text(one(random, &TEXTS).into()));
            match random.below(3) {
                0 => Expression::Compare(one(random, &[0, 0, 1, 2, 3, 4, 5]), left, right),
                1 => {
                    let test = one(random, &["contains", "starts_with", "ends_with", "matches"]);
                    Expression::Test(test, left, one(random, &TEXTS))
                }
                _ => {
                    let member = |text: &&str| (Value::Text((*text).into()), Value::Text((*text).into()));
                    let members = TEXTS.iter().take(1 + random.below(3)).map(member).collect();
                    Expression::In(left, members, random.chance(1, 3))
                }
            }
        }
        7..=9 => {
            let left = Operand::Field(one(random, &ADDRESSES));
            let ipv4 = random.chance(2, 3);
            let operator = one(random, &[0, 0, 1]);
            match random.below(4) {
                0 => Expression::Compare(operator, left, Operand::Field(one(random, &ADDRESSES))),
                1 => Expression::Compare(operator, left, Operand::Constant(Value::Address(address(random, ipv4)))),
                _ => {
                    let members = (0..1 + random.below(3)).map(|_| {
                        let ipv4 = random.chance(2, 3);
                        let (one, other) = (address(random, ipv4), address(random, ipv4));
                        let other = if random.chance(1, 2) { one } else { other };
                        (Value::Address(one.min(other)), Value::Address(one.max(other)))
                    });
                    Expression::In(left, members.collect(), random.chance(1, 4))
                }
            }
        }
        10 => {
            let operator = random.below(6) as u8;
            Expression::Compare(operator, computed(random, &PLAIN, 2), computed(random, &PLAIN, 2))
        }
        11..=13 => {
            // Bits of a field, the form that the kernel compares.
            let field = one(random, &[query::STATUS, query::MARK, query::ORIGINAL_SOURCE_PORT, query::PROTOCOL]);
            let mask = Box::new(Operand::Constant(Value::Number(random.below(16) as i128)));
            let masked = Operand::Arithmetic(5, Box::new(Operand::Field(field)), mask);
            let right = Operand::Constant(Value::Number(random.below(8) as i128));
            Expression::Compare(one(random, &[0, 0, 1]), masked, right)
        }
        14 => {
            // A field alone is not compared with what it cannot be.
            let left = computed(random, &NUMBERS, 3);
            let least = if matches!(left, Operand::Field(_)) { 0 } else { -5 };
            let right = Operand::Constant(Value::Number(random.below(20) as i128 + least));
            Expression::Compare(random.below(6) as u8, left, right)
        }
        _ => {
            let field = one(random, &NUMBERS);
            let left = Operand::Field(field);
            match random.below(3) {
                0 => {
                    let members = (0..1 + random.below(3)).map(|_| {
                        let (one, other) = (constant(random, field), constant(random, field));
                        let other = if random.chance(1, 2) { one } else { other };
                        (Value::Number(one.min(other)), Value::Number(one.max(other)))
                    });
                    Expression::In(left, members.collect(), random.chance(1, 4))
                }
                _ => {
                    let operator = one(random, &[0, 0, 0, 1, 2, 3, 4, 5]);
                    let right = Operand::Constant(Value::Number(constant(random, field)));
                    if random.chance(1, 5) {
                        Expression::Compare(operator, right, left)
                    } else {
                        Expression::Compare(operator, left, right)
                    }
                }
            }
        }
    }
}

/// Returns the text of a value.
pub(crate) fn computed_text(random: &mut Random) -> String {
    let operand = computed(random, &NUMBERS, 5);
    show_operand(&operand, random)
}

fn text(random: &mut Random) -> Operand {
    match random.below(4) {
        0 => Operand::Annotation("key"),
        1 => Operand::Field(query::PROTOCOL_NAME),
        _ => Operand::Field(query::HELPER),
    }
}

fn show_value(value: &Value, random: &mut Random) -> String {
    match value {
        Value::Number(number) if *number >= 0 && random.chance(1, 4) => format!("{number:#x}"),
        Value::Number(number) => number.to_string(),
        Value::Address(bits) => show_address(*bits),
        Value::Text(text) => format!("\"{text}\""),
    }
}

fn show_operand(operand: &Operand, random: &mut Random) -> String {
    match operand {
        Operand::Field(number) => {
            let field = query::by_number(*number).expect("a field");
            let names: Vec<&str> = field.aliases.iter().copied().chain([field.name]).collect();
            one(random, &names).to_owned()
        }
        Operand::Annotation(key) if random.chance(1, 2) => format!("annotations[\"{key}\"]"),
        Operand::Annotation(key) => format!("annotations.{key}"),
        Operand::Constant(value) => show_value(value, random),
        Operand::Negate(inner) => format!("-({})", show_operand(inner, random)),
        Operand::Complement(inner) => format!("~({})", show_operand(inner, random)),
        Operand::Arithmetic(operator, left, right) => {
            let (left, right) = (show_operand(left, random), show_operand(right, random));
            format!("({left}) {} ({right})", ARITHMETIC[usize::from(*operator)])
        }
    }
}

/// Returns a text of the expression.
pub(crate) fn show(expression: &Expression, random: &mut Random) -> String {
    let joined = |all: &[Expression], words: [&str; 2], random: &mut Random| {
        let word = one(random, &words);
        let all: Vec<String> = all.iter().map(|each| format!("({})", show(each, random))).collect();
        all.join(word)
    };
    match expression {
        Expression::Truth(truth) => truth.to_string(),
        Expression::All(all) => joined(all, [" and ", "&&"], random),
        Expression::Any(all) => joined(all, [" or ", " || "], random),
        Expression::Not(inner) => format!("{}({})", one(random, &["not ", "!"]), show(inner, random)),
        Expression::Compare(operator, left, right) => {
            let sign = one(random, &[SIGNS, WORDS])[usize::from(*operator)];
            format!("{} {sign} {}", show_operand(left, random), show_operand(right, random))
        }
        Expression::In(value, members, negated) => {
            let members: Vec<String> = members
                .iter()
                .map(|(first, last)| match first == last {
                    true => show_value(first, random),
                    false => format!("{}..{}", show_value(first, random), show_value(last, random)),
                })
                .collect();
            let word = if *negated { "not in" } else { "in" };
            format!("{} {word} {{{}}}", show_operand(value, random), members.join(", "))
        }
        Expression::Has(value) => format!("has({})", show_operand(value, random)),
        Expression::Test(test, value, text) => format!("{} {test} '{text}'", show_operand(value, random)),
        Expression::Label(bit) => format!("label({bit})"),
        Expression::Status(_, name) => (*name).to_owned(),
        Expression::State(name, _, false) => format!("state == {name}"),
        Expression::State(name, _, true) => format!("state != {name}"),
    }
}

fn arithmetic(operator: u8, left: i128, right: i128) -> Option<i128> {
    match operator {
        0 => left.checked_add(right),
        1 => left.checked_sub(right),
        2 => left.checked_mul(right),
        3 => left.checked_div(right),
        4 => left.checked_rem(right),
        5 => Some(left & right),
        6 => Some(left | right),
        7 => Some(left ^ right),
        8 | 9 if !(0..=127).contains(&right) => None,
        8 => left.checked_mul(1i128.checked_shl(right as u32).filter(|power| *power > 0)?),
        _ => Some(left >> right),
    }
}

fn number(value: Option<Value>) -> Option<i128> {
    match value {
        Some(Value::Number(number)) => Some(number),
        _ => None,
    }
}

fn value(operand: &Operand, row: &Row) -> Option<Value> {
    match operand {
        Operand::Field(field) => row.fields.get(field).cloned(),
        Operand::Annotation(key) => row.annotations.get(*key).cloned().map(Value::Text),
        Operand::Constant(constant) => Some(constant.clone()),
        Operand::Negate(inner) => number(value(inner, row))?.checked_neg().map(Value::Number),
        Operand::Complement(inner) => Some(Value::Number(!number(value(inner, row))?)),
        Operand::Arithmetic(operator, left, right) => {
            arithmetic(*operator, number(value(left, row))?, number(value(right, row))?).map(Value::Number)
        }
    }
}

fn compare(operator: u8, left: Option<Value>, right: Option<Value>) -> bool {
    let Some(order) = left.zip(right).and_then(|(left, right)| left.partial_cmp(&right)) else { return false };
    match operator {
        0 => order.is_eq(),
        1 => order.is_ne(),
        2 => order.is_lt(),
        3 => order.is_le(),
        4 => order.is_gt(),
        _ => order.is_ge(),
    }
}

fn test(name: &str, text: &str, part: &str) -> bool {
    match name {
        "contains" => text.contains(part),
        "starts_with" => text.starts_with(part),
        "ends_with" => text.ends_with(part),
        // Random ones have no special characters.
        _ => text.contains(part),
    }
}

/// Returns whether a flow satisfies the expression.
pub(crate) fn holds(expression: &Expression, row: &Row) -> bool {
    match expression {
        Expression::Truth(truth) => *truth,
        Expression::All(all) => all.iter().all(|each| holds(each, row)),
        Expression::Any(all) => all.iter().any(|each| holds(each, row)),
        Expression::Not(inner) => !holds(inner, row),
        Expression::Compare(operator, left, right) => compare(*operator, value(left, row), value(right, row)),
        Expression::In(operand, members, negated) => value(operand, row)
            .is_some_and(|value| members.iter().any(|(first, last)| *first <= value && value <= *last) != *negated),
        Expression::Has(operand) => value(operand, row).is_some(),
        Expression::Test(name, operand, part) => {
            matches!(value(operand, row), Some(Value::Text(text)) if test(name, &text, part))
        }
        Expression::Label(bit) => row.labels.contains(bit),
        Expression::Status(bit, _) => {
            number(row.fields.get(&query::STATUS).cloned()).is_some_and(|status| status & i128::from(*bit) != 0)
        }
        Expression::State(_, of, negated) => {
            let get = |field: u32| number(row.fields.get(&field).cloned());
            match (get(query::PROTOCOL), get(query::STATE)) {
                (Some(protocol), Some(state)) => of.contains(&(protocol, state)) != *negated,
                _ => false,
            }
        }
    }
}

fn integer(number: Number) -> i128 {
    i128::from(number.hi) << 64 | i128::from(number.lo)
}

fn bits(address: flowgate_model::Address) -> u128 {
    u128::from(address.hi) << 64 | u128::from(address.lo)
}

/// Runs a program on a flow, as `wit/query.wit` describes it. Returns its truth value, and the number of columns that
/// it needed.
pub(crate) fn run(program: &Program, row: &Row) -> (bool, usize) {
    enum Column {
        Value(Option<Value>),
        Truth(bool),
    }
    let mut stack: Vec<Column> = Vec::new();
    let mut most = 0;
    fn pop(stack: &mut Vec<Column>) -> Option<Value> {
        match stack.pop() {
            Some(Column::Value(value)) => value,
            _ => panic!("a value is missing"),
        }
    }
    fn truth(stack: &mut Vec<Column>) -> bool {
        match stack.pop() {
            Some(Column::Truth(truth)) => truth,
            _ => panic!("a truth value is missing"),
        }
    }
    for operation in &program.operations {
        let text = |stack: &mut Vec<Column>| match pop(stack) {
            Some(Value::Text(text)) => Some(text),
            None => None,
            other => panic!("{other:?} is not a text"),
        };
        let column = match operation {
            Operation::Field(field) => Column::Value(row.fields.get(field).cloned()),
            Operation::Annotation(key) => Column::Value(row.annotations.get(key).cloned().map(Value::Text)),
            Operation::Number(number) => Column::Value(Some(Value::Number(integer(*number)))),
            Operation::Address(address) => Column::Value(Some(Value::Address(bits(*address)))),
            Operation::Text(text) => Column::Value(Some(Value::Text(text.clone()))),
            Operation::Truth(truth) => Column::Truth(*truth),
            Operation::Arithmetic(operator) => {
                let (right, left) = (number(pop(&mut stack)), number(pop(&mut stack)));
                let result = left.zip(right).and_then(|(left, right)| arithmetic(*operator, left, right));
                Column::Value(result.map(Value::Number))
            }
            Operation::Negate => Column::Value(number(pop(&mut stack)).and_then(i128::checked_neg).map(Value::Number)),
            Operation::Complement => Column::Value(number(pop(&mut stack)).map(|number| Value::Number(!number))),
            Operation::Compare(operator) => {
                let (right, left) = (pop(&mut stack), pop(&mut stack));
                Column::Truth(compare(*operator, left, right))
            }
            Operation::NumberIn(ranges) => {
                let pairs: Vec<_> = ranges.iter().map(|range| (integer(range.first), integer(range.last))).collect();
                assert!(pairs.windows(2).all(|pair| pair[0].1 < pair[1].0), "{pairs:?} do not ascend");
                let value = number(pop(&mut stack));
                Column::Truth(value.is_some_and(|value| pairs.iter().any(|(from, to)| (*from..=*to).contains(&value))))
            }
            Operation::AddressIn(ranges) => {
                let pairs: Vec<_> = ranges.iter().map(|range| (bits(range.first), bits(range.last))).collect();
                assert!(pairs.windows(2).all(|pair| pair[0].1 < pair[1].0), "{pairs:?} do not ascend");
                let found = match pop(&mut stack) {
                    Some(Value::Address(value)) => pairs.iter().any(|(from, to)| (*from..=*to).contains(&value)),
                    _ => false,
                };
                Column::Truth(found)
            }
            Operation::TextIn(texts) => {
                assert!(texts.windows(2).all(|pair| pair[0] < pair[1]), "{texts:?} do not ascend");
                Column::Truth(text(&mut stack).is_some_and(|text| texts.contains(&text)))
            }
            Operation::Contains(part) => {
                Column::Truth(text(&mut stack).is_some_and(|text| test("contains", &text, part)))
            }
            Operation::StartsWith(part) => {
                Column::Truth(text(&mut stack).is_some_and(|text| test("starts_with", &text, part)))
            }
            Operation::EndsWith(part) => {
                Column::Truth(text(&mut stack).is_some_and(|text| test("ends_with", &text, part)))
            }
            Operation::Matches(part) => {
                Column::Truth(text(&mut stack).is_some_and(|text| test("matches", &text, part)))
            }
            Operation::Label(bit) => Column::Truth(row.labels.contains(bit)),
            Operation::Has => Column::Truth(pop(&mut stack).is_some()),
            Operation::All(number) => {
                let all: Vec<bool> = (0..*number).map(|_| truth(&mut stack)).collect();
                Column::Truth(all.iter().all(|each| *each))
            }
            Operation::Any(number) => {
                let all: Vec<bool> = (0..*number).map(|_| truth(&mut stack)).collect();
                Column::Truth(all.iter().any(|each| *each))
            }
            Operation::Not => Column::Truth(!truth(&mut stack)),
        };
        stack.push(column);
        most = most.max(stack.len());
    }
    assert_eq!(stack.len(), 1, "the program leaves one column");
    (truth(&mut stack), most)
}

/// Returns whether a flow satisfies the selection, as the kernel's filter and the plugin `match` understand it.
pub(crate) fn selected(selection: &Selection, row: &Row) -> bool {
    let get = |field: u32| number(row.fields.get(&field).cloned());
    let is = |wanted: Option<i128>, field: u32| wanted.is_none_or(|wanted| get(field) == Some(wanted));
    let zone = |wanted: Option<u16>, field: u32| {
        wanted.is_none_or(|wanted| get(field).unwrap_or_default() == i128::from(wanted))
    };
    let masked = |wanted: Option<Masked>, found: Option<i128>| {
        wanted.is_none_or(|Masked { value, mask }| {
            found.is_some_and(|found| found as u32 & mask == value && found <= u32::MAX.into())
        })
    };
    let network = |wanted: Option<Network>, field: u32| {
        wanted.is_none_or(|Network { value, mask }| match row.fields.get(&field) {
            Some(Value::Address(found)) => found & bits(mask) == bits(value) & bits(mask),
            _ => false,
        })
    };
    let source = |port: u32, id: u32, key: u32| get(port).or_else(|| get(id)).or_else(|| get(key));
    let destination = |port: u32, kind: u32, code: u32, key: u32| {
        get(port).or_else(|| get(key)).or_else(|| Some(get(kind)? * 256 + get(code)?))
    };
    let (original, reply) = (&selection.original, &selection.reply);
    let rest = Selection {
        family: None,
        protocol: None,
        original: Default::default(),
        reply: Default::default(),
        status: None,
        mark: None,
        zone: None,
        ..selection.clone()
    };
    assert_eq!(rest, Selection::default(), "the kernel's filter has no more than this");
    is(selection.family.map(i128::from), query::FAMILY)
        && is(selection.protocol.map(i128::from), query::PROTOCOL)
        && masked(selection.status, get(query::STATUS))
        && masked(selection.mark, get(query::MARK))
        && zone(selection.zone, query::ZONE)
        && zone(original.zone, query::ORIGINAL_ZONE)
        && zone(reply.zone, query::REPLY_ZONE)
        && network(original.source, query::ORIGINAL_SOURCE)
        && network(original.destination, query::ORIGINAL_DESTINATION)
        && network(reply.source, query::REPLY_SOURCE)
        && network(reply.destination, query::REPLY_DESTINATION)
        && masked(
            original.source_l4,
            source(query::ORIGINAL_SOURCE_PORT, query::ORIGINAL_ICMP_ID, query::ORIGINAL_SOURCE_KEY),
        )
        && masked(reply.source_l4, source(query::REPLY_SOURCE_PORT, query::REPLY_ICMP_ID, query::REPLY_SOURCE_KEY))
        && masked(
            original.destination_l4,
            destination(
                query::ORIGINAL_DESTINATION_PORT,
                query::ORIGINAL_ICMP_TYPE,
                query::ORIGINAL_ICMP_CODE,
                query::ORIGINAL_DESTINATION_KEY,
            ),
        )
        && masked(
            reply.destination_l4,
            destination(
                query::REPLY_DESTINATION_PORT,
                query::REPLY_ICMP_TYPE,
                query::REPLY_ICMP_CODE,
                query::REPLY_DESTINATION_KEY,
            ),
        )
}
