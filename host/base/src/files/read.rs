//! Reads files of unknown length up to a limit: `/dev/zero` and a pipe may never end.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Maximum size in bytes of a pipeline or policy file.
pub const MOST_OF_CONFIGURATION: u64 = 4 << 20;
/// Maximum size in bytes of a file that is the value of a plugin's option.
pub const MOST_OF_OPTION: u64 = 16 << 20;
/// Maximum size in bytes of a file of flows for tests, or of their expected output.
pub const MOST_OF_FIXTURE: u64 = 64 << 20;
/// Maximum size in bytes of a load file: some ten million lines.
pub const MOST_OF_LOAD_FILE: u64 = 1 << 30;

/// Reads a file as a whole.
///
/// # Errors
/// It cannot be read, is a directory, or holds more than `most` bytes; the text says how many may be.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_from(&mut File::open(path)?, most)
}

/// Reads a text in UTF-8 as a whole.
///
/// # Errors
/// As [`read`], and InvalidData if it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let bytes = read(path, most)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Reads what is left of `reader`.
///
/// # Errors
/// As [`read`].
pub fn read_from(reader: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long(most)) } else { Ok(bytes) }
}

/// The error of a file that holds more than `most` bytes.
#[must_use]
pub fn too_long(most: u64) -> io::Error {
    let (size, unit) = match most {
        most if most >= 1 << 20 && most % (1 << 20) == 0 => (most >> 20, "MiB"),
        most if most >= 1 << 10 && most % (1 << 10) == 0 => (most >> 10, "KiB"),
        most => (most, "bytes"),
    };
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("it is longer than {size} {unit}, the most that such a file may have"),
    )
}

/// A reader that fails after so many bytes instead of going on for ever.
#[derive(Debug)]
pub struct Limited<R> {
    reader: R,
    most: u64,
    left: u64,
}

impl<R> Limited<R> {
    /// Lets `most` bytes through.
    pub fn new(reader: R, most: u64) -> Self {
        Limited { reader, most, left: most }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| too_long(self.most))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_never_ends_is_read_up_to_its_limit() {
        let error = read(Path::new("/dev/zero"), 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 1 MiB, the most that such a file may have");
        let error = Limited::new(io::repeat(1), 3000).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 3000 bytes, the most that such a file may have");
        assert_eq!(read(Path::new("/"), 10).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(read_from(&mut &b"1234"[..], 4).unwrap(), b"1234");
        assert!(read_from(&mut &b"12345"[..], 4).is_err());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 10).unwrap_err().to_string(), "it is not UTF-8");
    }
}
