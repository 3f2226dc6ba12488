//! A stop signal that a wait on a socket can be woken by.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sys;

/// Tells readers that are waiting in [`super::Socket::wait`] to stop. Clones speak of the same signal; once given it
/// stays.
#[derive(Debug, Clone)]
pub struct Stop {
    /// A byte in this pipe is the signal. Nobody ever reads it, so that every waiter sees it.
    reader: Arc<PipeReader>,
    writer: Arc<PipeWriter>,
}

impl Stop {
    /// A signal that has not been given.
    ///
    /// # Errors
    /// When the process may not open a pipe (EMFILE, ENFILE).
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self { reader: Arc::new(reader), writer: Arc::new(writer) })
    }

    /// Gives the signal. A second time changes nothing.
    pub fn stop(&self) {
        if !self.is_stopped() {
            // A pipe that has just been found empty takes a byte; were it full, the signal would have been given.
            let _ = (&*self.writer).write(&[1]);
        }
    }

    /// Whether the signal has been given.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits for the signal, at most so long; whether it has been given.
    #[must_use]
    pub fn wait(&self, time: Duration) -> bool {
        let end = Instant::now().checked_add(time);
        loop {
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            match sys::poll([self.reader.as_fd()], Some(left)) {
                Ok([true]) => return true,
                // A wait of more than 24 days is cut by poll, one of any length by a caught Unix signal.
                _ if left.is_zero() => return false,
                _ => {}
            }
        }
    }
}

impl AsFd for Stop {
    /// Readable once the signal has been given; for `poll` and event loops. It must not be read from.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

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
        let mut byte = [0];
        assert_eq!((&*clone.reader).read(&mut byte).unwrap(), 1);
    }
}
