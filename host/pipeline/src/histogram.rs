//! A histogram of the durations of calls, from which percentiles are computed.

/// Number of steps of each power of two, so that a percentile is at most an eighth too high.
const STEPS: u64 = 8;
/// Number of steps for all possible durations.
const ALL: usize = 496;

/// A histogram of durations in nanoseconds. Adding one costs some nanoseconds; the memory is 4 KiB from the first one
/// on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Counts a duration.
    pub fn add(&mut self, nanoseconds: u64) {
        if self.counts.is_empty() {
            self.counts.resize(ALL, 0);
        }
        if let Some(count) = self.counts.get_mut(step(nanoseconds)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// Returns the counts that are not 0, with their steps.
    pub fn counts(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// Sets the count of a step; returns false if there is no such step.
    pub fn set_count(&mut self, step: usize, count: u64) -> bool {
        if self.counts.is_empty() {
            self.counts.resize(ALL, 0);
        }
        let Some(place) = self.counts.get_mut(step) else { return false };
        self.total = self.total.saturating_sub(*place).saturating_add(count);
        *place = count;
        true
    }

    /// Returns the duration in nanoseconds that this many of a thousand calls did not exceed, rounded up to a step; 0
    /// without calls.
    #[must_use]
    pub fn within(&self, of_thousand: u64) -> u64 {
        let wanted = u128::from(self.total) * u128::from(of_thousand.min(1000));
        let mut counted = 0u128;
        for (at, &count) in self.counts.iter().enumerate() {
            counted += u128::from(count) * 1000;
            if count > 0 && counted >= wanted {
                return last(at);
            }
        }
        0
    }
}

/// Returns the step of a duration.
fn step(nanoseconds: u64) -> usize {
    if nanoseconds < STEPS {
        return nanoseconds as usize;
    }
    let shift = nanoseconds.ilog2() - STEPS.ilog2();
    ((u64::from(shift) + 1) * STEPS + ((nanoseconds >> shift) & (STEPS - 1))) as usize
}

/// Returns the longest duration of a step.
fn last(step: usize) -> u64 {
    let step = step as u64;
    match (step / STEPS).checked_sub(1) {
        None => step,
        // The shift is at most 60, and all lower bits are set.
        Some(shift) => ((STEPS + step % STEPS) << shift) | ((1 << shift) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_step_that_is_at_most_an_eighth_longer() {
        let mut before = 0;
        for bit in 0..64 {
            for near in [0, 1, 2, 3, 5, 7] {
                for time in [(1u64 << bit).saturating_add(near << bit.max(3) >> 3), (1u64 << bit) - 1] {
                    let at = step(time);
                    assert!(at < ALL && last(at) >= time && (last(at) - time) as f64 <= time as f64 / 8.0, "{time}");
                }
            }
            assert!(step(1 << bit) >= before);
            before = step(1 << bit);
        }
        assert_eq!((step(u64::MAX), last(ALL - 1)), (ALL - 1, u64::MAX));
        (1..ALL).for_each(|at| assert_eq!(step(last(at - 1) + 1), at));
    }

    #[test]
    fn half_of_the_calls_and_all_but_one_in_a_hundred() {
        let mut times = Histogram::default();
        assert_eq!((times.within(500), times.within(990)), (0, 0));
        times.add(1000);
        assert_eq!((times.within(500), times.within(1000)), (1023, 1023));
        (0..97).for_each(|_| times.add(5));
        assert_eq!((times.within(500), times.within(989), times.within(1000)), (5, 5, 1023));
        (0..2).for_each(|_| times.add(1_000_000));
        assert_eq!((times.within(500), times.within(980), times.within(990)), (5, 1023, 1_048_575));
    }
}
