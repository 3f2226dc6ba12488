//! Scheduling of compile jobs: how many run concurrently, and which one is next.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How long a job takes, as far as known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// The job runs with a short time limit, or nothing is known about it.
    Short,
    /// The job exceeded a short time limit before.
    Long,
}

/// Slots for jobs. Short jobs go first, and long ones leave a slot free for them if there is more than one.
#[derive(Debug)]
pub(super) struct Jobs {
    places: usize,
    state: Mutex<JobCounts>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct JobCounts {
    running: usize,
    /// Number of running jobs that are long.
    long: usize,
    /// Number of short jobs that wait.
    waiting: usize,
}

impl Jobs {
    pub(super) fn new(places: usize) -> Self {
        Jobs { places: places.max(1), state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, JobCounts> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until a job may begin.
    pub(super) fn begin(&self, length: Length) -> Job<'_> {
        let mut state = self.lock();
        let wait = |state| self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        match length {
            Length::Short => {
                state.waiting += 1;
                while state.running >= self.places {
                    state = wait(state);
                }
                state.waiting -= 1;
            }
            Length::Long => {
                let most = self.places.saturating_sub(1).max(1);
                while state.running >= self.places || state.long >= most || state.waiting > 0 {
                    state = wait(state);
                }
                state.long += 1;
            }
        }
        state.running += 1;
        drop(state);
        // When a short job begins, a long one may become eligible.
        self.changed.notify_all();
        Job { jobs: self, length }
    }
}

/// A running job; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Job<'a> {
    jobs: &'a Jobs,
    length: Length,
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        let mut state = self.jobs.lock();
        state.running -= 1;
        state.long -= usize::from(self.length == Length::Long);
        drop(state);
        self.jobs.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, thread, time::Duration};

    use super::*;

    /// Begins a job on a thread. Returns a function that reports whether it has begun, and one that ends it.
    fn started(jobs: &'static Jobs, length: Length) -> (impl Fn() -> bool, impl FnOnce()) {
        let ((begin, begun), (end, ended)) = (channel(), channel::<()>());
        let thread = thread::spawn(move || {
            let _job = jobs.begin(length);
            begin.send(()).unwrap();
            let _ = ended.recv();
        });
        (
            // A job that may not begin does not begin however long one waits; a job that may begin does so eventually.
            move || begun.recv_timeout(Duration::from_secs(if length == Length::Long { 1 } else { 30 })).is_ok(),
            move || {
                drop(end);
                thread.join().unwrap();
            },
        )
    }

    fn jobs(places: usize) -> &'static Jobs {
        Box::leak(Box::new(Jobs::new(places)))
    }

    #[test]
    fn long_jobs_leave_a_place_for_short_ones() {
        let jobs = jobs(2);
        let (begun, end) = started(jobs, Length::Long);
        assert!(begun());
        let (second, _end) = started(jobs, Length::Long);
        assert!(!second(), "the other place is for short ones");
        for _ in 0..3 {
            let (begun, end) = started(jobs, Length::Short);
            assert!(begun());
            end();
        }
        end();
        assert!(second());
    }

    #[test]
    fn with_one_place_a_long_job_runs_if_no_short_one_waits() {
        let jobs = jobs(1);
        let (begun, end) = started(jobs, Length::Short);
        assert!(begun());
        let (short, end_short) = started(jobs, Length::Short);
        while jobs.lock().waiting == 0 {
            thread::yield_now();
        }
        let (long, end_long) = started(jobs, Length::Long);
        end();
        assert!(short());
        assert!(!long());
        end_short();
        assert!(long());
        end_long();
    }
}
