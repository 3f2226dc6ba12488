//! Directories that are walked to, and files in them that are opened, renamed and removed relative to their descriptor, so that
//! nobody who can write somewhere on the way leads the process to another file.

use std::{
    collections::VecDeque,
    ffi::{CString, OsStr, OsString},
    fs::{File, Metadata},
    io,
    os::{
        fd::AsFd as _,
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        },
    },
    path::{Component, Path, PathBuf},
};

use super::sys;

/// The most symbolic links on the way to a directory, as in the kernel.
const MOST_LINKS: usize = 40;
/// How often a file that appears and disappears meanwhile is tried.
const ATTEMPTS: usize = 8;

/// What is asked of the directory of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nobody but root and the user of the process can replace files in it: for what runs unattended. Directories with the sticky
    /// bit are allowed, where only root and the user itself can replace its files.
    Exclusive,
    /// Any directory: for a path that a user types. The file itself must be one that leads nowhere else.
    Typed,
}

/// Why a path is not used. The text says what would be right.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{} is a symbolic link; name the file that is meant", .0.display())]
    Link(PathBuf),
    #[error("{} is a symbolic link in a directory that others can write; name the directory that is meant", .0.display())]
    LinkOfOthers(PathBuf),
    #[error("it has {0} names (hard links), so that another file would be written; remove it or name another file")]
    Links(u64),
    #[error("it belongs to user {0}, in a directory that everybody can write; remove it or name another file")]
    Owner(u32),
    #[error("it is {0}; name a file")]
    Kind(&'static str),
    #[error(
        "{} {why}, so that others can replace files in it; use a directory that belongs to root or user {user}, \
         and that only its owner can write",
        path.display()
    )]
    Directory { path: PathBuf, why: String, user: u32 },
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        io::Error::new(io::ErrorKind::PermissionDenied, refusal)
    }
}

/// Who can write a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Writers {
    /// Root and the user of the process.
    Own,
    /// Everybody; files can be replaced by their owners and the directory's only.
    Sticky,
    /// The group of a directory of root or the user, for this reason: `/var/log` is such on Ubuntu.
    Group(String),
    /// Others, for this reason.
    Others(String),
}

impl Writers {
    fn of(metadata: &Metadata) -> Self {
        let (owner, mode) = (metadata.uid(), metadata.mode());
        if owner != 0 && owner != sys::effective_user() {
            return Writers::Others(format!("belongs to user {owner}"));
        }
        match mode & 0o022 {
            0 => Writers::Own,
            _ if mode & libc::S_ISVTX != 0 => Writers::Sticky,
            0o020 => Writers::Group(format!("can be written by group {}", metadata.gid())),
            _ => Writers::Others("can be written by everybody".into()),
        }
    }
}

/// A directory that has been walked to.
#[derive(Debug)]
pub struct Directory {
    descriptor: File,
    path: PathBuf,
    writers: Writers,
}

/// Which file an output is. Two paths that lead to the same one have the same place, whatever they look like.
#[derive(Clone, Debug)]
pub struct Place {
    /// Device and number of the file, if it is there.
    file: Option<(u64, u64)>,
    /// Device and number of its directory, and its name there.
    entry: (u64, u64, OsString),
}

impl Place {
    /// Whether both are the same file.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.entry == other.entry || self.file.is_some() && self.file == other.file
    }

    /// Whether `other` has a name that this file gets when it is put aside: `NAME.1`, `NAME.2.gz`, `NAME.2.gz.part`.
    #[must_use]
    pub fn is_rotated_into(&self, other: &Self) -> bool {
        let (device, number, name) = &self.entry;
        let rest = other.entry.2.as_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
        (*device, *number) == (other.entry.0, other.entry.1)
            && rest.is_some_and(|rest| {
                let rest = rest.strip_suffix(b".part").unwrap_or(rest);
                let digits = rest.strip_suffix(b".gz").unwrap_or(rest);
                !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
            })
    }
}

/// The name of a file as C strings have it.
fn c_name(name: &OsStr) -> io::Result<CString> {
    CString::new(name.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a name with a NUL character"))
}

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

impl Directory {
    /// Walks to the directory that `path` names a file of. Also returned: the name of the file.
    ///
    /// Symbolic links are followed where nobody else could have put them, as `/var/run` is.
    ///
    /// # Errors
    /// The directory is not there, `path` names no file, or the directory is not what `trust` asks for; the text says why.
    pub fn of(path: &Path, trust: Trust) -> io::Result<(Self, OsString)> {
        let name = match (path.file_name(), path.as_os_str().as_bytes().last()) {
            (Some(name), Some(last)) if *last != b'/' => name.to_owned(),
            _ => return Err(Refusal::Kind("the path of a directory").into()),
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let directory = Self::walk(parent)?;
        if trust == Trust::Exclusive
            && let Writers::Others(why) | Writers::Group(why) = &directory.writers
        {
            let (path, why) = (directory.path.clone(), why.clone());
            return Err(Refusal::Directory { path, why, user: sys::effective_user() }.into());
        }
        Ok((directory, name))
    }

    fn start(path: &str) -> io::Result<Self> {
        let descriptor = sys::open(&c_name(OsStr::new(path))?, DIRECTORY)?;
        let writers = Writers::of(&descriptor.metadata()?);
        Ok(Directory { descriptor, path: path.into(), writers })
    }

    fn walk(path: &Path) -> io::Result<Self> {
        let mut directory = Self::start(if path.is_absolute() { "/" } else { "." })?;
        let parts = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
        let mut rest: VecDeque<OsString> = parts(path).into();
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            match Path::new(&part).components().next() {
                Some(Component::RootDir) => {
                    directory = Self::start("/")?;
                    continue;
                }
                None | Some(Component::CurDir | Component::Prefix(_)) => continue,
                Some(Component::ParentDir | Component::Normal(_)) => {}
            }
            let name = c_name(&part)?;
            let status = sys::status_at(directory.descriptor.as_fd(), &name)?;
            let within = directory.path.join(&part);
            if status.st_mode & libc::S_IFMT == libc::S_IFLNK {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                let own = status.st_uid == 0 || status.st_uid == sys::effective_user();
                match directory.writers {
                    Writers::Own => {}
                    // Only its owner can put a link there, and a group can at most exchange those that there are.
                    Writers::Sticky | Writers::Group(_) if own => {}
                    _ => return Err(Refusal::LinkOfOthers(within).into()),
                }
                let target = sys::read_link_at(directory.descriptor.as_fd(), &name)?;
                for part in parts(Path::new(&OsString::from_vec(target))).into_iter().rev() {
                    rest.push_front(part);
                }
                continue;
            }
            let descriptor = sys::open_at(directory.descriptor.as_fd(), &name, DIRECTORY | libc::O_NOFOLLOW, 0)?;
            let writers = Writers::of(&descriptor.metadata()?);
            directory = Directory { descriptor, path: within, writers };
        }
        Ok(directory)
    }

    /// The path by which the directory was reached, links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file to append to it, or makes it: with `mode` whatever the umask, or with what the umask leaves of 0666.
    ///
    /// # Errors
    /// It cannot be opened, is a link, or is a file that somebody else may have put there.
    pub fn append(&self, name: &OsStr, mode: Option<u32>) -> io::Result<File> {
        self.open_or_make(name, libc::O_WRONLY | libc::O_APPEND, mode)
    }

    /// Opens a file to replace what is in it, or makes it, as [`Directory::append`] does.
    ///
    /// # Errors
    /// As [`Directory::append`]; the file is as it was.
    pub fn replace(&self, name: &OsStr) -> io::Result<File> {
        let file = self.open_or_make(name, libc::O_WRONLY, None)?;
        if file.metadata()?.is_file() {
            // Only now: it is known to be what it should be.
            file.set_len(0)?;
        }
        Ok(file)
    }

    fn open_or_make(&self, name: &OsStr, flags: i32, mode: Option<u32>) -> io::Result<File> {
        let (c_name, flags) = (c_name(name)?, flags | libc::O_NOFOLLOW | libc::O_NOCTTY);
        for _ in 0..ATTEMPTS {
            // Until it has its mode nobody else can open it.
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
            // A link, a directory and what else is no file says so before it is opened: to open a device may do something.
            self.examine(name)?;
            match sys::open_at(self.descriptor.as_fd(), &c_name, flags, 0) {
                Ok(file) => {
                    self.accept(&file.metadata()?)?;
                    return Ok(file);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("it appears and disappears while it is opened"))
    }

    /// Whether a file that is there is one that may be written; nothing if there is none.
    fn examine(&self, name: &OsStr) -> io::Result<Option<libc::stat>> {
        let status = match sys::status_at(self.descriptor.as_fd(), &c_name(name)?) {
            Ok(status) => status,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match status.st_mode & libc::S_IFMT {
            libc::S_IFLNK => Err(Refusal::Link(self.path.join(name)).into()),
            libc::S_IFDIR => Err(io::Error::from_raw_os_error(libc::EISDIR)),
            libc::S_IFSOCK => Err(Refusal::Kind("a socket").into()),
            libc::S_IFBLK => Err(Refusal::Kind("a block device").into()),
            _ => Ok(Some(status)),
        }
    }

    /// Whether an open file is one that may be written.
    fn accept(&self, metadata: &Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        if kind.is_dir() || kind.is_socket() || kind.is_block_device() {
            return Err(Refusal::Kind("no file any more").into());
        }
        if kind.is_file() && metadata.nlink() > 1 {
            return Err(Refusal::Links(metadata.nlink()).into());
        }
        let owner = metadata.uid();
        if self.writers == Writers::Sticky && owner != 0 && owner != sys::effective_user() {
            return Err(Refusal::Owner(owner).into());
        }
        Ok(())
    }

    /// What would keep [`Directory::append`] from opening a file, without opening or making it.
    ///
    /// # Errors
    /// As [`Directory::append`].
    pub fn check(&self, name: &OsStr) -> io::Result<()> {
        let directory = self.descriptor.as_fd();
        let Some(status) = self.examine(name)? else { return sys::may_write_at(directory, c".") };
        if status.st_mode & libc::S_IFMT == libc::S_IFREG {
            if status.st_nlink > 1 {
                return Err(Refusal::Links(status.st_nlink).into());
            }
            if self.writers == Writers::Sticky && status.st_uid != 0 && status.st_uid != sys::effective_user() {
                return Err(Refusal::Owner(status.st_uid).into());
            }
        }
        sys::may_write_at(directory, &c_name(name)?)
    }

    /// Whether a file is a regular one, or not there.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn is_regular(&self, name: &OsStr) -> io::Result<bool> {
        match sys::status_at(self.descriptor.as_fd(), &c_name(name)?) {
            Ok(status) => Ok(status.st_mode & libc::S_IFMT == libc::S_IFREG),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Makes a file that is not there, with this mode as far as the umask allows.
    ///
    /// # Errors
    /// It is there, also as a link that leads nowhere, or cannot be made.
    pub fn create_new(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        sys::open_at(self.descriptor.as_fd(), &c_name(name)?, flags, mode)
    }

    /// Opens a regular file to read it.
    ///
    /// # Errors
    /// It is not there, is a link or no regular file, or cannot be read.
    pub fn read(&self, name: &OsStr) -> io::Result<File> {
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        self.examine(name)?;
        let file = sys::open_at(self.descriptor.as_fd(), &c_name(name)?, flags, 0)?;
        if !file.metadata()?.is_file() {
            return Err(Refusal::Kind("no regular file").into());
        }
        Ok(file)
    }

    /// Whether there is something of this name, also a link that leads nowhere.
    #[must_use]
    pub fn has(&self, name: &OsStr) -> bool {
        c_name(name).is_ok_and(|name| sys::status_at(self.descriptor.as_fd(), &name).is_ok())
    }

    /// Renames a file. One that has the new name is replaced.
    ///
    /// # Errors
    /// NotFound if it is not there, or why it cannot be renamed.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        sys::rename_at(self.descriptor.as_fd(), &c_name(from)?, &c_name(to)?)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// NotFound if it is not there, or why it cannot be removed.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        sys::remove_at(self.descriptor.as_fd(), &c_name(name)?)
    }

    /// Which file a name of the directory is.
    ///
    /// # Errors
    /// The directory cannot be looked at.
    pub fn place(&self, name: &OsStr) -> io::Result<Place> {
        let own = self.descriptor.metadata()?;
        let file =
            sys::status_at(self.descriptor.as_fd(), &c_name(name)?).ok().map(|status| (status.st_dev, status.st_ino));
        Ok(Place { file, entry: (own.dev(), own.ino(), name.to_owned()) })
    }
}

/// A file that is to be written, to be compared with others that are.
#[derive(Clone, Debug)]
pub struct Output {
    path: PathBuf,
    /// None where its directory is not there, and paths are compared as they are written.
    place: Option<Place>,
    rotates: bool,
}

impl Output {
    /// The file of a path. `rotates`: it is put aside as `NAME.1` and so on.
    #[must_use]
    pub fn new(path: &Path, rotates: bool) -> Self {
        let place = Directory::of(path, Trust::Typed).and_then(|(directory, name)| directory.place(&name)).ok();
        Output { path: path.into(), place, rotates }
    }

    /// Whether both write the same file, by whatever names, or one would replace the other when it is put aside.
    #[must_use]
    pub fn clashes_with(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Some(one), Some(two)) => {
                one.is(two) || self.rotates && one.is_rotated_into(two) || other.rotates && two.is_rotated_into(one)
            }
            _ => self.path == other.path,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn opened(path: &Path, trust: Trust) -> Result<(), String> {
        let result = Directory::of(path, trust).and_then(|(directory, name)| directory.append(&name, None));
        result.map(|_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn links_on_the_way_are_followed_where_nobody_else_can_put_them() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["real", "shared"] {
            fs::create_dir(at(name)).unwrap();
        }
        symlink(at("real"), at("link")).unwrap();
        symlink("../real", at("shared/link")).unwrap();
        symlink("loop", at("loop")).unwrap();
        opened(&at("link/file"), Trust::Exclusive).unwrap();
        opened(&at("shared/link/file"), Trust::Exclusive).unwrap();
        opened(&at("shared/../link/./file"), Trust::Exclusive).unwrap();
        assert!(opened(&at("loop/file"), Trust::Typed).unwrap_err().contains("symbolic links"));
        fs::set_permissions(at("shared"), fs::Permissions::from_mode(0o777)).unwrap();
        for trust in [Trust::Exclusive, Trust::Typed] {
            let error = opened(&at("shared/link/file"), trust).unwrap_err();
            assert!(error.contains("shared/link is a symbolic link in a directory that others can write"), "{error}");
        }
        // A directory of others is used for what a user types, and no link in it.
        opened(&at("shared/file"), Trust::Typed).unwrap();
        let error = opened(&at("shared/file"), Trust::Exclusive).unwrap_err();
        assert!(error.contains("shared can be written by everybody"), "{error}");
        symlink(at("real/file"), at("shared/other")).unwrap();
        assert!(opened(&at("shared/other"), Trust::Typed).unwrap_err().contains("is a symbolic link"));
        for path in ["/", "real/", ".."] {
            assert!(opened(&at(path), Trust::Typed).is_err(), "{path}");
        }
    }

    #[test]
    fn a_file_of_somebody_else_in_a_sticky_directory_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "").unwrap();
        if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
            for trust in [Trust::Exclusive, Trust::Typed] {
                let error = opened(&path, trust).unwrap_err();
                assert!(error.contains("it belongs to user 65534"), "{error}");
            }
        }
    }

    #[test]
    fn what_is_replaced_is_emptied_only_once_it_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("victim"), "kept").unwrap();
        fs::hard_link(at("victim"), at("twin")).unwrap();
        let replaced = |name: &str| {
            let (directory, name) = Directory::of(&at(name), Trust::Typed).unwrap();
            directory.replace(&name)
        };
        assert!(replaced("twin").unwrap_err().to_string().contains("it has 2 names"));
        assert_eq!(fs::read(at("victim")).unwrap(), b"kept");
        fs::remove_file(at("twin")).unwrap();
        replaced("victim").unwrap();
        assert_eq!(fs::read(at("victim")).unwrap(), b"");
    }

    #[test]
    fn outputs_are_compared_by_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("a")).unwrap();
        symlink("a", at("link")).unwrap();
        fs::write(at("a/there"), "").unwrap();
        fs::hard_link(at("a/there"), at("twin")).unwrap();
        let clash = |one: &str, two: &str| Output::new(&at(one), true).clashes_with(&Output::new(&at(two), false));
        for same in ["a/b", "a/./b", "link/b", "a/../a/b", "link/../a/b"] {
            assert!(clash("a/b", same), "{same}");
        }
        for (one, two) in [("a/there", "twin"), ("a/b", "a/b.1"), ("a/b", "link/b.12.gz"), ("a/b", "a/b.1.gz.part")] {
            assert!(clash(one, two), "{one} {two}");
        }
        for (one, two) in
            [("a/b", "a/c"), ("a/b", "b"), ("a/b", "a/b.x"), ("a/b", "a/b1"), ("a/b.1", "a/b"), ("a/b", "a/b.")]
        {
            assert!(!clash(one, two), "{one} {two}");
        }
        // Where there is nothing to look at, by what is written.
        assert!(clash("nowhere/b", "nowhere/b") && !clash("nowhere/b", "nowhere/./c"));
    }
}
