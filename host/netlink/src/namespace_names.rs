//! Names of network namespaces by the ids that events of other namespaces carry.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{Namespace, namespace};

/// Time after which an id without a name is looked up again.
const UNKNOWN_VALIDITY: Duration = Duration::from_secs(1);
/// Time for which a name is cached: an id may be reassigned to another namespace.
const VALIDITY: Duration = Duration::from_secs(10);

/// Looks up the names of namespaces and caches them.
#[derive(Debug, Default)]
pub struct NamespaceNames {
    cached: HashMap<u32, (Vec<u8>, Option<Namespace>)>,
    /// True if only inserted names are cached and none are looked up.
    fixed: bool,
    /// The namespace that the ids belong to; `None` for that of the process.
    home: Option<Namespace>,
    /// When the names were last looked up.
    looked_up: Option<Instant>,
}

impl NamespaceNames {
    /// Returns an empty map that looks nothing up: it has only inserted names.
    #[must_use]
    pub fn fixed() -> Self {
        Self { fixed: true, ..Self::default() }
    }

    /// Returns an empty map for the ids that belong to the namespace `home`.
    #[must_use]
    pub fn for_ids_of(home: Option<Namespace>) -> Self {
        Self { home, ..Self::default() }
    }

    /// Inserts a name.
    pub fn insert(&mut self, id: u32, name: Vec<u8>) {
        self.cached.insert(id, (name, None));
    }

    /// Returns the name of the namespace with this id, or `None` if it has no name in /run/netns.
    pub fn name(&mut self, id: u32) -> Option<&[u8]> {
        self.refresh(id);
        self.cached.get(&id).map(|(name, _)| name.as_slice())
    }

    /// Returns the namespace with this id, if it has a name.
    pub fn namespace(&mut self, id: u32) -> Option<&Namespace> {
        self.refresh(id);
        self.cached.get(&id)?.1.as_ref()
    }

    /// Looks all names up again if the entry for this id may be out of date.
    fn refresh(&mut self, id: u32) {
        let valid = if self.cached.contains_key(&id) { VALIDITY } else { UNKNOWN_VALIDITY };
        if self.fixed || self.looked_up.is_some_and(|looked_up| looked_up.elapsed() < valid) {
            return;
        }
        self.looked_up = Some(Instant::now());
        self.cached.clear();
        // If the kernel does not report ids, no namespace has a name here.
        for neighbour in namespace::peer_namespaces(self.home.as_ref()).unwrap_or_default() {
            if let Some(id) = neighbour.id {
                self.cached.insert(id, (neighbour.namespace.name().as_bytes().to_vec(), Some(neighbour.namespace)));
            }
        }
    }
}
