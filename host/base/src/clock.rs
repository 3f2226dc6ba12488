//! The wall clock, and the CPU time of a thread.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Returns the wall-clock time in nanoseconds since 1970.
#[must_use]
#[inline]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Returns the CPU time of the calling thread, in user mode and in the kernel (`clock_gettime(2)`,
/// CLOCK_THREAD_CPUTIME_ID). Only differences of it are meaningful.
#[must_use]
#[inline]
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_sleeps_uses_no_time() {
        let ms = Duration::from_millis;
        let before = thread_time();
        std::thread::sleep(ms(60));
        let slept = thread_time() - before;
        assert!(slept < ms(30), "{slept:?}");
        let end = std::time::Instant::now() + ms(60);
        while std::time::Instant::now() < end {
            std::hint::spin_loop();
        }
        assert!(thread_time() > before + slept);
    }
}
