//! Warnings and log lines while the screen is in use: kept, shown one at a time, and written out when it is given back.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, PoisonError},
};

use flowgate_base::text::clean;

/// How many are kept.
const KEPT: usize = 100;

/// The last messages, and how many older ones were thrown away. Global, as standard error is, in whose place it stands.
static MESSAGES: Mutex<(VecDeque<String>, u64)> = Mutex::new((VecDeque::new(), 0));

/// Keeps a message.
pub fn add(text: &str) {
    let mut messages = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    if messages.0.len() >= KEPT {
        messages.0.pop_front();
        messages.1 += 1;
    }
    messages.0.push_back(clean(text));
}

/// The last one.
#[must_use]
pub fn last() -> Option<String> {
    MESSAGES.lock().unwrap_or_else(PoisonError::into_inner).0.back().cloned()
}

/// All that are kept, and how many older ones there were; they are forgotten.
pub fn take() -> (Vec<String>, u64) {
    let mut messages = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let older = std::mem::take(&mut messages.1);
    (messages.0.drain(..).collect(), older)
}

/// A writer of lines that become messages: for the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

impl io::Write for Lines {
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
