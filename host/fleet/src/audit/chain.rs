//! Checks that each line of an audit follows from the one before.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
};

use flowgate_base::{files::LimitedReader, text::path_text};

use super::{AuditError, Link, MAX_FILE, MAX_LINE, hash};

/// The most flaws that are told of one audit.
const MAX_FLAWS: usize = 100;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is no line of an audit.
    #[error("it is no line of an audit")]
    Unreadable,
    /// It has no end.
    #[error("it has no end, so that it was cut off")]
    Cut,
    /// Lines before it are missing.
    #[error("lines {first} to {last} are missing before it")]
    Missing {
        /// The first that is missing.
        first: u64,
        /// The last that is missing.
        last: u64,
    },
    /// The chain begins again.
    #[error("the audit begins anew after line {0}: the agent's file was moved away, replaced or changed")]
    Restarted(u64),
    /// Its number has been there.
    #[error("line {0} was expected: lines were exchanged, or came twice")]
    Order(u64),
    /// It does not follow.
    #[error("it does not follow from line {0}: that one was changed, or this one is forged")]
    Forged(u64),
}

/// A chain of lines, as far as it has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    number: u64,
    before: String,
}

impl Chain {
    /// Returns the number of the last line.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the hash of the last line; empty if there is none.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.before
    }

    /// Takes the next line, without its newline, and returns its number and what is wrong with it. The chain goes on
    /// with this line either way.
    pub fn follow(&mut self, line: &[u8]) -> (u64, Option<Flaw>) {
        let expected = self.number.saturating_add(1);
        let link = Link::of(line);
        let flaw = match &link {
            None => Some(Flaw::Unreadable),
            Some(link) if link.number == expected && link.before == self.before => None,
            Some(link) if link.number == expected => Some(Flaw::Forged(self.number)),
            Some(Link { number: 1, before }) if before.is_empty() => Some(Flaw::Restarted(self.number)),
            Some(link) if link.number > expected => Some(Flaw::Missing { first: expected, last: link.number - 1 }),
            Some(_) => Some(Flaw::Order(expected)),
        };
        self.number = link.map_or(expected, |link| link.number);
        self.before = hash(line);
        (self.number, flaw)
    }
}

/// Checks the audit in a file, and returns the number of its lines and the flaws, each with the place of its line from 1.
///
/// # Errors
/// [`AuditError`] if it cannot be read.
pub fn verify(path: &Path) -> Result<(u64, Vec<(u64, Flaw)>), AuditError> {
    let failed = |source| AuditError::File { path: path_text(path), source };
    let file = File::open(path).map_err(failed)?;
    let mut reader = BufReader::new(LimitedReader::new(file, 2 * MAX_FILE));
    let (mut chain, mut count, mut flaws) = (Chain::default(), 0, Vec::new());
    let mut line = Vec::new();
    while flaws.len() < MAX_FLAWS {
        line.clear();
        // A line that is too long is read as several, of which none is a line of an audit.
        if reader.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        count += 1;
        let Some(line) = line.strip_suffix(b"\n") else {
            flaws.push((count, if line.len() > MAX_LINE { Flaw::Unreadable } else { Flaw::Cut }));
            continue;
        };
        flaws.extend(chain.follow(line).1.map(|flaw| (count, flaw)));
    }
    Ok((count, flaws))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Audit, Record, Stage};

    fn filled(path: &Path, count: u64) -> Vec<String> {
        let mut audit = Audit::open(path).unwrap();
        for count in 0..count {
            let record = Record { stage: Stage::Intent, plan: "p".into(), count: Some(count), ..Record::default() };
            audit.append(record).unwrap();
        }
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_that_is_changed_missing_or_forged_shows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        let lines = filled(&path, 5);
        assert_eq!(verify(&path).unwrap(), (5, Vec::new()));
        let says = |lines: &[&str]| {
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
            verify(&path).unwrap().1
        };
        let of = |at: &[usize]| at.iter().map(|&at| lines[at].as_str()).collect::<Vec<_>>();
        assert_eq!(says(&of(&[1, 2])), [(1, Flaw::Missing { first: 1, last: 1 })]);
        assert_eq!(says(&of(&[0, 3, 4])), [(2, Flaw::Missing { first: 2, last: 3 })]);
        let changed = lines[1].replace("\"count\":1", "\"count\":7");
        assert_ne!(changed, lines[1]);
        assert_eq!(says(&[&lines[0], &changed, &lines[2]]), [(3, Flaw::Forged(2))]);
        // Exchanged, twice, and begun again.
        let order = says(&of(&[0, 2, 1, 3]));
        assert_eq!(order[0], (2, Flaw::Missing { first: 2, last: 2 }));
        assert_eq!(order[1], (3, Flaw::Order(4)));
        assert_eq!(says(&of(&[0, 1, 1, 2])), [(3, Flaw::Order(3))]);
        assert_eq!(says(&of(&[0, 1, 0, 1])), [(3, Flaw::Restarted(2))]);
        assert_eq!(says(&[&lines[0], "x", &lines[2]])[0], (2, Flaw::Unreadable));
        // One with the right number and the right hash of the line before it: the next one does not follow.
        let forged = lines[2].replace("\"plan\":\"p\"", "\"plan\":\"q\"");
        assert_eq!(says(&[&lines[0], &lines[1], &forged, &lines[3]]), [(4, Flaw::Forged(3))]);
        std::fs::write(&path, &lines[0]).unwrap();
        assert_eq!(verify(&path).unwrap().1, [(1, Flaw::Cut)]);
        assert_eq!(says(&of(&[0, 1])), [], "the end of an audit is known only by who reads it elsewhere");
    }

    #[test]
    fn a_file_of_anything_is_read_within_limits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        std::fs::write(&path, vec![b'x'; 20 * MAX_LINE]).unwrap();
        let (_, flaws) = verify(&path).unwrap();
        assert!(!flaws.is_empty() && flaws.iter().all(|(_, flaw)| matches!(flaw, Flaw::Unreadable | Flaw::Cut)));
        std::fs::write(&path, "\n".repeat(100_000)).unwrap();
        assert_eq!(verify(&path).unwrap().1.len(), MAX_FLAWS);
        assert!(verify(&directory.path().join("nothing")).is_err());
    }
}
