//! Reading a spool. The file is read without the spool, so that who appends does not wait for that.

use std::{fs::File, io, sync::Arc};

use super::{
    Spool, SpoolError,
    record::{self, Entry, Gap, Record},
};

/// Where reading is.
#[derive(Debug)]
pub(super) struct Reading {
    /// The number of the next record to be read.
    next: u64,
    /// The first number of the segment that is read, its file, and a place in it that is not behind the next record.
    at: Option<(u64, Arc<File>, u64)>,
}

impl Default for Reading {
    fn default() -> Self {
        Reading { next: 1, at: None }
    }
}

impl Reading {
    /// Goes on with this record, or with a later one if it is there already.
    pub(super) fn skip_to(&mut self, number: u64) {
        self.next = self.next.max(number);
    }

    /// Begins with this record.
    pub(super) fn begin_at(&mut self, number: u64) {
        *self = Reading { next: number, at: None };
    }
}

/// Where the next record is.
#[derive(Debug)]
pub struct Place {
    /// The number of the record.
    number: u64,
    /// The number after the last record of its segment.
    end: u64,
    segment: Option<InSegment>,
}

#[derive(Debug)]
struct InSegment {
    first: u64,
    file: Arc<File>,
    place: u64,
    length: u64,
}

/// What was found at a place.
#[derive(Debug)]
pub struct Found {
    /// The number that was looked for.
    sought: u64,
    entry: Entry,
    /// Where the record behind it is.
    next: Option<(u64, Arc<File>, u64)>,
}

impl Place {
    /// Reads the record, and skips those in front of it, which were acknowledged.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(self) -> io::Result<Found> {
        let Some(InSegment { first, file, mut place, length }) = self.segment else {
            return Ok(missing(self.number, self.end));
        };
        loop {
            match record::read(&file, place, length)? {
                Some((entry, bytes)) if entry.number < self.number => place += bytes,
                Some((entry, bytes)) if entry.number == self.number && entry.number < self.end => {
                    return Ok(Found { sought: self.number, entry, next: Some((first, file, place + bytes)) });
                }
                Some((entry, _)) if entry.number < self.end => return Ok(missing(self.number, entry.number)),
                // Damaged: the numbers say how many records are missing.
                _ => return Ok(missing(self.number, self.end)),
            }
        }
    }
}

/// Returns a gap from a record to the one before `end`.
fn missing(number: u64, end: u64) -> Found {
    let batches = end.saturating_sub(number).max(1);
    let record = Record::Gap(Gap { batches, ..Gap::default() });
    Found { sought: number, entry: Entry { epoch: 0, number: number + batches - 1, record }, next: None }
}

impl Spool {
    /// Returns true if there is a record that was not read.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.reading.next < self.next
    }

    /// Returns where the next record is; `None` if there is none yet.
    ///
    /// # Errors
    /// [`SpoolError::File`]
    pub fn next_place(&mut self) -> Result<Option<Place>, SpoolError> {
        let number = self.reading.next;
        if number >= self.next {
            return Ok(None);
        }
        let Some(index) = self.segments.iter().rposition(|segment| segment.first <= number) else {
            // The first segment begins later: those before it are gone.
            let end = self.segments.front().map_or(self.next, |segment| segment.first);
            return Ok(Some(Place { number, end, segment: None }));
        };
        let (Some(segment), end) = (self.segments.get(index), self.end_of(index)) else { return Ok(None) };
        let (first, length) = (segment.first, segment.length);
        let (file, place) = match self.reading.at.take() {
            Some((of, file, place)) if of == first => (file, place),
            _ => (Arc::new(self.directory.read(&segment.name()).map_err(|error| self.failed(error))?), 0),
        };
        Ok(Some(Place { number, end, segment: Some(InSegment { first, file, place, length }) }))
    }

    /// Goes on behind what was found, and returns it; `None` if it was acknowledged, or reading began anew, meanwhile.
    pub fn take(&mut self, found: Found) -> Option<Entry> {
        let Found { sought, entry, next } = found;
        if self.reading.next != sought {
            return None;
        }
        self.reading = Reading { next: entry.number + 1, at: next };
        Some(entry)
    }

    /// Returns the next record; `None` if there is none yet.
    ///
    /// # Errors
    /// [`SpoolError::File`]
    pub fn read_next(&mut self) -> Result<Option<Entry>, SpoolError> {
        let Some(place) = self.next_place()? else { return Ok(None) };
        let found = place.read().map_err(|error| self.failed(error))?;
        Ok(self.take(found))
    }

    /// Reads from the first record on that has not been acknowledged: after a connection broke, with what was on its
    /// way.
    pub fn rewind(&mut self) {
        self.reading.begin_at(self.acknowledged + 1);
    }
}
