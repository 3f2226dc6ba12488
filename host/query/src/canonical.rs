//! The canonical text of a program.

use std::{fmt::Write as _, net::Ipv6Addr};

use flowgate_base::text::clean;
use flowgate_model::{Operation, Program};
use flowgate_names::{
    family::{self, is_ipv4},
    operation::Comparison,
    protocol,
    query::{self, QueryField, kind},
};

use crate::{
    condition::{Condition, Set, bits, integer, is_ipv6_range, members},
    lower::EVENTS,
    parser::ARITHMETIC,
};

/// Precedence of what binds tightest.
const ATOM: u8 = 12;
/// Precedence of `-x` and `~x`.
const UNARY: u8 = 11;

/// Returns the text of a program that [`crate::Query::parse`], [`crate::columns::parse`] or
/// [`crate::aggregation::AggregationArguments::parse`] made, with full names of fields. Parsed, it is the same program
/// again. Of any other program, the text is for people only.
#[must_use]
pub fn canonical(program: &Program) -> String {
    let mut text = String::new();
    match Condition::of_program(&program.operations) {
        Some(condition) => write_condition(&condition, Place::Whole, &mut text),
        None => text = value(&program.operations).0,
    }
    text
}

/// Returns at least the number of levels that the canonical text of a condition is nested.
pub(crate) fn nesting(condition: &Condition) -> usize {
    match condition {
        Condition::Truth(_) => 1,
        Condition::All(chain) | Condition::Any(chain) => 1 + chain.iter().map(nesting).max().unwrap_or_default(),
        Condition::Not(inner) => 1 + nesting(inner),
        Condition::Test(operations) => 1 + value_nesting(operations),
    }
}

/// Returns the number of levels that the canonical text of a value is nested.
pub(crate) fn value_nesting(operations: &[Operation]) -> usize {
    // Levels of each value, and the precedence of its loosest operator: a chain of equal precedence is one level.
    let mut stack: Vec<(usize, u8)> = Vec::new();
    for operation in operations {
        match operation {
            Operation::Arithmetic(operator) => {
                let (right, left) = (stack.pop().unwrap_or_default(), stack.pop().unwrap_or_default());
                let level = ARITHMETIC.get(usize::from(*operator)).map_or(UNARY, |(_, level)| *level);
                let left = if left.1 == level { left.0 } else { left.0 + 1 };
                stack.push((left.max(right.0 + 1), level));
            }
            Operation::Negate | Operation::Complement => {
                if let Some((levels, level)) = stack.last_mut() {
                    (*levels, *level) = (*levels + 1, UNARY);
                }
            }
            Operation::Compare(_) => {
                let (right, left) = (stack.pop().unwrap_or_default(), stack.pop().unwrap_or_default());
                stack.push((left.0.max(right.0), ATOM));
            }
            // A negative number is a prefix and its operand.
            Operation::Number(number) if number.hi < 0 => stack.push((2, UNARY)),
            Operation::Has => {
                if let Some((levels, _)) = stack.last_mut() {
                    *levels += 1;
                }
            }
            Operation::NumberIn(ranges) if ranges.first().is_some_and(|range| range.first.hi < 0) => {
                if let Some((levels, _)) = stack.last_mut() {
                    *levels = (*levels).max(2);
                }
            }
            Operation::Field(_) | Operation::Annotation(_) | Operation::Address(_) | Operation::Text(_) => {
                stack.push((1, ATOM));
            }
            Operation::Number(_) | Operation::Label(_) => stack.push((1, ATOM)),
            _ => {}
        }
    }
    stack.pop().unwrap_or_default().0
}

/// Where a condition stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Whole,
    InOr,
    InAnd,
    InNot,
}

fn write_condition(condition: &Condition, place: Place, text: &mut String) {
    let (chain, word, inner, brackets) = match condition {
        Condition::Truth(truth) => {
            let _ = write!(text, "{truth}");
            return;
        }
        Condition::Test(operations) => return write_test(operations, text),
        Condition::Not(inner) => {
            text.push_str("not ");
            return write_condition(inner, Place::InNot, text);
        }
        Condition::All(chain) => (chain, " and ", Place::InAnd, matches!(place, Place::InNot | Place::InAnd)),
        Condition::Any(chain) => (chain, " or ", Place::InOr, place != Place::Whole),
    };
    if brackets {
        text.push('(');
    }
    for (position, condition) in chain.iter().enumerate() {
        if position > 0 {
            text.push_str(word);
        }
        write_condition(condition, inner, text);
    }
    if brackets {
        text.push(')');
    }
}

/// How numbers are written.
#[derive(Clone, Copy)]
enum Style {
    Decimal,
    Hexadecimal,
    Protocol,
    Family,
    Event,
    Time,
}

fn style(field: &QueryField) -> Style {
    match field.kind {
        kind::BITS | kind::STATUS => Style::Hexadecimal,
        kind::PROTOCOL => Style::Protocol,
        kind::FAMILY => Style::Family,
        kind::EVENT => Style::Event,
        kind::TIME => Style::Time,
        _ => Style::Decimal,
    }
}

fn number(number: i128, style: Style) -> String {
    let byte = || u8::try_from(number).ok();
    let name = match style {
        Style::Hexadecimal if number >= 0 => Some(format!("{number:#x}")),
        Style::Protocol => byte().and_then(protocol::name).map(str::to_owned),
        Style::Family => byte().and_then(family::name).map(str::to_owned),
        Style::Event => EVENTS.iter().find(|(_, known)| byte() == Some(*known)).map(|(name, _)| (*name).to_owned()),
        Style::Time => u64::try_from(number)
            .ok()
            .and_then(|_| jiff::Timestamp::from_nanosecond(number).ok())
            .map(|time| format!("\"{time}\"")),
        _ => None,
    };
    name.unwrap_or_else(|| number.to_string())
}

fn write_test(operations: &[Operation], text: &mut String) {
    let Some((last, before)) = operations.split_last() else { return };
    match last {
        Operation::Label(bit) => {
            let _ = write!(text, "label({bit})");
        }
        Operation::Has => {
            let _ = write!(text, "has({})", value(before).0);
        }
        Operation::Contains(part) => write_text_test(before, "contains", part, text),
        Operation::StartsWith(part) => write_text_test(before, "starts_with", part, text),
        Operation::EndsWith(part) => write_text_test(before, "ends_with", part, text),
        Operation::Matches(part) => write_text_test(before, "matches", part, text),
        Operation::Compare(comparison) => {
            let sign = Comparison::ALL.get(usize::from(*comparison)).map_or("?", |(_, sign)| sign);
            if let [Operation::Field(field), Operation::Number(constant)] = before
                && let Some(field) = query::by_number(*field)
            {
                let _ = write!(text, "{} {sign} {}", field.name, number(integer(*constant), style(field)));
            } else {
                let mut values = Values::of(before);
                let (right, left) = (values.pop(), values.pop());
                let _ = write!(text, "{} {sign} {}", left.0, right.0);
            }
        }
        set => {
            let style = match before {
                [Operation::Field(field)] => query::by_number(*field).map_or(Style::Decimal, style),
                _ if has_bits(before) => Style::Hexadecimal,
                _ => Style::Decimal,
            };
            let members = match members(std::slice::from_ref(set)) {
                Some(Set::Numbers(ranges)) => list(ranges.into_iter().map(|(first, last)| match first == last {
                    true => number(first, style),
                    false => format!("{}..{}", number(first, style), number(last, style)),
                })),
                Some(Set::Addresses(ranges)) => list(ranges.into_iter().map(|(first, last)| addresses(first, last))),
                Some(Set::Texts(texts)) => list(texts.iter().map(|text| literal(text))),
                None => "?".to_owned(),
            };
            let _ = write!(text, "{} in {{{members}}}", value(before).0);
        }
    }
}

fn write_text_test(before: &[Operation], word: &str, part: &str, text: &mut String) {
    let _ = write!(text, "{} {word} {}", value(before).0, literal(part));
}

fn list(members: impl Iterator<Item = String>) -> String {
    let mut all = String::new();
    for member in members {
        if !all.is_empty() {
            all.push_str(", ");
        }
        all.push_str(&member);
    }
    all
}

fn address(bits: u128) -> String {
    Ipv6Addr::from_bits(bits).to_canonical().to_string()
}

fn addresses(first: u128, last: u128) -> String {
    if first == last {
        return address(first);
    }
    let host = first ^ last;
    let family = if is_ipv6_range((first, last)) { 0 } else { 96 };
    // A network: the last bits are all zeros in the first address and all ones in the last one.
    if host & host.wrapping_add(1) == 0 && first & host == 0 {
        return format!("{}/{}", address(first), host.leading_zeros() - family);
    }
    if !is_ipv4(first) && is_ipv4(last) {
        // The last address would be read as one of IPv4. Only a network can have been the end of such a range, and the
        // smallest one is this.
        return format!("{}..::fffe:ffff:ffff, ::fffe:0:0/95", address(first));
    }
    format!("{}..{}", address(first), address(last))
}

/// Returns a string in quotation marks.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => literal.extend(['\\', letter]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            letter if clean(letter.encode_utf8(&mut [0; 4])).len() != letter.len_utf8() => {
                let _ = write!(literal, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => literal.push(letter),
        }
    }
    literal.push('"');
    literal
}

/// Returns true if fields of bits are computed with.
fn has_bits(operations: &[Operation]) -> bool {
    operations.iter().any(|operation| match operation {
        Operation::Field(number) => {
            query::by_number(*number).is_some_and(|field| matches!(field.kind, kind::BITS | kind::STATUS))
        }
        _ => false,
    })
}

/// Returns the text of a value, and the precedence of its loosest operator.
fn value(operations: &[Operation]) -> (String, u8) {
    Values::of(operations).pop()
}

/// Texts of values, with the precedence of the loosest operator of each.
struct Values(Vec<(String, u8)>);

impl Values {
    fn pop(&mut self) -> (String, u8) {
        self.0.pop().unwrap_or_else(|| ("?".to_owned(), ATOM))
    }

    fn of(operations: &[Operation]) -> Values {
        let style = if has_bits(operations) { Style::Hexadecimal } else { Style::Decimal };
        let mut values = Values(Vec::new());
        let closed = |(text, level): (String, u8), least: u8| if level < least { format!("({text})") } else { text };
        for operation in operations {
            let text = match operation {
                Operation::Field(number) => match query::by_number(*number) {
                    Some(field) => field.name.to_owned(),
                    None => format!("field({number})"),
                },
                Operation::Annotation(key) => annotation(key),
                Operation::Number(constant) => {
                    let text = number(integer(*constant), style);
                    let level = if text.starts_with('-') { UNARY } else { ATOM };
                    values.0.push((text, level));
                    continue;
                }
                Operation::Address(constant) => address(bits(*constant)),
                Operation::Text(text) => literal(text),
                Operation::Arithmetic(operator) => {
                    let (sign, level) = ARITHMETIC.get(usize::from(*operator)).copied().unwrap_or(("?", UNARY));
                    let right = closed(values.pop(), level + 1);
                    let mut text = closed(values.pop(), level);
                    let _ = write!(text, " {sign} {right}");
                    values.0.push((text, level));
                    continue;
                }
                Operation::Negate | Operation::Complement => {
                    let sign = if matches!(operation, Operation::Negate) { '-' } else { '~' };
                    let inner = closed(values.pop(), UNARY);
                    values.0.push((format!("{sign}{inner}"), UNARY));
                    continue;
                }
                _ => "?".to_owned(),
            };
            values.0.push((text, ATOM));
        }
        values
    }
}

fn annotation(key: &str) -> String {
    let plain = key
        .split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
    if plain { format!("annotations.{key}") } else { format!("annotations[{}]", literal(key)) }
}
