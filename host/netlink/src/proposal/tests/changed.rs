//! Requests that somebody has changed.

use super::*;
use crate::{
    decode::attribute::child,
    wire::{NESTED, TYPE_MASK, align, flow, part, protoinfo, tuple},
};
use flowgate_netlink_testing::{attribute, nest};

/// An attribute of a request, to be changed and written again.
#[derive(Debug, Clone, PartialEq)]
struct Node {
    kind: u16,
    parts: Vec<Node>,
    payload: Vec<u8>,
}

fn parse(mut bytes: &[u8]) -> Vec<Node> {
    let mut nodes = Vec::new();
    while let [l0, l1, k0, k1, ..] = *bytes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let (kind, payload) = (u16::from_ne_bytes([k0, k1]), &bytes[4..length]);
        let nested = kind & NESTED != 0;
        nodes.push(Node {
            kind,
            parts: if nested { parse(payload) } else { Vec::new() },
            payload: if nested { Vec::new() } else { payload.to_vec() },
        });
        bytes = &bytes[align(length)..];
    }
    nodes
}

fn write(nodes: &[Node]) -> Vec<u8> {
    let one = |node: &Node| match node.kind & NESTED {
        0 => attribute(node.kind, &node.payload),
        _ => attribute(node.kind, &write(&node.parts)),
    };
    nodes.iter().flat_map(one).collect()
}

/// A request with these attributes in place of its own.
fn with(request: &[u8], attributes: &[u8]) -> Vec<u8> {
    let mut changed = [&request[..MIN_LENGTH], attributes].concat();
    let length = changed.len() as u32;
    changed[..4].copy_from_slice(&length.to_ne_bytes());
    changed
}

/// Calls `change` with each list of attributes in a request, the outermost one first; what it returns are requests.
fn each_list(nodes: &mut Vec<Node>, path: u64, change: &mut dyn FnMut(&mut Vec<Node>, u64)) -> usize {
    change(nodes, path);
    let mut lists = 1;
    for node in nodes.iter_mut().filter(|node| node.kind & NESTED != 0) {
        lists += each_list(&mut node.parts, child(path, node.kind & TYPE_MASK), change);
    }
    lists
}

/// Returns the requests that arise if `change` is applied to the list number `index` of attributes.
fn changed(request: &[u8], index: usize, change: &mut dyn FnMut(&mut Vec<Node>)) -> Vec<u8> {
    let mut nodes = parse(&request[MIN_LENGTH..]);
    let mut number = 0;
    each_list(&mut nodes, 0, &mut |list, _| {
        if number == index {
            change(list);
        }
        number += 1;
    });
    with(request, &write(&nodes))
}

#[test]
fn attributes_that_are_repeated_misplaced_unknown_or_missing() {
    let mut accepted = 0;
    for request in requests() {
        let nodes = parse(&request[MIN_LENGTH..]);
        assert_eq!(with(&request, &write(&nodes)), request);
        let lists = each_list(&mut nodes.clone(), 0, &mut |_, _| ());
        for list in 0..lists {
            let mut length = 0;
            changed(&request, list, &mut |nodes| length = nodes.len());
            for at in 0..length {
                let refused = |what: &str, change: &mut dyn FnMut(&mut Vec<Node>)| {
                    let changed = changed(&request, list, change);
                    let error = read(&changed).expect_err(what);
                    assert!(!error.to_string().is_empty());
                    error
                };
                // Repeated beside itself, and at the end.
                let error = refused("repeated", &mut |nodes| nodes.insert(at, nodes[at].clone()));
                // Between two attributes of which each needs the other, one is missing.
                assert!(
                    matches!(
                        error,
                        ProposalError::Repeated { .. } | ProposalError::Length { .. } | ProposalError::Missing { .. }
                    ),
                    "{error}"
                );
                refused("repeated at the end", &mut |nodes| nodes.push(nodes[at].clone()));
                // Of a type that there is not, and with flags.
                for kind in [0, 63, 64, 200, 0x3fff] {
                    let error = refused("unknown", &mut |nodes| nodes[at].kind = nodes[at].kind & NESTED | kind);
                    assert!(
                        matches!(
                            error,
                            ProposalError::Unknown { .. }
                                | ProposalError::Missing { .. }
                                | ProposalError::IncompleteTuple { .. }
                                | ProposalError::Superfluous { .. }
                        ),
                        "{error}"
                    );
                }
                refused("a flag", &mut |nodes| nodes[at].kind |= 0x4000);
                refused("another nest", &mut |nodes| {
                    let node = &mut nodes[at];
                    if node.kind & NESTED != 0 {
                        (node.payload, node.parts) = (write(&node.parts), Vec::new());
                    }
                    node.kind ^= NESTED;
                });
                // Longer, and with something behind it.
                refused("longer", &mut |nodes| {
                    let node = &mut nodes[at];
                    if node.kind & NESTED != 0 {
                        node.parts.push(Node { kind: 62, parts: Vec::new(), payload: Vec::new() });
                    } else {
                        node.payload.extend([1; 300]);
                    }
                });
                // Missing, or in another place: some of these are requests too.
                for other in 0..length {
                    let moved = changed(&request, list, &mut |nodes| {
                        let node = nodes.remove(at);
                        if other != at {
                            nodes.insert(other, node);
                        }
                    });
                    accepted += usize::from(holds(&moved));
                }
            }
        }
    }
    assert!(accepted > 500, "{accepted}");
}

#[test]
fn a_changed_byte_and_a_cut() {
    let (mut accepted, mut refused) = (0, 0);
    for request in requests() {
        for at in 0..request.len() {
            let byte = request[at];
            let values = (0..8).map(|bit| byte ^ 1 << bit).chain([0, 1, 4, 0x7f, 0xff, byte.wrapping_add(1)]);
            for value in values.filter(|&value| value != byte) {
                let mut changed = request.clone();
                changed[at] = value;
                match holds(&changed) {
                    true => accepted += 1,
                    false => refused += 1,
                }
            }
            // Cut without and with the right length.
            assert!(read(&request[..at]).is_err());
            if at >= MIN_LENGTH {
                holds(&with(&request, &request[MIN_LENGTH..at]));
            }
        }
        let longer = [request.as_slice(), &[0]].concat();
        let length = longer.len();
        assert!(matches!(read(&longer), Err(ProposalError::ClaimedLength { length: found, .. }) if found == length));
        for more in [vec![0], vec![0; 3], vec![0; 4], vec![4, 0, 0, 0], vec![0xff; 4]] {
            assert!(read(&with(&request, &[&request[MIN_LENGTH..], &more].concat())).is_err(), "{more:?}");
        }
    }
    assert!(accepted > 10_000 && refused > 10_000, "{accepted} accepted, {refused} refused");
}

/// The header of a request, with one field changed.
#[test]
fn headers() {
    let flows = whole(10, protocol::TCP);
    let request = propose(action::UPDATE, None, Some(entry(&flows))).unwrap();
    let length = request.len();
    let cases: [(&str, usize, &[u8], ProposalError); 12] = [
        ("longer", 0, &904u32.to_ne_bytes(), ProposalError::ClaimedLength { claimed: 904, length }),
        ("most", 0, &[0xff; 4], ProposalError::ClaimedLength { claimed: u32::MAX, length }),
        ("zero", 0, &[0; 4], ProposalError::ClaimedLength { claimed: 0, length }),
        ("expectations", 4, &0x0200u16.to_ne_bytes(), ProposalError::MessageType { message_type: 0x0200 }),
        ("a look-up", 4, &0x0101u16.to_ne_bytes(), ProposalError::MessageType { message_type: 0x0101 }),
        ("a packet filter", 4, &0x0a00u16.to_ne_bytes(), ProposalError::MessageType { message_type: 0x0a00 }),
        ("an end", 4, &3u16.to_ne_bytes(), ProposalError::MessageType { message_type: 3 }),
        ("a number", 8, &[1, 1, 1, 1], ProposalError::Sequence { sequence: 0x0101_0101 }),
        ("a port", 12, &[1, 1, 1, 1], ProposalError::Port { port: 0x0101_0101 }),
        ("both families", 16, &[0], ProposalError::Family { family: 0 }),
        ("a whole family", 17, &[1], ProposalError::Version { version: 1 }),
        ("a resource", 18, &[1, 2], ProposalError::Resource { resource: 0x0102 }),
    ];
    for (name, at, bytes, error) in cases {
        let mut changed = request.as_bytes().to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(read(&changed), Err(error), "{name}");
    }
    let accepted = |message: u16| {
        let with_flags = |flags: u16| {
            let mut changed = request.as_bytes().to_vec();
            changed[4..6].copy_from_slice(&message.to_ne_bytes());
            changed[6..8].copy_from_slice(&flags.to_ne_bytes());
            let read = read(&changed);
            let refused = matches!(read, Err(ProposalError::Flags { flags: found }) if found == flags);
            (!refused).then_some(flags)
        };
        (0..=u16::MAX).filter_map(with_flags).collect::<Vec<_>>()
    };
    // REQUEST and ACK; with CREATE; with CREATE and EXCL.
    assert_eq!(accepted(0x0100), [0x005, 0x405, 0x605]);
    assert_eq!(accepted(0x0102), [0x005]);
    for length in (0..MIN_LENGTH).chain([MAX_LENGTH + 1, 1 << 20]) {
        assert_eq!(read(&vec![0; length]), Err(ProposalError::Length { length }));
        assert_eq!(read_lookup(&vec![0; length]), Err(ProposalError::Length { length }));
    }
}

/// What is wrong in one place, by name.
#[test]
fn values_that_the_encoder_does_not_write() {
    let path = |kinds: &[u16]| kinds.iter().fold(0, |path, kind| child(path, *kind));
    let number = |kind: u16, number: u32| attribute(kind, &number.to_be_bytes());
    let words = |first: u16, second: u16, number: u8| {
        let parts = [attribute(1, &[number]), attribute(2, &first.to_be_bytes()), attribute(3, &second.to_be_bytes())];
        nest(tuple::PROTO, &parts)
    };
    let addresses = || nest(tuple::IP, &[attribute(3, &[1; 16]), attribute(4, &[2; 16])]);
    let key = |number: u8| nest(flow::TUPLE_ORIG, &[addresses(), words(1, 2, number)]);
    let of = |kind: u16, number: u8, parts: Vec<u8>| {
        [key(number), nest(flow::PROTOINFO, &[attribute(kind | NESTED, &parts)])].concat()
    };
    let tcp = |parts: &[Vec<u8>]| [key(protocol::TCP), parts.concat()].concat();
    let flows = whole(10, protocol::TCP);
    let update = propose(action::UPDATE, None, Some(entry(&flows))).unwrap();
    let create = propose(action::CREATE, None, Some(entry(&flows))).unwrap();
    let update = |attributes: Vec<u8>| read(&with(update.as_bytes(), &attributes));
    let cases: Vec<(&str, Vec<u8>, ProposalError)> = vec![
        ("nothing", Vec::new(), ProposalError::Missing { path: 1 }),
        ("an empty tuple", nest(1, &[]), ProposalError::IncompleteTuple { path: 1, missing: 0x13 }),
        (
            "an address of IPv4",
            nest(1, &[nest(1, &[attribute(1, &[1; 4]), attribute(2, &[2; 4])]), words(1, 2, 6)]),
            ProposalError::Unknown { path: path(&[1, 1, 1]) },
        ),
        (
            "a short address",
            nest(1, &[nest(1, &[attribute(3, &[1; 15])]), words(1, 2, 6)]),
            ProposalError::PayloadLength { path: path(&[1, 1, 3]), length: 15, least: 16, most: 16 },
        ),
        ("ports of ICMP", key(protocol::ICMP), ProposalError::Unknown { path: path(&[1, 2, 2]) }),
        ("a status without CONFIRMED", tcp(&[number(3, 4)]), ProposalError::Status { status: 4, forbidden: 0 }),
        ("a mask without mark", tcp(&[number(21, 4)]), ProposalError::Unknown { path: 21 }),
        ("a security mark", tcp(&[number(17, 4)]), ProposalError::Unknown { path: 17 }),
        ("a security context", tcp(&[nest(19, &[attribute(1, b"x\0")])]), ProposalError::Unknown { path: 19 }),
        ("a filter", tcp(&[nest(25, &[])]), ProposalError::Unknown { path: 25 }),
        ("counters", tcp(&[nest(9, &[])]), ProposalError::Unknown { path: 9 }),
        (
            "a reply tuple of an update",
            tcp(&[nest(2, &[addresses(), words(1, 2, 6)])]),
            ProposalError::Unknown { path: 2 },
        ),
        ("a state of no protocol", tcp(&[nest(4, &[])]), ProposalError::Missing { path: path(&[4, 1]) }),
        ("no state", of(protoinfo::TCP, 6, Vec::new()), ProposalError::Superfluous { path: path(&[4, 1]) }),
        (
            "the state of another protocol",
            of(protoinfo::SCTP, 6, attribute(1, &[1])),
            ProposalError::Unknown { path: path(&[4, 3]) },
        ),
        (
            "the state of a protocol without",
            of(protoinfo::TCP, 17, attribute(1, &[1])),
            ProposalError::Unknown { path: path(&[4, 1]) },
        ),
        (
            "a role without a number",
            of(protoinfo::DCCP, 33, attribute(2, &[1])),
            ProposalError::Missing { path: path(&[4, 2, 3]) },
        ),
        (
            "a number without a role",
            of(protoinfo::DCCP, 33, attribute(3, &[1; 8])),
            ProposalError::Unknown { path: path(&[4, 2, 3]) },
        ),
        (
            "a translation to ::",
            tcp(&[nest(flow::NAT_DST, &[attribute(part::NAT_V6_MAXIP, &[0; 16])])]),
            ProposalError::Superfluous { path: path(&[13, 5]) },
        ),
        (
            "a translation to port 0",
            tcp(&[nest(flow::NAT_SRC, &[nest(part::NAT_PROTO, &[attribute(1, &[0; 2]), attribute(2, &[0; 2])])])]),
            ProposalError::Superfluous { path: path(&[6, 3]) },
        ),
        (
            "a translation to half a range",
            tcp(&[nest(flow::NAT_SRC, &[nest(part::NAT_PROTO, &[attribute(1, &[1; 2])])])]),
            ProposalError::Missing { path: path(&[6, 3, 2]) },
        ),
        (
            "half an adjustment",
            tcp(&[nest(15, &[number(1, 1), number(2, 2)])]),
            ProposalError::Missing { path: path(&[15, 3]) },
        ),
        (
            "a helper without name",
            tcp(&[nest(5, &[attribute(2, b"info")])]),
            ProposalError::Missing { path: path(&[5, 1]) },
        ),
        ("a helper without NUL", tcp(&[nest(5, &[attribute(1, b"ftp")])]), ProposalError::HelperName),
        ("a helper with two", tcp(&[nest(5, &[attribute(1, b"f\0p\0")])]), ProposalError::HelperName),
        (
            "a long helper",
            tcp(&[nest(5, &[attribute(1, b"sixteen-letters!\0")])]),
            ProposalError::PayloadLength { path: path(&[5, 1]), length: 17, least: 1, most: 16 },
        ),
        (
            "long data of a helper",
            tcp(&[nest(5, &[attribute(1, b"ftp\0"), attribute(2, &[0; 257])])]),
            ProposalError::PayloadLength { path: path(&[5, 2]), length: 257, least: 0, most: 256 },
        ),
        (
            "no labels",
            tcp(&[attribute(22, &[])]),
            ProposalError::PayloadLength { path: 22, length: 0, least: 4, most: 16 },
        ),
        (
            "many labels",
            tcp(&[attribute(22, &[0; 20])]),
            ProposalError::PayloadLength { path: 22, length: 20, least: 4, most: 16 },
        ),
        ("labels that are no words", tcp(&[attribute(23, &[0; 7])]), ProposalError::Words { path: 23, length: 7 }),
        (
            "a master in zone 0",
            tcp(&[nest(14, &[addresses(), words(1, 2, 6), attribute(3, &[0; 2])])]),
            ProposalError::Superfluous { path: 14 },
        ),
        (
            "a master with words that it has not",
            tcp(&[nest(14, &[addresses(), words(1, 2, 99)])]),
            ProposalError::Superfluous { path: 14 },
        ),
        (
            "a master without words that it has",
            tcp(&[nest(14, &[addresses(), nest(2, &[attribute(1, &[47])])])]),
            ProposalError::IncompleteTuple { path: 14, missing: field::ORIGINAL_L4 },
        ),
        (
            "a nest of nests",
            (0..50).fold(Vec::new(), |inner, _| nest(1, &[inner])),
            ProposalError::Unknown { path: path(&[1, 1, 1]) },
        ),
        (
            "an attribute of no length",
            tcp(&[vec![0; 4]]),
            ProposalError::AttributeLength { path: 0, length: 0, left: 4 },
        ),
        (
            "one shorter than its header",
            tcp(&[[3u16.to_ne_bytes(), 7u16.to_ne_bytes()].concat()]),
            ProposalError::AttributeLength { path: 7, length: 3, left: 4 },
        ),
        (
            "one longer than the rest",
            tcp(&[[9u16.to_ne_bytes(), 7u16.to_ne_bytes()].concat(), vec![0; 4]]),
            ProposalError::AttributeLength { path: 7, length: 9, left: 8 },
        ),
        (
            "one whose padding is not there",
            tcp(&[[6u16.to_ne_bytes(), 18u16.to_ne_bytes()].concat(), vec![0; 2]]),
            ProposalError::AttributeLength { path: 18, length: 6, left: 6 },
        ),
        (
            "one whose padding is something",
            tcp(&[[6u16.to_ne_bytes(), 18u16.to_ne_bytes()].concat(), vec![0, 7, 0, 1]]),
            ProposalError::Padding { path: 18 },
        ),
        (
            "one that is longer than the nest that it is in",
            [attribute(1 | NESTED, &[&20u16.to_ne_bytes()[..], &[1, 0]].concat()), vec![0; 16]].concat(),
            ProposalError::AttributeLength { path: path(&[1, 1]), length: 20, left: 4 },
        ),
        ("bytes at the end", tcp(&[vec![0; 3]]), ProposalError::AttributeHeader { path: 0, left: 3 }),
        ("the id behind the zone", tcp(&[attribute(18, &[0, 1]), number(12, 1)]), ProposalError::Order { path: 12 }),
        ("a timeout behind the mark", tcp(&[number(8, 1), number(7, 1)]), ProposalError::Order { path: 7 }),
        ("a mark twice", tcp(&[number(8, 1), number(8, 1)]), ProposalError::Repeated { path: 8 }),
        (
            "a translation twice, with the other one between them",
            tcp(&[nest(6, &[]), nest(13, &[]), nest(6, &[])]),
            ProposalError::Repeated { path: 6 },
        ),
        (
            "a flag of a number",
            tcp(&[number(8 | 0x4000, 1)]),
            ProposalError::AttributeFlags { path: 8, flags: 0x4000, expected: 0 },
        ),
        (
            "a nest without flag",
            tcp(&[attribute(6, &[])]),
            ProposalError::AttributeFlags { path: 6, flags: 0, expected: NESTED },
        ),
    ];
    for (name, attributes, error) in cases {
        assert_eq!(update(attributes), Err(error), "{name}");
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
    let reply = nest(2, &[addresses(), words(1, 2, 17)]);
    let create = |attributes: Vec<u8>| read(&with(create.as_bytes(), &attributes));
    let both = || [key(17), reply.clone()].concat();
    let master = nest(14, &[addresses(), words(1, 2, 17)]);
    for (name, attributes, error) in [
        ("no reply tuple", key(17), ProposalError::Missing { path: 2 }),
        ("another protocol", [key(6), reply.clone()].concat(), ProposalError::Protocols { original: 6, reply: 17 }),
        ("an id", [both(), number(12, 1)].concat(), ProposalError::Unknown { path: 12 }),
        ("DYING", [both(), number(3, 0x208)].concat(), ProposalError::Status { status: 0x208, forbidden: 0x200 }),
        (
            "EXPECTED of a flow with a master",
            [both(), number(3, 9), master.clone()].concat(),
            ProposalError::Status { status: 9, forbidden: 0x201 },
        ),
    ] {
        assert_eq!(create(attributes), Err(error), "{name}");
    }
    for accepted in [both(), [both(), number(3, 9)].concat(), [both(), number(3, 8), master].concat()] {
        create(accepted).unwrap();
    }
    // The same table with nothing wrong.
    for attributes in [
        key(6),
        tcp(&[number(12, 1), attribute(18, &[0, 1]), number(8, 1), number(21, 1)]),
        tcp(&[nest(13, &[]), nest(6, &[])]),
        of(protoinfo::DCCP, 33, [attribute(2, &[1]), attribute(3, &[1; 8])].concat()),
        tcp(&[nest(5, &[attribute(1, b"\0"), attribute(2, &[])])]),
    ] {
        update(attributes).unwrap();
    }
}
