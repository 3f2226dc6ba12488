//! Measures decoding: nanoseconds per flow, for messages as in a kernel dump.
//!
//! `cargo bench -p flowgate-netlink --bench decode`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use std::hint::black_box;
use std::time::Instant;

use flowgate_model::{Flows, field};
use flowgate_netlink::Messages;
use flowgate_netlink::decode::{Arrival, FlowDecoder};

/// Messages per datagram, as many as the kernel packs into 32 KiB.
const MESSAGES: usize = 135;
/// Number of short measurements, the fastest of which counts: other load on the machine only adds time.
const TRIES: usize = 400;
const ROUNDS: usize = 50;

/// Encodes an attribute, padded.
fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(payload.len() as u16 + 4).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nest(kind: u16, children: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | 0x8000, &children.concat())
}

fn tuple(kind: u16, addresses: [&[u8]; 2], ports: [u16; 2]) -> Vec<u8> {
    let first = if addresses[0].len() == 4 { 1 } else { 3 };
    let [source, destination] = ports.map(u16::to_be_bytes);
    nest(
        kind,
        &[
            nest(1, &[attribute(first, addresses[0]), attribute(first + 1, addresses[1])]),
            nest(2, &[attribute(1, &[6]), attribute(2, &source), attribute(3, &destination)]),
        ],
    )
}

/// Encodes a dumped TCP flow, with accounting and timestamps if `extended`.
fn message(number: u32, family: u8, extended: bool) -> Vec<u8> {
    let long = |number: u64| number.to_be_bytes();
    let (source, destination) = if family == 2 {
        (number.to_be_bytes().to_vec(), vec![192, 0, 2, 1])
    } else {
        ([&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0][..], &number.to_be_bytes()].concat(), vec![0xfd; 16])
    };
    let mut parts = vec![
        tuple(1, [&source, &destination], [40_000, 443]),
        tuple(2, [&destination, &source], [443, 40_000]),
        attribute(3, &14u32.to_be_bytes()),
        attribute(8, &number.to_be_bytes()),
        attribute(12, &number.to_be_bytes()),
        attribute(11, &1u32.to_be_bytes()),
        attribute(7, &431_999u32.to_be_bytes()),
        nest(
            4,
            &[nest(
                1,
                &[
                    attribute(1, &[3]),
                    attribute(2, &[7]),
                    attribute(3, &[7]),
                    attribute(4, &[0x23, 0]),
                    attribute(5, &[0x23, 0]),
                ],
            )],
        ),
    ];
    if extended {
        parts.push(nest(9, &[attribute(1, &long(12)), attribute(2, &long(3_456))]));
        parts.push(nest(10, &[attribute(1, &long(10)), attribute(2, &long(65_432))]));
        parts.push(nest(20, &[attribute(1, &long(1_700_000_000_000_000_000))]));
    }
    let body = parts.concat();
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(body.len() as u32 + 20).to_ne_bytes());
    bytes.extend_from_slice(&0x0100u16.to_ne_bytes());
    bytes.extend_from_slice(&2u16.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, 0, 0, 0]);
    bytes.extend_from_slice(&body);
    bytes
}

fn measure(name: &str, datagram: &[u8], wanted: u64) {
    let mut decoder = FlowDecoder::new(wanted);
    let mut flows = Flows::default();
    let mut best = f64::INFINITY;
    for _ in 0..TRIES {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            decoder.clear(&mut flows);
            for message in Messages::new(black_box(datagram)).flatten() {
                if let Err(error) = decoder.push(&mut flows, &message, Arrival::Entry) {
                    eprintln!("{error}");
                }
            }
            black_box(&flows);
        }
        best = best.min(start.elapsed().as_nanos() as f64 / (ROUNDS * MESSAGES) as f64);
    }
    assert_eq!(flows.length as usize, MESSAGES);
    println!("{name:<44} {best:6.1} ns per flow, {} bytes", datagram.len() / MESSAGES);
}

fn main() {
    for (family, name) in [(2, "TCP/IPv4"), (10, "TCP/IPv6")] {
        for extended in [false, true] {
            let datagram: Vec<u8> = (0..MESSAGES as u32).flat_map(|number| message(number, family, extended)).collect();
            let what = if extended { "with counters and times" } else { "plain" };
            measure(&format!("{name} {what}, all columns"), &datagram, field::ALL);
            measure(&format!("{name} {what}, tuples and mark"), &datagram, field::TUPLES | field::MARK);
            measure(&format!("{name} {what}, mark only"), &datagram, field::MARK);
        }
    }
}
