//! What the host adds to the kernel's messages: the time of a batch, and the names of the programs behind ports and of namespaces.

use flowgate_base::clock::now;
use flowgate_netlink::{
    process_names::ProcessNames,
    source::{Datagram, Source},
};

/// How the rows of a run are completed.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// Whether the rows are events.
    events: bool,
    /// Whether times and names come with the datagrams.
    recorded: bool,
    /// Whether the rows at hand are entries of the table, amid events.
    entries: bool,
    /// When the last datagram was received, nanoseconds since 1970.
    received: u64,
    programs: ProcessNames,
}

impl Context {
    /// For the datagrams of a source.
    pub(crate) fn of(source: &dyn Source) -> Self {
        let recorded = source.is_replay();
        let programs = if recorded {
            ProcessNames::fixed()
        } else {
            ProcessNames::in_namespace(source.namespace().cloned()).with_shared_lookup(source.process_names())
        };
        Self { events: source.is_live(), recorded, entries: false, received: 0, programs }
    }

    /// Whether the rows are events.
    pub(crate) fn events(&self) -> bool {
        self.events
    }

    /// Whether rows are handed on when no datagram is waiting, though the batch is not full.
    pub(crate) fn when_idle(&self) -> bool {
        self.events && !self.recorded
    }

    /// Whether what comes now is of another kind than the rows at hand: entries after events, or events after entries.
    pub(crate) fn turns(&mut self, datagram: &Datagram) -> bool {
        std::mem::replace(&mut self.entries, datagram.entries) != datagram.entries
    }

    /// Takes in what a datagram says besides its messages.
    pub(crate) fn meet(&mut self, datagram: &Datagram) {
        if self.recorded {
            self.received = datagram.received;
            for (port, name) in &datagram.process_names {
                self.programs.insert(datagram.namespace, *port, name.clone());
            }
            if let (Some(id), Some(name)) = (datagram.namespace, &datagram.namespace_name) {
                self.programs.namespaces.insert(id, name.clone());
            }
        }
    }

    /// The time of a batch: now, or that of its last datagram.
    pub(crate) fn time(&self) -> u64 {
        if self.recorded { self.received } else { now() }
    }

    /// The names of programs and namespaces, where the rows are events.
    pub(crate) fn programs(&mut self) -> Option<&mut ProcessNames> {
        self.events.then_some(&mut self.programs)
    }
}
