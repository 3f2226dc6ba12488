//! Types and kinds of values, constants, and what fields can be.

use std::ops::Range;

use flowgate_names::query::{self, QueryField, kind};

use crate::{error::Diagnostic, lexer::Unit};

/// Nanoseconds of a second.
pub(super) const SECOND: i128 = 1_000_000_000;

/// Type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Number,
    Address,
    Text,
}

impl Type {
    pub(crate) fn of_kind(kind: u8) -> Type {
        match kind {
            kind::TEXT => Type::Text,
            kind::ADDRESS => Type::Address,
            _ => Type::Number,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Type::Number => "a number",
            Type::Address => "an address",
            Type::Text => "a text",
        }
    }
}

/// What operations compute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) kind: u8,
    /// The field, if it is nothing else.
    pub(crate) field: Option<&'static QueryField>,
}

impl Shape {
    pub(super) fn of(field: &'static QueryField) -> Shape {
        Shape { kind: field.kind, field: Some(field) }
    }

    pub(super) fn number(kind: u8) -> Shape {
        Shape { kind, field: None }
    }

    pub(crate) fn is(self) -> Type {
        Type::of_kind(self.kind)
    }
}

/// A constant.
#[derive(Clone, Debug)]
pub(crate) enum Constant {
    Number(i128, Unit),
    Address(u128),
    Text(String),
}

impl Constant {
    pub(super) fn is(&self) -> Type {
        match self {
            Constant::Number(..) => Type::Number,
            Constant::Address(_) => Type::Address,
            Constant::Text(_) => Type::Text,
        }
    }
}

/// A value: a constant, for which there are no operations yet, or what operations compute.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Constant(Constant),
    Computed(Shape),
}

/// Returns the smallest and the largest value of a field.
pub(super) fn bounds(field: &QueryField) -> (i128, i128) {
    const SIGNED: (i128, i128) = (i32::MIN as i128, i32::MAX as i128);
    let most = match field.number {
        query::ORIGINAL_SEQUENCE_BEFORE
        | query::ORIGINAL_SEQUENCE_AFTER
        | query::REPLY_SEQUENCE_BEFORE
        | query::REPLY_SEQUENCE_AFTER => return SIGNED,
        query::SYNTHETIC => 1,
        query::EVENT | query::FAMILY | query::PROTOCOL | query::STATE | query::MASTER_PROTOCOL | query::DCCP_ROLE => {
            u8::MAX.into()
        }
        query::ORIGINAL_ICMP_TYPE | query::ORIGINAL_ICMP_CODE | query::REPLY_ICMP_TYPE | query::REPLY_ICMP_CODE => {
            u8::MAX.into()
        }
        query::ORIGINAL_WINDOW_SCALE
        | query::REPLY_WINDOW_SCALE
        | query::ORIGINAL_TCP_FLAGS
        | query::REPLY_TCP_FLAGS => u8::MAX.into(),
        query::ORIGINAL_ICMP_ID
        | query::REPLY_ICMP_ID
        | query::ORIGINAL_SOURCE_KEY
        | query::ORIGINAL_DESTINATION_KEY
        | query::REPLY_SOURCE_KEY
        | query::REPLY_DESTINATION_KEY => u16::MAX.into(),
        query::NAT_SOURCE_PORT
        | query::NAT_SOURCE_ICMP_ID
        | query::NAT_DESTINATION_PORT
        | query::NAT_DESTINATION_ICMP_ID => u16::MAX.into(),
        query::ZONE | query::ORIGINAL_ZONE | query::REPLY_ZONE | query::MASTER_ZONE => u16::MAX.into(),
        _ if field.kind == kind::PORT => u16::MAX.into(),
        query::ORIGINAL_PACKETS | query::ORIGINAL_BYTES | query::REPLY_PACKETS | query::REPLY_BYTES => u64::MAX.into(),
        query::PACKETS | query::BYTES => 2 * i128::from(u64::MAX),
        query::START | query::STOP | query::AGE | query::TIME | query::EVENT_TIME | query::RECEIVED => u64::MAX.into(),
        query::DCCP_HANDSHAKE_SEQUENCE => u64::MAX.into(),
        _ => u32::MAX.into(),
    };
    (0, most)
}

/// Returns a kind for messages.
pub(super) fn kind_name(kind: u8) -> &'static str {
    match kind {
        kind::TEXT => "a text",
        kind::ADDRESS => "an address",
        kind::BYTES => "a number of bytes",
        kind::SECONDS => "a number of seconds",
        kind::TIME => "a point in time",
        kind::PROTOCOL => "a protocol",
        kind::FAMILY => "a family",
        kind::EVENT => "a kind of event",
        kind::STATUS => "status bits",
        kind::STATE => "a state",
        kind::PORT => "a port",
        kind::NANOSECONDS => "a number of nanoseconds",
        _ => "a number",
    }
}

pub(super) fn described(constant: &Constant) -> &'static str {
    match constant {
        Constant::Number(_, Unit::Size) => "a size",
        Constant::Number(_, Unit::Time) => "a time",
        other => other.is().name(),
    }
}

/// Returns the kind of what is computed from a value by `-` or `~`.
pub(super) fn computed(kind: u8) -> u8 {
    match kind {
        kind::BYTES | kind::SECONDS | kind::NANOSECONDS | kind::BITS | kind::STATUS => kind,
        _ => kind::PLAIN,
    }
}

/// Returns the kind of what an operator computes.
pub(super) fn result(operator: u8, left: u8, right: u8) -> u8 {
    let amount = |kind| matches!(kind, kind::BYTES | kind::SECONDS | kind::NANOSECONDS);
    match operator {
        // Sums and differences.
        0 | 1 => match (left, right) {
            (kind::TIME, kind::TIME) if operator == 1 => kind::NANOSECONDS,
            (kind::TIME, kind::NANOSECONDS) => kind::TIME,
            (kind::NANOSECONDS, kind::TIME) if operator == 0 => kind::TIME,
            _ if left == right => computed(left),
            (kind::PLAIN, other) | (other, kind::PLAIN) => computed(other),
            _ => kind::PLAIN,
        },
        // Products.
        2 if amount(left) && right == kind::PLAIN => left,
        2 if amount(right) && left == kind::PLAIN => right,
        // Quotients and remainders: of equal kinds, a quotient is a plain number.
        3 if amount(left) && left != right => left,
        4 if amount(left) => left,
        // Bits.
        5..=7 if left == kind::BITS || right == kind::BITS => kind::BITS,
        5..=7 if left == kind::STATUS || right == kind::STATUS => kind::STATUS,
        8 | 9 if matches!(left, kind::BITS | kind::STATUS) => left,
        _ => kind::PLAIN,
    }
}

/// Checks that a field can have a value.
pub(super) fn within(number: i128, field: &QueryField, at: &Range<usize>) -> Result<(), Diagnostic> {
    let (least, most) = bounds(field);
    let (end, bound) = if number > most {
        ("largest", most)
    } else if number < least {
        ("smallest", least)
    } else {
        return Ok(());
    };
    let what = match field.kind {
        kind::PORT => "port".to_owned(),
        _ => format!("value of `{}`", field.name),
    };
    Err(Diagnostic::new(at.clone(), format!("{number} is not a {what}; the {end} is {bound}")))
}
