//! Hand-made netlink messages, [`rows`] of any content and [`fake_kernel`]s, for tests.
#![allow(
    missing_docs,
    clippy::should_implement_trait,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on is a failed test"
)]

pub mod fake_kernel;
pub mod rows;

use flowgate_netlink::wire::{MESSAGE_HEADER, NESTED, align};

/// Encodes an attribute, padded.
pub fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(payload.len() as u16 + 4).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(align(bytes.len()), 0);
    bytes
}

/// Encodes a nest.
pub fn nest(kind: u16, children: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &children.concat())
}

/// Encodes a netfilter message.
pub fn message(kind: u16, flags: u16, sequence: u32, port: u32, family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    raw_message(kind, flags, sequence, port, &[&[family, 0, 0, 0], attributes.concat().as_slice()].concat())
}

/// Encodes a message of any type.
pub fn raw_message(kind: u16, flags: u16, sequence: u32, port: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&((MESSAGE_HEADER + body.len()) as u32).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&port.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(align(bytes.len()), 0);
    bytes
}

/// Encodes a tuple with ports; addresses of 4 or 16 bytes.
pub fn tuple(kind: u16, addresses: [&[u8]; 2], protocol: u8, ports: [u16; 2]) -> Vec<u8> {
    let first = if addresses[0].len() == 4 { 1 } else { 3 };
    let [source, destination] = ports.map(u16::to_be_bytes);
    nest(
        kind,
        &[
            nest(1, &[attribute(first, addresses[0]), attribute(first + 1, addresses[1])]),
            nest(2, &[attribute(1, &[protocol]), attribute(2, &source), attribute(3, &destination)]),
        ],
    )
}

/// A generator of pseudo-random numbers that is the same in every run (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit.max(1)
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
