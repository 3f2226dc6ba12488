//! The information that the host adds to the kernel's messages: the time of a batch, and the names of programs and of
//! namespaces.

use flowgate_base::clock::now;
use flowgate_netlink::{
    process_names::ProcessNames,
    source::{Datagram, Source},
};

/// The source of the additional information of a run's rows.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// True if the rows are events.
    events: bool,
    /// True if the datagrams contain times.
    recorded: bool,
    /// True if they contain names.
    named: bool,
    /// True if the current rows are entries of the table between events.
    entries: bool,
    /// The time at which the last datagram was received, in nanoseconds since 1970.
    received: u64,
    programs: ProcessNames,
}

impl Context {
    /// Returns the context for the datagrams of a source.
    pub(crate) fn of(source: &dyn Source) -> Self {
        let (recorded, named) = (source.is_replay(), source.has_process_names());
        let programs =
            if named { ProcessNames::fixed() } else { ProcessNames::in_namespace(source.namespace().cloned()) };
        Self { events: source.is_live(), recorded, named, entries: false, received: 0, programs }
    }

    /// Returns true if the rows are events.
    pub(crate) fn events(&self) -> bool {
        self.events
    }

    /// Returns true if an incomplete batch is passed on when no datagram is waiting.
    pub(crate) fn when_idle(&self) -> bool {
        self.events && !self.recorded
    }

    /// Returns true if the datagram is of another kind than the current rows: entries after events, or events after
    /// entries.
    pub(crate) fn turns(&mut self, datagram: &Datagram) -> bool {
        std::mem::replace(&mut self.entries, datagram.entries) != datagram.entries
    }

    /// Takes over the information of a datagram besides its messages.
    pub(crate) fn meet(&mut self, datagram: &Datagram) {
        if self.recorded {
            self.received = datagram.received;
        }
        if self.named {
            for (port, name) in &datagram.process_names {
                self.programs.insert(datagram.namespace, *port, name.clone());
            }
            if let (Some(id), Some(name)) = (datagram.namespace, &datagram.namespace_name) {
                self.programs.namespaces.insert(id, name.clone());
            }
        }
    }

    /// Returns the time of a batch: the current time, or that of its last datagram.
    pub(crate) fn time(&self) -> u64 {
        if self.recorded { self.received } else { now() }
    }

    /// Returns the names of programs and namespaces if the rows are events.
    pub(crate) fn programs(&mut self) -> Option<&mut ProcessNames> {
        self.events.then_some(&mut self.programs)
    }
}
