//! The audit's entries have the members and values of the stock plugin `json`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use serde_json::Value;

use flowgate_model::{
    Counters, Events, Flows, Label, Setup, Times, UtcOffset, batch, check, event, family, field, protocol, status,
};
use flowgate_netlink_testing::rows::Rows;
use flowgate_pipeline::{entries::Entries as _, format::Format};
use flowgate_policy::audit::entry::{LabelNames, entry};
use flowgate_runtime::{Instance, Limits, PluginComponent, PluginEngine};
use flowgate_test_support::Random;

const NOW: u64 = 1_795_480_170_500_000_000;

fn labels() -> Vec<Label> {
    let label = |bit, name: &str| Label { bit, name: name.into() };
    vec![label(0, "eth0-in"), label(9, "a \"b\"\u{7f}"), label(9, "twice\n"), label(127, "last"), label(300, "beyond")]
}

/// The stock plugin, and what is compared with it.
struct Both {
    format: Format,
    names: LabelNames,
}

impl Both {
    fn new() -> Self {
        let engine = PluginEngine::new(None).unwrap();
        let component = PluginComponent::stock(&engine, "json").unwrap();
        let mut instance = Instance::new(&component, Limits::default()).unwrap();
        let reads = instance.describe().unwrap().reads;
        let offsets = vec![UtcOffset { since: 0, offset: 0 }];
        instance.configure(&Setup { offsets, labels: labels(), ..Setup::default() }).unwrap();
        instance.end_start_up();
        Both { format: Format::new(instance, reads), names: LabelNames::new(&labels()) }
    }

    /// Compares all rows; returns them.
    fn compare(&mut self, flows: &Flows) -> Vec<Value> {
        check::flows(flows).unwrap();
        let mut formatted = flows.clone();
        formatted.stamp(NOW);
        let text = self.format.render(&mut formatted).unwrap();
        let lines: Vec<Value> = text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(lines.len(), flows.length as usize);
        for (row, line) in lines.iter().enumerate() {
            let entry = entry(flows, row, &self.names, NOW);
            assert_eq!(entry, *line, "row {row} of {flows:?}");
            // The values survive the audit's own serializer.
            assert_eq!(serde_json::from_str::<Value>(&entry.to_string()).unwrap(), *line);
        }
        lines
    }
}

/// Returns bytes that are hostile as a text.
fn hostile(rows: &mut Rows<'_>) -> Vec<u8> {
    let texts: [&[u8]; 12] = [
        b"",
        b"ftp",
        b"\0",
        b"\"\\/\x08\x0c\n\r\t",
        b"\x1b[2J\x7f",
        "\u{80}\u{9f}\u{a0}\u{2028}\u{feff}\u{10ffff}".as_bytes(),
        b"\xff\xfe",
        b"a\xe2\x82b",
        b"\xed\xa0\x80\xf4\x90\x80\x80",
        b"\xf0\x9f\x98",
        b"{\"time\":0}",
        b"%s=%n",
    ];
    let mut text = texts[rows.below(texts.len() as u64) as usize].to_vec();
    if rows.below(4) == 0 {
        text.extend((0..rows.below(20)).map(|_| (rows.0)() as u8).collect::<Vec<_>>());
    }
    text
}

/// Returns a row with content for every field and with all of `has`.
fn row(rows: &mut Rows<'_>, of_family: u8, number: u8, with_event: bool) -> Flows {
    let mut flows = rows.row(of_family, number, true);
    let mut long = || vec![[0, 1, NOW, u64::MAX][rows.below(4) as usize]];
    flows.counters =
        Some(Counters { original_packets: long(), original_bytes: long(), reply_packets: long(), reply_bytes: long() });
    flows.times = Some(Times { start: long(), stop: long() });
    flows.use_count = vec![rows.below(5) as u32];
    if with_event {
        let kind = [event::NONE, event::NEW, event::UPDATE, event::DESTROY, event::GAP, 9][rows.below(6) as usize];
        let mut events = Events {
            kind: vec![kind],
            time: vec![(rows.0)()],
            received: vec![(rows.0)()],
            port_id: vec![(rows.0)() as u32],
            namespace_id: vec![(rows.0)() as u32],
            ..Events::default()
        };
        batch::push_sparse(&mut events.program, 0, &hostile(rows));
        batch::push_sparse(&mut events.namespace_name, 0, &hostile(rows));
        flows.events = Some(events);
    }
    let rare = flows.rare.get_or_insert_default();
    rare.secmark = vec![(rows.0)() as u32];
    for column in [&mut rare.security_context, &mut rare.helper] {
        *column = Default::default();
        batch::push_sparse(column, 0, &hostile(rows));
    }
    for _ in 0..rows.below(4) {
        let unknown = &mut rare.unknown;
        unknown.rows.push(0);
        unknown.paths.push([99, 7 | 2 << 16 | 1 << 32, u64::MAX, (rows.0)()][rows.below(4) as usize]);
        batch::push_text(&mut unknown.payloads, &hostile(rows));
        let notes = &mut rare.annotations;
        notes.rows.push(0);
        let key = if rows.below(2) == 0 { b"lost".to_vec() } else { hostile(rows) };
        batch::push_text(&mut notes.keys, &key);
        let value = if rows.below(2) == 0 { b"272".to_vec() } else { hostile(rows) };
        batch::push_text(&mut notes.values, &value);
    }
    let notes = if rare.annotations.rows.is_empty() { field::ANNOTATIONS } else { 0 };
    let events = field::EVENT_TIME
        | field::PORT_ID
        | field::PROGRAM
        | field::NAMESPACE
        | field::NAMESPACE_NAME
        | field::SYNTHETIC;
    flows.has = vec![field::ALL & !notes & if with_event { u64::MAX } else { !events }];
    flows
}

#[test]
fn random_tables_are_formatted_alike() {
    let mut both = Both::new();
    let mut random = Random::new(3);
    let mut next = || random.bits();
    let mut rows = Rows(&mut next);
    let (mut translated, mut masters) = (0, 0);
    for _ in 0..400 {
        let mut table = Flows::default();
        let with_events = rows.below(3) == 0;
        for _ in 0..rows.below(20) {
            let (of_family, number) = rows.kind();
            let mut flow = row(&mut rows, of_family, number, with_events);
            let (few, some) = ((rows.0)() & (rows.0)(), (rows.0)());
            flow.has[0] &= [few, some, some | field::TUPLES, u64::MAX][rows.below(4) as usize];
            // Notes without their bit are not shown, and not compared.
            if flow.has[0] & field::ANNOTATIONS == 0 {
                flow.rare.as_mut().unwrap().annotations = Default::default();
            }
            if rows.below(3) == 0 {
                (flow.reply.source, flow.reply.destination) = (flow.original.destination, flow.original.source.clone());
                flow.original.destination = flow.reply.source.clone();
            }
            batch::append(&mut table, &flow);
        }
        let lines = both.compare(&table);
        translated += lines.iter().filter(|line| line["nat"]["source"]["address"].is_string()).count();
        masters += lines.iter().filter(|line| line["master"].is_object()).count();
    }
    assert!(translated > 100 && masters > 100, "{translated} translated, {masters} with a master");
}

#[test]
fn each_field_alone_and_each_number_with_a_name() {
    let mut both = Both::new();
    let mut random = Random::new(8);
    let mut next = || random.bits();
    let mut rows = Rows(&mut next);
    let mut table = Flows::default();
    for of_family in [family::IPV4, family::IPV6, 7] {
        for bit in 0..51 {
            let mut flow = row(&mut rows, of_family, protocol::TCP, true);
            flow.has[0] &= 1 << bit;
            if flow.has[0] & field::ANNOTATIONS == 0 {
                flow.rare.as_mut().unwrap().annotations = Default::default();
            }
            batch::append(&mut table, &flow);
        }
    }
    both.compare(&table);
    // Columns of later versions and groups that are not there.
    let mut bare = Flows { length: 3, has: vec![field::ALL; 3], family: vec![2, 10, 0], ..Flows::default() };
    both.compare(&bare);
    bare.rare = Some(Default::default());
    both.compare(&bare);
    for number in 0..=u8::MAX {
        let mut table = Flows::default();
        for state in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 200] {
            let mut flow = row(&mut rows, family::IPV4, number, false);
            flow.state = vec![state];
            flow.status = vec![(1 << (number % 32)) | u32::from(state)];
            batch::append(&mut table, &flow);
        }
        both.compare(&table);
    }
}

/// Translations of both ends, with and without the bits of the status that say so.
#[test]
fn translations() {
    let mut both = Both::new();
    let mut random = Random::new(21);
    let mut next = || random.bits();
    let mut rows = Rows(&mut next);
    let mut table = Flows::default();
    for number in [protocol::TCP, protocol::ICMP, protocol::ICMPV6, protocol::GRE, 99] {
        for change in 0..32 {
            for bits in [0, status::SRC_NAT_DONE, status::DST_NAT_DONE, status::SRC_NAT_DONE | status::DST_NAT_DONE] {
                let mut flow = row(&mut rows, family::IPV4, number, false);
                let original = flow.original.clone();
                let reply = &mut flow.reply;
                (reply.source, reply.destination) = (original.destination, original.source);
                (reply.source_l4, reply.destination_l4) = (original.destination_l4, original.source_l4);
                reply.source.lo[0] ^= change & 1;
                reply.destination.lo[0] ^= change >> 1 & 1;
                reply.source_l4[0] ^= (change >> 2 & 1) as u16;
                reply.destination_l4[0] ^= (change >> 3 & 1) as u16;
                flow.status = vec![bits];
                flow.has = vec![field::TUPLES | if change & 16 != 0 { field::STATUS } else { 0 }];
                flow.rare = None;
                batch::append(&mut table, &flow);
            }
        }
    }
    let lines = both.compare(&table);
    assert!(lines.iter().any(|line| line["nat"]["source"]["icmp_id"].is_number()));
    assert!(lines.iter().any(|line| line["nat"]["destination"]["port"].is_number()));
    assert!(lines.iter().any(|line| line["nat"].is_null()));
}

/// Addresses with groups of zeros in any place, mapped and compatible ones.
#[test]
fn addresses() {
    let mut both = Both::new();
    let mut random = Random::new(33);
    let mut next = || random.bits();
    let mut rows = Rows(&mut next);
    for of_family in [family::IPV6, family::IPV4, 0] {
        for _ in 0..4 {
            let mut table = Flows::default();
            for pattern in 0..256u32 {
                let mut flow = row(&mut rows, of_family, protocol::UDP, false);
                let groups = (rows.0)();
                let address = (0..8).fold(0u128, |bits, group| {
                    let word = [0xffff, 1, 0x102, groups as u16][(groups >> (4 * group) & 3) as usize];
                    bits << 16 | u128::from(if pattern >> group & 1 != 0 { word } else { 0 })
                });
                (flow.original.source.hi, flow.original.source.lo) =
                    (vec![(address >> 64) as u64], vec![address as u64]);
                flow.has = vec![field::SOURCE];
                flow.rare = None;
                batch::append(&mut table, &flow);
            }
            both.compare(&table);
        }
    }
}
