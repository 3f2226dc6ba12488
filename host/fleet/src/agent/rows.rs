//! Rows of answers: written on a thread of their own, cut into chunks, and held for who pulls them.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::PoisonError,
};

use tokio::{sync::mpsc, time::Instant};

use super::{CURSORS, HOLD, Inner, without};
use crate::{
    bus::Bus,
    message::{Answer, CHUNK, MAX_FIRST, MIN_FIRST, State},
    random,
    table::{Table, TableError},
};

/// An answer that is being pulled.
#[derive(Debug)]
pub(super) struct Cursor {
    chunks: mpsc::Receiver<Chunk>,
    /// The number of answers that have been sent.
    sent: u64,
    used: Instant,
}

/// Rows on their way to who asked.
#[derive(Debug)]
struct Chunk {
    rows: Vec<u8>,
    /// How it ended, if these are the last ones.
    end: Option<Result<u64, TableError>>,
}

impl<B: Bus, T: Table> Inner<B, T> {
    pub(super) fn lock_cursors(&self) -> std::sync::MutexGuard<'_, HashMap<String, Cursor>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what nobody has pulled for long, which ends its thread.
    pub(super) fn drop_cursors(&self) {
        self.lock_cursors().retain(|_, cursor| cursor.used.elapsed() < HOLD);
    }

    /// Answers with rows, which `write` writes on a thread of its own, and returns the first ones.
    pub(super) async fn rows(
        &self,
        first: usize,
        write: impl FnOnce(&T, &mut ChunkWriter) -> Result<u64, TableError> + Send + 'static,
    ) -> Answer {
        self.drop_cursors();
        if self.lock_cursors().len() >= CURSORS {
            let reason = format!("{CURSORS} answers of it are being pulled already; ask again");
            return Answer::without(State::Refused, reason);
        }
        let most = CHUNK.min(self.bus.max_payload() / 2);
        let (sender, chunks) = mpsc::channel(1);
        let mut writer =
            ChunkWriter { sender, rows: Vec::new(), limit: first.clamp(MIN_FIRST, MAX_FIRST).min(most), most };
        let table = self.table.clone();
        tokio::task::spawn_blocking(move || {
            let end = write(&table, &mut writer);
            writer.end(end);
        });
        self.next(random::id(), Cursor { chunks, sent: 0, used: Instant::now() }).await
    }

    pub(super) async fn pull(&self, id: &str, chunk: u64) -> Answer {
        // While an answer is on its way there is no cursor, so that nobody else pulls the same rows.
        let Some(cursor) = self.lock_cursors().remove(id) else {
            let held = flowgate_base::units::show_time(HOLD);
            return Answer::without(State::Partial, format!("its further rows are gone; it holds them for {held}"));
        };
        if cursor.sent != chunk {
            let reason = format!("rows {chunk} were asked for, and {} are next", cursor.sent);
            return Answer::without(State::Partial, reason);
        }
        self.next(id.to_owned(), cursor).await
    }

    /// Returns the next rows, and keeps the cursor if there are more.
    async fn next(&self, id: String, mut cursor: Cursor) -> Answer {
        let chunk = cursor.chunks.recv().await;
        let chunk = chunk.unwrap_or_else(|| Chunk {
            rows: Vec::new(),
            end: Some(Err(TableError::Failed("the agent failed at this question".into()))),
        });
        let mut answer = match chunk.end {
            None => {
                let mut answer = Answer::new(State::Answered);
                (cursor.sent, cursor.used) = (cursor.sent + 1, Instant::now());
                answer.head.cursor = Some(id.clone());
                self.lock_cursors().insert(id, cursor);
                answer
            }
            Some(Ok(flows)) => {
                let mut answer = Answer::new(State::Answered);
                answer.head.flows = Some(flows);
                answer
            }
            Some(Err(error)) => without(&error, cursor.sent > 0 || !chunk.rows.is_empty()),
        };
        answer.rows = chunk.rows;
        answer
    }
}

/// Cuts rows into chunks, at the ends of lines, and waits until there is room for each.
pub(super) struct ChunkWriter {
    sender: mpsc::Sender<Chunk>,
    rows: Vec<u8>,
    /// The most bytes of the next chunk.
    limit: usize,
    /// The most bytes of those after it.
    most: usize,
}

impl ChunkWriter {
    fn send(&mut self, length: usize) -> io::Result<()> {
        let rest = self.rows.split_off(length);
        let rows = std::mem::replace(&mut self.rows, rest);
        self.limit = self.most;
        self.sender.blocking_send(Chunk { rows, end: None }).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Sends the rest, and how it ended.
    fn end(self, end: Result<u64, TableError>) {
        let gone = self.sender.blocking_send(Chunk { rows: self.rows, end: Some(end) });
        // Who asked is gone.
        drop(gone);
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rows.extend_from_slice(bytes);
        while self.rows.len() > self.limit {
            let newline = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
            let within = self.rows.get(..self.limit).and_then(newline);
            let next = || self.rows.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
            match within.or_else(next) {
                Some(length) => self.send(length)?,
                None => break,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_whole_lines_within_the_limit() {
        let (sender, mut chunks) = mpsc::channel(1000);
        let mut writer = ChunkWriter { sender, rows: Vec::new(), limit: 10, most: 20 };
        let mut all = Vec::new();
        for line in 0..40_u32 {
            let line = format!("{}\n", "x".repeat(line as usize));
            all.extend_from_slice(line.as_bytes());
            writer.write_all(line.as_bytes()).unwrap();
        }
        writer.end(Ok(40));
        let (mut together, mut count) = (Vec::new(), 0);
        while let Ok(chunk) = chunks.try_recv() {
            assert!(chunk.rows.is_empty() && chunk.end.is_some() || chunk.rows.ends_with(b"\n"));
            let one_line = chunk.rows.iter().filter(|&&byte| byte == b'\n').count() == 1;
            let limit = if count == 0 { 10 } else { 20 };
            assert!(chunk.rows.len() <= limit || one_line, "{chunk:?}");
            together.extend(chunk.rows);
            count += 1;
        }
        assert_eq!(together, all);
        assert!(count > 20, "{count}");
    }
}
