//! Bundles on the disk of an agent, by digest: as they came, and unpacked. What is there is checked before each use.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use flowgate_base::{files, text::path_text};

use crate::{
    bundle::{Bundle, BundleError, MAX_BUNDLE, remove_folder},
    journal::sync_directory,
    names::Digest,
};

/// What follows the digest in the name of a bundle as it came.
const SUFFIX: &str = ".bundle";

/// The bundles of an agent.
#[derive(Clone, Debug)]
pub(super) struct Cache(PathBuf);

impl Cache {
    /// Opens the folder, which is made if it does not exist.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        sync_directory(folder)?;
        Ok(Cache(folder.to_owned()))
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.0.join(format!("{digest}{SUFFIX}"))
    }

    /// Returns true if a bundle is there, as it was.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.bundle(digest).is_ok()
    }

    fn bundle(&self, digest: &Digest) -> Result<Bundle, BundleError> {
        let path = self.file(digest);
        let bytes = files::read(&path, MAX_BUNDLE);
        let bytes = bytes.map_err(|source| BundleError::File { path: path_text(&path), source })?;
        Bundle::read_as(bytes, digest)
    }

    /// Takes a bundle in. When this returns, it is on disk.
    pub(super) fn put(&self, bytes: Vec<u8>, digest: &Digest) -> Result<(), BundleError> {
        let bundle = Bundle::read_as(bytes, digest)?;
        let path = self.file(digest);
        let failed = |source| BundleError::File { path: path_text(&path), source };
        let new = self.0.join("new");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
        file.write_all(bundle.bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&new, &path).and_then(|()| sync_directory(&path)).map_err(failed)
    }

    /// Returns the file of a bundle that is run; the bundle is unpacked first if it is not, or not as it was.
    pub(super) fn entry(&self, digest: &Digest) -> Result<PathBuf, BundleError> {
        let bundle = self.bundle(digest)?;
        let folder = self.0.join(digest.as_str());
        if !bundle.is_unpacked(&folder) {
            bundle.unpack(&folder)?;
        }
        Ok(folder.join(&bundle.manifest().entry))
    }

    /// Removes all bundles but these. What cannot be removed stays.
    pub(super) fn keep(&self, digests: &BTreeSet<Digest>) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let digest = name.strip_suffix(SUFFIX).unwrap_or(&name).parse::<Digest>();
            let wanted = digest.is_ok_and(|digest| digests.contains(&digest));
            if !wanted {
                let path = entry.path();
                let _ = if path.is_dir() { remove_folder(&path) } else { fs::remove_file(&path) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Kind;

    #[test]
    fn what_was_changed_on_disk_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::open(&place.path().join("bundles")).unwrap();
        let of = |content: &[u8]| Bundle::make(Kind::Policy, "p", vec![("p".into(), content.to_vec())]).unwrap();
        let (one, two) = (of(b"one"), of(b"two"));
        assert!(!cache.has(&one.digest()) && cache.entry(&one.digest()).is_err());
        assert!(matches!(cache.put(two.bytes().to_vec(), &one.digest()), Err(BundleError::Digest { .. })));
        cache.put(one.bytes().to_vec(), &one.digest()).unwrap();
        cache.put(two.bytes().to_vec(), &two.digest()).unwrap();
        let entry = cache.entry(&one.digest()).unwrap();
        fs::write(&entry, b"on!").unwrap();
        assert_eq!(fs::read(cache.entry(&one.digest()).unwrap()).unwrap(), b"one", "it is unpacked again");
        cache.keep(&BTreeSet::from([one.digest()]));
        assert!(cache.has(&one.digest()) && !cache.has(&two.digest()) && entry.exists());
        fs::write(cache.file(&one.digest()), b"other").unwrap();
        assert!(!cache.has(&one.digest()) && cache.entry(&one.digest()).is_err());
    }
}
