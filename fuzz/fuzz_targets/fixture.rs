//! See `oracles/fixture.rs`.
#![no_main]

#[path = "../oracles/allocation.rs"]
mod allocation;
#[path = "../oracles/fixture.rs"]
mod fixture;
#[path = "../oracles/input.rs"]
mod input;
#[path = "../oracles/linear.rs"]
mod linear;
#[path = "../oracles/text.rs"]
mod text;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fixture::run(input));
