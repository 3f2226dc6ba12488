//! Limits on the cost of reading: memory and time proportional to the input.

use flowgate_base::clock::thread_time;
use std::time::Duration;

use super::allocation;

/// Maximum memory in use at a time: a constant, and bytes for each byte of input.
const ANYHOW: usize = 1 << 20;
const EACH_BYTE: usize = 1024;
/// Factor for the total of all allocations.
const TIMES: usize = 8;
/// Time limit in nanoseconds for a build with coverage instrumentation: a constant, and for each byte of input.
const ANY_TIME: u64 = 500_000_000;
const BYTE_TIME: u64 = 10_000;

/// Calls `read`, which reads this many bytes.
///
/// # Panics
/// If that takes more memory or time than the limits.
pub(crate) fn linear<R>(what: &str, bytes: usize, read: impl FnOnce() -> R) -> R {
    allocation::begin();
    let started = thread_time();
    let result = read();
    let used = thread_time().saturating_sub(started);
    let (at_once, in_all) = allocation::counted();
    let most = ANYHOW + EACH_BYTE * bytes;
    assert!(
        at_once <= most && in_all <= TIMES * most,
        "{what}: {at_once} bytes at a time and {in_all} in all are allocated for {bytes} bytes; {most} and {} may be",
        TIMES * most
    );
    let longest = Duration::from_nanos(ANY_TIME + BYTE_TIME * bytes as u64);
    assert!(used <= longest, "{what}: {used:?} for {bytes} bytes; {longest:?} may be");
    result
}
