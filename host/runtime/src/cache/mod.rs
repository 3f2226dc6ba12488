//! Compiled code of plugins from files, kept from one run to the next.
//!
//! Compiled code is loaded unchecked: it is machine code that runs with the privileges of this process. So a cache is used only
//! where nobody but root and the user that runs can have written it (`directory`), and not at all by a program that has more
//! privileges than who started it, since the environment that names the directory is the other's. The digest in each file
//! is for bits that flipped and files that were cut short; it proves nothing against somebody who can write the directory.

mod directory;

use std::{
    hash::{Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, component::Component};

use super::sys;
use directory::Directory;

/// What a file begins with. The number is that of the layout.
const MAGIC: &[u8; 16] = b"flowgate code 1\n";
/// Magic, key, digest of what follows.
const HEADER: usize = MAGIC.len() + 32 + 32;
/// Bytes of a file, at most: Python's interpreter takes a fifth of it.
const FILE: u64 = 256 << 20;
/// Bytes of all files; the oldest go first.
const ALL: u64 = 512 << 20;

/// A cache of compiled code, in a directory.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Where the directory's path begins: `/` but for tests.
    root: PathBuf,
    directory: PathBuf,
}

/// What compiled code is found by.
pub(super) struct Key([u8; 32]);

impl Key {
    fn file(&self) -> String {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{digits}.{}", directory::SUFFIX)
    }
}

impl Cache {
    /// The cache of the user that runs: `$XDG_CACHE_HOME/flowgate`, or `~/.cache/flowgate`. None without either, and none for a
    /// program that was started with more privileges than who started it (set-user-ID, file capabilities).
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

    /// A cache in this directory, which is made when something is to be kept in it.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Cache { root: "/".into(), directory: directory.into() }
    }

    /// What a component is found by: its bytes, how the engine compiles, and which flowgate this is.
    pub(super) fn key(&self, engine: &Engine, component: &[u8]) -> Key {
        let mut hasher = Sha(Sha256::new());
        hasher.write(format!("{} {}\n", env!("CARGO_PKG_VERSION"), flowgate_stock::BUILD).as_bytes());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.write(&Sha256::digest(component));
        Key(hasher.0.finalize().into())
    }

    /// Compiled code, if there is some that can be trusted and is whole.
    pub(super) fn load(&self, engine: &Engine, key: &Key) -> Option<Component> {
        let content = self.open(false)?.read(&key.file(), FILE)?;
        let code = whole(&content, key)?;
        // SAFETY: `deserialize` trusts its bytes to be wasmtime's own output. `store` wrote them; nobody but root and this user
        // can have written the file since (`Directory::open`, `Directory::read`), and they are as they were written
        // (`whole`). That they fit this engine and machine, wasmtime checks itself.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(engine, code) };
        component.ok()
    }

    /// Keeps compiled code. That it cannot be kept is no error: it is compiled again the next time.
    pub(super) fn store(&self, key: &Key, component: &Component) {
        let Ok(code) = component.serialize() else { return };
        if u64::try_from(code.len()).is_ok_and(|length| length < FILE)
            && let Some(directory) = self.open(true)
        {
            let digest: [u8; 32] = Sha256::digest(&code).into();
            directory.write(&key.file(), &[MAGIC, &key.0, &digest, &code]);
            directory.shrink(ALL);
        }
    }

    /// The directory, if it can be trusted.
    fn open(&self, make: bool) -> Option<Directory> {
        match Directory::open(&self.root, &self.directory, make) {
            Ok(directory) => Some(directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let why = format!("the cache {} is not used: {error}", self.directory.display());
                tracing::debug!("{}", flowgate_base::text::clean(&why));
                None
            }
        }
    }
}

/// The code in a file, if it is the one that was asked for and not a bit of it has changed.
fn whole<'a>(content: &'a [u8], key: &Key) -> Option<&'a [u8]> {
    let (header, code) = content.split_at_checked(HEADER)?;
    let (magic, header) = header.split_at_checked(MAGIC.len())?;
    let (named, digest) = header.split_at_checked(key.0.len())?;
    (magic == MAGIC && named == key.0 && digest == Sha256::digest(code).as_slice()).then_some(code)
}

/// What wasmtime tells a hasher, digested.
struct Sha(Sha256);

impl Hasher for Sha {
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
