//! Writing to descriptors that may be non-blocking.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
};

use super::sys::{is_writable, wait_writable};

/// A file that is written to as if it blocked, whether or not O_NONBLOCK is set. Parents such as node and some ssh
/// configurations pass on such descriptors, and the flag cannot be cleared: it belongs to all processes that share the
/// open file description.
#[derive(Debug)]
pub struct BlockingFile(File);

impl BlockingFile {
    /// Returns the file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.0
    }
}

impl From<File> for BlockingFile {
    fn from(file: File) -> Self {
        BlockingFile(file)
    }
}

impl Write for BlockingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_blocking(&mut self.0, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until some bytes can be written, and writes at least one byte of `bytes`.
fn write_blocking<W: Write + AsFd>(writer: &mut W, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match writer.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_writable(writer)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Returns true if a descriptor accepts a few bytes without blocking. Another process that writes to it may be faster.
#[must_use]
pub fn takes_bytes(descriptor: &impl AsFd) -> bool {
    is_writable(descriptor)
}

/// Writes all of `bytes`, waiting where necessary.
///
/// # Errors
/// The number of bytes that were written before the failure, and its cause.
pub fn write_all<W: Write + AsFd>(writer: &mut W, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match write_blocking(writer, rest) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

impl AsFd for BlockingFile {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read as _, os::unix::net::UnixStream, thread};

    #[test]
    fn a_descriptor_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let other = writer.try_clone().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut writer = BlockingFile::from(File::from(std::os::fd::OwnedFd::from(writer)));
        let bytes: Vec<u8> = (0..3_000_000u32).map(|number| number as u8).collect();
        let expected = bytes.clone();
        let reading = thread::spawn(move || {
            // Nothing is read before no more can be written.
            while is_writable(&other) {
                thread::yield_now();
            }
            drop(other);
            let mut read = Vec::new();
            reader.read_to_end(&mut read).map(|_| read)
        });
        write_all(&mut writer, &bytes).unwrap();
        drop(writer);
        assert!(reading.join().unwrap().unwrap() == expected);
    }
}
