//! Reads files of unknown length up to a limit: `/dev/zero` and a pipe may never end.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Maximum size in bytes of a pipeline or policy file.
pub const MAX_CONFIGURATION_FILE: u64 = 4 << 20;
/// Maximum size in bytes of a file that is the value of a plugin's option.
pub const MAX_OPTION_FILE: u64 = 16 << 20;
/// Maximum size in bytes of a file of flows for tests, or of their expected output.
pub const MAX_FIXTURE_FILE: u64 = 64 << 20;
/// Maximum size in bytes of a load file: about ten million lines.
pub const MAX_LOAD_FILE: u64 = 1 << 30;

/// Reads a whole file.
///
/// # Errors
/// The file cannot be read, is a directory, or has more than `limit` bytes; the message has the limit.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_from(&mut File::open(path)?, limit)
}

/// Reads a whole file as UTF-8 text.
///
/// # Errors
/// See [`read`]; InvalidData if it is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let bytes = read(path, limit)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Reads the rest of `reader`.
///
/// # Errors
/// See [`read`].
pub fn read_from(reader: &mut impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_long(limit)) } else { Ok(bytes) }
}

/// Returns the error for a file that has more than `limit` bytes.
#[must_use]
pub fn too_long(limit: u64) -> io::Error {
    let (size, unit) = match limit {
        limit if limit >= 1 << 20 && limit % (1 << 20) == 0 => (limit >> 20, "MiB"),
        limit if limit >= 1 << 10 && limit % (1 << 10) == 0 => (limit >> 10, "KiB"),
        limit => (limit, "bytes"),
    };
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {size} {unit}, the maximum for such a file"))
}

/// A reader that fails after a number of bytes, so that reading ends.
#[derive(Debug)]
pub struct LimitedReader<R> {
    reader: R,
    limit: u64,
    left: u64,
}

impl<R> LimitedReader<R> {
    /// Returns a reader that fails after `limit` bytes.
    pub fn new(reader: R, limit: u64) -> Self {
        LimitedReader { reader, limit, left: limit }
    }
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| too_long(self.limit))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_never_ends_is_read_up_to_its_limit() {
        let error = read(Path::new("/dev/zero"), 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 1 MiB, the maximum for such a file");
        let error = LimitedReader::new(io::repeat(1), 3000).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 3000 bytes, the maximum for such a file");
        assert_eq!(read(Path::new("/"), 10).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(read_from(&mut &b"1234"[..], 4).unwrap(), b"1234");
        assert!(read_from(&mut &b"12345"[..], 4).is_err());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 10).unwrap_err().to_string(), "it is not UTF-8");
    }
}
