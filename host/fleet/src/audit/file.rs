//! The audit of an agent as a file, to which lines are appended.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use flowgate_base::{
    io_error::error_text,
    text::{clean, path_text},
};
use tokio::sync::watch;

use super::{Line, Link, MAX_FILE, MAX_LINE, MAX_TEXT, Record, hash};
use crate::journal::sync_directory;

/// Why the audit cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It cannot be read or written.
    #[error("{}: {}; what cannot be recorded is not done", clean(path), error_text(.source))]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is full.
    #[error("{}: the audit has 256 MiB; move it away, and start the agent again", clean(.0))]
    Full(String),
}

/// An audit, to which lines are appended.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file: Arc<File>,
    number: u64,
    before: String,
    /// How many bytes of it are on disk.
    length: watch::Sender<u64>,
}

/// An audit for who reads its lines as they are appended.
#[derive(Debug)]
pub struct Tail {
    /// The file.
    pub file: Arc<File>,
    /// How many bytes of it are on disk: whole lines.
    pub length: watch::Receiver<u64>,
}

impl Audit {
    /// Opens an audit, which is created if it does not exist. What a crash left of a last line is cut off.
    ///
    /// # Errors
    /// [`AuditError`]
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let failed = |source| AuditError::File { path: path_text(path), source };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(path).map_err(failed)?;
        let mut length = file.metadata().map_err(failed)?.len();
        let most = 2 * MAX_LINE as u64;
        file.seek(SeekFrom::Start(length.saturating_sub(most))).map_err(failed)?;
        let mut end = Vec::new();
        (&file).take(most).read_to_end(&mut end).map_err(failed)?;
        let whole = end.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if whole < end.len() {
            length -= (end.len() - whole) as u64;
            file.set_len(length).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        let last = end.get(..whole).unwrap_or_default().strip_suffix(b"\n").unwrap_or_default();
        let last = last.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        let (number, before) = match last {
            [] => (0, String::new()),
            line => {
                let wrong =
                    || failed(io::Error::new(io::ErrorKind::InvalidData, "its last line is no line of an audit"));
                (Link::of(line).ok_or_else(wrong)?.number, hash(line))
            }
        };
        sync_directory(path).map_err(failed)?;
        let length = watch::Sender::new(length);
        Ok(Audit { path: path.to_owned(), file: Arc::new(file), number, before, length })
    }

    /// Appends a line. When this returns, it is on disk.
    ///
    /// # Errors
    /// [`AuditError`] if it is not.
    pub fn append(&mut self, record: Record) -> Result<(), AuditError> {
        let length = *self.length.borrow();
        if length > MAX_FILE {
            return Err(AuditError::Full(path_text(&self.path)));
        }
        let cut = |text: String| if text.len() > MAX_TEXT { text.chars().take(MAX_TEXT).collect() } else { text };
        let record = Record { plan: cut(record.plan), reason: cut(record.reason), ..record };
        let time = flowgate_base::clock::now();
        let line = Line { number: self.number + 1, time, record, before: self.before.clone() };
        let mut bytes = crate::message::write(&line);
        let sum = hash(&bytes);
        bytes.push(b'\n');
        if let Err(source) = (&*self.file).write_all(&bytes).and_then(|()| self.file.sync_data()) {
            let _ = self.file.set_len(length);
            return Err(AuditError::File { path: path_text(&self.path), source });
        }
        (self.number, self.before) = (line.number, sum);
        self.length.send_replace(length + bytes.len() as u64);
        Ok(())
    }

    /// Returns the audit for who reads its lines as they are appended.
    #[must_use]
    pub fn tail(&self) -> Tail {
        Tail { file: self.file.clone(), length: self.length.subscribe() }
    }
}

/// Reads whole lines from an offset on, of at most `most` bytes, but at least one line.
///
/// # Errors
/// It cannot be read, or has a line that is too long.
pub fn lines_from(file: &File, offset: u64, end: u64, most: usize) -> io::Result<Vec<u8>> {
    let most = most.max(MAX_LINE + 1);
    let length = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(most);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    match bytes.iter().rposition(|&byte| byte == b'\n') {
        Some(at) => bytes.truncate(at + 1),
        None => return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of the audit has no end")),
    }
    Ok(bytes)
}

/// Returns the offset behind the line with this number and this hash; `None` if the audit has no such line.
///
/// # Errors
/// It cannot be read.
pub fn locate(file: &File, end: u64, number: u64, sum: &str) -> io::Result<Option<u64>> {
    let (mut offset, mut count) = (0, 0);
    while offset < end {
        let lines = lines_from(file, offset, end, 1 << 20)?;
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            offset += line.len() as u64;
            count += 1;
            if count == number {
                let same = hash(line.strip_suffix(b"\n").unwrap_or(line)) == sum;
                return Ok(same.then_some(offset));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Stage, verify};

    fn record(reason: &str) -> Record {
        Record { stage: Stage::Refused, reason: reason.into(), ..Record::default() }
    }

    #[test]
    fn cut_off_at_any_byte_it_goes_on_with_the_whole_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        let mut audit = Audit::open(&path).unwrap();
        for reason in ["a", "b\n\u{1b}", "c"] {
            audit.append(record(reason)).unwrap();
        }
        drop(audit);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let whole = bytes[..cut].iter().filter(|&&byte| byte == b'\n').count() as u64;
            Audit::open(&path).unwrap().append(record("d")).unwrap();
            assert_eq!(verify(&path).unwrap(), (whole + 1, Vec::new()), "{cut}");
        }
    }

    #[test]
    fn the_longest_texts_make_a_line_that_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        let mut audit = Audit::open(&path).unwrap();
        // Each of these characters takes six bytes in JSON.
        let long = "\u{1}".repeat(100_000);
        let signers = vec!["O".repeat(56); 16];
        audit.append(Record { plan: long.clone(), reason: long, signers, ..Record::default() }).unwrap();
        audit.append(record("next")).unwrap();
        assert_eq!(verify(&path).unwrap(), (2, Vec::new()));
    }

    #[test]
    fn a_line_is_found_by_number_and_hash() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        let mut audit = Audit::open(&path).unwrap();
        let tail = audit.tail();
        let mut places = vec![(String::new(), 0)];
        for number in 0..200 {
            audit.append(record(&"x".repeat(number * 20))).unwrap();
            places.push((audit.before.clone(), *tail.length.borrow()));
        }
        let end = *tail.length.borrow();
        assert!(end > 300_000, "more than is read at a time: {end}");
        for (number, (sum, offset)) in places.iter().enumerate().skip(1) {
            assert_eq!(locate(&tail.file, end, number as u64, sum).unwrap(), Some(*offset));
            assert_eq!(locate(&tail.file, end, number as u64 + 1, sum).unwrap(), None, "another line's hash");
        }
        assert_eq!(locate(&tail.file, end, 0, "").unwrap(), None);
        // All lines, in parts that end with a line.
        let (mut all, mut offset) = (Vec::new(), 0);
        while offset < end {
            let lines = lines_from(&tail.file, offset, end, 0).unwrap();
            assert!(lines.ends_with(b"\n") && lines.len() <= MAX_LINE + 1);
            offset += lines.len() as u64;
            all.extend(lines);
        }
        assert_eq!(all, std::fs::read(&path).unwrap());
    }
}
