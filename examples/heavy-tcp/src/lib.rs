//! Keeps established TCP flows to public addresses that have moved more than a number of bytes, and annotates them with
//! that number.

use flowgate_sdk::{address::is_private, prelude::*};

struct HeavyTcp {
    bytes: u64,
}

impl Plugin for HeavyTcp {
    fn describe() -> Description {
        Description::new("heavy-tcp", "1.0.0", "Established TCP flows to the outside with many bytes")
            .option("bytes", "N", "keep flows that have moved more bytes than this", Some("1000000"))
            .reads(field::PROTOCOL | field::STATE | field::DESTINATION | field::COUNTERS)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        Ok(HeavyTcp { bytes: setup.option("bytes")?.unwrap_or(1_000_000) })
    }
}

impl Filter for HeavyTcp {
    fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool {
        let bytes = flow.bytes().unwrap_or(0);
        let heavy = flow.established() && bytes > self.bytes && !is_private(flow.original().destination());
        if heavy {
            notes.annotate(flow, "total_bytes", bytes);
        }
        heavy
    }
}

flowgate_sdk::filter!(HeavyTcp);
