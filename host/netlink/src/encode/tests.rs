//! Encoding: decoded messages are encoded to the same bytes, and columns may have any length.

use super::{EncodeError, ExpectationEntry, FlowEntry, expectations, flows};
use crate::decode::{Arrival, ExpectationDecoder, FlowDecoder};
use crate::message::Messages;
use crate::request::Request;
use crate::wire;
use flowgate_model::{Expectations, Flows, Rare, expectation_field, field, status};
use flowgate_netlink_testing::{Random, attribute, message, nest, tuple};

const V4: [&[u8]; 2] = [&[10, 0, 0, 1], &[192, 0, 2, 7]];
const V6: [&[u8]; 2] = [&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[0xff; 16]];

fn decode(datagram: &[u8]) -> Flows {
    let mut flows = Flows::default();
    let message = Messages::new(datagram).next().unwrap().unwrap();
    FlowDecoder::new(field::ALL).push(&mut flows, &message, Arrival::Entry).unwrap();
    flows
}

fn again(request: &Request) -> Flows {
    decode(request.as_bytes())
}

fn triple(kind: u16, numbers: [u32; 3]) -> Vec<u8> {
    let parts: Vec<_> = (1..).zip(numbers).map(|(kind, number)| attribute(kind, &number.to_be_bytes())).collect();
    nest(kind, &parts)
}

/// Attributes of a creation of this family, with the protocol's own attributes.
fn creatable(family: u8, protocol: u8, protoinfo: Vec<u8>) -> Vec<u8> {
    let addresses = if family == 2 { V4 } else { V6 };
    let [low, high]: [u16; 2] = if family == 2 { [1, 2] } else { [4, 5] };
    let nat = |kind| {
        nest(
            kind,
            &[
                attribute(low, addresses[0]),
                attribute(high, addresses[1]),
                nest(3, &[attribute(1, &[1, 0]), attribute(2, &[2, 0])]),
            ],
        )
    };
    message(
        0x0100,
        2,
        1,
        0,
        family,
        &[
            tuple(1, addresses, protocol, [1, 2]),
            tuple(2, [addresses[1], addresses[0]], protocol, [2, 1]),
            attribute(18, &[0, 9]),
            attribute(3, &(status::CONFIRMED | status::ASSURED).to_be_bytes()),
            attribute(7, &300u32.to_be_bytes()),
            attribute(8, &5u32.to_be_bytes()),
            attribute(21, &0xffu32.to_be_bytes()),
            protoinfo,
            tuple(14, addresses, 6, [2121, 21]),
            nat(6),
            nat(13),
            triple(15, [1, 2, 3]),
            triple(16, [4, 5, 6]),
            nest(5, &[attribute(1, b"ftp\0"), attribute(2, b"opaque")]),
            attribute(22, &[1, 2, 3, 4, 5, 6, 7, 8]),
            attribute(23, &[9; 8]),
            triple(24, [7, 8, 9]),
        ],
    )
}

#[test]
fn a_creation_carries_everything() {
    let tcp = nest(
        4,
        &[nest(
            1,
            &[
                attribute(1, &[3]),
                attribute(2, &[7]),
                attribute(3, &[9]),
                attribute(4, &[0x23, 0xff]),
                attribute(5, &[0x2a, 0xff]),
            ],
        )],
    );
    let sctp = nest(4, &[nest(3, &[attribute(1, &[4]), attribute(2, &[0, 0, 0, 7]), attribute(3, &[0, 0, 0, 8])])]);
    let dccp = nest(4, &[nest(2, &[attribute(1, &[5]), attribute(2, &[1]), attribute(3, &9u64.to_be_bytes())])]);
    for family in [2, 10] {
        for (protocol, protoinfo) in [(6, tcp.clone()), (132, sctp.clone()), (33, dccp.clone())] {
            let wanted = decode(&creatable(family, protocol, protoinfo));
            assert_eq!(wanted.has[0] & field::UNKNOWN, 0);
            let request = flows::create(FlowEntry::new(&wanted, 0).unwrap(), flows::IfExists::Fail).unwrap();
            assert_eq!(request.flags(), wire::REQUEST | wire::ACK | wire::CREATE | wire::EXCLUSIVE);
            assert_eq!(request.message_type(), 0x0100);
            assert_eq!(again(&request), wanted);
            // As an update: the original tuple is the key, the other fields are the values.
            let entry = FlowEntry::new(&wanted, 0).unwrap();
            let updated = again(&flows::update(entry, entry).unwrap());
            assert_eq!(updated.has[0], wanted.has[0] & !field::REPLY);
        }
    }
}

#[test]
fn icmp_tuples_and_the_status_of_a_creation() {
    for (family, protocol, first) in [(2, 1, 4), (10, 58, 7)] {
        let addresses = if family == 2 {
            [attribute(1, V4[0]), attribute(2, V4[1])]
        } else {
            [attribute(3, V6[0]), attribute(4, V6[1])]
        };
        let parts = [
            attribute(1, &[protocol]),
            attribute(first, &[0, 7]),
            attribute(first + 1, &[8]),
            attribute(first + 2, &[1]),
        ];
        let original = nest(1, &[nest(1, &addresses), nest(2, &parts)]);
        let bits = status::EXPECTED | status::DYING | status::ASSURED;
        let bits = attribute(3, &bits.to_be_bytes());
        let wanted = decode(&message(0x0100, 2, 1, 0, family, &[original.clone(), bits.clone()]));
        let entry = FlowEntry::new(&wanted, 0).unwrap();
        let made = again(&flows::create(entry, flows::IfExists::Update).unwrap());
        assert_eq!((&made.original, made.protocol[0]), (&wanted.original, protocol));
        assert_eq!(made.status, [status::EXPECTED | status::ASSURED | status::CONFIRMED]);
        // The kernel sets EXPECTED itself if there is a master, and refuses it otherwise.
        let master = nest(14, &[nest(1, &addresses), nest(2, &parts)]);
        let related = decode(&message(0x0100, 2, 1, 0, family, &[original, master, bits]));
        let made = again(&flows::create(FlowEntry::new(&related, 0).unwrap(), flows::IfExists::Update).unwrap());
        assert_eq!(made.status, [status::ASSURED | status::CONFIRMED]);
        assert_eq!(again(&flows::delete(entry).unwrap()).has, [field::ORIGINAL]);
        assert_eq!(again(&flows::get(entry).unwrap()).has, [field::ORIGINAL]);
    }
}

#[test]
fn deletions_never_lack_a_tuple() {
    let whole = decode(&creatable(2, 6, attribute(4, &[])));
    for without in 0..1u64 << 10 {
        let entry = FlowEntry::new(&whole, 0).unwrap().without(without);
        let original = without & field::ORIGINAL == 0;
        let reply = without & field::REPLY == 0;
        match flows::delete(entry) {
            Ok(request) => {
                let sent = again(&request);
                assert_eq!(sent.has[0] & field::ORIGINAL == field::ORIGINAL, original);
                assert!(original || reply && sent.has[0] & field::REPLY == field::REPLY);
            }
            Err(error) => {
                assert!(!original && !reply);
                assert!(matches!(error, EncodeError::IncompleteTuple { missing } if missing != 0), "{error}");
            }
        }
    }
    // A flush is the only deletion without attributes.
    let flush = flows::flush(0);
    assert_eq!(&flush.as_bytes()[16..], [0, 0, 0, 0]);
    assert_eq!(&flows::flush(10).as_bytes()[16..], [10, 0, 0, 0]);
    assert_eq!((flush.message_type(), flush.flags()), (0x0102, wire::REQUEST | wire::ACK));
}

#[test]
fn rows_that_cannot_be() {
    let mut batch = decode(&creatable(2, 6, attribute(4, &[])));
    assert_eq!(FlowEntry::new(&batch, 1).unwrap_err(), EncodeError::Row { row: 1, length: 1 });
    let long = |flows: &mut Flows, length: usize| {
        let rare = flows.rare.as_mut().unwrap();
        rare.helper.texts.bytes = vec![b'x'; length];
        rare.helper.texts.ends = vec![length as u32];
    };
    long(&mut batch, 16);
    let create = |flows: &Flows| flows::create(FlowEntry::new(flows, 0).unwrap(), flows::IfExists::Fail);
    assert!(matches!(create(&batch), Err(EncodeError::TooLong { length: 16, limit: 15, .. })));
    batch.rare.as_mut().unwrap().helper.texts.bytes[3] = 0;
    assert!(matches!(create(&batch), Err(EncodeError::Name { .. })));
    let twice = |change: fn(&mut Rare)| {
        let mut flows = decode(&creatable(2, 6, attribute(4, &[])));
        change(flows.rare.as_mut().unwrap());
        create(&flows)
    };
    assert!(matches!(twice(|rare| rare.nat.destination = vec![1, 1]), Err(EncodeError::Repeated { .. })));
    assert!(matches!(twice(|rare| rare.sequence.reply = vec![0, 0]), Err(EncodeError::Repeated { .. })));
    batch.rare = Some(Rare::default());
    assert!(create(&batch).is_ok());
    batch.family[0] = 1;
    assert_eq!(create(&batch), Err(EncodeError::Family { family: 1 }));
}

/// Columns of any length with any bits: no panic, and no deletion without a tuple.
#[test]
fn inconsistent_columns() {
    let whole = decode(&creatable(2, 6, attribute(4, &[])));
    let mut random = Random(77);
    for _ in 0..5_000 {
        let mut batch = whole.clone();
        batch.has[0] = random.next() | if random.below(2) == 0 { field::TUPLES } else { 0 };
        batch.family[0] = random.pick(&[2, 10, 10, 2, 0]);
        batch.protocol[0] = random.pick(&[6, 17, 1, 58, 33, 132, 47, 89]);
        let rare = batch.rare.as_mut().unwrap();
        match random.below(10) {
            0 => batch.mark.clear(),
            1 => batch.original.source.hi.clear(),
            2 => batch.reply.destination_l4.clear(),
            3 => rare.helper.texts.ends = vec![u32::MAX],
            4 => rare.helper.texts.ends.clear(),
            5 => rare.labels.rows = vec![5],
            6 => rare.nat.rows = vec![0; 9],
            7 => rare.sequence.position.clear(),
            8 => batch.zones = None,
            _ => rare.master.tuple = Default::default(),
        }
        let entry = FlowEntry::new(&batch, 0).unwrap();
        let _ = flows::create(entry, flows::IfExists::Update);
        let _ = flows::update(entry, entry);
        let _ = flows::get(entry);
        if let Ok(request) = flows::delete(entry) {
            let sent = again(&request).has[0];
            assert!(sent & field::ORIGINAL_ADDRESSES != 0 || sent & field::REPLY_ADDRESSES != 0);
        }
    }
}

#[test]
fn expectations_round_trip() {
    let attributes = [
        tuple(2, V4, 6, [0, 5000]),
        tuple(3, V4, 6, [0, 0xffff]),
        tuple(1, V4, 6, [39676, 2121]),
        nest(10, &[attribute(1, &[0, 0, 0, 1]), tuple(2, V4, 6, [1, 2])]),
        attribute(4, &[0, 0, 1, 0]),
        attribute(5, &[1, 2, 3, 4]),
        attribute(7, &[0, 8]),
        attribute(8, &[0, 0, 0, 3]),
        attribute(9, &[0, 0, 0, 2]),
        attribute(6, b"ftp\0"),
        attribute(11, b"nat-follow-master\0"),
    ];
    let decode = |datagram: &[u8]| {
        let mut batch = Expectations::default();
        let message = Messages::new(datagram).next().unwrap().unwrap();
        ExpectationDecoder::new().push(&mut batch, &message, Arrival::Entry).unwrap();
        batch
    };
    let wanted = decode(&message(0x0200, 2, 1, 0, 2, &attributes));
    let entry = ExpectationEntry::new(&wanted, 0).unwrap();
    let made = decode(expectations::create(entry, true).unwrap().as_bytes());
    let mut expected = wanted.clone();
    // The id is assigned by the kernel.
    expected.has[0] &= !expectation_field::ID;
    expected.id[0] = 0;
    assert_eq!(made, expected);
    let deleted = decode(expectations::delete(entry).unwrap().as_bytes());
    use expectation_field as bits;
    assert_eq!(deleted.has, [bits::EXPECTED | bits::EXPECTED_L4 | bits::ID | bits::ZONE]);
    let mut lacking = wanted.clone();
    for bit in [bits::EXPECTED, bits::EXPECTED_L4] {
        lacking.has[0] = wanted.has[0] & !bit;
        let error = expectations::delete(ExpectationEntry::new(&lacking, 0).unwrap()).unwrap_err();
        assert!(matches!(error, EncodeError::IncompleteTuple { .. }));
    }
    assert_eq!(expectations::flush(0).message_type(), 0x0202);
    assert_eq!(expectations::get(entry).unwrap().flags(), wire::REQUEST);
}
