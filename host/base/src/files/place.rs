//! Which file an output is: two paths may lead to the same one.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{Directory, Trust};

/// Which file an output is. Two paths that lead to the same one have the same place, whatever they look like.
#[derive(Clone, Debug)]
pub struct Place {
    /// Device and number of the file, if it is there.
    pub(super) file: Option<(u64, u64)>,
    /// Device and number of its directory, and its name there.
    pub(super) entry: (u64, u64, OsString),
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
