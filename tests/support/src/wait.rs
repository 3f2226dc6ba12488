//! Waiting for something that does not tell when it happens.

use std::time::{Duration, Instant};

/// How long something may take that is bound to happen, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns once a condition holds.
///
/// # Panics
/// If it does not hold within a minute; `what` names it.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
