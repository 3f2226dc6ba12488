//! The identity of an output file: two paths may lead to the same file.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{Directory, Trust};

/// The identity of an output file, which is the same for all paths that lead to the file.
#[derive(Clone, Debug)]
pub struct FileIdentity {
    /// Device and inode of the file, if it exists.
    pub(super) file: Option<(u64, u64)>,
    /// Device and inode of its directory, and its name there.
    pub(super) entry: (u64, u64, OsString),
}

impl FileIdentity {
    /// Returns true if both are the same file.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        self.entry == other.entry || self.file.is_some() && self.file == other.file
    }

    /// Returns true if `other` has a name that rotation gives to this file: `NAME.1`, `NAME.2.gz`, `NAME.2.gz.part`.
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

/// A file that will be written, for comparison with other outputs.
#[derive(Clone, Debug)]
pub struct OutputFile {
    path: PathBuf,
    /// `None` if its directory does not exist; paths are then compared as written.
    identity: Option<FileIdentity>,
    rotates: bool,
}

impl OutputFile {
    /// Returns the output of a path. `rotates`: it is rotated to `NAME.1` and so on.
    #[must_use]
    pub fn new(path: &Path, rotates: bool) -> Self {
        let identity = Directory::of(path, Trust::Typed).and_then(|(directory, name)| directory.identity(&name)).ok();
        OutputFile { path: path.into(), identity, rotates }
    }

    /// Returns true if both write the same file under any name, or if the rotation of one would replace the other.
    #[must_use]
    pub fn clashes_with(&self, other: &Self) -> bool {
        match (&self.identity, &other.identity) {
            (Some(one), Some(two)) => {
                one.is_same_file(two)
                    || self.rotates && one.is_rotated_into(two)
                    || other.rotates && two.is_rotated_into(one)
            }
            _ => self.path == other.path,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn outputs_are_compared_by_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("a")).unwrap();
        symlink("a", at("link")).unwrap();
        fs::write(at("a/there"), "").unwrap();
        fs::hard_link(at("a/there"), at("twin")).unwrap();
        let clash =
            |one: &str, two: &str| OutputFile::new(&at(one), true).clashes_with(&OutputFile::new(&at(two), false));
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
        // Without a directory paths are compared as written.
        assert!(clash("nowhere/b", "nowhere/b") && !clash("nowhere/b", "nowhere/./c"));
    }
}
