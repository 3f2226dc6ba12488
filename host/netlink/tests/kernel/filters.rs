//! The kernel's dump filter passes all selected flows, and no others if it is reported as exact.

use flowgate_model::{Address, Direction, Flows, Masked, Network, Selection, Zones, field, status};
use flowgate_netlink::{DumpFilter, DumpKind, Request};
use flowgate_test_support::Namespace;

use crate::rows::{V6, all_protocols, dump, dump_all, mapped, marks};

/// Sets one condition of a selection.
type Choice = Box<dyn Fn(&mut Selection)>;

/// Returns true if a row is selected, for the conditions that these tests use.
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
    let direction = |of: &Direction, tuples: &flowgate_model::Tuples| {
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
    Namespace::run(|_| {
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
            let dumped = dump(&Request::dump(DumpKind::FLOWS, &plan.filter))
                .unwrap_or_else(|error| panic!("{selection:?}: {plan:?}: {error}"));
            let seen = marks(&dumped);
            let meant: Vec<u32> =
                (0..all).filter(|row| matches(&everything, *row, &selection)).map(|row| everything.mark[row]).collect();
            assert!(
                meant.iter().all(|mark| seen.binary_search(mark).is_ok()),
                "{selection:?}\n{plan:?}\nmeant {meant:?}, got {seen:?}"
            );
            if plan.conditions.iter().all(|condition| condition.unchecked.is_none()) {
                assert_eq!(meant.len(), seen.len(), "{selection:?}\n{plan:?}\nmeant {meant:?}, got {seen:?}");
                exact += 1;
            }
            narrowed += usize::from(seen.len() < all);
        }
        assert!(narrowed > 300 && exact > 100, "{narrowed} narrowed, {exact} exact");
    });
}
