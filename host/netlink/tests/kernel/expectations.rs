//! Expectations: created, looked up, deleted, flushed; and their events.

use flowgate_model::check;
use flowgate_model::{Expectations, Rare, event, expectation_field, field, status};
use flowgate_netlink::decode::{Arrival, ExpectationDecoder};
use flowgate_netlink::encode::expectations;
use flowgate_netlink::{
    BatchSender, Dump, DumpError, DumpFilter, DumpKind, ExpectationEntry, Messages, RECEIVE_LENGTH, Request,
    RequestResult, Socket, SocketOptions, entries, group,
};
use flowgate_test_support::Namespace;

use crate::rows::{Rows, dump_all, mapped, socket};

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
    Namespace::run(|namespace| {
        // By default, entries that are created without a subscriber never have events, and neither do their
        // expectations.
        namespace.set("netfilter/nf_conntrack_events", 1);
        let mut rows = Rows::default();
        rows.add(2, 6, [mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])], [2121, 21], 3);
        rows.give(0, field::HELPER | field::STATUS);
        rows.0.status[0] = status::ASSURED | status::SEEN_REPLY;
        let mut rare = Rare::default();
        rare.helper.rows.push(0);
        rare.helper.texts.bytes.extend(b"ftp");
        rare.helper.texts.ends.push(3);
        rows.0.rare = Some(rare);
        let mut sender = BatchSender::new(socket());
        let mut results = Vec::new();
        sender.submit(&rows.requests(), &mut results).unwrap();
        assert_eq!(results, [RequestResult::Done], "the kernel has no helper for FTP");
        let dumped = dump_all();
        assert_eq!(dumped.rare.as_ref().unwrap().helper.texts.bytes, b"ftp");

        let tuples = |source: [u8; 4], destination: [u8; 4], l4: [u16; 2]| flowgate_model::Tuples {
            source: flowgate_model::Addresses { hi: vec![0], lo: vec![mapped(source).lo] },
            destination: flowgate_model::Addresses { hi: vec![0], lo: vec![mapped(destination).lo] },
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
        let listener =
            Socket::open(&SocketOptions { groups: group::EXPECTATIONS, ..SocketOptions::default() }).unwrap();
        let entry = ExpectationEntry::new(&wanted, 0).unwrap();
        let mut results = Vec::new();
        let create = expectations::create(entry, true).unwrap();
        sender.submit(&[create.clone(), create], &mut results).unwrap();
        assert_eq!(results, [RequestResult::Done, RequestResult::Refused { errno: libc::EEXIST, text: None }]);

        let all = Request::dump(DumpKind::EXPECTATIONS, &DumpFilter::all());
        let batch = dump_expectations(&all).unwrap();
        assert_eq!(batch.length, 1);
        assert_eq!(batch.expected.destination_l4, [5000]);
        assert_eq!(batch.expected.source.lo, wanted.expected.source.lo);
        assert_eq!((&batch.master, &batch.mask.source.lo), (&wanted.master, &wanted.mask.source.lo));
        assert_eq!(batch.has[0] & bits::UNKNOWN, 0);
        let found = ExpectationEntry::new(&batch, 0).unwrap();
        assert_eq!(dump_expectations(&expectations::dump_by_master(found).unwrap()).unwrap().length, 1);
        let mut got = 0;
        let mut results = Vec::new();
        sender.exchange(&[expectations::get(entry).unwrap()], &mut results, &mut |_, _| got += 1).unwrap();
        assert_eq!((got, &*results), (1, &[RequestResult::Done][..]));
        let mut results = Vec::new();
        let delete = expectations::delete(found).unwrap();
        sender.submit(&[delete.clone(), delete], &mut results).unwrap();
        assert_eq!(results, [RequestResult::Done, RequestResult::Refused { errno: libc::ENOENT, text: None }]);
        assert_eq!(dump_expectations(&all).unwrap().length, 0);
        assert_eq!(dump_expectations(&expectations::dump_by_master(entry).unwrap()).unwrap().length, 0);

        let mut results = Vec::new();
        let create = expectations::create(entry, true).unwrap();
        let of_helper = expectations::delete_by_helper(b"ftp").unwrap();
        sender.submit(&[create.clone(), of_helper, create, expectations::flush(0)], &mut results).unwrap();
        assert_eq!(results, vec![RequestResult::Done; 4]);
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
        assert_eq!(batch.port_id[0], sender.port());
        assert!(expectations::delete_by_helper(b"").is_err());
    });
}
