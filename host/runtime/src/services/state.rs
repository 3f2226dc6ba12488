//! The state store of a plugin, which outlives its instance: a bounded map of bytes to bytes, in a file if the operator
//! named one.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt, io,
    ops::Bound,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use flowgate_base::{
    files::{self, Directory, Trust},
    io_error::error_text,
    text::{clean, path_text},
};

/// Maximum length of a key in bytes.
pub const MAX_KEY: usize = 256;
/// Maximum length of a value in bytes.
pub const MAX_VALUE: usize = 65_536;
/// Bytes charged for an entry besides its key and value.
const ENTRY_OVERHEAD: usize = 64;
/// Default capacity of a store in bytes.
pub const CAPACITY: usize = 1 << 20;
/// Minimum time between two writes of a store that changes.
const MIN_WRITE_INTERVAL: Duration = Duration::from_secs(2);

/// Refusal: the key is too long.
pub const KEY_TOO_LONG: u8 = 1;
/// Refusal: the value is too long.
pub const VALUE_TOO_LONG: u8 = 2;
/// Refusal: the store is full.
pub const FULL: u8 = 3;

/// Why a file cannot hold a store.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error("cannot read the state file {}: {}", path_text(path), error_text(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write the state file {}: {}", path_text(path), error_text(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It has another format.
    #[error(
        "{} is no state file of flowgate ({}); name another file, or remove it to start over",
        path_text(path),
        clean(said)
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// The defect.
        said: String,
    },
    /// It holds more than the store's capacity.
    #[error("the state file {} holds {held} bytes, and the plugin may keep {capacity}", path_text(path))]
    TooMuch {
        /// The file.
        path: PathBuf,
        /// The bytes that it holds.
        held: usize,
        /// The store's capacity.
        capacity: usize,
    },
}

/// Number of changed entries that are passed to the keeper of the copy without delay.
const MAX_CHANGES_AT_ONCE: usize = 256;

/// Receives changes of a store: the key, and its value unless it has been removed.
pub type ChangeReceiver = Box<dyn FnMut(&[u8], Option<&[u8]>) + Send>;

/// A state store.
pub struct State {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    held: usize,
    capacity: usize,
    file: Option<StateFile>,
    /// The copy that is kept by another process.
    copy: Option<Copy>,
    changed: bool,
    written: Option<Instant>,
}

/// A copy of a store in another process.
struct Copy {
    receiver: ChangeReceiver,
    /// Keys that have changed since the last save.
    keys: BTreeSet<Vec<u8>>,
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("State")
            .field("held", &self.held)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// The file of a store.
#[derive(Debug)]
struct StateFile {
    path: PathBuf,
    directory: Directory,
    name: OsString,
}

impl StateFile {
    /// Replaces the whole file atomically.
    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let mut part = OsString::from(".");
        part.push(&self.name);
        // Another process with the same state file uses another temporary file.
        part.push(format!(".{}.part", std::process::id()));
        match self.directory.remove(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = self.directory.create_new(&part, 0o600).and_then(|mut file| {
            io::Write::write_all(&mut file, bytes)?;
            file.sync_data()?;
            self.directory.rename(&part, &self.name)
        });
        if written.is_err() {
            // Remains of a failed attempt are useless.
            let _ = self.directory.remove(&part);
        }
        written
    }
}

impl State {
    /// Returns a store in memory with this capacity in bytes.
    #[must_use]
    pub fn in_memory(capacity: usize) -> Self {
        State { entries: BTreeMap::new(), held: 0, capacity, file: None, copy: None, changed: false, written: None }
    }

    /// Returns a store with these entries. [`State::save`] passes what has changed to a receiver.
    #[must_use]
    pub fn copied(entries: BTreeMap<Vec<u8>, Vec<u8>>, capacity: usize, receiver: ChangeReceiver) -> Self {
        let mut state = Self::in_memory(capacity);
        state.held = entries.iter().map(|(key, value)| cost(key, value)).sum();
        state.entries = entries;
        state.copy = Some(Copy { receiver, keys: BTreeSet::new() });
        state
    }

    /// Returns the entries.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.entries
    }

    /// Returns a store that is read from a file, if it exists, and written to it. `trust` is what is required of its
    /// directory.
    ///
    /// # Errors
    /// [`StateError`]: the file exists but cannot be used. It is left unchanged.
    pub fn in_file(path: &Path, capacity: usize, trust: Trust) -> Result<Self, StateError> {
        let (mut state, file, exists) = Self::load(path, capacity, trust)?;
        state.file = Some(file);
        if !exists {
            // A file that cannot be written is reported now rather than after hours of work.
            state.changed = true;
            state.save()?;
        }
        Ok(state)
    }

    /// Checks that [`State::in_file`] would accept the file. Nothing is written.
    ///
    /// # Errors
    /// The same as [`State::in_file`].
    pub fn check(path: &Path, capacity: usize, trust: Trust) -> Result<(), StateError> {
        let (_, file, _) = Self::load(path, capacity, trust)?;
        file.directory.check(&file.name).map_err(|source| StateError::Write { path: path.into(), source })
    }

    /// Loads a file; also returns whether it exists.
    fn load(path: &Path, capacity: usize, trust: Trust) -> Result<(Self, StateFile, bool), StateError> {
        let mut state = Self::in_memory(capacity);
        let unreadable = |source| StateError::Read { path: path.into(), source };
        let (directory, name) =
            Directory::of(path, trust).map_err(|source| StateError::Write { path: path.into(), source })?;
        let file = StateFile { path: path.into(), directory, name };
        // A store of this capacity is never written to a larger file.
        let most = 2 * capacity.max(CAPACITY) as u64 + 4096;
        let bytes = match file.directory.read(&file.name) {
            Ok(mut content) => files::read_from(&mut content, most).map_err(unreadable)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((state, file, false)),
            Err(source) => return Err(unreadable(source)),
        };
        let entries: Vec<(serde_bytes::ByteBuf, serde_bytes::ByteBuf)> = ciborium::from_reader(bytes.as_slice())
            .map_err(|error| StateError::Content { path: path.into(), said: error.to_string() })?;
        for (key, value) in entries {
            state.held += cost(&key, &value);
            state.entries.insert(key.into_vec(), value.into_vec());
        }
        if state.held > capacity {
            return Err(StateError::TooMuch { path: path.into(), held: state.held, capacity });
        }
        Ok((state, file, true))
    }

    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(Vec::as_slice)
    }

    /// Stores a value.
    ///
    /// # Errors
    /// [`KEY_TOO_LONG`], [`VALUE_TOO_LONG`] or [`FULL`]; the previous value is kept.
    pub fn set(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), u8> {
        if key.len() > MAX_KEY {
            return Err(KEY_TOO_LONG);
        }
        if value.len() > MAX_VALUE {
            return Err(VALUE_TOO_LONG);
        }
        let before = self.entries.get(&key).map_or(0, |old| cost(&key, old));
        let held = self.held - before + cost(&key, &value);
        if held > self.capacity {
            return Err(FULL);
        }
        self.held = held;
        self.note(&key);
        self.entries.insert(key, value);
        Ok(())
    }

    /// Removes a key; returns true if it existed.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let Some(value) = self.entries.remove(key) else { return false };
        self.held -= cost(key, &value);
        self.note(key);
        true
    }

    /// Applies a change that the receiver of changes has made itself: the value, or `None` to remove the entry.
    pub fn apply(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        let copy = self.copy.take();
        match value {
            // It is within the capacity there.
            Some(value) => drop(self.set(key.to_vec(), value)),
            None => drop(self.remove(key)),
        }
        self.copy = copy;
    }

    /// Records a change.
    fn note(&mut self, key: &[u8]) {
        self.changed = true;
        if let Some(copy) = self.copy.as_mut().filter(|copy| !copy.keys.contains(key)) {
            copy.keys.insert(key.to_vec());
        }
    }

    /// Returns at most `limit` keys that begin with `prefix` and follow `after`, in ascending order.
    #[must_use]
    pub fn keys(&self, prefix: &[u8], after: &[u8], limit: usize) -> Vec<Vec<u8>> {
        let start = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        self.entries
            .range::<[u8], _>((start, Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .take(limit)
            .cloned()
            .collect()
    }

    /// Returns the number of bytes that count towards the capacity.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Writes the store to its file if it has changed and was not written recently.
    ///
    /// # Errors
    /// [`StateError::Write`]; the file is unchanged.
    pub fn save_if_due(&mut self) -> Result<(), StateError> {
        // The other process has to know what this one has done, also if that is killed next.
        if self.copy.as_ref().is_some_and(|copy| copy.keys.len() <= MAX_CHANGES_AT_ONCE) {
            return self.save();
        }
        match self.written {
            Some(written) if written.elapsed() < MIN_WRITE_INTERVAL => Ok(()),
            _ => self.save(),
        }
    }

    /// Writes the store to its file if it has changed. The whole file is replaced atomically.
    ///
    /// # Errors
    /// [`StateError::Write`]; the file is unchanged.
    pub fn save(&mut self) -> Result<(), StateError> {
        if let Some(copy) = &mut self.copy {
            for key in std::mem::take(&mut copy.keys) {
                (copy.receiver)(&key, self.entries.get(&key).map(Vec::as_slice));
            }
            self.written = Some(Instant::now());
        }
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else { return Ok(()) };
        let failed = |source: io::Error| StateError::Write { path: file.path.clone(), source };
        let entries: Vec<_> = self
            .entries
            .iter()
            .map(|(key, value)| (serde_bytes::Bytes::new(key), serde_bytes::Bytes::new(value)))
            .collect();
        let mut bytes = Vec::with_capacity(self.held);
        ciborium::into_writer(&entries, &mut bytes).map_err(|error| failed(io::Error::other(error.to_string())))?;
        file.replace(&bytes).map_err(failed)?;
        self.changed = false;
        self.written = Some(Instant::now());
        Ok(())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // Callers that need the error have saved before.
        let _ = self.save();
    }
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_store_is_bounded() {
        let mut state = State::in_memory(1000);
        assert_eq!(state.set(vec![0; 257], vec![]), Err(KEY_TOO_LONG));
        assert_eq!(state.set(vec![0], vec![0; 65_537]), Err(VALUE_TOO_LONG));
        assert_eq!(state.set(vec![0], vec![0; 1000]), Err(FULL));
        assert_eq!(state.held(), 0);
        state.set(b"a".to_vec(), vec![0; 900]).unwrap();
        assert_eq!(state.set(b"b".to_vec(), vec![0; 900]), Err(FULL));
        state.set(b"a".to_vec(), vec![0; 10]).unwrap();
        state.set(b"b".to_vec(), vec![0; 700]).unwrap();
        assert!(state.remove(b"b") && !state.remove(b"b"));
        assert_eq!(state.held(), 1 + 10 + 64);
    }

    #[test]
    fn keys_come_in_order_and_in_parts() {
        let mut state = State::in_memory(10_000);
        for key in ["b2", "a", "b1", "b3", "c"] {
            state.set(key.into(), vec![]).unwrap();
        }
        let keys = |prefix: &str, after: &str, limit| {
            let keys = state.keys(prefix.as_bytes(), after.as_bytes(), limit);
            keys.into_iter().map(|key| String::from_utf8(key).unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys("", "", 10), "a b1 b2 b3 c");
        assert_eq!(keys("b", "", 2), "b1 b2");
        assert_eq!(keys("b", "b2", 2), "b3");
        assert_eq!(keys("x", "", 2), "");
    }

    #[test]
    fn a_file_outlives_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut state = State::in_file(&path, 1000, Trust::Sticky).unwrap();
        state.set(vec![0, 255], vec![1, 2]).unwrap();
        drop(state);
        let state = State::in_file(&path, 1000, Trust::Sticky).unwrap();
        assert_eq!(state.get(&[0, 255]), Some(&[1, 2][..]));
        assert!(matches!(State::in_file(&path, 10, Trust::Sticky), Err(StateError::TooMuch { .. })));
        fs::write(&path, "hello").unwrap();
        assert!(matches!(State::in_file(&path, 1000, Trust::Sticky), Err(StateError::Content { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"hello", "what is no state file is left alone");
        let nowhere = State::in_file(&directory.path().join("no/state"), 1000, Trust::Sticky);
        assert!(matches!(nowhere, Err(StateError::Write { .. })));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn the_file_is_no_link_and_no_device() {
        let directory = tempfile::tempdir().unwrap();
        let (path, victim) = (directory.path().join("state"), directory.path().join("victim"));
        fs::write(&victim, "").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        let error = State::in_file(&path, 1000, Trust::Sticky).unwrap_err().to_string();
        assert!(error.contains("is a symbolic link"), "{error}");
        let error = State::in_file(Path::new("/dev/zero"), 1000, Trust::Sticky).unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
        assert_eq!(fs::read(&victim).unwrap(), b"");
    }
}
