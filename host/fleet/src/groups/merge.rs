//! The groups of all agents, added up by their keys.

use std::{cmp::Ordering, collections::HashMap};

use flowgate_model::{
    Aggregation, Groups, batch, family,
    query::kind,
    wit::query::{Cells, Key, Measure, Sort},
};

use super::{
    GroupsError, function,
    wire::{self, KeyValue},
};

/// Bytes of texts for each group that may be kept; and in addition.
const TEXT_BYTES: (usize, usize) = (256, 1 << 20);

/// Adds up the groups of agents.
#[derive(Debug)]
pub struct Merger {
    aggregation: Aggregation,
    /// Which of the keys is the agent itself.
    agent: Option<usize>,
    /// The kinds of the keys that agents send.
    kinds: Vec<u8>,
    /// The functions of the measures that agents send.
    functions: Vec<u8>,
    groups: HashMap<Box<[KeyValue]>, Box<[Option<i128>]>>,
    /// The bytes of the texts in the keys.
    texts: usize,
}

/// A value of a measure in the result.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Absent,
    Number(i128),
    Real(f64),
}

/// A group of the result.
type Group = (Box<[KeyValue]>, Box<[Value]>);

impl Merger {
    /// Returns a merger for an aggregation, of which the key `agent`, if there is one, is the agent itself.
    ///
    /// # Errors
    /// [`GroupsError::Unmergeable`]
    pub fn new(aggregation: Aggregation, agent: Option<usize>) -> Result<Self, GroupsError> {
        let partial = super::partial(&aggregation)?;
        let sent = partial.keys.iter().enumerate().filter(|(index, _)| Some(*index) != agent);
        let kinds = sent.map(|(_, key)| key.kind).collect();
        let functions = partial.measures.iter().map(|measure| measure.function).collect();
        Ok(Merger { aggregation, agent, kinds, functions, groups: HashMap::new(), texts: 0 })
    }

    /// Adds the lines of an agent: all of them, or none if one of them is wrong.
    ///
    /// # Errors
    /// [`GroupsError::Bad`]; [`GroupsError::TooMany`] or [`GroupsError::TooLong`], after which the result is not
    /// complete.
    pub fn add(&mut self, agent: &str, lines: &[u8]) -> Result<(), GroupsError> {
        let lines = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let lines = lines.map(|line| wire::read(line, &self.kinds, self.functions.len()));
        let lines: Vec<_> = lines.collect::<Result<_, _>>()?;
        for (mut keys, values) in lines {
            if let Some(place) = self.agent {
                let mut all = keys.into_vec();
                all.insert(place.min(all.len()), KeyValue::Text(agent.as_bytes().into()));
                keys = all.into_boxed_slice();
            }
            if let Some(sums) = self.groups.get_mut(&keys) {
                for ((sum, value), &function) in sums.iter_mut().zip(&values).zip(&self.functions) {
                    *sum = added(function, *sum, *value);
                }
                continue;
            }
            let most = self.aggregation.max_groups;
            if self.groups.len() >= most as usize {
                return Err(GroupsError::TooMany(most));
            }
            let texts = |key: &KeyValue| if let KeyValue::Text(text) = key { text.len() } else { 0 };
            self.texts += keys.iter().map(texts).sum::<usize>();
            let room = (most as usize).saturating_mul(TEXT_BYTES.0).saturating_add(TEXT_BYTES.1);
            if self.texts > room {
                return Err(GroupsError::TooLong(room));
            }
            self.groups.insert(keys, values);
        }
        Ok(())
    }

    /// Returns the result, of this number of flows.
    #[must_use]
    pub fn take(self, flows: u64) -> Groups {
        let Merger { aggregation, groups, .. } = self;
        let Aggregation { keys, measures, sorts, top, approximate, .. } = &aggregation;
        let mut all: Vec<Group> = groups.into_iter().map(|(keys, sums)| (keys, values(measures, &sums))).collect();
        let total = all.len() as u64;
        // Groups that are equal in the order are ordered by their keys.
        all.sort_unstable_by(|one, other| {
            let mut compared = sorts.iter().map(|sort| compare(sort, keys.len(), one, other));
            compared.find(|order| order.is_ne()).unwrap_or_else(|| one.0.cmp(&other.0))
        });
        all.truncate(top.map_or(usize::MAX, |top| top as usize));
        let mut columns: Vec<Cells> = keys.iter().map(|key| cells(&key.name, key.kind)).collect();
        columns.extend(measures.iter().map(|measure| cells(&measure.name, measure.kind)));
        for (group, values) in &all {
            let (of_keys, of_measures) = columns.split_at_mut(keys.len());
            group.iter().zip(keys).zip(of_keys).for_each(|((value, key), cells)| push_key(cells, key, value));
            values.iter().zip(of_measures).for_each(|(value, cells)| push(cells, *value));
        }
        Groups {
            length: all.len() as u32,
            columns,
            keys: keys.len() as u32,
            flows,
            total,
            // Nothing was approximated.
            errors: if *approximate { vec![0; all.len()] } else { Vec::new() },
            since: 0,
            until: 0,
        }
    }
}

/// Adds a value of an agent. A sum without a value is one of more than 128 bits.
fn added(function: u8, sum: Option<i128>, value: Option<i128>) -> Option<i128> {
    match (function, sum, value) {
        (function::COUNT | function::SUM, Some(sum), Some(value)) => sum.checked_add(value),
        (function::COUNT | function::SUM, ..) => None,
        (function::MIN, Some(sum), Some(value)) => Some(sum.min(value)),
        (_, Some(sum), Some(value)) => Some(sum.max(value)),
        (_, sum, value) => sum.or(value),
    }
}

/// Returns the values of measures by what agents have sent.
fn values(measures: &[Measure], sums: &[Option<i128>]) -> Box<[Value]> {
    let mut sums = sums.iter().copied();
    let mut next = || sums.next().flatten();
    let value = |measure: &Measure| match measure.function {
        function::AVG => match (next(), next()) {
            (Some(sum), Some(count)) if count > 0 => Value::Real(sum as f64 / count as f64),
            _ => Value::Absent,
        },
        _ => next().map_or(Value::Absent, Value::Number),
    };
    measures.iter().map(value).collect()
}

/// Returns the order of two groups by a column; absent values are last.
fn compare(sort: &Sort, keys: usize, one: &Group, other: &Group) -> Ordering {
    let column = sort.column as usize;
    let directed = |order: Ordering| if sort.descending { order.reverse() } else { order };
    match column.checked_sub(keys) {
        None => match (one.0.get(column), other.0.get(column)) {
            (Some(KeyValue::Absent), other) => (other != Some(&KeyValue::Absent)).cmp(&false),
            (_, Some(KeyValue::Absent)) => Ordering::Less,
            (one, other) => directed(one.cmp(&other)),
        },
        Some(measure) => match (one.1.get(measure), other.1.get(measure)) {
            (Some(Value::Absent), other) => (other != Some(&Value::Absent)).cmp(&false),
            (_, Some(Value::Absent)) => Ordering::Less,
            (Some(Value::Number(one)), Some(Value::Number(other))) => directed(one.cmp(other)),
            (Some(Value::Real(one)), Some(Value::Real(other))) => directed(one.total_cmp(other)),
            _ => Ordering::Equal,
        },
    }
}

fn cells(name: &str, kind: u8) -> Cells {
    Cells { name: name.to_owned(), kind, ..Cells::default() }
}

fn push_bits(cells: &mut Cells, bits: u128) {
    cells.hi.push((bits >> 64) as u64);
    cells.lo.push(bits as u64);
}

fn push_key(cells: &mut Cells, key: &Key, value: &KeyValue) {
    cells.has.push(u8::from(*value != KeyValue::Absent));
    let bits = match value {
        KeyValue::Number(number) => number.cast_unsigned(),
        KeyValue::Address(bits) => *bits,
        KeyValue::Text(_) | KeyValue::Absent => 0,
    };
    match cells.kind {
        kind::TEXT => batch::push_text(&mut cells.texts, if let KeyValue::Text(text) = value { text } else { b"" }),
        kind::NETWORK => {
            let length = if family::is_ipv4(bits) { key.ipv4_prefix } else { key.ipv6_prefix };
            cells.reals.push(length.into());
            push_bits(cells, bits);
        }
        _ => push_bits(cells, bits),
    }
}

fn push(cells: &mut Cells, value: Value) {
    cells.has.push(u8::from(value != Value::Absent));
    match value {
        Value::Real(real) => cells.reals.push(real),
        _ if matches!(cells.kind, kind::MEAN | kind::MEAN_BYTES) => cells.reals.push(0.0),
        Value::Number(number) => push_bits(cells, number.cast_unsigned()),
        Value::Absent => push_bits(cells, 0),
    }
}

#[cfg(test)]
mod tests {
    use flowgate_model::{at, wit::query::Program};

    use super::*;

    fn key(name: &str, kind: u8) -> Key {
        Key { name: name.into(), kind, program: Program::default(), ipv4_prefix: 24, ipv6_prefix: 64 }
    }

    fn measure(name: &str, function: u8, kind: u8) -> Measure {
        Measure { name: name.into(), function, kind, program: Some(Program::default()) }
    }

    fn aggregation() -> Aggregation {
        Aggregation {
            keys: vec![key("src/24/64", kind::NETWORK), key("helper", kind::TEXT)],
            measures: vec![
                measure("count", function::COUNT, kind::PLAIN),
                measure("sum(bytes)", function::SUM, kind::BYTES),
                measure("avg(bytes)", function::AVG, kind::MEAN_BYTES),
                measure("min(mark)", function::MIN, kind::BITS),
                measure("max(mark)", function::MAX, kind::BITS),
            ],
            sorts: vec![Sort { column: 3, descending: true }],
            max_groups: 10,
            ..Aggregation::default()
        }
    }

    fn numbers(groups: &Groups, column: usize) -> Vec<Option<i128>> {
        let cells = &groups.columns[column];
        let number = |row| (u128::from(at(&cells.hi, row)) << 64 | u128::from(at(&cells.lo, row))).cast_signed();
        (0..groups.length as usize).map(|row| (cells.has[row] == 1).then(|| number(row))).collect()
    }

    #[test]
    fn values_of_the_same_group_are_added_up() {
        let mut merger = Merger::new(aggregation(), None).unwrap();
        let most = i128::MAX.to_string();
        let one = format!(
            "[\"::ffff:10.0.0.0\",\"ftp\",\"2\",\"100\",\"100\",\"2\",\"7\",\"9\"]\n\
             [\"2001:db8::\",null,\"1\",\"{most}\",\"5\",\"1\",null,null]\n"
        );
        let two = "[\"::ffff:10.0.0.0\",\"ftp\",\"3\",\"50\",\"50\",\"3\",\"8\",\"12\"]\n\
                   [\"2001:db8::\",null,\"1\",\"1\",\"0\",\"0\",\"4\",\"4\"]\n\
                   [\"::ffff:10.0.0.0\",null,\"1\",\"700\",\"0\",\"0\",null,null]\n";
        merger.add("a", one.as_bytes()).unwrap();
        merger.add("b", two.as_bytes()).unwrap();
        merger.add("c", b"").unwrap();
        let groups = merger.take(8);
        assert_eq!((groups.length, groups.total, groups.keys, groups.flows), (3, 3, 2, 8));
        // By sums, descending; the one of more than 128 bits is last.
        assert_eq!(numbers(&groups, 3), [Some(700), Some(150), None]);
        assert_eq!(numbers(&groups, 2), [Some(1), Some(5), Some(2)]);
        assert_eq!(numbers(&groups, 5), [None, Some(7), Some(4)]);
        assert_eq!(numbers(&groups, 6), [None, Some(12), Some(4)]);
        assert_eq!((&groups.columns[4].has, &groups.columns[4].reals), (&vec![0, 1, 1], &vec![0.0, 30.0, 5.0]));
        assert_eq!((&groups.columns[1].has, batch::text(&groups.columns[1].texts, 1)), (&vec![0, 1, 0], &b"ftp"[..]));
        assert_eq!(groups.columns[0].reals, [24.0, 24.0, 64.0]);
    }

    #[test]
    fn the_agent_can_be_a_key_and_the_first_ones_are_enough() {
        let mut all = aggregation();
        all.keys.insert(1, key("agent", kind::TEXT));
        (all.measures, all.top) = (vec![measure("count", function::COUNT, kind::PLAIN)], Some(2));
        all.sorts = vec![Sort { column: 3, descending: true }, Sort { column: 1, descending: true }];
        let mut merger = Merger::new(all, Some(1)).unwrap();
        for agent in ["a", "c", "b"] {
            merger.add(agent, b"[\"::ffff:10.0.0.0\",\"ftp\",\"1\"]\n[\"::ffff:10.0.1.0\",null,\"7\"]\n").unwrap();
        }
        let groups = merger.take(24);
        assert_eq!((groups.length, groups.total), (2, 6));
        let texts: Vec<&[u8]> = (0..2).map(|row| batch::text(&groups.columns[1].texts, row)).collect();
        assert_eq!((texts, numbers(&groups, 3)), (vec![&b"c"[..], b"b"], vec![Some(7), Some(7)]));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut one = aggregation();
        (one.keys, one.measures, one.sorts) =
            (vec![key("helper", kind::TEXT)], vec![measure("count", function::COUNT, kind::PLAIN)], Vec::new());
        let mut merger = Merger::new(one.clone(), None).unwrap();
        let lines: String = (0..10).map(|number| format!("[\"{number}\",\"1\"]\n")).collect();
        merger.add("a", lines.as_bytes()).unwrap();
        merger.add("b", lines.as_bytes()).unwrap();
        let error = merger.add("c", b"[\"x\",\"1\"]").unwrap_err();
        assert!(error.to_string().contains("more than 10 groups together; raise --max-groups"), "{error}");
        let mut merger = Merger::new(one, None).unwrap();
        let long = format!("[\"{}\",\"1\"]", "x".repeat(TEXT_BYTES.1 + 10 * TEXT_BYTES.0 + 1));
        assert!(matches!(merger.add("a", long.as_bytes()), Err(GroupsError::TooLong(_))));
        // A wrong line spoils the whole answer, not the rest.
        assert!(matches!(merger.add("a", b"[\"x\",\"1\"]\n[1]\n"), Err(GroupsError::Bad(_))));
        assert_eq!(merger.groups.len(), 0);
    }

    #[test]
    fn numbers_of_distinct_values_are_refused() {
        let mut all = aggregation();
        all.measures.push(measure("distinct(src)", 5, kind::PLAIN));
        let error = Merger::new(all, None).unwrap_err().to_string();
        assert!(error.contains("distinct(src) of all agents is not the sum") && error.contains("--by src"), "{error}");
    }
}
