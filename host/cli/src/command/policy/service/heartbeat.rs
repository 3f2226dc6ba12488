//! Liveness of a thread that waits for events most of the time: a mark is put into its stream, and the thread must read
//! it.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// The liveness of a thread.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    /// Number of actions of the thread.
    beats: AtomicU64,
    /// Value of `beats` when the last mark was sent; `None` if no mark could be sent.
    asked: Mutex<Option<u64>>,
    /// Number of the last mark.
    mark: AtomicU32,
}

impl Heartbeat {
    /// Records an action of the thread.
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Release);
    }

    /// True if a mark in the stream was sent by [`Heartbeat::is_alive`]; all others ignore such marks.
    pub(super) fn is_own(&self, mark: u32) -> bool {
        self.mark.load(Ordering::Acquire) == mark
    }

    /// True if the thread has acted since the last mark was sent, or if none was sent. In that case a new mark is sent:
    /// `ask` puts a mark into the stream and returns its number, or `None` if it cannot.
    pub(super) fn is_alive(&self, ask: impl FnOnce() -> Option<u32>) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let beats = self.beats.load(Ordering::Acquire);
        if *asked == Some(beats) {
            return false;
        }
        *asked = ask().map(|mark| {
            self.mark.store(mark, Ordering::Release);
            beats
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_not_answer_is_not_asked_again_until_he_does() {
        let heartbeat = Heartbeat::default();
        assert!(heartbeat.is_alive(|| Some(7)), "it has not been asked before");
        assert!(heartbeat.is_own(7) && !heartbeat.is_own(8));
        for _ in 0..3 {
            assert!(!heartbeat.is_alive(|| panic!("it has been asked already")));
        }
        heartbeat.beat();
        assert!(heartbeat.is_alive(|| Some(9)) && !heartbeat.is_alive(|| None));
        heartbeat.beat();
        assert!(heartbeat.is_alive(|| None), "it cannot be asked");
        assert!(heartbeat.is_alive(|| None), "and so nothing is known against it");
    }
}
