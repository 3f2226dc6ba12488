//! The journal of an agent: plans that have begun, so that each is done at most once, whatever is sent again and
//! whenever the agent is killed.
//!
//! A file of lines, each with a checksum, to which one is appended and synchronized before an action, and another after
//! it. What a crash leaves of a last line is cut off; any other damage is an error, since what is missing could be done again.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
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
use sha2::{Digest as _, Sha256};

use crate::random;

/// The most bytes of a journal. A plan takes about 250 of them until a day after it has expired.
const MAX_FILE: u64 = 4 << 20;
/// The bytes from which on a journal is written anew, without what has expired.
const LONG: u64 = 1 << 20;
/// How long after its expiry a plan is remembered, in seconds: by far more than clocks are put back.
const AFTER: u64 = 86_400;
/// Digits of a checksum.
const SUM: usize = 16;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read or written.
    #[error("{}: {}; nothing is done without a journal", clean(path), error_text(.source))]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is damaged.
    #[error(
        "{}: line {line} is damaged, and a plan could be done twice; remove the file when no plan is valid any \
         more, at the latest a day from now",
        clean(path)
    )]
    Damaged {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// The plan has begun before.
    #[error("the plan {}", clean(&.0.text()))]
    Seen(Record),
    /// It is full.
    #[error("{}: the journal is full of plans that have not expired; wait for their expiry", clean(.0))]
    Full(String),
}

/// What is known of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The plan.
    id: String,
    /// When it expires, in seconds since 1970.
    expires: u64,
    /// When it began, in seconds since 1970.
    begun: u64,
    /// How it ended; `None` if it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    /// True if it was refused when it was found after an absence: it may begin if somebody asks for it again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
}

impl Record {
    fn text(&self) -> String {
        match &self.outcome {
            Some(outcome) => format!("was done already ({outcome})"),
            None => "has begun before, and did not end; flows may have been touched or not".to_owned(),
        }
    }

    /// Returns the line of the record.
    fn line(&self) -> Vec<u8> {
        let json = crate::message::write(self);
        let mut line = sum(&json).into_bytes();
        line.push(b' ');
        line.extend(json);
        line.push(b'\n');
        line
    }
}

fn sum(bytes: &[u8]) -> String {
    let mut text = random::hex(&Sha256::digest(bytes));
    text.truncate(SUM);
    text
}

/// Reads a line without its newline.
fn record(line: &[u8]) -> Option<Record> {
    let (checksum, json) = line.split_at_checked(SUM)?;
    let json = json.strip_prefix(b" ")?;
    if checksum != sum(json).as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// The journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    records: BTreeMap<String, Record>,
}

impl Journal {
    /// Opens a journal, which is created if it does not exist.
    ///
    /// # Errors
    /// [`JournalError`] if it cannot be read and written, or is damaged.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::File { path: path_text(path), source };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let file = options.open(path).map_err(failed)?;
        let bytes = files::read_from(&mut &file, MAX_FILE).map_err(failed)?;
        let mut records = BTreeMap::new();
        let mut length = 0;
        let lines = bytes.split_inclusive(|&byte| byte == b'\n');
        for (index, line) in lines.enumerate() {
            match line.strip_suffix(b"\n").map(record) {
                Some(Some(record)) => {
                    records.insert(record.id.clone(), record);
                    length += line.len() as u64;
                }
                Some(None) => return Err(JournalError::Damaged { path: path_text(path), line: index + 1 }),
                // Cut off by a crash before it was synchronized, so that nothing had begun.
                None => file.set_len(length).and_then(|()| file.sync_all()).map_err(failed)?,
            }
        }
        sync_directory(path).map_err(failed)?;
        Ok(Journal { path: path.to_owned(), file, length, records })
    }

    /// Records that a plan begins. When this returns, it is on disk.
    ///
    /// # Errors
    /// [`JournalError::Seen`] if it has begun before, and the others if this cannot be recorded.
    pub fn begin(&mut self, id: &str, expires: u64, now: u64) -> Result<(), JournalError> {
        self.check(id)?;
        self.make_room(now)?;
        self.append(Record { id: id.to_owned(), expires, begun: now, outcome: None, refused: false })
    }

    /// Checks that a plan has not begun before.
    ///
    /// # Errors
    /// [`JournalError::Seen`]
    pub fn check(&self, id: &str) -> Result<(), JournalError> {
        match self.records.get(id).filter(|record| !record.refused) {
            Some(seen) => Err(JournalError::Seen(seen.clone())),
            None => Ok(()),
        }
    }

    /// Returns true if a plan has begun, or was refused for good.
    #[must_use]
    pub fn knows(&self, id: &str) -> bool {
        self.records.contains_key(id)
    }

    /// Records that a plan was refused for good, unless somebody asks for it again.
    ///
    /// # Errors
    /// [`JournalError`] if this cannot be recorded.
    pub fn refuse(&mut self, id: &str, expires: u64, now: u64) -> Result<(), JournalError> {
        if self.knows(id) {
            return Ok(());
        }
        self.make_room(now)?;
        self.append(Record { id: id.to_owned(), expires, begun: now, outcome: None, refused: true })
    }

    /// Forgets what has expired, if the journal is long.
    fn make_room(&mut self, now: u64) -> Result<(), JournalError> {
        if self.length > LONG {
            self.compact(now)?;
            if self.length > MAX_FILE / 2 {
                return Err(JournalError::Full(path_text(&self.path)));
            }
        }
        Ok(())
    }

    /// Records how a plan ended.
    ///
    /// # Errors
    /// [`JournalError::File`]
    pub fn end(&mut self, id: &str, outcome: &str) -> Result<(), JournalError> {
        let Some(record) = self.records.get(id) else { return Ok(()) };
        let outcome = outcome.chars().take(256).collect();
        self.append(Record { outcome: Some(outcome), ..record.clone() })
    }

    fn append(&mut self, record: Record) -> Result<(), JournalError> {
        let line = record.line();
        if let Err(source) = self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            // What has been written of the line must not stand in front of the next one.
            let _ = self.file.set_len(self.length);
            return Err(JournalError::File { path: path_text(&self.path), source });
        }
        self.length += line.len() as u64;
        self.records.insert(record.id.clone(), record);
        Ok(())
    }

    /// Writes the journal anew, without plans that expired long ago.
    fn compact(&mut self, now: u64) -> Result<(), JournalError> {
        let failed = |source| JournalError::File { path: path_text(&self.path), source };
        self.records.retain(|_, record| record.expires.saturating_add(AFTER) > now);
        let text: Vec<u8> = self.records.values().flat_map(Record::line).collect();
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&new, &self.path).and_then(|()| sync_directory(&self.path)).map_err(failed)?;
        self.file = OpenOptions::new().append(true).open(&self.path).map_err(failed)?;
        self.length = text.len() as u64;
        Ok(())
    }
}

/// Synchronizes the directory that a file is in, and with it the file's name.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plan_begins_once_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.begin("a", 100, 1).unwrap();
        journal.end("a", "3 flows").unwrap();
        journal.begin("b", 100, 1).unwrap();
        assert!(matches!(journal.begin("b", 100, 1), Err(JournalError::Seen(_))));
        drop(journal);
        let mut journal = Journal::open(&path).unwrap();
        let done = journal.begin("a", 100, 2).unwrap_err().to_string();
        assert_eq!(done, "the plan was done already (3 flows)");
        assert!(journal.begin("b", 100, 2).unwrap_err().to_string().contains("did not end"));
        journal.begin("c", 100, 2).unwrap();
    }

    #[test]
    fn what_was_refused_is_known_and_may_begin_when_it_is_asked_for_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.refuse("a", 100, 1).unwrap();
        drop(journal);
        let mut journal = Journal::open(&path).unwrap();
        assert!(journal.knows("a") && !journal.knows("b") && journal.check("a").is_ok());
        journal.begin("a", 100, 2).unwrap();
        // What has begun is not made one that was refused.
        journal.refuse("a", 100, 3).unwrap();
        drop(journal);
        assert!(matches!(Journal::open(&path).unwrap().check("a"), Err(JournalError::Seen(_))));
    }

    #[test]
    fn cut_off_at_any_byte_it_has_all_whole_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut ends = vec![0];
        let mut journal = Journal::open(&path).unwrap();
        for id in ["a", "b", "c"] {
            journal.begin(id, 100, 1).unwrap();
            ends.push(journal.length);
        }
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            let whole = ends.iter().filter(|&&end| end > 0 && end <= cut as u64).count();
            assert_eq!(journal.records.len(), whole, "{cut}");
            for (index, id) in ["a", "b", "c"].into_iter().enumerate() {
                assert_eq!(journal.begin(id, 100, 1).is_err(), index < whole, "{cut} {id}");
            }
            // And what was appended after the cut is read back.
            assert_eq!(Journal::open(&path).unwrap().records.len(), 3, "{cut}");
        }
    }

    #[test]
    fn damage_in_any_byte_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.begin("a", 100, 1).unwrap();
        journal.begin("b", 100, 1).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() - 1 {
            let mut broken = bytes.clone();
            broken[at] ^= 0x20;
            std::fs::write(&path, &broken).unwrap();
            assert!(matches!(Journal::open(&path), Err(JournalError::Damaged { .. })), "{at}");
        }
    }

    #[test]
    fn what_expired_long_ago_is_forgotten_when_it_is_long() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        let old: Vec<u8> = (0..20_000)
            .flat_map(|number| {
                Record { id: format!("{number:032}"), expires: 10, begun: 1, outcome: None, refused: false }.line()
            })
            .collect();
        assert!(old.len() as u64 > LONG);
        journal.begin("live", 10 * AFTER, 1).unwrap();
        journal.file.write_all(&old).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        journal.begin("new", 10 * AFTER, 2 * AFTER).unwrap();
        assert!(journal.length < 1000, "{}", journal.length);
        let mut journal = Journal::open(&path).unwrap();
        assert!(journal.begin("live", 10 * AFTER, 2 * AFTER).is_err());
        assert!(journal.begin("new", 10 * AFTER, 2 * AFTER).is_err());
        // It is no longer valid by then, whatever the journal says.
        assert!(journal.begin(&format!("{:032}", 7), 10, 2 * AFTER).is_ok());
    }
}
