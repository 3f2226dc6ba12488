//! See `oracles/fleet.rs`.
#![no_main]

#[path = "../oracles/allocation.rs"]
mod allocation;
#[path = "../oracles/fleet.rs"]
mod fleet;
#[path = "../oracles/input.rs"]
mod input;
#[path = "../oracles/linear.rs"]
mod linear;
#[path = "../oracles/text.rs"]
mod text;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fleet::run(input));
