//! A meter: so much in a second, and what is beyond is refused rather than waited for.

use std::time::{Duration, Instant};

/// A share of something that fills up again every second. What was not used up is not saved for longer than that.
#[derive(Clone, Debug)]
pub struct Meter {
    /// What a second brings, and the most that there can be.
    rate: u64,
    /// What there is, in billionths.
    left: i128,
    since: Option<Instant>,
}

const BILLION: i128 = 1_000_000_000;

impl Meter {
    /// A full one.
    #[must_use]
    pub fn new(rate: u64) -> Self {
        Meter { rate, left: i128::from(rate) * BILLION, since: None }
    }

    /// Takes some, or as much of it as there is; how much that was.
    pub fn take(&mut self, wanted: u64) -> u64 {
        self.take_at(wanted, Instant::now())
    }

    /// Takes what has been used up already, so that there may be less than nothing left; see [`Meter::is_empty`].
    pub fn charge(&mut self, used: u64) {
        self.fill(Instant::now());
        self.left -= i128::from(used) * BILLION;
    }

    /// Whether there is nothing left for the moment.
    pub fn is_empty(&mut self) -> bool {
        self.fill(Instant::now());
        self.left < BILLION
    }

    /// Whether there is this much.
    pub fn has(&mut self, wanted: u64) -> bool {
        self.fill(Instant::now());
        self.left >= i128::from(wanted) * BILLION
    }

    fn take_at(&mut self, wanted: u64, now: Instant) -> u64 {
        self.fill(now);
        let taken = wanted.min(u64::try_from(self.left.max(0) / BILLION).unwrap_or(u64::MAX));
        self.left -= i128::from(taken) * BILLION;
        taken
    }

    fn fill(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since).min(Duration::from_secs(1));
        self.left = (self.left + i128::try_from(passed.as_nanos()).unwrap_or(0) * i128::from(self.rate))
            .min(i128::from(self.rate) * BILLION);
        self.since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_brings_what_it_brings_and_no_more_is_saved() {
        let mut meter = Meter::new(10);
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!((meter.take_at(7, at(0)), meter.take_at(7, at(0)), meter.take_at(1, at(0))), (7, 3, 0));
        assert_eq!((meter.take_at(9, at(50)), meter.take_at(9, at(100))), (0, 1), "parts of one are not lost");
        assert_eq!(meter.take_at(1000, at(60_000)), 10);
        assert_eq!(Meter::new(0).take_at(1, at(0)), 0);
    }
}
