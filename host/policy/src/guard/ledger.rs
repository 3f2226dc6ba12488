//! The entries that tenants have created and that are still in the kernel's table.
//!
//! An entry counts from before the request for it until it is known to be gone: refused, reported by a DESTROY event
//! with its id, or missing when it is looked up. An entry whose state is unknown counts, so that lost events never let
//! a tenant exceed its limit. The ledger belongs to a network namespace and outlives reloads.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::scope::ScopeView;
use flowgate_netlink::Request;

/// The key of an entry in the table: family, protocol, addresses, layer-4 words and zone of the original
/// direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    family: u8,
    protocol: u8,
    addresses: [u128; 2],
    ports: (u16, u16),
    zone: u16,
}

impl EntryKey {
    /// Returns the key of a flow.
    #[must_use]
    pub fn of(view: &ScopeView) -> Self {
        EntryKey {
            family: view.family,
            protocol: view.protocol,
            addresses: [view.source, view.destination],
            ports: view.ports,
            zone: view.zones.0,
        }
    }
}

/// A counted entry.
#[derive(Debug)]
struct CountedEntry {
    tenant: String,
    /// The request that looks it up.
    lookup: Request,
    /// Its id, once it is known.
    id: Option<u32>,
    /// Id of the entry with this key that ended last while the id was unknown.
    ended: Option<u32>,
}

#[derive(Debug, Default)]
struct Inner {
    made: HashMap<EntryKey, CountedEntry>,
    tenants: HashMap<String, Own>,
}

/// The entries of a tenant.
#[derive(Debug, Default)]
struct Own {
    names: BTreeSet<EntryKey>,
    /// The entry that was looked up last.
    last: Option<EntryKey>,
}

/// Why no entry may be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The tenant has reached its limit.
    Own(u64),
    /// All tenants together have reached the limit.
    All(u64),
    /// A request for an entry with this key is in progress.
    Busy,
}

/// An entry to be looked up.
#[derive(Debug)]
pub struct Sample {
    name: EntryKey,
    id: u32,
    /// The request that looks it up.
    pub lookup: Request,
}

/// The entries that the tenants of a network namespace have created.
#[derive(Debug, Default)]
pub struct Ledger {
    inner: Mutex<Inner>,
    /// Number of entries, for readers that must not wait.
    count: AtomicUsize,
}

impl Ledger {
    /// Runs `work` on the entries and updates their number afterwards.
    fn with<R>(&self, work: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut inner);
        self.count.store(inner.made.len(), Ordering::Release);
        result
    }

    /// Counts an entry that is about to be requested, if the tenant then has at most `own` entries and all tenants
    /// together at most `all`. The entry must have been looked up and not found.
    ///
    /// # Errors
    /// [`Full`]; nothing was counted.
    pub fn reserve(&self, tenant: &str, name: EntryKey, lookup: &Request, (own, all): (u64, u64)) -> Result<(), Full> {
        self.with(|inner| {
            if inner.made.get(&name).is_some_and(|made| made.id.is_none()) {
                return Err(Full::Busy);
            }
            // An earlier entry with this key is gone.
            inner.remove(&name);
            let total = inner.made.len() as u64;
            let counted = inner.tenants.get(tenant).map_or(0, |own| own.names.len() as u64);
            if counted >= own {
                return Err(Full::Own(counted));
            }
            if total >= all {
                return Err(Full::All(total));
            }
            let made = CountedEntry { tenant: tenant.into(), lookup: lookup.clone(), id: None, ended: None };
            inner.made.insert(name, made);
            inner.tenants.entry(tenant.into()).or_default().names.insert(name);
            Ok(())
        })
    }

    /// Records the outcome for an entry counted by [`Ledger::reserve`]: it is in the table with this id, or it is not
    /// there.
    pub fn settle(&self, name: &EntryKey, id: Option<u32>) {
        self.with(|inner| {
            let Some(made) = inner.made.get_mut(name).filter(|made| made.id.is_none()) else { return };
            match id {
                Some(id) if made.ended != Some(id) => made.id = Some(id),
                _ => inner.remove(name),
            }
        });
    }

    /// Records that an entry has ended, by a DESTROY event.
    pub fn ended(&self, name: &EntryKey, id: u32) {
        self.with(|inner| match inner.made.get_mut(name) {
            Some(made) if made.id == Some(id) => inner.remove(name),
            Some(made) if made.id.is_none() => made.ended = Some(id),
            // An earlier entry with the same key.
            _ => {}
        });
    }

    /// Returns some entries of a tenant, or of all tenants, whose last lookup is the longest ago.
    #[must_use]
    pub fn some(&self, tenant: Option<&str>, most: usize) -> Vec<Sample> {
        self.with(|Inner { made, tenants }| {
            let mut names = Vec::new();
            let all = tenants.len().max(1);
            for (_, own) in tenants.iter_mut().filter(|(name, _)| tenant.is_none_or(|tenant| tenant == *name)) {
                let share = if tenant.is_some() { most } else { most.div_ceil(all) }.min(own.names.len());
                let after = own.last.map_or(Bound::Unbounded, Bound::Excluded);
                let round = own.names.range((after, Bound::Unbounded)).chain(&own.names);
                let chosen: Vec<EntryKey> = round.take(share).copied().collect();
                own.last = chosen.last().copied().or(own.last);
                names.extend(chosen);
            }
            let sample = |name: EntryKey| {
                let made = made.get(&name)?;
                Some(Sample { name, id: made.id?, lookup: made.lookup.clone() })
            };
            names.into_iter().filter_map(sample).collect()
        })
    }

    /// Records what a lookup has found in place of an entry: an entry with this key and id, or none.
    pub fn looked_up(&self, sample: &Sample, found: Option<(EntryKey, u32)>) {
        self.with(|inner| {
            let same = inner.made.get(&sample.name).is_some_and(|made| made.id == Some(sample.id));
            if same && found != Some((sample.name, sample.id)) {
                inner.remove(&sample.name);
            }
        });
    }

    /// Returns true if there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Returns the number of entries of a tenant.
    #[must_use]
    pub fn count(&self, tenant: &str) -> u64 {
        self.with(|inner| inner.tenants.get(tenant).map_or(0, |own| own.names.len() as u64))
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.count.load(Ordering::Acquire) as u64
    }
}

impl Inner {
    fn remove(&mut self, name: &EntryKey) {
        let Some(made) = self.made.remove(name) else { return };
        if let Some(own) = self.tenants.get_mut(&made.tenant) {
            own.names.remove(name);
            if own.names.is_empty() {
                self.tenants.remove(&made.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_netlink::DumpFilter;

    fn name(port: u16) -> EntryKey {
        EntryKey { family: 2, protocol: 17, addresses: [1, 2], ports: (port, 53), zone: 0 }
    }

    fn lookup() -> Request {
        Request::dump(flowgate_netlink::DumpKind::FLOWS, &DumpFilter::default())
    }

    #[test]
    fn an_entry_counts_until_it_is_known_to_be_gone() {
        let ledger = Ledger::default();
        let make = |tenant: &str, port: u16| ledger.reserve(tenant, name(port), &lookup(), (2, 3));
        assert!(ledger.is_empty());
        assert_eq!((make("blue", 1), make("blue", 2)), (Ok(()), Ok(())));
        assert_eq!((make("blue", 3), make("blue", 2)), (Err(Full::Own(2)), Err(Full::Busy)));
        assert_eq!((make("red", 3), make("red", 4)), (Ok(()), Err(Full::All(3))));
        // Refused by the kernel.
        ledger.settle(&name(3), None);
        assert_eq!((ledger.count("red"), ledger.total()), (0, 2));
        // An event about an earlier entry is ignored; that of the entry itself is not.
        ledger.settle(&name(1), Some(7));
        ledger.ended(&name(1), 6);
        assert_eq!(ledger.count("blue"), 2);
        ledger.ended(&name(1), 7);
        assert_eq!(ledger.count("blue"), 1);
        // The event of the earlier entry, or its own, arrives before its id is known.
        ledger.ended(&name(2), 9);
        ledger.settle(&name(2), Some(10));
        assert_eq!(ledger.count("blue"), 1);
        make("blue", 4).unwrap();
        ledger.ended(&name(4), 12);
        assert_eq!(ledger.count("blue"), 2);
        ledger.settle(&name(4), Some(12));
        assert_eq!(ledger.count("blue"), 1);
    }

    #[test]
    fn what_is_not_found_any_more_does_not_count() {
        let ledger = Ledger::default();
        for port in 1..=3 {
            ledger.reserve("blue", name(port), &lookup(), (3, 3)).unwrap();
            ledger.settle(&name(port), Some(u32::from(port)));
        }
        ledger.reserve("blue", name(1), &lookup(), (3, 3)).unwrap();
        assert_eq!(ledger.count("blue"), 3, "a name counts once");
        let samples = ledger.some(Some("blue"), 10);
        assert_eq!(samples.len(), 2, "one that the kernel is being asked for is not looked up");
        ledger.looked_up(&samples[0], Some((name(2), 2)));
        assert_eq!(ledger.count("blue"), 3);
        ledger.looked_up(&samples[0], Some((name(2), 9)));
        assert_eq!(ledger.count("blue"), 2, "another one is in its place");
        ledger.reserve("red", name(3), &lookup(), (3, 3)).unwrap();
        assert_eq!((ledger.count("blue"), ledger.count("red")), (1, 1), "made by somebody else");
        ledger.looked_up(&samples[1], None);
        assert_eq!(ledger.count("red"), 1, "the answer is older than the new one");
    }

    #[test]
    fn all_entries_are_looked_up_in_turn() {
        let ledger = Ledger::default();
        for port in 0..10 {
            let tenant = if port % 2 == 0 { "blue" } else { "red" };
            ledger.reserve(tenant, name(port), &lookup(), (10, 10)).unwrap();
            ledger.settle(&name(port), Some(1));
        }
        let some = |tenant: Option<&str>, most: usize| -> Vec<u16> {
            ledger.some(tenant, most).into_iter().map(|sample| sample.name.ports.0).collect()
        };
        assert_eq!((some(Some("blue"), 2), some(Some("blue"), 2)), (vec![0, 2], vec![4, 6]));
        assert_eq!(some(Some("blue"), 3), [8, 0, 2]);
        assert_eq!(some(None, 100).len(), 10);
        assert_eq!(some(None, 4).len(), 4);
        assert!(some(Some("green"), 4).is_empty());
    }
}
