//! Events: of flows that are created, changed and destroyed, of other namespaces; and overruns.

use std::time::Duration;

use flowgate_model::check;
use flowgate_model::{Flows, event, field};
use flowgate_netlink::decode::{Arrival, FlowDecoder};
use flowgate_netlink::encode::flows;
use flowgate_netlink::{
    BatchSender, FlowEntry, Messages, RECEIVE_LENGTH, RequestResult, Socket, SocketError, SocketOptions, Stop,
    WakeReason, group,
};
use flowgate_test_support::Namespace;

use crate::rows::{Rows, all_protocols, mapped, socket};

#[test]
fn events_of_one_flow() {
    Namespace::run(|namespace| {
        namespace.account(true);
        let listener = Socket::open(&SocketOptions { groups: group::FLOWS, ..SocketOptions::default() }).unwrap();
        let mut rows = Rows::default();
        let row = rows.add(2, 6, [mapped([10, 0, 0, 1]), mapped([10, 0, 0, 2])], [1, 2], 3);
        let mut sender = BatchSender::new(socket());
        let entry = FlowEntry::new(&rows.0, row).unwrap();
        let mut results = Vec::new();
        let requests = [
            flows::create(entry, flows::IfExists::Fail).unwrap(),
            flows::update(entry, entry).unwrap(),
            flows::delete(entry).unwrap(),
        ];
        sender.submit(&requests, &mut results).unwrap();
        assert_eq!(results, [RequestResult::Done, RequestResult::Done, RequestResult::Done]);
        let stop = Stop::new().unwrap();
        assert_eq!(listener.wait(Some(&stop), Some(Duration::from_secs(2))).unwrap(), WakeReason::Readable);
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
        assert_eq!(events.port_id, [sender.port(); 3]);
        assert_eq!(batch.mark, [3, 3, 3]);
        assert_ne!(batch.has[2] & field::COUNTERS, 0);
        assert_ne!(batch.has[2] & field::STOP, 0);
        assert_eq!(batch.has.iter().fold(0, |all, has| all | has) & field::UNKNOWN, 0, "{:?}", batch.rare);
        assert_eq!(listener.wait(Some(&stop), Some(Duration::from_millis(5))).unwrap(), WakeReason::TimedOut);
        stop.stop();
        assert_eq!(listener.wait(Some(&stop), None).unwrap(), WakeReason::Stopped);
        assert!(listener.dropped().unwrap() == 0);
    });
}

#[test]
fn an_overrun_is_reported() {
    Namespace::run(|_| {
        let options = SocketOptions { groups: group::NEW, receive_buffer: Some(20 * 1024), ..SocketOptions::default() };
        let listener = Socket::open(&options).unwrap();
        assert_eq!(listener.receive_buffer(), 40 * 1024);
        let quiet = Socket::open(&SocketOptions { no_overrun_errors: true, ..options }).unwrap();
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
        // A buffer that is too short is reported, too.
        rows.create_one_more();
        assert!(matches!(listener.try_receive(&mut buffer[..40]), Err(SocketError::Truncated { buffer: 40 })));
    });
}

impl Rows {
    /// Creates a flow that does not exist yet.
    fn create_one_more(&self) {
        let mut rows = Rows::default();
        rows.add(2, 17, [mapped([10, 9, 9, 1]), mapped([10, 0, 0, 2])], [1, 2], 3);
        rows.create();
    }
}

#[test]
fn events_of_another_namespace_say_which() {
    Namespace::run(|namespace| {
        let listener =
            Socket::open(&SocketOptions { groups: group::NEW, all_namespaces: true, ..SocketOptions::default() })
                .unwrap();
        let (identify, identified) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            Namespace::run(move |namespace| {
                // Without a subscriber in that namespace, the kernel sends nothing by default.
                namespace.set("netfilter/nf_conntrack_events", 1);
                identify.send(nix::unistd::gettid()).unwrap();
                if gone.recv().is_ok() {
                    all_protocols().create();
                }
            });
        });
        // A link into the other namespace makes the kernel assign an id to it.
        let thread = identified.recv().unwrap();
        namespace.ip(&format!("link add here type veth peer name there netns {thread}"));
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

/// The kernel's treatment of invalid sizes: the argument of `-b` is passed on unchanged.
#[test]
fn a_receive_buffer_has_a_least_size() {
    Namespace::run(|_| {
        let size = |bytes| {
            let receive_buffer = Some(bytes);
            Socket::open(&SocketOptions { receive_buffer, ..SocketOptions::default() }).unwrap().receive_buffer()
        };
        let least = size(0);
        assert!(least < 8192, "{least}");
        for bytes in [1, -5_i32 as u32 as usize, u32::MAX as usize, 1 << 31] {
            assert_eq!(size(bytes), least, "{bytes}");
        }
        assert_eq!(size(4096), 8192);
    });
}
