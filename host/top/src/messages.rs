//! Warnings and log lines while the screen is in use: kept, shown one at a time, and written when the terminal is
//! restored.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, PoisonError},
};

use flowgate_base::text::clean;

/// Maximum number of messages that are kept.
const MAX_MESSAGES: usize = 100;

/// The last messages, and the number of older ones that were discarded. It is global, as standard error is, which it
/// replaces.
static MESSAGES: Mutex<(VecDeque<String>, u64)> = Mutex::new((VecDeque::new(), 0));

/// Adds a message.
pub fn add(text: &str) {
    let mut messages = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    if messages.0.len() >= MAX_MESSAGES {
        messages.0.pop_front();
        messages.1 += 1;
    }
    messages.0.push_back(clean(text));
}

/// Returns the last message.
#[must_use]
pub fn last() -> Option<String> {
    MESSAGES.lock().unwrap_or_else(PoisonError::into_inner).0.back().cloned()
}

/// Removes and returns all messages, and the number of discarded ones.
pub fn take() -> (Vec<String>, u64) {
    let mut messages = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let older = std::mem::take(&mut messages.1);
    (messages.0.drain(..).collect(), older)
}

/// A writer whose lines become messages, for the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageWriter;

impl io::Write for MessageWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in String::from_utf8_lossy(bytes).lines().filter(|line| !line.is_empty()) {
            add(line);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
