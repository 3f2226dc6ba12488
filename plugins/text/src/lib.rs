//! Stock plugin: flows and expectations as the plain lines of `conntrack` (conntrack(8), `-o`).

mod expectation;
mod flow;
#[cfg(test)]
mod tests;

use flowgate_sdk::{
    Description, ExpectationFormat, Expectations, Flow, FlowFormat, Flows, Page, Plugin, Setup, field, time::TimeZone,
};

/// The plugin and its settings.
pub struct Plain {
    extended: bool,
    id: bool,
    kernel_times: bool,
    timestamp: bool,
    /// Names by bit, cleaned for the terminal; empty if no map is loaded.
    labels: Vec<Option<Box<[u8]>>>,
    zone: TimeZone,
    /// Length of the previous batch's text.
    room: usize,
}

/// Length of most lines, for the first batch.
const LINE: usize = 160;

/// The fields that a line can need. Window scales, sequence numbers and the like are never printed.
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
    | field::ANNOTATIONS
    | field::PORT_ID
    | field::PROGRAM
    | field::SYNTHETIC
    | field::NAMESPACE
    | field::NAMESPACE_NAME;

impl Plugin for Plain {
    fn describe() -> Description {
        Description::new("text", env!("CARGO_PKG_VERSION"), "Lines of text as conntrack prints them")
            .option("extended", "", "print the layer-3 protocol too (-o extended)", None)
            .option("id", "", "print the identifier of each flow (-o id)", None)
            .option("ktimestamp", "", "print when each flow began and ended (-o ktimestamp)", None)
            .option("timestamp", "", "print the time of each event and of each expectation (-o timestamp)", None)
            .option("labels", "", "for -o labels; labels are printed whenever a label map is loaded", None)
            .option("userspace", "", "for -o userspace; the process behind an event is always printed", None)
            .reads(READS)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        for ignored in ["labels", "userspace"] {
            setup.switch(ignored)?;
        }
        let mut labels: Vec<Option<Box<[u8]>>> = Vec::new();
        for label in &setup.labels {
            let bit = usize::from(label.bit);
            if labels.len() <= bit {
                labels.resize(bit + 1, None);
            }
            let mut name = Page::default();
            name.clean(label.name.as_bytes());
            if let Some(place) = labels.get_mut(bit) {
                *place = Some(name.into_bytes().into());
            }
        }
        Ok(Plain {
            extended: setup.switch("extended")?,
            id: setup.switch("id")?,
            kernel_times: setup.switch("ktimestamp")?,
            timestamp: setup.switch("timestamp")?,
            labels,
            zone: TimeZone::of(setup),
            room: 0,
        })
    }
}

impl FlowFormat for Plain {
    fn render(&mut self, batch: &Flows) -> Vec<u8> {
        if self.room == 0 {
            self.room = batch.length as usize * LINE;
        }
        let mut page = Page::with_capacity(self.room);
        for flow in batch.flows() {
            page = self.flow(page, flow);
        }
        self.room = self.room.max(page.len() + page.len() / 8);
        page.into_bytes()
    }
}

impl ExpectationFormat for Plain {
    fn render(&mut self, batch: &Expectations) -> Vec<u8> {
        let mut page = Page::default();
        for expectation in batch.expectations() {
            self.expectation(&mut page, &expectation, batch.time);
        }
        page.into_bytes()
    }
}

/// Writes annotations, each followed by a blank.
fn annotations<'a>(page: &mut Page, annotations: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    for (key, value) in annotations {
        page.word(key);
        page.byte(b'=');
        page.word(value);
        page.byte(b' ');
    }
}

/// Writes labels that are set and have a name, comma-separated after `labels=`; only the word `labels` if none of them
/// has one.
fn labels(page: &mut Page, names: &[Option<Box<[u8]>>], flow: &Flow<'_>) {
    let Some(bits) = flow.labels() else { return };
    page.text(b"labels");
    let mut separator = b'=';
    for (bit, name) in names.iter().enumerate() {
        let set = bits.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 != 0);
        if let (true, Some(name)) = (set, name) {
            page.byte(separator);
            page.bytes(name);
            separator = b',';
        }
    }
    page.byte(b' ');
}

flowgate_sdk::table_format!(Plain);
