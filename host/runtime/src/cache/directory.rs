//! What is kept in a directory that nobody can have written to but root and the user that runs.

use std::{
    ffi::OsStr,
    io::{self, Read as _, Write as _},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use flowgate_base::files::{self, Trust, Way};

/// What the names of files in the cache end in.
pub(super) const SUFFIX: &str = "code";

/// The directory, open.
#[derive(Debug)]
pub(super) struct Directory(files::Directory);

impl Directory {
    /// Opens a directory by its absolute path, each part of which must belong to root or to the effective user and be writable
    /// by nobody else ([`Trust::Private`]). `make`: parts that do not exist are made. `root` is where paths begin, `/` but for
    /// tests.
    ///
    /// # Errors
    /// NotFound if it does not exist; or why it is not trusted.
    pub fn open(root: &Path, path: &Path, make: bool) -> io::Result<Self> {
        files::Directory::walk(path, Way { root, trust: Trust::Private, make }).map(Directory)
    }

    /// The content of a file of at most so many bytes, if it is a regular file that nobody else can have written.
    pub fn read(&self, name: &str, most: u64) -> Option<Vec<u8>> {
        let file = self.0.read(OsStr::new(name)).ok()?;
        let length = file.metadata().ok()?.len();
        if length > most {
            return None;
        }
        let mut content = Vec::with_capacity(usize::try_from(length).ok()?);
        file.take(length).read_to_end(&mut content).ok()?;
        Some(content)
    }

    /// Writes a file for the user alone: under another name first, so that it is there as a whole or not at all.
    pub fn write(&self, name: &str, pieces: &[&[u8]]) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let part = format!(".{name}.{}.{number}.part", std::process::id());
        let part = OsStr::new(&part);
        let Ok(mut file) = self.0.create_new(part, 0o600) else { return };
        let written = pieces.iter().try_for_each(|piece| file.write_all(piece)).is_ok();
        if !written || self.0.rename(part, OsStr::new(name)).is_err() {
            // What cannot be removed either is removed by `shrink` one day.
            let _ = self.0.remove(part);
        }
    }

    /// Removes the oldest files until all of them have at most so many bytes, and what writers left behind.
    pub fn shrink(&self, most: u64) {
        /// A writer that is still there has finished by then.
        const LEFT_BEHIND: Duration = Duration::from_secs(3600);
        let Ok(listed) = self.0.list() else { return };
        let now = SystemTime::now();
        let mut files = Vec::new();
        for file in listed {
            match Path::new(&file.name).extension().and_then(OsStr::to_str) {
                Some(SUFFIX) => files.push(file),
                Some("part") if now.duration_since(file.modified).is_ok_and(|age| age > LEFT_BEHIND) => {
                    // Somebody else may have been faster.
                    let _ = self.0.remove(&file.name);
                }
                _ => {}
            }
        }
        files.sort_by(|one, other| (one.modified, &one.name).cmp(&(other.modified, &other.name)));
        let mut all: u64 = files.iter().map(|file| file.length).sum();
        for file in files {
            if all <= most {
                break;
            }
            if self.0.remove(&file.name).is_ok() {
                all -= file.length;
            }
        }
    }
}
