//! Files in memory, which other processes are given. Their content is no memory of this process as long as it is not
//! mapped, and is copied in small parts.

use std::{
    fs::File,
    io::{self, Read, Seek as _, Write as _},
    os::unix::fs::FileExt as _,
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// Bytes that are copied at a time. Each thread that copies has memory of its own for them.
const PART: usize = 16 << 10;

/// Returns an empty file in memory. `name` is for people.
///
/// # Errors
/// The kernel has no memory for it.
pub(crate) fn empty(name: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 lack the flag that forbids executing the file as a program.
    let file = memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL).or_else(|_| memfd_create(name, flags))?;
    Ok(File::from(file))
}

/// Returns a file in memory with this content, which cannot be changed any more. `name` is for people.
///
/// # Errors
/// The kernel has no memory for it.
pub fn sealed(name: &str, content: &[u8]) -> io::Result<File> {
    sealed_after(name, |file| file.write_all(content))
}

/// Returns a file in memory with the content that `write` writes, which cannot be changed any more. `name` is for
/// people.
///
/// # Errors
/// The error of `write`, or the kernel has no memory for it.
pub fn sealed_after(name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let mut file = empty(name)?;
    write(&mut file)?;
    // Sender and reader share the file offset.
    file.rewind()?;
    seal(&file)?;
    Ok(file)
}

/// Makes the content of a file final.
///
/// # Errors
/// It is mapped for writing, or has been sealed before.
pub(crate) fn seal(file: &File) -> io::Result<()> {
    fcntl_add_seals(file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(())
}

/// Reads a file from its beginning, whatever its offset is, which stays as it is.
#[derive(Debug)]
pub struct FromStart<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> FromStart<'a> {
    /// Returns a reader of this file.
    #[must_use]
    pub fn of(file: &'a File) -> Self {
        FromStart { file, position: 0 }
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Calls `take` with all that can be read, in small parts.
///
/// # Errors
/// That of reading, or of `take`.
pub fn read_in_parts(mut from: impl Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; PART];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns the content of a file.
///
/// # Errors
/// It cannot be read.
pub(crate) fn content(file: &File) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_stays_as_it_is() {
        let file = sealed("x", b"content").unwrap();
        assert!((&file).write_all(b"more").is_err());
        assert!(file.set_len(0).is_err());
        assert_eq!(seal(&file).unwrap_err().raw_os_error(), Some(libc::EPERM), "it is sealed for good");
    }

    #[test]
    fn a_file_is_copied_whole_whatever_its_offset_is() {
        let bytes: Vec<u8> = (0..3 * PART + 5).map(|at| (at / 7) as u8).collect();
        let mut file = sealed("x", &bytes).unwrap();
        file.seek(io::SeekFrom::Start(100)).unwrap();
        let copied = sealed_after("y", |copy| {
            read_in_parts(FromStart::of(&file), |part| {
                assert!(part.len() <= PART);
                copy.write_all(part)
            })
        });
        assert!(content(&copied.unwrap()).unwrap() == bytes);
        assert_eq!(file.stream_position().unwrap(), 100);
        let error = read_in_parts(FromStart::of(&file), |_| Err(io::Error::other("full"))).unwrap_err();
        assert_eq!(error.to_string(), "full");
    }
}
