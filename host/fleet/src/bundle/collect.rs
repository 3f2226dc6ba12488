//! The files of a bundle, as they are on the disk of an operator.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use flowgate_base::text::path_text;

use super::{BundleError, MAX_BUNDLE, MAX_DEPTH, MAX_FILES, is_name};

/// The names under which the file that is run is found in a folder.
const ENTRIES: [&str; 2] = ["policy.toml", "pipeline.toml"];

/// Files with their names in a bundle, and the name of the one that is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// The name of the file that is run.
    pub entry: String,
    /// Names and contents.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Collected {
    /// Returns the content of the file that is run.
    #[must_use]
    pub fn entry_content(&self) -> &[u8] {
        self.files
            .iter()
            .find(|(name, _)| *name == self.entry)
            .map(|(_, content)| content.as_slice())
            .unwrap_or_default()
    }
}

/// Reads the files of a bundle: of one folder, or the file that is run and others in its folder.
///
/// # Errors
/// [`BundleError`]
pub fn collect(paths: &[PathBuf], entry: Option<&str>) -> Result<Collected, BundleError> {
    let [first, others @ ..] = paths else {
        return Err(BundleError::NoEntry { place: "the command line".into(), entry: "file".into() });
    };
    let mut reader = Reader { files: Vec::new(), left: MAX_BUNDLE };
    if others.is_empty() && first.is_dir() {
        reader.folder(first, "", 0)?;
        let has = |name: &str| reader.files.iter().any(|(known, _)| known == name);
        let found = match entry {
            Some(entry) => Some(entry).filter(|entry| has(entry)),
            None => ENTRIES.into_iter().find(|name| has(name)),
        };
        let missing = || BundleError::NoEntry {
            place: path_text(first),
            entry: entry.map_or_else(|| ENTRIES.join(" and no "), ToOwned::to_owned),
        };
        return Ok(Collected { entry: found.ok_or_else(missing)?.to_owned(), files: reader.files });
    }
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|source| BundleError::File { path: path_text(path), source });
    let run = absolute(first)?;
    let folder = run.parent().unwrap_or(Path::new("/"));
    for path in paths {
        let full = absolute(path)?;
        let outside = || BundleError::Outside { path: path_text(path), entry: path_text(first) };
        let name = full.strip_prefix(folder).map_err(|_| outside())?;
        let name = name.to_str().ok_or_else(|| BundleError::Name(path_text(name)))?;
        reader.path(&full, name, name.matches('/').count())?;
    }
    let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entry = entry.map_or(name, ToOwned::to_owned);
    match reader.files.iter().any(|(known, _)| *known == entry) {
        true => Ok(Collected { entry, files: reader.files }),
        false => Err(BundleError::NoEntry { place: "the list of files".into(), entry }),
    }
}

/// Reads files within the limits of a bundle.
struct Reader {
    files: Vec<(String, Vec<u8>)>,
    left: u64,
}

impl Reader {
    fn path(&mut self, path: &Path, name: &str, depth: usize) -> Result<(), BundleError> {
        let failed = |source| BundleError::File { path: path_text(path), source };
        let kind = |what| BundleError::Kind { path: path_text(path), what };
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            return self.folder(path, name, depth + 1);
        }
        if metadata.is_symlink() {
            return Err(kind("a link"));
        }
        if !metadata.is_file() {
            return Err(kind("a special file"));
        }
        if !is_name(name) {
            return Err(BundleError::Name(name.to_owned()));
        }
        if self.files.iter().any(|(known, _)| known == name) {
            return Ok(());
        }
        if self.files.len() >= MAX_FILES {
            return Err(BundleError::Size(format!("more than {MAX_FILES} files")));
        }
        let mut content = Vec::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(self.left + 1).read_to_end(&mut content).map_err(failed)?;
        self.left = self
            .left
            .checked_sub(content.len() as u64)
            .ok_or_else(|| BundleError::Size(format!("more than {MAX_BUNDLE} bytes")))?;
        self.files.push((name.to_owned(), content));
        Ok(())
    }

    fn folder(&mut self, path: &Path, name: &str, depth: usize) -> Result<(), BundleError> {
        let failed = |source| BundleError::File { path: path_text(path), source };
        if depth >= MAX_DEPTH {
            return Err(BundleError::Name(name.to_owned()));
        }
        let mut entries: Vec<_> =
            fs::read_dir(path).and_then(|entries| entries.collect::<io::Result<_>>()).map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let own = entry.file_name();
            let own = own.to_str().ok_or_else(|| BundleError::Name(path_text(&entry.path())))?;
            let full = if name.is_empty() { own.to_owned() } else { format!("{name}/{own}") };
            self.path(&entry.path(), &full, depth)?;
        }
        Ok(())
    }
}
