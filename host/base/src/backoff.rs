//! Pauses between failed attempts.

use std::time::Duration;

/// Pauses that double from one failure to the next, up to a maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// For restarts and reconnections: 100 ms to 30 s.
    pub const RESTART: Self = Self::new(Duration::from_millis(100), Duration::from_secs(30));

    /// Returns pauses that begin with `first` and are at most `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// Returns the pause after this number of failures in a row; zero without a failure.
    #[must_use]
    pub fn pause(self, failures: u32) -> Duration {
        match failures {
            0 => Duration::ZERO,
            more => self.first.saturating_mul(1 << (more - 1).min(16)).min(self.longest),
        }
    }

    /// Returns the longest pause.
    #[must_use]
    pub const fn longest(self) -> Duration {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let pauses: Vec<u128> = (0..=5).map(|failures| Backoff::RESTART.pause(failures).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600]);
        assert_eq!(Backoff::RESTART.pause(u32::MAX), Duration::from_secs(30));
    }
}
