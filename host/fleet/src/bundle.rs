//! Bundles: a policy or a pipeline with the files that it names, as one value with a digest.
//!
//! A bundle is a line of JSON, the manifest, and after it the contents of the files in the order of the manifest. The
//! same files make the same bytes, so that whoever has the files can work out the digest that others have signed.
//!
//! * `collect` reads the files of one.

mod collect;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use flowgate_base::{
    files,
    io_error::error_text,
    text::{clean, path_text},
};
use serde::{Deserialize, Serialize};

pub use collect::{Collected, collect};

use crate::{journal::sync_directory, message, names::Digest};

/// The version of bundles.
const VERSION: u32 = 1;
/// The most bytes of a bundle.
pub const MAX_BUNDLE: u64 = 64 << 20;
/// The most files of a bundle.
pub const MAX_FILES: usize = 256;
/// The most bytes of a manifest.
const MAX_MANIFEST: usize = 128 << 10;
/// The most bytes of the name of a file.
const MAX_NAME: usize = 255;
/// The most folders in the name of a file.
const MAX_DEPTH: usize = 8;

/// Why a bundle cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read or written.
    #[error("{}: {}", clean(path), error_text(.source))]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is neither a file nor a folder.
    #[error("{}: it is {what}; a bundle takes plain files and folders", clean(path))]
    Kind {
        /// The path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A file has no name in a bundle.
    #[error(
        "`{}` is no name of a file in a bundle; it is relative, without `.` and `..`, of at most {MAX_DEPTH} folders, \
         and has letters, digits, '-', '_', '.' and '+'",
        clean(.0)
    )]
    Name(String),
    /// A file is not in the folder of the one that is run.
    #[error("{} is not in the folder of {}, which is run", clean(path), clean(entry))]
    Outside {
        /// The file.
        path: String,
        /// The file that is run.
        entry: String,
    },
    /// The file that is run is not there.
    #[error("{} has no {}; --entry names the file that is run", clean(place), clean(entry))]
    NoEntry {
        /// Where it was looked for.
        place: String,
        /// What was looked for.
        entry: String,
    },
    /// It is too large, or has too many files.
    #[error("it has {}", clean(.0))]
    Size(String),
    /// It is no bundle.
    #[error("it is no bundle: {}", clean(.0))]
    Broken(String),
    /// It is another one.
    #[error("its digest is {found}, and should be {wanted}")]
    Digest {
        /// The digest that it has.
        found: Digest,
        /// The one that it should have.
        wanted: Digest,
    },
}

/// What the file is that is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A policy: a service for tenants.
    Policy,
    /// A pipeline.
    Pipeline,
}

impl Kind {
    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Policy => "policy",
            Kind::Pipeline => "pipeline",
        }
    }
}

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFile {
    /// Its name, relative to the folder of the file that is run.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// The digest of its content.
    pub sha256: Digest,
}

/// What a bundle has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of bundles.
    pub version: u32,
    /// What the file is that is run.
    pub kind: Kind,
    /// The name of the file that is run.
    pub entry: String,
    /// The files, in the order of their names.
    pub files: Vec<BundleFile>,
}

/// A bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    manifest: Manifest,
    bytes: Vec<u8>,
    /// Where the contents begin.
    contents: usize,
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain);
    name.len() <= MAX_NAME && name.split('/').count() <= MAX_DEPTH && name.split('/').all(part)
}

impl Manifest {
    fn check(&self) -> Result<(), BundleError> {
        let broken = |what: String| Err(BundleError::Broken(what));
        if self.version != VERSION {
            return broken(format!("it is of version {}, and this is {VERSION}", self.version));
        }
        if self.files.len() > MAX_FILES {
            return Err(BundleError::Size(format!("{} files, and may have {MAX_FILES}", self.files.len())));
        }
        if let Some(file) = self.files.iter().find(|file| !is_name(&file.name)) {
            return Err(BundleError::Name(file.name.clone()));
        }
        if !self.files.is_sorted_by(|one, other| one.name < other.name) {
            return broken("its files are not in the order of their names".into());
        }
        // A name that is the folder of another one cannot be both.
        let names: BTreeSet<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        let folders = |name: &'_ str| name.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
        for name in &names {
            if folders(name).iter().any(|&at| name.get(..at).is_some_and(|folder| names.contains(folder))) {
                return broken(format!("{name} is in a folder that is a file"));
            }
        }
        match names.contains(self.entry.as_str()) {
            true => Ok(()),
            false => broken(format!("{} is to be run, and is not in it", self.entry)),
        }
    }
}

impl Bundle {
    /// Makes a bundle of files with their names.
    ///
    /// # Errors
    /// [`BundleError`] if the names or sizes are none that a bundle has.
    pub fn make(kind: Kind, entry: &str, mut files: Vec<(String, Vec<u8>)>) -> Result<Self, BundleError> {
        files.sort();
        let file = |(name, content): &(String, Vec<u8>)| BundleFile {
            name: name.clone(),
            size: content.len() as u64,
            sha256: Digest::of(content),
        };
        let manifest =
            Manifest { version: VERSION, kind, entry: entry.to_owned(), files: files.iter().map(file).collect() };
        let mut bytes = message::write(&manifest);
        bytes.push(b'\n');
        files.iter().for_each(|(_, content)| bytes.extend_from_slice(content));
        Self::read(bytes)
    }

    /// Reads a bundle, all of which is checked.
    ///
    /// # Errors
    /// [`BundleError`]
    pub fn read(bytes: Vec<u8>) -> Result<Self, BundleError> {
        if bytes.len() as u64 > MAX_BUNDLE {
            return Err(BundleError::Size(format!("{} bytes, and may have {MAX_BUNDLE}", bytes.len())));
        }
        let broken = |what: &str| BundleError::Broken(what.into());
        let end = bytes.iter().take(MAX_MANIFEST).position(|&byte| byte == b'\n');
        let end = end.ok_or_else(|| broken("it does not begin with a manifest"))?;
        let manifest: Manifest = message::read(bytes.get(..end).unwrap_or_default(), MAX_MANIFEST)
            .map_err(|error| BundleError::Broken(error.to_string()))?;
        manifest.check()?;
        let bundle = Bundle { manifest, bytes, contents: end + 1 };
        let mut left = bundle.bytes.get(end + 1..).unwrap_or_default();
        for file in &bundle.manifest.files {
            let size = usize::try_from(file.size).ok();
            let Some((content, rest)) = size.and_then(|size| left.split_at_checked(size)) else {
                return Err(broken("it ends before its last file does"));
            };
            if Digest::of(content) != file.sha256 {
                return Err(BundleError::Broken(format!("{} has another content than its digest says", file.name)));
            }
            left = rest;
        }
        match left {
            [] => Ok(bundle),
            _ => Err(broken("there is more in it than its manifest has")),
        }
    }

    /// Reads a bundle that must have this digest.
    ///
    /// # Errors
    /// [`BundleError`]
    pub fn read_as(bytes: Vec<u8>, wanted: &Digest) -> Result<Self, BundleError> {
        let found = Digest::of(&bytes);
        match found == *wanted {
            true => Self::read(bytes),
            false => Err(BundleError::Digest { found, wanted: wanted.clone() }),
        }
    }

    /// Returns what it has.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns it as bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns its digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Returns the files with their contents.
    fn files(&self) -> impl Iterator<Item = (&BundleFile, &[u8])> {
        let mut left = self.bytes.get(self.contents..).unwrap_or_default();
        self.manifest.files.iter().map(move |file| {
            let (content, rest) =
                left.split_at_checked(usize::try_from(file.size).unwrap_or_default()).unwrap_or_default();
            left = rest;
            (file, content)
        })
    }

    /// Writes the files to a folder, which appears as a whole, and on disk.
    ///
    /// # Errors
    /// [`BundleError::File`]
    pub fn unpack(&self, folder: &Path) -> Result<(), BundleError> {
        let failed = |path: &Path| {
            let path = path_text(path);
            move |source| BundleError::File { path, source }
        };
        let mut name = folder.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        remove_folder(&new).map_err(failed(&new))?;
        make_folder(&new).map_err(failed(&new))?;
        let mut folders = BTreeSet::from([new.clone()]);
        for (file, content) in self.files() {
            let path = new.join(&file.name);
            let above: Vec<&Path> = path.ancestors().skip(1).take_while(|above| *above != new).collect();
            for above in above.into_iter().rev() {
                if folders.insert(above.to_owned()) {
                    make_folder(above).map_err(failed(above))?;
                }
            }
            let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let mut written = opened.map_err(failed(&path))?;
            written.write_all(content).and_then(|()| written.sync_all()).map_err(failed(&path))?;
        }
        for folder in &folders {
            fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))?;
        }
        remove_folder(folder).map_err(failed(folder))?;
        fs::rename(&new, folder).and_then(|()| sync_directory(folder)).map_err(failed(folder))
    }

    /// Returns true if a folder has the files as they are in the bundle.
    #[must_use]
    pub fn is_unpacked(&self, folder: &Path) -> bool {
        self.files().all(|(file, content)| {
            let path = folder.join(&file.name);
            let plain = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file() && found.len() == file.size);
            plain && files::read(&path, file.size).is_ok_and(|found| found == content)
        })
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// Removes a folder, if it is there.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
