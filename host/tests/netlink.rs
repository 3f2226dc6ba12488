//! The netlink layer against the real kernel, each test in a network namespace of its own. Without the right to make
//! one (CAP_SYS_ADMIN) they pass without having tested anything, and say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]
#![allow(unsafe_code)]

use std::process::Command;
use std::time::{Duration, Instant};

use flowgate::model::{
    Address, Counts, Direction, Expectations, Flows, Masked, Network, Rare, Selection, Zones, event, expectation_field,
    field, status,
};
use flowgate::netlink::decode::{Arrival, ExpectationDecoder, FlowDecoder, check, push_counts};
use flowgate::netlink::encode::{expectations, flows};
use flowgate::netlink::{
    Batches, Dump, DumpError, DumpFilter, EncodeError, Entry, ExpectationEntry, Fate, Messages, Options,
    RECEIVE_LENGTH, Request, Socket, SocketError, Stop, Table, Woken, entries, group,
};

/// Runs a test in a thread that is in a fresh network namespace, which ends with the thread.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: a system call without pointers.
        let made = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
        assert!(made, "cannot make a network namespace (root is needed): {}", std::io::Error::last_os_error());
        // So that entries send events whenever they were made.
        let _ = std::fs::write("/proc/sys/net/netfilter/nf_conntrack_events", "1");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn socket() -> Socket {
    Socket::open(&Options::default()).unwrap()
}

/// Runs `conntrack`; whether it is there and did it.
fn conntrack(arguments: &str) -> bool {
    Command::new("conntrack").args(arguments.split(' ')).output().is_ok_and(|output| output.status.success())
}

fn mapped(address: [u8; 4]) -> Address {
    Address { hi: 0, lo: 0xffff_0000_0000 | u64::from(u32::from_be_bytes(address)) }
}

/// A batch that rows are added to field by field.
#[derive(Default)]
struct Rows(Flows);

impl Rows {
    /// A flow with both tuples, the reply being the original reversed, a timeout and a mark.
    fn add(&mut self, family: u8, protocol: u8, addresses: [Address; 2], l4: [u16; 2], mark: u32) -> usize {
        let flows = &mut self.0;
        let [source, destination] = addresses;
        flows.has.push(field::TUPLES | field::TIMEOUT | field::MARK);
        flows.family.push(family);
        flows.protocol.push(protocol);
        for (column, address) in [
            (&mut flows.original.source, source),
            (&mut flows.original.destination, destination),
            (&mut flows.reply.source, destination),
            (&mut flows.reply.destination, source),
        ] {
            column.hi.push(address.hi);
            column.lo.push(address.lo);
        }
        let icmp = matches!(protocol, 1 | 58);
        flows.original.source_l4.push(l4[0]);
        flows.original.destination_l4.push(l4[1]);
        flows.reply.source_l4.push(if icmp { l4[0] } else { l4[1] });
        let answer = match (protocol, l4[1] >> 8) {
            (1, 8) => 0,
            (1, kind) | (58, kind) if kind % 2 == 1 => (kind + 1) << 8,
            (58, kind) => (kind + 1) << 8,
            _ => l4[0],
        };
        flows.reply.destination_l4.push(answer);
        if !matches!(protocol, 1 | 6 | 17 | 58 | 132 | 136 | 47) {
            *flows.has.last_mut().unwrap() &= !(field::ORIGINAL_L4 | field::REPLY_L4);
        }
        flows.status.push(0);
        flows.timeout.push(1000);
        flows.mark.push(mark);
        flows.state.push(0);
        flows.length += 1;
        flows.length as usize - 1
    }

    fn give(&mut self, row: usize, bits: u64) {
        self.0.has[row] |= bits;
    }

    fn requests(&self) -> Vec<Request> {
        (0..self.0.length as usize)
            .map(|row| flows::create(Entry::new(&self.0, row).unwrap(), flows::Existing::Fail).unwrap())
            .collect()
    }

    fn create(&self) {
        let mut fates = Vec::new();
        Batches::new(socket()).submit(&self.requests(), &mut fates).unwrap();
        assert!(fates.iter().all(|fate| *fate == Fate::Done), "{fates:?}");
    }
}

/// Dumps into one batch.
fn dump(request: &Request) -> Result<Flows, DumpError> {
    let mut dump = Dump::start(socket(), request)?;
    let mut buffer = vec![0; RECEIVE_LENGTH];
    let mut decoder = FlowDecoder::new(field::ALL);
    let mut flows = Flows::default();
    while let Some(length) = dump.next(&mut buffer, None)? {
        for message in entries(&buffer[..length], dump.sequence()) {
            decoder.push(&mut flows, &message, Arrival::Entry).unwrap();
        }
    }
    assert_eq!(dump.next(&mut buffer, None).unwrap(), None);
    check::flows(&flows).unwrap();
    Ok(flows)
}

fn dump_all() -> Flows {
    dump(&Request::dump(Table::Flows, &DumpFilter::all())).unwrap()
}

fn marks(flows: &Flows) -> Vec<u32> {
    let mut marks = flows.mark.clone();
    marks.sort_unstable();
    marks
}

fn row_with_mark(flows: &Flows, mark: u32) -> usize {
    flows.mark.iter().position(|other| *other == mark).unwrap()
}

const V6: [Address; 2] = [Address { hi: 0x2001_0db8 << 32, lo: 1 }, Address { hi: 0x2001_0db8 << 32, lo: 2 }];

/// One flow of each protocol, of both families; the mark is the row's number plus one.
fn all_protocols() -> Rows {
    let mut rows = Rows::default();
    let v4 = [mapped([10, 0, 0, 1]), mapped([192, 0, 2, 7])];
    for (protocol, l4) in [(6, [1, 2]), (17, [3, 4]), (132, [5, 6]), (1, [77, 8 << 8]), (89, [0, 0]), (6, [1, 9])] {
        let mark = rows.0.length + 1;
        rows.add(2, protocol, v4, l4, mark);
    }
    for (protocol, l4) in [(6, [1, 2]), (17, [3, 4]), (58, [77, 128 << 8]), (89, [0, 0])] {
        let mark = rows.0.length + 1;
        rows.add(10, protocol, V6, l4, mark);
    }
    rows
}

#[test]
fn what_is_created_is_dumped() {
    in_namespace(|| {
        let mut rows = all_protocols();
        for row in [0, 6] {
            rows.give(row, field::STATE | field::STATUS);
            rows.0.state[row] = 3;
            rows.0.status[row] = status::ASSURED | status::SEEN_REPLY;
        }
        rows.create();
        let dumped = dump_all();
        assert_eq!(dumped.length, rows.0.length);
        for row in 0..rows.0.length as usize {
            let other = row_with_mark(&dumped, row as u32 + 1);
            let (made, found) = (&rows.0, &dumped);
            assert_eq!(found.has[other] & field::TUPLES, made.has[row] & field::TUPLES);
            assert_eq!(found.family[other], made.family[row]);
            assert_eq!(found.protocol[other], made.protocol[row]);
            for (found, made) in [(&found.original, &made.original), (&found.reply, &made.reply)] {
                assert_eq!(found.source.hi[other], made.source.hi[row]);
                assert_eq!(found.source.lo[other], made.source.lo[row]);
                assert_eq!(found.destination.hi[other], made.destination.hi[row]);
                assert_eq!(found.destination.lo[other], made.destination.lo[row]);
            }
            if made.has[row] & field::ORIGINAL_L4 != 0 {
                assert_eq!(found.original.source_l4[other], made.original.source_l4[row]);
                assert_eq!(found.original.destination_l4[other], made.original.destination_l4[row]);
                assert_eq!(found.reply.source_l4[other], made.reply.source_l4[row]);
                assert_eq!(found.reply.destination_l4[other], made.reply.destination_l4[row]);
            }
            assert!((995..=1000).contains(&found.timeout[other]));
            assert_eq!(found.has[other] & field::UNKNOWN, 0, "{:?}", found.rare);
            if made.has[row] & field::STATE != 0 {
                assert_eq!(found.state[other], 3);
                assert_eq!(found.status[other], status::ASSURED | status::SEEN_REPLY | status::CONFIRMED);
                // The kernel says so of every TCP entry that netlink made.
                assert_ne!(found.has[other] & field::SYNPROXY, 0);
            }
        }
    });
}

#[test]
fn zones_nat_and_what_conntrack_makes() {
    in_namespace(|| {
        let mut rows = Rows::default();
        let pair = |last| [mapped([10, 0, 0, last]), mapped([192, 0, 2, 7])];
        for mark in 1..=4 {
            rows.add(2, 17, pair(1), [5, 6], mark);
        }
        rows.0.zones = Some(Zones { zone: vec![0, 5, 0, 0], original: vec![0, 0, 6, 0], reply: vec![0; 4] });
        rows.give(1, field::ZONE);
        rows.give(2, field::ORIGINAL_ZONE);
        let last = 3;
        rows.0.original.source_l4[last] = 99;
        rows.0.reply.destination_l4[last] = 99;
        rows.give(last, field::SOURCE_NAT);
        let mut rare = Rare::default();
        rare.nat.rows.push(3);
        rare.nat.destination.push(0);
        for column in [&mut rare.nat.first, &mut rare.nat.last] {
            column.hi.push(0);
            column.lo.push(mapped([1, 2, 3, 4]).lo);
        }
        rare.nat.first_port.push(0);
        rare.nat.last_port.push(0);
        rows.0.rare = Some(rare);
        // The reply of the third collides with that of the first, if its zone is the original direction's only.
        rows.0.reply.source_l4[2] = 66;
        rows.0.original.destination_l4[2] = 66;
        rows.create();
        let dumped = dump_all();
        let zones = dumped.zones.as_ref().unwrap();
        let row = row_with_mark(&dumped, 2);
        assert_eq!((zones.zone[row], dumped.has[row] & field::ZONES), (5, field::ZONE));
        let row = row_with_mark(&dumped, 3);
        assert_eq!((zones.original[row], dumped.has[row] & field::ZONES), (6, field::ORIGINAL_ZONE));
        let row = row_with_mark(&dumped, 4);
        assert_eq!(dumped.reply.destination.lo[row], mapped([1, 2, 3, 4]).lo);
        assert_ne!(dumped.status[row] & status::SRC_NAT, 0);
        // Each of them is found and deleted by its own row, zone and all.
        let mut batches = Batches::new(socket());
        for mark in [2, 3, 1, 4] {
            let row = row_with_mark(&dumped, mark);
            let mut fates = Vec::new();
            let mut found = Vec::new();
            let entry = Entry::new(&dumped, row).unwrap();
            let mut decoder = FlowDecoder::new(field::ALL);
            let mut batch = Flows::default();
            batches
                .exchange(&[flows::get(entry).unwrap()], &mut fates, &mut |number, message| {
                    found.push(number);
                    decoder.push(&mut batch, message, Arrival::Entry).unwrap();
                })
                .unwrap();
            assert_eq!((fates, found, batch.mark[0]), (vec![Fate::Done], vec![0], mark));
            let mut fates = Vec::new();
            let request = flows::delete(entry).unwrap();
            batches.submit(&[request.clone(), request], &mut fates).unwrap();
            assert_eq!(fates, [Fate::Done, Fate::Refused { errno: libc::ENOENT, text: None }]);
        }
        assert_eq!(dump_all().length, 0);
        let created =
            conntrack("-I -p tcp -s 1.1.1.1 -d 2.2.2.2 --sport 10 --dport 20 --state SYN_SENT -t 100 -m 7 -w 3");
        assert!(created, "conntrack is not there: apt-get install conntrack");
        let dumped = dump_all();
        assert_eq!((dumped.length, dumped.mark[0], dumped.state[0]), (1, 7, 1));
        assert_eq!(dumped.zones.unwrap().zone, [3]);
        assert_eq!(dumped.original.source.lo, [mapped([1, 1, 1, 1]).lo]);
    });
}

#[test]
fn updates_and_deletions_by_id() {
    in_namespace(|| {
        let rows = all_protocols();
        rows.create();
        let dumped = dump_all();
        let row = row_with_mark(&dumped, 1);
        let entry = Entry::new(&dumped, row).unwrap();
        let mut values = Flows {
            length: 1,
            has: vec![field::MARK | field::MARK_MASK | field::STATE | field::TIMEOUT | field::STATUS],
            family: vec![2],
            mark: vec![0x50],
            state: vec![5],
            timeout: vec![77],
            status: vec![status::SEEN_REPLY],
            ..Flows::default()
        };
        values.rare = Some(Rare { mark_mask: vec![0xf0], ..Rare::default() });
        let update = flows::update(entry, Entry::new(&values, 0).unwrap()).unwrap();
        let mut batches = Batches::new(socket());
        let mut fates = Vec::new();
        batches.submit(&[update], &mut fates).unwrap();
        assert_eq!(fates, [Fate::Done]);
        let updated = dump_all();
        let row = row_with_mark(&updated, 0x51);
        assert_eq!((updated.state[row], updated.status[row]), (5, status::SEEN_REPLY | status::CONFIRMED));
        assert!((70..=77).contains(&updated.timeout[row]));
        // Another id is another flow.
        let mut other = updated.clone();
        other.id[row] ^= 1;
        let wrong = flows::delete(Entry::new(&other, row).unwrap()).unwrap();
        let reply = flows::delete(Entry::new(&updated, row).unwrap().without(field::SOURCE)).unwrap();
        let mut fates = Vec::new();
        batches.submit(&[wrong, reply], &mut fates).unwrap();
        assert_eq!(fates, [Fate::Refused { errno: libc::ENOENT, text: None }, Fate::Done]);
        assert_eq!(dump_all().length, rows.0.length - 1);
        // Without a complete tuple there is no request at all.
        for missing in [field::SOURCE, field::DESTINATION, field::PROTOCOL, field::DESTINATION_L4] {
            let entry = Entry::new(&updated, row_with_mark(&updated, 2)).unwrap();
            assert_eq!(
                flows::delete(entry.without(missing | field::REPLY)),
                Err(EncodeError::IncompleteTuple { missing })
            );
        }
    });
}

#[test]
fn flush_by_family_and_whole() {
    in_namespace(|| {
        let rows = all_protocols();
        rows.create();
        let mut batches = Batches::new(socket());
        let mut fates = Vec::new();
        batches.submit(&[flows::flush(10)], &mut fates).unwrap();
        assert_eq!(fates, [Fate::Done]);
        assert!(dump_all().family.iter().all(|family| *family == 2));
        assert_eq!(dump_all().length, 6);
        batches.submit(&[flows::flush(0)], &mut fates).unwrap();
        assert_eq!(dump_all().length, 0);
    });
}

#[test]
fn large_batches_match_errors_to_their_requests() {
    in_namespace(|| {
        let mut rows = Rows::default();
        for number in 0..3000u32 {
            // Every seventh is there already.
            let port = if number % 7 == 6 { number - 1 } else { number };
            rows.add(2, 17, [mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])], [port as u16 + 1, 9], number);
        }
        let requests = rows.requests();
        for receive_buffer in [None, Some(8 << 20)] {
            let mut batches = Batches::new(Socket::open(&Options { receive_buffer, ..Options::default() }).unwrap());
            let mut fates = Vec::new();
            batches.submit(&requests, &mut fates).unwrap();
            assert_eq!(fates.len(), 3000);
            for (number, fate) in fates.iter().enumerate() {
                let expected =
                    if number % 7 == 6 { Fate::Refused { errno: libc::EEXIST, text: None } } else { Fate::Done };
                assert_eq!(*fate, expected, "{number}");
            }
            let mut fates = Vec::new();
            // All of them are refused: the answers must fit all the same.
            batches.submit(&requests, &mut fates).unwrap();
            assert!(fates.iter().all(|fate| *fate == Fate::Refused { errno: libc::EEXIST, text: None }));
            // The last request's own failure, and a GET at the end.
            let mut fates = Vec::new();
            let mut got = Vec::new();
            let get = |row| flows::get(Entry::new(&rows.0, row).unwrap()).unwrap();
            let mixed = [get(0), requests[0].clone(), get(1)];
            batches.exchange(&mixed, &mut fates, &mut |number, _| got.push(number)).unwrap();
            assert_eq!(got, [0, 2]);
            assert_eq!(fates[1], Fate::Refused { errno: libc::EEXIST, text: None });
            let mut fates = Vec::new();
            batches.submit(&[flows::flush(0)], &mut fates).unwrap();
            batches.exchange(&[get(5)], &mut fates, &mut |_, _| panic!("there is nothing")).unwrap();
            assert_eq!(fates, [Fate::Done, Fate::Refused { errno: libc::ENOENT, text: None }]);
        }
    });
}

/// Sets one condition of a selection.
type Choice = Box<dyn Fn(&mut Selection)>;

/// Whether a row is what a selection means, as far as these tests use it.
fn matches(flows: &Flows, row: usize, selection: &Selection) -> bool {
    let masked = |of: Option<Masked>, number: u32| of.is_none_or(|Masked { value, mask }| number & mask == value);
    let network = |of: Option<Network>, hi: u64, lo: u64| {
        of.is_none_or(|Network { value, mask }| {
            hi & mask.hi == value.hi & mask.hi && lo & mask.lo == value.lo & mask.lo
        })
    };
    let zone = |of: Option<u16>, bit: u64, column: fn(&Zones) -> &Vec<u16>| {
        let number = if flows.has[row] & bit == 0 { 0 } else { column(flows.zones.as_ref().unwrap())[row] };
        of.is_none_or(|zone| zone == number)
    };
    let direction = |of: &Direction, tuples: &flowgate::model::Tuples| {
        network(of.source, tuples.source.hi[row], tuples.source.lo[row])
            && network(of.destination, tuples.destination.hi[row], tuples.destination.lo[row])
            && masked(of.source_l4, tuples.source_l4[row].into())
            && masked(of.destination_l4, tuples.destination_l4[row].into())
    };
    selection.family.is_none_or(|family| family == flows.family[row])
        && selection.protocol.is_none_or(|protocol| protocol == flows.protocol[row])
        && masked(selection.mark, flows.mark[row])
        && masked(selection.status, flows.status[row])
        && zone(selection.zone, field::ZONE, |zones| &zones.zone)
        && zone(selection.original.zone, field::ORIGINAL_ZONE, |zones| &zones.original)
        && zone(selection.reply.zone, field::REPLY_ZONE, |zones| &zones.reply)
        && direction(&selection.original, &flows.original)
        && direction(&selection.reply, &flows.reply)
}

#[test]
fn filters_let_through_what_is_meant() {
    in_namespace(|| {
        let mut rows = all_protocols();
        let mut count = rows.0.length;
        let zone = count as usize;
        for last in 1..=4u8 {
            for (protocol, l4) in [(6, [100, 200]), (17, [100, 300]), (136, [100, 300]), (1, [3, 13 << 8])] {
                count += 1;
                rows.add(2, protocol, [mapped([10, 0, 1, last]), mapped([10, 0, 2, last])], l4, count);
            }
        }
        let all = rows.0.length as usize;
        rows.0.zones = Some(Zones { zone: vec![0; all], original: vec![0; all], reply: vec![0; all] });
        let zones = rows.0.zones.as_mut().unwrap();
        (zones.zone[zone], zones.original[zone + 1], zones.reply[zone + 2]) = (5, 5, 6);
        for (row, bit) in [(zone, field::ZONE), (zone + 1, field::ORIGINAL_ZONE), (zone + 2, field::REPLY_ZONE)] {
            rows.give(row, bit);
        }
        for row in (0..all).step_by(3) {
            rows.give(row, field::STATUS);
            rows.0.status[row] = status::ASSURED | status::SEEN_REPLY;
        }
        rows.create();
        let everything = dump_all();
        assert_eq!(everything.length as usize, all);

        let whole = |address| Network { value: address, mask: Address { hi: u64::MAX, lo: u64::MAX } };
        let port = |value| Some(Masked { value, mask: 0xffff });
        let choices: Vec<Choice> = vec![
            Box::new(|selection| selection.family = Some(2)),
            Box::new(|selection| selection.family = Some(10)),
            Box::new(|selection| selection.family = Some(7)),
            Box::new(|selection| selection.protocol = Some(6)),
            Box::new(|selection| selection.protocol = Some(17)),
            Box::new(|selection| selection.protocol = Some(136)),
            Box::new(|selection| selection.protocol = Some(132)),
            Box::new(|selection| selection.protocol = Some(1)),
            Box::new(|selection| selection.protocol = Some(58)),
            Box::new(|selection| selection.protocol = Some(89)),
            Box::new(|selection| selection.mark = Some(Masked { value: 1, mask: 1 })),
            Box::new(|selection| selection.mark = Some(Masked { value: 3, mask: u32::MAX })),
            Box::new(|selection| selection.mark = Some(Masked { value: 2, mask: 1 })),
            Box::new(|selection| selection.mark = Some(Masked { value: 0, mask: 0 })),
            Box::new(|selection| selection.status = Some(Masked { value: 4, mask: 4 })),
            Box::new(|selection| selection.status = Some(Masked { value: 0, mask: 4 })),
            Box::new(|selection| selection.status = Some(Masked { value: 0, mask: 0 })),
            Box::new(|selection| selection.zone = Some(0)),
            Box::new(|selection| selection.zone = Some(5)),
            Box::new(|selection| selection.original.zone = Some(5)),
            Box::new(|selection| selection.original.zone = Some(0)),
            Box::new(|selection| selection.reply.zone = Some(6)),
            Box::new(move |selection| selection.original.source = Some(whole(mapped([10, 0, 1, 1])))),
            Box::new(move |selection| selection.original.source = Some(whole(mapped([10, 0, 0, 1])))),
            Box::new(move |selection| selection.original.destination = Some(whole(mapped([10, 0, 2, 3])))),
            Box::new(move |selection| selection.reply.source = Some(whole(mapped([10, 0, 2, 3])))),
            Box::new(move |selection| selection.reply.destination = Some(whole(mapped([10, 0, 1, 2])))),
            Box::new(move |selection| selection.original.source = Some(whole(V6[0]))),
            Box::new(move |selection| selection.reply.source = Some(whole(V6[1]))),
            Box::new(|selection| {
                let mask = Address { hi: u64::MAX, lo: u64::MAX << 8 };
                selection.original.source = Some(Network { value: mapped([10, 0, 1, 0]), mask });
            }),
            Box::new(move |selection| selection.original.source_l4 = port(100)),
            Box::new(move |selection| selection.original.destination_l4 = port(200)),
            Box::new(move |selection| selection.original.destination_l4 = port(2)),
            Box::new(move |selection| selection.reply.source_l4 = port(300)),
            Box::new(move |selection| selection.reply.destination_l4 = port(100)),
            Box::new(move |selection| selection.original.source_l4 = port(77)),
            Box::new(move |selection| selection.original.destination_l4 = port(8 << 8)),
            Box::new(move |selection| selection.original.destination_l4 = port(128 << 8)),
            Box::new(move |selection| selection.original.destination_l4 = port(3 << 8)),
            Box::new(move |selection| selection.reply.destination_l4 = port(14 << 8)),
            Box::new(|selection| {
                selection.original.destination_l4 = Some(Masked { value: 13 << 8, mask: 0xff00 });
            }),
            Box::new(|selection| selection.original.destination_l4 = Some(Masked { value: 0, mask: 0xff })),
            Box::new(|selection| selection.original.source_l4 = Some(Masked { value: 1 << 20, mask: u32::MAX })),
        ];
        let mut seed = 0x1234_5678_9abc_def1u64;
        let mut random = |limit: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 20) as usize % limit
        };
        let (mut narrowed, mut exact) = (0, 0);
        let mut requests = Vec::new();
        for first in 0..choices.len() {
            requests.push(vec![first]);
            for family in 0..2 {
                for protocol in 3..10 {
                    requests.push(vec![family, protocol, first]);
                }
            }
        }
        for _ in 0..600 {
            requests.push((0..=random(5)).map(|_| random(choices.len())).collect());
        }
        for picks in requests {
            let mut selection = Selection::default();
            picks.iter().for_each(|pick| choices[*pick](&mut selection));
            let plan = DumpFilter::plan(&selection);
            let dumped = dump(&Request::dump(Table::Flows, &plan.filter))
                .unwrap_or_else(|error| panic!("{selection:?}: {plan:?}: {error}"));
            let seen = marks(&dumped);
            let meant: Vec<u32> =
                (0..all).filter(|row| matches(&everything, *row, &selection)).map(|row| everything.mark[row]).collect();
            assert!(
                meant.iter().all(|mark| seen.binary_search(mark).is_ok()),
                "{selection:?}\n{plan:?}\nmeant {meant:?}, got {seen:?}"
            );
            if plan.lines.iter().all(|line| line.ends_with("checked by the kernel")) {
                assert_eq!(meant.len(), seen.len(), "{selection:?}\n{plan:?}\nmeant {meant:?}, got {seen:?}");
                exact += 1;
            }
            narrowed += usize::from(seen.len() < all);
        }
        assert!(narrowed > 300 && exact > 100, "{narrowed} narrowed, {exact} exact");
    });
}

#[test]
fn events_of_one_flow() {
    in_namespace(|| {
        let _ = std::fs::write("/proc/sys/net/netfilter/nf_conntrack_timestamp", "1");
        let _ = std::fs::write("/proc/sys/net/netfilter/nf_conntrack_acct", "1");
        let listener = Socket::open(&Options { groups: group::FLOWS, ..Options::default() }).unwrap();
        let mut rows = Rows::default();
        let row = rows.add(2, 6, [mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])], [1, 2], 3);
        let mut batches = Batches::new(socket());
        let entry = Entry::new(&rows.0, row).unwrap();
        let mut fates = Vec::new();
        let requests = [
            flows::create(entry, flows::Existing::Fail).unwrap(),
            flows::update(entry, entry).unwrap(),
            flows::delete(entry).unwrap(),
        ];
        batches.submit(&requests, &mut fates).unwrap();
        assert_eq!(fates, [Fate::Done, Fate::Done, Fate::Done]);
        let stop = Stop::new().unwrap();
        assert_eq!(listener.wait(Some(&stop), Some(Duration::from_secs(2))).unwrap(), Woken::Readable);
        let mut buffer = vec![0; RECEIVE_LENGTH];
        let mut decoder = FlowDecoder::new(field::ALL);
        let mut batch = Flows::default();
        while let Some(received) = listener.try_receive(&mut buffer).unwrap() {
            assert_eq!(received.namespace, None);
            for message in Messages::new(&buffer[..received.length]) {
                let arrival = Arrival::Event { received: 42, namespace: received.namespace };
                decoder.push(&mut batch, &message.unwrap(), arrival).unwrap();
            }
        }
        check::flows(&batch).unwrap();
        let events = batch.events.as_ref().unwrap();
        assert_eq!(events.kind, [event::NEW, event::UPDATE, event::DESTROY]);
        assert_eq!(events.port_id, [batches.port(); 3]);
        assert_eq!(batch.mark, [3, 3, 3]);
        assert_ne!(batch.has[2] & field::COUNTERS, 0);
        assert_ne!(batch.has[2] & field::STOP, 0);
        assert_eq!(batch.has.iter().fold(0, |all, has| all | has) & field::UNKNOWN, 0, "{:?}", batch.rare);
        assert_eq!(listener.wait(Some(&stop), Some(Duration::from_millis(5))).unwrap(), Woken::TimedOut);
        stop.stop();
        let start = Instant::now();
        assert_eq!(listener.wait(Some(&stop), None).unwrap(), Woken::Stopped);
        assert!(start.elapsed() < Duration::from_secs(1));
        assert!(listener.dropped().unwrap() == 0);
    });
}

#[test]
fn an_overrun_is_told() {
    in_namespace(|| {
        let options = Options { groups: group::NEW, receive_buffer: Some(20 * 1024), ..Options::default() };
        let listener = Socket::open(&options).unwrap();
        assert_eq!(listener.receive_buffer(), 40 * 1024);
        let quiet = Socket::open(&Options { no_overrun_errors: true, ..options }).unwrap();
        let mut rows = Rows::default();
        for port in 1..=200 {
            rows.add(2, 17, [mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])], [port, 2], 3);
        }
        rows.create();
        let mut buffer = vec![0; 4096];
        assert!(matches!(listener.try_receive(&mut buffer), Err(SocketError::Overrun)));
        let mut count = 0;
        while listener.try_receive(&mut buffer).unwrap().is_some() {
            count += 1;
        }
        assert!((10..200).contains(&count), "{count}");
        assert_eq!(listener.dropped().unwrap(), 200 - count);
        let mut count = 0;
        while quiet.try_receive(&mut buffer).unwrap().is_some() {
            count += 1;
        }
        assert!((10..200).contains(&count), "{count}");
        // A buffer that is too short is told, too.
        rows.create_one_more();
        assert!(matches!(listener.try_receive(&mut buffer[..40]), Err(SocketError::Truncated { buffer: 40 })));
    });
}

impl Rows {
    /// Makes a flow that is not there yet.
    fn create_one_more(&self) {
        let mut rows = Rows::default();
        rows.add(2, 17, [mapped([10, 9, 9, 1]), mapped([10, 0, 0, 2])], [1, 2], 3);
        rows.create();
    }
}

#[test]
fn dumps_that_are_refused_or_stopped() {
    in_namespace(|| {
        all_protocols().create();
        // A second dump on a socket is refused while the first is under way, which needs more than one datagram.
        let mut rows = Rows::default();
        for port in 1..2000 {
            rows.add(2, 17, [mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])], [port, 2], 3);
        }
        rows.create();
        let request = Request::dump(Table::Flows, &DumpFilter::all());
        let mut buffer = vec![0; RECEIVE_LENGTH];
        let mut first = Dump::start(socket(), &request).unwrap();
        let stop = Stop::new().unwrap();
        assert!(first.next(&mut buffer, Some(&stop)).unwrap().is_some());
        stop.stop();
        assert!(matches!(first.next(&mut buffer, Some(&stop)), Err(DumpError::Stopped)));
        assert!(matches!(first.next(&mut buffer, Some(&stop)), Ok(None)));
        // The socket of a dump that was given up is good for another one.
        let again = first.into_socket().unwrap();
        let mut second = Dump::start(again, &request).unwrap();
        let mut count = 0;
        while let Some(length) = second.next(&mut buffer, None).unwrap() {
            count += entries(&buffer[..length], second.sequence()).count();
        }
        assert_eq!(count, 2009);
        // A GET of what is not there.
        let mut missing = Rows::default();
        missing.add(2, 17, [mapped([1, 1, 1, 1]), mapped([10, 0, 0, 2])], [7, 2], 3);
        let get = flows::get(Entry::new(&missing.0, 0).unwrap()).unwrap();
        let mut dump = Dump::start(socket(), &get).unwrap();
        let error = dump.next(&mut buffer, None).unwrap_err();
        assert_eq!(error.errno(), libc::ENOENT);
        let get = flows::get(Entry::new(&rows.0, 0).unwrap()).unwrap();
        let mut dump = Dump::start(socket(), &get).unwrap();
        assert!(dump.next(&mut buffer, None).unwrap().is_some());
        assert!(dump.next(&mut buffer, None).unwrap().is_none());
    });
}

#[test]
fn statistics_and_other_dumps() {
    in_namespace(|| {
        all_protocols().create();
        let mut buffer = vec![0; RECEIVE_LENGTH];
        for (request, subject) in [
            (Request::dump(Table::CpuStatistics, &DumpFilter::all()), 0),
            (Request::dump(Table::ExpectationStatistics, &DumpFilter::all()), 1),
            (Request::global_statistics(), 2),
        ] {
            let mut dump = Dump::start(socket(), &request).unwrap();
            let mut counts = Counts::default();
            while let Some(length) = dump.next(&mut buffer, None).unwrap() {
                for message in entries(&buffer[..length], dump.sequence()) {
                    push_counts(&mut counts, &message).unwrap();
                }
            }
            assert_eq!(counts.subject, subject);
            if subject == 2 {
                assert_eq!((&*counts.attributes, counts.values[0]), (&[1, 2][..], 10));
            } else {
                assert!(counts.cpus.len() > 1 && counts.cpus[1] == 1, "{counts:?}");
            }
        }
        for table in [Table::Dying, Table::Unconfirmed] {
            assert_eq!(dump(&Request::dump(table, &DumpFilter::family_only(2))).unwrap().length, 0);
        }
        let zeroed = dump(&Request::dump(Table::FlowsAndZero, &DumpFilter::family_only(10))).unwrap();
        assert_eq!(zeroed.length, 4);
    });
}

fn dump_expectations(request: &Request) -> Result<Expectations, DumpError> {
    let mut dump = Dump::start(socket(), request)?;
    let mut buffer = vec![0; RECEIVE_LENGTH];
    let mut decoder = ExpectationDecoder::new();
    let mut batch = Expectations::default();
    while let Some(length) = dump.next(&mut buffer, None)? {
        for message in entries(&buffer[..length], dump.sequence()) {
            decoder.push(&mut batch, &message, Arrival::Entry).unwrap();
        }
    }
    check::expectations(&batch).unwrap();
    Ok(batch)
}

#[test]
fn expectations_of_a_helper() {
    in_namespace(|| {
        let mut rows = Rows::default();
        rows.add(2, 6, [mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])], [2121, 21], 3);
        rows.give(0, field::HELPER | field::STATUS);
        rows.0.status[0] = status::ASSURED | status::SEEN_REPLY;
        let mut rare = Rare::default();
        rare.helper.rows.push(0);
        rare.helper.texts.bytes.extend(b"ftp");
        rare.helper.texts.ends.push(3);
        rows.0.rare = Some(rare);
        let mut batches = Batches::new(socket());
        let mut fates = Vec::new();
        batches.submit(&rows.requests(), &mut fates).unwrap();
        assert_eq!(fates, [Fate::Done], "the kernel has no helper for FTP");
        let dumped = dump_all();
        assert_eq!(dumped.rare.as_ref().unwrap().helper.texts.bytes, b"ftp");

        let tuples = |source: [u8; 4], destination: [u8; 4], l4: [u16; 2]| flowgate::model::Tuples {
            source: flowgate::model::Addresses { hi: vec![0], lo: vec![mapped(source).lo] },
            destination: flowgate::model::Addresses { hi: vec![0], lo: vec![mapped(destination).lo] },
            source_l4: vec![l4[0]],
            destination_l4: vec![l4[1]],
        };
        use expectation_field as bits;
        let wanted = Expectations {
            length: 1,
            has: vec![
                bits::EXPECTED
                    | bits::EXPECTED_L4
                    | bits::MASK
                    | bits::MASK_L4
                    | bits::MASTER
                    | bits::MASTER_L4
                    | bits::TIMEOUT,
            ],
            family: vec![2],
            protocol: vec![6],
            expected: tuples([10, 0, 0, 2], [10, 0, 0, 1], [0, 5000]),
            mask: tuples([255, 255, 255, 255], [255, 255, 255, 255], [0, 0xffff]),
            master: tuples([10, 0, 0, 1], [10, 0, 0, 2], [2121, 21]),
            master_protocol: vec![6],
            timeout: vec![100],
            ..Expectations::default()
        };
        let listener = Socket::open(&Options { groups: group::EXPECTATIONS, ..Options::default() }).unwrap();
        let entry = ExpectationEntry::new(&wanted, 0).unwrap();
        let mut fates = Vec::new();
        let create = expectations::create(entry, true).unwrap();
        batches.submit(&[create.clone(), create], &mut fates).unwrap();
        assert_eq!(fates, [Fate::Done, Fate::Refused { errno: libc::EEXIST, text: None }]);

        let all = Request::dump(Table::Expectations, &DumpFilter::all());
        let batch = dump_expectations(&all).unwrap();
        assert_eq!(batch.length, 1);
        assert_eq!(batch.expected.destination_l4, [5000]);
        assert_eq!(batch.expected.source.lo, wanted.expected.source.lo);
        assert_eq!((&batch.master, &batch.mask.source.lo), (&wanted.master, &wanted.mask.source.lo));
        assert_eq!(batch.has[0] & bits::UNKNOWN, 0);
        let found = ExpectationEntry::new(&batch, 0).unwrap();
        assert_eq!(dump_expectations(&expectations::of_master(found).unwrap()).unwrap().length, 1);
        let mut got = 0;
        let mut fates = Vec::new();
        batches.exchange(&[expectations::get(entry).unwrap()], &mut fates, &mut |_, _| got += 1).unwrap();
        assert_eq!((got, &*fates), (1, &[Fate::Done][..]));
        let mut fates = Vec::new();
        let delete = expectations::delete(found).unwrap();
        batches.submit(&[delete.clone(), delete], &mut fates).unwrap();
        assert_eq!(fates, [Fate::Done, Fate::Refused { errno: libc::ENOENT, text: None }]);
        assert_eq!(dump_expectations(&all).unwrap().length, 0);
        assert_eq!(dump_expectations(&expectations::of_master(entry).unwrap()).unwrap().length, 0);

        let mut fates = Vec::new();
        let create = expectations::create(entry, true).unwrap();
        let of_helper = expectations::delete_of_helper(b"ftp").unwrap();
        batches.submit(&[create.clone(), of_helper, create, expectations::flush()], &mut fates).unwrap();
        assert_eq!(fates, vec![Fate::Done; 4]);
        assert_eq!(dump_expectations(&all).unwrap().length, 0);

        let mut decoder = ExpectationDecoder::new();
        let mut batch = Expectations::default();
        let mut buffer = vec![0; RECEIVE_LENGTH];
        while let Some(received) = listener.try_receive(&mut buffer).unwrap() {
            for message in Messages::new(&buffer[..received.length]) {
                let arrival = Arrival::Event { received: 1, namespace: None };
                decoder.push(&mut batch, &message.unwrap(), arrival).unwrap();
            }
        }
        let [new, gone] = [event::NEW, event::DESTROY];
        assert_eq!(batch.event, [new, gone, new, gone, new, gone]);
        assert_eq!(batch.port_id[0], batches.port());
        assert!(expectations::delete_of_helper(b"").is_err());
    });
}

#[test]
fn a_malformed_request_is_explained_by_the_kernel() {
    in_namespace(|| {
        let mut rows = Rows::default();
        rows.add(2, 6, [mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])], [2121, 21], 3);
        rows.give(0, field::LABELS);
        let mut rare = Rare::default();
        rare.labels.rows.push(0);
        rare.labels.texts.bytes.extend([0; 64]);
        rare.labels.texts.ends.push(64);
        rows.0.rare = Some(rare);
        let mut fates = Vec::new();
        Batches::new(socket()).submit(&rows.requests(), &mut fates).unwrap();
        let [Fate::Refused { errno, text: Some(text) }] = &*fates else { panic!("{fates:?}") };
        assert_eq!(*errno, libc::ERANGE);
        assert!(!text.is_empty());
    });
}

#[test]
fn events_of_another_namespace_say_which() {
    in_namespace(|| {
        let listener =
            Socket::open(&Options { groups: group::NEW, all_namespaces: true, ..Options::default() }).unwrap();
        let (identify, identified) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            // SAFETY: system calls without pointers.
            let (result, thread) = unsafe { (libc::unshare(libc::CLONE_NEWNET), libc::gettid()) };
            assert_eq!(result, 0);
            let _ = std::fs::write("/proc/sys/net/netfilter/nf_conntrack_events", "1");
            identify.send(thread).unwrap();
            if gone.recv().is_ok() {
                all_protocols().create();
            }
        });
        // A link into the other namespace gives that one an id.
        let thread = identified.recv().unwrap().to_string();
        let linked = Command::new("ip")
            .args(["link", "add", "here", "type", "veth", "peer", "name", "there", "netns", &thread])
            .output()
            .is_ok_and(|output| output.status.success());
        assert!(linked, "cannot link two namespaces: apt-get install iproute2");
        go.send(()).unwrap();
        other.join().unwrap();
        all_protocols().create();
        let mut buffer = vec![0; RECEIVE_LENGTH];
        let mut namespaces = Vec::new();
        while let Some(received) = listener.try_receive(&mut buffer).unwrap() {
            namespaces.push(received.namespace);
        }
        assert_eq!(namespaces.len(), 20);
        assert!(namespaces[..10].iter().all(|id| id.is_some() && *id == namespaces[0]), "{namespaces:?}");
        assert!(namespaces[10..].iter().all(Option::is_none), "{namespaces:?}");
    });
}
