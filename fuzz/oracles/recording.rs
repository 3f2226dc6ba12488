//! An arbitrary file as a recording: nothing panics, its datagrams are bounded by its packets, and memory and time for
//! reading are proportional to the file.

use std::io::Cursor;

use flowgate_model::{Flows, Table};
use flowgate_netlink::{
    Messages, Stop,
    decode::{Arrival, FlowDecoder},
    source::{Datagram, Source as _},
};
use flowgate_recording::{
    Note, PcapWriter, Recording, RecordingInput as File, RecordingKind, RecordingSelection, Speed,
};

use super::{input::Input, linear::linear};

/// Type of the kernel's message about a new flow: IPCTNL_MSG_CT_NEW of NFNL_SUBSYS_CTNETLINK.
const NEW: u16 = 1 << 8;

/// Returns a message with a flow, or with other bytes.
fn message(input: &mut Input<'_>) -> Vec<u8> {
    let mut body = vec![2, 0, 0, 0];
    for _ in 0..input.up_to(3) {
        let (length, kind) = (input.up_to(64), u16::from(input.byte()));
        body.extend(((length + 4) as u16).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend((0..length).map(|_| input.byte()));
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let kind = if input.one_in(8) { u16::from(input.byte()) } else { NEW };
    let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(input.pick(&[0u16, 2, 0x400, 0x600, 1]).to_ne_bytes());
    bytes.extend(input.pick(&[0u32, 1]).to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

/// Returns a pcap file, as flowgate writes it.
fn pcap(input: &mut Input<'_>) -> Vec<u8> {
    let kind = input.pick(&[RecordingKind::Dump, RecordingKind::Events]);
    let table = input.pick(&Table::ALL);
    let title = Note::Title { kind, table, pauses: input.one_in(2) };
    let mut bytes = Vec::new();
    let mut writer = PcapWriter::new(&mut bytes, &title, 5).expect("memory");
    for _ in 0..input.up_to(20) {
        let time = input.bits() >> input.up_to(63);
        let done = match input.up_to(7) {
            0..=3 => {
                let datagram: Vec<u8> = (0..input.up_to(3)).flat_map(|_| message(input)).collect();
                writer.datagram(&datagram, time)
            }
            4 => writer
                .note(&Note::Program { port: input.byte().into(), name: vec![input.byte(); input.up_to(300)] }, time),
            5 => writer.note(&Note::Namespace { id: Some(7), name: Some(vec![input.byte(); input.up_to(300)]) }, time),
            6 => writer.note(&Note::Pause, time),
            _ => writer.gap((input.byte() > 7).then_some(7), time),
        };
        done.expect("memory");
    }
    if input.one_in(2) {
        writer.end(input.byte().into(), 7).expect("memory");
    }
    writer.flush().expect("memory");
    drop(writer);
    bytes
}

/// Returns a block of a pcapng file.
fn block(bytes: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let length = (12 + body.len().next_multiple_of(4)) as u32;
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(length.to_ne_bytes());
}

/// Returns a pcapng file, as Wireshark writes it.
fn pcapng(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let section = [&0x1a2b_3c4du32.to_ne_bytes()[..], &1u16.to_ne_bytes(), &[0; 2], &[0xff; 8]].concat();
    block(&mut bytes, 0x0a0d_0d0a, &section);
    for _ in 0..input.up_to(12) {
        match input.up_to(5) {
            0 | 1 => {
                // Resolution and offset of the timestamps are options.
                let mut body = [&(if input.one_in(4) { 1u16 } else { 253 }).to_ne_bytes()[..], &[0; 6]].concat();
                if input.one_in(2) {
                    body.extend([&9u16.to_ne_bytes()[..], &1u16.to_ne_bytes(), &[input.byte(), 0, 0, 0]].concat());
                }
                if input.one_in(2) {
                    body.extend([&14u16.to_ne_bytes()[..], &8u16.to_ne_bytes(), &input.bits().to_ne_bytes()].concat());
                }
                for _ in 0..input.up_to(300) {
                    block(&mut bytes, 1, &body);
                }
            }
            2 => block(&mut bytes, 0x0a0d_0d0a, &section),
            3 => block(&mut bytes, input.up_to(12) as u32, &vec![input.byte(); input.up_to(300)]),
            _ => {
                let datagram = message(input);
                let cooked = [&[0, 6, 3, 0x38][..], &[0; 10], &[0, 12], &datagram].concat();
                let claimed = if input.one_in(8) { input.bits() as u32 } else { cooked.len() as u32 };
                let mut body = u32::from(input.byte() / 64).to_ne_bytes().to_vec();
                body.extend(input.bits().to_ne_bytes());
                body.extend([claimed.to_ne_bytes(), claimed.to_ne_bytes()].concat());
                body.extend(cooked);
                block(&mut bytes, 6, &body);
            }
        }
    }
    bytes
}

/// Reads a recording derived from the input.
///
/// # Panics
/// If one of these properties does not hold.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let mut bytes = match input.up_to(4) {
        0 => input.0.to_vec(),
        1 | 2 => pcap(&mut input),
        _ => pcapng(&mut input),
    };
    // Some bytes are changed afterwards.
    for _ in 0..input.up_to(6) {
        let at = input.up_to(bytes.len());
        match input.up_to(3) {
            0 => bytes.truncate(at),
            1 => bytes.extend(bytes.get(at..).unwrap_or_default().to_vec()),
            2 => {
                let number = input.pick(&[0u32, 1, 12, 0xffff, 16 << 20, u32::MAX]).to_ne_bytes();
                for (byte, new) in bytes.iter_mut().skip(at / 4 * 4).zip(number) {
                    *byte = new;
                }
            }
            _ => {
                let new = input.byte();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = new;
                }
            }
        }
    }
    let length = bytes.len();
    let wanted = RecordingSelection {
        kind: input.pick(&[RecordingKind::Dump, RecordingKind::Events]),
        new: true,
        update: true,
        destroy: true,
        family: 0,
    };
    let stop = Stop::new().expect("a stop signal");
    let file = File::Bytes(Cursor::new(bytes));
    let handed_on = linear("recording", length, || {
        let Ok(recording) = Recording::open(file) else { return 0 };
        let mut source = recording.play(wanted, Speed::Max, &stop);
        let (mut datagram, mut decoder, mut flows) = (Datagram::new(), FlowDecoder::new(u64::MAX), Flows::default());
        let mut handed_on = 0;
        while let Ok(true) = source.next(&mut datagram) {
            handed_on += 1;
            let bytes = datagram.buffer.get(..datagram.length).expect("a datagram in its buffer");
            for message in Messages::new(bytes).map_while(Result::ok) {
                let _ = decoder.push(
                    &mut flows,
                    &message,
                    Arrival::Event { received: datagram.received, namespace: datagram.namespace },
                );
            }
            decoder.clear(&mut flows);
        }
        handed_on
    });
    // A packet has a header of 16 bytes, and yields one datagram and a pause before it.
    assert!(handed_on <= 2 + length / 8, "{handed_on} datagrams of a file of {length} bytes");
}
