//! The clock on the wall.

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall clock, nanoseconds since 1970.
#[must_use]
#[inline]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
