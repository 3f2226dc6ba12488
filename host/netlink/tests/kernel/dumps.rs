//! Dumps: refused, aborted, restarted; and dumps of tables other than the flow table.

use flowgate_model::Counts;
use flowgate_model::Table;
use flowgate_netlink::decode::push_counts;
use flowgate_netlink::encode::flows;
use flowgate_netlink::{Dump, DumpError, DumpFilter, DumpKind, FlowEntry, RECEIVE_LENGTH, Request, Stop, entries};
use flowgate_test_support::Namespace;

use crate::rows::{Rows, all_protocols, dump, mapped, socket};

#[test]
fn dumps_that_are_refused_or_stopped() {
    Namespace::run(|_| {
        all_protocols().create();
        // A second dump on a socket is refused while the first is in progress, which needs more than one datagram.
        let mut rows = Rows::default();
        for port in 1..2000 {
            rows.add(2, 17, [mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])], [port, 2], 3);
        }
        rows.create();
        let request = Request::dump(DumpKind::FLOWS, &DumpFilter::all());
        let mut buffer = vec![0; RECEIVE_LENGTH];
        let mut first = Dump::start(socket(), &request).unwrap();
        let stop = Stop::new().unwrap();
        assert!(first.next(&mut buffer, Some(&stop)).unwrap().is_some());
        stop.stop();
        assert!(matches!(first.next(&mut buffer, Some(&stop)), Err(DumpError::Stopped)));
        assert!(matches!(first.next(&mut buffer, Some(&stop)), Ok(None)));
        // The socket of an abandoned dump can be used for another one.
        let again = first.into_socket().unwrap();
        let mut second = Dump::start(again, &request).unwrap();
        let mut count = 0;
        while let Some(length) = second.next(&mut buffer, None).unwrap() {
            count += entries(&buffer[..length], second.sequence()).count();
        }
        assert_eq!(count, 2009);
        // A GET of a flow that does not exist.
        let mut missing = Rows::default();
        missing.add(2, 17, [mapped([1, 1, 1, 1]), mapped([10, 0, 0, 2])], [7, 2], 3);
        let get = flows::get(FlowEntry::new(&missing.0, 0).unwrap()).unwrap();
        let mut dump = Dump::start(socket(), &get).unwrap();
        let error = dump.next(&mut buffer, None).unwrap_err();
        assert_eq!(error.errno(), libc::ENOENT);
        let get = flows::get(FlowEntry::new(&rows.0, 0).unwrap()).unwrap();
        let mut dump = Dump::start(socket(), &get).unwrap();
        assert!(dump.next(&mut buffer, None).unwrap().is_some());
        assert!(dump.next(&mut buffer, None).unwrap().is_none());
    });
}

#[test]
fn statistics_and_other_dumps() {
    Namespace::run(|_| {
        all_protocols().create();
        let mut buffer = vec![0; RECEIVE_LENGTH];
        for (request, subject) in [
            (Request::dump(DumpKind::CpuStatistics, &DumpFilter::all()), 0),
            (Request::dump(DumpKind::ExpectationStatistics, &DumpFilter::all()), 1),
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
        for table in [DumpKind::Table(Table::Dying), DumpKind::Table(Table::Unconfirmed)] {
            assert_eq!(dump(&Request::dump(table, &DumpFilter::family_only(2))).unwrap().length, 0);
        }
        let zeroed = dump(&Request::dump(DumpKind::FlowsAndZero, &DumpFilter::family_only(10))).unwrap();
        assert_eq!(zeroed.length, 4);
    });
}
