//! Batches for tests of the model and the screen.

use flowgate_model::{Addresses, Counters, Events, Flows, Times, Tuples, event, family, field, protocol};

/// A second in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// The time of tests, nanoseconds since 1970.
pub(crate) const EPOCH: u64 = 1_795_000_000 * SECOND;

/// A TCP flow from 10.0.0.`id` to 10.1.0.1:443, with its bytes and packets if they are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub id: u32,
    pub counts: Option<(u64, u64)>,
    pub start: Option<u64>,
    pub stop: Option<u64>,
    pub kind: u8,
    pub protocol: u8,
    pub mark: u32,
}

/// Returns an entry of a dump.
pub(crate) fn entry(id: u32, counts: Option<(u64, u64)>) -> Flow {
    Flow { id, counts, start: None, stop: None, kind: event::NONE, protocol: protocol::TCP, mark: 0 }
}

/// Returns an event.
pub(crate) fn event_row(kind: u8, id: u32, counts: Option<(u64, u64)>) -> Flow {
    Flow { kind, ..entry(id, counts) }
}

/// Returns a batch, `seconds` after [`EPOCH`].
pub(crate) fn batch(seconds: f64, rows: &[Flow]) -> Flows {
    let column = |value: fn(&Flow) -> u64| rows.iter().map(value).collect::<Vec<u64>>();
    let addresses = |value: fn(&Flow) -> u64| Addresses { hi: vec![0; rows.len()], lo: column(value) };
    let tuples = |source: fn(&Flow) -> u64, destination: fn(&Flow) -> u64, ports: [u16; 2]| Tuples {
        source: addresses(source),
        destination: addresses(destination),
        source_l4: vec![ports[0]; rows.len()],
        destination_l4: vec![ports[1]; rows.len()],
    };
    let client = |flow: &Flow| 0xffff_0a00_0000 + u64::from(flow.id);
    let server = |_: &Flow| 0xffff_0a01_0001;
    let has = |flow: &Flow| {
        let mut has = field::TUPLES | field::STATUS | field::TIMEOUT | field::ID | field::STATE | field::MARK;
        for (bit, present) in [
            (field::COUNTERS, flow.counts.is_some()),
            (field::START, flow.start.is_some()),
            (field::STOP, flow.stop.is_some()),
        ] {
            has |= if present { bit } else { 0 };
        }
        has
    };
    let half = |value: fn((u64, u64)) -> u64| {
        let all: Vec<u64> = rows.iter().map(|flow| value(flow.counts.unwrap_or_default())).collect();
        let reply: Vec<u64> = all.iter().map(|number| number / 2).collect();
        let original: Vec<u64> = all.iter().zip(&reply).map(|(all, reply)| all - reply).collect();
        (original, reply)
    };
    let ((original_bytes, reply_bytes), (original_packets, reply_packets)) = (half(|c| c.0), half(|c| c.1));
    let events = rows
        .iter()
        .any(|flow| flow.kind != event::NONE)
        .then(|| Events { kind: rows.iter().map(|flow| flow.kind).collect(), ..Events::default() });
    Flows {
        length: rows.len() as u32,
        time: EPOCH + (seconds * 1e9) as u64,
        has: rows.iter().map(has).collect(),
        family: vec![family::IPV4; rows.len()],
        protocol: rows.iter().map(|flow| flow.protocol).collect(),
        original: tuples(client, server, [40_000, 443]),
        reply: tuples(server, client, [443, 40_000]),
        status: vec![0xe; rows.len()],
        timeout: rows.iter().map(|flow| 100 + flow.id).collect(),
        mark: rows.iter().map(|flow| flow.mark).collect(),
        id: rows.iter().map(|flow| flow.id).collect(),
        state: vec![3; rows.len()],
        counters: Some(Counters { original_packets, original_bytes, reply_packets, reply_bytes }),
        times: Some(Times { start: column(|f| f.start.unwrap_or(0)), stop: column(|f| f.stop.unwrap_or(0)) }),
        events,
        ..Flows::default()
    }
}
