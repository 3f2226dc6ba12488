//! Sinks: where bytes go.
//!
//! * [`Stdout`] and [`mod@file`] block the writer until the bytes are taken.
//! * [`outbox`] is a bounded buffer with a thread that empties it into a connection: what sockets have in common, so that a
//!   peer that is slow or away holds up nobody. [`stream`] and [`syslog`] are the connections.
//! * [`Tolerant`] keeps a failure for the end, where something else than the output matters.
//! * [`SinkSpec`] is a sink as a value, which can be opened.
//! * [`Several`] gives the same bytes to more than one.

pub mod error;
pub mod file;
pub mod outbox;
mod resolve;
mod spec;
pub mod stream;
pub mod syslog;
mod tolerant;

use std::{fs::File, mem::ManuallyDrop, os::fd::FromRawFd as _};

pub use error::SinkError;
pub use spec::{BufferSpec, SinkKind, SinkSpec};
pub use tolerant::Tolerant;

use flowgate_base::files;

/// Takes bytes away. One write is a whole number of lines.
pub trait Sink {
    /// Takes all of the bytes.
    ///
    /// # Errors
    /// Why not all of them could be taken; [`SinkError::is_broken_pipe`] if nobody reads any more.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError>;

    /// Brings to its end what is still under way. Nothing is written afterwards.
    ///
    /// # Errors
    /// What was taken but could not be brought to where it belongs.
    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Standard output, without a buffer in between: what comes is a batch. It is the descriptor itself and takes no other.
pub struct Stdout(ManuallyDrop<File>);

impl Stdout {
    /// Standard output. If it is closed, writing fails with EBADF.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: the program occupies a descriptor that is closed before it opens anything (`inherited::record`), and the file is
        // never closed here.
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

/// More than one sink, each of which gets everything.
#[derive(Default)]
pub struct Several(Vec<Box<dyn Sink>>);

impl Several {
    /// These sinks, in this order.
    #[must_use]
    pub fn new(sinks: Vec<Box<dyn Sink>>) -> Self {
        Several(sinks)
    }
}

impl Sink for Several {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.0.iter_mut().try_for_each(|sink| sink.write(bytes))
    }

    /// All of them are brought to their end, also when one fails; the first failure is the one that is told.
    fn finish(&mut self) -> Result<(), SinkError> {
        let ends: Vec<Result<(), SinkError>> = self.0.iter_mut().map(|sink| sink.finish()).collect();
        ends.into_iter().collect()
    }
}

/// For tests: keeps everything.
impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// Keeps everything in memory, where others can look at it.
impl Sink for std::sync::Arc<std::sync::Mutex<Vec<u8>>> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(bytes);
        Ok(())
    }
}

/// The longest beginning of `bytes` that consists of whole lines and has at most `room` bytes. What follows the last newline
/// counts as a line too.
fn whole_lines(bytes: &[u8], room: usize) -> usize {
    if bytes.len() <= room {
        return bytes.len();
    }
    let start = bytes.get(..room).unwrap_or_default();
    start.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1)
}

/// The length of the first line, with its newline.
fn first_line(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |newline| newline + 1)
}

/// How many lines these are.
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
