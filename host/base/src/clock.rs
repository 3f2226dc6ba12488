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
    fn the_time_of_another_thread_is_not_counted() {
        /// Uses this much time of the thread.
        fn work(time: Duration) {
            let begun = thread_time();
            while thread_time() - begun < time {
                std::hint::spin_loop();
            }
        }
        let time = Duration::from_millis(60);
        let before = thread_time();
        std::thread::spawn(move || work(time)).join().unwrap();
        let waited = thread_time() - before;
        assert!(waited < time / 2, "{waited:?}");
        let process = |before| clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap() - before;
        let before = process(Duration::ZERO);
        work(time);
        assert!(process(before) >= time, "it is CPU time");
    }
}
