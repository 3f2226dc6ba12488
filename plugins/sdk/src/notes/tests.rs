//! Tests of the actions, and of the rows of values that they refer to.

use std::net::IpAddr;

use super::*;
use crate::{
    AddressRange, Flows, Sequence, Synproxy, family, field, protocol, state, status,
    testing::{Row, batch},
};

/// Returns kind, row and row of values of each action.
fn actions(outcome: &Outcome) -> Vec<(u8, u32, u32)> {
    let actions = outcome.actions.as_ref().unwrap();
    assert_eq!((actions.rows.len(), actions.values.len()), (actions.kinds.len(), actions.kinds.len()));
    let rows = actions.rows.iter().zip(&actions.values);
    actions.kinds.iter().zip(rows).map(|(&kind, (&row, &value))| (kind, row, value)).collect()
}

fn one(ask: impl FnOnce(&mut Notes)) -> (Vec<(u8, u32, u32)>, Flows) {
    let mut notes = Notes::default();
    ask(&mut notes);
    let outcome = notes.outcome(Vec::new());
    (actions(&outcome), outcome.values.unwrap())
}

fn tcp() -> Row {
    Row::ipv4(protocol::TCP)
        .original("10.0.0.1", "10.0.0.2", 1000, 80)
        .set(field::STATUS, |row| row.status = status::CONFIRMED | status::SEEN_REPLY)
}

fn key() -> Key {
    Key::new(protocol::TCP, "10.0.0.1:1000".parse().unwrap(), "10.0.0.2:80".parse().unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn nothing_asked_is_nothing_said() {
    let flows = batch([tcp()]);
    let flow = flows.flow(0).unwrap();
    let mut notes = Notes::default();
    notes.update(&flow, &Update::new());
    notes.update_at(&key(), &Update::new());
    let outcome = notes.outcome(vec![1]);
    assert_eq!(outcome.verdicts, [1]);
    assert!(outcome.annotations.is_none() && outcome.actions.is_none() && outcome.values.is_none());
}

#[test]
fn actions_keep_their_order() {
    let flows = batch([tcp(), tcp()]);
    let mut notes = Notes::default();
    notes.annotate(&flows.flow(1).unwrap(), "why", 5);
    notes.delete(&flows.flow(1).unwrap());
    notes.update(&flows.flow(0).unwrap(), &Update::new().timeout(5));
    notes.create(&NewFlow::new(key(), 60));
    notes.create_or_update(&NewFlow::new(key(), 60));
    notes.delete_at(&key());
    notes.update_at(&key(), &Update::new().mark(1));
    let outcome = notes.outcome(Vec::new());
    let none = action::NO_ROW;
    assert_eq!(
        actions(&outcome),
        [
            (action::DELETE, 1, none),
            (action::UPDATE, 0, 0),
            (action::CREATE, none, 1),
            (action::CREATE_OR_UPDATE, none, 2),
            (action::DELETE, none, 3),
            (action::UPDATE, none, 4),
        ]
    );
    let annotations = outcome.annotations.unwrap();
    assert_eq!((&annotations.rows[..], annotations.values.get(0)), (&[1][..], Some(&b"5"[..])));
    let values = outcome.values.unwrap();
    assert_eq!(values.length, 5);
    // Columns are complete, or empty if no row has a value.
    for column in [values.timeout.len(), values.mark.len(), values.protocol.len(), values.original.source.lo.len()] {
        assert_eq!(column, 5);
    }
    assert!(values.status.is_empty() && values.state.is_empty() && values.zones.is_none() && values.tcp.is_none());
    let fields = |row: usize| values.flow(row).unwrap().fields();
    assert_eq!(fields(0), field::PROTOCOL | field::TIMEOUT);
    assert_eq!(fields(1), field::TUPLES | field::TIMEOUT);
    assert_eq!(fields(3), field::ORIGINAL);
    assert_eq!(fields(4), field::ORIGINAL | field::MARK | field::MARK_MASK);
    assert_eq!(values.flow(1).unwrap().timeout(), Some(60));
    assert_eq!((values.flow(4).unwrap().mark(), values.flow(4).unwrap().mark_mask()), (Some(1), Some(u32::MAX)));
}

#[test]
fn updates_say_all_that_they_set() {
    let flows = batch([tcp().set(field::LABELS, |row| row.labels = vec![0xff; 16])]);
    let sequence = Sequence { position: 1, before: -2, after: 3 };
    let synproxy = Synproxy { isn: 4, its: 5, tsoff: 6 };
    let update = Update::new()
        .timeout(600)
        .mark_bits(0xff, 0x0f)
        .status(status::ASSURED)
        .status(status::FIXED_TIMEOUT)
        .state(state::TCP_ESTABLISHED)
        .tcp_flags((1, 3), (2, 4))
        .window_scales(7, 8)
        .vtags(9, 9)
        .add_label(1)
        .remove_label(127)
        .helper("ftp")
        .original_sequence(sequence)
        .reply_sequence(Sequence { position: 9, ..sequence })
        .synproxy(synproxy);
    let (actions, values) = one(|notes| notes.update(&flows.flow(0).unwrap(), &update));
    assert_eq!(actions, [(action::UPDATE, 0, 0)]);
    let set = values.flow(0).unwrap();
    assert_eq!(set.timeout(), Some(600));
    assert_eq!((set.mark(), set.mark_mask()), (Some(0x0f), Some(0x0f)));
    let bits = status::CONFIRMED | status::SEEN_REPLY | status::ASSURED | status::FIXED_TIMEOUT;
    assert_eq!(set.status(), Some(bits));
    assert_eq!((set.protocol(), set.state()), (protocol::TCP, Some(state::TCP_ESTABLISHED)));
    assert_eq!(set.tcp_flags(), (Some((1, 3)), Some((2, 4))));
    assert_eq!(set.window_scales(), (Some(7), Some(8)));
    assert_eq!(set.vtags(), (None, None), "tags are of SCTP");
    let (labels, mask) = (set.labels().unwrap(), set.labels_mask().unwrap());
    assert_eq!((labels.len(), labels[0], labels[15]), (16, 2, 0));
    assert_eq!((mask.len(), mask[0], mask[15]), (16, 2, 0x80));
    assert_eq!(set.helper(), Some(&b"ftp"[..]));
    assert_eq!(set.original_sequence(), Some(sequence));
    assert_eq!(set.reply_sequence().unwrap().position, 9);
    assert_eq!(set.synproxy(), Some(synproxy));
    assert_eq!(set.fields() & (field::TUPLES & !field::PROTOCOL), 0, "the row of the batch names the flow");
}

#[test]
fn protocols_get_what_they_have() {
    let details = Update::new().state(3).tcp_flags((1, 1), (1, 1)).window_scales(1, 1).vtags(5, 6);
    let flows = batch([Row::ipv6(protocol::SCTP), Row::ipv4(protocol::UDP), Row::ipv4(protocol::DCCP), tcp()]);
    let mut notes = Notes::default();
    for flow in flows.flows() {
        notes.update(&flow, &details);
    }
    notes.update(&flows.flow(3).unwrap(), &Update::new().tcp_flags((1, 1), (1, 1)).mark(1));
    let values = notes.outcome(Vec::new()).values.unwrap();
    let vtags = field::ORIGINAL_VTAG | field::REPLY_VTAG;
    let tcp =
        field::ORIGINAL_TCP_FLAGS | field::REPLY_TCP_FLAGS | field::ORIGINAL_WINDOW_SCALE | field::REPLY_WINDOW_SCALE;
    let mark = field::MARK | field::MARK_MASK;
    for (row, fields) in [(0, field::STATE | vtags), (1, 0), (2, field::STATE), (3, field::STATE | tcp), (4, mark)] {
        assert_eq!(values.flow(row).unwrap().fields(), field::PROTOCOL | fields, "row {row}");
    }
    assert_eq!(values.flow(0).unwrap().vtags(), (Some(5), Some(6)));
    assert_eq!(values.family, [family::IPV6, family::IPV4, family::IPV4, family::IPV4, family::IPV4]);
}

#[test]
fn labels_are_as_long_as_those_of_the_flow() {
    let sent = |old: Option<usize>, update: Update| {
        let row = match old {
            Some(length) => tcp().set(field::LABELS, |row| row.labels = vec![1; length]),
            None => tcp(),
        };
        let flows = batch([row]);
        let (_, values) = one(|notes| notes.update(&flows.flow(0).unwrap(), &update));
        let set = values.flow(0).unwrap();
        (set.labels().unwrap().to_vec(), set.labels_mask().unwrap().to_vec())
    };
    let bytes = |length: usize, first: u8| {
        let mut bytes = vec![0; length];
        bytes[0] = first;
        bytes
    };
    for (old, length) in [(None, 16), (Some(16), 16), (Some(8), 16), (Some(24), 24), (Some(30), 32)] {
        assert_eq!(sent(old, Update::new().add_label(3)), (bytes(length, 8), bytes(length, 8)));
        assert_eq!(sent(old, Update::new().remove_label(3)), (bytes(length, 0), bytes(length, 8)));
        assert_eq!(sent(old, Update::new().clear_labels()), (bytes(length, 0), vec![0xff; length]));
        assert_eq!(sent(old, Update::new().clear_labels().add_label(0)), (bytes(length, 1), vec![0xff; length]));
    }
    // The last change of a label counts.
    assert_eq!(sent(None, Update::new().add_label(3).remove_label(3)), (bytes(16, 0), bytes(16, 8)));
    assert_eq!(sent(None, Update::new().remove_label(3).add_label(3)), (bytes(16, 8), bytes(16, 8)));
    // The kernel rejects a label that it cannot keep; such a label needs no removal.
    let (bits, mask) = sent(Some(16), Update::new().add_label(200));
    assert_eq!((bits.len(), bits[25], mask.len(), mask[25]), (28, 1, 28, 1));
    assert_eq!(sent(Some(16), Update::new().remove_label(200)), (vec![0; 16], vec![0; 16]));
}

#[test]
fn templates_in_the_kernels_terms() {
    let nat = (0xffff_0102_0304, 0xffff_0102_0304, 5, 6);
    let row = Row::ipv4(0)
        .without(field::ALL)
        .set(field::TIMEOUT | field::STATUS | field::STATE, |row| (row.timeout, row.status, row.state) = (1, 2, 3))
        .set(field::ORIGINAL_TCP_FLAGS | field::REPLY_TCP_FLAGS, |row| row.tcp_flags = (0x0a0b, 0x0c0d))
        .set(field::SOURCE_NAT, |row| row.source_nat = nat)
        .set(field::HELPER, |row| row.helper = b"ftp".to_vec());
    let template = batch([row]);
    let update = Update::of_template(&template.flow(0).unwrap());
    let flows = batch([tcp()]);
    let (_, values) = one(|notes| notes.update(&flows.flow(0).unwrap(), &update));
    let set = values.flow(0).unwrap();
    assert_eq!((set.timeout(), set.state()), (Some(1), Some(3)));
    assert_eq!(set.status(), Some(status::CONFIRMED | status::SEEN_REPLY));
    assert_eq!(set.tcp_flags(), (Some((0x0a, 0x0b)), Some((0x0c, 0x0d))));
    let range = AddressRange::address(ip("1.2.3.4")).ports(5, 6);
    assert_eq!((set.source_nat(), set.destination_nat()), (Some(range), None));
    assert_eq!((set.helper(), set.mark(), set.labels()), (Some(&b"ftp"[..]), None, None));

    // Marks and labels with and without masks; a bit outside the mask stays in the value, and the kernel inverts it.
    let set = |fields: u64| {
        let template = batch([Row::ipv4(0).without(field::ALL).set(fields, |row| {
            (row.mark, row.mark_mask, row.labels, row.labels_mask) = (0x11, 0x0f, vec![3], vec![1]);
        })]);
        let update = Update::of_template(&template.flow(0).unwrap());
        assert_eq!(update.is_empty(), fields == 0);
        update.values_at(protocol::UDP, None)
    };
    assert_eq!(set(0), crate::values::Values::default());
    assert_eq!((set(field::MARK).mark, set(field::MARK).mark_mask), (Some(0x11), Some(u32::MAX)));
    let masked = set(field::MARK | field::MARK_MASK);
    assert_eq!((masked.mark, masked.mark_mask), (Some(0x11), Some(0x0f)));
    let labels = |fields| set(fields).labels_mask.map(|mask| (mask.len(), mask[0], mask[1]));
    assert_eq!(labels(field::LABELS), Some((16, 0xff, 0xff)), "no mask: all are replaced");
    assert_eq!(labels(field::LABELS | field::LABELS_MASK), Some((16, 1, 0)));
}

#[test]
fn flows_outside_the_batch_are_meant_by_key() {
    let icmp = Key::icmp(ip("::1"), ip("::2"), 7, 128, 0).in_zone(9);
    let (actions, values) = one(|notes| {
        notes.delete_at(&icmp);
        notes.update_at(&key(), &Update::new().state(3).status(status::ASSURED).add_label(0).vtags(1, 2));
        notes.delete_at(&Key::bare(50, ip("1.1.1.1"), ip("2.2.2.2")));
    });
    let none = action::NO_ROW;
    assert_eq!(actions, [(action::DELETE, none, 0), (action::UPDATE, none, 1), (action::DELETE, none, 2)]);
    let rows: Vec<Flow<'_>> = values.flows().collect();
    assert_eq!(rows[0].fields(), field::ORIGINAL | field::ZONE);
    assert_eq!(rows[0].key(), icmp);
    let set = field::STATE | field::STATUS | field::LABELS | field::LABELS_MASK;
    assert_eq!(rows[1].fields(), field::ORIGINAL | set);
    assert_eq!((rows[1].key(), rows[1].status()), (key(), Some(status::ASSURED)));
    assert_eq!(rows[2].fields(), field::ORIGINAL & !field::ORIGINAL_L4);
}

#[test]
fn new_flows() {
    let plain = NewFlow::new(key().in_zone(4), 60);
    let master = Key::new(protocol::TCP, "10.0.0.1:2000".parse().unwrap(), "10.0.0.2:21".parse().unwrap()).in_zone(4);
    let sequence = Sequence { position: 1, before: 2, after: -3 };
    let synproxy = Synproxy { isn: 1, its: 2, tsoff: 3 };
    let snat = AddressRange::addresses(ip("192.0.2.1"), ip("192.0.2.9")).ports(1024, 65535);
    let dnat = AddressRange::address(ip("192.0.2.10"));
    let full = NewFlow::new(key(), 3600)
        .reply(Key::new(protocol::UDP, "10.0.0.2:8080".parse().unwrap(), "10.0.0.1:1000".parse().unwrap()))
        .reply_zone(8)
        .original_zone(7)
        .status(status::SEEN_REPLY)
        .mark(5)
        .state(3)
        .tcp_flags((10, 10), (11, 11))
        .window_scales(1, 2)
        .vtags(3, 4)
        .dccp(1, 1 << 40)
        .label(3)
        .label(127)
        .helper("ftp")
        .helper_info(b"xyz")
        .master(master)
        .source_nat(snat)
        .destination_nat(dnat)
        .original_sequence(sequence)
        .reply_sequence(sequence)
        .synproxy(synproxy);
    let (_, values) = one(|notes| {
        notes.create(&plain);
        notes.create(&full);
    });
    let rows: Vec<Flow<'_>> = values.flows().collect();
    assert_eq!(rows[0].fields(), field::TUPLES | field::ZONE | field::TIMEOUT);
    assert_eq!((rows[0].key(), rows[0].reply_key()), (key().in_zone(4), key().in_zone(4).reversed().unwrap()));

    let row = rows[1];
    assert_eq!((row.zone(), row.original_zone(), row.reply_zone()), (None, Some(7), None));
    assert_eq!((row.reply().source_port(), row.protocol()), (8080, protocol::TCP));
    assert_eq!((row.timeout(), row.status(), row.mark()), (Some(3600), Some(status::SEEN_REPLY), Some(5)));
    assert_eq!(row.mark_mask(), None);
    assert_eq!((row.tcp_flags(), row.window_scales()), ((Some((10, 10)), Some((11, 11))), (Some(1), Some(2))));
    assert_eq!((row.vtags(), row.dccp()), ((Some(3), Some(4)), Some((1, 1 << 40))));
    assert_eq!((row.has_label(3), row.has_label(127), row.labels().unwrap().len()), (true, true, 16));
    assert_eq!(row.labels_mask(), None);
    assert_eq!((row.helper(), row.helper_info()), (Some(&b"ftp"[..]), Some(&b"xyz"[..])));
    let related = row.master().unwrap();
    assert_eq!((related.protocol, related.tuple.source_port(), related.zone), (protocol::TCP, 2000, 4));
    assert_eq!((row.source_nat(), row.destination_nat()), (Some(snat), Some(dnat)));
    assert_eq!((row.original_sequence(), row.reply_sequence()), (Some(sequence), Some(sequence)));
    assert_eq!(row.synproxy(), Some(synproxy));

    // The kernel rejects a label that it cannot keep, and an ICMP type without an answer.
    let (_, values) = one(|notes| {
        notes.create(&NewFlow::new(Key::icmp(ip("1.1.1.1"), ip("2.2.2.2"), 1, 3, 0), 5).label(130));
    });
    let row = values.flow(0).unwrap();
    assert_eq!((row.labels().unwrap().len(), row.has(field::REPLY_PROTOCOL)), (20, false));
}

#[test]
fn no_flow_is_in_two_families() {
    let [v4, v6] = [ip("1.1.1.1"), ip("2001:db8::1")];
    let mixed = Key::bare(50, v4, v6);
    let single = Key::bare(50, v4, v4);
    let range = AddressRange::address(v6);
    let (actions, values) = one(|notes| {
        notes.delete_at(&mixed);
        notes.update_at(&mixed, &Update::new().mark(1));
        notes.create(&NewFlow::new(mixed, 1));
        notes.create(&NewFlow::new(single, 1).reply(Key::bare(50, v6, v6)));
        notes.create(&NewFlow::new(single, 1).master(mixed));
        notes.create(&NewFlow::new(single, 1).source_nat(range));
        notes.create(&NewFlow::new(Key::bare(50, v6, v6), 1).destination_nat(AddressRange::address(v4)));
        notes.create(&NewFlow::new(single, 1).source_nat(AddressRange::address(v4)));
    });
    assert_eq!(actions.len(), 8);
    // Without a tuple the request is rejected, which is better than sending half an address.
    for flow in values.flows().take(7) {
        assert_eq!(flow.fields() & field::TUPLES, field::PROTOCOL, "row {}", flow.row());
    }
    assert!(values.flow(7).unwrap().has(field::ORIGINAL_ADDRESSES | field::REPLY_ADDRESSES));
}
