//! Reads the file of a plugin, up to a limit and only if it is WebAssembly.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::error::LoadError;

/// Maximum size of a file in bytes. A plugin in Rust, C or Zig has 30 to 500 KB, one in JavaScript 2 MB to 12 MB, one
/// in Python 19 MB.
pub(super) const MAX_FILE: u64 = 32 << 20;
/// First bytes of every module and component.
const PREAMBLE: [u8; 4] = *b"\0asm";

/// Reads a plugin's file or a pipe.
///
/// # Errors
/// [`LoadError::Read`], [`LoadError::NotWasm`] after the first bytes of any other format, [`LoadError::Excessive`] if
/// it is too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |source| LoadError::Read { path: path.into(), source };
    let mut file = open(path).map_err(failed)?;
    let mut content = Vec::new();
    file.by_ref().take(8).read_to_end(&mut content).map_err(failed)?;
    if !content.starts_with(&PREAMBLE) {
        return Err(not_wasm(path, &content));
    }
    rest(path, &file, content)
}

/// Reads a file of any format, whose digest is compared with a known one.
///
/// # Errors
/// [`LoadError::Read`] or [`LoadError::Excessive`].
pub(super) fn content(path: &Path) -> Result<Vec<u8>, LoadError> {
    let file = open(path).map_err(|source| LoadError::Read { path: path.into(), source })?;
    rest(path, &file, Vec::new())
}

/// Reads the rest of a file.
fn rest(path: &Path, file: &File, mut content: Vec<u8>) -> Result<Vec<u8>, LoadError> {
    let left = MAX_FILE - content.len() as u64;
    file.take(left + 1).read_to_end(&mut content).map_err(|source| LoadError::Read { path: path.into(), source })?;
    if content.len() as u64 > MAX_FILE {
        let excess = format!("has more than {MAX_FILE} bytes, the most that the file of a plugin may have");
        return Err(LoadError::Excessive { path: path.into(), excess });
    }
    Ok(content)
}

/// Opens a file. A pipe without a writer is empty and does not block.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

/// Returns the error for a file that begins with these bytes, which describes its format.
pub(super) fn not_wasm(path: &Path, start: &[u8]) -> LoadError {
    let found = match start {
        [] => "is empty".to_string(),
        [b'(', ..] => "looks like WebAssembly text, which must be assembled first".to_string(),
        [0x7f, b'E', b'L', b'F', ..] => "is an ELF file, built for this machine and not for wasm32".to_string(),
        _ => {
            let start: String =
                start.iter().take(8).map(|&byte| char::from(byte).escape_default().to_string()).collect();
            format!("begins with `{start}`")
        }
    };
    LoadError::NotWasm { path: path.into(), found }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn what_never_ends_is_refused_at_once() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(error, LoadError::NotWasm { .. }), "{error}");
        assert!(error.to_string().contains(r"begins with `\u{0}\u{0}"), "{error}");
        assert!(matches!(read(Path::new("/")).unwrap_err(), LoadError::Read { .. }));
        assert!(matches!(content(Path::new("/dev/zero")).unwrap_err(), LoadError::Excessive { .. }));
    }

    #[test]
    fn a_file_may_have_so_much_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large.wasm");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"\0asm\x0d\0\x01\0").unwrap();
        file.set_len(MAX_FILE).unwrap();
        assert_eq!(read(&path).unwrap().len() as u64, MAX_FILE);
        file.set_len(MAX_FILE + 1).unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, LoadError::Excessive { .. }), "{error}");
        assert!(error.to_string().contains("more than 33554432 bytes"), "{error}");
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_one_without_a_writer_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("is empty"));
        let (mut reader, mut writer) = io::pipe().unwrap();
        let named = format!("/dev/fd/{}", reader.as_raw_fd());
        let begun = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                begun.wait();
                // Bytes that are written after it has been opened are waited for.
                let pipe = fs::read_link(format!("/proc/self/fd/{}", writer.as_raw_fd())).unwrap();
                let ends = || {
                    let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
                    all.filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == pipe)).count()
                };
                while ends() < 3 {
                    std::thread::yield_now();
                }
                writer.write_all(b"\0asm\x0d\0\x01\0and more").unwrap();
                drop(writer);
            });
            begun.wait();
            assert_eq!(read(Path::new(&named)).unwrap(), b"\0asm\x0d\0\x01\0and more");
        });
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
        fs::remove_file(path).unwrap();
    }
}
