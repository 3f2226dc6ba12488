//! Each tenant's share of the audit: its lines must not push out those of others.
//!
//! The files of an audit have a total capacity. The service keeps one part in `OWN` for itself, and each tenant gets an
//! equal part of the rest for each period of `history`. Whatever a tenant does, lines of that period are still there.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use flowgate_base::TokenBucket;

/// The service keeps one part in this many for lines about itself.
const OWN: u64 = 16;
/// Maximum length of a result in bytes. It is written after the kernel was asked, so room for it is reserved before.
pub const RESULT: u64 = 1024;

/// Kind of a line, which decides how much of the share it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The intent of an action; it needs room for its result, too.
    Intent,
    /// A refusal. Refusals get at most half of the share, so that they prevent no action from being recorded.
    Refusal,
    /// A line that sums up refusals.
    Summary,
    /// A result, which is written in any case.
    Result,
}

/// The shares of all tenants.
#[derive(Debug)]
pub struct Shares {
    /// Capacity of all files in bytes.
    capacity: u64,
    history: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    tenants: u64,
    /// Bytes that each tenant may still write; results may make it negative.
    buckets: HashMap<String, TokenBucket>,
}

impl Shares {
    /// Returns the shares of files with this capacity, which must not be used up within `history`.
    #[must_use]
    pub fn new(capacity: u64, history: Duration) -> Self {
        Shares { capacity, history, inner: Mutex::new(Inner { tenants: 1, buckets: HashMap::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the number of tenants. What each has used up stays used up.
    pub fn divide(&self, tenants: usize) {
        self.lock().tenants = (tenants as u64).max(1);
    }

    /// Drops the state of all other tenants.
    pub fn keep(&self, is_kept: impl Fn(&str) -> bool) {
        self.lock().buckets.retain(|tenant, _| is_kept(tenant));
    }

    /// Takes bytes out of a tenant's share; returns true if they may be written.
    pub fn take(&self, tenant: &str, bytes: u64, of: Use) -> bool {
        self.take_at(tenant, bytes, of, Instant::now())
    }

    fn take_at(&self, tenant: &str, bytes: u64, of: Use, now: Instant) -> bool {
        let mut inner = self.lock();
        // Half of the share is a burst, the other half refills: no period of this length has more than the whole.
        let most = (self.capacity - self.capacity / OWN) / inner.tenants / 2;
        if !inner.buckets.contains_key(tenant) {
            inner.buckets.insert(tenant.into(), TokenBucket::new(most, self.history.max(Duration::from_secs(1))));
        }
        let Some(bucket) = inner.buckets.get_mut(tenant) else { return false };
        bucket.resize(most, now);
        let needed = match of {
            Use::Intent => Some(bytes.saturating_add(RESULT)),
            Use::Refusal => Some(bytes.saturating_add(most / 2)),
            Use::Summary => Some(bytes),
            Use::Result => None,
        };
        if needed.is_some_and(|needed| bucket.left_at(now) < needed.into()) {
            return false;
        }
        bucket.charge_at(bytes, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_more_than_its_share_within_the_history() {
        let hour = Duration::from_secs(3600);
        for tenants in [1, 3, 20] {
            let capacity = 16_000_000;
            let shares = Shares::new(capacity, hour);
            shares.divide(tenants);
            let start = Instant::now();
            let mut written = 0;
            for second in 0..3600u32 {
                let now = start + Duration::from_secs(second.into());
                while shares.take_at("blue", 1500, Use::Intent, now) {
                    assert!(shares.take_at("blue", 300, Use::Result, now));
                    written += 1800;
                }
            }
            let share = capacity / 16 * 15 / tenants as u64;
            assert!(written <= share && written > share * 9 / 10, "{tenants}: {written} of {share}");
            // The others keep theirs.
            assert!(tenants == 1 || shares.take_at("red", 1500, Use::Intent, start + hour));
        }
    }

    #[test]
    fn refusals_leave_room_for_actions_and_are_summed_up() {
        let shares = Shares::new(3_200_000, Duration::from_secs(3600));
        let start = Instant::now();
        let mut refusals = 0;
        while shares.take_at("blue", 1000, Use::Refusal, start) {
            refusals += 1;
        }
        assert_eq!(refusals, 750);
        let mut intents = 0;
        while shares.take_at("blue", 1000, Use::Intent, start) {
            intents += 1;
        }
        assert_eq!(intents, 748);
        assert!(shares.take_at("blue", 1000, Use::Summary, start));
        assert!(shares.take_at("blue", 1000, Use::Summary, start));
        assert!(!shares.take_at("blue", 1000, Use::Summary, start));
        assert!(shares.take_at("blue", 1000, Use::Result, start), "an action that was done has its result");
        // A reload gives nothing back; only tenants that no longer exist are forgotten.
        shares.divide(1);
        assert!(!shares.take_at("blue", 1000, Use::Intent, start));
        shares.keep(|tenant| tenant != "blue");
        assert!(shares.take_at("blue", 1000, Use::Intent, start));
    }
}
