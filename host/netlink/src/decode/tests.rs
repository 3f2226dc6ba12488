//! Decoding of every attribute, of malformed messages, and of tens of thousands of mutated ones.

use super::{Arrival, DecodeError, ExpectationDecoder, FlowDecoder, MalformedAttribute, push_counts};
use crate::message::Messages;
use flowgate_model::check;
use flowgate_model::{Counts, Expectations, Flows, event, expectation_field, field};
use flowgate_netlink_testing::{Random, attribute, message, nest, tuple};

const V4: [&[u8]; 2] = [&[10, 0, 0, 1], &[192, 0, 2, 7]];
const V6: [&[u8]; 2] = [
    &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
];

fn reversed([source, destination]: [&[u8]; 2]) -> [&[u8]; 2] {
    [destination, source]
}

fn be32(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn be64(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Decodes a datagram's messages into a fresh batch.
fn decode(datagram: &[u8], wanted: u64, arrival: Arrival) -> Result<Flows, DecodeError> {
    let mut decoder = FlowDecoder::new(wanted);
    let mut flows = Flows::default();
    for message in Messages::new(datagram) {
        decoder.push(&mut flows, &message.unwrap(), arrival)?;
    }
    check::flows(&flows).unwrap();
    Ok(flows)
}

fn entry(family: u8, attributes: &[Vec<u8>]) -> Flows {
    decode(&message(0x0100, 2, 1, 0, family, attributes), field::ALL, Arrival::Entry).unwrap()
}

fn tcp_tuples() -> [Vec<u8>; 2] {
    [tuple(1, V4, 6, [40000, 443]), tuple(2, reversed(V4), 6, [443, 40000])]
}

/// A message with every attribute, in the kernel's order.
fn everything() -> Vec<Vec<u8>> {
    let [original, reply] = tcp_tuples();
    let three = |kind, a, b, c| nest(kind, &[attribute(1, &be32(a)), attribute(2, &be32(b)), attribute(3, &be32(c))]);
    let counters = |kind, packets, bytes| {
        nest(kind, &[attribute(1, &be64(packets)), attribute(2, &be64(bytes)), attribute(5, &[])])
    };
    let nat = |kind, port: u16| {
        nest(
            kind,
            &[
                attribute(1, &[1, 2, 3, 4]),
                attribute(2, &[1, 2, 3, 9]),
                nest(3, &[attribute(1, &port.to_be_bytes()), attribute(2, &(port + 5).to_be_bytes())]),
            ],
        )
    };
    vec![
        original,
        reply,
        attribute(18, &7u16.to_be_bytes()),
        attribute(3, &be32(0x18e)),
        attribute(8, &be32(0xdead_beef)),
        nest(19, &[attribute(1, b"system_u:object_r:x\0")]),
        attribute(12, &be32(0x8123_4567)),
        attribute(11, &be32(2)),
        tuple(14, V4, 6, [2121, 21]),
        attribute(7, &be32(431_999)),
        nest(
            4,
            &[nest(
                1,
                &[
                    attribute(1, &[3]),
                    attribute(2, &[7]),
                    attribute(3, &[9]),
                    attribute(4, &[0x23, 0xff]),
                    attribute(5, &[0x2a, 0]),
                ],
            )],
        ),
        counters(9, 12, 3456),
        counters(10, 10, u64::MAX),
        nest(20, &[attribute(1, &be64(1_700_000_000_000_000_001)), attribute(2, &be64(1_700_000_000_000_000_002))]),
        nest(5, &[attribute(1, b"ftp\0"), attribute(2, &[1, 2, 3])]),
        attribute(22, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]),
        attribute(23, &[0xff, 0, 0, 0]),
        three(15, 1, 2, u32::MAX),
        three(16, 4, 5, 6),
        three(24, 7, 8, 9),
        attribute(17, &be32(5)),
        attribute(21, &be32(0xff)),
        nat(6, 1000),
        nat(13, 2000),
        attribute(27, &be64(1_700_000_000_000_000_003)),
        attribute(99, b"news"),
    ]
}

#[test]
fn every_attribute_of_a_flow() {
    let flows = entry(2, &everything());
    let not_there = field::STATE // asserted below, in place of
        | field::ORIGINAL_ZONE
        | field::REPLY_ZONE
        | field::ORIGINAL_VTAG
        | field::REPLY_VTAG
        | field::DCCP
        | field::ANNOTATIONS
        | field::PORT_ID
        | field::PROGRAM
        | field::NAMESPACE
        | field::NAMESPACE_NAME
        | field::SYNTHETIC;
    assert_eq!(flows.has, [field::ALL & !not_there | field::STATE]);
    assert_eq!((flows.family[0], flows.protocol[0]), (2, 6));
    assert_eq!((flows.original.source.hi[0], flows.original.source.lo[0]), (0, 0xffff_0a00_0001));
    assert_eq!(flows.original.destination.lo[0], 0xffff_c000_0207);
    assert_eq!(flows.reply.source.lo[0], 0xffff_c000_0207);
    assert_eq!(flows.reply.destination.lo[0], 0xffff_0a00_0001);
    assert_eq!((flows.original.source_l4[0], flows.original.destination_l4[0]), (40000, 443));
    assert_eq!((flows.reply.source_l4[0], flows.reply.destination_l4[0]), (443, 40000));
    assert_eq!((flows.status[0], flows.timeout[0], flows.mark[0]), (0x18e, 431_999, 0xdead_beef));
    assert_eq!((flows.use_count[0], flows.id[0], flows.state[0]), (2, 0x8123_4567, 3));
    let zones = flows.zones.unwrap();
    assert_eq!((zones.zone[0], zones.original[0], zones.reply[0]), (7, 0, 0));
    let counters = flows.counters.unwrap();
    assert_eq!((counters.original_packets[0], counters.original_bytes[0]), (12, 3456));
    assert_eq!((counters.reply_packets[0], counters.reply_bytes[0]), (10, u64::MAX));
    let times = flows.times.unwrap();
    assert_eq!((times.start[0], times.stop[0]), (1_700_000_000_000_000_001, 1_700_000_000_000_000_002));
    let tcp = flows.tcp.unwrap();
    assert_eq!((tcp.original_window_scale[0], tcp.reply_window_scale[0]), (7, 9));
    assert_eq!((tcp.original_flags[0], tcp.reply_flags[0]), (0x23ff, 0x2a00));
    assert!(flows.sctp.is_none());
    let events = flows.events.unwrap();
    assert_eq!((events.kind[0], events.time[0]), (event::NONE, 1_700_000_000_000_000_003));
    let rare = flows.rare.unwrap();
    assert_eq!((&*rare.helper.rows, &*rare.helper.texts.bytes), (&[0][..], &b"ftp"[..]));
    assert_eq!(rare.helper_info.texts.bytes, [1, 2, 3]);
    assert_eq!(rare.labels.texts.bytes, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]);
    assert_eq!(rare.labels_mask.texts.bytes, [0xff, 0, 0, 0]);
    assert_eq!(rare.security_context.texts.bytes, b"system_u:object_r:x");
    assert_eq!((rare.secmark[0], rare.mark_mask[0]), (5, 0xff));
    assert_eq!((rare.master.protocol[0], rare.master.zone[0]), (6, 0));
    assert_eq!((rare.master.tuple.source_l4[0], rare.master.tuple.destination_l4[0]), (2121, 21));
    assert_eq!(rare.sequence.rows, [0, 0]);
    assert_eq!(rare.sequence.reply, [0, 1]);
    assert_eq!((rare.sequence.position[1], rare.sequence.before[1], rare.sequence.after[0]), (4, 5, u32::MAX));
    assert_eq!((rare.synproxy.isn[0], rare.synproxy.its[0], rare.synproxy.tsoff[0]), (7, 8, 9));
    assert_eq!((rare.nat.rows, rare.nat.destination), (vec![0, 0], vec![0, 1]));
    assert_eq!((rare.nat.first.lo[0], rare.nat.last.lo[0]), (0xffff_0102_0304, 0xffff_0102_0309));
    assert_eq!((rare.nat.first_port, rare.nat.last_port), (vec![1000, 2000], vec![1005, 2005]));
    assert_eq!((rare.unknown.paths, rare.unknown.payloads.bytes), (vec![99], b"news".to_vec()));
}

#[test]
fn only_what_is_wanted() {
    let mut datagram = message(0x0100, 2, 1, 0, 2, &everything());
    datagram.extend(message(0x0100, 2, 1, 0, 2, &tcp_tuples()));
    for bit in 0..64 {
        let wanted = 1 << bit;
        let flows = decode(&datagram, wanted, Arrival::Entry).unwrap();
        assert!(flows.has.iter().all(|has| has & !wanted == 0), "bit {bit}");
        assert_eq!(flows.length, 2);
        let dense = [
            (flows.mark.len(), field::MARK),
            (flows.status.len(), field::STATUS),
            (flows.original.source.hi.len(), field::SOURCE),
            (flows.protocol.len(), field::PROTOCOL | field::REPLY_PROTOCOL),
            (flows.tcp.as_ref().map_or(0, |tcp| tcp.reply_flags.len()), field::REPLY_TCP_FLAGS),
            (flows.zones.as_ref().map_or(0, |zones| zones.zone.len()), field::ZONE),
        ];
        for (elements, of) in dense {
            assert_eq!(elements, if wanted & of == 0 { 0 } else { 2 }, "bit {bit}");
        }
    }
    let flows = decode(&datagram, field::MARK, Arrival::Entry).unwrap();
    assert!(flows.rare.is_none() && flows.counters.is_none() && flows.tcp.is_none() && flows.events.is_none());
    assert_eq!(flows.mark, [0xdead_beef, 0]);
    assert_eq!(flows.has, [field::MARK, 0]);
}

#[test]
fn ipv6_by_both_layouts() {
    // The fixed layout, and the same with the attributes in another order.
    for turned in [false, true] {
        let mut ports = [attribute(2, &[0, 80]), attribute(3, &[1, 0])];
        if turned {
            ports.reverse();
        }
        let [first, second] = ports;
        let original = nest(
            1,
            &[nest(1, &[attribute(3, V6[0]), attribute(4, V6[1])]), nest(2, &[attribute(1, &[17]), first, second])],
        );
        let flows = entry(10, &[original, tuple(2, reversed(V6), 17, [256, 80])]);
        assert_eq!(flows.has, [field::TUPLES]);
        let source = (flows.original.source.hi[0], flows.original.source.lo[0]);
        let destination = (flows.original.destination.hi[0], flows.original.destination.lo[0]);
        assert_eq!(source, (0x2001_0db8_0000_0000, 1));
        assert_eq!(destination, (0xfe80_0000_0000_0000, 0x0102_0304_0506_0708));
        assert_eq!((flows.reply.source.hi[0], flows.reply.source.lo[0]), destination);
        assert_eq!((flows.original.source_l4[0], flows.original.destination_l4[0]), (80, 256));
        assert_eq!(flows.family, [10]);
    }
}

#[test]
fn icmp_and_protocols_without_ports() {
    let icmp = |kind: u16, number: u8, first: u16, of: u8, code: u8| {
        nest(
            kind,
            &[
                nest(1, &[attribute(1, V4[0]), attribute(2, V4[1])]),
                nest(
                    2,
                    &[
                        attribute(1, &[number]),
                        attribute(first, &[0x12, 0x34]),
                        attribute(first + 1, &[of]),
                        attribute(first + 2, &[code]),
                    ],
                ),
            ],
        )
    };
    for (number, first) in [(1, 4), (58, 7)] {
        let flows = entry(2, &[icmp(1, number, first, 8, 3), icmp(2, number, first, 0, 3)]);
        assert_eq!(flows.has, [field::TUPLES]);
        assert_eq!((flows.original.source_l4[0], flows.original.destination_l4[0]), (0x1234, 0x0803));
        assert_eq!((flows.reply.source_l4[0], flows.reply.destination_l4[0]), (0x1234, 0x0003));
    }
    let bare = nest(1, &[nest(1, &[attribute(1, V4[0]), attribute(2, V4[1])]), nest(2, &[attribute(1, &[89])])]);
    let flows = entry(2, &[bare]);
    assert_eq!(flows.has, [field::ORIGINAL_ADDRESSES | field::PROTOCOL]);
    assert_eq!(flows.protocol, [89]);
}

#[test]
fn zones_of_directions_and_of_the_master() {
    let mut original = tuple(1, V4, 17, [1, 2]);
    original.extend(attribute(3, &9u16.to_be_bytes()));
    let length = (original.len() as u16).to_ne_bytes();
    original[..2].copy_from_slice(&length);
    let mut master = original.clone();
    master[2..4].copy_from_slice(&14u16.to_ne_bytes());
    let flows = entry(2, &[original, master]);
    assert_eq!(flows.has, [field::ORIGINAL | field::ORIGINAL_ZONE | field::MASTER]);
    assert_eq!(flows.zones.unwrap().original, [9]);
    let rare = flows.rare.unwrap();
    assert_eq!((rare.master.zone[0], rare.master.protocol[0], rare.master.tuple.destination_l4[0]), (9, 17, 2));
}

#[test]
fn sctp_and_dccp() {
    let sctp = nest(4, &[nest(3, &[attribute(1, &[4]), attribute(2, &be32(77)), attribute(3, &be32(78))])]);
    let flows = entry(2, &[sctp]);
    assert_eq!(flows.has, [field::STATE | field::ORIGINAL_VTAG | field::REPLY_VTAG]);
    assert_eq!(flows.state, [4]);
    let tags = flows.sctp.unwrap();
    assert_eq!((tags.original_vtag[0], tags.reply_vtag[0]), (77, 78));
    let dccp =
        nest(4, &[nest(2, &[attribute(1, &[5]), attribute(2, &[1]), attribute(3, &be64(99)), attribute(4, &[])])]);
    let flows = entry(2, &[dccp]);
    assert_eq!(flows.has, [field::STATE | field::DCCP]);
    let rare = flows.rare.unwrap();
    assert_eq!((flows.state[0], rare.dccp.role[0], rare.dccp.handshake[0]), (5, 1, 99));
}

#[test]
fn what_does_not_fit_is_kept_raw() {
    let path = |kinds: &[u16]| kinds.iter().fold(0u64, |path, kind| path << 16 | u64::from(*kind));
    let [original, reply] = tcp_tuples();
    let flows = entry(
        2,
        &[
            original,
            // The reply tuple has another protocol.
            {
                let mut other = reply;
                other[32] = 17;
                other
            },
            // Wrong lengths, repetitions, unknown types at several depths.
            attribute(8, &[1, 2]),
            attribute(7, &be32(1)),
            attribute(7, &be32(2)),
            nest(4, &[nest(1, &[attribute(1, &[1, 1]), attribute(9, b"x")]), nest(7, &[attribute(1, b"y")])]),
            nest(20, &[attribute(1, &be32(5))]),
            nest(15, &[attribute(1, &[9])]),
            nest(14, &[nest(1, &[attribute(1, V6[0])])]),
            attribute(22, &[1, 2, 3]),
            attribute(25, &[]),
        ],
    );
    let unknown = flows.rare.unwrap().unknown;
    let mut start = 0;
    let kept: Vec<(u64, &[u8])> = unknown
        .paths
        .iter()
        .zip(&unknown.payloads.ends)
        .map(|(path, end)| {
            let payload = &unknown.payloads.bytes[start..*end as usize];
            start = *end as usize;
            (*path, payload)
        })
        .collect();
    let inner = attribute(1, b"y");
    let expected: Vec<(u64, &[u8])> = vec![
        (path(&[8]), &[1, 2]),
        (path(&[7]), &[0, 0, 0, 2]),
        (path(&[4, 1, 1]), &[1, 1]),
        (path(&[4, 1, 9]), b"x"),
        (path(&[4, 7]), &inner),
        (path(&[20, 1]), &[0, 0, 0, 5]),
        (path(&[15, 1]), &[9]),
        (path(&[14, 1, 1]), V6[0]),
        (path(&[22]), &[1, 2, 3]),
        (path(&[25]), &[]),
        (path(&[2, 2, 1]), &[17]),
    ];
    assert_eq!(kept, expected);
    assert!(unknown.rows.iter().all(|row| *row == 0));
    assert_eq!(flows.has[0], field::TUPLES & !field::REPLY_PROTOCOL | field::TIMEOUT | field::MASTER | field::UNKNOWN);
    assert_eq!((flows.timeout[0], flows.protocol[0]), (1, 6));
}

#[test]
fn a_reply_tuple_alone_gives_the_protocol() {
    let [_, reply] = tcp_tuples();
    let flows = entry(2, &[reply]);
    assert_eq!((flows.has[0], flows.protocol[0]), (field::REPLY, 6));
}

#[test]
fn events_say_how_they_came() {
    let arrival = Arrival::Event { received: 1234, namespace: Some(3) };
    let tuples = tcp_tuples();
    let mut datagram = message(0x0100, 0x600, 0, 77, 2, &tuples);
    datagram.extend(message(0x0100, 0, 0, 0, 2, &tuples));
    datagram.extend(message(0x0102, 0, 0, 5, 2, &tuples));
    let flows = decode(&datagram, field::ALL, arrival).unwrap();
    let events = flows.events.unwrap();
    assert_eq!(events.kind, [event::NEW, event::UPDATE, event::DESTROY]);
    assert_eq!(events.received, [1234; 3]);
    assert_eq!(events.port_id, [77, 0, 5]);
    assert_eq!(events.namespace_id, [3; 3]);
    assert_eq!(events.time, [0; 3]);
    assert_eq!(flows.has, [field::TUPLES | field::PORT_ID | field::NAMESPACE; 3]);

    let mut decoder = FlowDecoder::new(field::ALL);
    let mut flows = Flows::default();
    decoder.push_gap(&mut flows, 9, None).unwrap();
    check::flows(&flows).unwrap();
    assert_eq!(flows.has, [0]);
    let events = flows.events.unwrap();
    assert_eq!((events.kind[0], events.received[0]), (event::GAP, 9));
}

#[test]
fn groups_come_and_go_with_the_rows_that_need_them() {
    let plain = message(0x0100, 2, 1, 0, 2, &tcp_tuples());
    let full = message(0x0100, 2, 1, 0, 2, &everything());
    let mut decoder = FlowDecoder::new(field::ALL);
    let mut flows = Flows::default();
    let mut push = |flows: &mut Flows, datagram: &[u8]| {
        let message = Messages::new(datagram).next().unwrap().unwrap();
        decoder.push(flows, &message, Arrival::Entry).unwrap();
        check::flows(flows).unwrap();
    };
    push(&mut flows, &plain);
    push(&mut flows, &plain);
    assert!(flows.zones.is_none() && flows.counters.is_none() && flows.rare.is_none() && flows.tcp.is_none());
    push(&mut flows, &full);
    push(&mut flows, &plain);
    assert_eq!(flows.zones.as_ref().unwrap().zone, [0, 0, 7, 0]);
    assert_eq!(flows.counters.as_ref().unwrap().original_packets, [0, 0, 12, 0]);
    assert_eq!(flows.tcp.as_ref().unwrap().reply_window_scale, [0, 0, 9, 0]);
    let rare = flows.rare.as_ref().unwrap();
    assert_eq!(rare.secmark, [0, 0, 5, 0]);
    assert_eq!(rare.helper.rows, [2]);
    let zones = flows.zones.as_ref().unwrap().zone.as_ptr();
    decoder.clear(&mut flows);
    assert_eq!(flows, Flows::default());
    let mut push = |flows: &mut Flows, datagram: &[u8]| {
        let message = Messages::new(datagram).next().unwrap().unwrap();
        decoder.push(flows, &message, Arrival::Entry).unwrap();
        check::flows(flows).unwrap();
    };
    push(&mut flows, &full);
    assert_eq!(flows.zones.as_ref().unwrap().zone.as_ptr(), zones, "the allocation lives on");
    assert_eq!(flows.length, 1);
}

#[test]
fn a_malformed_message_leaves_the_batch_as_it_was() {
    let mut decoder = FlowDecoder::new(field::ALL);
    let mut flows = Flows::default();
    let good = message(0x0100, 2, 1, 0, 2, &tcp_tuples());
    decoder.push(&mut flows, &Messages::new(&good).next().unwrap().unwrap(), Arrival::Entry).unwrap();
    let before = flows.clone();
    let mut attributes = everything();
    let mut inner = attribute(2, &be64(1));
    inner[..2].copy_from_slice(&40u16.to_ne_bytes());
    attributes.push(nest(9, &[attribute(1, &be64(1)), inner]));
    let bad = message(0x0100, 2, 1, 0, 2, &attributes);
    let error = decoder.push(&mut flows, &Messages::new(&bad).next().unwrap().unwrap(), Arrival::Entry).unwrap_err();
    let malformed = MalformedAttribute::Length { kind: 2, offset: 12, length: 40, left: 12 };
    assert_eq!(error, DecodeError::Attribute { path: 9, malformed });
    assert_eq!(error.to_string(), "in attribute 9: attribute 2 at 12 claims 40 bytes, but 12 are left");
    assert_eq!(flows, before);
    let short = flowgate_netlink_testing::raw_message(0x0100, 0, 1, 0, &[2]);
    let error = decoder.push(&mut flows, &Messages::new(&short).next().unwrap().unwrap(), Arrival::Entry).unwrap_err();
    assert_eq!(error, DecodeError::Header { length: 1 });
    assert_eq!(flows, before);
}

#[test]
fn every_attribute_of_an_expectation() {
    let attributes = [
        tuple(2, V4, 6, [0, 5000]),
        tuple(3, V4, 6, [0, 0xffff]),
        tuple(1, reversed(V4), 6, [39676, 2121]),
        nest(10, &[attribute(1, &be32(1)), tuple(2, V4, 6, [1, 2])]),
        attribute(4, &be32(300)),
        attribute(5, &be32(0x1234)),
        attribute(7, &8u16.to_be_bytes()),
        attribute(8, &be32(3)),
        attribute(9, &be32(2)),
        attribute(6, b"ftp\0"),
        attribute(11, b"nat-follow-master\0"),
        attribute(12, b"?"),
    ];
    let mut decoder = ExpectationDecoder::new();
    let mut batch = Expectations::default();
    let datagram = message(0x0200, 0x600, 0, 55, 2, &attributes);
    let event = Arrival::Event { received: 1, namespace: None };
    decoder.push(&mut batch, &Messages::new(&datagram).next().unwrap().unwrap(), event).unwrap();
    let datagram = message(0x0200, 2, 0, 0, 2, &[tuple(2, V4, 17, [1, 2])]);
    decoder.push(&mut batch, &Messages::new(&datagram).next().unwrap().unwrap(), Arrival::Entry).unwrap();
    check::expectations(&batch).unwrap();
    let all = (1 << 15) - 1;
    assert_eq!(
        batch.has,
        [all | expectation_field::PORT_ID, expectation_field::EXPECTED | expectation_field::EXPECTED_L4]
    );
    assert_eq!(batch.event, [event::NEW, event::NONE]);
    assert_eq!(batch.protocol, [6, 17]);
    assert_eq!(batch.expected.destination_l4, [5000, 2]);
    assert_eq!((batch.mask.destination_l4[0], batch.mask_protocol[0]), (0xffff, 6));
    assert_eq!((batch.master.source.lo[0], batch.master.source_l4[0]), (0xffff_c000_0207, 39676));
    assert_eq!((batch.timeout[0], batch.id[0], batch.zone[0], batch.flags[0]), (300, 0x1234, 8, 3));
    assert_eq!((batch.class_number[0], batch.port_id[0]), (2, 55));
    assert_eq!(batch.helper.texts.bytes, b"ftp");
    assert_eq!(batch.function.texts.bytes, b"nat-follow-master");
    let nat = batch.nat.as_ref().unwrap();
    assert_eq!((nat.direction[0], nat.protocol[0], nat.tuple.destination_l4[0]), (1, 6, 2));
    assert_eq!(batch.unknown.as_ref().unwrap().paths, [12]);
    decoder.clear(&mut batch);
    assert_eq!(batch, Expectations::default());
    decoder.push_gap(&mut batch).unwrap();
    check::expectations(&batch).unwrap();
    assert_eq!(batch.event, [event::GAP]);
}

#[test]
fn statistics_of_cpus_and_of_the_table() {
    let mut counts = Counts::default();
    for cpu in 0..2u8 {
        let mut datagram = message(0x0104, 2, 1, 0, 0, &[attribute(2, &be32(5)), attribute(15, &be32(6 + cpu as u32))]);
        datagram[19] = cpu;
        push_counts(&mut counts, &Messages::new(&datagram).next().unwrap().unwrap()).unwrap();
    }
    let expected = Counts {
        subject: 0,
        cpus: vec![0, 1],
        rows: vec![0, 0, 1, 1],
        attributes: vec![2, 15, 2, 15],
        values: vec![5, 6, 5, 7],
        ..Counts::default()
    };
    assert_eq!(counts, expected);
    let mut bad = message(0x0104, 2, 1, 0, 0, &[attribute(2, &be32(5)), attribute(3, &be32(1))]);
    bad[28..30].copy_from_slice(&99u16.to_ne_bytes());
    push_counts(&mut counts, &Messages::new(&bad).next().unwrap().unwrap()).unwrap_err();
    assert_eq!(counts, expected);
    let mut counts = Counts::default();
    let datagram = message(0x0105, 2, 1, 0, 0, &[attribute(1, &be32(5)), attribute(2, &be32(262_144))]);
    push_counts(&mut counts, &Messages::new(&datagram).next().unwrap().unwrap()).unwrap();
    assert_eq!((counts.subject, counts.cpus.len(), counts.values), (2, 0, vec![5, 262_144]));
    let mut counts = Counts::default();
    let datagram = message(0x0103, 2, 1, 0, 0, &[attribute(1, &be32(5))]);
    push_counts(&mut counts, &Messages::new(&datagram).next().unwrap().unwrap()).unwrap();
    assert_eq!((counts.subject, counts.cpus.len()), (1, 1));
}

/// Mutated messages do not panic, columns stay consistent, and a refused message leaves them unchanged.
#[test]
fn mutations() {
    let sctp = nest(4, &[nest(3, &[attribute(1, &[4]), attribute(2, &be32(77)), attribute(3, &be32(78))])]);
    let dccp = nest(4, &[nest(2, &[attribute(1, &[5]), attribute(2, &[1]), attribute(3, &be64(99))])]);
    let seeds = [
        message(0x0100, 2, 1, 0, 2, &everything()),
        message(0x0100, 0x600, 0, 9, 10, &[tuple(1, V6, 17, [1, 2]), tuple(2, reversed(V6), 17, [2, 1]), sctp]),
        message(0x0102, 0, 0, 9, 2, &[tuple(1, V4, 33, [1, 2]), dccp, attribute(27, &be64(1))]),
        message(
            0x0200,
            0x600,
            0,
            9,
            2,
            &[tuple(1, V4, 6, [1, 2]), tuple(2, V4, 6, [1, 2]), nest(10, &[tuple(2, V4, 6, [1, 2])])],
        ),
    ];
    let mut random = Random(0x5eed_5eed_5eed_5eed);
    let mut flows = (FlowDecoder::new(field::ALL), Flows::default());
    let mut expectations = (ExpectationDecoder::new(), Expectations::default());
    let mut counts = Counts::default();
    let (mut taken, mut refused) = (0, 0);
    for round in 0..60_000 {
        let mut datagram = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            let place = random.below(datagram.len());
            match random.below(5) {
                0 => datagram[place] = random.next() as u8,
                1 => datagram[place] ^= 1 << random.below(8),
                2 => datagram[place] = random.pick(&[0, 1, 4, 5, 0x7f, 0x80, 0xff]),
                3 => datagram.truncate(place.max(1)),
                _ => {
                    // A piece is copied elsewhere, which repeats and misplaces attributes.
                    let from = random.below(datagram.len()) & !3;
                    let piece = datagram[from..(from + 4 * random.below(16)).min(datagram.len())].to_vec();
                    let at = place & !3;
                    datagram.splice(at..at, piece);
                }
            }
        }
        if round % 4 == 0 {
            flows.0.clear(&mut flows.1);
            flows.0 = FlowDecoder::new(if round % 8 == 0 { field::ALL } else { random.next() });
            expectations.0.clear(&mut expectations.1);
            counts = Counts::default();
        }
        let arrival = random.pick(&[
            Arrival::Entry,
            Arrival::Event { received: 1, namespace: None },
            Arrival::Event { received: 1, namespace: Some(4) },
        ]);
        for message in Messages::new(&datagram).map_while(Result::ok) {
            let _ = message.content();
            let before = flows.1.clone();
            match flows.0.push(&mut flows.1, &message, arrival) {
                Ok(()) => {
                    taken += 1;
                    assert_eq!(flows.1.length, before.length + 1);
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                    assert_eq!(flows.1, before);
                }
            }
            check::flows(&flows.1).unwrap();
            assert!(flows.1.has.iter().all(|has| has & !flows.0.wanted() == 0));
            let before = expectations.1.clone();
            if expectations.0.push(&mut expectations.1, &message, arrival).is_err() {
                assert_eq!(expectations.1, before);
            }
            check::expectations(&expectations.1).unwrap();
            let _ = push_counts(&mut counts, &message);
        }
    }
    assert!(taken > 1000 && refused > 1000, "{taken} taken, {refused} refused");
}
