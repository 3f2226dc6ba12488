//! The limit on entries, `net.netfilter.nf_conntrack_max`, which belongs to the whole host.

/// Raises the limit on entries while it lives.
#[derive(Debug)]
pub struct Limit(Option<String>);

impl Limit {
    const PATH: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

    /// Makes room for so many entries in each namespace.
    pub fn of(entries: u64) -> Self {
        let before = std::fs::read_to_string(Self::PATH).expect("the kernel has connection tracking");
        let enough = entries + entries / 10;
        if before.trim().parse::<u64>().is_ok_and(|now| now >= enough || now == 0) {
            return Self(None);
        }
        std::fs::write(Self::PATH, enough.to_string()).unwrap_or_else(|error| {
            panic!("{} is {}, too low for {entries} flows, and cannot be raised: {error}", Self::PATH, before.trim())
        });
        eprintln!("nf_conntrack_max raised from {} to {enough} for this run", before.trim());
        Self(Some(before))
    }

    /// What it is now; 0 for none.
    pub fn now() -> u64 {
        let text = std::fs::read_to_string(Self::PATH).expect("the kernel has connection tracking");
        text.trim().parse().expect("a number")
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = std::fs::write(Self::PATH, before);
        }
    }
}
