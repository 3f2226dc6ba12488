//! The audit of an agent: what it was commanded to do, refused and did, on its own disk before anything happens.
//!
//! A file of JSON objects, one on each line. Each has the hash of the line before it, so that a line that was removed
//! or changed shows.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use flowgate_base::{
    files::LimitedReader,
    io_error::error_text,
    text::{clean, path_text},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{journal::sync_directory, random};

/// The most bytes of a line.
const MAX_LINE: u64 = 64 << 10;
/// The most bytes of an audit.
const MAX_FILE: u64 = 256 << 20;

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
    /// A line does not follow from the one before.
    #[error("line {line}: {what}")]
    Broken {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The number of the line, from 1.
    pub number: u64,
    /// When, in seconds since 1970.
    pub time: u64,
    /// What: `intent`, `result` or `refused`.
    pub stage: String,
    /// The plan, if that is known.
    pub plan: String,
    /// What is meant, or came of it.
    pub text: String,
    /// Who signed, as far as the signatures hold.
    #[serde(default)]
    pub signers: Vec<String>,
    /// The hash of the line before; empty for the first.
    pub before: String,
}

/// An audit, to which lines are appended.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file: File,
    number: u64,
    before: String,
    length: u64,
}

fn hash(line: &[u8]) -> String {
    random::hex(&Sha256::digest(line))
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
        file.seek(SeekFrom::Start(length.saturating_sub(2 * MAX_LINE))).map_err(failed)?;
        let mut end = Vec::new();
        (&file).take(2 * MAX_LINE).read_to_end(&mut end).map_err(failed)?;
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
                    |_| failed(io::Error::new(io::ErrorKind::InvalidData, "its last line is no line of an audit"));
                let read: Line = serde_json::from_slice(line).map_err(wrong)?;
                (read.number, hash(line))
            }
        };
        sync_directory(path).map_err(failed)?;
        Ok(Audit { path: path.to_owned(), file, number, before, length })
    }

    /// Appends a line. When this returns, it is on disk.
    ///
    /// # Errors
    /// [`AuditError`] if it is not.
    pub fn append(&mut self, stage: &str, plan: &str, text: &str, signers: Vec<String>) -> Result<(), AuditError> {
        if self.length > MAX_FILE {
            return Err(AuditError::Full(path_text(&self.path)));
        }
        let cut = |text: &str| text.chars().take(4096).collect::<String>();
        let line = Line {
            number: self.number + 1,
            time: crate::plan::now(),
            stage: stage.to_owned(),
            plan: cut(plan),
            text: cut(text),
            signers,
            before: self.before.clone(),
        };
        let mut bytes = crate::message::write(&line);
        let sum = hash(&bytes);
        bytes.push(b'\n');
        if let Err(source) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            let _ = self.file.set_len(self.length);
            return Err(AuditError::File { path: path_text(&self.path), source });
        }
        self.length += bytes.len() as u64;
        (self.number, self.before) = (line.number, sum);
        Ok(())
    }
}

/// Checks that each line follows from the one before, and returns their number.
///
/// # Errors
/// [`AuditError`] with the first line that does not.
pub fn verify(path: &Path) -> Result<u64, AuditError> {
    let failed = |source| AuditError::File { path: path_text(path), source };
    let file = File::open(path).map_err(failed)?;
    let mut reader = BufReader::new(LimitedReader::new(file, 2 * MAX_FILE));
    let (mut number, mut before) = (0, String::new());
    loop {
        let mut line = Vec::new();
        if reader.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(number);
        }
        number += 1;
        let broken = |what| AuditError::Broken { line: number, what };
        let line = line.strip_suffix(b"\n").ok_or_else(|| broken("it has no end"))?;
        let read: Line = serde_json::from_slice(line).map_err(|_| broken("it is no line of an audit"))?;
        if read.before != before {
            return Err(broken("it does not follow from the line before: one was changed or is missing"));
        }
        if read.number != number {
            return Err(broken("its number is another one"));
        }
        before = hash(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(path: &Path) {
        let mut audit = Audit::open(path).unwrap();
        audit.append("intent", "p", "delete", vec!["O".into()]).unwrap();
        drop(audit);
        let mut audit = Audit::open(path).unwrap();
        audit.append("result", "p", "3 deleted", Vec::new()).unwrap();
        audit.append("refused", "q", "expired\n", Vec::new()).unwrap();
    }

    #[test]
    fn a_line_that_is_changed_or_missing_shows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        filled(&path);
        assert_eq!(verify(&path).unwrap(), 3);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let says = |lines: &[&str]| {
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
            verify(&path).map_err(|error| error.to_string())
        };
        assert!(says(&lines[1..]).unwrap_err().starts_with("line 1: it does not follow"));
        assert!(says(&[lines[0], lines[2]]).unwrap_err().starts_with("line 2: it does not follow"));
        let changed = lines[1].replace("3 deleted", "2 deleted");
        assert!(says(&[lines[0], &changed, lines[2]]).unwrap_err().starts_with("line 3: "));
        assert!(says(&[lines[0], "x"]).unwrap_err().starts_with("line 2: it is no line"));
        assert_eq!(says(&lines[..2]), Ok(2), "the end of an audit is known only by who reads it elsewhere");
    }

    #[test]
    fn cut_off_at_any_byte_it_goes_on_with_the_whole_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        filled(&path);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let whole = bytes[..cut].iter().filter(|&&byte| byte == b'\n').count() as u64;
            Audit::open(&path).unwrap().append("intent", "", "", Vec::new()).unwrap();
            assert_eq!(verify(&path).unwrap(), whole + 1, "{cut}");
        }
    }
}
