//! Finding out what a spool has when it is opened.

use std::{
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use super::{ACKNOWLEDGED, Gap, SEGMENT, Segment, Spool, acknowledgement, record};
use flowgate_base::clock::now;

/// Numbers beyond this one are none.
const MAX_NUMBER: u64 = u64::MAX / 2;
/// The name of the file that replaces `acknowledged`.
const NEW: &str = "acknowledged.new";

impl Spool {
    pub(super) fn recover(&mut self) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in self.directory.list()? {
            let name = entry.name.to_str().and_then(|name| name.strip_suffix(SEGMENT));
            let first = name.filter(|name| name.len() == 20).and_then(|name| name.parse::<u64>().ok());
            if let Some(first) = first.filter(|first| (1..=MAX_NUMBER).contains(first)) {
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
            self.acknowledged = self.acknowledged.min(MAX_NUMBER);
        }
        let torn = self.find_end()?;
        // An acknowledgement that is ahead is of records that a crash of the machine took, whose numbers are used again
        // with another epoch.
        let delivered = self.acknowledged >= self.next;
        self.acknowledged = self.acknowledged.min(self.next - 1);
        if let Some(first) = self.segments.front().map(|segment| segment.first) {
            self.acknowledged = self.acknowledged.max(first.saturating_sub(1));
        }
        let mut file = self.directory.replace(NEW.as_ref())?;
        file.write_all(acknowledgement(self.acknowledged).as_bytes())?;
        self.directory.rename(NEW.as_ref(), ACKNOWLEDGED.as_ref())?;
        self.acknowledged_file = Some(file);
        self.reading.begin_at(self.acknowledged + 1);
        if torn && !delivered {
            self.dropped = Gap { batches: 1, lines: 0, time: now() };
        }
        Ok(())
    }

    /// Finds the end of the last segment. Returns true if something was cut off.
    fn find_end(&mut self) -> io::Result<bool> {
        let Some(last) = self.segments.back_mut() else {
            self.next = self.acknowledged.saturating_add(1);
            return Ok(false);
        };
        let file = self.directory.read(&last.name())?;
        let (mut place, mut next) = (0, last.first);
        while let Some((entry, bytes)) = record::read(&file, place, last.length)? {
            if entry.number != next {
                break;
            }
            place += bytes;
            next += 1;
        }
        let writing = self.directory.append(&last.name(), Some(0o600))?;
        let torn = place < last.length;
        if torn {
            writing.set_len(place)?;
            writing.sync_all()?;
        }
        last.length = place;
        self.next = next;
        self.writing = Some(Arc::new(writing));
        Ok(torn)
    }
}
