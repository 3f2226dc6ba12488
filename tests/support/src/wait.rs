//! Waiting for something that does not tell when it happens.

use std::time::{Duration, Instant};

/// How long something may take that is bound to happen, on a machine with other things to do.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Returns once a condition holds.
///
/// # Panics
/// If it does not hold within two minutes; `what` names it.
pub fn until(what: &str, holds: impl FnMut() -> bool) {
    until_or_explain(what, holds, String::new);
}

/// As [`until`], with an explanation for the case that the condition does not hold in time.
///
/// # Panics
/// As [`until`].
pub fn until_or_explain(what: &str, mut holds: impl FnMut() -> bool, explain: impl FnOnce() -> String) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() >= end {
            panic!("not within {PATIENCE:?}: {what}\n{}", explain());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
