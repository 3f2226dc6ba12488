//! Names of network namespaces by the ids that events of other namespaces carry.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{Namespace, namespace};

/// How long an id that has no name is not asked for again.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a name holds: an id may be given to another namespace.
const VALID: Duration = Duration::from_secs(10);

/// Looks names up, and remembers them for a while.
#[derive(Debug, Default)]
pub struct Namespaces {
    known: HashMap<u32, (Vec<u8>, Option<Namespace>)>,
    /// Whether names are those that were told, and never looked up.
    told: bool,
    /// Whose ids they are: none for the namespace of the process.
    home: Option<Namespace>,
    /// When they were looked up.
    fresh: Option<Instant>,
}

impl Namespaces {
    /// Knows the names that it is told, and looks none up.
    #[must_use]
    pub fn told() -> Self {
        Self { told: true, ..Self::default() }
    }

    /// Knows the names for the ids of this namespace.
    #[must_use]
    pub fn seen_from(home: Option<Namespace>) -> Self {
        Self { home, ..Self::default() }
    }

    /// Remembers a name.
    pub fn learn(&mut self, id: u32, name: Vec<u8>) {
        self.known.insert(id, (name, None));
    }

    /// The name of the namespace with an id; none if it has no name in /run/netns.
    pub fn name(&mut self, id: u32) -> Option<&[u8]> {
        self.refresh(id);
        self.known.get(&id).map(|(name, _)| name.as_slice())
    }

    /// The namespace with an id, if it has a name.
    pub fn namespace(&mut self, id: u32) -> Option<&Namespace> {
        self.refresh(id);
        self.known.get(&id)?.1.as_ref()
    }

    /// Looks all names up if this one may be out of date.
    fn refresh(&mut self, id: u32) {
        let valid = if self.known.contains_key(&id) { VALID } else { PATIENCE };
        if self.told || self.fresh.is_some_and(|fresh| fresh.elapsed() < valid) {
            return;
        }
        self.fresh = Some(Instant::now());
        self.known.clear();
        // Where the kernel does not tell, namespaces have their ids only.
        for neighbour in namespace::neighbours(self.home.as_ref()).unwrap_or_default() {
            if let Some(id) = neighbour.id {
                self.known.insert(id, (neighbour.namespace.name().as_bytes().to_vec(), Some(neighbour.namespace)));
            }
        }
    }
}
