//! A token bucket: limits an amount per period. What exceeds it is refused, not delayed.

use std::time::{Duration, Instant};

/// Tokens that are refilled continuously, up to the amount of one period.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// Tokens per period, and the maximum in the bucket.
    capacity: u64,
    period: Duration,
    /// Tokens times nanoseconds of a period, so that fractions of a token are not lost.
    left: i128,
    filled: Option<Instant>,
}

impl TokenBucket {
    /// Returns a full bucket.
    #[must_use]
    pub fn new(capacity: u64, period: Duration) -> Self {
        let mut bucket = Self { capacity, period: period.max(Duration::from_nanos(1)), left: 0, filled: None };
        bucket.left = bucket.scaled(capacity);
        bucket
    }

    /// Returns a full bucket with a period of one second.
    #[must_use]
    pub fn per_second(rate: u64) -> Self {
        Self::new(rate, Duration::from_secs(1))
    }

    /// Sets the tokens per period. Tokens in use stay in use.
    pub fn resize(&mut self, capacity: u64, now: Instant) {
        if capacity != self.capacity {
            self.fill(now);
            self.capacity = capacity;
            self.left = self.left.min(self.scaled(capacity));
        }
    }

    /// Takes up to `wanted` tokens and returns how many were taken.
    pub fn take(&mut self, wanted: u64) -> u64 {
        self.take_at(wanted, Instant::now())
    }

    /// Takes up to `wanted` tokens at this time; see [`TokenBucket::take`].
    pub fn take_at(&mut self, wanted: u64, now: Instant) -> u64 {
        let taken = wanted.min(u64::try_from(self.left_at(now).max(0)).unwrap_or(u64::MAX));
        self.left -= self.scaled(taken);
        taken
    }

    /// Takes tokens for what has been used already, so that the balance may become negative; see
    /// [`TokenBucket::is_empty`].
    pub fn charge(&mut self, used: u64) {
        self.charge_at(used, Instant::now());
    }

    /// Takes tokens at this time; see [`TokenBucket::charge`].
    pub fn charge_at(&mut self, used: u64, now: Instant) {
        self.fill(now);
        self.left = self.left.saturating_sub(self.scaled(used));
    }

    /// Returns true if no token is left.
    pub fn is_empty(&mut self) -> bool {
        !self.has(1)
    }

    /// Returns true if there are `wanted` tokens.
    pub fn has(&mut self, wanted: u64) -> bool {
        self.left_at(Instant::now()) >= i128::from(wanted)
    }

    /// Returns the number of whole tokens at this time, which may be negative.
    pub fn left_at(&mut self, now: Instant) -> i128 {
        self.fill(now);
        self.left.div_euclid(self.nanoseconds())
    }

    fn nanoseconds(&self) -> i128 {
        i128::try_from(self.period.as_nanos()).unwrap_or(i128::MAX)
    }

    fn scaled(&self, tokens: u64) -> i128 {
        i128::from(tokens).saturating_mul(self.nanoseconds())
    }

    fn fill(&mut self, now: Instant) {
        let filled = *self.filled.get_or_insert(now);
        let passed = now.saturating_duration_since(filled).min(self.period);
        if !passed.is_zero() {
            let earned = i128::try_from(passed.as_nanos()).unwrap_or(0).saturating_mul(i128::from(self.capacity));
            self.left = self.left.saturating_add(earned).min(self.scaled(self.capacity));
            self.filled = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_brings_what_it_brings_and_no_more_is_saved() {
        let mut bucket = TokenBucket::per_second(10);
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!((bucket.take_at(7, at(0)), bucket.take_at(7, at(0)), bucket.take_at(1, at(0))), (7, 3, 0));
        assert_eq!((bucket.take_at(9, at(50)), bucket.take_at(9, at(100))), (0, 1), "parts of one are not lost");
        assert_eq!(bucket.take_at(1000, at(60_000)), 10);
        assert_eq!(TokenBucket::per_second(0).take_at(1, at(0)), 0);
    }

    #[test]
    fn what_was_used_beyond_is_owed_for_so_long() {
        let mut bucket = TokenBucket::new(100, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        bucket.charge_at(150, at(0));
        assert_eq!((bucket.left_at(at(0)), bucket.left_at(at(4)), bucket.left_at(at(5))), (-50, -10, 0));
        assert_eq!((bucket.left_at(at(12)), bucket.left_at(at(3600))), (70, 100));
    }

    #[test]
    fn a_smaller_bucket_holds_less() {
        let mut bucket = TokenBucket::new(100, Duration::from_secs(10));
        let now = Instant::now();
        assert_eq!(bucket.take_at(40, now), 40);
        bucket.resize(50, now);
        assert_eq!(bucket.left_at(now), 50);
        bucket.resize(200, now);
        assert_eq!((bucket.left_at(now), bucket.left_at(now + Duration::from_secs(5))), (50, 150));
    }
}
