//! Names of the programs behind netlink ports: who changed the table.

use std::{
    collections::{HashSet, VecDeque},
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

use super::namespaces::Namespaces;
use crate::netlink::{Namespace, namespace};

/// How many names are remembered. A port of a program that has ended may be given to another one, so not for ever.
const REMEMBERED: usize = 64;

/// How long it is remembered that nobody has a port. The search goes through all processes, and many events of a program
/// that has ended may still be waiting.
const FRUITLESS: Duration = Duration::from_millis(100);
/// A program: the id of the network namespace that its port belongs to (none for that of the source), its port, its name.
type Known = (Option<u32>, u32, Vec<u8>);

/// Looks names up, and remembers the last ones: a program that changes many entries is looked up once, and found even when
/// it has ended meanwhile.
#[derive(Debug, Default)]
pub struct Programs {
    known: VecDeque<Known>,
    /// Whether names are those that were told, and never looked up.
    told: bool,
    /// Ports that nobody had since `forgotten`.
    fruitless: HashSet<(Option<u32>, u32)>,
    forgotten: Option<Instant>,
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
        let place = match namespace {
            Some(id) => Some(self.namespaces.namespace(id)?.clone()),
            None => self.home.clone(),
        };
        if self.fruitless.contains(&(namespace, port))
            && self.forgotten.is_some_and(|since| since.elapsed() < FRUITLESS)
        {
            return None;
        }
        let found = look_up(place.as_ref(), port);
        if found.is_none() {
            if self.forgotten.is_none_or(|since| since.elapsed() >= FRUITLESS) {
                self.fruitless.clear();
                self.forgotten = Some(Instant::now());
            }
            self.fruitless.insert((namespace, port));
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
    fn nobody_has_port_zero() {
        assert_eq!(Programs::default().name(None, 0), None);
    }
}
