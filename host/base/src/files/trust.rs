//! Trust in files and directories, by which users may have written them.

use std::{
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::sys;
use crate::text::{clean, path_text};

/// The trust that is required of a directory and its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Only root and the user of the process can write to the directory, to every directory of its path, and to the
    /// files that are read in it: for code that is executed.
    Private,
    /// Only root and the user of the process can write to the directory: for services. In a directory with the sticky
    /// bit others cannot replace a file, but they can take its name, or one that rotation would give it, so that
    /// nothing more can be written. Nor can everybody write to a directory above it, except with the sticky bit: there
    /// nobody else can replace the directory, which is opened only if it belongs to root or the user of the process.
    Exclusive,
    /// Only root and the user of the process can replace files in the directory, as in `/tmp`, which has the sticky
    /// bit: for programs that somebody starts, and that say at once what they cannot open.
    Sticky,
    /// Any directory: for a path that a user types. The file itself must not lead elsewhere.
    Typed,
}

/// Why a path is refused. The message says what would be right.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    #[error(
        "everybody can put files into {} (it has the sticky bit), and take the names of those that are to be written; \
         use a directory that belongs to root or user {user}, and that only its owner can write",
        path_text(path)
    )]
    Sticky { path: PathBuf, user: u32 },
    #[error("{} is a symbolic link; name the file that is meant", path_text(.0))]
    Link(PathBuf),
    #[error("{} is a symbolic link in a directory that others can write; name the directory that is meant", path_text(.0))]
    LinkOfOthers(PathBuf),
    #[error("{} is a symbolic link of user {user}; name the directory that is meant", path_text(path))]
    ForeignLink { path: PathBuf, user: u32 },
    #[error("it has {0} names (hard links), so that another file would be written; remove it or name another file")]
    Links(u64),
    #[error("it belongs to user {0}, in a directory that everybody can write; remove it or name another file")]
    Owner(u32),
    #[error("it {}; remove it", clean(.0))]
    Written(String),
    #[error("it is {0}; name a file")]
    Kind(&'static str),
    #[error(
        "{} {}, so that others can replace files in it; use a directory that belongs to root or user {user}, \
         and that only its owner can write",
        path_text(path),
        clean(why)
    )]
    Directory { path: PathBuf, why: String, user: u32 },
}

impl From<TrustError> for io::Error {
    fn from(refusal: TrustError) -> Self {
        io::Error::new(io::ErrorKind::PermissionDenied, refusal)
    }
}

/// Returns true if the user is root or the user of the process.
pub(super) fn is_trusted(user: u32) -> bool {
    user == 0 || user == sys::effective_user()
}

/// The relevant metadata of a file or directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileFacts {
    mode: u32,
    links: u64,
    owner: u32,
    group: u32,
}

impl From<&libc::stat> for FileFacts {
    fn from(status: &libc::stat) -> Self {
        FileFacts { mode: status.st_mode, links: status.st_nlink, owner: status.st_uid, group: status.st_gid }
    }
}

impl From<&Metadata> for FileFacts {
    fn from(metadata: &Metadata) -> Self {
        FileFacts { mode: metadata.mode(), links: metadata.nlink(), owner: metadata.uid(), group: metadata.gid() }
    }
}

impl FileFacts {
    fn kind(self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// Returns true if it is a regular file.
    pub(super) fn is_regular(self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// Returns true if it is a symbolic link.
    pub(super) fn is_link(self) -> bool {
        self.kind() == libc::S_IFLNK
    }

    /// Returns true if root or the user of the process owns it.
    pub(super) fn is_ours(self) -> bool {
        is_trusted(self.owner)
    }

    /// Checks that it can be read or written: a regular file, a pipe or a character device. `path` is for the message.
    ///
    /// # Errors
    /// It is a symbolic link, a directory, a socket or a block device.
    pub(super) fn is_file(self, path: &Path) -> io::Result<()> {
        match self.kind() {
            libc::S_IFLNK => Err(TrustError::Link(path.into()).into()),
            libc::S_IFDIR => Err(io::Error::from_raw_os_error(libc::EISDIR)),
            libc::S_IFSOCK => Err(TrustError::Kind("a socket").into()),
            libc::S_IFBLK => Err(TrustError::Kind("a block device").into()),
            _ => Ok(()),
        }
    }

    /// Checks that an existing file may be written, in a directory with these writers. `path` is for the message.
    ///
    /// # Errors
    /// Why it may not be written.
    pub(crate) fn may_be_written(self, path: &Path, writers: &Writers) -> io::Result<()> {
        self.is_file(path)?;
        if self.is_regular() && self.links > 1 {
            return Err(TrustError::Links(self.links).into());
        }
        if *writers == Writers::Sticky && !self.is_ours() {
            return Err(TrustError::Owner(self.owner).into());
        }
        Ok(())
    }

    /// Checks that a file may be read with the required trust.
    ///
    /// # Errors
    /// Another user could have written it, and the trust excludes that.
    pub(super) fn may_be_read(self, trust: Trust) -> io::Result<()> {
        match Writers::of(self).why() {
            Some(why) if trust == Trust::Private => Err(TrustError::Written(why).into()),
            _ => Ok(()),
        }
    }
}

/// The users who can write to a directory or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Writers {
    /// Only root and the user of the process.
    Own,
    /// Everybody; only the owners of a file and of the directory can replace the file.
    Sticky,
    /// The group of a directory of root or the user, with the reason: `/var/log` is an example on Ubuntu.
    Group(String),
    /// Other users, with the reason.
    Others(String),
}

impl Writers {
    /// Returns the writers of a file or directory.
    pub(crate) fn of(facts: FileFacts) -> Self {
        if !facts.is_ours() {
            return Writers::Others(format!("belongs to user {}", facts.owner));
        }
        match facts.mode & 0o022 {
            0 => Writers::Own,
            _ if facts.mode & libc::S_ISVTX != 0 => Writers::Sticky,
            0o020 => Writers::Group(format!("can be written by group {}", facts.group)),
            _ => Writers::Others("can be written by everybody".into()),
        }
    }

    /// Returns why they include users other than root and the user of the process, if they do.
    fn why(&self) -> Option<String> {
        match self {
            Writers::Own => None,
            Writers::Sticky => Some("can be written by others".into()),
            Writers::Group(why) | Writers::Others(why) => Some(why.clone()),
        }
    }

    /// Checks that a directory with these writers may hold a file that is opened with the required trust.
    ///
    /// # Errors
    /// Why it may not hold the file.
    pub(crate) fn are_trusted(&self, path: &Path, trust: Trust) -> io::Result<()> {
        let user = sys::effective_user();
        let refused = match (trust, self) {
            (Trust::Exclusive, Writers::Sticky) => return Err(TrustError::Sticky { path: path.into(), user }.into()),
            (Trust::Private, writers) => writers.why(),
            (Trust::Exclusive | Trust::Sticky, Writers::Group(why) | Writers::Others(why)) => Some(why.clone()),
            (Trust::Exclusive | Trust::Sticky | Trust::Typed, _) => None,
        };
        match refused {
            Some(why) => Err(TrustError::Directory { path: path.into(), why, user }.into()),
            None => Ok(()),
        }
    }

    /// Checks that a directory with these writers and this mode may be above the one that is opened with the required
    /// trust.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) fn may_be_above(&self, facts: FileFacts, path: &Path, trust: Trust) -> io::Result<()> {
        match trust {
            Trust::Private => self.are_trusted(path, trust),
            Trust::Exclusive if facts.mode & 0o002 != 0 && facts.mode & libc::S_ISVTX == 0 => {
                Writers::Others("can be written by everybody".into()).are_trusted(path, trust)
            }
            Trust::Exclusive | Trust::Sticky | Trust::Typed => Ok(()),
        }
    }

    /// Checks that a symbolic link in a directory with these writers may be followed.
    ///
    /// # Errors
    /// Why it may not be followed.
    pub(crate) fn allow_link(&self, link: FileFacts, path: &Path, trust: Trust) -> io::Result<()> {
        match self {
            _ if trust == Trust::Private && !link.is_ours() => {
                Err(TrustError::ForeignLink { path: path.into(), user: link.owner }.into())
            }
            Writers::Own => Ok(()),
            // Only its owner can create a link there; a group can at limit exchange existing ones.
            Writers::Sticky | Writers::Group(_) if link.is_ours() => Ok(()),
            _ => Err(TrustError::LinkOfOthers(path.into()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_refusal_repeats_a_name_as_it_is() {
        let hostile = "a\x1b]0;t\x07\n\u{9b}\u{202e}\u{61c}\u{2028}b";
        let (path, why) = (PathBuf::from(hostile), String::from(hostile));
        for refusal in [
            TrustError::Link(path.clone()),
            TrustError::LinkOfOthers(path.clone()),
            TrustError::ForeignLink { path: path.clone(), user: 1 },
            TrustError::Sticky { path: path.clone(), user: 1 },
            TrustError::Written(why.clone()),
            TrustError::Directory { path, why, user: 1 },
        ] {
            let message = io::Error::from(refusal).to_string();
            assert!(message.contains(r"a\u{1b}]0;t\u{7}\n\u{9b}\u{202e}\u{61c}\u{2028}b"), "{message:?}");
            assert_eq!(crate::text::line(message.as_bytes()), message);
        }
    }
}
