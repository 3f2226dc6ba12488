//! Values: fields, constants and arithmetic.

use std::{net::IpAddr, ops::Range};

use flowgate_model::Operation;
use flowgate_names::{
    operation::Arithmetic,
    query::{self, kind},
};

use super::{
    Hint, Lowering,
    kinds::{Constant, SECOND, Shape, Type, Value, bounds, computed, kind_name, result, within},
    names::{names_of, states, status_truth, symbols_of},
};
use crate::{
    condition::number,
    error::{Diagnostic, nearest, quoted},
    lexer::{self, Unit},
    parser::{ARITHMETIC, Id, NodeKind},
};

impl Lowering<'_> {
    /// Computes a value: appends the operations if it is not a constant.
    pub(crate) fn value(&self, id: Id, hint: Hint, operations: &mut Vec<Operation>) -> Result<Value, Diagnostic> {
        let node = self.tree.node(id);
        match &node.kind {
            NodeKind::Number(number, unit) => match i128::try_from(*number) {
                Ok(number) => Ok(Value::Constant(Constant::Number(number, *unit))),
                Err(_) => Err(Diagnostic::new(node.at.clone(), "the number is beyond 128 bits")),
            },
            NodeKind::Address(address) => Ok(Value::Constant(Constant::Address(to_bits(*address)))),
            NodeKind::Network(..) => Err(Diagnostic::new(node.at.clone(), "a network is not an address")
                .hint(format!("src in {}", self.brief(id, "10.0.0.0/8")))),
            NodeKind::Text => Ok(Value::Constant(Constant::Text(lexer::content(self.tree.text, node.inner.clone())?))),
            NodeKind::Name => self.name(id, hint, operations),
            NodeKind::Annotation(key) => {
                operations.push(Operation::Annotation(lexer::content(self.tree.text, key.clone())?));
                Ok(Value::Computed(Shape { kind: kind::TEXT, field: None }))
            }
            NodeKind::Negate(inner) => {
                // The smallest number has no positive counterpart.
                if let NodeKind::Number(number, unit) = self.tree.node(*inner).kind {
                    let negative = 0i128.checked_sub_unsigned(number);
                    return match negative {
                        Some(number) => Ok(Value::Constant(Constant::Number(number, unit))),
                        None => Err(beyond(node.at.clone())),
                    };
                }
                match self.number(*inner, hint, operations)? {
                    Value::Constant(Constant::Number(number, unit)) => match number.checked_neg() {
                        Some(number) => Ok(Value::Constant(Constant::Number(number, unit))),
                        None => Err(beyond(node.at.clone())),
                    },
                    Value::Computed(shape) => {
                        operations.push(Operation::Negate);
                        Ok(Value::Computed(Shape::number(computed(shape.kind))))
                    }
                    other => Ok(other),
                }
            }
            NodeKind::Complement(inner) => match self.number(*inner, hint, operations)? {
                Value::Constant(Constant::Number(number, Unit::Plain)) => {
                    Ok(Value::Constant(Constant::Number(!number, Unit::Plain)))
                }
                Value::Constant(_) => Err(Diagnostic::new(node.at.clone(), "a size or a time has no bits")),
                Value::Computed(shape) => {
                    operations.push(Operation::Complement);
                    Ok(Value::Computed(Shape::number(computed(shape.kind))))
                }
            },
            NodeKind::Arithmetic(first, rest) => self.arithmetic(*first, rest, hint, operations),
            NodeKind::Any(_) => {
                Err(Diagnostic::new(node.at.clone(), format!("{} is a truth value", quoted(self.part(id))))
                    .hint("a value is compared with several by `in`: dport in {80, 443}"))
            }
            _ => Err(Diagnostic::new(node.at.clone(), format!("{} is a truth value", quoted(self.part(id))))
                .hint("truth values are joined by `and`, `or` and `not`, and not compared")),
        }
    }

    pub(super) fn name(&self, id: Id, hint: Hint, operations: &mut Vec<Operation>) -> Result<Value, Diagnostic> {
        let name = self.word(id);
        if let Some(field) = query::by_name(name) {
            operations.push(Operation::Field(field.number));
            return Ok(Value::Computed(Shape::of(field)));
        }
        if let Some(key) = name.strip_prefix("annotations.") {
            operations.push(Operation::Annotation(key.to_owned()));
            return Ok(Value::Computed(Shape { kind: kind::TEXT, field: None }));
        }
        if name == "annotations" {
            return Err(Diagnostic::new(self.at(id), "annotations have keys")
                .hint("annotations.country, or annotations[\"a key\"]"));
        }
        if let Some(number) = hint.and_then(|field| self.symbol(field, name)) {
            return Ok(Value::Constant(Constant::Number(number, Unit::Plain)));
        }
        if name == "true"
            || name == "false"
            || (status_truth(name).is_some() && hint.is_none_or(|f| names_of(f).is_none()))
        {
            return Err(Diagnostic::new(self.at(id), format!("{} is a truth value", quoted(name)))
                .hint("truth values are joined by `and`, `or` and `not`, and not compared"));
        }
        if hint.is_some_and(|field| field.kind == kind::STATE) && !states(name).is_empty() {
            return Err(Diagnostic::new(
                self.at(id),
                format!("the number of {} depends on the protocol", quoted(name)),
            )
            .hint("states by name are compared with `state` alone, by ==, != or in"));
        }
        Err(self.unknown(id, hint, false))
    }

    /// Computes a value that must be a number.
    pub(super) fn number(&self, id: Id, hint: Hint, operations: &mut Vec<Operation>) -> Result<Value, Diagnostic> {
        let value = self.value(id, hint, operations)?;
        let found = match &value {
            // A point in time.
            Value::Constant(Constant::Text(_)) if hint.is_some_and(|field| field.kind == kind::TIME) => Type::Number,
            Value::Constant(constant) => constant.is(),
            Value::Computed(shape) => shape.is(),
        };
        if found == Type::Number {
            return Ok(value);
        }
        let wrong =
            Diagnostic::new(self.at(id), format!("{} is {} and not a number", quoted(self.part(id)), found.name()));
        Err(match (found, self.tree.text.get(self.at(id).end..).is_some_and(|rest| rest.starts_with('/'))) {
            (Type::Address, true) => wrong.hint("networks follow `in`: src in 10.0.0.0/8"),
            _ => wrong,
        })
    }

    pub(super) fn arithmetic(
        &self,
        first: Id,
        rest: &[(u8, Id)],
        hint: Hint,
        operations: &mut Vec<Operation>,
    ) -> Result<Value, Diagnostic> {
        let start = operations.len();
        let mut all = self.number(first, hint, operations)?;
        let begin = self.at(first).start;
        let mut all_at = self.at(first);
        for (operator, operand) in rest {
            let middle = operations.len();
            let right = self.number(*operand, hint, operations)?;
            let right_at = self.at(*operand);
            let at = begin..right_at.end;
            all = match (all, right) {
                (Value::Constant(left), Value::Constant(right)) => {
                    let left = self.timestamp(left, &all_at)?;
                    let right = self.timestamp(right, &right_at)?;
                    Value::Constant(folded(*operator, left, right, &at, &right_at)?)
                }
                (Value::Constant(left), Value::Computed(shape)) => {
                    let constant = self.operand(*operator, left, shape, &all_at)?;
                    operations.insert(start, Operation::Number(number(constant.0)));
                    operations.push(Operation::Arithmetic(*operator));
                    Value::Computed(Shape::number(result(*operator, constant.1, shape.kind)))
                }
                (Value::Computed(shape), Value::Constant(right)) => {
                    let constant = self.operand(*operator, right, shape, &right_at)?;
                    check_operand(*operator, constant.0, &right_at)?;
                    operations.push(Operation::Number(number(constant.0)));
                    operations.push(Operation::Arithmetic(*operator));
                    Value::Computed(Shape::number(result(*operator, shape.kind, constant.1)))
                }
                (Value::Computed(left), Value::Computed(right)) => {
                    operations.push(Operation::Arithmetic(*operator));
                    Value::Computed(Shape::number(result(*operator, left.kind, right.kind)))
                }
            };
            debug_assert!(operations.len() >= middle);
            all_at = at;
        }
        Ok(all)
    }

    /// Returns a constant, with the number in place of a point in time.
    pub(super) fn timestamp(&self, constant: Constant, at: &Range<usize>) -> Result<Constant, Diagnostic> {
        match constant {
            Constant::Text(text) => Ok(Constant::Number(read_time(&text, at)?, Unit::Plain)),
            other => Ok(other),
        }
    }

    /// Returns the number of an operand beside a computed one, and its kind.
    pub(super) fn operand(
        &self,
        operator: u8,
        constant: Constant,
        beside: Shape,
        at: &Range<usize>,
    ) -> Result<(i128, u8), Diagnostic> {
        let (number, unit) = match constant {
            Constant::Number(number, unit) => (number, unit),
            Constant::Text(text) => return Ok((read_time(&text, at)?, kind::TIME)),
            Constant::Address(_) => return Err(Diagnostic::new(at.clone(), "an address is not a number")),
        };
        match unit {
            Unit::Time => Ok(match beside.kind {
                kind::SECONDS => (self.seconds(number, at)?, kind::SECONDS),
                kind::TIME | kind::NANOSECONDS => (number, kind::NANOSECONDS),
                _ => return Err(self.no_unit("a time", beside, at)),
            }),
            Unit::Size if matches!(beside.kind, kind::BYTES | kind::PLAIN) => Ok((number, kind::BYTES)),
            Unit::Size => Err(self.no_unit("a size", beside, at)),
            Unit::Plain => {
                // Bits beside a field: those that it cannot have are a mistake, unless they come from `~`.
                let Some(field) = beside.field.filter(|_| matches!(operator, 5..=7)) else {
                    return Ok((number, kind::PLAIN));
                };
                let (least, most) = bounds(field);
                if operator == 5 && least == 0 && number < 0 && number >= -most - 1 {
                    return Ok((number & most, kind::PLAIN));
                }
                within(number, field, at)?;
                Ok((number, kind::PLAIN))
            }
        }
    }

    pub(super) fn no_unit(&self, what: &str, beside: Shape, at: &Range<usize>) -> Diagnostic {
        let other = match (beside.field, beside.kind) {
            (Some(field), kind) => format!("`{}`, which is {}", field.name, kind_name(kind)),
            (None, kind) => kind_name(kind).to_owned(),
        };
        let wrong =
            Diagnostic::new(at.clone(), format!("{} is {what}, and beside it is {other}", quoted(self.tree.part(at))));
        if beside.kind == kind::TIME { wrong.hint("`start > time - 10m`, or `age < 10m`") } else { wrong }
    }

    pub(super) fn seconds(&self, nanoseconds: i128, at: &Range<usize>) -> Result<i128, Diagnostic> {
        if nanoseconds % SECOND == 0 {
            return Ok(nanoseconds / SECOND);
        }
        let below = nanoseconds.div_euclid(SECOND);
        Err(Diagnostic::new(at.clone(), format!("{} is not a whole number of seconds", quoted(self.tree.part(at))))
            .hint(format!("{below}s or {}s", below + 1)))
    }

    /// Returns a constant as what a computed value is compared with.
    pub(super) fn converted(&self, constant: Constant, shape: Shape, id: Id) -> Result<Constant, Diagnostic> {
        let at = self.at(id);
        let wrong = |found: &str| {
            let of = match shape.field {
                Some(field) => format!("`{}`", field.name),
                None => "what it is compared with".to_owned(),
            };
            let right = match shape.kind {
                kind::TEXT => "a text in quotation marks",
                kind::ADDRESS if matches!(self.tree.node(id).kind, NodeKind::Arithmetic(..)) => {
                    "a network is written in full: 10.0.0.0/8"
                }
                kind::ADDRESS => "an address such as 10.0.0.1 or 2001:db8::1",
                kind::TIME => "a point in time such as \"2026-11-30T12:00:00Z\"",
                _ => "a number",
            };
            Diagnostic::new(
                at.clone(),
                format!("{} is {found}; {of} is {}", quoted(self.part(id)), kind_name(shape.kind)),
            )
            .hint(right)
        };
        Ok(match (constant, shape.is()) {
            (Constant::Text(text), Type::Text) => Constant::Text(text),
            (Constant::Address(address), Type::Address) => Constant::Address(address),
            (Constant::Number(number, unit), Type::Number) => {
                let number = match unit {
                    Unit::Plain => number,
                    Unit::Size if matches!(shape.kind, kind::BYTES | kind::PLAIN) => number,
                    Unit::Size => return Err(self.no_unit("a size", shape, &at)),
                    Unit::Time if shape.kind == kind::SECONDS => self.seconds(number, &at)?,
                    Unit::Time if shape.kind == kind::NANOSECONDS => number,
                    Unit::Time => return Err(self.no_unit("a time", shape, &at)),
                };
                if let Some(field) = shape.field {
                    within(number, field, &at)?;
                }
                Constant::Number(number, Unit::Plain)
            }
            (Constant::Text(text), Type::Number) => {
                if shape.kind == kind::TIME {
                    return Ok(Constant::Number(read_time(&text, &at)?, Unit::Plain));
                }
                let Some(field) = shape.field.filter(|field| names_of(field).is_some()) else {
                    return Err(wrong("a text"));
                };
                if let Some(number) = self.symbol(field, &text) {
                    return Ok(Constant::Number(number, Unit::Plain));
                }
                let what = names_of(field).unwrap_or_default();
                let unknown = Diagnostic::new(at.clone(), format!("there is no {what} {}", quoted(&text)));
                return Err(match nearest(&text, symbols_of(field).into_iter()) {
                    Some(near) => unknown.hint(format!("did you mean \"{near}\"?")),
                    None => unknown,
                });
            }
            (constant, _) => return Err(wrong(constant.is().name())),
        })
    }
}

/// Returns an address in the form of columns: IPv4 mapped.
pub(super) fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Returns a point in time.
pub(super) fn point_in_time(text: &str) -> Option<i128> {
    let timestamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let date = text.parse::<jiff::civil::Date>().ok().filter(|date| date.to_string() == text)?;
        Some(date.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(timestamp.as_nanosecond()).filter(|nanoseconds| *nanoseconds >= 0)
}

pub(super) fn beyond(at: Range<usize>) -> Diagnostic {
    Diagnostic::new(at, "the result is beyond 128 bits")
}

/// Checks a constant on the right side of an operator.
pub(super) fn check_operand(operator: u8, right: i128, at: &Range<usize>) -> Result<(), Diagnostic> {
    match operator {
        3 | 4 if right == 0 => Err(Diagnostic::new(at.clone(), "division by 0")),
        8 | 9 if !(0..=127).contains(&right) => {
            Err(Diagnostic::new(at.clone(), format!("a shift by {right}; it may be by 0 to 127")))
        }
        _ => Ok(()),
    }
}

/// Computes with constants.
pub(super) fn folded(
    operator: u8,
    left: Constant,
    right: Constant,
    at: &Range<usize>,
    right_at: &Range<usize>,
) -> Result<Constant, Diagnostic> {
    let (Constant::Number(one, unit), Constant::Number(other, other_unit)) = (left, right) else {
        return Err(Diagnostic::new(at.clone(), "numbers are missing"));
    };
    let sign = ARITHMETIC.get(usize::from(operator)).map_or("", |(sign, _)| *sign);
    let unit = match (operator, unit, other_unit) {
        (_, Unit::Plain, Unit::Plain) => Unit::Plain,
        (0 | 1 | 4, unit, other) if unit == other => unit,
        (3, unit, other) if unit == other => Unit::Plain,
        (2..=4, unit, Unit::Plain) => unit,
        (2, Unit::Plain, unit) => unit,
        _ => {
            let name = |unit| match unit {
                Unit::Plain => "a number",
                Unit::Size => "a size",
                Unit::Time => "a time",
            };
            return Err(Diagnostic::new(
                at.clone(),
                format!("{} {sign} {} has no meaning", name(unit), name(other_unit)),
            ));
        }
    };
    check_operand(operator, other, right_at)?;
    match Arithmetic::of_code(operator).and_then(|operation| operation.checked(one, other)) {
        Some(result) => Ok(Constant::Number(result, unit)),
        None => Err(beyond(at.clone())),
    }
}

pub(super) fn read_time(text: &str, at: &Range<usize>) -> Result<i128, Diagnostic> {
    point_in_time(text).ok_or_else(|| {
        Diagnostic::new(at.clone(), format!("{} is not a point in time", quoted(text)))
            .hint("\"2026-11-30T12:00:00Z\", \"2026-11-30T13:00:00+01:00\", or \"2026-11-30\" for its beginning (UTC)")
    })
}
