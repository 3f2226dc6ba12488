//! Whether a thread that waits for events most of the time is still there: something is put into its stream, and it must come out.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// The pulse of a thread.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Grows with everything that the thread has done.
    beats: AtomicU64,
    /// What it was when the thread was asked last; none if it could not be asked.
    asked: Mutex<Option<u64>>,
    /// The number of the mark that it was asked by.
    mark: AtomicU32,
}

impl Pulse {
    /// The thread has done something.
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Release);
    }

    /// Whether a mark in the stream is of here, and of no interest to anybody else.
    pub(super) fn is_own(&self, mark: u32) -> bool {
        self.mark.load(Ordering::Acquire) == mark
    }

    /// Whether the thread has done anything since it was asked last. If so, or if that never was, it is asked anew: `ask` puts a mark
    /// into its stream, and returns its number, or none if it cannot.
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
        let pulse = Pulse::default();
        assert!(pulse.is_alive(|| Some(7)), "it has not been asked before");
        assert!(pulse.is_own(7) && !pulse.is_own(8));
        for _ in 0..3 {
            assert!(!pulse.is_alive(|| panic!("it has been asked already")));
        }
        pulse.beat();
        assert!(pulse.is_alive(|| Some(9)) && !pulse.is_alive(|| None));
        pulse.beat();
        assert!(pulse.is_alive(|| None), "it cannot be asked");
        assert!(pulse.is_alive(|| None), "and so nothing is known against it");
    }
}
