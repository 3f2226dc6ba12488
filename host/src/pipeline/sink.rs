//! Sinks: where bytes go.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
};

/// Takes bytes away. One write is a whole number of lines.
pub trait Sink {
    /// Takes all of the bytes.
    ///
    /// # Errors
    /// Why not all of them could be taken; [`io::ErrorKind::BrokenPipe`] if nobody reads any more.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Standard output, without a buffer in between: what comes is a batch.
pub struct Stdout(File);

impl Stdout {
    /// Standard output.
    ///
    /// # Errors
    /// If it is closed.
    pub fn new() -> io::Result<Self> {
        Ok(Stdout(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }
}

impl Sink for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}

/// For tests: keeps everything.
impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}
