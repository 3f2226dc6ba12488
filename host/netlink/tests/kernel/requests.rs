//! Requests: creations, updates, deletions, lookups and flushes, one by one and in batches, and the kernel's replies.

use flowgate_model::{Flows, Rare, Zones, field, status};
use flowgate_netlink::decode::{Arrival, FlowDecoder};
use flowgate_netlink::encode::flows;
use flowgate_netlink::filter::ExactFilter;
use flowgate_netlink::{BatchSender, EncodeError, FlowEntry, RequestResult, Socket, SocketOptions};
use flowgate_test_support::{Namespace, Program};

use crate::rows::{Rows, all_protocols, dump_all, mapped, row_with_mark, socket};

#[test]
fn what_is_created_is_dumped() {
    Namespace::run(|_| {
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
                // The kernel reports SYNPROXY for every TCP entry that was created through netlink.
                assert_ne!(found.has[other] & field::SYNPROXY, 0);
            }
        }
    });
}

#[test]
fn zones_nat_and_what_conntrack_makes() {
    Namespace::run(|_| {
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
        // The reply of the third collides with that of the first, since its zone applies to the original direction
        // only.
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
        // Each one is found and deleted by its own row, including the zone.
        let mut sender = BatchSender::new(socket());
        for mark in [2, 3, 1, 4] {
            let row = row_with_mark(&dumped, mark);
            let mut results = Vec::new();
            let mut found = Vec::new();
            let entry = FlowEntry::new(&dumped, row).unwrap();
            let mut decoder = FlowDecoder::new(field::ALL);
            let mut batch = Flows::default();
            sender
                .exchange(&[flows::get(entry).unwrap()], &mut results, &mut |number, message| {
                    found.push(number);
                    decoder.push(&mut batch, message, Arrival::Entry).unwrap();
                })
                .unwrap();
            assert_eq!((results, found, batch.mark[0]), (vec![RequestResult::Done], vec![0], mark));
            let mut results = Vec::new();
            let request = flows::delete(entry).unwrap();
            sender.submit(&[request.clone(), request], &mut results).unwrap();
            assert_eq!(results, [RequestResult::Done, RequestResult::Refused { errno: libc::ENOENT, text: None }]);
        }
        assert_eq!(dump_all().length, 0);
        let line = "-I -p tcp -s 1.1.1.1 -d 2.2.2.2 --sport 10 --dport 20 --state SYN_SENT -t 100 -m 7 -w 3";
        Program::new("conntrack").must(&line.split(' ').collect::<Vec<_>>());
        let dumped = dump_all();
        assert_eq!((dumped.length, dumped.mark[0], dumped.state[0]), (1, 7, 1));
        assert_eq!(dumped.zones.unwrap().zone, [3]);
        assert_eq!(dumped.original.source.lo, [mapped([1, 1, 1, 1]).lo]);
    });
}

#[test]
fn updates_and_deletions_by_id() {
    Namespace::run(|_| {
        let rows = all_protocols();
        rows.create();
        let dumped = dump_all();
        let row = row_with_mark(&dumped, 1);
        let entry = FlowEntry::new(&dumped, row).unwrap();
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
        let update = flows::update(entry, FlowEntry::new(&values, 0).unwrap()).unwrap();
        let mut sender = BatchSender::new(socket());
        let mut results = Vec::new();
        sender.submit(&[update], &mut results).unwrap();
        assert_eq!(results, [RequestResult::Done]);
        let updated = dump_all();
        let row = row_with_mark(&updated, 0x51);
        assert_eq!((updated.state[row], updated.status[row]), (5, status::SEEN_REPLY | status::CONFIRMED));
        assert!((70..=77).contains(&updated.timeout[row]));
        // With a different id it is a different flow.
        let mut other = updated.clone();
        other.id[row] ^= 1;
        let wrong = flows::delete(FlowEntry::new(&other, row).unwrap()).unwrap();
        let reply = flows::delete(FlowEntry::new(&updated, row).unwrap().without(field::SOURCE)).unwrap();
        let mut results = Vec::new();
        sender.submit(&[wrong, reply], &mut results).unwrap();
        assert_eq!(results, [RequestResult::Refused { errno: libc::ENOENT, text: None }, RequestResult::Done]);
        assert_eq!(dump_all().length, rows.0.length - 1);
        // Without a complete tuple no request can be encoded.
        for missing in [field::SOURCE, field::DESTINATION, field::PROTOCOL, field::DESTINATION_L4] {
            let entry = FlowEntry::new(&updated, row_with_mark(&updated, 2)).unwrap();
            assert_eq!(
                flows::delete(entry.without(missing | field::REPLY)),
                Err(EncodeError::IncompleteTuple { missing })
            );
        }
    });
}

#[test]
fn flush_by_family_and_whole() {
    Namespace::run(|_| {
        let rows = all_protocols();
        rows.create();
        let mut sender = BatchSender::new(socket());
        let mut results = Vec::new();
        sender.submit(&[flows::delete_matching(&ExactFilter::for_family(10))], &mut results).unwrap();
        assert_eq!(results, [RequestResult::Done]);
        assert!(dump_all().family.iter().all(|family| *family == 2));
        assert_eq!(dump_all().length, 6);
        sender.submit(&[flows::flush(0)], &mut results).unwrap();
        assert_eq!(dump_all().length, 0);
    });
}

#[test]
fn large_batches_match_errors_to_their_requests() {
    Namespace::run(|_| {
        let mut rows = Rows::default();
        for number in 0..3000u32 {
            // Every seventh exists already.
            let port = if number % 7 == 6 { number - 1 } else { number };
            rows.add(2, 17, [mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])], [port as u16 + 1, 9], number);
        }
        let requests = rows.requests();
        for receive_buffer in [None, Some(8 << 20)] {
            let mut sender =
                BatchSender::new(Socket::open(&SocketOptions { receive_buffer, ..SocketOptions::default() }).unwrap());
            let mut results = Vec::new();
            sender.submit(&requests, &mut results).unwrap();
            assert_eq!(results.len(), 3000);
            for (number, result) in results.iter().enumerate() {
                let expected = if number % 7 == 6 {
                    RequestResult::Refused { errno: libc::EEXIST, text: None }
                } else {
                    RequestResult::Done
                };
                assert_eq!(*result, expected, "{number}");
            }
            let mut results = Vec::new();
            // All of them are refused: the replies must still fit.
            sender.submit(&requests, &mut results).unwrap();
            assert!(results.iter().all(|result| *result == RequestResult::Refused { errno: libc::EEXIST, text: None }));
            // A request that fails between two GETs gets its own result.
            let mut results = Vec::new();
            let mut got = Vec::new();
            let get = |row| flows::get(FlowEntry::new(&rows.0, row).unwrap()).unwrap();
            let mixed = [get(0), requests[0].clone(), get(1)];
            sender.exchange(&mixed, &mut results, &mut |number, _| got.push(number)).unwrap();
            assert_eq!(got, [0, 2]);
            assert_eq!(results[1], RequestResult::Refused { errno: libc::EEXIST, text: None });
            let mut results = Vec::new();
            sender.submit(&[flows::flush(0)], &mut results).unwrap();
            sender.exchange(&[get(5)], &mut results, &mut |_, _| panic!("there is nothing")).unwrap();
            assert_eq!(results, [RequestResult::Done, RequestResult::Refused { errno: libc::ENOENT, text: None }]);
        }
    });
}

/// Without the privilege the kernel replies only to the first request of a datagram; no replies to the others are
/// awaited.
#[test]
#[allow(unsafe_code, reason = "libc's own setresuid would apply to the threads of all tests")]
fn without_privileges_all_of_a_batch_is_refused() {
    const NOBODY: libc::uid_t = 65534;
    const UNCHANGED: libc::uid_t = libc::uid_t::MAX;
    Namespace::run(|_| {
        let mut rows = Rows::default();
        for number in 0..100 {
            rows.add(2, 17, [mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])], [number + 1, 9], 0);
        }
        let gets: Vec<_> = (0..100).map(|row| flows::get(FlowEntry::new(&rows.0, row).unwrap()).unwrap()).collect();
        let mut sender = BatchSender::new(socket());
        // SAFETY: this system call takes three numbers and touches no memory. The thread ends with the namespace.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, UNCHANGED, NOBODY, UNCHANGED) }, 0);
        for requests in [&gets[..], &rows.requests(), &gets[..1]] {
            let mut results = Vec::new();
            sender.exchange(requests, &mut results, &mut |_, _| panic!("nothing is shown")).unwrap();
            let refused = RequestResult::Refused { errno: libc::EPERM, text: None };
            assert_eq!(results, vec![refused; requests.len()]);
        }
    });
}

#[test]
fn a_malformed_request_is_explained_by_the_kernel() {
    Namespace::run(|_| {
        let mut rows = Rows::default();
        rows.add(2, 6, [mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])], [2121, 21], 3);
        rows.give(0, field::LABELS);
        let mut rare = Rare::default();
        rare.labels.rows.push(0);
        rare.labels.texts.bytes.extend([0; 64]);
        rare.labels.texts.ends.push(64);
        rows.0.rare = Some(rare);
        let mut results = Vec::new();
        BatchSender::new(socket()).submit(&rows.requests(), &mut results).unwrap();
        let [RequestResult::Refused { errno, text: Some(text) }] = &*results else { panic!("{results:?}") };
        assert_eq!(*errno, libc::ERANGE);
        assert!(!text.is_empty());
    });
}
