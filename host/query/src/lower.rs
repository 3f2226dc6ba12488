//! From syntax to conditions and values: names get their meaning, types are checked, constants are computed.

use std::{cell::Cell, net::IpAddr, ops::Range};

use flowgate_model::{Operation, Program};
use flowgate_names::{
    event, family, field, protocol,
    query::{self, QueryField, kind},
    state, status,
};

use crate::{
    Context,
    condition::{Condition, Set, address, number},
    error::{nearest, quoted},
    lexer::{self, Unit, Wrong},
    parser::{ARITHMETIC, Comparison, Id, NodeKind, TextTest, Tree},
    protocols, services,
};

/// Largest compiled size of a regular expression in bytes: that of the plugin that evaluates it.
const REGEX_SIZE: usize = 1 << 20;
/// Greatest number of regular expressions.
const MOST_REGEXES: u32 = 32;
/// Highest connection label.
const HIGHEST_LABEL: u16 = 127;
/// Nanoseconds of a second.
const SECOND: i128 = 1_000_000_000;

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

    fn name(self) -> &'static str {
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
    fn of(field: &'static QueryField) -> Shape {
        Shape { kind: field.kind, field: Some(field) }
    }

    fn number(kind: u8) -> Shape {
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
    fn is(&self) -> Type {
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

/// Looks names up and checks types.
pub(crate) struct Lowering<'t> {
    pub(crate) tree: &'t Tree<'t>,
    pub(crate) context: &'t Context<'t>,
    pub(crate) regexes: &'t Cell<u32>,
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

/// Returns the smallest and the largest value of a field.
fn bounds(field: &QueryField) -> (i128, i128) {
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

/// Returns what names of this field's values stand for, and what they are called.
fn names_of(field: &QueryField) -> Option<&'static str> {
    match field.kind {
        kind::PROTOCOL => Some("protocol"),
        kind::PORT => Some("service"),
        kind::FAMILY => Some("family"),
        kind::EVENT => Some("kind of event"),
        kind::STATE => Some("state"),
        kind::STATUS => Some("status bit"),
        _ if matches!(field.number, query::NAT_SOURCE_PORT | query::NAT_DESTINATION_PORT) => Some("service"),
        _ => None,
    }
}

/// Kinds of event that have a name.
pub(crate) const EVENTS: [(&str, u8); 4] =
    [("new", event::NEW), ("update", event::UPDATE), ("destroy", event::DESTROY), ("gap", event::GAP)];

/// Protocols with states, and the names of these.
const STATES: [(u8, &[&str]); 3] =
    [(protocol::TCP, &state::TCP), (protocol::SCTP, &state::SCTP), (protocol::DCCP, &state::DCCP)];

/// Returns the bit of a status by its name.
fn status_bit(name: &str) -> Option<u32> {
    status::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(bit, _)| *bit)
}

/// Returns the bit of a status by its name in small letters, which alone is a truth value.
fn status_truth(name: &str) -> Option<u32> {
    status_bit(name).filter(|_| query::by_name(name).is_none() && !name.bytes().any(|byte| byte.is_ascii_uppercase()))
}

/// Returns the test of a status bit.
fn status_test(bit: u32) -> Condition {
    Condition::Test(vec![
        Operation::Field(query::STATUS),
        Operation::Number(number(bit.into())),
        Operation::Arithmetic(5),
        Operation::Number(number(0)),
        Operation::Compare(1),
    ])
}

/// Returns an address in the form of columns: IPv4 mapped.
fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Returns first and last address of a network.
fn network(address: IpAddr, length: u8) -> (u128, u128) {
    let length = u32::from(length) + if address.is_ipv4() { 96 } else { 0 };
    let host = u128::MAX.checked_shr(length).unwrap_or(0);
    let bits = to_bits(address);
    (bits & !host, bits | host)
}

/// Returns a point in time.
fn point_in_time(text: &str) -> Option<i128> {
    let timestamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let date = text.parse::<jiff::civil::Date>().ok().filter(|date| date.to_string() == text)?;
        Some(date.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(timestamp.as_nanosecond()).filter(|nanoseconds| *nanoseconds >= 0)
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
    pub(crate) fn condition(&self, id: Id) -> Result<Condition, Wrong> {
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
                        return Err(Wrong::new(self.at(*value), "a constant is always present").hint("has(helper)"));
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
    fn truth(&self, id: Id) -> Result<Condition, Wrong> {
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
                return Err(Wrong::new(self.at(id), format!("{} is a number and not a condition", quoted(name)))
                    .hint(format!("{}, or status & {} != 0", name.to_ascii_lowercase(), name.to_ascii_uppercase())));
            }
            return Err(self.unknown(id, None, true));
        }
        self.no_condition(id)
    }

    fn no_condition(&self, id: Id) -> Result<Condition, Wrong> {
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
        Err(Wrong::new(self.at(id), format!("{} is {what} and not a condition", quoted(self.part(id)))).hint(hint))
    }

    /// Returns the message for a name that nothing has.
    fn unknown(&self, id: Id, hint: Hint, condition: bool) -> Wrong {
        let name = self.word(id);
        let fields = query::ALL.iter().flat_map(|field| field.aliases.iter().copied().chain([field.name]));
        let mut known: Vec<&str> = fields.collect();
        let lower: Vec<String> = status::NAMES.iter().map(|(_, name)| name.to_ascii_lowercase()).collect();
        if condition {
            known.extend(lower.iter().map(String::as_str));
            known.extend(["true", "false"]);
        }
        let what = hint.and_then(names_of).unwrap_or("field");
        let wrong = Wrong::new(self.at(id), format!("there is no {what} {}", quoted(name)));
        if what == "service"
            && let Some(whole) = self.hyphenated(id)
        {
            return wrong.hint(format!("names with `-` are in quotation marks: \"{whole}\""));
        }
        if let Some(field) = hint {
            let symbols = symbols_of(field);
            if let Some(near) = nearest(name, symbols.iter().copied()) {
                let near = if near.contains('-') { format!("\"{near}\"") } else { near.to_owned() };
                return wrong.hint(format!("did you mean `{near}`?"));
            }
        }
        if status_bit(name).is_some() {
            return wrong.hint(format!("it is a status bit: status & {} != 0", name.to_ascii_uppercase()));
        }
        if let Some(near) = nearest(name, known.iter().copied()) {
            let text = hint.filter(|field| field.kind == kind::TEXT).map(|_| format!(", or \"{name}\" as a text"));
            return wrong.hint(format!("did you mean `{near}`{}?", text.unwrap_or_default()));
        }
        if hint.is_some_and(|field| field.kind == kind::TEXT) {
            return wrong.hint("texts are in quotation marks");
        }
        // The end of longer names: `source_address` or `country`.
        let last = name.rsplit('.').next().unwrap_or_default();
        let ends: Vec<String> = known
            .iter()
            .filter(|known| !last.is_empty() && known.rsplit('.').next() == Some(last))
            .map(|name| format!("`{name}`"))
            .collect();
        match (ends.is_empty(), what) {
            (false, _) => wrong.hint(format!("did you mean {}?", ends.join(" or "))),
            (true, "field") => wrong.hint("texts are in quotation marks, annotations are annotations.KEY, fields have the names of the JSON output"),
            (true, "service") => wrong.hint("a port by its number, or a name of /etc/services"),
            (true, "protocol") => wrong.hint("a protocol by its number, or a name of /etc/protocols"),
            (true, _) => {
                let symbols = hint.map(symbols_of).unwrap_or_default();
                wrong.hint(format!("there are {}", symbols.join(", ")))
            }
        }
    }

    /// Returns the whole of a name like `http-alt`, which is read as a difference; `None` if the name is no part of one.
    fn hyphenated(&self, id: Id) -> Option<&str> {
        const LONGEST: usize = 40;
        let at = self.tree.node(id).inner.clone();
        let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let (before, after) = (self.tree.text.get(..at.start)?, self.tree.text.get(at.end..)?);
        let start = at.start - before.bytes().rev().take(LONGEST).take_while(part).count();
        let end = at.end + after.bytes().take(LONGEST).take_while(part).count();
        let whole = self.tree.text.get(start..end)?;
        whole.trim_matches('-').contains('-').then_some(whole)
    }

    /// Returns the number of a name among the values of a field.
    fn symbol(&self, field: &QueryField, name: &str) -> Option<i128> {
        match names_of(field)? {
            "protocol" => self.context.protocol(name).map(i128::from),
            "service" => self.context.service(name).map(i128::from),
            "family" => [family::IPV4, family::IPV6]
                .into_iter()
                .find(|number| family::name(*number).is_some_and(|known| known.eq_ignore_ascii_case(name)))
                .map(i128::from),
            "kind of event" => {
                EVENTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, number)| i128::from(*number))
            }
            "status bit" => status_bit(name).map(i128::from),
            _ => None,
        }
    }

    /// Computes a value: appends the operations if it is not a constant.
    pub(crate) fn value(&self, id: Id, hint: Hint, operations: &mut Vec<Operation>) -> Result<Value, Wrong> {
        let node = self.tree.node(id);
        match &node.kind {
            NodeKind::Number(number, unit) => match i128::try_from(*number) {
                Ok(number) => Ok(Value::Constant(Constant::Number(number, *unit))),
                Err(_) => Err(Wrong::new(node.at.clone(), "the number is beyond 128 bits")),
            },
            NodeKind::Address(address) => Ok(Value::Constant(Constant::Address(to_bits(*address)))),
            NodeKind::Network(..) => Err(Wrong::new(node.at.clone(), "a network is not an address")
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
                Value::Constant(_) => Err(Wrong::new(node.at.clone(), "a size or a time has no bits")),
                Value::Computed(shape) => {
                    operations.push(Operation::Complement);
                    Ok(Value::Computed(Shape::number(computed(shape.kind))))
                }
            },
            NodeKind::Arithmetic(first, rest) => self.arithmetic(*first, rest, hint, operations),
            NodeKind::Any(_) => Err(Wrong::new(node.at.clone(), format!("{} is a truth value", quoted(self.part(id))))
                .hint("a value is compared with several by `in`: dport in {80, 443}")),
            _ => Err(Wrong::new(node.at.clone(), format!("{} is a truth value", quoted(self.part(id))))
                .hint("truth values are joined by `and`, `or` and `not`, and not compared")),
        }
    }

    fn name(&self, id: Id, hint: Hint, operations: &mut Vec<Operation>) -> Result<Value, Wrong> {
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
            return Err(
                Wrong::new(self.at(id), "annotations have keys").hint("annotations.country, or annotations[\"a key\"]")
            );
        }
        if let Some(number) = hint.and_then(|field| self.symbol(field, name)) {
            return Ok(Value::Constant(Constant::Number(number, Unit::Plain)));
        }
        if name == "true"
            || name == "false"
            || (status_truth(name).is_some() && hint.is_none_or(|f| names_of(f).is_none()))
        {
            return Err(Wrong::new(self.at(id), format!("{} is a truth value", quoted(name)))
                .hint("truth values are joined by `and`, `or` and `not`, and not compared"));
        }
        if hint.is_some_and(|field| field.kind == kind::STATE) && !states(name).is_empty() {
            return Err(Wrong::new(self.at(id), format!("the number of {} depends on the protocol", quoted(name)))
                .hint("states by name are compared with `state` alone, by ==, != or in"));
        }
        Err(self.unknown(id, hint, false))
    }

    /// Computes a value that must be a number.
    fn number(&self, id: Id, hint: Hint, operations: &mut Vec<Operation>) -> Result<Value, Wrong> {
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
        let wrong = Wrong::new(self.at(id), format!("{} is {} and not a number", quoted(self.part(id)), found.name()));
        Err(match (found, self.tree.text.get(self.at(id).end..).is_some_and(|rest| rest.starts_with('/'))) {
            (Type::Address, true) => wrong.hint("networks follow `in`: src in 10.0.0.0/8"),
            _ => wrong,
        })
    }

    fn arithmetic(
        &self,
        first: Id,
        rest: &[(u8, Id)],
        hint: Hint,
        operations: &mut Vec<Operation>,
    ) -> Result<Value, Wrong> {
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
    fn timestamp(&self, constant: Constant, at: &Range<usize>) -> Result<Constant, Wrong> {
        match constant {
            Constant::Text(text) => Ok(Constant::Number(read_time(&text, at)?, Unit::Plain)),
            other => Ok(other),
        }
    }

    /// Returns the number of an operand beside a computed one, and its kind.
    fn operand(&self, operator: u8, constant: Constant, beside: Shape, at: &Range<usize>) -> Result<(i128, u8), Wrong> {
        let (number, unit) = match constant {
            Constant::Number(number, unit) => (number, unit),
            Constant::Text(text) => return Ok((read_time(&text, at)?, kind::TIME)),
            Constant::Address(_) => return Err(Wrong::new(at.clone(), "an address is not a number")),
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

    fn no_unit(&self, what: &str, beside: Shape, at: &Range<usize>) -> Wrong {
        let other = match (beside.field, beside.kind) {
            (Some(field), kind) => format!("`{}`, which is {}", field.name, kind_name(kind)),
            (None, kind) => kind_name(kind).to_owned(),
        };
        let wrong =
            Wrong::new(at.clone(), format!("{} is {what}, and beside it is {other}", quoted(self.tree.part(at))));
        if beside.kind == kind::TIME { wrong.hint("`start > time - 10m`, or `age < 10m`") } else { wrong }
    }

    fn seconds(&self, nanoseconds: i128, at: &Range<usize>) -> Result<i128, Wrong> {
        if nanoseconds % SECOND == 0 {
            return Ok(nanoseconds / SECOND);
        }
        let below = nanoseconds.div_euclid(SECOND);
        Err(Wrong::new(at.clone(), format!("{} is not a whole number of seconds", quoted(self.tree.part(at))))
            .hint(format!("{below}s or {}s", below + 1)))
    }

    fn comparison(&self, comparison: Comparison, left: Id, right: Id) -> Result<Condition, Wrong> {
        let hint = self.hint(left).or_else(|| self.hint(right));
        for (one, other) in [(left, right), (right, left)] {
            if let NodeKind::Network(..) = self.tree.node(one).kind {
                let verb = if comparison == Comparison::NotEqual { "not in" } else { "in" };
                return Err(Wrong::new(self.at(one), "a network is a set of addresses").hint(format!(
                    "{} {verb} {}",
                    if self.is_name(other) { self.brief(other, "src") } else { "src" },
                    self.part(one)
                )));
            }
            self.refuse_labels(one)?;
            if self.is_bare(one, query::STATE)
                && let Some(states) = self.states_of(other)?
            {
                let negated = match comparison {
                    Comparison::Equal => false,
                    Comparison::NotEqual => true,
                    _ => {
                        return Err(Wrong::new(self.at(other), "states by name have no order")
                            .hint("compare them by ==, != or in, or by number"));
                    }
                };
                return Ok(state_condition(states, Vec::new(), negated));
            }
        }
        let (mut operations, mut more) = (Vec::new(), Vec::new());
        let of_left = self.value(left, hint, &mut operations)?;
        let of_right = self.value(right, hint, &mut more)?;
        let (comparison, shape, constant, at) = match (of_left, of_right) {
            (Value::Constant(one), Value::Constant(other)) => {
                return self.compare_constants(comparison, one, other, left, right);
            }
            (Value::Computed(one), Value::Computed(other)) => {
                self.compatible(one, other, right)?;
                self.comparable(comparison, one.is(), left, right)?;
                operations.append(&mut more);
                operations.push(Operation::Compare(comparison as u8));
                return Ok(Condition::Test(operations));
            }
            (Value::Computed(shape), Value::Constant(constant)) => (comparison, shape, constant, right),
            (Value::Constant(constant), Value::Computed(shape)) => {
                operations = more;
                (comparison.flipped(), shape, constant, left)
            }
        };
        let constant = self.converted(constant, shape, at)?;
        self.comparable(comparison, shape.is(), left, right)?;
        operations.push(match constant {
            Constant::Number(constant, _) => Operation::Number(number(constant)),
            Constant::Address(constant) => Operation::Address(address(constant)),
            Constant::Text(constant) => Operation::Text(constant),
        });
        operations.push(Operation::Compare(comparison as u8));
        Ok(Condition::Test(operations))
    }

    /// Refuses an order of addresses.
    fn comparable(&self, comparison: Comparison, found: Type, left: Id, right: Id) -> Result<(), Wrong> {
        if found == Type::Address && !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            let at = self.at(left).start..self.at(right).end;
            return Err(
                Wrong::new(at, "addresses have no order").hint("src in 10.0.0.1..10.0.0.9, or src in 10.0.0.0/24")
            );
        }
        Ok(())
    }

    fn compare_constants(
        &self,
        comparison: Comparison,
        one: Constant,
        other: Constant,
        left: Id,
        right: Id,
    ) -> Result<Condition, Wrong> {
        let order = match (&one, &other) {
            (Constant::Number(one, unit), Constant::Number(other, other_unit)) if unit == other_unit => one.cmp(other),
            (Constant::Address(one), Constant::Address(other)) => {
                self.comparable(comparison, Type::Address, left, right)?;
                one.cmp(other)
            }
            (Constant::Text(one), Constant::Text(other)) => one.cmp(other),
            _ => {
                return Err(Wrong::new(
                    self.at(right),
                    format!("{} is compared with {}", described(&one), described(&other)),
                ));
            }
        };
        Ok(Condition::Truth(match comparison {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }))
    }

    /// Refuses the comparison of two fields that mean different things.
    fn compatible(&self, one: Shape, other: Shape, at: Id) -> Result<(), Wrong> {
        let any = |kind| matches!(kind, kind::PLAIN | kind::BITS);
        let same = one.is() == other.is()
            && (one.kind == other.kind || any(one.kind) || any(other.kind) || one.is() != Type::Number);
        if same {
            return Ok(());
        }
        Err(Wrong::new(self.at(at), format!("{} is compared with {}", kind_name(one.kind), kind_name(other.kind))))
    }

    /// Returns a constant as what a computed value is compared with.
    fn converted(&self, constant: Constant, shape: Shape, id: Id) -> Result<Constant, Wrong> {
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
            Wrong::new(at.clone(), format!("{} is {found}; {of} is {}", quoted(self.part(id)), kind_name(shape.kind)))
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
                let unknown = Wrong::new(at.clone(), format!("there is no {what} {}", quoted(&text)));
                return Err(match nearest(&text, symbols_of(field).into_iter()) {
                    Some(near) => unknown.hint(format!("did you mean \"{near}\"?")),
                    None => unknown,
                });
            }
            (constant, _) => return Err(wrong(constant.is().name())),
        })
    }

    fn is_bare(&self, id: Id, number: u32) -> bool {
        self.is_name(id) && query::by_name(self.word(id)).is_some_and(|field| field.number == number)
    }

    /// Refuses to compare labels as a text.
    fn refuse_labels(&self, id: Id) -> Result<(), Wrong> {
        if self.is_bare(id, query::LABELS) {
            return Err(
                Wrong::new(self.at(id), "labels are a set").hint("label(\"name\"), or labels contains \"name\"")
            );
        }
        Ok(())
    }

    /// Returns protocols and states that a name stands for; `None` if the node is no name of a state.
    fn states_of(&self, id: Id) -> Result<Option<Vec<(u8, u8)>>, Wrong> {
        let node = self.tree.node(id);
        let name = match &node.kind {
            NodeKind::Name if query::by_name(self.word(id)).is_none() && !self.word(id).starts_with("annotations") => {
                self.word(id).to_owned()
            }
            NodeKind::Text => lexer::content(self.tree.text, node.inner.clone())?,
            _ => return Ok(None),
        };
        let found = states(&name);
        if !found.is_empty() {
            return Ok(Some(found));
        }
        let known = STATES.iter().flat_map(|(_, names)| names.iter().copied());
        let wrong = Wrong::new(node.at.clone(), format!("there is no state {}", quoted(&name)));
        Err(match nearest(&name, known) {
            Some(near) => wrong.hint(format!("did you mean `{near}`?")),
            None => wrong.hint(format!("states of TCP are {}", state::TCP.join(", "))),
        })
    }

    fn membership(&self, value: Id, members: &[(Id, Option<Id>)], negated: bool) -> Result<Condition, Wrong> {
        self.refuse_labels(value)?;
        let hint = self.hint(value);
        let mut operations = Vec::new();
        let shape = match self.value(value, hint, &mut operations)? {
            Value::Computed(shape) => shape,
            Value::Constant(_) => {
                let member = members.first().map_or("src", |(first, _)| self.brief(*first, "src"));
                return Err(Wrong::new(self.at(value), "a field is in a set, and not a constant")
                    .hint(format!("{member} == {}", self.brief(value, "..."))));
            }
        };
        let bare_state = self.is_bare(value, query::STATE);
        let (mut states, mut texts) = (Vec::new(), Vec::new());
        let (mut numbers, mut addresses) = (Vec::new(), Vec::new());
        for (first, last) in members {
            if bare_state
                && last.is_none()
                && let Some(found) = self.states_of(*first)?
            {
                states.extend(found);
                continue;
            }
            if let NodeKind::Network(ip, length) = self.tree.node(*first).kind {
                if let Some(last) = last {
                    return Err(Wrong::new(self.at(*last), "a network is not the beginning of a range"));
                }
                if shape.is() != Type::Address {
                    return Err(Wrong::new(
                        self.at(*first),
                        format!("{} is a network; beside `in` is {}", quoted(self.part(*first)), kind_name(shape.kind)),
                    ));
                }
                let (from, to) = network(ip, length);
                if from != to_bits(ip) {
                    let right = std::net::Ipv6Addr::from_bits(from).to_canonical();
                    return Err(Wrong::new(
                        self.at(*first),
                        format!("{} has bits behind its prefix", quoted(self.part(*first))),
                    )
                    .hint(format!("{right}/{length}")));
                }
                Set::push_addresses(&mut addresses, from, to);
                continue;
            }
            let from = self.member(*first, hint, shape)?;
            let Some(last) = last else {
                match from {
                    Constant::Number(number, _) => numbers.push((number, number)),
                    Constant::Address(address) => addresses.push((address, address)),
                    Constant::Text(text) => texts.push(text),
                }
                continue;
            };
            let to = self.member(*last, hint, shape)?;
            let at = self.at(*first).start..self.at(*last).end;
            let backwards = || {
                Wrong::new(at.clone(), "the range runs backwards").hint(format!(
                    "{}..{}",
                    self.brief(*last, "the smaller"),
                    self.brief(*first, "the larger")
                ))
            };
            match (from, to) {
                (Constant::Number(from, _), Constant::Number(to, _)) => {
                    if from > to {
                        return Err(backwards());
                    }
                    numbers.push((from, to));
                }
                (Constant::Address(from), Constant::Address(to)) => {
                    use crate::condition::is_ipv4;
                    if is_ipv4(from) != is_ipv4(to) {
                        return Err(Wrong::new(at, "the range has addresses of both families"));
                    }
                    if from > to {
                        return Err(backwards());
                    }
                    Set::push_addresses(&mut addresses, from, to);
                }
                _ => return Err(Wrong::new(at, "texts have no ranges")),
            }
        }
        if !states.is_empty() {
            return Ok(state_condition(states, numbers, negated));
        }
        let set = match shape.is() {
            Type::Number => Set::Numbers(numbers),
            Type::Address => Set::Addresses(addresses),
            Type::Text => Set::Texts(texts),
        };
        Ok(in_set(operations, set, negated))
    }

    /// Returns a member of a set.
    fn member(&self, id: Id, hint: Hint, shape: Shape) -> Result<Constant, Wrong> {
        match self.value(id, hint, &mut Vec::new())? {
            Value::Constant(constant) => self.converted(constant, shape, id),
            Value::Computed(_) => Err(Wrong::new(self.at(id), "the members of a set are constants")
                .hint(format!("compare with {} by ==, and join by `or`", quoted(self.part(id))))),
        }
    }

    fn text_test(&self, test: TextTest, value: Id, text: Id) -> Result<Condition, Wrong> {
        let node = self.tree.node(text);
        let NodeKind::Text = node.kind else {
            return Err(Wrong::new(node.at.clone(), format!("{} is not a text", quoted(self.part(text))))
                .hint("texts are in quotation marks"));
        };
        let content = lexer::content(self.tree.text, node.inner.clone())?;
        if self.is_bare(value, query::LABELS) {
            return match test {
                TextTest::Contains => self.label(text),
                _ => Err(Wrong::new(self.at(value), "labels are a set").hint("labels contains \"name\"")),
            };
        }
        let mut operations = Vec::new();
        match self.value(value, self.hint(value), &mut operations)? {
            Value::Computed(shape) if shape.is() == Type::Text => {}
            found => {
                let what = match &found {
                    Value::Constant(_) => "a constant",
                    Value::Computed(shape) => kind_name(shape.kind),
                };
                let wrong =
                    Wrong::new(self.at(value), format!("{} is {what} and not a text", quoted(self.part(value))));
                return Err(match found {
                    Value::Computed(Shape { kind: kind::ADDRESS, .. }) => {
                        wrong.hint("addresses are compared by ==, or by `in` with a network")
                    }
                    Value::Computed(Shape { kind: kind::PROTOCOL, .. }) => wrong.hint("`protocol_name` is a text"),
                    Value::Computed(Shape { kind: kind::STATE, .. }) => wrong.hint("`state_name` is a text"),
                    _ => wrong,
                });
            }
        }
        operations.push(match test {
            TextTest::Contains => Operation::Contains(content),
            TextTest::StartsWith => Operation::StartsWith(content),
            TextTest::EndsWith => Operation::EndsWith(content),
            TextTest::Matches => {
                self.regexes.set(self.regexes.get() + 1);
                if self.regexes.get() > MOST_REGEXES {
                    return Err(Wrong::new(
                        node.at.clone(),
                        format!("there are more than {MOST_REGEXES} regular expressions"),
                    )
                    .hint("alternatives can be in one: \"a|b\""));
                }
                if let Err(error) = regex_lite::RegexBuilder::new(&content).size_limit(REGEX_SIZE).build() {
                    return Err(Wrong::new(node.at.clone(), format!("the regular expression is not valid: {error}")));
                }
                Operation::Matches(content)
            }
        });
        Ok(Condition::Test(operations))
    }

    fn label(&self, id: Id) -> Result<Condition, Wrong> {
        let node = self.tree.node(id);
        let name = match &node.kind {
            NodeKind::Number(number, Unit::Plain) => {
                return match u16::try_from(*number).ok().filter(|number| *number <= HIGHEST_LABEL) {
                    Some(bit) => Ok(Condition::Test(vec![Operation::Label(bit)])),
                    None => Err(Wrong::new(
                        node.at.clone(),
                        format!("there is no label {}; the highest is {HIGHEST_LABEL}", quoted(self.part(id))),
                    )),
                };
            }
            NodeKind::Text => lexer::content(self.tree.text, node.inner.clone())?,
            NodeKind::Name => self.word(id).to_owned(),
            _ => {
                return Err(
                    Wrong::new(node.at.clone(), "a label is a name or a number").hint("label(\"name\"), or label(5)")
                );
            }
        };
        match (self.context.labels)(&name) {
            Some(bit) => Ok(Condition::Test(vec![Operation::Label(bit)])),
            None => Err(Wrong::new(node.at.clone(), format!("there is no label {}", quoted(&name)))
                .hint("labels are named in connlabel.conf; label(5) is one by its number")),
        }
    }
}

/// Returns the test whether what the operations compute is in the set, or present and not in it.
fn in_set(mut operations: Vec<Operation>, set: Set, negated: bool) -> Condition {
    let before = operations.clone();
    set.test(&mut operations);
    if !negated {
        return Condition::Test(operations);
    }
    // A set of one member: `!=`.
    if let Some(Operation::Compare(comparison)) = operations.last_mut()
        && *comparison == 0
    {
        *comparison = 1;
        return Condition::Test(operations);
    }
    let mut present = before;
    present.push(Operation::Has);
    Condition::all([Condition::Test(present), Condition::Test(operations).negated()])
}

/// Returns the condition that the state is one of these, of a protocol, or one of these numbers.
fn state_condition(states: Vec<(u8, u8)>, numbers: Vec<(i128, i128)>, negated: bool) -> Condition {
    let of_field = |number: u32| vec![Operation::Field(number)];
    let mut any = Vec::new();
    for (protocol, _) in STATES {
        let found = states.iter().filter(|(of, _)| *of == protocol);
        let numbers: Vec<_> = found.map(|(_, state)| (i128::from(*state), i128::from(*state))).collect();
        if !numbers.is_empty() {
            let number = i128::from(protocol);
            any.push(Condition::all([
                in_set(of_field(query::PROTOCOL), Set::Numbers(vec![(number, number)]), false),
                in_set(of_field(query::STATE), Set::Numbers(numbers), false),
            ]));
        }
    }
    if !numbers.is_empty() {
        any.push(in_set(of_field(query::STATE), Set::Numbers(numbers), false));
    }
    let any = Condition::any(any);
    if !negated {
        return any;
    }
    let present = vec![Operation::Field(query::STATE), Operation::Has];
    Condition::all([Condition::Test(present), any.negated()])
}

/// Returns protocols and numbers of the states with this name.
fn states(name: &str) -> Vec<(u8, u8)> {
    let mut found = Vec::new();
    for (protocol, names) in STATES {
        if let Some(number) = names.iter().position(|known| known.eq_ignore_ascii_case(name)) {
            found.push((protocol, number as u8));
        }
    }
    found
}

/// Returns the names of a field's values.
fn symbols_of(field: &'static QueryField) -> Vec<&'static str> {
    match names_of(field) {
        Some("protocol") => protocols::names().collect(),
        Some("service") => services::names().collect(),
        Some("family") => [family::IPV4, family::IPV6].into_iter().filter_map(family::name).collect(),
        Some("kind of event") => EVENTS.iter().map(|(name, _)| *name).collect(),
        Some("state") => STATES.iter().flat_map(|(_, names)| names.iter().copied()).collect(),
        Some("status bit") => status::NAMES.iter().map(|(_, name)| *name).collect(),
        _ => Vec::new(),
    }
}

/// Returns a kind for messages.
fn kind_name(kind: u8) -> &'static str {
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

fn described(constant: &Constant) -> &'static str {
    match constant {
        Constant::Number(_, Unit::Size) => "a size",
        Constant::Number(_, Unit::Time) => "a time",
        other => other.is().name(),
    }
}

/// Returns the kind of what is computed from a value by `-` or `~`.
fn computed(kind: u8) -> u8 {
    match kind {
        kind::BYTES | kind::SECONDS | kind::NANOSECONDS | kind::BITS | kind::STATUS => kind,
        _ => kind::PLAIN,
    }
}

/// Returns the kind of what an operator computes.
fn result(operator: u8, left: u8, right: u8) -> u8 {
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

fn beyond(at: Range<usize>) -> Wrong {
    Wrong::new(at, "the result is beyond 128 bits")
}

/// Checks a constant on the right side of an operator.
fn check_operand(operator: u8, right: i128, at: &Range<usize>) -> Result<(), Wrong> {
    match operator {
        3 | 4 if right == 0 => Err(Wrong::new(at.clone(), "division by 0")),
        8 | 9 if !(0..=127).contains(&right) => {
            Err(Wrong::new(at.clone(), format!("a shift by {right}; it may be by 0 to 127")))
        }
        _ => Ok(()),
    }
}

/// Computes with constants.
fn folded(
    operator: u8,
    left: Constant,
    right: Constant,
    at: &Range<usize>,
    right_at: &Range<usize>,
) -> Result<Constant, Wrong> {
    let (Constant::Number(one, unit), Constant::Number(other, other_unit)) = (left, right) else {
        return Err(Wrong::new(at.clone(), "numbers are missing"));
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
            return Err(Wrong::new(at.clone(), format!("{} {sign} {} has no meaning", name(unit), name(other_unit))));
        }
    };
    check_operand(operator, other, right_at)?;
    let result = match operator {
        0 => one.checked_add(other),
        1 => one.checked_sub(other),
        2 => one.checked_mul(other),
        3 => one.checked_div(other),
        4 => one.checked_rem(other),
        5 => Some(one & other),
        6 => Some(one | other),
        7 => Some(one ^ other),
        8 => one.checked_shl(other as u32).filter(|shifted| shifted >> other == one),
        _ => one.checked_shr(other as u32),
    };
    match result {
        Some(result) => Ok(Constant::Number(result, unit)),
        None => Err(beyond(at.clone())),
    }
}

/// Checks that a field can have a value.
fn within(number: i128, field: &QueryField, at: &Range<usize>) -> Result<(), Wrong> {
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
    Err(Wrong::new(at.clone(), format!("{number} is not a {what}; the {end} is {bound}")))
}

fn read_time(text: &str, at: &Range<usize>) -> Result<i128, Wrong> {
    point_in_time(text).ok_or_else(|| {
        Wrong::new(at.clone(), format!("{} is not a point in time", quoted(text)))
            .hint("\"2026-11-30T12:00:00Z\", \"2026-11-30T13:00:00+01:00\", or \"2026-11-30\" for its beginning (UTC)")
    })
}
