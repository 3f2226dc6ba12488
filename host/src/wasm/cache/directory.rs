//! A directory that nobody can have written to but root and the user that runs.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::{
    fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};

/// What the names of files in the cache end in.
pub(super) const SUFFIX: &str = "code";
/// Links on the way to a directory, at most.
const LINKS: usize = 16;

/// The directory, open.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

/// Why a directory is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untrusted {
    /// It does not exist.
    #[error("it does not exist")]
    Missing,
    /// It belongs to somebody else, or somebody else can write it, or a directory on the way to it.
    #[error("{} {what}", crate::text::clean(&part.to_string_lossy()))]
    Part {
        /// The part of the path.
        part: OsString,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The kernel does not open it.
    #[error("{} cannot be opened: {error}", crate::text::clean(&part.to_string_lossy()))]
    System {
        /// The part of the path.
        part: OsString,
        /// What the kernel says.
        error: Errno,
    },
}

impl Directory {
    /// Opens a directory by its absolute path, each part of which must belong to root or to the effective user and be writable
    /// by nobody else. Links are followed if they belong to one of those. `make`: parts that do not exist are made. `root` is
    /// where paths begin, `/` but for tests.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn open(root: &Path, path: &Path, make: bool) -> Result<Self, Untrusted> {
        let parts = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let system = |part: &OsStr| {
            let part = part.to_os_string();
            move |error| Untrusted::System { part, error }
        };
        let begin = || fs::openat(CWD, root, parts | OFlags::DIRECTORY, Mode::empty()).map_err(system(OsStr::new("/")));
        let mut left: VecDeque<OsString> = names(path);
        let mut at = begin()?;
        ours(OsStr::new("/"), &fs::fstat(&at).map_err(system(OsStr::new("/")))?)?;
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            let next = match fs::openat(&at, &name, parts, Mode::empty()) {
                Err(Errno::NOENT) if make => {
                    fs::mkdirat(&at, &name, Mode::RWXU).map_err(system(&name))?;
                    fs::openat(&at, &name, parts, Mode::empty())
                }
                Err(Errno::NOENT) => return Err(Untrusted::Missing),
                opened => opened,
            };
            let next = next.map_err(system(&name))?;
            let stat = fs::fstat(&next).map_err(system(&name))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    ours(&name, &stat)?;
                    at = next;
                }
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS || !trusted(stat.st_uid) {
                        return Err(Untrusted::Part { part: name, what: "is a symbolic link of somebody else" });
                    }
                    let target = fs::readlinkat(&next, "", Vec::new()).map_err(system(&name))?;
                    let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                    if target.is_absolute() {
                        at = begin()?;
                    }
                    for name in names(target).into_iter().rev() {
                        left.push_front(name);
                    }
                }
                _ => return Err(Untrusted::Part { part: name, what: "is no directory" }),
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::openat(&at, ".", flags, Mode::empty()).map(Directory).map_err(system(OsStr::new(".")))
    }

    /// The content of a file of at most so many bytes, if it is a regular file that nobody else can have written.
    pub fn read(&self, name: &str, most: u64) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&self.0, name, flags, Mode::empty()).ok()?;
        let stat = fs::fstat(&file).ok()?;
        let length = u64::try_from(stat.st_size).ok().filter(|&length| length <= most)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || ours(OsStr::new(name), &stat).is_err() {
            return None;
        }
        let mut content = Vec::with_capacity(usize::try_from(length).ok()?);
        File::from(file).take(length).read_to_end(&mut content).ok()?;
        Some(content)
    }

    /// Writes a file for the user alone: under another name first, so that it is there as a whole or not at all.
    pub fn write(&self, name: &str, pieces: &[&[u8]]) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let part = format!(".{name}.{}.{number}.part", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = fs::openat(&self.0, &part, flags, Mode::RUSR | Mode::WUSR) else { return };
        let mut file = File::from(file);
        let written = pieces.iter().try_for_each(|piece| file.write_all(piece)).is_ok();
        if !written || fs::renameat(&self.0, &part, &self.0, name).is_err() {
            // What cannot be removed either is removed by `shrink` one day.
            let _ = fs::unlinkat(&self.0, &part, AtFlags::empty());
        }
    }

    /// Removes the oldest files until all of them have at most so many bytes, and what writers left behind.
    pub fn shrink(&self, most: u64) {
        /// A writer that is still there has finished by then.
        const LEFT_BEHIND: i64 = 3600;
        let Ok(entries) = Dir::read_from(self.0.as_fd()) else { return };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut files = Vec::new();
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let Ok(stat) = fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                continue;
            }
            let age = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(stat.st_mtime);
            match Path::new(OsStr::from_bytes(name.to_bytes())).extension().and_then(OsStr::to_str) {
                Some(SUFFIX) => {
                    let length = u64::try_from(stat.st_size).unwrap_or_default();
                    files.push(((stat.st_mtime, stat.st_mtime_nsec), length, name.to_owned()));
                }
                Some("part") if age > LEFT_BEHIND => {
                    let _ = fs::unlinkat(&self.0, name, AtFlags::empty());
                }
                _ => {}
            }
        }
        files.sort();
        let mut all: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, name) in files {
            if all <= most {
                break;
            }
            if fs::unlinkat(&self.0, &name, AtFlags::empty()).is_ok() {
                all -= length;
            }
        }
    }
}

/// The parts of a path, without the root.
fn names(path: &Path) -> VecDeque<OsString> {
    path.iter().filter(|part| *part != "/").map(OsStr::to_os_string).collect()
}

/// Whether a user may have written what is trusted.
fn trusted(user: u32) -> bool {
    user == 0 || user == super::super::sys::effective_user()
}

/// Whether nobody but root and the effective user can write it.
fn ours(part: &OsStr, stat: &Stat) -> Result<(), Untrusted> {
    let what = if !trusted(stat.st_uid) {
        "belongs to somebody else"
    } else if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        "can be written by others"
    } else {
        return Ok(());
    };
    Err(Untrusted::Part { part: part.to_os_string(), what })
}
