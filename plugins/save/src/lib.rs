//! Stock plugin: flows as lines of options that `conntrack -R` can load (conntrack(8), `-o save`).

mod complete;
mod expectation;
mod flow;
#[cfg(test)]
mod tests;

use flowgate_sdk::{
    Description, ExpectationFormat, Expectations, FlowFormat, Flows, Page, Plugin, Setup, event, field,
};

/// The command of each line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    /// `-A`: creates the entry, or changes it.
    Add,
    /// `-I`: creates the entry; fails if it exists.
    Create,
    /// `-U`: changes it.
    Update,
    /// `-D`: deletes it.
    Delete,
    /// By event: `-A` for NEW and for entries of a dump, `-U` for UPDATE, `-D` for DESTROY.
    Event,
}

/// The plugin and its settings.
pub struct Save {
    command: Command,
    /// True if fields are written that conntrack's own lines lack, in flowgate's own options where conntrack has none.
    complete: bool,
    /// Label names by bit.
    labels: Vec<Option<String>>,
    /// Length of the previous batch's text.
    room: usize,
}

/// The fields that the options of a line can need.
const READS: u64 = field::TUPLES
    | field::ZONES
    | field::STATUS
    | field::TIMEOUT
    | field::SECMARK
    | field::STATE
    | field::ORIGINAL_VTAG
    | field::REPLY_VTAG
    | field::DCCP
    | field::ANNOTATIONS
    | field::PORT_ID
    | field::PROGRAM
    | field::NAMESPACE
    | field::NAMESPACE_NAME;

impl Plugin for Save {
    fn describe() -> Description {
        Description::new("save", env!("CARGO_PKG_VERSION"), "Lines that conntrack -R can load")
            .option(
                "command",
                "A|I|U|D|event",
                "what each line asks for: add, create, update, delete, or what the event was",
                Some("A"),
            )
            .option("complete", "true|false", "everything that can be loaded, in flowgate's own options", Some("false"))
            .reads(READS | complete::READS)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let command = match setup.text("command") {
            None | Some("A") => Command::Add,
            Some("I") => Command::Create,
            Some("U") => Command::Update,
            Some("D") => Command::Delete,
            Some("event") => Command::Event,
            Some(other) => return Err(std::format!("option command: {other:?} is none of A, I, U, D and event")),
        };
        let mut labels: Vec<Option<String>> = Vec::new();
        for label in &setup.labels {
            let bit = usize::from(label.bit);
            if labels.len() <= bit {
                labels.resize(bit + 1, None);
            }
            if let Some(place) = labels.get_mut(bit) {
                *place = Some(label.name.clone());
            }
        }
        Ok(Save { command, complete: setup.switch("complete")?, labels, room: 0 })
    }
}

impl Save {
    /// Returns the command letter for a kind of event.
    fn letter(&self, kind: u8) -> &'static [u8; 2] {
        match (self.command, kind) {
            (Command::Delete, _) | (Command::Event, event::DESTROY) => b"-D",
            (Command::Update, _) | (Command::Event, event::UPDATE) => b"-U",
            (Command::Create, _) => b"-I",
            (Command::Add | Command::Event, _) => b"-A",
        }
    }
}

impl FlowFormat for Save {
    fn render(&mut self, batch: &Flows) -> Vec<u8> {
        let mut page = Page::with_capacity(self.room);
        for flow in batch.flows() {
            page = self.flow(page, flow);
        }
        self.room = self.room.max(page.len() + page.len() / 8);
        page.into_bytes()
    }
}

impl ExpectationFormat for Save {
    fn render(&mut self, batch: &Expectations) -> Vec<u8> {
        let mut page = Page::default();
        for expectation in batch.expectations() {
            self.expectation(&mut page, &expectation);
        }
        page.into_bytes()
    }
}

flowgate_sdk::table_format!(Save);
