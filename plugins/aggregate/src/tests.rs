//! Aggregations, compared with an implementation that keeps the values of all rows.

use std::collections::{BTreeMap, BTreeSet};

use flowgate_plugin_query::{Column, Expression, Presence};
use flowgate_sdk::{
    Cells, Operation, Program,
    bindings::flowgate::conntrack::query::{Key as WitKey, Measure as WitMeasure},
    family, protocol,
    query::{self as q, kind},
    testing::{Row, Tuple, batch, setup},
};
use flowgate_test_support::Random;

use super::*;

/// A value of a key or measure; absent ones are last.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Cell {
    Number(i128),
    Address(u128),
    Network(u128, u8),
    Text(Vec<u8>),
    Real(f64),
    Absent,
}

impl Eq for Cell {}

#[allow(clippy::derive_ord_xor_partial_ord, reason = "no value is NaN")]
impl Ord for Cell {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.partial_cmp(other).unwrap()
    }
}

fn program(operations: Vec<Operation>) -> Program {
    Program { operations, reads: field::ALL }
}

fn of_field(number: u32) -> Program {
    program(vec![Operation::Field(number)])
}

/// Returns the values of a program in a batch.
fn evaluated(program: &Program, flows: &Flows) -> Vec<Cell> {
    let expression = Expression::compile(program.clone()).unwrap();
    let cells = |presence: &Presence, value: &dyn Fn(usize) -> Cell| {
        let present = presence.rows(flows);
        present.iter().enumerate().map(|(row, has)| if *has == 1 { value(row) } else { Cell::Absent }).collect()
    };
    match expression.column(flows, &[]) {
        Column::Numbers(numbers) => cells(&numbers.presence, &|row| Cell::Number(numbers.get(row))),
        Column::Addresses(addresses) => cells(&addresses.presence, &|row| Cell::Address(addresses.get(row))),
        Column::Texts(texts) => {
            texts.into_iter().map(|text| text.map_or(Cell::Absent, |text| Cell::Text(text.into_owned()))).collect()
        }
    }
}

fn truncated(cell: Cell, key: &WitKey) -> Cell {
    let Cell::Address(bits) = cell else { return cell };
    if key.kind != kind::NETWORK {
        return cell;
    }
    let (length, of) = if bits >> 32 == 0xffff { (key.ipv4_prefix, 32) } else { (key.ipv6_prefix, 128) };
    let mut bits = bits;
    for bit in 0..of - u32::from(length) {
        bits &= !(1 << bit);
    }
    Cell::Network(bits, length)
}

/// Returns the groups of some batches, in order: the values of keys and measures.
fn naive(aggregation: &Aggregation, batches: &[Flows]) -> Vec<Vec<Cell>> {
    let mut groups: BTreeMap<Vec<Cell>, Vec<Vec<Cell>>> = BTreeMap::new();
    if aggregation.keys.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    for flows in batches {
        let keys: Vec<Vec<Cell>> = aggregation.keys.iter().map(|key| evaluated(&key.program, flows)).collect();
        let measures: Vec<Vec<Cell>> = aggregation
            .measures
            .iter()
            .map(|measure| match &measure.program {
                Some(program) => evaluated(program, flows),
                None => vec![Cell::Absent; flows.length as usize],
            })
            .collect();
        for row in 0..flows.length as usize {
            if flows.events.as_ref().is_some_and(|events| events.kind[row] == event::GAP) {
                continue;
            }
            let of = |(values, key): (&Vec<Cell>, &WitKey)| truncated(values[row].clone(), key);
            let key = keys.iter().zip(&aggregation.keys).map(of).collect();
            groups.entry(key).or_default().push(measures.iter().map(|values| values[row].clone()).collect());
        }
    }
    let mut result: Vec<Vec<Cell>> = groups
        .into_iter()
        .map(|(mut cells, rows)| {
            for (index, measure) in aggregation.measures.iter().enumerate() {
                let values: Vec<&Cell> =
                    rows.iter().map(|row| &row[index]).filter(|cell| **cell != Cell::Absent).collect();
                let numbers =
                    values.iter().filter_map(|cell| if let Cell::Number(number) = cell { Some(*number) } else { None });
                let sum = || numbers.clone().try_fold(0i128, i128::checked_add);
                cells.push(match measure.function {
                    0 => Cell::Number(rows.len() as i128),
                    1 => sum().map_or(Cell::Absent, Cell::Number),
                    2 => numbers.min().map_or(Cell::Absent, Cell::Number),
                    3 => numbers.max().map_or(Cell::Absent, Cell::Number),
                    4 if values.is_empty() => Cell::Absent,
                    4 => Cell::Real(sum().unwrap() as f64 / values.len() as f64),
                    _ => Cell::Number(values.iter().collect::<BTreeSet<_>>().len() as i128),
                });
            }
            cells
        })
        .collect();
    let keys = aggregation.keys.len();
    result.sort_by(|one, two| {
        for sort in &aggregation.sorts {
            let (one, two) = (&one[sort.column as usize], &two[sort.column as usize]);
            let order = match (one, two) {
                (Cell::Absent, _) | (_, Cell::Absent) => one.cmp(two),
                _ if sort.descending => two.cmp(one),
                _ => one.cmp(two),
            };
            if order.is_ne() {
                return order;
            }
        }
        one[..keys].cmp(&two[..keys])
    });
    result.truncate(aggregation.top.map_or(usize::MAX, |top| top as usize));
    result
}

fn cell(column: &Cells, row: usize) -> Cell {
    if !column.has.is_empty() && column.has[row] == 0 {
        return Cell::Absent;
    }
    let bits = || {
        let high = column.hi.get(row).copied().unwrap_or_default();
        u128::from(high) << 64 | u128::from(column.lo[row])
    };
    match column.kind {
        kind::TEXT => Cell::Text(column.texts.get(row).unwrap().to_vec()),
        kind::ADDRESS => Cell::Address(bits()),
        kind::NETWORK => Cell::Network(bits(), column.reals[row] as u8),
        kind::MEAN..=kind::BYTE_RATE => Cell::Real(column.reals[row]),
        _ => Cell::Number(bits().cast_signed()),
    }
}

fn cells(groups: &Groups) -> Vec<Vec<Cell>> {
    (0..groups.length as usize).map(|row| groups.columns.iter().map(|column| cell(column, row)).collect()).collect()
}

fn started(aggregation: &Aggregation) -> Aggregate {
    let mut plugin = Aggregate::configure(&setup(&[("seed", "12345")])).unwrap();
    plugin.aggregate(aggregation.clone()).unwrap();
    plugin
}

fn key(name: &str, kind: u8, program: Program) -> WitKey {
    WitKey { name: name.into(), kind, program, ipv4_prefix: 32, ipv6_prefix: 128 }
}

fn measure(name: &str, function: u8, kind: u8, program: Option<Program>) -> WitMeasure {
    WitMeasure { name: name.into(), function, kind, program }
}

fn source() -> WitKey {
    key("src", kind::ADDRESS, of_field(q::ORIGINAL_SOURCE))
}

fn by(keys: Vec<WitKey>, measures: Vec<WitMeasure>) -> Aggregation {
    let sorts = vec![Sort { column: keys.len() as u32, descending: true }];
    Aggregation { keys, measures, sorts, top: None, max_groups: 1_000_000, approximate: false }
}

const COUNT: fn() -> WitMeasure = || measure("count", 0, kind::PLAIN, None);
const BYTES: fn() -> WitMeasure = || measure("sum(bytes)", 1, kind::BYTES, Some(of_field(q::BYTES)));

fn address(random: &mut Random, most: usize) -> u128 {
    let host = random.below(most) as u128;
    match random.below(3) {
        0 => 0xffff_0a00_0000 + (host << 6),
        1 => 0xffff_c0a8_0000 + host,
        _ => (0x2001_0db8 << 96) + (host << 60) + host,
    }
}

fn row(random: &mut Random, events: bool) -> Row {
    let numbers = [protocol::TCP, protocol::UDP, protocol::ICMP, protocol::GRE];
    let mut tuple = || Tuple {
        source: address(random, 8),
        destination: address(random, 100),
        source_l4: random.below(50) as u16,
        destination_l4: [80, 443, 53][random.below(3)],
    };
    let (original, reply) = (tuple(), tuple());
    let count = |random: &mut Random| match random.below(4) {
        0 => random.below(2000) as u64,
        1 => u64::MAX - random.below(3) as u64,
        _ => random.bits() >> random.below(64),
    };
    // The beginning of some is longer than what ranks are made of.
    let program = match random.below(3) {
        0 => [vec![b'x'; 16], vec![b'a' + random.below(5) as u8]].concat(),
        _ => vec![b'a' + random.below(20) as u8; random.below(12)],
    };
    Row {
        has: random.bits() | random.bits() | field::TUPLES,
        family: if original.source >> 32 == 0xffff { family::IPV4 } else { family::IPV6 },
        protocol: numbers[random.below(numbers.len())],
        original,
        reply,
        mark: random.below(4) as u32,
        original_counters: (count(random), count(random)),
        reply_counters: (count(random), count(random)),
        helper: [&b"ftp"[..], b"", b"sip"][random.below(3)].to_vec(),
        program,
        state: random.below(5) as u8,
        event: if events { [event::NEW, event::DESTROY, event::GAP][random.below(3)] } else { event::NONE },
        ..Row::default()
    }
}

fn random_key(random: &mut Random, number: usize) -> WitKey {
    let fields = [
        (q::ORIGINAL_SOURCE, kind::ADDRESS),
        (q::NAT_DESTINATION_ADDRESS, kind::ADDRESS),
        (q::PROTOCOL, kind::PROTOCOL),
        (q::ORIGINAL_DESTINATION_PORT, kind::PORT),
        (q::MARK, kind::BITS),
        (q::HELPER, kind::TEXT),
        (q::PROGRAM, kind::TEXT),
        (q::PROTOCOL_NAME, kind::TEXT),
        (q::STATE_NAME, kind::TEXT),
        (q::ORIGINAL_BYTES, kind::BYTES),
    ];
    let (field, kind) = fields[random.below(fields.len())];
    let mut key = key(&format!("key{number}"), kind, of_field(field));
    if kind == kind::ADDRESS && random.chance(1, 2) {
        key.kind = kind::NETWORK;
        (key.ipv4_prefix, key.ipv6_prefix) = (random.below(33) as u8, random.below(129) as u8);
    }
    if kind == kind::PORT && random.chance(1, 3) {
        // A negative number, and one of more than 64 bits.
        let factor = if random.chance(1, 2) { -3i64 } else { i64::MIN };
        key.kind = kind::PLAIN;
        let number = flowgate_sdk::bindings::flowgate::conntrack::query::Number { hi: factor, lo: 0 };
        key.program
            .operations
            .extend([Operation::Number(number), Operation::Arithmetic(if factor == -3 { 7 } else { 6 })]);
    }
    key
}

fn random_measure(random: &mut Random, number: usize) -> WitMeasure {
    let function = random.below(6) as u8;
    let name = format!("measure{number}");
    if function == 0 {
        return measure(&name, 0, kind::PLAIN, None);
    }
    if function == 5 && random.chance(1, 2) {
        let field = [q::ORIGINAL_DESTINATION, q::PROGRAM, q::HELPER, q::ORIGINAL_SOURCE][random.below(4)];
        return measure(&name, 5, kind::PLAIN, Some(of_field(field)));
    }
    let field = [q::BYTES, q::PACKETS, q::REPLY_BYTES, q::MARK, q::STATE, q::ORIGINAL_SOURCE_PORT][random.below(6)];
    let mut program = of_field(field);
    match random.below(4) {
        0 => program.operations.push(Operation::Negate),
        // The sum of a mean fits 128 bits.
        1 if function != 4 => {
            program.operations.extend([Operation::Field(q::ORIGINAL_BYTES), Operation::Arithmetic(2)])
        }
        _ => {}
    }
    let kind = if function == 4 { kind::MEAN } else { kind::PLAIN };
    measure(&name, function, kind, Some(program))
}

#[test]
fn groups_are_those_of_a_naive_implementation() {
    let seed = Random::seed("FLOWGATE_SEED");
    println!("FLOWGATE_SEED={seed}");
    let mut random = Random::new(seed);
    for _ in 0..600 {
        let (keys, measures) = (random.below(4), 1 + random.below(4));
        let columns = keys + measures;
        let mut aggregation = by(
            (0..keys).map(|number| random_key(&mut random, number)).collect(),
            (0..measures).map(|number| random_measure(&mut random, number)).collect(),
        );
        aggregation.sorts = (0..random.below(3))
            .map(|_| Sort { column: random.below(columns) as u32, descending: random.chance(1, 2) })
            .collect();
        aggregation.top = random.chance(1, 2).then(|| 1 + random.below(20) as u32);
        let mut plugin = started(&aggregation);
        // What was taken is forgotten.
        for _ in 0..2 {
            let events = random.chance(1, 3);
            let batches: Vec<Flows> = (0..random.below(4))
                .map(|_| {
                    let rows = random.below(80);
                    batch((0..rows).map(|_| row(&mut random, events)).collect::<Vec<_>>())
                })
                .collect();
            for flows in &batches {
                plugin.add(flows).unwrap();
            }
            let groups = plugin.take(0, 0);
            assert_eq!(cells(&groups), naive(&aggregation, &batches), "{aggregation:#?}");
            let all = naive(&Aggregation { top: None, ..aggregation.clone() }, &batches);
            assert_eq!((groups.total, groups.keys), (all.len() as u64, keys as u32));
            let gaps = |flows: &Flows| {
                flows.events.as_ref().map_or(0, |events| events.kind.iter().filter(|kind| **kind == event::GAP).count())
            };
            let flows: usize = batches.iter().map(|flows| flows.length as usize - gaps(flows)).sum();
            assert_eq!(groups.flows, flows as u64);
            assert!(groups.errors.is_empty());
        }
    }
}

#[test]
fn a_window_has_rates() {
    let mut plugin = started(&by(vec![source()], vec![BYTES(), COUNT()]));
    let counted = |bytes: u64| {
        Row::ipv4(6).original("10.0.0.1", "10.0.0.2", 1, 2).set(field::ORIGINAL_COUNTERS, |row| {
            row.original_counters = (1, bytes);
        })
    };
    plugin.add(&batch([counted(1000), counted(500)])).unwrap();
    let groups = plugin.take(5_000_000_000, 7_000_000_000);
    let names: Vec<&str> = groups.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["src", "sum(bytes)", "count", "sum(bytes)/s", "count/s"]);
    let kinds: Vec<u8> = groups.columns.iter().map(|column| column.kind).collect();
    assert_eq!(kinds, [kind::ADDRESS, kind::BYTES, kind::PLAIN, kind::BYTE_RATE, kind::RATE]);
    assert_eq!(cells(&groups)[0][1..], [Cell::Number(1500), Cell::Number(2), Cell::Real(750.0), Cell::Real(1.0)]);
    assert_eq!((groups.since, groups.until), (5_000_000_000, 7_000_000_000));
    assert_eq!(plugin.take(7_000_000_000, 9_000_000_000).length, 0);
}

/// Returns a batch of flows with these sources and numbers of bytes.
fn weighted(rows: &[(u32, u64)]) -> Flows {
    batch(rows.iter().map(|(source, bytes)| {
        Row::ipv4(6).set(field::SOURCE | field::ORIGINAL_COUNTERS, |row| {
            row.original.source = 0xffff_0a00_0000 + u128::from(*source);
            row.original_counters = (1, *bytes);
        })
    }))
}

#[test]
fn one_group_more_is_an_error_that_says_what_would_be_right() {
    let mut aggregation = by(vec![source()], vec![BYTES()]);
    aggregation.max_groups = 10;
    let rows: Vec<(u32, u64)> = (0..10).map(|source| (source, 1)).collect();
    let mut plugin = started(&aggregation);
    plugin.add(&weighted(&rows)).unwrap();
    plugin.add(&weighted(&rows)).unwrap();
    let error = plugin.add(&weighted(&[(3, 1), (10, 1)])).unwrap_err();
    assert_eq!(
        error,
        "there are more than 10 groups; raise max-groups, or group by less; or use approximate, which finds those with \
         the largest sum(bytes)"
    );
    aggregation.sorts = vec![Sort { column: 0, descending: false }];
    let error = started(&aggregation).add(&weighted(&[rows, vec![(10, 1)]].concat())).unwrap_err();
    assert_eq!(error, "there are more than 10 groups; raise max-groups, or group by less");
}

#[test]
fn distinct_values_count_as_groups() {
    let distinct = || measure("distinct(bytes)", 5, kind::PLAIN, Some(of_field(q::BYTES)));
    let mut aggregation = by(vec![source()], vec![distinct()]);
    aggregation.max_groups = 10;
    let rows: Vec<(u32, u64)> = (0..9).map(|bytes| (1, bytes)).collect();
    let mut plugin = started(&aggregation);
    plugin.add(&weighted(&rows)).unwrap();
    plugin.add(&weighted(&rows)).unwrap();
    assert_eq!(cells(&plugin.take(0, 0))[0][1], Cell::Number(9));
    let rows: Vec<(u32, u64)> = (0..10).map(|bytes| (1, bytes)).collect();
    let error = plugin.add(&weighted(&rows)).unwrap_err();
    assert_eq!(error, "there are more than 10 groups and distinct values of them; raise max-groups, or group by less");
}

#[test]
fn an_approximation_finds_the_heaviest_and_knows_its_errors() {
    let seed = Random::seed("FLOWGATE_SEED");
    println!("FLOWGATE_SEED={seed}");
    let mut random = Random::new(seed);
    for round in 0..20 {
        let mut aggregation = by(vec![source()], vec![COUNT(), BYTES()]);
        (aggregation.max_groups, aggregation.approximate, aggregation.top) = (200, true, Some(20));
        aggregation.sorts[0].column = 1 + round % 2;
        let mut plugin = started(&aggregation);
        let mut truth: BTreeMap<u32, (i128, i128)> = BTreeMap::new();
        let mut flows = 0;
        for _ in 0..100 {
            let rows: Vec<(u32, u64)> = (0..200)
                .map(|_| {
                    // A few heavy groups, and ten times as many light ones as can be kept.
                    let heavy = random.chance(1, 2);
                    let of = if heavy { random.below(20) } else { 100 + random.below(2000) };
                    (of as u32, random.below(if heavy { 2000 } else { 1000 }) as u64)
                })
                .collect();
            for (of, bytes) in &rows {
                let (count, sum) = truth.entry(*of).or_default();
                *count += 1;
                *sum += i128::from(*bytes);
            }
            flows += rows.len() as u64;
            plugin.add(&weighted(&rows)).unwrap();
        }
        let groups = plugin.take(0, 0);
        assert_eq!((groups.length, groups.flows), (20, flows));
        let total: i128 = truth.values().map(|(count, sum)| if round % 2 == 0 { *count } else { *sum }).sum();
        let mut found = BTreeSet::new();
        for (row, cells) in cells(&groups).into_iter().enumerate() {
            let Cell::Address(bits) = cells[0] else { panic!("{cells:?}") };
            let of = (bits - 0xffff_0a00_0000) as u32;
            let Cell::Number(value) = cells[1 + (round % 2) as usize] else { panic!("{cells:?}") };
            let (count, sum) = truth[&of];
            let truth = if round % 2 == 0 { count } else { sum };
            let error = i128::from(groups.errors[row]);
            assert!(truth <= value && value <= truth + error, "{of}: {truth} {value} {error}");
            assert!(error <= total / 200, "{error} of {total}");
            found.insert(of);
        }
        assert_eq!(found, (0..20).collect());
        let all = truth.len() as f64;
        assert!((groups.total as f64 - all).abs() < all * 0.08, "{} of {all}", groups.total);
    }
}

#[test]
fn an_approximation_is_exact_as_long_as_there_is_room() {
    let mut aggregation = by(vec![source()], vec![BYTES()]);
    (aggregation.max_groups, aggregation.approximate) = (10, true);
    let mut plugin = started(&aggregation);
    let rows: Vec<(u32, u64)> = (0..10).map(|source| (source, 5)).collect();
    plugin.add(&weighted(&rows)).unwrap();
    let groups = plugin.take(0, 0);
    assert_eq!((groups.length, groups.total, groups.errors), (10, 10, vec![0; 10]));
}

#[test]
fn an_approximation_forgets_the_texts_of_groups_that_are_no_more() {
    let mut aggregation = by(vec![key("program", kind::TEXT, of_field(q::PROGRAM))], vec![COUNT()]);
    (aggregation.max_groups, aggregation.approximate) = (10, true);
    let mut plugin = started(&aggregation);
    let of = |name: String| {
        Row::ipv4(6).event(event::NEW).set(field::PROGRAM, |row| row.program = name.clone().into_bytes())
    };
    for round in 0..100 {
        let others = (0..100).map(|number| format!("p{}", round * 100 + number));
        let heavy = (0..100).map(|number| format!("heavy{}", number % 3));
        plugin.add(&batch(others.chain(heavy).map(of).collect::<Vec<_>>())).unwrap();
        assert!(plugin.kept.store.texts.len() < 1500);
    }
    let groups = cells(&plugin.take(0, 0));
    let names: Vec<&Cell> = groups[..3].iter().map(|cells| &cells[0]).collect();
    assert_eq!(names, [&Cell::Text(b"heavy0".into()), &Cell::Text(b"heavy1".into()), &Cell::Text(b"heavy2".into())]);
}

#[test]
fn negative_values_cannot_be_approximated() {
    let mut aggregation = by(vec![source()], vec![BYTES()]);
    aggregation.measures[0].program.as_mut().unwrap().operations.push(Operation::Negate);
    (aggregation.max_groups, aggregation.approximate) = (1, true);
    let error = started(&aggregation).add(&weighted(&[(1, 5), (2, 5)])).unwrap_err();
    assert_eq!(error, "sum(bytes) has a value of -5; an approximation is possible of values that are not negative");
}

#[test]
fn estimates_of_distinct_values_are_within_their_error() {
    let mut aggregation = by(vec![source()], vec![COUNT(), measure("d", 5, kind::PLAIN, Some(of_field(q::BYTES)))]);
    aggregation.approximate = true;
    let mut plugin = started(&aggregation);
    let numbers = [1u64, 10, 100, 1000, 3000, 10_000, 100_000];
    for (source, &number) in numbers.iter().enumerate() {
        let values: Vec<(u32, u64)> = (0..number).map(|bytes| (source as u32, bytes * bytes)).collect();
        for values in values.chunks(1024) {
            plugin.add(&weighted(values)).unwrap();
            plugin.add(&weighted(values)).unwrap();
        }
    }
    for (cells, number) in cells(&plugin.take(0, 0)).iter().rev().zip(numbers) {
        let Cell::Number(found) = cells[2] else { panic!("{cells:?}") };
        // Three standard errors.
        assert!((found as f64 - number as f64).abs() <= 0.05 * number as f64, "{found} of {number}");
    }
}

#[test]
fn sums_are_exact_beyond_64_bits() {
    let mut plugin = started(&by(vec![source()], vec![BYTES()]));
    for _ in 0..3 {
        plugin.add(&weighted(&[(1, u64::MAX); 1000])).unwrap();
    }
    assert_eq!(cells(&plugin.take(0, 0))[0][1], Cell::Number(i128::from(u64::MAX) * 3000));
}

#[test]
fn a_sum_beyond_128_bits_is_absent() {
    let wide = flowgate_sdk::bindings::flowgate::conntrack::query::Number { hi: i64::MAX, lo: 0 };
    let operations = vec![Operation::Number(wide)];
    let mut plugin = started(&by(Vec::new(), vec![measure("sum", 1, kind::PLAIN, Some(program(operations)))]));
    plugin.add(&weighted(&[(1, 1)])).unwrap();
    assert_eq!(cells(&plugin.take(0, 0))[0][0], Cell::Number((i128::MAX >> 64) << 64));
    plugin.add(&weighted(&[(1, 1); 3])).unwrap();
    assert_eq!(cells(&plugin.take(0, 0))[0][0], Cell::Absent);
}

#[test]
fn hash_tables_find_what_they_have() {
    let mut random = Random::new(7);
    let hasher = Hasher::new(random.bits());
    let mut slots = slots::Slots::default();
    let mut items: Vec<Option<u64>> = Vec::new();
    for _ in 0..20_000 {
        let word = random.below(3000) as u64;
        let hash = hasher.words(&[word]);
        let found = slots.find(hash, |index| items[index as usize] == Some(word));
        let expected = items.iter().position(|item| *item == Some(word)).map(|index| index as u32);
        assert_eq!(found, expected);
        match found {
            Some(index) if random.chance(1, 2) => {
                slots.remove(hash, index);
                items[index as usize] = None;
            }
            Some(_) => {}
            None => {
                slots.insert(hash, items.len() as u32);
                items.push(Some(word));
            }
        }
    }
}

#[test]
fn unsound_aggregations_are_refused() {
    let refused = |aggregation: Aggregation, reason: &str| {
        let error = Aggregate::configure(&setup(&[])).unwrap().aggregate(aggregation).unwrap_err();
        assert!(error.contains(reason), "{error}");
    };
    refused(by(vec![source(); 65], vec![COUNT()]), "65 keys: at most 64");
    refused(by(vec![key("x", kind::PLAIN, of_field(9999))], vec![COUNT()]), "the key x: ");
    refused(by(vec![WitKey { ipv4_prefix: 33, ..source() }], vec![COUNT()]), "33 or 128 bits");
    refused(by(vec![], vec![measure("x", 6, kind::PLAIN, None)]), "function 6");
    refused(by(vec![], vec![measure("x", 1, kind::PLAIN, None)]), "x has no program");
    refused(Aggregation { sorts: vec![Sort { column: 1, descending: true }], ..by(vec![], vec![COUNT()]) }, "column 1");
    let mean = measure("avg", 4, kind::MEAN, Some(of_field(q::BYTES)));
    refused(Aggregation { approximate: true, ..by(vec![], vec![mean]) }, "sorts by a count or a sum");
}
