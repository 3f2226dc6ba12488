//! Names of the processes that own netlink ports, which events carry as their cause.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::namespaces::Namespaces;
use crate::{Namespace, namespace};

/// Number of cached names. The port of a process that has ended may be reused, so that names are not kept for ever.
const REMEMBERED: usize = 64;

/// Time for which a failed search for a port's owner is cached. It doubles each time, up to [`LONGEST`]: a search goes
/// through all processes, many events of a process that has ended may still be queued, and a process without privileges
/// cannot see those that have more.
const FRUITLESS: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_millis(3200);
/// Maximum number of cached failures.
const PORTS: usize = 1024;
/// A process: the id of the network namespace that its port belongs to (`None` for that of the source), its port, its
/// name.
type Known = (Option<u32>, u32, Vec<u8>);

/// Looks up process names and caches the last ones: a process that changes many entries is looked up once, and its name
/// is available even after it has ended.
#[derive(Debug, Default)]
pub struct Programs {
    known: VecDeque<Known>,
    /// True if only inserted names are known and none are looked up.
    told: bool,
    /// Ports without a known owner: when the next search is due, and the pause before it.
    fruitless: HashMap<(Option<u32>, u32), (Instant, Duration)>,
    /// The shared lookup, if several sources share one.
    searcher: Option<Arc<Mutex<Programs>>>,
    /// The namespace of the source, if it is not that of the process.
    home: Option<Namespace>,
    /// The names of the other namespaces.
    pub namespaces: Namespaces,
}

impl Programs {
    /// Returns an empty map that looks nothing up: it has only inserted names.
    #[must_use]
    pub fn told() -> Self {
        Self { told: true, namespaces: Namespaces::told(), ..Self::default() }
    }

    /// Returns an empty map for a source in this network namespace.
    #[must_use]
    pub fn within(home: Option<Namespace>) -> Self {
        Self { namespaces: Namespaces::seen_from(home.clone()), home, ..Self::default() }
    }

    /// Delegates lookups in the home namespace to a shared map, so that several sources need one search.
    #[must_use]
    pub fn searched_by(mut self, searcher: Option<Arc<Mutex<Programs>>>) -> Self {
        self.searcher = searcher;
        self
    }

    /// Returns true if the name of a port is cached.
    #[must_use]
    pub fn knows(&self, namespace: Option<u32>, port: u32) -> bool {
        self.at(namespace, port).is_some()
    }

    fn at(&self, namespace: Option<u32>, port: u32) -> Option<usize> {
        self.known.iter().position(|known| (known.0, known.1) == (namespace, port))
    }

    /// Inserts a name.
    pub fn learn(&mut self, namespace: Option<u32>, port: u32, name: Vec<u8>) {
        self.known.retain(|known| (known.0, known.1) != (namespace, port));
        if self.known.len() >= REMEMBERED {
            self.known.pop_front();
        }
        self.known.push_back((namespace, port, name));
    }

    /// Returns the name of the process that owns a netlink port in a network namespace, as in /proc/PID/stat. Returns
    /// `None` for the kernel itself (port 0), for processes that ended before they were looked up, and in a namespace
    /// without a name.
    pub fn name(&mut self, namespace: Option<u32>, port: u32) -> Option<&[u8]> {
        if port == 0 {
            return None;
        }
        if let Some(at) = self.at(namespace, port) {
            return self.known.get(at).map(|known| known.2.as_slice());
        }
        if self.told {
            return None;
        }
        let name = self.search(namespace, port)?;
        self.learn(namespace, port, name);
        self.known.back().map(|known| known.2.as_slice())
    }

    /// Searches for a name, unless a recent search failed.
    fn search(&mut self, namespace: Option<u32>, port: u32) -> Option<Vec<u8>> {
        let before = self.fruitless.get(&(namespace, port)).copied();
        if before.is_some_and(|(until, _)| Instant::now() < until) {
            return None;
        }
        let found = match (namespace, &self.searcher) {
            (Some(id), _) => look_up(Some(&self.namespaces.namespace(id)?.clone()), port),
            (None, Some(searcher)) => {
                searcher.lock().unwrap_or_else(PoisonError::into_inner).name(None, port).map(<[u8]>::to_vec)
            }
            (None, None) => look_up(self.home.as_ref(), port),
        };
        if found.is_none() {
            if self.fruitless.len() >= PORTS {
                self.fruitless.clear();
            }
            let pause = before.map_or(FRUITLESS, |(_, pause)| (pause * 2).min(LONGEST));
            self.fruitless.insert((namespace, port), (Instant::now() + pause, pause));
        } else {
            self.fruitless.remove(&(namespace, port));
        }
        found
    }
}

/// Searches for the process that has the port's socket open, by the inode of the socket.
fn look_up(place: Option<&Namespace>, port: u32) -> Option<Vec<u8>> {
    let sockets = namespace::within(place, || fs::read_to_string("/proc/thread-self/net/netlink")).ok()?.ok()?;
    let inode = inode(&sockets, port)?;
    // The port is usually the process id.
    let likely = Path::new("/proc").join(port.to_string());
    let mut processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let holder = std::iter::once(likely).chain(&mut processes).find(|process| holds(process, inode))?;
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
fn holds(process: &Path, inode: u64) -> bool {
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
        let mut programs = Programs::told();
        assert_eq!(programs.name(None, std::process::id()), None);
        for port in 1..=REMEMBERED as u32 + 1 {
            programs.learn(None, port, port.to_string().into_bytes());
        }
        programs.learn(None, 5, b"five".to_vec());
        programs.learn(Some(1), 5, b"another five".to_vec());
        assert!(!programs.knows(None, 1) && !programs.knows(None, 2) && programs.knows(None, 3));
        assert_eq!(programs.name(None, 5).unwrap(), b"five");
        assert_eq!(programs.name(Some(1), 5).unwrap(), b"another five");
        assert_eq!(programs.name(Some(2), 5), None);
    }

    #[test]
    fn one_searches_for_others() {
        let searcher = Arc::new(Mutex::new(Programs::told()));
        searcher.lock().unwrap().learn(None, 5, b"five".to_vec());
        let mut programs = Programs::default().searched_by(Some(searcher.clone()));
        assert_eq!(programs.name(None, 5).unwrap(), b"five");
        assert_eq!(programs.name(None, 6), None);
        searcher.lock().unwrap().learn(None, 6, b"six".to_vec());
        assert_eq!(programs.name(None, 6), None, "that was asked a moment ago");
        let (until, pause) = programs.fruitless[&(None, 6)];
        assert!(pause == FRUITLESS && until <= Instant::now() + FRUITLESS);
        programs.fruitless.insert((None, 6), (Instant::now(), FRUITLESS));
        assert_eq!(programs.name(None, 6).unwrap(), b"six");
        assert!(programs.fruitless.is_empty());
    }

    #[test]
    fn who_is_not_found_is_left_alone_for_longer_each_time() {
        let mut programs = Programs::default().searched_by(Some(Arc::new(Mutex::new(Programs::told()))));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(programs.name(None, 7), None);
            let (until, pause) = programs.fruitless.get_mut(&(None, 7)).unwrap();
            pauses.push(pause.as_millis());
            *until = Instant::now();
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 3200, 3200]);
        for port in 0..3 * PORTS as u32 {
            programs.name(None, port);
        }
        assert!(programs.fruitless.len() <= PORTS);
    }

    #[test]
    fn nobody_has_port_zero() {
        assert_eq!(Programs::default().name(None, 0), None);
    }
}
