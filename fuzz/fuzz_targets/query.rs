//! See `oracles/query.rs`.
#![no_main]

#[path = "../oracles/allocation.rs"]
mod allocation;
#[path = "../oracles/input.rs"]
mod input;
#[path = "../oracles/linear.rs"]
mod linear;
#[path = "../oracles/query.rs"]
mod query;
#[path = "../oracles/text.rs"]
mod text;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

libfuzzer_sys::fuzz_target!(|input: &[u8]| query::run(input));
