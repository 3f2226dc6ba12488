//! What an agent remembers of what it runs: a file that is replaced as a whole, and is on disk before anything follows
//! from it. Whenever the agent is killed, it finds either the state before or the state after.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use flowgate_base::{
    files,
    io_error::error_text,
    text::{clean, path_text},
};
use serde::{Deserialize, Serialize};

use crate::{
    journal::sync_directory,
    message,
    release::{BundleRef, Release},
    running::{Failed, Version},
};

/// The version of the file.
const VERSION: u32 = 1;
/// The most bytes of the file.
const MAX_FILE: u64 = 64 << 10;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// It cannot be read or written.
    #[error("{}: {}; nothing is run that cannot be remembered", clean(path), error_text(.source))]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is damaged.
    #[error(
        "{}: it is damaged ({}), and an older release could be taken; remove it if the releases that are valid now are \
         all wanted",
        clean(path),
        clean(reason)
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A release that an agent has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    /// Its id.
    pub id: String,
    /// Its generation.
    pub generation: u64,
    /// What is run; `None` if nothing is.
    pub bundle: Option<BundleRef>,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

impl Taken {
    pub(super) fn of(release: &Release) -> Self {
        Taken {
            id: release.id.clone(),
            generation: release.generation,
            bundle: release.bundle.clone(),
            since: crate::plan::now(),
        }
    }

    pub(super) fn version(&self) -> Version {
        let digest = self.bundle.as_ref().map(|bundle| bundle.digest.clone());
        Version { generation: self.generation, digest, since: self.since }
    }
}

/// What an agent remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    version: u32,
    /// The newest release that it has taken; none of a lower generation is taken any more.
    #[serde(default)]
    pub newest: Option<Taken>,
    /// The release on trial.
    #[serde(default)]
    pub trial: Option<Taken>,
    /// The release that has passed its trial.
    #[serde(default)]
    pub applied: Option<Taken>,
    /// The one before it.
    #[serde(default)]
    pub before: Option<Taken>,
    /// The last one that did not work.
    #[serde(default)]
    pub failed: Option<Failed>,
}

impl Stored {
    /// Reads the file; an empty state if there is none.
    pub(super) fn read(path: &Path) -> Result<Self, StoredError> {
        let damaged = |reason: String| StoredError::Damaged { path: path_text(path), reason };
        let bytes = match files::read(path, MAX_FILE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::default()),
            Err(source) => return Err(StoredError::File { path: path_text(path), source }),
        };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        match stored.version {
            VERSION => Ok(stored),
            other => Err(damaged(format!("it is of version {other}, and this is {VERSION}"))),
        }
    }

    /// Writes the file. When this returns, it is on disk.
    pub(super) fn write(&mut self, path: &Path) -> Result<(), StoredError> {
        let failed = |source| StoredError::File { path: path_text(path), source };
        self.version = VERSION;
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
        file.write_all(&message::write(self)).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&new, path).and_then(|()| sync_directory(path)).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back_and_damage_is_told() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("desired.json");
        assert_eq!(Stored::read(&path).unwrap(), Stored::default());
        let release = Release::new(7, None, crate::release::Audience::default(), 60);
        let mut stored = Stored { newest: Some(Taken::of(&release)), ..Stored::default() };
        stored.write(&path).unwrap();
        // What a killed agent left beside it is replaced.
        fs::write(place.path().join("desired.json.new"), "{").unwrap();
        stored.applied = stored.newest.clone();
        stored.write(&path).unwrap();
        assert_eq!(Stored::read(&path).unwrap(), stored);
        let bytes = fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert!(matches!(Stored::read(&path), Err(StoredError::Damaged { .. })), "{cut}");
        }
        fs::write(&path, "{\"version\":2}").unwrap();
        assert!(Stored::read(&path).unwrap_err().to_string().contains("version 2"));
    }
}
