//! A stop signal that wakes waits on sockets.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::sys;

/// Polling interval of a wait for which no pipe can be opened.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Signals all readers that wait in [`super::Socket::wait`] to stop. Clones share one signal, which cannot be reset.
///
/// Checking the signal makes no system call. The first wait opens the pipe, so that a command that never waits saves
/// two descriptors.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    given: AtomicBool,
    /// A byte in this pipe wakes all waiting threads. It is never read, so that each of them sees it.
    pipe: OnceLock<(PipeReader, PipeWriter)>,
}

impl Stop {
    /// Returns a signal whose pipe is open, so that a later wait opens no descriptors.
    ///
    /// # Errors
    /// The process cannot open a pipe (EMFILE, ENFILE).
    pub fn new() -> io::Result<Self> {
        let stop = Self::default();
        stop.descriptor()?;
        Ok(stop)
    }

    /// Gives the signal; further calls have no effect. Safe in a signal handler: it makes at most one system call and
    /// allocates nothing.
    pub fn stop(&self) {
        if !self.0.given.swap(true, Ordering::SeqCst) {
            fence(Ordering::SeqCst);
            self.wake();
        }
    }

    /// Wakes all waiting threads, if the pipe is open.
    fn wake(&self) {
        if let Some((_, writer)) = self.0.pipe.get() {
            // Each thread writes at most one byte, for which the pipe has room although it is never read.
            let _ = (&*writer).write(&[1]);
        }
    }

    /// Returns true if the signal has been given.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.given.load(Ordering::SeqCst)
    }

    /// Returns a descriptor that becomes readable when the signal is given, for `poll` and event loops. It must not be
    /// read from.
    ///
    /// # Errors
    /// The process cannot open a pipe (EMFILE, ENFILE).
    pub fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        let pipe = match self.0.pipe.get() {
            Some(pipe) => pipe,
            None => {
                let made = io::pipe()?;
                let pipe = self.0.pipe.get_or_init(|| made);
                // A thread that gave the signal meanwhile has either seen the pipe, or is seen by this check.
                fence(Ordering::SeqCst);
                if self.is_stopped() {
                    self.wake();
                }
                pipe
            }
        };
        Ok(pipe.0.as_fd())
    }

    /// Waits for the signal for at most `time`; returns true if it has been given.
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
            // `poll` shortens waits of more than 24 days, and a caught Unix signal interrupts any wait.
            match self.descriptor() {
                Ok(descriptor) => drop(sys::poll([descriptor], Some(left))),
                Err(_) => drop(sys::poll([], Some(left.min(POLL_INTERVAL)))),
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
