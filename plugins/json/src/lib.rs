//! Stock plugin: flows, expectations, statistics and groups of flows as JSON, one object per line. `docs/JSON.md`
//! describes the schema.
#![cfg_attr(test, recursion_limit = "256")]

mod expectation;
mod flow;
mod groups;
mod rest;
mod statistics;
#[cfg(test)]
mod tests;
mod value;

use flowgate_sdk::{
    Counts, Description, ExpectationFormat, Expectations, FlowFormat, Flows, Groups, GroupsFormat, Page, Plugin, Setup,
    StatisticsFormat, field, protocol,
};

/// The plugin, with prepared text.
pub struct Json {
    /// Names by bit, as JSON strings.
    labels: Vec<Option<Box<[u8]>>>,
    /// Members `protocol` and `protocol_name` of each protocol seen so far; empty for others.
    protocols: Vec<Box<[u8]>>,
    /// Members `status` and `status_names` of recent statuses; a table has few different ones.
    statuses: [(u32, Vec<u8>); 16],
    /// Length of the previous batch's text.
    room: usize,
}

impl Plugin for Json {
    fn describe() -> Description {
        Description::new("json", env!("CARGO_PKG_VERSION"), "JSON, one object a line").reads(field::ALL)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let mut labels: Vec<Option<Box<[u8]>>> = Vec::new();
        for label in &setup.labels {
            let bit = usize::from(label.bit);
            if labels.len() <= bit {
                labels.resize(bit + 1, None);
            }
            let mut name = Page::default();
            name.json(label.name.as_bytes());
            if let Some(place) = labels.get_mut(bit) {
                *place = Some(name.into_bytes().into());
            }
        }
        Ok(Json {
            labels,
            protocols: vec![Box::default(); 256],
            statuses: std::array::from_fn(|_| (0, value::status(0))),
            room: 0,
        })
    }
}

impl FlowFormat for Json {
    fn render(&mut self, batch: &Flows) -> Vec<u8> {
        // The beginning is the same for the whole batch.
        let mut start = Page::default();
        start.text(b"{\"type\":\"flow\",\"time\":");
        start.number(batch.time);
        start.byte(b',');
        let start = start.into_bytes();
        let mut page = Page::with_capacity(self.room);
        for flow in batch.flows() {
            page.bytes(&start);
            page = self.flow(page, flow);
        }
        self.room = self.room.max(page.len() + page.len() / 8);
        page.into_bytes()
    }
}

impl ExpectationFormat for Json {
    fn render(&mut self, batch: &Expectations) -> Vec<u8> {
        let mut page = Page::default();
        for expectation in batch.expectations() {
            self.expectation(&mut page, &expectation);
        }
        page.into_bytes()
    }
}

impl StatisticsFormat for Json {
    fn render(&mut self, counts: &Counts) -> Vec<u8> {
        statistics::render(counts)
    }
}

impl GroupsFormat for Json {
    fn render(&mut self, groups: &Groups) -> Vec<u8> {
        groups::render(groups)
    }
}

impl Json {
    /// Writes the member `protocol`, and its name if it has one.
    #[inline(always)]
    fn protocol(&mut self, mut page: Page, number: u8) -> Page {
        if let Some(members) = self.protocols.get_mut(usize::from(number)) {
            if members.is_empty() {
                let mut made = Page::default();
                value::named(&mut made, b"protocol", number.into(), protocol::name(number));
                *members = made.into_bytes().into();
            }
            page.bytes(members);
        }
        page
    }
}

flowgate_sdk::any_format!(Json);
