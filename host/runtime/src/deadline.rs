//! Deadlines of calls, in CPU time of the calling thread: neither a busy machine nor a tenant that uses its share makes
//! a plugin appear slow.

use std::time::{Duration, Instant};

use flowgate_base::clock::thread_time;
use wasmtime::{Store, Trap, UpdateDeadline};

use super::{engine::TICK, error::Failure, linker::HostState};

/// The time limit of a call, and when its time began to count.
///
/// Reading a thread's CPU clock costs more than a short call; the clock is first read after one tick, and the time
/// before that is not counted.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    allowed: Duration,
    since: Option<Duration>,
}

impl Deadline {
    /// Makes each call of a store check the clock when its deadline requires it.
    pub(crate) fn watch(store: &mut Store<HostState>) {
        store.epoch_deadline_callback(|mut store| match store.data_mut().deadline.look(thread_time()) {
            Some(ticks) => Ok(UpdateDeadline::Continue(ticks)),
            None => Err(Trap::Interrupt.into()),
        });
    }

    /// Begins a call.
    pub(crate) fn begin(store: &mut Store<HostState>, allowed: Duration) {
        store.data_mut().deadline = Deadline { allowed, since: None };
        store.set_epoch_deadline(1);
    }

    /// Returns the first reading of the thread's clock, or `None` if the call took less than a tick.
    pub(crate) fn since(&self) -> Option<Duration> {
        self.since
    }

    /// Returns the number of ticks until the next check, or `None` if the time is over.
    fn look(&mut self, now: Duration) -> Option<u64> {
        let used = now.saturating_sub(*self.since.get_or_insert(now));
        let left = self.allowed.saturating_sub(used);
        // One tick too many costs as much as one too few.
        (left >= TICK / 2).then(|| ticks(left))
    }
}

/// The time of a call that continues through the host's work for it: checking, copying and applying the result.
///
/// Until the first tick has passed a check is cheap: a thread cannot have used more CPU time than wall-clock time.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    allowed: Duration,
    /// When the call began.
    began: Instant,
    /// The thread's clock at that time, or at the first check after it.
    since: Option<Duration>,
}

impl Watch {
    /// Begins to count. `since` is the thread's clock ([`thread_time`]), if it has been read already.
    #[must_use]
    pub fn begin(allowed: Duration, since: Option<Duration>) -> Self {
        Watch { allowed, began: Instant::now(), since }
    }

    /// Returns a watch without a deadline, for the work of the command itself.
    #[must_use]
    pub fn unlimited() -> Self {
        Watch::begin(Duration::MAX, None)
    }

    /// Counts from this reading of the thread's clock, unless there is an earlier one.
    #[inline]
    pub fn since(&mut self, reading: Option<Duration>) {
        self.since = self.since.or(reading);
    }

    /// Returns the wall-clock time since the call began.
    #[must_use]
    #[inline]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Checks that there is time left.
    ///
    /// # Errors
    /// [`Failure::Deadline`] if the time is over.
    #[inline]
    pub fn check(&mut self) -> Result<(), Failure> {
        if self.allowed == Duration::MAX || self.began.elapsed() < TICK.min(self.allowed) {
            return Ok(());
        }
        let now = thread_time();
        let used = now.saturating_sub(*self.since.get_or_insert(now));
        if used > self.allowed { Err(Failure::Deadline(self.allowed)) } else { Ok(()) }
    }
}

/// Returns the number of ticks in a time.
fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn only_the_time_of_the_thread_counts() {
        let mut deadline = Deadline { allowed: ms(50), since: None };
        assert_eq!(deadline.look(ms(7000)), Some(5), "what was before is not its");
        assert_eq!(deadline.look(ms(7000)), Some(5), "it did not get to run");
        assert_eq!(deadline.look(ms(7012)), Some(4));
        assert_eq!(deadline.look(ms(7044)), Some(1));
        assert_eq!(deadline.look(ms(7046)), None);
        assert_eq!(deadline.look(ms(9000)), None);
    }

    #[test]
    fn no_time_at_all_is_over_at_the_first_look() {
        assert_eq!(Deadline::default().look(ms(3)), None);
        assert_eq!(Deadline { allowed: Duration::MAX, since: None }.look(ms(3)), Some(u64::MAX / 2));
    }

    #[test]
    fn a_watch_ends_with_the_time_of_the_thread_and_not_with_that_on_the_wall() {
        /// Uses this much time of the thread.
        fn work(time: Duration) {
            let begun = thread_time();
            while thread_time() - begun < time {
                std::hint::spin_loop();
            }
        }
        let mut watch = Watch::begin(ms(40), Some(thread_time()));
        std::thread::spawn(|| work(ms(80))).join().unwrap();
        assert!(watch.elapsed() >= ms(80));
        assert_eq!(watch.check(), Ok(()), "it did not get to run");
        let mut unlimited = Watch::unlimited();
        work(ms(60));
        assert_eq!(watch.check(), Err(Failure::Deadline(ms(40))));
        assert_eq!(unlimited.check(), Ok(()));
    }
}
