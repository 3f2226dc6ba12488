//! A format: one flow record per line, as JSON, in the terms of IPFIX (RFC 7011; the names are those of IANA's registry
//! "IPFIX Information Elements").
//!
//! Flows that have ended (`-E -e DESTROY`) give a complete record; flows of a listing give one without an end, like
//! those of a meter's active timeout. Other events give none. Timestamps need the sysctl nf_conntrack_timestamp,
//! counters nf_conntrack_acct.

mod record;

use flowgate_sdk::{Page, event, prelude::*};

struct FlowLog {
    observer: Option<String>,
}

impl Plugin for FlowLog {
    fn describe() -> Description {
        Description::new("flow-log", "1.0.0", "Flow records as JSON lines, in the terms of IPFIX")
            .option("observer", "NAME", "who observed the flows, as the member observationPointName", None)
            .reads(
                field::TUPLES
                    | field::ZONES
                    | field::STATUS
                    | field::STATE
                    | field::MARK
                    | field::ID
                    | field::COUNTERS
                    | field::START
                    | field::STOP
                    | field::EVENT_TIME
                    | field::HELPER
                    | field::PORT_ID
                    | field::PROGRAM
                    | field::ANNOTATIONS,
            )
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        Ok(FlowLog { observer: setup.text("observer").filter(|name| !name.is_empty()).map(str::to_string) })
    }
}

impl FlowFormat for FlowLog {
    fn render(&mut self, batch: &Flows) -> Vec<u8> {
        let mut page = Page::with_capacity(batch.length as usize * 512);
        for flow in batch.flows().filter(|flow| matches!(flow.event(), event::NONE | event::DESTROY)) {
            record::write(&mut page, &flow, self.observer.as_deref());
        }
        page.into_bytes()
    }
}

flowgate_sdk::format!(FlowLog);
