//! A condition as a tree in normal form, between syntax and program.

use std::collections::HashMap;

use flowgate_model::{
    Address, Operation,
    wit::query::{AddressRange, Number, NumberRange},
};
use flowgate_names::family::is_ipv4;

/// A condition. Its depth is bounded by that of the syntax tree.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    Truth(bool),
    /// Two or more, none of which is of this kind or constant.
    All(Vec<Condition>),
    /// Likewise.
    Any(Vec<Condition>),
    Not(Box<Condition>),
    /// A comparison or a test: operations that leave one truth value.
    Test(Vec<Operation>),
}

/// The members of a set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Set {
    Numbers(Vec<(i128, i128)>),
    Addresses(Vec<(u128, u128)>),
    Texts(Vec<String>),
}

/// What the members of sets are compared with, if it is not computed.
#[derive(PartialEq, Eq, Hash)]
enum Subject {
    Field(u32),
    Annotation(String),
}

pub(crate) fn number(number: i128) -> Number {
    Number { hi: (number >> 64) as i64, lo: number as u64 }
}

pub(crate) fn integer(number: Number) -> i128 {
    i128::from(number.hi) << 64 | i128::from(number.lo)
}

pub(crate) fn address(bits: u128) -> Address {
    Address { hi: (bits >> 64) as u64, lo: bits as u64 }
}

pub(crate) fn bits(address: Address) -> u128 {
    u128::from(address.hi) << 64 | u128::from(address.lo)
}

/// Returns true if addresses are of IPv6: these contain the form in which those of IPv4 are kept.
pub(crate) fn is_ipv6_range((first, last): (u128, u128)) -> bool {
    !(is_ipv4(first) && is_ipv4(last))
}

impl Set {
    fn extend(&mut self, other: Set) {
        match (self, other) {
            (Set::Numbers(all), Set::Numbers(more)) => all.extend(more),
            (Set::Addresses(all), Set::Addresses(more)) => all.extend(more),
            (Set::Texts(all), Set::Texts(more)) => all.extend(more),
            // A field has values of one type.
            _ => {}
        }
    }

    /// Appends the test whether what the operations compute is in the set, which has members.
    pub(crate) fn test(self, operations: &mut Vec<Operation>) {
        match self {
            Set::Numbers(ranges) => {
                let ranges = merged(ranges, |last, first| last.checked_add(1).is_none_or(|next| next >= first));
                match ranges.as_slice() {
                    [(first, last)] if first == last => {
                        operations.extend([Operation::Number(number(*first)), Operation::Compare(0)]);
                    }
                    _ => {
                        let range = |(first, last)| NumberRange { first: number(first), last: number(last) };
                        operations.push(Operation::NumberIn(ranges.into_iter().map(range).collect()));
                    }
                }
            }
            Set::Addresses(ranges) => {
                // Those of IPv4 come first.
                let (six, four): (Vec<_>, Vec<_>) = ranges.into_iter().partition(|range| is_ipv6_range(*range));
                let reaches = |last: u128, first: u128| last.checked_add(1).is_none_or(|next| next >= first);
                let mut ranges = merged(four, reaches);
                ranges.extend(merged(six, reaches));
                match ranges.as_slice() {
                    [(first, last)] if first == last => {
                        operations.extend([Operation::Address(address(*first)), Operation::Compare(0)]);
                    }
                    _ => {
                        let range = |(first, last)| AddressRange { first: address(first), last: address(last) };
                        operations.push(Operation::AddressIn(ranges.into_iter().map(range).collect()));
                    }
                }
            }
            Set::Texts(mut texts) => {
                texts.sort_unstable();
                texts.dedup();
                match texts.as_mut_slice() {
                    [text] => operations.extend([Operation::Text(std::mem::take(text)), Operation::Compare(0)]),
                    _ => operations.push(Operation::TextIn(texts)),
                }
            }
        }
    }
}

/// Returns ranges in ascending order, joined where the first one reaches the second one.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>, reaches: impl Fn(T, T) -> bool) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut all: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match all.last_mut() {
            Some((_, end)) if reaches(*end, first) => *end = last.max(*end),
            _ => all.push((first, last)),
        }
    }
    all
}

/// Takes a test apart that compares a field or an annotation with members of a set.
fn membership(operations: &[Operation]) -> Option<(Subject, Set)> {
    let (subject, test) = operations.split_first()?;
    let subject = match subject {
        Operation::Field(number) => Subject::Field(*number),
        Operation::Annotation(key) => Subject::Annotation(key.clone()),
        _ => return None,
    };
    Some((subject, members(test)?))
}

/// Returns the members that a test compares with, if it does nothing else.
pub(crate) fn members(test: &[Operation]) -> Option<Set> {
    Some(match test {
        [Operation::Number(number), Operation::Compare(0)] => Set::Numbers(vec![(integer(*number), integer(*number))]),
        [Operation::NumberIn(ranges)] => {
            Set::Numbers(ranges.iter().map(|range| (integer(range.first), integer(range.last))).collect())
        }
        [Operation::Address(address), Operation::Compare(0)] => Set::Addresses(vec![(bits(*address), bits(*address))]),
        [Operation::AddressIn(ranges)] => {
            Set::Addresses(ranges.iter().map(|range| (bits(range.first), bits(range.last))).collect())
        }
        [Operation::Text(text), Operation::Compare(0)] => Set::Texts(vec![text.clone()]),
        [Operation::TextIn(texts)] => Set::Texts(texts.clone()),
        _ => return None,
    })
}

impl Condition {
    /// Returns the conjunction.
    pub(crate) fn all(conditions: impl IntoIterator<Item = Condition>) -> Condition {
        let mut all = Vec::new();
        let mut never = false;
        for condition in conditions {
            match condition {
                Condition::Truth(truth) => never |= !truth,
                Condition::All(more) => all.extend(more),
                other => all.push(other),
            }
        }
        match all.len() {
            _ if never => Condition::Truth(false),
            0 => Condition::Truth(true),
            1 => all.swap_remove(0),
            _ => Condition::All(all),
        }
    }

    /// Returns the disjunction. Comparisons of one field become one, where the first of them is.
    pub(crate) fn any(conditions: impl IntoIterator<Item = Condition>) -> Condition {
        let mut any: Vec<Option<Condition>> = Vec::new();
        let mut sets: HashMap<Subject, (usize, Set)> = HashMap::new();
        let mut always = false;
        let mut pushed = |condition: Condition| {
            if let Condition::Test(operations) = &condition
                && let Some((subject, set)) = membership(operations)
            {
                match sets.get_mut(&subject) {
                    Some((_, all)) => all.extend(set),
                    None => {
                        sets.insert(subject, (any.len(), set));
                        any.push(None);
                    }
                }
            } else {
                any.push(Some(condition));
            }
        };
        for condition in conditions {
            match condition {
                Condition::Truth(truth) => always |= truth,
                Condition::Any(more) => more.into_iter().for_each(&mut pushed),
                other => pushed(other),
            }
        }
        for (subject, (place, set)) in sets {
            let mut operations = vec![match subject {
                Subject::Field(number) => Operation::Field(number),
                Subject::Annotation(key) => Operation::Annotation(key),
            }];
            set.test(&mut operations);
            if let Some(place) = any.get_mut(place) {
                *place = Some(Condition::Test(operations));
            }
        }
        let mut any: Vec<Condition> = any.into_iter().flatten().collect();
        match any.len() {
            _ if always => Condition::Truth(true),
            0 => Condition::Truth(false),
            1 => any.swap_remove(0),
            _ => Condition::Any(any),
        }
    }

    /// Returns the opposite.
    pub(crate) fn negated(self) -> Condition {
        match self {
            Condition::Truth(truth) => Condition::Truth(!truth),
            Condition::Not(inner) => *inner,
            other => Condition::Not(Box::new(other)),
        }
    }

    /// Appends the operations. A chain is computed operand by operand, so that its length does not count for the
    /// number of columns that are needed.
    pub(crate) fn emit(self, operations: &mut Vec<Operation>) {
        let (chain, join) = match self {
            Condition::Truth(truth) => return operations.push(Operation::Truth(truth)),
            Condition::Test(mut test) => return operations.append(&mut test),
            Condition::Not(inner) => {
                inner.emit(operations);
                return operations.push(Operation::Not);
            }
            Condition::All(chain) => (chain, Operation::All(2)),
            Condition::Any(chain) => (chain, Operation::Any(2)),
        };
        for (position, condition) in chain.into_iter().enumerate() {
            condition.emit(operations);
            if position > 0 {
                operations.push(join.clone());
            }
        }
    }

    /// Returns the condition of a program; `None` if it is not the program of a condition.
    pub(crate) fn of_program(operations: &[Operation]) -> Option<Condition> {
        /// A column: a value that operations from this one on compute, or a condition.
        enum Column {
            Value(usize),
            Condition(Condition),
        }
        let mut stack: Vec<Column> = Vec::new();
        for (position, operation) in operations.iter().enumerate() {
            let test = |start: usize| Some(Condition::Test(operations.get(start..=position)?.to_vec()));
            let value = |stack: &mut Vec<Column>| match stack.pop() {
                Some(Column::Value(start)) => Some(start),
                _ => None,
            };
            let column = match operation {
                Operation::Field(_)
                | Operation::Annotation(_)
                | Operation::Number(_)
                | Operation::Address(_)
                | Operation::Text(_) => Column::Value(position),
                Operation::Arithmetic(_) => {
                    value(&mut stack)?;
                    Column::Value(value(&mut stack)?)
                }
                Operation::Negate | Operation::Complement => Column::Value(value(&mut stack)?),
                Operation::Compare(_) => {
                    value(&mut stack)?;
                    Column::Condition(test(value(&mut stack)?)?)
                }
                Operation::NumberIn(_)
                | Operation::AddressIn(_)
                | Operation::TextIn(_)
                | Operation::Contains(_)
                | Operation::StartsWith(_)
                | Operation::EndsWith(_)
                | Operation::Matches(_)
                | Operation::Has => Column::Condition(test(value(&mut stack)?)?),
                Operation::Label(_) => Column::Condition(test(position)?),
                Operation::Truth(truth) => Column::Condition(Condition::Truth(*truth)),
                Operation::Not => match stack.pop() {
                    Some(Column::Condition(condition)) => Column::Condition(condition.negated()),
                    _ => return None,
                },
                Operation::All(number) | Operation::Any(number) => {
                    let start = stack.len().checked_sub(*number as usize)?;
                    let mut chain: Vec<Condition> = Vec::new();
                    for column in stack.drain(start..) {
                        let Column::Condition(condition) = column else { return None };
                        match (condition, operation) {
                            // The first operand is a chain that grows.
                            (Condition::All(more), Operation::All(_)) | (Condition::Any(more), Operation::Any(_)) => {
                                if chain.is_empty() {
                                    chain = more
                                } else {
                                    chain.extend(more)
                                }
                            }
                            (other, _) => chain.push(other),
                        }
                    }
                    Column::Condition(match operation {
                        Operation::All(_) => Condition::All(chain),
                        _ => Condition::Any(chain),
                    })
                }
            };
            stack.push(column);
        }
        match (stack.pop(), stack.pop()) {
            (Some(Column::Condition(condition)), None) => Some(condition),
            _ => None,
        }
    }
}
