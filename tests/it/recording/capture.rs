//! Captures of an nlmon interface by other programs, with requests, acknowledgements and other families as well.
//!
//! Not every kernel has nlmon, so the captures are put together from the kernel's own datagrams, as libpcap would write
//! them.

use crate::recording::listener::listen;
use crate::recording::{flowgate, run};
use flowgate_test_support::until;
use flowgate_test_support::{Namespace, Program, entries};
use nix::sys::signal::Signal;
use std::path::Path;

/// Length of the header of a pcap file, and of those of a packet: its own and the cooked one.
const HEADER: usize = 24;
/// See [`HEADER`].
const PACKET: usize = 16;

/// Returns the packets of a recording of flowgate: seconds, nanoseconds, data.
fn packets(file: &Path) -> Vec<(u32, u32, Vec<u8>)> {
    let bytes = std::fs::read(file).expect("a recording");
    let number = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let mut packets = Vec::new();
    let mut at = HEADER;
    while at < bytes.len() {
        let data = at + PACKET..at + PACKET + number(at + 8) as usize;
        packets.push((number(at), number(at + 4), bytes[data.clone()].to_vec()));
        at = data.end;
    }
    packets
}

/// Returns a capture in microseconds of these packets, with other packets that nlmon sees.
fn capture(packets: &[(u32, u32, Vec<u8>)]) -> Vec<u8> {
    let mut file = 0xa1b2_c3d4u32.to_ne_bytes().to_vec();
    file.extend([2u16.to_ne_bytes(), 4u16.to_ne_bytes()].concat());
    file.extend([0, 0, 262_144, 253u32].map(u32::to_ne_bytes).concat());
    let mut put = |seconds: u32, nanoseconds: u32, data: &[u8]| {
        let length = data.len() as u32;
        file.extend([seconds, nanoseconds / 1000, length, length].map(u32::to_ne_bytes).concat());
        file.extend(data);
    };
    for (seconds, nanoseconds, data) in packets {
        // Without the notes that flowgate records.
        if data[20] == 1 && data[21] == 0 {
            continue;
        }
        let mut request = data.clone();
        // Sent to the kernel, with NLM_F_REQUEST.
        (request[1], request[22]) = (7, request[22] | 1);
        let mut route = data.clone();
        // NETLINK_ROUTE.
        route[15] = 0;
        let mut data = data.clone();
        // As written by versions of libpcap that do not know the packet types of netlink.
        (data[0], data[1]) = (0xff, 0xff);
        request.truncate(60);
        for data in [&request, &route, &data] {
            put(*seconds, *nanoseconds, data);
        }
    }
    file
}

#[test]
fn dumps_and_events_of_one_capture() {
    Namespace::run(|namespace| {
        let directory = namespace.directory();
        let (events, dump) = (directory.join("events.pcap"), directory.join("dump.pcap"));
        let mut listener = listen(&flowgate(), &events, "record --show FILE -- -E -o id");
        entries::load(namespace, &entries::busy(200));
        until("all is recorded", || packets(&events).len() > 200);
        let live_events = listener.end_by(Signal::SIGINT).text();
        let live_dump = run(&flowgate(), &dump, "record --show FILE -- -L -o extended").text();
        assert_eq!((live_events.lines().count(), live_dump.lines().count()), (200, 200));

        let mut all = packets(&events);
        all.extend(packets(&dump));
        let file = directory.join("nlmon.pcap");
        std::fs::write(&file, capture(&all)).expect("a capture");
        // Captures lack the names of programs.
        let without_names = |text: &str| {
            text.lines().map(|line| line.split(" progname=").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        let played = run(&flowgate(), &file, "replay FILE -- -E -o id");
        assert_eq!(without_names(&played.text()), without_names(&live_events));
        assert!(played.errors().contains("200 flow events have been shown."), "{}", played.errors());
        let played = run(&flowgate(), &file, "replay FILE -- -L -o extended");
        assert_eq!(played.text(), live_dump);
        assert_eq!(played.status, 0);
        // By default the replay shows what the recording starts with.
        assert!(run(&flowgate(), &file, "replay FILE").errors().contains("200 flow events"));
        // From standard input.
        let bytes = std::fs::read(&file).expect("the capture");
        let piped = flowgate().run_with(&["replay", "-", "--", "-L", "-o", "extended"], &bytes);
        assert_eq!((piped.text(), piped.status), (live_dump, 0));
        let _ = Program::new("conntrack");
    });
}
