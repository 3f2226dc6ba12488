//! Stock plugin: flows as lines of options that `conntrack -R` can load (conntrack(8), `-o save`).

mod flow;
#[cfg(test)]
mod tests;

use flowgate_sdk::{Description, FlowFormat, Flows, Page, Plugin, Setup, event, field};

/// What each line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    /// `-A`: add the entry.
    Add,
    /// `-D`: delete it.
    Delete,
    /// What the event was: `-A` for NEW and for entries of a dump, `-U` for UPDATE, `-D` for DESTROY.
    Event,
}

/// The plugin and its settings.
pub struct Save {
    command: Command,
    /// Bytes that the batch before took.
    room: usize,
}

/// What the options of a line can need.
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
    | field::PROGRAM;

impl Plugin for Save {
    fn describe() -> Description {
        Description::new("save", env!("CARGO_PKG_VERSION"), "Lines that conntrack -R can load")
            .option("command", "A|D|event", "what each line asks for: add, delete, or what the event was", Some("A"))
            .reads(READS)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let command = match setup.text("command") {
            None | Some("A") => Command::Add,
            Some("D") => Command::Delete,
            Some("event") => Command::Event,
            Some(other) => return Err(std::format!("option command: {other:?} is none of A, D and event")),
        };
        Ok(Save { command, room: 0 })
    }
}

impl Save {
    /// The command letter for a kind of event.
    fn letter(&self, kind: u8) -> &'static [u8; 2] {
        match (self.command, kind) {
            (Command::Delete, _) | (Command::Event, event::DESTROY) => b"-D",
            (Command::Event, event::UPDATE) => b"-U",
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

flowgate_sdk::format!(Save);
