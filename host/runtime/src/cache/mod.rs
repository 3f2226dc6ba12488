//! A cache of the compiled code of plugins from files, which persists between runs.
//!
//! Compiled code is loaded unchecked: it is machine code that runs with the privileges of this process. A cache is
//! therefore used only if nobody but root and the user of the process can have written to it (`directory`), and not at
//! all by a program that has more privileges than its caller, since the caller's environment names the directory. The
//! digest in each file detects flipped bits and truncated files; it is no protection against a user who can write to
//! the directory.

mod directory;

use std::{
    ffi::OsStr,
    fs::File,
    hash::{Hash, Hasher},
    io::{self, Read as _, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use flowgate_base::io_error::error_text;
use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, component::Component};

use super::{
    memory_file::{FromStart, read_in_parts, sealed_after},
    sys,
};
use directory::CacheDirectory;

/// Magic number of a file, with the version of the layout.
const MAGIC: &[u8; 16] = b"flowgate code 1\n";
/// Length of magic number, key, and digest of the code.
const HEADER: usize = MAGIC.len() + 32 + 32;
/// Maximum size of a file in bytes: Python's interpreter takes a fifth of it.
const MAX_FILE: u64 = 256 << 20;
/// Maximum size of all files in bytes; the oldest are removed first.
const MAX_CACHE: u64 = 512 << 20;

/// A cache of compiled code in a directory.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The root of the directory's path: `/` except in tests.
    root: PathBuf,
    directory: PathBuf,
}

/// The key of compiled code.
pub(super) struct CacheKey([u8; 32]);

impl CacheKey {
    fn file(&self) -> String {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{digits}.{}", directory::SUFFIX)
    }
}

impl Cache {
    /// Returns the cache of the user: `$XDG_CACHE_HOME/flowgate`, or `~/.cache/flowgate`. Returns `None` without
    /// either, and for a program that has more privileges than its caller (set-user-ID, file capabilities).
    #[must_use]
    pub fn of_environment() -> Option<Self> {
        if sys::is_privileged_start() || sys::acts_for_another() {
            return None;
        }
        let absolute = |path: PathBuf| path.is_absolute().then_some(path);
        std::env::var_os("XDG_CACHE_HOME")
            .and_then(|path| absolute(path.into()))
            .or_else(|| absolute(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
            .map(|path| Self::at(&path.join("flowgate")))
    }

    /// Returns the cache of a service: `$CACHE_DIRECTORY/code`, which systemd sets for a unit with `CacheDirectory=`.
    /// Returns `None` without one, and for a program that has more privileges than its caller.
    #[must_use]
    pub fn of_service() -> Option<Self> {
        if sys::is_privileged_start() || sys::acts_for_another() {
            return None;
        }
        // With several directories it is a list, of which the first one is as good as any.
        let all = std::env::var_os("CACHE_DIRECTORY")?;
        let first = all.as_encoded_bytes().split(|byte| *byte == b':').next()?;
        let first = Path::new(OsStr::from_bytes(first));
        first.is_absolute().then(|| Self::at(&first.join("code")))
    }

    /// Returns a cache in this directory, which is created when the first file is stored.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Cache { root: "/".into(), directory: directory.into() }
    }

    /// Returns the key of a plugin's compiled code: a digest of that of its file, its owner, the engine's settings (the
    /// features of the processor among them), and the build of flowgate.
    pub(super) fn key(&self, engine: &Engine, owner: &str, file: &[u8; 32]) -> CacheKey {
        let mut hasher = DigestHasher(Sha256::new());
        hasher.write(format!("{} {}\n", env!("CARGO_PKG_VERSION"), flowgate_stock::BUILD).as_bytes());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.write(&Sha256::digest(owner));
        hasher.write(file);
        CacheKey(hasher.0.finalize().into())
    }

    /// Loads compiled code, if a trusted and undamaged file has it.
    pub(super) fn load(&self, engine: &Engine, key: &CacheKey) -> Option<Component> {
        let content = self.open(false)?.read(&key.file(), MAX_FILE)?;
        let (header, code) = content.split_at_checked(HEADER)?;
        if !belongs(header, key, &Sha256::digest(code)) {
            return None;
        }
        // SAFETY: `deserialize` requires its bytes to be wasmtime's own output. `store` wrote them; only root and this
        // user can have written to the file since (`CacheDirectory::open`, `CacheDirectory::read`), and they are
        // undamaged (`verified`). wasmtime itself checks that they match this engine and machine.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(engine, code) };
        component.ok()
    }

    /// Copies compiled code into a sealed file in memory without loading it, if a trusted and undamaged file has it.
    pub(super) fn read(&self, key: &CacheKey) -> Option<File> {
        let mut file = self.open(false)?.open_file(&key.file(), MAX_FILE)?;
        let mut header = [0; HEADER];
        file.read_exact(&mut header).ok()?;
        let mut digest = Sha256::new();
        let copied = sealed_after("code", |code| {
            read_in_parts(&mut file, |part| {
                digest.update(part);
                code.write_all(part)
            })
        });
        copied.ok().filter(|_| belongs(&header, key, &digest.finalize()))
    }

    /// Stores compiled code, which is in a sealed file. A failure is no error: the code is compiled again next time.
    pub(super) fn store(&self, key: &CacheKey, code: &File) {
        let fits = code.metadata().is_ok_and(|data| data.len() < MAX_FILE);
        let mut digest = Sha256::new();
        let digested = read_in_parts(FromStart::of(code), |part| {
            digest.update(part);
            Ok(())
        });
        if fits
            && digested.is_ok()
            && let Some(directory) = self.open(true)
        {
            let digest = digest.finalize();
            directory.write(&key.file(), |file| {
                let header = [MAGIC.as_slice(), key.0.as_slice(), digest.as_slice()];
                header.into_iter().try_for_each(|part| file.write_all(part))?;
                read_in_parts(FromStart::of(code), |part| file.write_all(part))
            });
            directory.shrink(MAX_CACHE);
        }
    }

    /// Opens the directory, if it can be trusted.
    fn open(&self, make: bool) -> Option<CacheDirectory> {
        match CacheDirectory::open(&self.root, &self.directory, make) {
            Ok(directory) => Some(directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let why = format!(
                    "the cache {} is not used: {}",
                    flowgate_base::text::path_text(&self.directory),
                    error_text(&error)
                );
                tracing::debug!("{}", flowgate_base::text::clean(&why));
                None
            }
        }
    }
}

/// Returns true if the header of a file has this key, and the digest of the code that follows it.
fn belongs(header: &[u8], key: &CacheKey, digest: &[u8]) -> bool {
    let rest = header.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(&key.0));
    rest.is_some_and(|rest| rest == digest)
}

/// Digests what wasmtime writes to a hasher.
struct DigestHasher(Sha256);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}

#[cfg(test)]
mod tests;
