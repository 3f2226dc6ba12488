//! Reads the file of a plugin, up to a limit and only if it is WebAssembly.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use sha2::{Digest as _, Sha256};

use super::{error::LoadError, memory_file};

/// Maximum size of a file in bytes. A plugin in Rust, C or Zig has 30 to 500 KB, one in JavaScript 2 MB to 12 MB, one
/// in Python 19 MB.
pub(super) const MAX_FILE: u64 = 32 << 20;
/// First bytes of every module and component.
const PREAMBLE: [u8; 4] = *b"\0asm";

/// A plugin's file of any format, whose digest decides whether it is the right one.
///
/// It is read to compute the digest, and again when it is compiled: hundreds of plugins may wait for that, and take no
/// memory meanwhile. It is not compiled if its digest has changed.
#[derive(Debug)]
pub struct PluginFile {
    path: PathBuf,
    sha256: [u8; 32],
    /// Its content, if it can be read only once, as that of a pipe.
    kept: Option<Arc<File>>,
}

impl PluginFile {
    /// Reads the file at this path.
    ///
    /// # Errors
    /// [`LoadError::Read`] or [`LoadError::Excessive`].
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let failed = |source| LoadError::Read { path: path.into(), source };
        let file = open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_file() {
            let sha256 = digest(path, &file, |_| Ok(()))?;
            return Ok(PluginFile { path: path.into(), sha256, kept: None });
        }
        let (kept, sha256) = in_memory(path, &file)?;
        Ok(PluginFile { path: path.into(), sha256, kept: Some(Arc::new(kept)) })
    }

    /// Returns a file with this content; `path` is its name in errors.
    ///
    /// # Errors
    /// [`LoadError::Read`] if there is no memory for it, [`LoadError::Excessive`].
    pub fn of_content(path: &Path, content: &[u8]) -> Result<Self, LoadError> {
        let (kept, sha256) = in_memory(path, content)?;
        Ok(PluginFile { path: path.into(), sha256, kept: Some(Arc::new(kept)) })
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the SHA-256 of its content in hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        hexadecimal(&self.sha256)
    }

    /// Returns the SHA-256 of its content.
    pub(super) fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Returns its content in a sealed file in memory.
    ///
    /// # Errors
    /// [`LoadError::Read`] if it has changed, as well.
    pub(super) fn content(&self) -> Result<Arc<File>, LoadError> {
        let failed = |source| LoadError::Read { path: self.path.clone(), source };
        if let Some(kept) = &self.kept {
            // A process that has read it has moved the offset.
            (&**kept).rewind().map_err(failed)?;
            return Ok(kept.clone());
        }
        let (content, sha256) = in_memory(&self.path, open(&self.path).map_err(failed)?)?;
        if sha256 != self.sha256 {
            return Err(failed(io::Error::other("it has been changed since its digest was computed")));
        }
        Ok(Arc::new(content))
    }
}

/// Copies what can be read into a sealed file in memory. Returns it and the SHA-256 of its content.
fn in_memory(path: &Path, from: impl Read) -> Result<(File, [u8; 32]), LoadError> {
    let failed = |source| LoadError::Read { path: path.into(), source };
    let mut file = memory_file::empty("plugin").map_err(failed)?;
    let sha256 = digest(path, from, |part| file.write_all(part))?;
    file.rewind().and_then(|()| memory_file::seal(&file)).map_err(failed)?;
    Ok((file, sha256))
}

/// Returns the SHA-256 of what can be read, of which `take` gets each part.
fn digest(path: &Path, from: impl Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> Result<[u8; 32], LoadError> {
    let (mut hasher, mut left) = (Sha256::new(), MAX_FILE + 1);
    memory_file::read_in_parts(from.take(left), |part| {
        left -= part.len() as u64;
        hasher.update(part);
        take(part)
    })
    .map_err(|source| LoadError::Read { path: path.into(), source })?;
    if left == 0 { Err(excessive(path)) } else { Ok(hasher.finalize().into()) }
}

/// Returns bytes in hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the error for a file that is too large.
fn excessive(path: &Path) -> LoadError {
    let excess = format!("has more than {MAX_FILE} bytes, the most that the file of a plugin may have");
    LoadError::Excessive { path: path.into(), excess }
}

/// Reads a plugin's file or a pipe.
///
/// # Errors
/// [`LoadError::Read`], [`LoadError::NotWasm`] after the first bytes of any other format, [`LoadError::Excessive`] if
/// it is too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |source| LoadError::Read { path: path.into(), source };
    let file = open(path).map_err(failed)?;
    let mut content = Vec::new();
    (&file).take(8).read_to_end(&mut content).map_err(failed)?;
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
        return Err(excessive(path));
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
    fn a_plugin_is_compiled_as_it_was_when_its_digest_was_computed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugin.wasm");
        let bytes: Vec<u8> = (0..100_000).map(|at| (at / 3) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        let plugin = PluginFile::open(&path).unwrap();
        assert_eq!(plugin.digest(), hexadecimal(&Sha256::digest(&bytes)));
        // It is compiled twice if it takes long.
        for _ in 0..2 {
            assert!(memory_file::content(&plugin.content().unwrap()).unwrap() == bytes);
        }
        for changed in [&bytes[1..], b""] {
            fs::write(&path, changed).unwrap();
            let error = plugin.content().unwrap_err().to_string();
            assert!(error.ends_with("plugin.wasm: it has been changed since its digest was computed"), "{error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(plugin.content().unwrap_err(), LoadError::Read { .. }));
        let plugin = PluginFile::of_content(&path, &bytes).unwrap();
        assert!(memory_file::content(&plugin.content().unwrap()).unwrap() == bytes);
    }

    #[test]
    fn a_plugin_may_come_through_a_pipe_and_has_so_many_bytes_at_most() {
        let (reader, mut writer) = io::pipe().unwrap();
        let named = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let plugin = std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(&[7; 70_000]).unwrap());
            // The thread that writes may end before: the pipe has room for less than that.
            PluginFile::open(Path::new(&named)).unwrap()
        });
        for _ in 0..2 {
            let mut content = Vec::new();
            (&*plugin.content().unwrap()).read_to_end(&mut content).unwrap();
            assert!(content == [7; 70_000]);
        }
        for path in ["/dev/zero", "/"] {
            assert!(PluginFile::open(Path::new(path)).is_err(), "{path}");
        }
        let longest = usize::try_from(MAX_FILE).unwrap();
        assert!(PluginFile::of_content(Path::new("x"), &vec![0; longest]).is_ok());
        let error = PluginFile::of_content(Path::new("x"), &vec![0; longest + 1]).unwrap_err();
        assert!(matches!(error, LoadError::Excessive { .. }), "{error}");
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
