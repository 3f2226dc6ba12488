//! The counts of a source.

use std::collections::{HashMap, HashSet};

use flowgate_sdk::{Flow, Key, protocol};

/// The destination of a flow: a host, and a port if the protocol has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    host: u128,
    protocol: u8,
    port: Option<u16>,
}

impl Target {
    /// Returns the target of a flow.
    pub(crate) fn of(flow: &Flow<'_>) -> Self {
        let original = flow.original();
        let port = protocol::has_ports(flow.protocol()).then(|| original.destination_port());
        Target { host: original.destination_bits(), protocol: flow.protocol(), port }
    }
}

/// A source of unanswered flows.
#[derive(Debug)]
pub(crate) struct Source {
    /// When its counts started, nanoseconds since 1970.
    pub since: u64,
    /// A description of the scan, once it was detected.
    pub found: Option<String>,
    /// The targets of its unanswered flows: the number of the flow, and the key of the last flow to the target.
    targets: HashMap<Target, (usize, Key)>,
    /// Number of flows so far.
    count: usize,
}

impl Source {
    /// Creates a source whose counts start now.
    pub(crate) fn new(since: u64) -> Self {
        Source { since, found: None, targets: HashMap::new(), count: 0 }
    }

    /// Starts the counts again; returns how many targets were forgotten.
    pub(crate) fn forget(&mut self, since: u64) -> usize {
        let forgotten = self.targets.len();
        *self = Source::new(since);
        forgotten
    }

    /// Adds a target; returns true if it is new.
    pub(crate) fn add(&mut self, target: Target, key: Key) -> bool {
        self.count += 1;
        self.targets.insert(target, (self.count, key)).is_none()
    }

    /// Removes a target; returns true if it existed.
    pub(crate) fn remove(&mut self, target: Target) -> bool {
        self.targets.remove(&target).is_some()
    }

    /// Returns a description of the scan, if this is one.
    pub(crate) fn judge(&mut self, ports: usize, hosts: usize) -> Option<String> {
        if self.targets.len() < ports.min(hosts) {
            return None;
        }
        let distinct_ports: HashSet<(u8, u16)> =
            self.targets.keys().filter_map(|target| Some((target.protocol, target.port?))).collect();
        let distinct_hosts: HashSet<u128> = self.targets.keys().map(|target| target.host).collect();
        if distinct_ports.len() < ports && distinct_hosts.len() < hosts {
            return None;
        }
        let several = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        self.found =
            Some(format!("{} on {}", several(distinct_ports.len(), "port"), several(distinct_hosts.len(), "host")));
        self.found.clone()
    }

    /// Removes and returns the keys of its flows so far, in the order in which they were seen.
    pub(crate) fn take(&mut self) -> Vec<Key> {
        let mut flows: Vec<(usize, Key)> = std::mem::take(&mut self.targets).into_values().collect();
        flows.sort_unstable_by_key(|(number, _)| *number);
        flows.into_iter().map(|(_, key)| key).collect()
    }
}
