//! Names of the programs behind netlink ports: who changed the table.

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

/// How many names are remembered. A port of a program that has ended may be given to another one, so not for ever.
const REMEMBERED: usize = 64;

/// How long it is remembered that the program behind a port was not found; twice as long each time, up to [`LONGEST`]. The
/// search goes through all processes, many events of a program that has ended may still be waiting, and who has given up
/// privileges finds nobody who has more.
const FRUITLESS: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_millis(3200);
/// Of how many ports that is remembered.
const PORTS: usize = 1024;
/// A program: the id of the network namespace that its port belongs to (none for that of the source), its port, its name.
type Known = (Option<u32>, u32, Vec<u8>);

/// Looks names up, and remembers the last ones: a program that changes many entries is looked up once, and found even when
/// it has ended meanwhile.
#[derive(Debug, Default)]
pub struct Programs {
    known: VecDeque<Known>,
    /// Whether names are those that were told, and never looked up.
    told: bool,
    /// Ports behind which nobody was found: until when they are left alone, and for how long that is.
    fruitless: HashMap<(Option<u32>, u32), (Instant, Duration)>,
    /// Who searches, where that is done for several.
    searcher: Option<Arc<Mutex<Programs>>>,
    /// The namespace of the source, if not that of the process.
    home: Option<Namespace>,
    /// The names of the other namespaces.
    pub namespaces: Namespaces,
}

impl Programs {
    /// Knows the names that it is told, and looks none up.
    #[must_use]
    pub fn told() -> Self {
        Self { told: true, namespaces: Namespaces::told(), ..Self::default() }
    }

    /// Looks names up for a source in this network namespace.
    #[must_use]
    pub fn within(home: Option<Namespace>) -> Self {
        Self { namespaces: Namespaces::seen_from(home.clone()), home, ..Self::default() }
    }

    /// Has names of programs in the home namespace looked up by this one, which does so for others too: one search for all of
    /// them.
    #[must_use]
    pub fn searched_by(mut self, searcher: Option<Arc<Mutex<Programs>>>) -> Self {
        self.searcher = searcher;
        self
    }

    /// Whether the name of a port is remembered.
    #[must_use]
    pub fn knows(&self, namespace: Option<u32>, port: u32) -> bool {
        self.at(namespace, port).is_some()
    }

    fn at(&self, namespace: Option<u32>, port: u32) -> Option<usize> {
        self.known.iter().position(|known| (known.0, known.1) == (namespace, port))
    }

    /// Remembers a name.
    pub fn learn(&mut self, namespace: Option<u32>, port: u32, name: Vec<u8>) {
        self.known.retain(|known| (known.0, known.1) != (namespace, port));
        if self.known.len() >= REMEMBERED {
            self.known.pop_front();
        }
        self.known.push_back((namespace, port, name));
    }

    /// The name of the program that has a netlink port in a network namespace, as in /proc/PID/stat; none for the kernel
    /// itself (port 0), for programs that have ended before they were looked up, and in a namespace without a name.
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

    /// Looks a name up, unless that was of no use a moment ago.
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

/// The netfilter socket of a port has an inode, and some process holds it.
fn look_up(place: Option<&Namespace>, port: u32) -> Option<Vec<u8>> {
    let sockets = namespace::within(place, || fs::read_to_string("/proc/thread-self/net/netlink")).ok()?.ok()?;
    let inode = inode(&sockets, port)?;
    // Mostly the port is the process's number.
    let likely = Path::new("/proc").join(port.to_string());
    let mut processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let holder = std::iter::once(likely).chain(&mut processes).find(|process| holds(process, inode))?;
    name(&fs::read(holder.join("stat")).ok()?)
}

/// The inode of the socket with this port; netfilter is protocol 12.
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

/// Whether a process has the socket open.
fn holds(process: &Path, inode: u64) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|descriptor| fs::metadata(descriptor.path()).is_ok_and(|file| file.ino() == inode))
}

/// The text between the first parenthesis and the next closing one.
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
