//! Flows that are made up, as a recording of the dump in which a kernel would send them.

use std::{
    fs::File,
    io::{self, BufWriter},
};

use flowgate_model::{Table, family, protocol, state, status};
use flowgate_netlink::wire::{
    MESSAGE_HEADER, MULTI, NESTED, SUBSYSTEM_FLOWS, align, flow, flow_message, part, protoinfo, tuple,
};
use flowgate_recording::{Note, PcapWriter, RecordingError, RecordingKind};

/// Bytes of a datagram from which on another one is begun, as the kernel does.
const DATAGRAM: usize = 8 << 10;
/// The ports that the flows go to.
const PORTS: [u16; 5] = [443, 80, 22, 53, 5432];

/// Appends an attribute, padded.
fn attribute(to: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
    to.extend_from_slice(&length.to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(payload);
    to.resize(align(to.len()), 0);
}

/// Appends a nest of attributes.
fn nest(to: &mut Vec<u8>, kind: u16, of: &[(u16, &[u8])]) {
    let mut inner = Vec::new();
    for (kind, payload) in of {
        attribute(&mut inner, *kind, payload);
    }
    attribute(to, kind | NESTED, &inner);
}

/// One end of a flow.
#[derive(Clone, Copy)]
struct End {
    address: [u8; 4],
    port: u16,
}

fn tuple_of(to: &mut Vec<u8>, kind: u16, number: u8, [source, destination]: [End; 2]) {
    let (mut addresses, mut ports) = (Vec::new(), Vec::new());
    attribute(&mut addresses, tuple::V4_SRC, &source.address);
    attribute(&mut addresses, tuple::V4_DST, &destination.address);
    attribute(&mut ports, tuple::NUM, &[number]);
    attribute(&mut ports, tuple::SRC_PORT, &source.port.to_be_bytes());
    attribute(&mut ports, tuple::DST_PORT, &destination.port.to_be_bytes());
    nest(to, kind, &[(tuple::IP | NESTED, &addresses), (tuple::PROTO | NESTED, &ports)]);
}

/// Returns the message about a flow. Flows with different numbers differ.
fn message(number: u32) -> Vec<u8> {
    let [_, high, middle, low] = number.to_be_bytes();
    let port = PORTS.get(number as usize % PORTS.len()).copied().unwrap_or_default();
    let client = End { address: [10, high, middle, low], port: 32_768 + (number % 28_232) as u16 };
    let server = End { address: [192, 0, 2, (number % 200) as u8 + 1], port };
    let number_of = if port == 53 { protocol::UDP } else { protocol::TCP };
    let timeout = if port == 53 { 30 + number % 150 } else { 432_000 - number % 600 };
    let packets = u64::from(number % 997 + 2);
    let mut body = vec![family::IPV4, 0, 0, 0];
    tuple_of(&mut body, flow::TUPLE_ORIG, number_of, [client, server]);
    tuple_of(&mut body, flow::TUPLE_REPLY, number_of, [server, client]);
    let seen = status::CONFIRMED | status::SEEN_REPLY | status::ASSURED;
    attribute(&mut body, flow::STATUS, &seen.to_be_bytes());
    attribute(&mut body, flow::TIMEOUT, &timeout.to_be_bytes());
    attribute(&mut body, flow::MARK, &0_u32.to_be_bytes());
    if number_of == protocol::TCP {
        let mut tcp = Vec::new();
        attribute(&mut tcp, protoinfo::TCP_STATE, &[state::TCP_ESTABLISHED]);
        nest(&mut body, flow::PROTOINFO, &[(protoinfo::TCP | NESTED, &tcp)]);
    }
    for (kind, size) in [(flow::COUNTERS_ORIG, 120), (flow::COUNTERS_REPLY, 900)] {
        let (packets, bytes) = (packets.to_be_bytes(), (packets * size).to_be_bytes());
        nest(&mut body, kind, &[(part::COUNTERS_PACKETS, &packets), (part::COUNTERS_BYTES, &bytes)]);
    }
    attribute(&mut body, flow::USE, &1_u32.to_be_bytes());
    attribute(&mut body, flow::ID, &number.wrapping_add(1).to_be_bytes());

    let length = u32::try_from(MESSAGE_HEADER + body.len()).unwrap_or(u32::MAX);
    let kind = u16::from(SUBSYSTEM_FLOWS) << 8 | u16::from(flow_message::NEW);
    let mut message = Vec::with_capacity(length as usize);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&MULTI.to_ne_bytes());
    // An answer has the sequence number of its request; events have none.
    message.extend_from_slice(&1_u32.to_ne_bytes());
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(&body);
    message.resize(align(message.len()), 0);
    message
}

/// Writes this many flows as a recording.
///
/// # Errors
/// [`RecordingError`] if the file cannot be written.
pub(super) fn record(file: &File, flows: u32) -> Result<(), RecordingError> {
    let now = flowgate_base::clock::now();
    let title = Note::Title { kind: RecordingKind::Dump, table: Table::Conntrack, pauses: false };
    let mut writer = PcapWriter::new(BufWriter::new(file), &title, now)?;
    let mut datagram = Vec::new();
    for number in 0..flows {
        datagram.extend(message(number));
        if datagram.len() >= DATAGRAM {
            writer.datagram(&std::mem::take(&mut datagram), now)?;
        }
    }
    if !datagram.is_empty() {
        writer.datagram(&datagram, now)?;
    }
    writer.end(0, now)?;
    writer.flush()
}

/// Returns an unnamed file with a recording of this many flows.
///
/// # Errors
/// [`RecordingError`] if it cannot be written.
pub(super) fn file(flows: u32) -> Result<File, RecordingError> {
    let failed = |source: io::Error| RecordingError::Create { path: "a temporary file".into(), source };
    let file = tempfile::tempfile().map_err(failed)?;
    record(&file, flows)?;
    Ok(file)
}
