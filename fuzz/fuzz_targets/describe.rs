//! See `oracles/describe.rs`.
#![no_main]

#[path = "../oracles/allocation.rs"]
mod allocation;
#[path = "../oracles/describe.rs"]
mod describe;
#[path = "../oracles/input.rs"]
mod input;
#[path = "../oracles/linear.rs"]
mod linear;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

libfuzzer_sys::fuzz_target!(|input: &[u8]| describe::run(input));
