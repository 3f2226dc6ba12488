//! The thread that empties the buffer of an outbox into a connection.

use std::{
    io,
    sync::{Arc, PoisonError},
    time::Instant,
};

use super::{Connection as _, OutboxState, Transport};
use crate::sink::{count_lines, first_line, whole_lines};
use flowgate_base::{Backoff, Warnings};

/// Number of bytes that the thread takes out of the buffer at once, unless a line is longer.
const CHUNK: usize = 64 << 10;

/// The thread's end of the buffer.
pub(super) struct Sender<T: Transport> {
    transport: T,
    shared: Arc<OutboxState>,
    warnings: Warnings,
    connection: Option<T::Connection>,
    /// Number of failed attempts since the last successful one, including connections that broke before anything was
    /// sent.
    failures: u32,
}

impl<T: Transport> Sender<T> {
    pub(super) fn new(transport: T, shared: Arc<OutboxState>, warnings: Warnings) -> Self {
        Sender { transport, shared, warnings, connection: None, failures: 0 }
    }

    /// Sends what is in the buffer until it is closed and empty, or abandoned.
    pub(super) fn run(mut self) {
        while let Some(chunk) = self.chunk() {
            if !self.send(&chunk) {
                break;
            }
        }
        if let Some(mut connection) = self.connection.take() {
            connection.close();
        }
        let mut inner = self.shared.lock();
        inner.remark = self.transport.remark();
        inner.ended = true;
        self.shared.changed.notify_all();
    }

    /// Takes whole lines out of the buffer, and waits for them; `None` once there will be no more.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        loop {
            if inner.abandoned || inner.closing && inner.buffer.is_empty() {
                return None;
            }
            if !inner.buffer.is_empty() {
                break;
            }
            if self.connection.is_none() && self.failures == 0 {
                // Connects before there is anything to send, which shows if the peer is present.
                drop(inner);
                self.connect();
                inner = shared.lock();
                continue;
            }
            inner = shared.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let bytes = inner.buffer.make_contiguous();
        let length = match whole_lines(bytes, CHUNK) {
            0 => first_line(bytes),
            length => length,
        };
        let chunk: Vec<u8> = inner.buffer.drain(..length).collect();
        inner.under_way = chunk.len();
        inner.lines_under_way = count_lines(&chunk);
        Some(chunk)
    }

    /// Sends a chunk, over as many connections as necessary; returns `false` if the rest must be discarded.
    fn send(&mut self, chunk: &[u8]) -> bool {
        let mut sent = 0;
        while let Some(rest) = chunk.get(sent..).filter(|rest| !rest.is_empty()) {
            if self.shared.lock().abandoned {
                return false;
            }
            let Some(connection) = &mut self.connection else {
                self.connect();
                continue;
            };
            match connection.send(rest) {
                Ok(count) if count > 0 => {
                    sent += count;
                    self.failures = 0;
                    let mut inner = self.shared.lock();
                    inner.progress += count as u64;
                    inner.lines_under_way = count_lines(chunk.get(sent..).unwrap_or_default());
                }
                Ok(_) => self.lost(&io::ErrorKind::WriteZero.into()),
                Err(error) if is_momentary(&error) => {}
                Err(error) => {
                    self.lost(&error);
                    // The next connection begins with a whole line.
                    let before = chunk.get(..sent).unwrap_or_default();
                    sent = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
                }
            }
        }
        let mut inner = self.shared.lock();
        inner.under_way = 0;
        inner.lines_under_way = 0;
        self.shared.changed.notify_all();
        true
    }

    fn lost(&mut self, error: &io::Error) {
        self.connection = None;
        if self.failures == 0 {
            self.warnings.line(&format!(
                "WARNING: sink {}: the connection broke: {}; connecting again.",
                self.transport.name(),
                flowgate_base::io_error::error_text(error)
            ));
        }
        self.failures += 1;
    }

    /// Tries to connect, after a pause if the previous attempt failed.
    fn connect(&mut self) {
        let until = Instant::now() + Backoff::RESTART.pause(self.failures);
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        while !inner.abandoned {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner = shared.wait(inner, left);
        }
        if inner.abandoned {
            return;
        }
        drop(inner);
        match self.transport.connect() {
            Ok(connection) => {
                if self.failures > 0 {
                    self.warnings.line(&format!("sink {}: connected again.", self.transport.name()));
                }
                self.connection = Some(connection);
            }
            Err(error) => {
                if self.failures == 0 {
                    self.warnings.line(&format!(
                        "WARNING: sink {}: cannot connect: {}; trying again.",
                        self.transport.name(),
                        flowgate_base::io_error::error_text(&error)
                    ));
                }
                self.failures = self.failures.saturating_add(1);
            }
        }
    }
}

/// Returns true if the error only means that the peer accepts nothing at the moment.
fn is_momentary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
