//! The limit on entries, `net.netfilter.nf_conntrack_max`, which belongs to the whole host.

use std::fs::File;

/// While it lives, nobody else who asks here changes the limit.
#[derive(Debug)]
pub struct Limit {
    before: Option<String>,
    _lock: File,
}

impl Limit {
    const PATH: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

    /// Keeps it as it is.
    pub fn kept() -> Self {
        let path = std::env::temp_dir().join("flowgate-nf_conntrack_max.lock");
        let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        file.lock().unwrap_or_else(|error| panic!("locking {}: {error}", path.display()));
        Self { before: None, _lock: file }
    }

    /// Makes room for so many entries in each namespace.
    pub fn of(entries: u64) -> Self {
        let mut kept = Self::kept();
        let before = std::fs::read_to_string(Self::PATH).expect("the kernel has connection tracking");
        let enough = entries + entries / 10;
        if before.trim().parse::<u64>().is_ok_and(|now| now >= enough || now == 0) {
            return kept;
        }
        std::fs::write(Self::PATH, enough.to_string()).unwrap_or_else(|error| {
            panic!("{} is {}, too low for {entries} flows, and cannot be raised: {error}", Self::PATH, before.trim())
        });
        eprintln!("nf_conntrack_max raised from {} to {enough} for this run", before.trim());
        kept.before = Some(before);
        kept
    }

    /// What it is now; 0 for none.
    pub fn now(&self) -> u64 {
        let text = std::fs::read_to_string(Self::PATH).expect("the kernel has connection tracking");
        text.trim().parse().expect("a number")
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = std::fs::write(Self::PATH, before);
        }
    }
}
