//! Events on their way from a host to who watches them. Who writes them never waits: what does not fit is counted, and
//! told where it is missing.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::table::TableError;

/// The most bytes of events that wait.
pub const ROOM: usize = 2 << 20;
/// Events that follow each other are kept in pieces of this size.
const PIECE: usize = 64 << 10;

/// Whole lines, and how many are missing before them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// How many events before these were lost.
    pub lost: u64,
    /// Whole lines.
    pub rows: Vec<u8>,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Lost since the last piece.
    lost: u64,
    /// How it ended, once it has.
    end: Option<Result<(), TableError>>,
    /// True if nobody takes them any more.
    gone: bool,
}

impl Waiting {
    fn has_something(&self) -> bool {
        !self.pieces.is_empty() || self.lost > 0 || self.end.is_some()
    }
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that a host writes events into, a line each.
#[derive(Debug)]
pub struct EventWriter {
    shared: Arc<Shared>,
    /// The beginning of a line.
    line: Vec<u8>,
    /// True if that line is too long, and is lost.
    long: bool,
}

/// The end that events are taken from.
#[derive(Debug)]
pub struct EventReader(Arc<Shared>);

/// Returns both ends.
#[must_use]
pub fn channel() -> (EventWriter, EventReader) {
    let shared = Arc::new(Shared::default());
    (EventWriter { shared: shared.clone(), line: Vec::new(), long: false }, EventReader(shared))
}

/// Returns the number of lines.
fn count(rows: &[u8]) -> u64 {
    rows.iter().filter(|&&byte| byte == b'\n').count() as u64
}

impl EventWriter {
    /// Ends the events; without it they end when this is dropped, with an error.
    pub fn end(self, result: Result<(), TableError>) {
        self.shared.lock().end = Some(result);
    }

    /// Hands over whole lines, as far as there is room.
    fn hand(&mut self, rows: &[u8]) {
        let mut waiting = self.shared.lock();
        let room = ROOM.saturating_sub(waiting.bytes);
        // Once something was lost, a good part of the room has to be free again: one gap is better than many.
        let closed = waiting.lost > 0 && room < ROOM / 2;
        let taken = match rows.get(..room) {
            _ if closed => 0,
            None => rows.len(),
            Some(fitting) => fitting.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1),
        };
        let (rows, rest) = rows.split_at(taken);
        if !rows.is_empty() {
            let lost = std::mem::take(&mut waiting.lost);
            waiting.bytes += rows.len();
            match waiting.pieces.back_mut() {
                Some(piece) if lost == 0 && piece.rows.len() < PIECE => piece.rows.extend_from_slice(rows),
                _ => waiting.pieces.push_back(Piece { lost, rows: rows.to_vec() }),
            }
        }
        waiting.lost += count(rest);
        drop(waiting);
        self.shared.more.notify_one();
    }
}

impl Write for EventWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.shared.lock().gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut whole = bytes;
        if !self.line.is_empty() || self.long {
            let end = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
            let (first, rest) = bytes.split_at(end);
            self.long |= self.line.len() + first.len() > ROOM;
            if !self.long {
                self.line.extend_from_slice(first);
            }
            if first.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                match std::mem::take(&mut self.long) {
                    true => self.shared.lock().lost += 1,
                    false => self.hand(&line),
                }
            }
            whole = rest;
        }
        let end = whole.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let (lines, rest) = whole.split_at(end);
        if !lines.is_empty() {
            self.hand(lines);
        }
        if rest.len() > ROOM {
            self.long = true;
        } else {
            self.line.extend_from_slice(rest);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        let failed = || Err(TableError::Failed("the agent failed at this question".into()));
        self.shared.lock().end.get_or_insert_with(failed);
        self.shared.more.notify_one();
    }
}

impl EventReader {
    /// Waits until something can be taken.
    pub async fn wait(&self) {
        loop {
            let more = self.0.more.notified();
            if self.0.lock().has_something() {
                return;
            }
            more.await;
        }
    }

    /// Returns the bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.lock().bytes
    }

    /// Takes the next events, of at most so many bytes but for a longer line; `None` if there are none. The last of
    /// them may be a number of lost ones alone.
    #[must_use]
    pub fn take(&self, most: usize) -> Option<Piece> {
        let mut waiting = self.0.lock();
        let Some(first) = waiting.pieces.front_mut() else {
            let lost = std::mem::take(&mut waiting.lost);
            return (lost > 0).then(|| Piece { lost, rows: Vec::new() });
        };
        let newline = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
        let within = first.rows.get(..most).map_or(Some(first.rows.len()), newline);
        let next = || first.rows.iter().position(|&byte| byte == b'\n').map_or(first.rows.len(), |at| at + 1);
        let length = within.unwrap_or_else(next);
        let piece = if length == first.rows.len() {
            waiting.pieces.pop_front().unwrap_or_default()
        } else {
            let rest = first.rows.split_off(length);
            Piece { lost: std::mem::take(&mut first.lost), rows: std::mem::replace(&mut first.rows, rest) }
        };
        waiting.bytes = waiting.bytes.saturating_sub(piece.rows.len());
        Some(piece)
    }

    /// Returns how the events ended, if they have and all have been taken.
    #[must_use]
    pub fn ended(&self) -> Option<Result<(), TableError>> {
        let waiting = self.0.lock();
        waiting.end.clone().filter(|_| waiting.pieces.is_empty() && waiting.lost == 0)
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.gone = true;
        waiting.pieces.clear();
        waiting.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_in_order_however_they_are_written() {
        let (mut writer, reader) = channel();
        let all: Vec<u8> = (0..5000_u32).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        for (index, bytes) in all.chunks(7).enumerate() {
            writer.write_all(bytes).unwrap();
            if index % 100 == 0 {
                writer.flush().unwrap();
            }
        }
        writer.end(Ok(()));
        assert!(reader.ended().is_none(), "not all of them were taken");
        let mut together = Vec::new();
        while let Some(piece) = reader.take(100) {
            assert!(piece.lost == 0 && piece.rows.len() <= 100 && piece.rows.ends_with(b"\n"));
            together.extend(piece.rows);
        }
        assert_eq!((together, reader.bytes(), reader.ended()), (all, 0, Some(Ok(()))));
    }

    #[test]
    fn what_does_not_fit_is_counted_where_it_is_missing() {
        let (mut writer, reader) = channel();
        let (line, lines) = (vec![b'x'; 999], 3 * ROOM / 1000);
        for _ in 0..lines {
            writer.write_all(&line).unwrap();
            writer.write_all(b"\n").unwrap();
            assert!(reader.bytes() <= ROOM);
        }
        let kept = ROOM / 1000;
        let mut taken = 0;
        // As long as less than half of the room is free, further ones are lost, too.
        while reader.bytes() > ROOM / 2 {
            writer.write_all(b"lost\n").unwrap();
            let piece = reader.take(PIECE).unwrap();
            assert_eq!(piece.lost, 0);
            taken += count(&piece.rows);
        }
        writer.write_all(b"after\n").unwrap();
        let mut lost = 0;
        let mut last = Vec::new();
        let mut before = 0;
        while let Some(piece) = reader.take(PIECE) {
            if piece.lost > 0 {
                (lost, before) = (piece.lost, taken);
            }
            taken += count(&piece.rows);
            last = piece.rows;
        }
        assert_eq!((before, last.as_slice()), (kept as u64, &b"after\n"[..]));
        assert!(lost > (lines - kept) as u64 && lost < (lines - kept + 40) as u64, "{lost}");
        // The end may be a gap, and a line that is longer than the room is one.
        writer.write_all(&vec![b'y'; ROOM]).unwrap();
        writer.write_all(b"yy\nnext\n").unwrap();
        drop(writer);
        assert_eq!(reader.take(PIECE), Some(Piece { lost: 1, rows: b"next\n".to_vec() }));
        assert!(matches!(reader.ended(), Some(Err(TableError::Failed(_)))));
    }

    #[test]
    fn whoever_writes_learns_that_nobody_reads() {
        let (mut writer, reader) = channel();
        writer.write_all(b"a\n").unwrap();
        drop(reader);
        assert!(writer.write_all(b"b\n").is_err());
    }
}
