//! Keeps the flows that have moved more than a number of bytes, and annotates them with that number.
//!
//! The same filter is in `examples/c/heavy`, `examples/python/heavy`, `examples/javascript/heavy` and
//! `examples/zig/heavy`, for comparison.

use flowgate_sdk::prelude::*;

struct Heavy {
    bytes: u64,
}

impl Plugin for Heavy {
    fn describe() -> Description {
        Description::new("heavy-rust", "1.0.0", "Flows that have moved many bytes")
            .option("bytes", "N", "keep flows that have moved more bytes than this", Some("1000000"))
            .reads(field::COUNTERS)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        Ok(Heavy { bytes: setup.option("bytes")?.unwrap_or(1_000_000) })
    }
}

impl Filter for Heavy {
    fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool {
        let bytes = flow.bytes().unwrap_or(0);
        let heavy = bytes > self.bytes;
        if heavy {
            notes.annotate(flow, "total_bytes", bytes);
        }
        heavy
    }
}

flowgate_sdk::filter!(Heavy);
