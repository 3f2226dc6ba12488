//! Directories that are opened component by component, and files in them that are opened, renamed and removed relative
//! to the directory's descriptor. Another user who can write to a directory of the path can therefore not redirect the
//! process to another file.

use std::{
    collections::VecDeque,
    ffi::{CString, OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::AsFd as _,
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::{MetadataExt as _, PermissionsExt as _},
        },
    },
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    identity::FileIdentity,
    sys,
    trust::{FileFacts, Trust, TrustError, Writers},
};

/// Maximum number of symbolic links in a path, as in the kernel.
const MAX_LINKS: usize = 40;
/// Number of attempts to open a file that appears and disappears meanwhile.
const ATTEMPTS: usize = 8;

/// A directory that has been opened component by component.
#[derive(Debug)]
pub struct Directory {
    descriptor: File,
    path: PathBuf,
    writers: Writers,
    trust: Trust,
}

/// A regular file in a directory.
#[derive(Clone, Debug)]
pub struct DirectoryEntry {
    /// Its name.
    pub name: OsString,
    /// Its length in bytes.
    pub length: u64,
    /// When it was last modified.
    pub modified: SystemTime,
}

/// Options for opening a directory.
#[derive(Clone, Copy, Debug)]
pub struct WalkOptions<'a> {
    /// The root of absolute paths: `/`, except in tests.
    pub root: &'a Path,
    /// The trust that is required of the directory.
    pub trust: Trust,
    /// True if missing directories are created, accessible only to the user of the process.
    pub create: bool,
}

impl WalkOptions<'_> {
    /// Returns a walk from `/` that creates nothing.
    #[must_use]
    pub fn trusting(trust: Trust) -> Self {
        WalkOptions { root: Path::new("/"), trust, create: false }
    }
}

/// Returns the name of a file as a C string.
fn c_name(name: &OsStr) -> io::Result<CString> {
    CString::new(name.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a name with a NUL character"))
}

/// Returns when a file was last modified.
fn modified(status: &libc::stat) -> SystemTime {
    let nanoseconds = u32::try_from(status.st_mtime_nsec).unwrap_or_default();
    UNIX_EPOCH + Duration::new(u64::try_from(status.st_mtime).unwrap_or_default(), nanoseconds)
}

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

impl Directory {
    /// Opens the directory of the file that `path` names. Also returns the name of the file.
    ///
    /// Symbolic links are followed if no other user could have created them, as with `/var/run`.
    ///
    /// # Errors
    /// The directory does not exist, `path` names no file, or the directory is not trusted as `trust` requires; the
    /// message says why.
    pub fn of(path: &Path, trust: Trust) -> io::Result<(Self, OsString)> {
        let name = match (path.file_name(), path.as_os_str().as_bytes().last()) {
            (Some(name), Some(last)) if *last != b'/' => name.to_owned(),
            _ => return Err(TrustError::Kind("the path of a directory").into()),
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((Self::walk(parent, WalkOptions::trusting(trust))?, name))
    }

    /// Wraps a directory that was opened during the walk.
    fn reached(descriptor: File, path: PathBuf, trust: Trust) -> io::Result<Self> {
        let facts = FileFacts::from(&descriptor.metadata()?);
        let writers = Writers::of(facts);
        writers.may_be_above(facts, &path, trust)?;
        Ok(Directory { descriptor, path, writers, trust })
    }

    fn start(path: &Path, trust: Trust) -> io::Result<Self> {
        Self::reached(sys::open(&c_name(path.as_os_str())?, DIRECTORY)?, path.into(), trust)
    }

    /// Opens a directory. Symbolic links are followed if no other user could have created them.
    ///
    /// # Errors
    /// The directory does not exist, or is not trusted; the message says why.
    pub fn walk(path: &Path, options: WalkOptions<'_>) -> io::Result<Self> {
        let trust = options.trust;
        if trust == Trust::Private && !path.is_absolute() {
            // The owners of the directories above the current one are not known.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is not absolute"));
        }
        let mut directory = Self::start(if path.is_absolute() { options.root } else { Path::new(".") }, trust)?;
        let parts = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
        let mut rest: VecDeque<OsString> = parts(path).into();
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            match Path::new(&part).components().next() {
                Some(Component::RootDir) => {
                    directory = Self::start(options.root, trust)?;
                    continue;
                }
                None | Some(Component::CurDir | Component::Prefix(_)) => continue,
                Some(Component::ParentDir | Component::Normal(_)) => {}
            }
            let name = c_name(&part)?;
            let status = match sys::status_at(directory.descriptor.as_fd(), &name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && options.create => {
                    sys::make_at(directory.descriptor.as_fd(), &name, 0o700)?;
                    sys::status_at(directory.descriptor.as_fd(), &name)
                }
                status => status,
            };
            let facts = FileFacts::from(&status?);
            let within = directory.path.join(&part);
            if facts.is_link() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                directory.writers.allow_link(facts, &within, trust)?;
                let target = sys::read_link_at(directory.descriptor.as_fd(), &name)?;
                for part in parts(Path::new(&OsString::from_vec(target))).into_iter().rev() {
                    rest.push_front(part);
                }
                continue;
            }
            let descriptor = sys::open_at(directory.descriptor.as_fd(), &name, DIRECTORY | libc::O_NOFOLLOW, 0)?;
            directory = Self::reached(descriptor, within, trust)?;
        }
        directory.writers.are_trusted(&directory.path, trust)?;
        Ok(directory)
    }

    /// Returns the path of the directory, with links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file for appending, or creates it: with `mode` regardless of the umask, or with 0666 reduced by the
    /// umask.
    ///
    /// # Errors
    /// The file cannot be opened, is a symbolic link, or may have been created by another user.
    pub fn append(&self, name: &OsStr, mode: Option<u32>) -> io::Result<File> {
        self.open_or_make(name, libc::O_WRONLY | libc::O_APPEND, mode)
    }

    /// Opens a file and truncates it, or creates it, as [`Directory::append`] does.
    ///
    /// # Errors
    /// The same as [`Directory::append`]; the file is unchanged.
    pub fn replace(&self, name: &OsStr) -> io::Result<File> {
        let file = self.open_or_make(name, libc::O_WRONLY, None)?;
        if file.metadata()?.is_file() {
            // The file is truncated only after it has been checked.
            file.set_len(0)?;
        }
        Ok(file)
    }

    fn open_or_make(&self, name: &OsStr, flags: i32, mode: Option<u32>) -> io::Result<File> {
        let (c_name, flags) = (c_name(name)?, flags | libc::O_NOFOLLOW | libc::O_NOCTTY);
        for _ in 0..ATTEMPTS {
            // Until it has its mode no other user can open it.
            let first = mode.map_or(0o666, |mode| mode & 0o600);
            match sys::open_at(self.descriptor.as_fd(), &c_name, flags | libc::O_CREAT | libc::O_EXCL, first) {
                Ok(file) => {
                    if let Some(mode) = mode {
                        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
                    }
                    return Ok(file);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            // Links, directories and special files are refused before they are opened: opening a device may have side
            // effects.
            self.examine(name)?;
            match sys::open_at(self.descriptor.as_fd(), &c_name, flags, 0) {
                Ok(file) => {
                    FileFacts::from(&file.metadata()?).may_be_written(&self.path.join(name), &self.writers)?;
                    return Ok(file);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("it appears and disappears while it is opened"))
    }

    /// Returns the metadata of a file, or `None` if it does not exist.
    ///
    /// # Errors
    /// It is a symbolic link, a directory, a socket or a block device.
    fn examine(&self, name: &OsStr) -> io::Result<Option<FileFacts>> {
        let facts = match sys::status_at(self.descriptor.as_fd(), &c_name(name)?) {
            Ok(status) => FileFacts::from(&status),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        facts.is_file(&self.path.join(name))?;
        Ok(Some(facts))
    }

    /// Checks that [`Directory::append`] would open a file, without opening or creating it.
    ///
    /// # Errors
    /// The same as [`Directory::append`].
    pub fn check(&self, name: &OsStr) -> io::Result<()> {
        let directory = self.descriptor.as_fd();
        let Some(facts) = self.examine(name)? else { return sys::may_write_at(directory, c".") };
        facts.may_be_written(&self.path.join(name), &self.writers)?;
        sys::may_write_at(directory, &c_name(name)?)
    }

    /// Returns true if a file is a regular one, or does not exist.
    ///
    /// # Errors
    /// Its metadata cannot be read.
    pub fn is_regular(&self, name: &OsStr) -> io::Result<bool> {
        match sys::status_at(self.descriptor.as_fd(), &c_name(name)?) {
            Ok(status) => Ok(FileFacts::from(&status).is_regular()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Returns when a regular file was last modified, or `None` if there is none with this name.
    #[must_use]
    pub fn modified(&self, name: &OsStr) -> Option<SystemTime> {
        let status = sys::status_at(self.descriptor.as_fd(), &c_name(name).ok()?).ok()?;
        FileFacts::from(&status).is_regular().then(|| modified(&status))
    }

    /// Creates a file that does not exist, with this mode reduced by the umask.
    ///
    /// # Errors
    /// It exists, even as a dangling link, or cannot be created.
    pub fn create_new(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        sys::open_at(self.descriptor.as_fd(), &c_name(name)?, flags, mode)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// It does not exist, is a link or no regular file, cannot be read, or could have been written by another user
    /// although [`Trust::Private`] is required.
    pub fn read(&self, name: &OsStr) -> io::Result<File> {
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        // Opening a device or a pipe may have side effects: a process that waits to write into a pipe continues.
        if self.examine(name)?.is_some_and(|facts| !facts.is_regular()) {
            return Err(TrustError::Kind("no regular file").into());
        }
        let file = sys::open_at(self.descriptor.as_fd(), &c_name(name)?, flags, 0)?;
        let facts = FileFacts::from(&file.metadata()?);
        if !facts.is_regular() {
            return Err(TrustError::Kind("no regular file any more").into());
        }
        facts.may_be_read(self.trust)?;
        Ok(file)
    }

    /// Returns true if the name exists, even as a dangling link.
    #[must_use]
    pub fn has(&self, name: &OsStr) -> bool {
        c_name(name).is_ok_and(|name| sys::status_at(self.descriptor.as_fd(), &name).is_ok())
    }

    /// Lists the regular files.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        let readable = libc::O_RDONLY | libc::O_DIRECTORY;
        let entries = rustix::fs::Dir::new(sys::open_at(self.descriptor.as_fd(), c".", readable, 0)?)?;
        let mut files = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_owned();
            // A file that has disappeared meanwhile is left out.
            let Ok(status) = sys::status_at(self.descriptor.as_fd(), &name) else { continue };
            if FileFacts::from(&status).is_regular() {
                files.push(DirectoryEntry {
                    name: OsString::from_vec(name.into_bytes()),
                    length: u64::try_from(status.st_size).unwrap_or_default(),
                    modified: modified(&status),
                });
            }
        }
        Ok(files)
    }

    /// Renames a file, and replaces a file with the new name.
    ///
    /// # Errors
    /// NotFound if it does not exist, or why it cannot be renamed.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        sys::rename_at(self.descriptor.as_fd(), &c_name(from)?, &c_name(to)?)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// NotFound if it does not exist, or why it cannot be removed.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        sys::remove_at(self.descriptor.as_fd(), &c_name(name)?)
    }

    /// Returns the identity of the file with this name.
    ///
    /// # Errors
    /// The directory's metadata cannot be read.
    pub fn identity(&self, name: &OsStr) -> io::Result<FileIdentity> {
        let own = self.descriptor.metadata()?;
        let file =
            sys::status_at(self.descriptor.as_fd(), &c_name(name)?).ok().map(|status| (status.st_dev, status.st_ino));
        Ok(FileIdentity { file, entry: (own.dev(), own.ino(), name.to_owned()) })
    }
}

#[cfg(test)]
mod tests;
