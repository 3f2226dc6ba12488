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
pub struct Stdout(Option<File>);

impl Stdout {
    /// Standard output. If it is closed, what is written goes nowhere, as with programs that do not look.
    #[must_use]
    pub fn new() -> Self {
        Stdout(io::stdout().as_fd().try_clone_to_owned().ok().map(File::from))
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

impl Sink for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), |file| file.write_all(bytes))
    }
}

/// For tests: keeps everything.
impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}
