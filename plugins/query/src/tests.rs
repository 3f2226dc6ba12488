//! Programs on batches, compared with an interpreter that works row by row on the rows that the batch was made of.

use flowgate_sdk::{
    Operation, Program,
    bindings::flowgate::conntrack::{
        query::{AddressRange, Number, NumberRange},
        selector::Address,
    },
    event, family, field, protocol, query as q, state, status,
    testing::{Row, Tuple, batch},
};
use flowgate_test_support::Random;

use super::*;

const TIME: u64 = 2_000_000_000_000_000_000;

fn number(value: i128) -> Number {
    Number { hi: (value >> 64) as i64, lo: value as u64 }
}

fn wide(number: &Number) -> i128 {
    i128::from(number.hi) << 64 | i128::from(number.lo)
}

fn address(bits: u128) -> Address {
    Address { hi: (bits >> 64) as u64, lo: bits as u64 }
}

fn bits(address: &Address) -> u128 {
    u128::from(address.hi) << 64 | u128::from(address.lo)
}

fn program(operations: Vec<Operation>) -> Program {
    Program { operations, reads: field::ALL }
}

/// A value of one row.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(Option<i128>),
    Address(Option<u128>),
    Text(Option<Vec<u8>>),
    Truth(bool),
}

/// Returns a field of a row, read from the row itself.
fn read(number: u32, row: &Row) -> Value {
    let has = |fields: u64| row.has & fields == fields;
    let tuple = |reply: bool| if reply { &row.reply } else { &row.original };
    let words = |fields: u64, of: bool, word: u16| {
        Value::Number((has(fields | field::PROTOCOL) && of).then_some(i128::from(word)))
    };
    let plain = |fields: u64, value: u64| Value::Number(has(fields).then_some(i128::from(value)));
    let (ports, icmp) = (protocol::has_ports(row.protocol), protocol::is_icmp(row.protocol));
    let gre = row.protocol == protocol::GRE;
    let text = |fields: u64, text: &[u8]| Value::Text(has(fields).then(|| text.to_vec()));
    let original = has(field::ORIGINAL_COUNTERS).then_some(row.original_counters);
    let reply = has(field::REPLY_COUNTERS).then_some(row.reply_counters);
    let sum = |of: fn((u64, u64)) -> u64| {
        let parts = [original.map(of), reply.map(of)];
        let any = parts.iter().any(Option::is_some);
        Value::Number(any.then(|| i128::from(parts.into_iter().flatten().fold(0, u64::saturating_add))))
    };
    let nat = |bit: u32, fields: u64, before: u128, after: u128| {
        let may = !has(field::STATUS) || row.status & bit != 0;
        (may && has(fields) && before != after).then_some(after)
    };
    match number {
        q::EVENT => Value::Number((row.event != event::NONE).then_some(row.event.into())),
        q::FAMILY => Value::Number(Some(row.family.into())),
        q::PROTOCOL => plain(field::PROTOCOL, row.protocol.into()),
        q::STATE => plain(field::STATE, row.state.into()),
        q::TIMEOUT => plain(field::TIMEOUT, row.timeout.into()),
        q::ORIGINAL_SOURCE => Value::Address(has(field::SOURCE).then_some(row.original.source)),
        q::ORIGINAL_DESTINATION => Value::Address(has(field::DESTINATION).then_some(row.original.destination)),
        q::REPLY_SOURCE => Value::Address(has(field::REPLY_SOURCE).then_some(row.reply.source)),
        q::REPLY_DESTINATION => Value::Address(has(field::REPLY_DESTINATION).then_some(row.reply.destination)),
        q::ORIGINAL_SOURCE_PORT => words(field::SOURCE_L4, ports, tuple(false).source_l4),
        q::ORIGINAL_DESTINATION_PORT => words(field::DESTINATION_L4, ports, tuple(false).destination_l4),
        q::REPLY_SOURCE_PORT => words(field::REPLY_SOURCE_L4, ports, tuple(true).source_l4),
        q::REPLY_DESTINATION_PORT => words(field::REPLY_DESTINATION_L4, ports, tuple(true).destination_l4),
        q::ORIGINAL_ICMP_ID => words(field::SOURCE_L4, icmp, tuple(false).source_l4),
        q::ORIGINAL_ICMP_TYPE => words(field::DESTINATION_L4, icmp, tuple(false).destination_l4 >> 8),
        q::ORIGINAL_ICMP_CODE => words(field::DESTINATION_L4, icmp, tuple(false).destination_l4 & 255),
        q::REPLY_ICMP_TYPE => words(field::REPLY_DESTINATION_L4, icmp, tuple(true).destination_l4 >> 8),
        q::ORIGINAL_SOURCE_KEY => words(field::SOURCE_L4, gre, tuple(false).source_l4),
        q::REPLY_DESTINATION_KEY => words(field::REPLY_DESTINATION_L4, gre, tuple(true).destination_l4),
        q::ORIGINAL_PACKETS => Value::Number(original.map(|counters| counters.0.into())),
        q::REPLY_BYTES => Value::Number(reply.map(|counters| counters.1.into())),
        q::PACKETS => sum(|counters| counters.0),
        q::BYTES => sum(|counters| counters.1),
        q::NAT_SOURCE_ADDRESS => Value::Address(nat(
            status::SRC_NAT_DONE,
            field::SOURCE | field::REPLY_DESTINATION,
            row.original.source,
            row.reply.destination,
        )),
        q::NAT_DESTINATION_PORT => {
            let fields = field::DESTINATION_L4 | field::REPLY_SOURCE_L4;
            let (before, after) = (row.original.destination_l4, row.reply.source_l4);
            let port = nat(status::DST_NAT_DONE, fields, before.into(), after.into()).filter(|_| !icmp);
            Value::Number(port.map(|port| port as i128))
        }
        q::STATUS => plain(field::STATUS, row.status.into()),
        q::MARK => plain(field::MARK, row.mark.into()),
        q::ZONE => Value::Number(Some(if has(field::ZONE) { row.zone.into() } else { 0 })),
        q::REPLY_ZONE => Value::Number(Some(if has(field::REPLY_ZONE) { row.reply_zone.into() } else { 0 })),
        q::USE => plain(field::USE, row.use_count.into()),
        q::ID => plain(field::ID, row.id.into()),
        q::START => plain(field::START, row.start),
        q::STOP => plain(field::STOP, row.stop),
        q::AGE => {
            let end = if has(field::STOP) { row.stop } else { TIME };
            plain(field::START, end.saturating_sub(row.start) / 1_000_000_000)
        }
        q::TIME => Value::Number(Some(TIME.into())),
        q::SECMARK => plain(field::SECMARK, row.secmark.into()),
        q::SECURITY_CONTEXT => text(field::SECURITY_CONTEXT, &row.security_context),
        q::HELPER => text(field::HELPER, &row.helper),
        q::PORT_ID => plain(field::PORT_ID, row.port_id.into()),
        q::PROGRAM => text(field::PROGRAM, &row.program),
        q::SYNTHETIC => plain(field::SYNTHETIC, 1),
        q::REPLY_WINDOW_SCALE => plain(field::REPLY_WINDOW_SCALE, row.window_scales.1.into()),
        q::ORIGINAL_TCP_FLAGS => plain(field::ORIGINAL_TCP_FLAGS, (row.tcp_flags.0 >> 8).into()),
        q::ORIGINAL_VTAG => plain(field::ORIGINAL_VTAG, row.vtags.0.into()),
        q::ORIGINAL_SEQUENCE_BEFORE => {
            let before = row.original_sequence.1.cast_signed();
            Value::Number(has(field::ORIGINAL_SEQUENCE).then_some(before.into()))
        }
        q::SYNPROXY_TSOFF => plain(field::SYNPROXY, row.synproxy.2.into()),
        q::DCCP_HANDSHAKE_SEQUENCE => plain(field::DCCP, row.dccp.1),
        q::MASTER_SOURCE => Value::Address(has(field::MASTER).then_some(row.master.1.source)),
        q::MASTER_ZONE => Value::Number((has(field::MASTER) && row.master.2 != 0).then_some(row.master.2.into())),
        q::STATE_NAME => {
            let name = state::name(row.protocol, row.state).filter(|_| has(field::STATE));
            Value::Text(name.map(|name| name.as_bytes().to_vec()))
        }
        q::PROTOCOL_NAME => {
            let name = protocol::name(row.protocol).filter(|_| has(field::PROTOCOL));
            Value::Text(name.map(|name| name.as_bytes().to_vec()))
        }
        q::FAMILY_NAME => Value::Text(family::name(row.family).map(|name| name.as_bytes().to_vec())),
        other => panic!("{other} is not in TESTED"),
    }
}

const NUMBERS: &[u32] = &[
    q::EVENT,
    q::FAMILY,
    q::PROTOCOL,
    q::STATE,
    q::TIMEOUT,
    q::ORIGINAL_SOURCE_PORT,
    q::ORIGINAL_DESTINATION_PORT,
    q::REPLY_SOURCE_PORT,
    q::REPLY_DESTINATION_PORT,
    q::ORIGINAL_ICMP_ID,
    q::ORIGINAL_ICMP_TYPE,
    q::ORIGINAL_ICMP_CODE,
    q::REPLY_ICMP_TYPE,
    q::ORIGINAL_SOURCE_KEY,
    q::REPLY_DESTINATION_KEY,
    q::ORIGINAL_PACKETS,
    q::REPLY_BYTES,
    q::PACKETS,
    q::BYTES,
    q::NAT_DESTINATION_PORT,
    q::STATUS,
    q::MARK,
    q::ZONE,
    q::REPLY_ZONE,
    q::USE,
    q::ID,
    q::START,
    q::STOP,
    q::AGE,
    q::TIME,
    q::SECMARK,
    q::PORT_ID,
    q::SYNTHETIC,
    q::REPLY_WINDOW_SCALE,
    q::ORIGINAL_TCP_FLAGS,
    q::ORIGINAL_VTAG,
    q::ORIGINAL_SEQUENCE_BEFORE,
    q::SYNPROXY_TSOFF,
    q::DCCP_HANDSHAKE_SEQUENCE,
    q::MASTER_ZONE,
];
const ADDRESSES: &[u32] = &[
    q::ORIGINAL_SOURCE,
    q::ORIGINAL_DESTINATION,
    q::REPLY_SOURCE,
    q::REPLY_DESTINATION,
    q::NAT_SOURCE_ADDRESS,
    q::MASTER_SOURCE,
];
const TEXTS: &[u32] = &[q::SECURITY_CONTEXT, q::HELPER, q::PROGRAM, q::STATE_NAME, q::PROTOCOL_NAME, q::FAMILY_NAME];
const WORDS: &[&str] = &["", "ftp", "tftp", "f", "tcp", "ESTABLISHED", "ipv4", "TIME_WAIT", "udp"];

/// Interprets a program for one row.
fn interpret(operations: &[Operation], row: &Row) -> Value {
    let mut stack: Vec<Value> = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        let value = match operation {
            Operation::Field(number) => read(*number, row),
            Operation::Annotation(key) => {
                let found = row.annotations.iter().rev().find(|(of, _)| of == key.as_bytes());
                Value::Text(found.filter(|_| row.has & field::ANNOTATIONS != 0).map(|(_, value)| value.clone()))
            }
            Operation::Number(value) => Value::Number(Some(wide(value))),
            Operation::Address(value) => Value::Address(Some(bits(value))),
            Operation::Text(text) => Value::Text(Some(text.clone().into_bytes())),
            Operation::Truth(value) => Value::Truth(*value),
            Operation::Arithmetic(code) => {
                let (right, left) = (pop(&mut stack), pop(&mut stack));
                Value::Number(left.zip(right).and_then(|(left, right)| calculate(*code, left, right)))
            }
            Operation::Negate => Value::Number(pop(&mut stack).and_then(i128::checked_neg)),
            Operation::Complement => Value::Number(pop(&mut stack).map(|value| !value)),
            Operation::Compare(code) => {
                let (right, left) = (stack.pop().unwrap(), stack.pop().unwrap());
                // A constant is of one family.
                let constant = operations[..index].iter().rev().take(2).find_map(|operation| match operation {
                    Operation::Address(address) => Some(bits(address)),
                    _ => None,
                });
                if let (Value::Address(left), Value::Address(right), Some(constant)) = (&left, &right, constant) {
                    let other = if *left == Some(constant) { right } else { left };
                    let equal = other.is_some_and(|other| member(constant, constant, other, row.family));
                    stack.push(Value::Truth(other.is_some() && (equal == (*code == 0))));
                    continue;
                }
                let order = match (left, right) {
                    (Value::Number(left), Value::Number(right)) => left.zip(right).map(|(l, r)| l.cmp(&r)),
                    (Value::Address(left), Value::Address(right)) => left.zip(right).map(|(l, r)| l.cmp(&r)),
                    (Value::Text(left), Value::Text(right)) => left.zip(right).map(|(l, r)| l.cmp(&r)),
                    other => panic!("{other:?}"),
                };
                Value::Truth(order.is_some_and(|order| match code {
                    0 => order.is_eq(),
                    1 => order.is_ne(),
                    2 => order.is_lt(),
                    3 => order.is_le(),
                    4 => order.is_gt(),
                    _ => order.is_ge(),
                }))
            }
            Operation::NumberIn(ranges) => {
                let value = pop(&mut stack);
                let within = |value: i128| ranges.iter().any(|r| (wide(&r.first)..=wide(&r.last)).contains(&value));
                Value::Truth(value.is_some_and(within))
            }
            Operation::AddressIn(ranges) => {
                let Some(Value::Address(value)) = stack.pop() else { panic!() };
                let within =
                    |value: u128| ranges.iter().any(|r| member(bits(&r.first), bits(&r.last), value, row.family));
                Value::Truth(value.is_some_and(within))
            }
            Operation::TextIn(texts) => tested(&mut stack, |text| texts.iter().any(|of| of.as_bytes() == text)),
            Operation::Contains(part) => {
                tested(&mut stack, |text| String::from_utf8_lossy(text).contains(part.as_str()))
            }
            Operation::StartsWith(part) => tested(&mut stack, |text| text.starts_with(part.as_bytes())),
            Operation::EndsWith(part) => tested(&mut stack, |text| text.ends_with(part.as_bytes())),
            Operation::Matches(pattern) => {
                let regex = regex_lite::Regex::new(pattern).unwrap();
                tested(&mut stack, |text| regex.is_match(std::str::from_utf8(text).unwrap()))
            }
            Operation::Label(bit) => {
                let byte = row.labels.get(usize::from(bit / 8)).copied().unwrap_or_default();
                Value::Truth(row.has & field::LABELS != 0 && byte >> (bit % 8) & 1 != 0)
            }
            Operation::Has => Value::Truth(match stack.pop().unwrap() {
                Value::Number(value) => value.is_some(),
                Value::Address(value) => value.is_some(),
                Value::Text(value) => value.is_some(),
                Value::Truth(_) => panic!(),
            }),
            Operation::All(count) => Value::Truth(truths(&mut stack, *count).into_iter().all(|truth| truth)),
            Operation::Any(count) => Value::Truth(truths(&mut stack, *count).into_iter().any(|truth| truth)),
            Operation::Not => {
                let truth = truths(&mut stack, 1);
                Value::Truth(!truth[0])
            }
        };
        stack.push(value);
    }
    assert_eq!(stack.len(), 1);
    stack.pop().unwrap()
}

/// Returns true if an address of a flow of a family is in a range, which is of IPv4 or of IPv6.
fn member(first: u128, last: u128, address: u128, of: u8) -> bool {
    let four = first >> 32 == 0xffff && last >> 32 == 0xffff;
    of == if four { family::IPV4 } else { family::IPV6 } && (first..=last).contains(&address)
}

fn pop(stack: &mut Vec<Value>) -> Option<i128> {
    match stack.pop() {
        Some(Value::Number(value)) => value,
        other => panic!("{other:?}"),
    }
}

fn tested(stack: &mut Vec<Value>, test: impl Fn(&[u8]) -> bool) -> Value {
    match stack.pop() {
        Some(Value::Text(text)) => Value::Truth(text.is_some_and(|text| test(&text))),
        other => panic!("{other:?}"),
    }
}

fn truths(stack: &mut Vec<Value>, count: u32) -> Vec<bool> {
    let truth = |value: Value| if let Value::Truth(truth) = value { truth } else { panic!("{value:?}") };
    (0..count).map(|_| truth(stack.pop().unwrap())).collect()
}

fn calculate(code: u8, left: i128, right: i128) -> Option<i128> {
    match code {
        0 => left.checked_add(right),
        1 => left.checked_sub(right),
        2 => left.checked_mul(right),
        3 => left.checked_div(right),
        4 => left.checked_rem(right),
        5 => Some(left & right),
        6 => Some(left | right),
        7 => Some(left ^ right),
        8 => {
            let factor = (0..128).contains(&right).then(|| 2i128.checked_pow(right as u32));
            match factor? {
                Some(factor) => left.checked_mul(factor),
                None => (left == 0).then_some(0).or((left == -1).then_some(i128::MIN)),
            }
        }
        _ => (0..128).contains(&right).then(|| left >> right),
    }
}

/// Makes random programs.
struct Maker<'a> {
    random: &'a mut Random,
    operations: Vec<Operation>,
}

impl Maker<'_> {
    fn one<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.random.below(items.len())]
    }

    /// Makes a number that is near those of fields.
    fn constant(&mut self) -> i128 {
        match self.random.below(8) {
            0 => -1,
            1 => 0,
            2 => self.random.below(12) as i128,
            3 => i128::from(self.one(&[6u32, 17, 1, 58, 47, 132, 80, 443, 1000, 0x2800, 65_535, 65_536])),
            4 => i128::from(self.random.bits() as u32),
            5 => i128::from(self.random.bits()),
            6 => i128::from(self.one(&[u64::MAX, u64::from(u32::MAX), TIME, TIME - 5_000_000_000])),
            _ => self.one(&[i128::MAX, i128::MIN, 256, 1 << 100]),
        }
    }

    fn number(&mut self, depth: usize) {
        match self.random.below(if depth == 0 { 4 } else { 8 }) {
            0 => {
                let constant = number(self.constant());
                self.operations.push(Operation::Number(constant));
            }
            1..=3 => {
                let field = self.one(NUMBERS);
                self.operations.push(Operation::Field(field));
            }
            4 => {
                self.number(depth - 1);
                let operation = if self.random.chance(1, 2) { Operation::Negate } else { Operation::Complement };
                self.operations.push(operation);
            }
            _ => {
                self.number(depth - 1);
                self.number(depth - 1);
                let code = self.random.below(10) as u8;
                self.operations.push(Operation::Arithmetic(code));
            }
        }
    }

    fn address(&mut self) {
        if self.random.chance(1, 4) {
            let constant = address(addresses(self.random));
            self.operations.push(Operation::Address(constant));
        } else {
            let field = self.one(ADDRESSES);
            self.operations.push(Operation::Field(field));
        }
    }

    fn text(&mut self) {
        let operation = match self.random.below(6) {
            0 => Operation::Text(self.one(WORDS).into()),
            1 => Operation::Annotation("country".into()),
            _ => Operation::Field(self.one(TEXTS)),
        };
        self.operations.push(operation);
    }

    /// Makes ranges that ascend.
    fn ranges<T: Ord + Copy>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<(T, T)> {
        let count = 2 * self.random.below(8);
        let mut ends: Vec<T> = (0..count).map(|_| make(self)).collect();
        ends.sort_unstable();
        ends.dedup();
        let mut ranges: Vec<(T, T)> = ends.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        if ends.len() % 2 == 1 {
            ranges.push((ends[ends.len() - 1], ends[ends.len() - 1]));
        }
        ranges
    }

    fn truth(&mut self, depth: usize) {
        if depth > 0 && self.random.chance(1, 2) {
            match self.random.below(3) {
                0 => {
                    self.truth(depth - 1);
                    self.operations.push(Operation::Not);
                }
                kind => {
                    let count = 1 + self.random.below(4);
                    (0..count).for_each(|_| self.truth(depth - 1));
                    let all = kind == 1;
                    let count = count as u32;
                    self.operations.push(if all { Operation::All(count) } else { Operation::Any(count) });
                }
            }
            return;
        }
        let operation = match self.random.below(16) {
            // A field with a constant, as in most queries.
            0..=4 => {
                self.operations.push(Operation::Field(NUMBERS[self.random.below(NUMBERS.len())]));
                if self.random.chance(1, 3) {
                    let mask = number(self.constant());
                    self.operations.extend([Operation::Number(mask), Operation::Arithmetic(5)]);
                }
                let constant = number(self.constant());
                self.operations.push(Operation::Number(constant));
                Operation::Compare(self.random.below(6) as u8)
            }
            5 => {
                self.number(2);
                self.number(2);
                Operation::Compare(self.random.below(6) as u8)
            }
            6 | 7 => {
                self.number(1);
                let ranges = self.ranges(Self::constant);
                let range = |(first, last)| NumberRange { first: number(first), last: number(last) };
                Operation::NumberIn(ranges.into_iter().map(range).collect())
            }
            8 => {
                self.address();
                self.address();
                Operation::Compare(self.random.below(2) as u8)
            }
            9 | 10 => {
                self.address();
                let ranges = self.ranges(|maker| addresses(maker.random));
                let four = |(first, last): &(u128, u128)| first >> 32 == 0xffff && last >> 32 == 0xffff;
                let (four, six): (Vec<_>, Vec<_>) = ranges.into_iter().partition(four);
                let range = |(first, last)| AddressRange { first: address(first), last: address(last) };
                Operation::AddressIn(four.into_iter().chain(six).map(range).collect())
            }
            11 => {
                self.text();
                self.text();
                Operation::Compare(self.random.below(6) as u8)
            }
            12 => {
                self.text();
                let word = self.one(WORDS).to_owned();
                match self.random.below(5) {
                    0 => Operation::Contains(word),
                    1 => Operation::StartsWith(word),
                    2 => Operation::EndsWith(word),
                    3 => Operation::Matches(self.one(&["^t?ftp$", "E.*D", "", "[a-f]"]).into()),
                    _ => {
                        let mut words: Vec<String> = vec![word, self.one(WORDS).into(), self.one(WORDS).into()];
                        words.sort_unstable();
                        words.dedup();
                        Operation::TextIn(words)
                    }
                }
            }
            13 => Operation::Label(self.random.below(20) as u16),
            14 => Operation::Truth(self.random.chance(1, 2)),
            _ => {
                match self.random.below(3) {
                    0 => self.number(1),
                    1 => self.address(),
                    _ => self.text(),
                }
                Operation::Has
            }
        };
        self.operations.push(operation);
    }
}

/// Makes an address of few, so that comparisons are often true.
fn addresses(random: &mut Random) -> u128 {
    match random.below(3) {
        0 => 0xffff_0a00_0000 + random.below(4) as u128,
        1 => 0xffff_c0a8_0000 + random.below(4) as u128,
        _ => (0x2001_0db8 << 96) + random.below(4) as u128,
    }
}

fn random_row(random: &mut Random, events: bool) -> Row {
    let v6 = random.chance(1, 3);
    let numbers = [6u8, 6, 6, 17, 1, 58, 47, 132, 33, 50];
    let mut tuple = || Tuple {
        source: addresses(random),
        destination: addresses(random),
        source_l4: [80, 443, 1000, 0, 65_535][random.below(5)],
        destination_l4: [80, 443, 53, 8 << 8, 3 << 8 | 1][random.below(5)],
    };
    let (original, reply) = (tuple(), tuple());
    let reply = if random.chance(1, 2) { original.reversed() } else { reply };
    let word = |random: &mut Random| WORDS[random.below(WORDS.len())].as_bytes().to_vec();
    let count = |random: &mut Random| match random.below(4) {
        0 => 0,
        1 => random.below(3000) as u64,
        2 => random.bits() >> 20,
        _ => random.bits(),
    };
    // What only events carry.
    const EVENT: u64 = field::EVENT_TIME | field::PORT_ID | field::PROGRAM | field::NAMESPACE | field::NAMESPACE_NAME;
    let carried = if events { field::ALL } else { field::ALL & !EVENT };
    Row {
        // Most rows carry nearly everything, some little.
        has: carried & if random.chance(1, 5) { random.bits() & random.bits() } else { random.bits() | random.bits() },
        family: if v6 { family::IPV6 } else { family::IPV4 },
        protocol: numbers[random.below(numbers.len())],
        original,
        reply,
        zone: random.below(3) as u16,
        original_zone: random.below(3) as u16,
        reply_zone: random.below(3) as u16,
        status: random.bits() as u32 & 0x3ff,
        timeout: random.below(2000) as u32,
        mark: [0, 1, 0x2800, u32::MAX][random.below(4)],
        secmark: random.below(3) as u32,
        use_count: random.below(3) as u32,
        id: random.bits() as u32,
        original_counters: (count(random), count(random)),
        reply_counters: (count(random), count(random)),
        start: TIME - random.below(2_000_000_000) as u64 * 10,
        stop: TIME - random.below(1_000_000) as u64,
        event: if events { 1 + random.below(4) as u8 } else { event::NONE },
        state: random.below(12) as u8,
        window_scales: (random.below(15) as u8, random.below(15) as u8),
        tcp_flags: (random.bits() as u16, random.bits() as u16),
        vtags: (random.bits() as u32, 5),
        helper: word(random),
        labels: vec![random.bits() as u8, random.bits() as u8, 0, 0],
        security_context: word(random),
        master: (6, original, random.below(2) as u16),
        original_sequence: (1, random.bits() as u32, 3),
        synproxy: (1, 2, random.below(5) as u32),
        dccp: (1, random.bits() >> 16),
        annotations: vec![(b"country".to_vec(), word(random)), (b"country".to_vec(), word(random))],
        port_id: random.below(3) as u32,
        program: word(random),
        ..Row::default()
    }
}

#[test]
fn conditions_are_those_of_an_interpreter() {
    let seed = Random::seed("FLOWGATE_SEED");
    println!("FLOWGATE_SEED={seed}");
    let mut random = Random::new(seed);
    let mut hits = [0usize; 2];
    for _ in 0..300 {
        let events = random.chance(1, 3);
        let rows: Vec<Row> = (0..random.below(40)).map(|_| random_row(&mut random, events)).collect();
        let mut batch = batch(rows.clone());
        batch.time = TIME;
        for _ in 0..20 {
            let mut maker = Maker { random: &mut random, operations: Vec::new() };
            maker.truth(3);
            let operations = maker.operations;
            let condition = Condition::compile(program(operations.clone())).unwrap();
            let mut verdicts = vec![1; rows.len()];
            condition.apply(&batch, &[], &mut verdicts);
            for (row, verdict) in rows.iter().zip(verdicts) {
                let expected = interpret(&operations, row);
                assert_eq!(Value::Truth(verdict == 1), expected, "{operations:#?}\n{condition:#?}\n{row:#?}");
                hits[usize::from(verdict)] += 1;
            }
        }
    }
    assert!(hits.iter().all(|hits| *hits > 10_000), "{hits:?}");
}

#[test]
fn expressions_are_those_of_an_interpreter() {
    let seed = Random::seed("FLOWGATE_SEED");
    println!("FLOWGATE_SEED={seed}");
    let mut random = Random::new(seed);
    for _ in 0..300 {
        let rows: Vec<Row> = (0..random.below(40)).map(|_| random_row(&mut random, false)).collect();
        let mut batch = batch(rows.clone());
        batch.time = TIME;
        for round in 0..12 {
            let mut maker = Maker { random: &mut random, operations: Vec::new() };
            match round % 3 {
                0 => maker.number(3),
                1 => maker.address(),
                _ => maker.text(),
            }
            let operations = maker.operations;
            let expression = Expression::compile(program(operations.clone())).unwrap();
            let column = expression.column(&batch, &[]);
            for (index, row) in rows.iter().enumerate() {
                let present = |presence: &Presence| presence.rows(&batch)[index] == 1;
                let found = match &column {
                    Column::Numbers(numbers) => Value::Number(present(&numbers.presence).then(|| numbers.get(index))),
                    Column::Addresses(addresses) => {
                        Value::Address(present(&addresses.presence).then(|| addresses.get(index)))
                    }
                    Column::Texts(texts) => Value::Text(texts[index].as_ref().map(|text| text.to_vec())),
                };
                assert_eq!(found, interpret(&operations, row), "{operations:#?}\n{row:#?}");
            }
        }
    }
}

#[test]
fn labels_have_names_or_numbers() {
    let row = Row::ipv4(6).set(field::LABELS, |row| row.labels = vec![0b101, 0b1000_0000]);
    let batch = batch([row, Row::ipv4(6)]);
    let texts = fields::texts(q::LABELS, &batch, &[(2, "eth0-in".into())]);
    assert_eq!(texts[0].as_deref(), Some(&b"0,eth0-in,15"[..]));
    assert_eq!(texts[1], None);
}

#[test]
fn every_field_has_a_column() {
    let mut random = Random::new(1);
    let rows: Vec<Row> =
        (0..50).map(|_| Row { has: field::ALL, helper_info: vec![0xab, 1], ..random_row(&mut random, true) }).collect();
    let batch = batch(rows);
    for field in &q::ALL {
        let present = match fields::type_of(field.number).unwrap() {
            fields::Type::Number => fields::numbers(field.number, &batch).presence.rows(&batch).contains(&1),
            fields::Type::Address => fields::addresses(field.number, &batch).presence.rows(&batch).contains(&1),
            fields::Type::Text => fields::texts(field.number, &batch, &[]).iter().any(Option::is_some),
        };
        // The kernel translates the identifier of ICMP as a source.
        assert_eq!(present, field.number != q::NAT_DESTINATION_ICMP_ID, "{}", field.name);
    }
    assert_eq!(fields::type_of(0), None);
    assert_eq!(fields::type_of(q::ALL.len() as u32 + 1), None);
}

#[track_caller]
fn refused(operations: Vec<Operation>, reason: &str) {
    let error = Condition::compile(program(operations)).unwrap_err();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn unsound_programs_are_refused() {
    let one = || Operation::Number(number(1));
    let truth = || Operation::Truth(true);
    let none = Address::default;
    refused(vec![], "empty");
    refused(vec![truth(), truth()], "more than one column");
    refused(vec![one()], "leaves a value");
    refused(vec![Operation::Field(0), Operation::Has], "no field 0");
    refused(vec![Operation::Field(9999), Operation::Has], "no field 9999");
    refused(vec![one(), Operation::Compare(0)], "lacks a value");
    refused(vec![one(), one(), Operation::Compare(6)], "no comparison 6");
    refused(vec![one(), one(), Operation::Arithmetic(10), Operation::Has], "no operation 10");
    refused(vec![one(), Operation::Field(q::HELPER), Operation::Compare(0)], "different kinds");
    refused(vec![Operation::Address(none()), Operation::Address(none()), Operation::Compare(2)], "equal or not");
    refused(vec![one(), Operation::Not], "truth values");
    refused(vec![truth(), one(), Operation::Compare(0)], "has a truth value");
    refused(vec![truth(), Operation::All(2)], "2 truth values");
    refused(vec![truth(), Operation::Any(0)], "0 truth values");
    refused(vec![truth(), Operation::All(u32::MAX)], "truth values has 1");
    refused(vec![one(), Operation::Contains("x".into())], "on texts");
    refused(vec![one(), Operation::AddressIn(vec![])], "on addresses");
    refused(vec![Operation::Field(q::HELPER), Operation::Matches("(".into())], "`(`");
    refused(vec![Operation::Field(q::HELPER), Operation::Matches("(a{1000}){1000}".into())], "size");
    let range = |first, last| NumberRange { first: number(first), last: number(last) };
    refused(vec![one(), Operation::NumberIn(vec![range(2, 1)])], "do not ascend");
    refused(vec![one(), Operation::NumberIn(vec![range(1, 3), range(3, 4)])], "do not ascend");
    refused(vec![Operation::Field(q::HELPER), Operation::TextIn(vec!["b".into(), "a".into()])], "do not ascend");
    refused([vec![one(); 300], vec![Operation::Has]].concat(), "256 columns");
    let nested = [vec![one()], vec![Operation::Negate; 5000], vec![Operation::Has]].concat();
    refused(nested, "1000 levels");
}
