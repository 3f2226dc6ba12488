//! Waiting for conditions that can only be polled.

use std::time::{Duration, Instant};

/// Time limit for a condition that will hold, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Returns once a condition holds.
///
/// # Panics
/// If it does not hold within two minutes; `what` names it.
pub fn until(what: &str, holds: impl FnMut() -> bool) {
    until_or_explain(what, holds, String::new);
}

/// The same as [`until`], with an explanation for the case that the condition does not hold in time.
///
/// # Panics
/// The same as for [`until`].
pub fn until_or_explain(what: &str, holds: impl FnMut() -> bool, explain: impl FnOnce() -> String) {
    until_within(PATIENCE, what, holds, explain);
}

/// The same as [`until_or_explain`] with another time limit, for what takes very many steps.
///
/// # Panics
/// If it does not hold within this time.
pub fn until_within(time: Duration, what: &str, mut holds: impl FnMut() -> bool, explain: impl FnOnce() -> String) {
    let end = Instant::now() + time;
    while !holds() {
        if Instant::now() >= end {
            panic!("not within {time:?}: {what}\n{}", explain());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
