//! See `oracles/reports.rs`.
#![no_main]

#[path = "../oracles/allocation.rs"]
mod allocation;
#[path = "../oracles/input.rs"]
mod input;
#[path = "../oracles/reports.rs"]
mod reports;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

libfuzzer_sys::fuzz_target!(|input: &[u8]| reports::run(input));
