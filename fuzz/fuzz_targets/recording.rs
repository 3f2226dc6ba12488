//! See `oracles/recording.rs`.
#![no_main]

#[path = "../oracles/allocation.rs"]
mod allocation;
#[path = "../oracles/input.rs"]
mod input;
#[path = "../oracles/linear.rs"]
mod linear;
#[path = "../oracles/recording.rs"]
mod recording;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

libfuzzer_sys::fuzz_target!(|input: &[u8]| recording::run(input));
