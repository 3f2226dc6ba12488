//! Sinks: the destinations of bytes.
//!
//! * [`Stdout`] and [`mod@file`] block the writer until the bytes are written.
//! * [`outbox`] is a bounded buffer with a thread that empties it into a connection. Sockets use it, so that a slow or
//!   absent peer blocks nothing. [`stream`] and [`syslog`] are the connections.
//! * [`spooled`] is a spool on disk with a thread that delivers it, for [`nats`].
//! * [`Tolerant`] defers a failure to the end, for runs whose purpose is not the output.
//! * [`SinkSpec`] is a sink as a value, which can be opened.
//! * [`Several`] passes the same bytes to several sinks.

pub mod error;
pub mod file;
pub mod nats;
pub mod outbox;
mod resolve;
mod spec;
pub mod spooled;
pub mod stream;
pub mod syslog;
mod tolerant;

use std::{fs::File, mem::ManuallyDrop, os::fd::FromRawFd as _};

pub use error::SinkError;
pub use resolve::keep_to_built_in_services;
pub use spec::{BufferSpec, Shippers, SinkKind, SinkSpec};
pub use tolerant::Tolerant;

use flowgate_base::files;

/// A destination of bytes. Each write is a whole number of lines.
pub trait Sink {
    /// Writes all of the bytes.
    ///
    /// # Errors
    /// [`SinkError`] if not all of them could be written; [`SinkError::is_broken_pipe`] is true of it if there is no
    /// reader any more.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError>;

    /// Completes pending work. Nothing is written afterwards.
    ///
    /// # Errors
    /// [`SinkError`] if accepted bytes could not be delivered.
    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Standard output without a buffer, since the input comes in batches. It uses the descriptor itself and opens no
/// other.
pub struct Stdout(ManuallyDrop<File>);

impl Stdout {
    /// Returns standard output. If it is closed, writing fails with EBADF.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: the program occupies a closed descriptor before it opens anything (`inherited::record`), and the file
        // is never closed here.
        #[allow(unsafe_code)]
        let file = unsafe { File::from_raw_fd(libc::STDOUT_FILENO) };
        Stdout(ManuallyDrop::new(file))
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

impl Sink for Stdout {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        files::write_all(&mut *self.0, bytes).map_err(|(_, error)| SinkError::Stdout(error))
    }
}

/// Several sinks, each of which gets all bytes.
#[derive(Default)]
pub struct Several(Vec<Box<dyn Sink>>);

impl Several {
    /// Returns a sink that writes to these sinks, in this order.
    #[must_use]
    pub fn new(sinks: Vec<Box<dyn Sink>>) -> Self {
        Several(sinks)
    }
}

impl Sink for Several {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.0.iter_mut().try_for_each(|sink| sink.write(bytes))
    }

    /// Finishes all of them even if one fails, and returns the first failure.
    fn finish(&mut self) -> Result<(), SinkError> {
        let ends: Vec<Result<(), SinkError>> = self.0.iter_mut().map(|sink| sink.finish()).collect();
        ends.into_iter().collect()
    }
}

/// Keeps all bytes, for tests.
impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// Keeps all bytes in memory that is shared with others.
impl Sink for std::sync::Arc<std::sync::Mutex<Vec<u8>>> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(bytes);
        Ok(())
    }
}

/// Returns the length of the longest beginning of `bytes` that consists of whole lines and has at most `room` bytes.
/// Bytes after the last newline count as a line.
fn whole_lines(bytes: &[u8], room: usize) -> usize {
    if bytes.len() <= room {
        return bytes.len();
    }
    let start = bytes.get(..room).unwrap_or_default();
    start.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1)
}

/// Returns the length of the first line, including its newline.
fn first_line(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |newline| newline + 1)
}

/// Returns the number of lines.
fn count_lines(bytes: &[u8]) -> u64 {
    let newlines = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
    newlines + u64::from(bytes.last().is_some_and(|&byte| byte != b'\n'))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn lines_are_never_split() {
        assert_eq!(whole_lines(b"ab\ncd\n", 6), 6);
        assert_eq!(whole_lines(b"ab\ncd\n", 5), 3);
        assert_eq!(whole_lines(b"ab\ncd\n", 3), 3);
        assert_eq!(whole_lines(b"ab\ncd\n", 2), 0);
        assert_eq!((first_line(b"ab\nc"), first_line(b"ab"), first_line(b"")), (3, 2, 0));
        assert_eq!((count_lines(b"ab\ncd\n"), count_lines(b"ab\ncd"), count_lines(b"")), (2, 2, 0));
    }

    #[test]
    fn several_sinks_get_the_same() {
        let kept: [Arc<Mutex<Vec<u8>>>; 2] = Default::default();
        let sinks = kept.iter().map(|kept| Box::new(kept.clone()) as Box<dyn Sink>).collect();
        let mut several = Several::new(sinks);
        Sink::write(&mut several, b"a\n").unwrap();
        several.finish().unwrap();
        assert!(kept.iter().all(|kept| *kept.lock().unwrap() == b"a\n"));
    }
}
