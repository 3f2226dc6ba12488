//! The limit on entries, `net.netfilter.nf_conntrack_max`, and the size of the hash table: they belong to the whole
//! host.

use std::{fs::File, path::Path};

/// A guard: while it exists, no other test of this process changes the limit.
#[derive(Debug)]
pub struct Limit {
    /// The changed files and their previous content.
    before: Vec<(&'static str, String)>,
    _lock: File,
}

impl Limit {
    const MOST: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
    const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";

    /// Keeps the limit as it is.
    pub fn kept() -> Self {
        let path = std::env::temp_dir().join("flowgate-nf_conntrack_max.lock");
        let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        file.lock().unwrap_or_else(|error| panic!("locking {}: {error}", path.display()));
        Self { before: Vec::new(), _lock: file }
    }

    /// Raises the limit to at least this many entries in each namespace.
    pub fn of(entries: u64) -> Self {
        let mut kept = Self::kept();
        let enough = entries + entries / 10;
        if kept.now() != 0 {
            kept.raise(Self::MOST, enough);
        }
        kept
    }

    /// Sizes the hash table to one bucket for each of this many entries, as the kernel does for its own limit: with
    /// fewer, the entries of a bucket form long chains.
    pub fn with_buckets(mut self, entries: u64) -> Self {
        self.raise(Self::BUCKETS, entries.next_power_of_two());
        self
    }

    fn raise(&mut self, path: &'static str, enough: u64) {
        let before = std::fs::read_to_string(path).expect("the kernel has connection tracking");
        if before.trim().parse::<u64>().is_ok_and(|now| now >= enough) {
            return;
        }
        std::fs::write(path, enough.to_string())
            .unwrap_or_else(|error| panic!("{path} is {}, too low, and cannot be raised: {error}", before.trim()));
        let name = Path::new(path).file_name().unwrap_or_default().display();
        eprintln!("{name} raised from {} to {enough} for this run", before.trim());
        self.before.push((path, before));
    }

    /// Returns the current limit; 0 for none.
    pub fn now(&self) -> u64 {
        let text = std::fs::read_to_string(Self::MOST).expect("the kernel has connection tracking");
        text.trim().parse().expect("a number")
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        for (path, before) in &self.before {
            let _ = std::fs::write(path, before.trim());
        }
    }
}
