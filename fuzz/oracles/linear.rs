//! What reading may cost: memory and time in proportion to what is read.

use flowgate_base::clock::thread_time;
use std::time::Duration;

use super::allocation;

/// What is allocated in any case, and for each byte that is read, at a time.
const ANYHOW: usize = 1 << 20;
const EACH_BYTE: usize = 1024;
/// How often as much may be allocated in all, one after the other.
const TIMES: usize = 8;
/// The same in time: nanoseconds of a build that counts coverage.
const ANY_TIME: u64 = 500_000_000;
const BYTE_TIME: u64 = 10_000;

/// Reads so many bytes.
///
/// # Panics
/// If that takes more memory or time than in proportion to them.
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
