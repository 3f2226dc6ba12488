//! See `oracles/names.rs`.
#![no_main]

#[path = "../oracles/input.rs"]
mod input;
#[path = "../oracles/names.rs"]
mod names;

libfuzzer_sys::fuzz_target!(|input: &[u8]| names::run(input));
