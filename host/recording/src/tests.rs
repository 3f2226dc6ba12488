//! Recordings are read as they were written, captures of other programs are read, and damage is reported.

use std::io;

use super::*;
use flowgate_model::Table;
use flowgate_netlink::{
    Content, Messages, Stop,
    source::{Datagram, Source, SourceError},
    wire::{CREATE, EXCLUSIVE, MULTI, NLMSG_ERROR, REQUEST},
};
use flowgate_netlink_testing::{Random, message, raw_message, tuple};

/// The subsystem netlink route, for messages that are not netfilter's.
const ROUTE: u16 = 0;
const SECOND: u64 = 1_000_000_000;

/// Encodes a message about a flow; `sequence` 0 for an event.
fn flow(kind: u16, flags: u16, sequence: u32, port: u16) -> Vec<u8> {
    message(kind, flags, sequence, 0, 2, &[tuple(1, [&[10, 0, 0, 1], &[10, 0, 0, 2]], 17, [port, 53])])
}

/// A datagram of a source, or the error at its end.
enum Item {
    Data(Vec<u8>, u64, Option<u32>),
    Gap(u64),
    Pause,
    Error(i32),
}

/// A source of given items.
struct Given(std::vec::IntoIter<Item>, bool);

impl Source for Given {
    fn next(&mut self, datagram: &mut Datagram) -> Result<bool, SourceError> {
        datagram.clear();
        match self.0.next() {
            None => return Ok(false),
            Some(Item::Data(bytes, received, namespace)) => {
                datagram.length = bytes.len();
                datagram.buffer[..bytes.len()].copy_from_slice(&bytes);
                (datagram.received, datagram.namespace) = (received, namespace);
            }
            Some(Item::Gap(received)) => (datagram.gap, datagram.received) = (true, received),
            Some(Item::Pause) => datagram.flush = true,
            Some(Item::Error(errno)) => return Err(SourceError::Kernel(errno)),
        }
        Ok(true)
    }

    fn is_live(&self) -> bool {
        self.1
    }
}

/// The items that a source yielded.
#[derive(Debug, Clone, PartialEq)]
enum Got {
    Data(Vec<u8>, u64, Option<u32>),
    Gap,
    Pause,
    Error(String),
}

fn drain(source: &mut dyn Source) -> Vec<Got> {
    let mut datagram = Datagram::new();
    let mut got = Vec::new();
    loop {
        match source.next(&mut datagram) {
            Ok(true) if datagram.gap => got.push(Got::Gap),
            Ok(true) if datagram.flush => got.push(Got::Pause),
            Ok(true) => got.push(Got::Data(datagram.bytes().to_vec(), datagram.received, datagram.namespace)),
            Ok(false) => return got,
            Err(error) => {
                got.push(Got::Error(error.to_string()));
                assert!(!matches!(source.next(&mut datagram), Ok(true)), "an error is the end");
                return got;
            }
        }
    }
}

fn record(items: Vec<Item>, events: bool, shown: bool, limit: Option<u64>) -> (Vec<u8>, Vec<Got>, RecordingStats) {
    let mut file = Vec::new();
    let source = Box::new(Given(items.into_iter(), events));
    let stop = Stop::new().unwrap();
    let mut recorder = Recorder::new(source, Table::Conntrack, &mut file, shown, limit, &stop).unwrap();
    let got = drain(&mut recorder);
    let count = recorder.count();
    drop(recorder);
    (file, got, count)
}

fn open(bytes: &[u8]) -> Result<Recording, RecordingError> {
    Recording::open(RecordingInput::Bytes(io::Cursor::new(bytes.to_vec())))
}

const ALL: RecordingSelection =
    RecordingSelection { kind: RecordingKind::Events, new: true, update: true, destroy: true, family: 0 };
const ENTRIES: RecordingSelection = RecordingSelection { kind: RecordingKind::Dump, ..ALL };

/// Plays all except the pauses.
fn play(bytes: &[u8], wanted: RecordingSelection) -> Vec<Got> {
    let mut got = play_all(bytes, wanted);
    got.retain(|got| *got != Got::Pause);
    got
}

fn play_all(bytes: &[u8], wanted: RecordingSelection) -> Vec<Got> {
    match open(bytes) {
        Ok(recording) => drain(&mut recording.play(wanted, Speed::Max, &Stop::new().unwrap())),
        Err(error) => vec![Got::Error(error.to_string())],
    }
}

/// Events with everything that may come between them.
fn story() -> Vec<Item> {
    vec![
        Item::Data(flow(0x0100, CREATE | EXCLUSIVE, 0, 1), 5 * SECOND + 7, None),
        Item::Pause,
        Item::Data([flow(0x0100, 0, 0, 2), flow(0x0102, 0, 0, 3)].concat(), 6 * SECOND, Some(4)),
        Item::Gap(7 * SECOND),
        Item::Data(flow(0x0102, 0, 0, 5), 8 * SECOND, None),
    ]
}

#[test]
fn bytes_are_what_the_format_says() {
    let datagram = flow(0x0100, 0, 0, 1);
    let title = Note::Title { kind: RecordingKind::Dump, table: Table::Expect, pauses: false };
    let mut file = Vec::new();
    let mut writer = PcapWriter::new(&mut file, &title, 0).unwrap();
    let before = writer.length() as usize;
    writer.datagram(&datagram, 3 * SECOND + 5).unwrap();
    let length = writer.length();
    writer.flush().unwrap();
    assert_eq!(length, file.len() as u64);
    let words =
        |bytes: &[u8]| bytes.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect::<Vec<_>>();
    assert_eq!(words(&file[..4]), [0xa1b2_3c4d]);
    assert_eq!((&file[4..6], &file[6..8]), (&2u16.to_ne_bytes()[..], &4u16.to_ne_bytes()[..]));
    assert_eq!(words(&file[8..24]), [0, 0, 16 << 20, 253]);
    let packet = &file[before..];
    let claimed = 16 + datagram.len() as u32;
    assert_eq!(words(&packet[..16]), [3, 5, claimed, claimed]);
    assert_eq!(packet[16..32], [0, 6, 0x03, 0x38, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12]);
    assert_eq!(packet[32..], datagram);
    assert_eq!(PcapWriter::<Vec<u8>>::packet(datagram.len()), packet.len() as u64);
}

#[test]
fn what_is_recorded_is_what_is_played() {
    for shown in [false, true] {
        let (file, live, count) = record(story(), true, shown, None);
        let recording = open(&file).unwrap();
        assert!(recording.is_titled());
        assert_eq!((recording.kind(), recording.table()), (RecordingKind::Events, Table::Conntrack));
        let played = play_all(&file, ALL);
        let without_pauses = |got: Vec<Got>| got.into_iter().filter(|got| *got != Got::Pause).collect::<Vec<_>>();
        if shown {
            assert_eq!(played, live);
        }
        assert_eq!(without_pauses(played), without_pauses(live.clone()));
        assert_eq!(live.len(), 5);
        assert_eq!((count.messages, count.datagrams, count.gaps, count.full), (4, 3, 1, false));
        assert_eq!(count.bytes, file.len() as u64);
    }
}

#[test]
fn events_and_families_that_are_not_wanted_are_left_out() {
    let (file, ..) = record(story(), true, false, None);
    let destroyed = RecordingSelection { new: false, update: false, ..ALL };
    let ports = |got: Vec<Got>| got.iter().filter(|got| matches!(got, Got::Data(..))).count();
    assert_eq!(ports(play(&file, destroyed)), 2);
    assert_eq!(play(&file, destroyed)[0], Got::Data(flow(0x0102, 0, 0, 3), 6 * SECOND, Some(4)), "out of a longer one");
    let dump = vec![Item::Data(flow(0x0100, MULTI, 9, 1), SECOND, None)];
    let (file, ..) = record(dump, false, false, None);
    assert_eq!(play(&file, ENTRIES).len(), 1);
    assert_eq!(play(&file, RecordingSelection { family: 10, ..ENTRIES }), []);
}

#[test]
fn a_dump_ends_as_it_ended() {
    let dump = |last: Option<Item>| {
        let first = Item::Data(flow(0x0100, MULTI, 9, 1), SECOND, None);
        record(std::iter::once(first).chain(last).collect(), false, true, None).0
    };
    let entry = Got::Data(flow(0x0100, MULTI, 9, 1), SECOND, None);
    let whole = dump(None);
    assert_eq!(play(&whole, ENTRIES), std::slice::from_ref(&entry));
    let broken = play(&dump(Some(Item::Error(libc::EINTR))), ENTRIES);
    assert_eq!(broken, [entry.clone(), Got::Error(flowgate_base::io_error::errno_text(libc::EINTR))]);
    // Without the last packet the recording is like one that was stopped.
    let cut = &whole[..whole.len() - 52];
    assert_eq!(play(cut, ENTRIES), [entry, Got::Error(RecordingError::Unfinished.to_string())]);
}

#[test]
fn an_error_of_the_socket_is_told_again() {
    let (file, live, _) = record(vec![Item::Error(libc::ENOMEM)], true, true, None);
    assert_eq!(play(&file, ALL), live);
}

#[test]
fn a_file_does_not_become_longer_than_wanted() {
    let (whole, ..) = record(story(), true, false, None);
    for limit in 0..whole.len() as u64 + 1 {
        let (file, got, count) = record(story(), true, false, Some(limit));
        assert_eq!(count.full, limit < whole.len() as u64);
        // The title is always written.
        assert!(file.len() as u64 <= limit.max(112) && open(&file).is_ok());
        assert!(!play(&file, ALL).iter().any(|got| matches!(got, Got::Error(_))));
        let _ = got;
    }
}

/// Encodes a packet as libpcap captures it from nlmon.
fn cooked(kind: u16, family: u16, datagram: &[u8]) -> Vec<u8> {
    let mut packet = [kind.to_be_bytes(), 824u16.to_be_bytes()].concat();
    packet.extend([0; 10]);
    packet.extend(family.to_be_bytes());
    packet.extend(datagram);
    packet
}

/// PcapReader that nlmon captures of a `conntrack -L` and a listener: requests, answers, events, other families.
fn captured() -> Vec<Vec<u8>> {
    let request = flow(0x0100, REQUEST | CREATE, 7, 1);
    let dump = [flow(0x0100, MULTI, 9, 2), raw_message(3, MULTI, 9, 0, &[0; 4])].concat();
    vec![
        cooked(7, 12, &request),
        // Old versions of libpcap do not know the packet types of netlink.
        cooked(0xffff, 12, &request),
        cooked(6, 12, &raw_message(NLMSG_ERROR, 0, 7, 1, &[0; 20])),
        cooked(6, ROUTE, &flow(0x0100, 0, 0, 3)),
        cooked(6, 12, &dump),
        cooked(0xffff, 12, &flow(0x0100, CREATE, 0, 4)),
        cooked(6, 12, &flow(0x0102, 0, 0, 5)),
        vec![0; 7],
    ]
}

fn pcap(magic: u32, link: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = magic.to_ne_bytes().to_vec();
    file.extend([2u16.to_ne_bytes(), 4u16.to_ne_bytes()].concat());
    file.extend([0, 0, 262_144, link].map(u32::to_ne_bytes).concat());
    for (number, packet) in packets.iter().enumerate() {
        let length = packet.len() as u32;
        file.extend([100 + number as u32, 25, length, length].map(u32::to_ne_bytes).concat());
        file.extend(packet);
    }
    file
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (12 + body.len().next_multiple_of(4)) as u32;
    let mut bytes = [kind, length].map(u32::to_ne_bytes).concat();
    bytes.extend(body);
    bytes.resize(length as usize - 4, 0);
    bytes.extend(length.to_ne_bytes());
    bytes
}

/// Encodes a pcapng file with an Ethernet interface before the netlink interface, whose times are in nanoseconds.
fn pcapng(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = block(0x0a0d_0d0a, &[&0x1a2b_3c4du32.to_ne_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    file.extend(block(1, &[&1u16.to_ne_bytes()[..], &[0; 6]].concat()));
    let resolution = [9u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat();
    file.extend(block(1, &[&253u16.to_ne_bytes()[..], &[0; 6], &resolution, &[9, 0, 0, 0], &[0; 4]].concat()));
    file.extend(block(0x0bad, b"unknown"));
    for (number, packet) in packets.iter().enumerate() {
        for interface in [0, 1u32] {
            let time = (100 + number as u64) * SECOND + 25_000;
            let length = packet.len() as u32;
            let head = [interface, (time >> 32) as u32, time as u32, length, length].map(u32::to_ne_bytes).concat();
            file.extend(block(6, &[head, packet.clone()].concat()));
        }
    }
    file
}

#[test]
fn captures_of_others_are_read() {
    let at = |number: u64| (100 + number) * SECOND + 25_000;
    let entries = [Got::Data(flow(0x0100, MULTI, 9, 2), at(4), None)];
    let events = [Got::Data(flow(0x0100, CREATE, 0, 4), at(5), None), Got::Data(flow(0x0102, 0, 0, 5), at(6), None)];
    for file in [pcap(0xa1b2_c3d4, 253, &captured()), pcapng(&captured())] {
        let recording = open(&file).unwrap();
        assert!(!recording.is_titled());
        assert_eq!((recording.kind(), recording.table()), (RecordingKind::Dump, Table::Conntrack), "what comes first");
        assert_eq!(play(&file, ENTRIES), entries);
        assert_eq!(play(&file, ALL), events);
    }
    let nothing = pcap(0xa1b2_c3d4, 253, &captured()[..4]);
    assert_eq!(open(&nothing).unwrap().kind(), RecordingKind::Events);
    assert_eq!(play(&nothing, ALL), []);
}

#[test]
fn what_is_no_recording_is_reported() {
    let error = |bytes: &[u8]| open(bytes).unwrap_err().to_string();
    assert!(error(b"").contains("empty"));
    assert!(error(b"[NEW]").contains("5b, 4e, 45, 57"));
    assert!(error(&pcap(0xa1b2_c3d4, 253, &[])[..10]).contains("offset 0 there are 10 bytes of at least 24"));
    assert!(error(&pcap(0xa1b2_c3d4, 1, &[])).contains("link type 1;"));
    assert!(error(&pcap(0xa1b2_3c4du32.swap_bytes(), 253, &[])).contains("endian"));
    let other =
        block(0x0a0d_0d0a, &[&0x1a2b_3c4du32.swap_bytes().to_ne_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    assert!(matches!(&play(&other, ALL)[..], [Got::Error(error)] if error.contains("endian")));
    let ethernet = &pcapng(&[])[..28 + 20];
    assert!(error(ethernet).contains("link type 1;"));
}

#[test]
fn damage_is_told_with_its_place() {
    let mut file = pcap(0xa1b2_c3d4, 253, &captured());
    let second = 24 + 16 + captured()[0].len();
    file[second + 8..second + 12].copy_from_slice(&u32::MAX.to_ne_bytes());
    let expected = format!("the packet at offset {second} claims 4294967295 bytes");
    assert!(matches!(&play(&file, ALL)[..], [Got::Error(error)] if error.contains(&expected)));
    let mut file = pcapng(&captured());
    let place = file.len() - block(6, &[vec![0; 20], captured()[7].clone()].concat()).len();
    file[place + 4] = 7;
    let got = play(&file, ALL);
    let expected = format!("the block at offset {place} makes no sense (a length of 7)");
    assert!(matches!(&got[..], [_, _, Got::Error(error)] if error.contains(&expected)), "{got:?}");
}

#[test]
fn a_file_that_is_cut_shows_what_is_there() {
    let whole = pcap(0xa1b2_c3d4, 253, &captured());
    let all = play(&whole, ALL);
    let mut ends = vec![24];
    for packet in captured() {
        ends.push(ends.last().unwrap() + 16 + packet.len());
    }
    for length in 0..whole.len() {
        let mut got = play(&whole[..length], ALL);
        if !ends.contains(&length) {
            assert!(matches!(got.pop(), Some(Got::Error(_))), "{length}");
        }
        assert_eq!(got, all[..got.len()], "{length}");
    }
    for length in 0..pcapng(&captured()).len() {
        play(&pcapng(&captured())[..length], ALL);
    }
}

#[test]
fn no_damage_is_worse_than_an_error() {
    let mut random = Random(0x5eed);
    let files = [record(story(), true, true, None).0, pcap(0xa1b2_c3d4, 253, &captured()), pcapng(&captured())];
    for round in 0..6000 {
        let mut file = files[round % files.len()].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(file.len());
            file[at] = match random.below(4) {
                0 => 0,
                1 => 0xff,
                _ => random.next() as u8,
            };
        }
        for wanted in [ALL, ENTRIES] {
            for got in play(&file, wanted) {
                if let Got::Data(bytes, ..) = got {
                    assert!(Messages::new(&bytes).flatten().all(|message| message.content() != Content::Overrun));
                }
            }
        }
    }
}

#[test]
fn a_replay_in_real_time_keeps_the_order_and_can_be_stopped() {
    let (file, live, _) = record(story(), true, true, None);
    let stop = Stop::new().unwrap();
    let mut fast = open(&file).unwrap().play(ALL, Speed::Times(1e6), &stop);
    assert_eq!(drain(&mut fast), live);
    // The second datagram is due in thousands of years.
    let mut slow = open(&file).unwrap().play(ALL, Speed::Times(1e-12), &stop);
    let mut datagram = Datagram::new();
    assert!(slow.next(&mut datagram).unwrap());
    assert!(slow.next(&mut datagram).unwrap() && datagram.flush);
    let signal = stop.clone();
    let waiting = std::thread::spawn(move || slow.next(&mut Datagram::new()).unwrap());
    signal.stop();
    assert!(!waiting.join().unwrap());
}

#[test]
fn rows_that_are_not_close_have_batches_of_their_own() {
    let at = |time| Item::Data(flow(0x0100, 0, 0, 1), time, None);
    let (file, ..) =
        record([0, 10, 20, 1_000_020, 3_000_000].map(|later| at(SECOND + later)).into(), true, false, None);
    let played = play_all(&file, ALL);
    let pauses: Vec<_> = played.iter().enumerate().filter(|(_, got)| **got == Got::Pause).map(|(at, _)| at).collect();
    assert_eq!((played.len(), pauses), (7, vec![3, 5]));
}

#[test]
fn rows_are_handed_on_before_a_wait_that_the_recording_does_not_speak_of() {
    let (file, ..) = record(story(), true, false, None);
    let stop = Stop::new().unwrap();
    let mut slow = open(&file).unwrap().play(ALL, Speed::Times(1e-12), &stop);
    let mut datagram = Datagram::new();
    assert!(slow.next(&mut datagram).unwrap() && !datagram.flush);
    assert!(slow.next(&mut datagram).unwrap() && datagram.flush);
    stop.stop();
    assert!(!slow.next(&mut datagram).unwrap());
}
