//! Names of the processes that own netlink ports, which events carry as their cause.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::namespace_names::NamespaceNames;
use crate::{Namespace, namespace};
use flowgate_base::Backoff;

/// Number of cached names. The port of a process that has ended may be reused, so that names are not kept for ever.
const CACHED_NAMES: usize = 64;

/// Time for which a failed search for a port's owner is cached. It doubles each time, up to 3.2 s: a search goes
/// through all processes, many events of a process that has ended may still be queued, and a process without privileges
/// cannot see those that have more.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(3200));
/// Maximum number of cached failures.
const CACHED_FAILURES: usize = 1024;
/// A process: the id of the network namespace that its port belongs to (`None` for that of the source), its port, its
/// name.
type CachedName = (Option<u32>, u32, Vec<u8>);

/// Looks up process names and caches the last ones: a process that changes many entries is looked up once, and its name
/// is available even after it has ended.
#[derive(Debug, Default)]
pub struct ProcessNames {
    cached: VecDeque<CachedName>,
    /// True if only inserted names are cached and none are looked up.
    fixed: bool,
    /// Ports without a cached owner: when the next search is due, and how many have failed in a row.
    failures: HashMap<(Option<u32>, u32), (Instant, u32)>,
    /// The namespace of the source, if it is not that of the process.
    home: Option<Namespace>,
    /// The names of the other namespaces.
    pub namespaces: NamespaceNames,
}

impl ProcessNames {
    /// Returns an empty map that looks nothing up: it has only inserted names.
    #[must_use]
    pub fn fixed() -> Self {
        Self { fixed: true, namespaces: NamespaceNames::fixed(), ..Self::default() }
    }

    /// Returns an empty map for a source in this network namespace.
    #[must_use]
    pub fn in_namespace(home: Option<Namespace>) -> Self {
        Self { namespaces: NamespaceNames::for_ids_of(home.clone()), home, ..Self::default() }
    }

    /// Returns true if the name of a port is cached.
    #[must_use]
    pub fn contains(&self, namespace: Option<u32>, port: u32) -> bool {
        self.index_of(namespace, port).is_some()
    }

    fn index_of(&self, namespace: Option<u32>, port: u32) -> Option<usize> {
        self.cached.iter().position(|cached| (cached.0, cached.1) == (namespace, port))
    }

    /// Returns true if [`ProcessNames::name`] would search for the process, which takes some milliseconds.
    #[must_use]
    pub fn would_search(&self, namespace: Option<u32>, port: u32) -> bool {
        let failed = || self.failures.get(&(namespace, port)).is_some_and(|(until, _)| Instant::now() < *until);
        port != 0 && !self.fixed && !self.contains(namespace, port) && !failed()
    }

    /// Inserts a name.
    pub fn insert(&mut self, namespace: Option<u32>, port: u32, name: Vec<u8>) {
        self.cached.retain(|cached| (cached.0, cached.1) != (namespace, port));
        if self.cached.len() >= CACHED_NAMES {
            self.cached.pop_front();
        }
        self.cached.push_back((namespace, port, name));
    }

    /// Returns the name of the process that owns a netlink port in a network namespace, as in /proc/PID/stat. Returns
    /// `None` for the kernel itself (port 0), for processes that ended before they were looked up, and in a namespace
    /// without a name.
    pub fn name(&mut self, namespace: Option<u32>, port: u32) -> Option<&[u8]> {
        if port == 0 {
            return None;
        }
        if let Some(at) = self.index_of(namespace, port) {
            return self.cached.get(at).map(|cached| cached.2.as_slice());
        }
        if self.fixed {
            return None;
        }
        let name = self.search(namespace, port)?;
        self.insert(namespace, port, name);
        self.cached.back().map(|cached| cached.2.as_slice())
    }

    /// Returns a name as [`ProcessNames::name`] does. A search that has failed before holds up nobody else: without
    /// privileges it fails each time, and the more processes there are, the longer it takes.
    pub fn shared_name(shared: &Mutex<ProcessNames>, namespace: Option<u32>, port: u32) -> Option<Vec<u8>> {
        let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = lock();
        if !names.would_search(namespace, port) || !names.failures.contains_key(&(namespace, port)) {
            return names.name(namespace, port).map(<[u8]>::to_vec);
        }
        // Others do not search meanwhile.
        names.fail(namespace, port);
        let place = match namespace {
            Some(id) => Some(names.namespaces.namespace(id)?.clone()),
            None => names.home.clone(),
        };
        drop(names);
        let found = find_owner(place.as_ref(), port)?;
        let mut names = lock();
        names.failures.remove(&(namespace, port));
        names.insert(namespace, port, found.clone());
        Some(found)
    }

    /// Records a failed search.
    fn fail(&mut self, namespace: Option<u32>, port: u32) {
        let failed = self.failures.get(&(namespace, port)).map_or(1, |(_, failed)| failed.saturating_add(1));
        if self.failures.len() >= CACHED_FAILURES {
            self.failures.clear();
        }
        self.failures.insert((namespace, port), (Instant::now() + BACKOFF.pause(failed), failed));
    }

    /// Searches for a name, unless a recent search failed.
    fn search(&mut self, namespace: Option<u32>, port: u32) -> Option<Vec<u8>> {
        let before = self.failures.get(&(namespace, port)).copied();
        if before.is_some_and(|(until, _)| Instant::now() < until) {
            return None;
        }
        let found = match namespace {
            Some(id) => find_owner(Some(&self.namespaces.namespace(id)?.clone()), port),
            None => find_owner(self.home.as_ref(), port),
        };
        match found {
            None => self.fail(namespace, port),
            Some(_) => drop(self.failures.remove(&(namespace, port))),
        }
        found
    }
}

/// Searches for the process that has the port's socket open, by the inode of the socket.
fn find_owner(namespace: Option<&Namespace>, port: u32) -> Option<Vec<u8>> {
    let sockets = namespace::run_in(namespace, || fs::read_to_string("/proc/thread-self/net/netlink")).ok()?.ok()?;
    let inode = inode(&sockets, port)?;
    // The port is usually the process id.
    let likely = Path::new("/proc").join(port.to_string());
    let mut processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let holder = std::iter::once(likely).chain(&mut processes).find(|process| has_socket(process, inode))?;
    name(&fs::read(holder.join("stat")).ok()?)
}

/// Returns the inode of the socket with this port; netfilter is netlink protocol 12.
fn inode(table: &str, port: u32) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (protocol, of) = (words.nth(1)?, words.next()?);
        if protocol != "12" || of.parse() != Ok(port) {
            return None;
        }
        words.last()?.parse().ok()
    })
}

/// Returns true if the process has the socket open.
fn has_socket(process: &Path, inode: u64) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|descriptor| fs::metadata(descriptor.path()).is_ok_and(|file| file.ino() == inode))
}

/// Returns the text between the first parenthesis and the next closing one.
fn name(stat: &[u8]) -> Option<Vec<u8>> {
    let start = stat.iter().position(|&byte| byte == b'(')? + 1;
    let rest = stat.get(start..)?;
    let end = rest.iter().position(|&byte| byte == b')')?;
    rest.get(..end).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
0000000012345678 12  4711       00000000 0        0        0     2        0        9876
0000000012345679 0   4712       00000000 0        0        0     2        0        9877
";

    #[test]
    fn only_netfilter_sockets_count() {
        assert_eq!(inode(TABLE, 4711), Some(9876));
        assert_eq!(inode(TABLE, 4712), None);
        assert_eq!(inode("", 1), None);
    }

    #[test]
    fn names_end_at_the_first_parenthesis() {
        assert_eq!(name(b"1 (conntrack) S 0").unwrap(), b"conntrack");
        assert_eq!(name(b"1 (a)b) S 0").unwrap(), b"a");
        assert_eq!(name(b"1 S 0"), None);
    }

    #[test]
    fn the_last_names_that_were_told_count() {
        let mut programs = ProcessNames::fixed();
        assert_eq!(programs.name(None, std::process::id()), None);
        for port in 1..=CACHED_NAMES as u32 + 1 {
            programs.insert(None, port, port.to_string().into_bytes());
        }
        programs.insert(None, 5, b"five".to_vec());
        programs.insert(Some(1), 5, b"another five".to_vec());
        assert!(!programs.contains(None, 1) && !programs.contains(None, 2) && programs.contains(None, 3));
        assert_eq!(programs.name(None, 5).unwrap(), b"five");
        assert_eq!(programs.name(Some(1), 5).unwrap(), b"another five");
        assert_eq!(programs.name(Some(2), 5), None);
    }

    /// A port that no socket has: above all process IDs, and below those that the kernel makes up.
    const NOBODY: u32 = 1 << 30;

    #[test]
    fn who_is_not_found_is_left_alone_for_longer_each_time() {
        let mut programs = ProcessNames::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(programs.name(None, NOBODY), None);
            assert_eq!(programs.name(None, NOBODY), None, "that was asked a moment ago");
            let (until, failed) = programs.failures.get_mut(&(None, NOBODY)).unwrap();
            pauses.push(BACKOFF.pause(*failed).as_millis());
            *until = Instant::now();
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 3200, 3200]);
        for port in 0..3 * CACHED_FAILURES as u32 {
            programs.name(None, NOBODY + port);
        }
        assert!(programs.failures.len() <= CACHED_FAILURES);
    }

    #[test]
    fn names_that_are_shared_are_the_same() {
        let shared = Mutex::new(ProcessNames::default());
        let due = |due: bool| {
            let mut programs = shared.lock().unwrap();
            assert_eq!(programs.would_search(None, NOBODY), due);
            programs.failures.values_mut().for_each(|(until, _)| *until = Instant::now());
        };
        for failed in 1..=3 {
            due(true);
            assert_eq!(ProcessNames::shared_name(&shared, None, NOBODY), None);
            assert_eq!(shared.lock().unwrap().failures[&(None, NOBODY)].1, failed);
            due(false);
        }
        // A search that has failed before finds a socket that has been opened since.
        let socket = crate::Socket::open(&crate::SocketOptions::default()).unwrap();
        let port = socket.port();
        shared.lock().unwrap().fail(None, port);
        assert_eq!(ProcessNames::shared_name(&shared, None, port), None, "that was asked a moment ago");
        shared.lock().unwrap().failures.values_mut().for_each(|(until, _)| *until = Instant::now());
        let name = ProcessNames::shared_name(&shared, None, port).unwrap();
        assert_eq!(shared.lock().unwrap().name(None, port), Some(name.as_slice()));
        assert_eq!(ProcessNames::shared_name(&shared, None, port), Some(name));
        assert!(!shared.lock().unwrap().failures.contains_key(&(None, port)));
    }

    #[test]
    fn nobody_has_port_zero() {
        assert_eq!(ProcessNames::default().name(None, 0), None);
    }
}
