//! Keeps the flows to one port, and marks those that moved much as such.
//!
//! Change `keep`, run `make test`, and look at what is otherwise than expected; `make bless` accepts it.

use flowgate_sdk::prelude::*;

/// The plugin: what its options said.
struct {{type}} {
    port: u16,
    bytes: u64,
}

impl Plugin for {{type}} {
    fn describe() -> Description {
        Description::new("{{name}}", env!("CARGO_PKG_VERSION"), "Flows to one port, and which of them moved much")
            .option("port", "PORT", "keep flows to this port", Some("443"))
            .option("bytes", "N", "note flows that moved more bytes than this", Some("1000000"))
            // The host decodes and hands over only what is read here.
            .reads(field::PROTOCOL | field::DESTINATION_L4 | field::COUNTERS)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        Ok({{type}} {
            port: setup.option("port")?.unwrap_or(443),
            bytes: setup.option("bytes")?.unwrap_or(1_000_000),
        })
    }
}

impl Filter for {{type}} {
    fn keep(&mut self, flow: &Flow<'_>, notes: &mut Notes) -> bool {
        let keep = protocol::has_ports(flow.protocol()) && flow.original().destination_l4() == self.port;
        let bytes = flow.bytes().unwrap_or(0);
        if keep && bytes > self.bytes {
            notes.annotate(flow, "heavy", bytes);
        }
        keep
    }
}

flowgate_sdk::filter!({{type}});
