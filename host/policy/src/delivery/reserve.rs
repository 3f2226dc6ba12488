//! A tenant's file on the file system of the audit: it leaves a reserve free, so that it never prevents actions from
//! being recorded.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flowgate_base::Warnings;
use flowgate_pipeline::sink::{Sink, SinkError};

/// A sink that writes only while the reserve is free.
pub struct SpaceReservingSink {
    sink: Box<dyn Sink>,
    directory: PathBuf,
    /// The reserve in bytes.
    reserve: u64,
    /// Lines that were dropped.
    dropped: Arc<AtomicU64>,
    full: bool,
    warnings: Warnings,
}

impl SpaceReservingSink {
    /// Returns a sink that writes to `sink`, whose file is `path`, while more than `reserve` bytes are free on its file
    /// system, and counts the other lines in `dropped`. `warnings` receives warnings.
    #[must_use]
    pub fn new(sink: Box<dyn Sink>, path: &Path, reserve: u64, dropped: Arc<AtomicU64>, warnings: Warnings) -> Self {
        SpaceReservingSink { sink, directory: directory(path), reserve, dropped, full: false, warnings }
    }
}

impl Sink for SpaceReservingSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        // If it cannot be determined, writing reports what is wrong.
        let left = free(&self.directory).unwrap_or(u64::MAX);
        if left >= self.reserve.saturating_add(bytes.len() as u64) {
            self.full = false;
            return self.sink.write(bytes);
        }
        if !std::mem::replace(&mut self.full, true) {
            self.warnings.line(&format!(
                "WARNING: {left} bytes are free on the file system of {}, where the audit is: what the tenant would write is dropped \
                 until there is more than {} (`reserve`).",
                flowgate_base::text::path_text(&self.directory),
                self.reserve
            ));
        }
        let lines = bytes.split_inclusive(|&byte| byte == b'\n').count();
        self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}

/// Returns true if two files are, or would be, on the same file system.
#[must_use]
pub fn share_a_file_system(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| fs::metadata(directory(path)).ok().map(|data| data.dev());
    device(one).is_some() && device(one) == device(other)
}

/// Returns the directory of a file, with links resolved.
fn directory(path: &Path) -> PathBuf {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Returns the bytes that an unprivileged process may still write on the file system of a directory.
fn free(directory: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(directory)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn what_would_take_of_the_reserve_is_dropped_and_said_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blue.log");
        for (reserve, written, warned) in [(1, "1\n2\n3\n", 0), (u64::MAX, "", 1)] {
            let (kept, dropped, said) = <(Arc<Mutex<Vec<u8>>>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
            let count = said.clone();
            let warnings = Warnings::new(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            let mut sink = SpaceReservingSink::new(Box::new(kept.clone()), &path, reserve, dropped.clone(), warnings);
            sink.write(b"1\n2\n").unwrap();
            sink.write(b"3\n").unwrap();
            assert_eq!(kept.lock().unwrap().as_slice(), written.as_bytes());
            let lines = 3 - written.lines().count() as u64;
            assert_eq!((dropped.load(Ordering::Relaxed), said.load(Ordering::Relaxed)), (lines, warned));
        }
    }

    #[test]
    fn files_of_one_file_system_are_known_whatever_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink("/proc/self/status", at("elsewhere")).unwrap();
        assert!(share_a_file_system(&at("audit"), &at("blue.log")));
        assert!(!share_a_file_system(&at("audit"), &at("elsewhere")));
        assert!(!share_a_file_system(&at("audit"), &at("none/blue.log")));
        assert!(free(directory.path()).unwrap() > 0);
    }
}
