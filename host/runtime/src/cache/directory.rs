//! A directory for the cache, which only root and the user of the process can write to.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use flowgate_base::files::{self, Trust, WalkOptions};

/// Suffix of the cache's files.
pub(super) const SUFFIX: &str = "code";

/// The open directory.
#[derive(Debug)]
pub(super) struct CacheDirectory(files::Directory);

impl CacheDirectory {
    /// Opens a directory by its absolute path. Each part of the path must belong to root or the effective user and be
    /// writable by nobody else ([`Trust::Private`]). `make`: missing parts are created. `root` is the root of paths,
    /// `/` except in tests.
    ///
    /// # Errors
    /// NotFound if it does not exist; or why it is not trusted.
    pub(crate) fn open(root: &Path, path: &Path, make: bool) -> io::Result<Self> {
        files::Directory::walk(path, WalkOptions { root, trust: Trust::Private, create: make }).map(CacheDirectory)
    }

    /// Opens a file of at most `limit` bytes, if it is a regular file that no other user can have written.
    pub(super) fn open_file(&self, name: &str, limit: u64) -> Option<io::Take<File>> {
        let file = self.0.read(OsStr::new(name)).ok()?;
        let length = file.metadata().ok()?.len();
        (length <= limit).then(|| file.take(length))
    }

    /// Returns the content of such a file.
    pub(super) fn read(&self, name: &str, limit: u64) -> Option<Vec<u8>> {
        let mut file = self.open_file(name, limit)?;
        let mut content = Vec::with_capacity(usize::try_from(file.limit()).ok()?);
        file.read_to_end(&mut content).ok()?;
        Some(content)
    }

    /// Writes a file that only the user can access: under a temporary name first, so that it appears whole or not at
    /// all. `fill` writes its content.
    pub(super) fn write(&self, name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let part = format!(".{name}.{}.{number}.part", std::process::id());
        let part = OsStr::new(&part);
        let Ok(mut file) = self.0.create_new(part, 0o600) else { return };
        if fill(&mut file).is_err() || self.0.rename(part, OsStr::new(name)).is_err() {
            // A temporary file that cannot be removed now is removed by `shrink` later.
            let _ = self.0.remove(part);
        }
    }

    /// Removes the oldest files until all files together have at most `limit` bytes, and abandoned temporary files.
    pub(super) fn shrink(&self, limit: u64) {
        /// Age at which a temporary file counts as abandoned: its writer would have finished.
        const LEFT_BEHIND: Duration = Duration::from_secs(3600);
        let Ok(listed) = self.0.list() else { return };
        let now = SystemTime::now();
        let mut files = Vec::new();
        for file in listed {
            match Path::new(&file.name).extension().and_then(OsStr::to_str) {
                Some(SUFFIX) => files.push(file),
                Some("part") if now.duration_since(file.modified).is_ok_and(|age| age > LEFT_BEHIND) => {
                    // Another process may have removed it.
                    let _ = self.0.remove(&file.name);
                }
                _ => {}
            }
        }
        files.sort_by(|one, other| (one.modified, &one.name).cmp(&(other.modified, &other.name)));
        let mut all: u64 = files.iter().map(|file| file.length).sum();
        for file in files {
            if all <= limit {
                break;
            }
            if self.0.remove(&file.name).is_ok() {
                all -= file.length;
            }
        }
    }
}
