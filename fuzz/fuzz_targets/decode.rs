//! See `oracles/decode.rs`.
#![no_main]

#[path = "../oracles/decode.rs"]
mod decode;

libfuzzer_sys::fuzz_target!(|input: &[u8]| decode::run(input));
