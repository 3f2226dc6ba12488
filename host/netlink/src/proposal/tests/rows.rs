//! What the encoder makes of rows, and what it never makes.

use super::*;
use crate::wire::flow;

#[test]
fn requests_of_whole_rows_are_read_as_the_row() {
    for family in [2, 10] {
        for number in PROTOCOLS {
            let flows = whole(family, number);
            for kind in KINDS {
                let request = propose(kind, None, Some(entry(&flows))).unwrap();
                let proposal = read(request.as_bytes()).unwrap();
                let state = match number {
                    protocol::TCP => {
                        field::STATE
                            | field::ORIGINAL_WINDOW_SCALE
                            | field::REPLY_WINDOW_SCALE
                            | field::ORIGINAL_TCP_FLAGS
                            | field::REPLY_TCP_FLAGS
                    }
                    protocol::SCTP => field::STATE | field::ORIGINAL_VTAG | field::REPLY_VTAG,
                    protocol::DCCP => field::STATE | field::DCCP,
                    _ => 0,
                };
                let of_protocols = field::STATE
                    | field::ORIGINAL_WINDOW_SCALE
                    | field::REPLY_WINDOW_SCALE
                    | field::ORIGINAL_TCP_FLAGS
                    | field::REPLY_TCP_FLAGS
                    | field::ORIGINAL_VTAG
                    | field::REPLY_VTAG
                    | field::DCCP;
                let key = field::ORIGINAL | field::ORIGINAL_ZONE | field::ZONE;
                let reply = field::REPLY | field::REPLY_ZONE;
                let expected = match kind {
                    action::DELETE => key | field::ID,
                    action::UPDATE => SENT & !reply & !of_protocols | state,
                    action::CREATE => SENT & !field::ID & !of_protocols | state,
                    _ => SENT & !of_protocols | state,
                };
                assert_eq!((proposal.kind, proposal.flows.has[0]), (kind, expected), "{number} {kind}");
                assert_eq!(proposal.flows.family, [family]);
                assert_same(&proposal.flows, &flows, expected);
                if kind != action::DELETE {
                    let (one, other) = (proposal.flows.rare.as_ref().unwrap(), flows.rare.as_ref().unwrap());
                    assert_eq!(one.nat, other.nat);
                }
                assert!(holds(request.as_bytes()));
                let longest = kind == action::CREATE_OR_UPDATE && family == 10 && number == protocol::TCP;
                assert_eq!(request.len() == 912, longest);
                assert!(request.len() <= 912);
            }
        }
    }
}

#[test]
fn rows_of_any_content_are_read_as_they_are_sent() {
    let mut random = Random(11);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..40_000 {
        let kind = random.pick(&KINDS);
        let mut next = || random.next();
        let mut rows = Rows(&mut next);
        let (family, number) = rows.kind();
        let complete = rows.below(8) != 0;
        let target = rows.row(family, number, complete);
        // The values have a tuple of another protocol now and then, of which nothing is sent.
        let of = if rows.below(8) == 0 { rows.kind().1 } else { number };
        let mut values = rows.row(family, of, complete);
        if rows.below(2) == 0 {
            values.has[0] &= !field::TUPLES;
        }
        let creates = matches!(kind, action::CREATE | action::CREATE_OR_UPDATE);
        let with_target = !creates && rows.below(4) != 0;
        let target = with_target.then(|| entry(&target));
        let sent = match kind {
            action::DELETE => flows::delete(target.unwrap_or(entry(&values))),
            action::UPDATE => flows::update(target.unwrap_or(entry(&values)), entry(&values)),
            action::CREATE => flows::create(entry(&values), IfExists::Fail),
            _ => flows::create(entry(&values), IfExists::Update),
        };
        let proposed = propose(kind, target, Some(entry(&values)));
        let (sent, proposed) = match (sent, proposed) {
            (Err(error), proposed) => {
                assert_eq!(proposed, Err(error.into()));
                refused += 1;
                continue;
            }
            (Ok(_), Err(ProposeError::Refused(_))) => {
                refused += 1;
                continue;
            }
            (Ok(sent), proposed) => (sent, proposed.unwrap()),
        };
        accepted += 1;
        assert!(holds(proposed.as_bytes()) && holds(sent.as_bytes()));
        let proposal = read(proposed.as_bytes()).unwrap();
        assert_eq!(proposal.kind, kind);
        // All that is sent is in the row, and all of the row is sent.
        let found = decoded(&proposed);
        assert_eq!(found.has[0], proposal.flows.has[0]);
        assert_eq!(found.family, proposal.flows.family);
        assert_same(&proposal.flows, &found, found.has[0]);
        if matches!(kind, action::UPDATE | action::CREATE_OR_UPDATE) {
            // The id is what a proposal says in addition.
            let mut without = proposal.clone();
            without.flows.has[0] &= !field::ID;
            assert_eq!(sent == proposed, without == proposal);
            assert_eq!(without.encode().unwrap(), sent);
        } else {
            assert_eq!(sent, proposed);
        }
    }
    assert!(accepted > 10_000 && refused > 5_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn lookups_are_read_as_the_tuple_that_they_name() {
    for family in [2, 10] {
        for number in PROTOCOLS {
            let flows = whole(family, number);
            let request = flows::get(entry(&flows)).unwrap();
            let read = read_lookup(request.as_bytes()).unwrap();
            assert_eq!(read.has, [field::ORIGINAL | field::ORIGINAL_ZONE | field::ZONE]);
            assert_same(&read, &flows, read.has[0]);
            assert_eq!(flows::get(entry(&read)).unwrap(), request);
            assert_eq!(super::read(request.as_bytes()), Err(ProposalError::MessageType { message_type: 0x0101 }));
            // By the reply tuple alone, and by none.
            let reply = flows::get(entry(&flows).without(field::ORIGINAL)).unwrap();
            assert!(read_lookup(reply.as_bytes()).is_err());
            let none = flows::get(entry(&flows).without(u64::MAX)).unwrap();
            let missing = ProposalError::Missing { path: flow::TUPLE_ORIG.into() };
            assert_eq!(read_lookup(none.as_bytes()), Err(missing));
            for kind in KINDS {
                let other = propose(kind, None, Some(entry(&flows))).unwrap();
                assert!(matches!(read_lookup(other.as_bytes()), Err(ProposalError::MessageType { .. })));
            }
        }
    }
    let mut dump = Request::dump(crate::DumpKind::FLOWS, &crate::DumpFilter::all()).as_bytes().to_vec();
    dump[MESSAGE_HEADER] = family::IPV4;
    assert_eq!(read_lookup(&dump), Err(ProposalError::Flags { flags: wire::REQUEST | wire::DUMP }));
}

#[test]
fn what_the_program_sends_without_a_tuple_cannot_be_proposed() {
    for family in [2, 10] {
        let missing = ProposalError::Missing { path: flow::TUPLE_ORIG.into() };
        assert_eq!(read(flows::flush(family).as_bytes()), Err(missing));
        let everything = crate::filter::ExactFilter::for_family(family);
        let version = ProposalError::Version { version: 1 };
        assert_eq!(read(flows::delete_matching(&everything).as_bytes()), Err(version));
        // A tuple that lacks something.
        let whole = whole(family, protocol::TCP);
        let mut flow = entry(&whole);
        for lacks in [field::SOURCE, field::DESTINATION, field::PROTOCOL, field::SOURCE_L4, field::DESTINATION_L4] {
            flow = entry(&whole).without(lacks);
            for kind in [action::UPDATE, action::CREATE, action::CREATE_OR_UPDATE] {
                let path = flow::TUPLE_ORIG.into();
                let error = ProposalError::IncompleteTuple { path, missing: lacks };
                assert_eq!(propose(kind, None, Some(flow)), Err(error.into()));
            }
            // The encoder names the flow by the reply tuple then.
            assert_eq!(propose(action::DELETE, Some(flow), None), Err(missing.into()));
        }
        let none = flow.without(field::REPLY);
        assert!(matches!(propose(action::DELETE, Some(none), None), Err(ProposeError::Encode(_))));
        let no_reply = entry(&whole).without(field::REPLY_SOURCE);
        let path = flow::TUPLE_REPLY.into();
        let error = ProposalError::IncompleteTuple { path, missing: field::SOURCE };
        assert_eq!(propose(action::CREATE, None, Some(no_reply)), Err(error.into()));
    }
    assert_eq!(propose(action::DELETE, None, None), Err(ProposeError::NoRow));
    let flows = whole(2, protocol::UDP);
    assert_eq!(propose(action::UPDATE, Some(entry(&flows)), None), Err(ProposeError::NoRow));
    for kind in [0, 5, 255] {
        assert_eq!(propose(kind, Some(entry(&flows)), None), Err(ProposeError::Kind(kind)));
    }
}
