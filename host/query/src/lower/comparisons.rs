//! Comparisons and tests of values.

use std::net::IpAddr;

use flowgate_model::Operation;
use flowgate_names::{
    family::is_ipv4,
    operation::{Comparison, REGEX_SIZE},
    query::{self, kind},
};

use super::{
    Hint, Lowering,
    kinds::{Constant, Shape, Type, Value, described, kind_name},
    names::STATES,
    values::to_bits,
};
use crate::{
    condition::{Condition, Set, address, number},
    error::{Diagnostic, quoted},
    lexer::{self, Unit},
    parser::{Id, NodeKind, TextTest},
};

/// Greatest number of regular expressions.
pub(super) const MOST_REGEXES: u32 = 32;

/// Highest connection label.
pub(super) const HIGHEST_LABEL: u16 = 127;

impl Lowering<'_> {
    pub(super) fn comparison(&self, comparison: Comparison, left: Id, right: Id) -> Result<Condition, Diagnostic> {
        let hint = self.hint(left).or_else(|| self.hint(right));
        for (one, other) in [(left, right), (right, left)] {
            if let NodeKind::Network(..) = self.tree.node(one).kind {
                let verb = if comparison == Comparison::NotEqual { "not in" } else { "in" };
                return Err(Diagnostic::new(self.at(one), "a network is a set of addresses").hint(format!(
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
                        return Err(Diagnostic::new(self.at(other), "states by name have no order")
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
                (comparison.mirrored(), shape, constant, left)
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
    pub(super) fn comparable(
        &self,
        comparison: Comparison,
        found: Type,
        left: Id,
        right: Id,
    ) -> Result<(), Diagnostic> {
        if found == Type::Address && !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            let at = self.at(left).start..self.at(right).end;
            return Err(
                Diagnostic::new(at, "addresses have no order").hint("src in 10.0.0.1..10.0.0.9, or src in 10.0.0.0/24")
            );
        }
        Ok(())
    }

    pub(super) fn compare_constants(
        &self,
        comparison: Comparison,
        one: Constant,
        other: Constant,
        left: Id,
        right: Id,
    ) -> Result<Condition, Diagnostic> {
        let order = match (&one, &other) {
            (Constant::Number(one, unit), Constant::Number(other, other_unit)) if unit == other_unit => one.cmp(other),
            (Constant::Address(one), Constant::Address(other)) => {
                self.comparable(comparison, Type::Address, left, right)?;
                one.cmp(other)
            }
            (Constant::Text(one), Constant::Text(other)) => one.cmp(other),
            _ => {
                return Err(Diagnostic::new(
                    self.at(right),
                    format!("{} is compared with {}", described(&one), described(&other)),
                ));
            }
        };
        Ok(Condition::Truth(comparison.accepts(order)))
    }

    /// Refuses the comparison of two fields that mean different things.
    pub(super) fn compatible(&self, one: Shape, other: Shape, at: Id) -> Result<(), Diagnostic> {
        let any = |kind| matches!(kind, kind::PLAIN | kind::BITS);
        let same = one.is() == other.is()
            && (one.kind == other.kind || any(one.kind) || any(other.kind) || one.is() != Type::Number);
        if same {
            return Ok(());
        }
        Err(Diagnostic::new(self.at(at), format!("{} is compared with {}", kind_name(one.kind), kind_name(other.kind))))
    }

    /// Refuses to compare labels as a text.
    pub(super) fn refuse_labels(&self, id: Id) -> Result<(), Diagnostic> {
        if self.is_bare(id, query::LABELS) {
            return Err(
                Diagnostic::new(self.at(id), "labels are a set").hint("label(\"name\"), or labels contains \"name\"")
            );
        }
        Ok(())
    }

    pub(super) fn membership(
        &self,
        value: Id,
        members: &[(Id, Option<Id>)],
        negated: bool,
    ) -> Result<Condition, Diagnostic> {
        self.refuse_labels(value)?;
        let hint = self.hint(value);
        let mut operations = Vec::new();
        let shape = match self.value(value, hint, &mut operations)? {
            Value::Computed(shape) => shape,
            Value::Constant(_) => {
                let member = members.first().map_or("src", |(first, _)| self.brief(*first, "src"));
                return Err(Diagnostic::new(self.at(value), "a field is in a set, and not a constant")
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
                    return Err(Diagnostic::new(self.at(*last), "a network is not the beginning of a range"));
                }
                if shape.is() != Type::Address {
                    return Err(Diagnostic::new(
                        self.at(*first),
                        format!("{} is a network; beside `in` is {}", quoted(self.part(*first)), kind_name(shape.kind)),
                    ));
                }
                let (from, to) = network(ip, length);
                if from != to_bits(ip) {
                    let right = std::net::Ipv6Addr::from_bits(from).to_canonical();
                    return Err(Diagnostic::new(
                        self.at(*first),
                        format!("{} has bits behind its prefix", quoted(self.part(*first))),
                    )
                    .hint(format!("{right}/{length}")));
                }
                addresses.push((from, to));
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
                Diagnostic::new(at.clone(), "the range runs backwards").hint(format!(
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
                    if is_ipv4(from) != is_ipv4(to) {
                        return Err(Diagnostic::new(at, "the range has addresses of both families"));
                    }
                    if from > to {
                        return Err(backwards());
                    }
                    addresses.push((from, to));
                }
                _ => return Err(Diagnostic::new(at, "texts have no ranges")),
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
    pub(super) fn member(&self, id: Id, hint: Hint, shape: Shape) -> Result<Constant, Diagnostic> {
        match self.value(id, hint, &mut Vec::new())? {
            Value::Constant(constant) => self.converted(constant, shape, id),
            Value::Computed(_) => Err(Diagnostic::new(self.at(id), "the members of a set are constants")
                .hint(format!("compare with {} by ==, and join by `or`", quoted(self.part(id))))),
        }
    }

    pub(super) fn text_test(&self, test: TextTest, value: Id, text: Id) -> Result<Condition, Diagnostic> {
        let node = self.tree.node(text);
        let NodeKind::Text = node.kind else {
            return Err(Diagnostic::new(node.at.clone(), format!("{} is not a text", quoted(self.part(text))))
                .hint("texts are in quotation marks"));
        };
        let content = lexer::content(self.tree.text, node.inner.clone())?;
        if self.is_bare(value, query::LABELS) {
            return match test {
                TextTest::Contains => self.label(text),
                _ => Err(Diagnostic::new(self.at(value), "labels are a set").hint("labels contains \"name\"")),
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
                    Diagnostic::new(self.at(value), format!("{} is {what} and not a text", quoted(self.part(value))));
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
                    return Err(Diagnostic::new(
                        node.at.clone(),
                        format!("there are more than {MOST_REGEXES} regular expressions"),
                    )
                    .hint("alternatives can be in one: \"a|b\""));
                }
                if let Err(error) = regex_lite::RegexBuilder::new(&content).size_limit(REGEX_SIZE).build() {
                    return Err(Diagnostic::new(
                        node.at.clone(),
                        format!("the regular expression is not valid: {error}"),
                    ));
                }
                Operation::Matches(content)
            }
        });
        Ok(Condition::Test(operations))
    }

    pub(super) fn label(&self, id: Id) -> Result<Condition, Diagnostic> {
        let node = self.tree.node(id);
        let name = match &node.kind {
            NodeKind::Number(number, Unit::Plain) => {
                return match u16::try_from(*number).ok().filter(|number| *number <= HIGHEST_LABEL) {
                    Some(bit) => Ok(Condition::Test(vec![Operation::Label(bit)])),
                    None => Err(Diagnostic::new(
                        node.at.clone(),
                        format!("there is no label {}; the highest is {HIGHEST_LABEL}", quoted(self.part(id))),
                    )),
                };
            }
            NodeKind::Text => lexer::content(self.tree.text, node.inner.clone())?,
            NodeKind::Name => self.word(id).to_owned(),
            _ => {
                return Err(Diagnostic::new(node.at.clone(), "a label is a name or a number")
                    .hint("label(\"name\"), or label(5)"));
            }
        };
        match (self.context.labels)(&name) {
            Some(bit) => Ok(Condition::Test(vec![Operation::Label(bit)])),
            None => Err(Diagnostic::new(node.at.clone(), format!("there is no label {}", quoted(&name)))
                .hint("labels are named in connlabel.conf; label(5) is one by its number")),
        }
    }
}

/// Returns first and last address of a network.
pub(super) fn network(address: IpAddr, length: u8) -> (u128, u128) {
    let length = u32::from(length) + if address.is_ipv4() { 96 } else { 0 };
    let host = u128::MAX.checked_shr(length).unwrap_or(0);
    let bits = to_bits(address);
    (bits & !host, bits | host)
}

/// Returns the test whether what the operations compute is in the set, or present and not in it.
pub(super) fn in_set(mut operations: Vec<Operation>, set: Set, negated: bool) -> Condition {
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
pub(super) fn state_condition(states: Vec<(u8, u8)>, numbers: Vec<(i128, i128)>, negated: bool) -> Condition {
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
