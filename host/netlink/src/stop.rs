//! A stop signal that a wait on a socket can be woken by.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::sys;

/// How often a wait looks where no pipe can be had that would wake it.
pub(super) const GLANCE: Duration = Duration::from_millis(50);

/// Tells readers that are waiting in [`super::Socket::wait`] to stop. Clones speak of the same signal; once given it
/// stays.
///
/// To ask whether it was given costs no system call. Its pipe is made by the first wait, so that a command that never waits has
/// two descriptors more.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    given: AtomicBool,
    /// A byte in this pipe wakes those who wait. Nobody ever reads it, so that all of them see it.
    pipe: OnceLock<(PipeReader, PipeWriter)>,
}

impl Stop {
    /// A signal that has not been given, and that a wait needs no descriptors for: its pipe is there.
    ///
    /// # Errors
    /// When the process may not open a pipe (EMFILE, ENFILE).
    pub fn new() -> io::Result<Self> {
        let stop = Self::default();
        stop.descriptor()?;
        Ok(stop)
    }

    /// Gives the signal. A second time changes nothing. A signal handler may call it: it makes one system call at most and
    /// allocates nothing.
    pub fn stop(&self) {
        if !self.0.given.swap(true, Ordering::SeqCst) {
            fence(Ordering::SeqCst);
            self.wake();
        }
    }

    /// Wakes those who wait, if the pipe is there.
    fn wake(&self) {
        if let Some((_, writer)) = self.0.pipe.get() {
            // Each thread writes at most one byte, which a pipe that nobody reads has room for.
            let _ = (&*writer).write(&[1]);
        }
    }

    /// Whether the signal has been given.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.given.load(Ordering::SeqCst)
    }

    /// What becomes readable once the signal has been given; for `poll` and event loops. It must not be read from.
    ///
    /// # Errors
    /// When the process may not open a pipe (EMFILE, ENFILE).
    pub fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        let pipe = match self.0.pipe.get() {
            Some(pipe) => pipe,
            None => {
                let made = io::pipe()?;
                let pipe = self.0.pipe.get_or_init(|| made);
                // Whoever gave the signal meanwhile either found the pipe, or is seen here.
                fence(Ordering::SeqCst);
                if self.is_stopped() {
                    self.wake();
                }
                pipe
            }
        };
        Ok(pipe.0.as_fd())
    }

    /// Waits for the signal, at most so long; whether it has been given.
    #[must_use]
    pub fn wait(&self, time: Duration) -> bool {
        let end = Instant::now().checked_add(time);
        loop {
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if self.is_stopped() {
                return true;
            }
            if left.is_zero() {
                return false;
            }
            // A wait of more than 24 days is cut by poll, one of any length by a caught Unix signal.
            match self.descriptor() {
                Ok(descriptor) => drop(sys::poll([descriptor], Some(left))),
                Err(_) => drop(sys::poll([], Some(left.min(GLANCE)))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_stopped_in_all_clones() {
        let stop = Stop::new().unwrap();
        let clone = stop.clone();
        assert!(!clone.is_stopped());
        assert!(!clone.wait(Duration::from_millis(1)));
        stop.stop();
        stop.stop();
        assert!(clone.is_stopped() && stop.is_stopped());
        assert!(clone.wait(Duration::MAX), "returns at once");
        let ready = sys::poll([clone.descriptor().unwrap()], Some(Duration::ZERO)).unwrap();
        assert_eq!(ready, [true]);
    }

    #[test]
    fn the_pipe_tells_what_was_given_before_it_was_made() {
        let stop = Stop::default();
        stop.stop();
        assert!(stop.0.pipe.get().is_none(), "no descriptor is taken before somebody waits");
        let ready = sys::poll([stop.descriptor().unwrap()], Some(Duration::ZERO)).unwrap();
        assert_eq!(ready, [true]);
    }

    #[test]
    fn a_wait_is_woken_by_another_thread() {
        let stop = Stop::default();
        let other = stop.clone();
        let waiting = std::thread::spawn(move || other.wait(Duration::from_secs(600)));
        while stop.0.pipe.get().is_none() {
            std::thread::yield_now();
        }
        stop.stop();
        assert!(waiting.join().unwrap());
    }
}
