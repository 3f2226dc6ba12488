//! Each tenant's share of the audit: what it can write must not push out what others have written.
//!
//! All files of an audit together hold so many bytes. Of these the service keeps `OWN` for itself, and each tenant has an equal
//! part of the rest for every `history`. So what was recorded within that time is still there, whatever any tenant does.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use flowgate_base::TokenBucket;

/// The part of all files that the service keeps for lines about itself: one of so many.
const OWN: u64 = 16;
/// What a result takes at most, in bytes. It is written after the kernel was asked, so there must be room for it before.
pub const RESULT: u64 = 1024;

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// An action that is about to be done; there must be room for its result as well.
    Intent,
    /// A refusal. Refusals get no more than half of what there is, so that they keep no action from being recorded.
    Refusal,
    /// Refusals that are summed up.
    Summary,
    /// A result: it is written in any case.
    Result,
}

/// The shares of all tenants.
#[derive(Debug)]
pub struct Shares {
    /// Bytes that all files hold.
    capacity: u64,
    history: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    tenants: u64,
    /// What each may still write, in bytes; results may take it below 0.
    buckets: HashMap<String, TokenBucket>,
}

impl Shares {
    /// Of files that hold so many bytes together, which must not be used up within `history`.
    #[must_use]
    pub fn new(capacity: u64, history: Duration) -> Self {
        Shares { capacity, history, inner: Mutex::new(Inner { tenants: 1, buckets: HashMap::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There are so many tenants from now on. What each has used up stays used up.
    pub fn divide(&self, tenants: usize) {
        self.lock().tenants = (tenants as u64).max(1);
    }

    /// Keeps what is known of these tenants only.
    pub fn keep(&self, is_kept: impl Fn(&str) -> bool) {
        self.lock().buckets.retain(|tenant, _| is_kept(tenant));
    }

    /// Takes so many bytes out of a tenant's share; whether they may be written.
    pub fn take(&self, tenant: &str, bytes: u64, of: Use) -> bool {
        self.take_at(tenant, bytes, of, Instant::now())
    }

    fn take_at(&self, tenant: &str, bytes: u64, of: Use, now: Instant) -> bool {
        let mut inner = self.lock();
        // Half of the share at once, and the other half little by little: in no period of this length more than all of it.
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
            // The others have theirs.
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
        // A reload gives nothing back, and forgetting a tenant is for those that are gone.
        shares.divide(1);
        assert!(!shares.take_at("blue", 1000, Use::Intent, start));
        shares.keep(|tenant| tenant != "blue");
        assert!(shares.take_at("blue", 1000, Use::Intent, start));
    }
}
