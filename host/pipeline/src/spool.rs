//! A spool: batches on disk, bounded, until somebody far away has acknowledged them.
//!
//! Whole batches are appended and synchronized, read in their order, and removed once they have been acknowledged. What
//! was synchronized survives the end of the process at any point, also by SIGKILL, and of the machine. What finds no
//! room is dropped and told as a gap at its place, so that who reads knows that, and of how many batches, as far as that
//! is known: a gap is on disk from the first batch on that is dropped.
//!
//! # On disk
//!
//! A directory has segments, which are called by the number of their first record, and a file `acknowledged`. A record
//! is a length (4 bytes, little endian), a checksum (CRC-32, 4 bytes) of all that follows, a number (8 bytes), a kind (1
//! byte), and as many bytes as the length says. Numbers begin with 1 and have no holes, so that a segment that is damaged
//! is a gap of a known size. Only the last segment is written to, and the end of it that no checksum confirms was never
//! synchronized.
//!
//! Nothing is read with a length that has not been compared with the file's.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use flowgate_base::files::{Directory, Trust, WalkOptions};

/// The most bytes that a spool has if nothing else is said.
pub const DEFAULT_LIMIT: u64 = 256 << 20;
/// The fewest bytes that a spool may have.
pub const MIN_LIMIT: u64 = 1 << 20;
/// The most bytes of a batch.
pub const MAX_BATCH: usize = 512 << 10;

/// Bytes of a record besides those of its batch.
const HEADER: u64 = 17;
/// The most bytes of a segment, as a part of the limit, so that what was acknowledged soon makes room.
const SEGMENTS: u64 = 16;
/// Kinds of records.
const BATCH: u8 = 1;
const GAP: u8 = 2;
/// Room that batches leave for the record of a gap, or two.
const RESERVE: u64 = 2 * (HEADER + 8);

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
        path: std::path::PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the spool {}: another process uses it", flowgate_base::text::path_text(.0))]
    Used(std::path::PathBuf),
    /// A batch is too long.
    #[error("a batch of {0} bytes is too long for a spool; it takes at most {MAX_BATCH}")]
    Long(usize),
}

/// What comes next in a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A batch.
    Batch(Vec<u8>),
    /// At least so many batches are missing here.
    Gap(u64),
}

/// Whether there was room for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It has this number.
    Stored(u64),
    /// It was dropped, and will be told as a gap.
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
    /// From the oldest to the one that is written to.
    segments: VecDeque<Segment>,
    /// The last segment.
    writing: Option<File>,
    /// The number of the next record.
    next: u64,
    /// All records up to this one are acknowledged.
    acknowledged: u64,
    /// The segment that is read, by its first number, its file, and the place and number of the next record.
    reading: Option<(u64, File, u64)>,
    /// The number of the next record to be read.
    read: u64,
    /// Batches that were dropped since the last record of a gap.
    dropped: u64,
    /// True from the first batch on that is dropped until one finds room.
    overflows: bool,
    /// True if records were appended since the last synchronization.
    unsynchronized: bool,
    /// Locked while this exists.
    _lock: File,
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
        let mut spool = Spool {
            directory,
            limit: limit.max(MIN_LIMIT),
            segments: VecDeque::new(),
            writing: None,
            next: 1,
            acknowledged: 0,
            reading: None,
            read: 1,
            dropped: 0,
            overflows: false,
            unsynchronized: false,
            _lock: lock,
        };
        spool.recover().map_err(failed)?;
        Ok(spool)
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

    /// Appends a batch. It is on disk only after [`Spool::synchronize`]. Where there is no room for it, also because the
    /// file system is full, it is dropped, and a gap is recorded.
    ///
    /// # Errors
    /// [`SpoolError`] if it is too long, or writing fails for another reason; the spool is as before.
    pub fn append(&mut self, batch: &[u8]) -> Result<Appended, SpoolError> {
        if batch.len() > MAX_BATCH {
            return Err(SpoolError::Long(batch.len()));
        }
        let needed = HEADER + batch.len() as u64 + RESERVE;
        if self.length() + needed > self.limit {
            return self.drop_one();
        }
        let stored = if self.dropped > 0 { self.write(GAP, &self.dropped.to_le_bytes()) } else { Ok(()) };
        let stored = stored.and_then(|()| {
            self.dropped = 0;
            self.write(BATCH, batch)
        });
        match stored {
            Ok(()) => {
                self.overflows = false;
                Ok(Appended::Stored(self.next - 1))
            }
            Err(error) if is_full(&error) => self.drop_one(),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Drops a batch. The first one of a gap is recorded at once: it is known after a crash as well.
    fn drop_one(&mut self) -> Result<Appended, SpoolError> {
        self.dropped += 1;
        if !self.overflows {
            match self.write(GAP, &self.dropped.to_le_bytes()).and_then(|()| self.synchronize_file()) {
                Ok(()) => self.dropped = 0,
                // It is recorded when there is room.
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(self.failed(error)),
            }
            self.overflows = true;
        }
        Ok(Appended::Dropped)
    }

    /// Puts everything that was appended on disk. Only then may it be acknowledged to where it came from.
    ///
    /// # Errors
    /// [`SpoolError::File`] if it may not be there.
    pub fn synchronize(&mut self) -> Result<(), SpoolError> {
        self.synchronize_file().map_err(|error| self.failed(error))
    }

    fn synchronize_file(&mut self) -> io::Result<()> {
        if self.unsynchronized {
            if let Some(file) = &self.writing {
                file.sync_data()?;
            }
            self.unsynchronized = false;
        }
        Ok(())
    }

    /// Returns the next record with its number; `None` if there is none yet. What was appended and not synchronized is
    /// read as well.
    ///
    /// # Errors
    /// [`SpoolError::File`]
    pub fn read_next(&mut self) -> Result<Option<(u64, Record)>, SpoolError> {
        self.next_record().map_err(|error| self.failed(error))
    }

    fn next_record(&mut self) -> io::Result<Option<(u64, Record)>> {
        if self.read >= self.next {
            return Ok(None);
        }
        let Some(index) = self.segments.iter().rposition(|segment| segment.first <= self.read) else {
            // The first segment begins later: those before it are gone.
            return Ok(Some(self.missing_until(self.segments.front().map_or(self.next, |segment| segment.first))));
        };
        let (Some(segment), end) = (self.segments.get(index), self.end_of(index)) else { return Ok(None) };
        let (first, length) = (segment.first, segment.length);
        let name = segment.name();
        let (file, place) = match self.reading.take() {
            Some((of, file, place)) if of == first => (file, place),
            _ => (self.directory.read(&name)?, 0),
        };
        let mut place = place;
        let found = loop {
            match read_record(&file, place, length)? {
                Some((number, kind, content)) if number >= self.read && number < end => {
                    place += HEADER + content.len() as u64;
                    break Some((number, kind, content));
                }
                // Before what is read: records that were acknowledged.
                Some((number, _, content)) if number < self.read => place += HEADER + content.len() as u64,
                _ => break None,
            }
        };
        let Some((number, kind, content)) = found else {
            // Damaged: the numbers say how many records are missing.
            return Ok(Some(self.missing_until(end)));
        };
        if number > self.read {
            return Ok(Some(self.missing_until(number)));
        }
        self.reading = Some((first, file, place));
        self.read = number + 1;
        let record = match (kind, <[u8; 8]>::try_from(content.as_slice())) {
            (GAP, Ok(count)) => Record::Gap(u64::from_le_bytes(count)),
            (BATCH, _) => Record::Batch(content),
            _ => Record::Gap(1),
        };
        Ok(Some((number, record)))
    }

    /// Returns a gap from the next record to the one before `end`.
    fn missing_until(&mut self, end: u64) -> (u64, Record) {
        let missing = end.saturating_sub(self.read).max(1);
        self.read += missing;
        self.reading = None;
        (self.read - 1, Record::Gap(missing))
    }

    /// Returns the number after the last record of a segment.
    fn end_of(&self, index: usize) -> u64 {
        self.segments.get(index + 1).map_or(self.next, |segment| segment.first)
    }

    /// Reads from the first record on that has not been acknowledged: after a connection broke, with what was on its way.
    pub fn rewind(&mut self) {
        self.read = self.acknowledged + 1;
        self.reading = None;
    }

    /// Acknowledges all records up to this one, which are never read again, and makes room. Should this be lost in a
    /// crash, they are read once more.
    ///
    /// # Errors
    /// [`SpoolError::File`]
    pub fn acknowledge(&mut self, number: u64) -> Result<(), SpoolError> {
        let number = number.min(self.next - 1);
        if number <= self.acknowledged {
            return Ok(());
        }
        self.acknowledged = number;
        self.read = self.read.max(number + 1);
        self.remove_acknowledged().map_err(|error| self.failed(error))
    }

    fn remove_acknowledged(&mut self) -> io::Result<()> {
        // The numbers go on from the name of the last segment, which therefore stays, and is begun anew once it is read.
        while self.segments.len() > 1 && self.end_of(0) <= self.acknowledged + 1 {
            if let Some(segment) = self.segments.pop_front() {
                self.directory.remove(&segment.name())?;
            }
        }
        if self.acknowledged + 1 == self.next && self.segments.back().is_some_and(|segment| segment.length > 0) {
            let old = self.segments.pop_back();
            (self.writing, self.reading) = (None, None);
            self.begin_segment()?;
            if let Some(old) = old.filter(|old| old.first != self.next) {
                self.directory.remove(&old.name())?;
            }
        }
        let mut file = self.directory.replace(ACKNOWLEDGED.as_ref())?;
        file.write_all(format!("{}\n", self.acknowledged).as_bytes())
    }

    /// Writes a record at the end.
    fn write(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let most = self.limit / SEGMENTS;
        if self.segments.back().is_none_or(|segment| segment.length >= most) {
            self.begin_segment()?;
        }
        let mut record = Vec::with_capacity(content.len() + HEADER as usize);
        record.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
        record.extend_from_slice(&[0; 4]);
        record.extend_from_slice(&self.next.to_le_bytes());
        record.push(kind);
        record.extend_from_slice(content);
        let sum = checksum(record.get(8..).unwrap_or_default());
        record.iter_mut().skip(4).zip(sum.to_le_bytes()).for_each(|(to, from)| *to = from);
        let (Some(file), Some(segment)) = (self.writing.as_mut(), self.segments.back_mut()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.unsynchronized = true;
        if let Err(error) = file.write_all(&record) {
            // What was written of it must not stand in front of the next one.
            file.set_len(segment.length)?;
            return Err(error);
        }
        segment.length += record.len() as u64;
        self.next += 1;
        Ok(())
    }

    /// Begins a segment; the one before it is on disk then.
    fn begin_segment(&mut self) -> io::Result<()> {
        self.synchronize_file()?;
        let segment = Segment { first: self.next, length: 0 };
        let file = self.directory.append(&segment.name(), Some(0o600))?;
        file.set_len(0)?;
        File::open(self.directory.path())?.sync_all()?;
        self.segments.push_back(segment);
        self.writing = Some(file);
        Ok(())
    }

    /// Finds out what is there.
    fn recover(&mut self) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in self.directory.list()? {
            let name = entry.name.to_str().and_then(|name| name.strip_suffix(SEGMENT));
            let first = name.filter(|name| name.len() == 20).and_then(|name| name.parse::<u64>().ok());
            if let Some(first) = first.filter(|&first| first > 0) {
                found.push(Segment { first, length: entry.length });
            }
        }
        found.sort_by_key(|segment| segment.first);
        self.segments = found.into();
        if let Ok(file) = self.directory.read(ACKNOWLEDGED.as_ref()) {
            let mut text = String::new();
            // What cannot be read was never acknowledged.
            let _ = file.take(32).read_to_string(&mut text);
            self.acknowledged = text.strip_suffix('\n').and_then(|number| number.parse().ok()).unwrap_or_default();
        }
        match self.segments.back_mut() {
            None => self.next = self.acknowledged.saturating_add(1),
            Some(last) => {
                let file = self.directory.read(&last.name())?;
                let (mut place, mut next) = (0, last.first);
                while let Some((number, _, content)) = read_record(&file, place, last.length)? {
                    if number != next {
                        break;
                    }
                    place += HEADER + content.len() as u64;
                    next += 1;
                }
                let writing = self.directory.append(&last.name(), Some(0o600))?;
                if place < last.length {
                    writing.set_len(place)?;
                    writing.sync_all()?;
                }
                last.length = place;
                self.next = next;
                self.writing = Some(writing);
            }
        }
        // An acknowledgement that is ahead is of records that were cut off: their numbers are used again.
        self.acknowledged = self.acknowledged.min(self.next - 1);
        if let Some(first) = self.segments.front().map(|segment| segment.first) {
            self.acknowledged = self.acknowledged.max(first.saturating_sub(1));
        }
        self.read = self.acknowledged + 1;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> SpoolError {
        SpoolError::File { path: self.directory.path().to_owned(), source }
    }
}

/// Returns true if there is no room on the file system.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum()
}

/// Reads the record at a place of a file with this many valid bytes; `None` if there is no valid one.
fn read_record(file: &File, place: u64, length: u64) -> io::Result<Option<(u64, u8, Vec<u8>)>> {
    let Some(room) = length.checked_sub(place).and_then(|left| left.checked_sub(HEADER)) else { return Ok(None) };
    let mut header = [0; HEADER as usize];
    if !read_at(file, &mut header, place)? {
        return Ok(None);
    }
    let part = |from: usize, to: usize| header.get(from..to).unwrap_or_default();
    let content_length = u32::from_le_bytes(part(0, 4).try_into().unwrap_or_default());
    let sum = u32::from_le_bytes(part(4, 8).try_into().unwrap_or_default());
    let number = u64::from_le_bytes(part(8, 16).try_into().unwrap_or_default());
    if u64::from(content_length) > room || content_length as usize > MAX_BATCH {
        return Ok(None);
    }
    let mut checked = part(8, HEADER as usize).to_vec();
    let mut content = vec![0; content_length as usize];
    if !read_at(file, &mut content, place + HEADER)? {
        return Ok(None);
    }
    checked.extend_from_slice(&content);
    if checksum(&checked) != sum {
        return Ok(None);
    }
    Ok(Some((number, header.last().copied().unwrap_or_default(), content)))
}

/// Fills a buffer; returns false at the end of the file.
fn read_at(file: &File, buffer: &mut [u8], place: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, place) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: u64, length: usize) -> Vec<u8> {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.resize(length.max(8), u8::try_from(number % 251).unwrap());
        bytes
    }

    fn all(spool: &mut Spool) -> Vec<(u64, Record)> {
        std::iter::from_fn(|| spool.read_next().unwrap()).collect()
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    #[test]
    fn batches_come_back_in_their_order_and_once_acknowledged_never_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool");
        let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
        assert!(matches!(Spool::open(&path, MIN_LIMIT), Err(SpoolError::Used(_))));
        for number in 1..=100 {
            assert_eq!(spool.append(&batch(number, 5000)).unwrap(), Appended::Stored(number));
        }
        let read = all(&mut spool);
        assert_eq!(read.len(), 100);
        assert!(read.iter().all(|(number, record)| *record == Record::Batch(batch(*number, 5000))));
        assert_eq!(spool.read_next().unwrap(), None);
        spool.rewind();
        assert_eq!(all(&mut spool), read);
        let before = spool.length();
        spool.acknowledge(70).unwrap();
        assert!(spool.length() < before * 2 / 5, "segments that were acknowledged make room");
        spool.rewind();
        assert_eq!(all(&mut spool), read[70..]);
        drop(spool);
        let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
        assert_eq!((all(&mut spool), spool.waiting()), (read[70..].to_vec(), 30));
        spool.acknowledge(u64::MAX).unwrap();
        assert_eq!((spool.length(), spool.waiting()), (0, 0));
        // Numbers go on, also where nothing is left.
        drop(spool);
        let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
        assert_eq!(spool.read_next().unwrap(), None);
        assert_eq!(spool.append(b"x").unwrap(), Appended::Stored(101));
        assert_eq!(spool.read_next().unwrap(), Some((101, Record::Batch(b"x".to_vec()))));
        assert!(matches!(spool.append(&vec![0; MAX_BATCH + 1]), Err(SpoolError::Long(_))));
    }

    #[test]
    fn what_finds_no_room_is_a_gap_at_its_place_also_after_a_crash() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool");
        let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
        let mut stored = 0;
        while spool.append(&batch(stored + 1, 50_000)).unwrap() != Appended::Dropped {
            stored += 1;
        }
        assert!(spool.length() <= MIN_LIMIT && spool.length() > MIN_LIMIT - 60_000, "{}", spool.length());
        for _ in 0..9 {
            assert_eq!(spool.append(&batch(0, 50_000)).unwrap(), Appended::Dropped);
        }
        spool.synchronize().unwrap();
        let crashed = directory.path().join("crashed");
        copy(&path, &crashed);
        // As many as were dropped when one finds room again.
        spool.acknowledge(stored / 2).unwrap();
        let Appended::Stored(number) = spool.append(b"after").unwrap() else { panic!("there is room") };
        let read = all(&mut spool);
        let gaps =
            read.iter().filter_map(|(_, record)| if let Record::Gap(count) = record { Some(count) } else { None });
        assert_eq!(gaps.sum::<u64>(), 10);
        assert_eq!(read.last(), Some(&(number, Record::Batch(b"after".to_vec()))));
        let first_gap = read.iter().position(|(_, record)| matches!(record, Record::Gap(_))).unwrap();
        assert_eq!(read[first_gap].0, stored + 1, "behind what was stored before it");
        // After a crash it is known that there is one, though not how large it was.
        let mut spool = Spool::open(&crashed, MIN_LIMIT).unwrap();
        let read = all(&mut spool);
        assert_eq!((read.len() as u64, &read.last().unwrap().1), (stored + 1, &Record::Gap(1)));
        assert!(spool.length() <= MIN_LIMIT);
    }

    #[test]
    fn cut_off_at_any_byte_it_has_all_whole_records() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool");
        let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
        let mut ends = Vec::new();
        for number in 1..=6 {
            spool.append(&batch(number, 8 + usize::try_from(number).unwrap() * 7)).unwrap();
            ends.push(spool.length());
        }
        spool.synchronize().unwrap();
        let name = spool.segments[0].name();
        drop(spool);
        let whole = std::fs::read(path.join(&name)).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(path.join(&name), &whole[..cut]).unwrap();
            let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
            let complete = ends.iter().filter(|&&end| end <= cut as u64).count() as u64;
            let read = all(&mut spool);
            assert_eq!(read.len() as u64, complete, "{cut}");
            assert!(
                read.iter().all(
                    |(number, record)| matches!(record, Record::Batch(bytes) if bytes[..8] == number.to_le_bytes())
                )
            );
            // And it goes on with the next number.
            assert_eq!(spool.append(b"next").unwrap(), Appended::Stored(complete + 1), "{cut}");
            drop(spool);
            let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
            assert_eq!(all(&mut spool).len() as u64, complete + 1, "{cut}");
        }
    }

    #[test]
    fn a_damaged_byte_anywhere_loses_what_it_must_and_says_how_much() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool");
        let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
        // Two records in each segment.
        let length = usize::try_from(MIN_LIMIT / SEGMENTS).unwrap() / 2 + 1;
        for number in 1..=6 {
            spool.append(&batch(number, length)).unwrap();
        }
        spool.synchronize().unwrap();
        let (first, last) = (spool.segments[0].name(), spool.segments[2].name());
        assert_eq!(spool.segments.len(), 3);
        drop(spool);
        let damaged = directory.path().join("damaged");
        for at in [0, 3, 4, 8, 15, 16, 17, 100, length, length + 17, length + 20, 2 * length] {
            for (name, numbers) in [(&first, 1..=2_u64), (&last, 5..=6)] {
                copy(&path, &damaged);
                let mut bytes = std::fs::read(damaged.join(name)).unwrap();
                bytes[at] ^= 0x10;
                std::fs::write(damaged.join(name), &bytes).unwrap();
                let mut spool = Spool::open(&damaged, MIN_LIMIT).unwrap();
                let read = all(&mut spool);
                let batches = read.iter().filter(|(_, record)| matches!(record, Record::Batch(_)));
                let batches: Vec<u64> = batches.map(|(number, _)| *number).collect();
                let lost = if at < length + 17 { 2 } else { 1 };
                let rest =
                    (1..=6).filter(|number| !numbers.contains(number) || (lost == 1 && number == numbers.start()));
                assert_eq!(batches, rest.collect::<Vec<_>>(), "{at} of {name:?}");
                let gaps: u64 =
                    read.iter().map(|(_, record)| if let Record::Gap(count) = record { *count } else { 0 }).sum();
                // At the end it is as if it had never been written.
                assert_eq!(gaps, if name == &first { lost } else { 0 }, "{at} of {name:?}");
                drop(spool);
                std::fs::remove_dir_all(&damaged).unwrap();
            }
        }
    }

    #[test]
    fn random_operations_with_crashes_lose_nothing_that_was_synchronized() {
        let directory = tempfile::tempdir().unwrap();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut path = directory.path().join("0");
        let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
        // What is stored by number, and up to where it is acknowledged.
        let (mut model, mut acknowledged) = (std::collections::BTreeMap::new(), 0_u64);
        for step in 1..400_u64 {
            match draw(10) {
                0..=5 => {
                    let bytes = batch(step, usize::try_from(draw(60_000)).unwrap());
                    if let Appended::Stored(number) = spool.append(&bytes).unwrap() {
                        model.insert(number, bytes);
                    }
                }
                6 => {
                    acknowledged = acknowledged.max(draw(spool.next));
                    spool.acknowledge(acknowledged).unwrap();
                }
                7 => spool.rewind(),
                8 => drop(all(&mut spool)),
                _ => {
                    // Killed after it was synchronized, with a record half written.
                    spool.synchronize().unwrap();
                    let next = directory.path().join(step.to_string());
                    copy(&path, &next);
                    let last = spool.segments.back().map(Segment::name);
                    if let Some(name) = last {
                        let mut file = std::fs::OpenOptions::new().append(true).open(next.join(name)).unwrap();
                        file.write_all(&[7, 0, 0, 0, 1, 2, 3]).unwrap();
                    }
                    drop(spool);
                    std::fs::remove_dir_all(&path).unwrap();
                    path = next;
                    spool = Spool::open(&path, MIN_LIMIT).unwrap();
                }
            }
            assert!(spool.length() <= MIN_LIMIT);
        }
        spool.synchronize().unwrap();
        drop(spool);
        let mut spool = Spool::open(&path, MIN_LIMIT).unwrap();
        let read: std::collections::BTreeMap<u64, Record> = all(&mut spool).into_iter().collect();
        let expected = model.range(acknowledged + 1..);
        assert!(expected.clone().count() > 0);
        for (number, bytes) in expected {
            assert_eq!(read.get(number), Some(&Record::Batch(bytes.clone())), "{number}");
        }
    }
}
