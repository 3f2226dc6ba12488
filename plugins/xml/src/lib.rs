//! Stock plugin: flows and expectations as the XML of `conntrack` (conntrack(8), `-o xml`).
//!
//! Names are escaped, so that the output is well-formed whatever the name of a label, a helper or a security context.

mod escape;
mod expectation;
mod flow;
#[cfg(test)]
mod tests;

use flowgate_sdk::{
    Description, ExpectationFormat, Expectations, FlowFormat, Flows, Page, Plugin, Setup, field,
    time::{LocalTime, TimeZone},
};

/// The plugin and its settings.
pub struct Xml {
    header: bool,
    footer: bool,
    kernel_times: bool,
    timestamp: bool,
    /// Bits and names, escaped; empty if no map is loaded.
    labels: Vec<(u16, Box<[u8]>)>,
    zone: TimeZone,
    /// True if something was printed, and with it the header.
    started: bool,
    /// Length of the previous batch's text.
    room: usize,
}

/// The fields that an element can need.
const READS: u64 = field::TUPLES
    | field::ZONES
    | field::STATUS
    | field::TIMEOUT
    | field::MARK
    | field::SECMARK
    | field::USE
    | field::ID
    | field::COUNTERS
    | field::START
    | field::STOP
    | field::EVENT_TIME
    | field::STATE
    | field::HELPER
    | field::LABELS
    | field::SECURITY_CONTEXT
    | field::SYNTHETIC
    | field::NAMESPACE
    | field::NAMESPACE_NAME
    | field::ANNOTATIONS;

impl Plugin for Xml {
    fn describe() -> Description {
        Description::new("xml", env!("CARGO_PKG_VERSION"), "XML as conntrack prints it")
            .option("header", "", "print the XML declaration and the root element before the first entry", None)
            .option("footer", "", "close the root element at the end, if the header was printed", None)
            .option("ktimestamp", "", "print when each flow began and ended (-o ktimestamp)", None)
            .option("timestamp", "", "print the time of each event and of each expectation (-o timestamp)", None)
            .reads(READS)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let escaped = |name: &str| {
            let mut page = Page::default();
            escape::text(&mut page, name.as_bytes());
            page.into_bytes().into_boxed_slice()
        };
        Ok(Xml {
            header: setup.switch("header")?,
            footer: setup.switch("footer")?,
            kernel_times: setup.switch("ktimestamp")?,
            timestamp: setup.switch("timestamp")?,
            labels: setup.labels.iter().map(|label| (label.bit, escaped(&label.name))).collect(),
            zone: TimeZone::of(setup),
            started: false,
            room: 0,
        })
    }
}

impl Xml {
    /// Writes the header, before the first entry.
    fn start(&mut self, page: &mut Page, root: &[u8]) {
        if !std::mem::replace(&mut self.started, true) && self.header {
            page.bytes(b"<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<");
            page.bytes(root);
            page.bytes(b">\n");
        }
    }

    fn end(&mut self, root: &[u8]) -> Vec<u8> {
        let mut page = Page::default();
        if self.started && self.header && self.footer {
            page.text(b"</");
            page.bytes(root);
            page.text(b">\n");
        }
        page.into_bytes()
    }

    /// Writes `<when>`: local time in numbers.
    fn when(&self, page: &mut Page, time: u64) {
        let LocalTime { year, month, day, weekday, hour, minute, second } = self.zone.local(time);
        page.text(b"<when><hour>");
        page.number(hour.into());
        page.text(b"</hour><min>");
        page.zero_padded(minute.into(), 2);
        page.text(b"</min><sec>");
        page.zero_padded(second.into(), 2);
        page.text(b"</sec><wday>");
        page.number(u64::from(weekday) + 1);
        page.text(b"</wday><day>");
        page.number(day.into());
        page.text(b"</day><month>");
        page.number(month.into());
        page.text(b"</month><year>");
        page.number(year.unsigned_abs());
        page.text(b"</year></when>");
    }
}

impl FlowFormat for Xml {
    fn render(&mut self, batch: &Flows) -> Vec<u8> {
        let mut page = Page::with_capacity(self.room);
        for flow in batch.flows().filter(|flow| flow.event() != flowgate_sdk::event::GAP) {
            self.start(&mut page, b"conntrack");
            page = self.flow(page, flow);
        }
        self.room = self.room.max(page.len() + page.len() / 8);
        page.into_bytes()
    }

    fn finish(&mut self) -> Vec<u8> {
        self.end(b"conntrack")
    }
}

impl ExpectationFormat for Xml {
    fn render(&mut self, batch: &Expectations) -> Vec<u8> {
        let mut page = Page::default();
        for expectation in batch.expectations().filter(|row| row.event() != flowgate_sdk::event::GAP) {
            self.start(&mut page, b"expect");
            self.expectation(&mut page, &expectation, batch.time);
        }
        page.into_bytes()
    }

    fn finish(&mut self) -> Vec<u8> {
        self.end(b"expect")
    }
}

flowgate_sdk::table_format!(Xml);
