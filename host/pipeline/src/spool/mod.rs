//! A spool: batches on disk, bounded, until somebody far away has acknowledged them.
//!
//! Whole batches are appended, read in their order, and removed once they have been acknowledged. What was appended
//! survives the end of the process at any point, also by SIGKILL; what was synchronized, the machine's. What finds no
//! room is dropped and told as a gap at its place, so that who reads knows that, and of how many batches and lines, as
//! far as that is known: a gap is on disk from the first batch on that is dropped.
//!
//! # On disk
//!
//! A directory has segments, which are called by the number of their first record, and a file `acknowledged`. Numbers
//! of records begin with 1 and have no holes, so that a segment that is damaged is a gap of a known size. Only the last
//! segment is written to. Its end that no checksum confirms is cut off at the next start, and told as a gap.
//!
//! Appending never waits for the disk: [`Spool::unsynchronized`] is for another thread. So is reading
//! ([`Spool::next_place`]).

mod read;
mod record;
mod recover;

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use flowgate_base::{
    clock::now,
    files::{Directory, Trust, WalkOptions},
};

pub use read::{Found, Place};
use record::{Content, GAP_RECORD, HEADER};
pub use record::{Entry, Gap, Record};

/// The most bytes that a spool has if nothing else is said.
pub const DEFAULT_LIMIT: u64 = 256 << 20;
/// The fewest bytes that a spool may have.
pub const MIN_LIMIT: u64 = 1 << 20;
/// The most bytes of a batch.
pub const MAX_BATCH: usize = 512 << 10;

/// The most bytes of a segment, as a part of the limit, so that what was acknowledged soon makes room.
const SEGMENTS: u64 = 16;
/// A segment of which everything was acknowledged is begun anew from this part of its most bytes on: fewer files are
/// made where each batch is acknowledged at once.
const WORTH_REMOVING: u64 = 4;
/// Room that batches leave for the records of gaps.
const RESERVE: u64 = 2 * GAP_RECORD;

/// The name of the file with the last number that was acknowledged.
const ACKNOWLEDGED: &str = "acknowledged";
/// The name of the file that the process locks.
const LOCK: &str = "lock";
/// The end of the names of segments.
const SEGMENT: &str = ".spool";

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file of it cannot be read or written.
    #[error("the spool {}: {}", flowgate_base::text::path_text(path), flowgate_base::io_error::error_text(source))]
    File {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the spool {}: another process uses it; each needs a directory of its own",
        flowgate_base::text::path_text(.0)
    )]
    Used(PathBuf),
    /// A batch is too long.
    #[error("a batch of {0} bytes is too long for a spool; it takes at most {MAX_BATCH}")]
    Long(usize),
}

/// Whether there was room for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It has this number.
    Stored(u64),
    /// It was dropped, and is told as a gap.
    Dropped,
}

/// A file with records.
#[derive(Debug)]
struct Segment {
    /// The number of its first record.
    first: u64,
    /// Its bytes that are valid.
    length: u64,
}

impl Segment {
    fn name(&self) -> OsString {
        format!("{:020}{SEGMENT}", self.first).into()
    }
}

/// A spool.
#[derive(Debug)]
pub struct Spool {
    directory: Directory,
    limit: u64,
    /// Random.
    epoch: u64,
    /// From the oldest to the one that is written to.
    segments: VecDeque<Segment>,
    /// The last segment.
    writing: Option<Arc<File>>,
    /// The number of the next record.
    next: u64,
    /// All records up to this one are acknowledged.
    acknowledged: u64,
    /// The file that has this number.
    acknowledged_file: Option<File>,
    reading: read::Reading,
    /// Batches that were dropped since the last record of a gap.
    dropped: Gap,
    /// True from the first batch on that is dropped until one finds room.
    overflows: bool,
    /// Segments with records that may not be on disk yet.
    unsynchronized: Unsynchronized,
    /// Locked while this exists.
    _lock: File,
}

/// What may not be on disk yet.
#[derive(Debug, Default)]
#[must_use = "it is not on disk before `synchronize` returns"]
pub struct Unsynchronized {
    files: Vec<Arc<File>>,
    /// The directory, if there are new files in it.
    directory: Option<PathBuf>,
}

impl Unsynchronized {
    /// Returns true if everything is on disk.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Waits until it is on disk.
    ///
    /// # Errors
    /// If it may not be.
    pub fn synchronize(self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| file.sync_data())?;
        self.directory.map_or(Ok(()), |path| File::open(path)?.sync_all())
    }
}

impl Spool {
    /// Opens the spool in a directory, which is created if it does not exist, with at most `limit` bytes of records.
    ///
    /// # Errors
    /// [`SpoolError`] if it cannot be read and written, others could write it, or another process has it.
    pub fn open(path: &Path, limit: u64) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::File { path: path.to_owned(), source };
        let options = WalkOptions { create: true, ..WalkOptions::trusting(Trust::Exclusive) };
        let directory = Directory::walk(path, options).map_err(failed)?;
        let lock = directory.append(LOCK.as_ref(), Some(0o600)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(SpoolError::Used(path.to_owned())),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let epoch = getrandom::u64().map_err(|error| failed(io::Error::other(error.to_string())))?;
        let mut spool = Spool {
            directory,
            limit: limit.max(MIN_LIMIT),
            epoch: epoch.max(1),
            segments: VecDeque::new(),
            writing: None,
            next: 1,
            acknowledged: 0,
            acknowledged_file: None,
            reading: read::Reading::default(),
            dropped: Gap::default(),
            overflows: false,
            unsynchronized: Unsynchronized::default(),
            _lock: lock,
        };
        spool.recover().map_err(failed)?;
        spool.settle_if_possible()?;
        Ok(spool)
    }

    /// Returns the directory, with links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Sets the most bytes of records. What is there stays.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit.max(MIN_LIMIT);
    }

    /// Returns the number of bytes of records.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Returns the number of records that have not been acknowledged.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.next - 1 - self.acknowledged
    }

    /// Returns true if there is room for a batch of this many bytes.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.length() + HEADER + bytes as u64 + RESERVE <= self.limit
    }

    /// Appends a batch of this many lines. Where there is no room for it, also because the file system is full, it is
    /// dropped, and a gap is recorded.
    ///
    /// # Errors
    /// [`SpoolError`] if it is too long, or writing fails for another reason; the spool is as before.
    pub fn append(&mut self, batch: &[u8], lines: u64) -> Result<Appended, SpoolError> {
        if batch.len() > MAX_BATCH {
            return Err(SpoolError::Long(batch.len()));
        }
        if !self.has_room(batch.len()) {
            self.drop_batch(lines)?;
            return Ok(Appended::Dropped);
        }
        match self.settle().and_then(|()| self.write(&Content::Batch(batch))) {
            Ok(()) => {
                self.overflows = false;
                Ok(Appended::Stored(self.next - 1))
            }
            Err(error) if is_full(&error) => self.drop_batch(lines).map(|()| Appended::Dropped),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Notes that a batch of this many lines is missing here. The first one of a gap is recorded at once: it is known
    /// after a crash as well.
    ///
    /// # Errors
    /// [`SpoolError::File`]
    pub fn drop_batch(&mut self, lines: u64) -> Result<(), SpoolError> {
        if self.dropped.batches == 0 {
            self.dropped.time = now();
        }
        self.dropped.batches += 1;
        self.dropped.lines += lines;
        if std::mem::replace(&mut self.overflows, true) { Ok(()) } else { self.settle_if_possible() }
    }

    /// Records the gap that there is, before nothing more is appended.
    ///
    /// # Errors
    /// [`SpoolError::File`]
    pub fn conclude(&mut self) -> Result<(), SpoolError> {
        self.settle_if_possible()
    }

    fn settle_if_possible(&mut self) -> Result<(), SpoolError> {
        if self.length() + GAP_RECORD > self.limit {
            // A gap is on disk already. What is missing of its count is recorded when there is room.
            return Ok(());
        }
        match self.settle() {
            Err(error) if !is_full(&error) => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    /// Records what was dropped and is not recorded.
    fn settle(&mut self) -> io::Result<()> {
        if self.dropped.batches > 0 {
            self.write(&Content::Gap(self.dropped))?;
            self.dropped = Gap::default();
        }
        Ok(())
    }

    /// Returns what may not be on disk yet, so that it can be synchronized while more is appended.
    pub fn unsynchronized(&mut self) -> Unsynchronized {
        std::mem::take(&mut self.unsynchronized)
    }

    /// Puts everything that was appended on disk.
    ///
    /// # Errors
    /// [`SpoolError::File`] if it may not be there.
    pub fn synchronize(&mut self) -> Result<(), SpoolError> {
        self.unsynchronized().synchronize().map_err(|error| self.failed(error))
    }

    /// Acknowledges all records up to this one, which are never read again, and makes room. Should the machine crash,
    /// some of them may be read once more.
    ///
    /// # Errors
    /// [`SpoolError::File`]
    pub fn acknowledge(&mut self, number: u64) -> Result<(), SpoolError> {
        let number = number.min(self.next - 1);
        if number <= self.acknowledged {
            return Ok(());
        }
        self.acknowledged = number;
        self.reading.skip_to(number + 1);
        self.remove_acknowledged().map_err(|error| self.failed(error))
    }

    fn remove_acknowledged(&mut self) -> io::Result<()> {
        // First, so that a crash in between does not bring back what was acknowledged.
        if let Some(file) = &self.acknowledged_file {
            // One write of one length in place: a process that is killed leaves the old number or the new one.
            file.write_all_at(acknowledgement(self.acknowledged).as_bytes(), 0)?;
        }
        // The numbers go on from the name of the last segment, which therefore stays until there is another one.
        let worth = self.limit / SEGMENTS / WORTH_REMOVING;
        if self.waiting() == 0 && self.segments.back().is_some_and(|segment| segment.length > worth) {
            self.begin_segment()?;
        }
        while self.segments.len() > 1 && self.end_of(0) <= self.acknowledged + 1 {
            if let Some(segment) = self.segments.pop_front() {
                self.directory.remove(&segment.name())?;
            }
        }
        Ok(())
    }

    /// Returns the number after the last record of a segment.
    fn end_of(&self, index: usize) -> u64 {
        self.segments.get(index + 1).map_or(self.next, |segment| segment.first)
    }

    /// Writes a record at the end.
    fn write(&mut self, content: &Content<'_>) -> io::Result<()> {
        let most = self.limit / SEGMENTS;
        if self.segments.back().is_none_or(|segment| segment.length >= most) {
            self.begin_segment()?;
        }
        let record = record::encode(self.epoch, self.next, content);
        let (Some(file), Some(segment)) = (&self.writing, self.segments.back_mut()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Err(error) = (&**file).write_all(&record) {
            // What was written of it must not stand in front of the next one.
            file.set_len(segment.length)?;
            return Err(error);
        }
        if !self.unsynchronized.files.last().is_some_and(|last| Arc::ptr_eq(last, file)) {
            self.unsynchronized.files.push(file.clone());
        }
        segment.length += record.len() as u64;
        self.next += 1;
        Ok(())
    }

    /// Begins a segment.
    fn begin_segment(&mut self) -> io::Result<()> {
        let segment = Segment { first: self.next, length: 0 };
        let file = self.directory.append(&segment.name(), Some(0o600))?;
        file.set_len(0)?;
        self.unsynchronized.directory = Some(self.directory.path().to_owned());
        self.segments.push_back(segment);
        self.writing = Some(Arc::new(file));
        Ok(())
    }

    fn failed(&self, source: io::Error) -> SpoolError {
        SpoolError::File { path: self.directory.path().to_owned(), source }
    }
}

/// Returns the content of the file with the number up to which records are acknowledged.
fn acknowledgement(number: u64) -> String {
    format!("{number:020}\n")
}

/// Returns true if there is no room on the file system.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

#[cfg(test)]
mod tests;
