//! Services of the host, each with its own grant: a log (`--grant log`), a store that outlives the instance (`--grant
//! state` or `state=FILE`), the clock (`--grant time`).
//!
//! In a native build, which exists for unit tests only, they work on memory of the test's thread; see
//! [`native`](mod@native).

use std::fmt::Display;

#[cfg(target_family = "wasm")]
use crate::bindings::services::flowgate::conntrack::{clock, key_value, log as lines};
use crate::level;
#[cfg(not(target_family = "wasm"))]
use native::{clock, key_value, log as lines};

/// Why a value was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key is longer than 256 bytes.
    KeyTooLong,
    /// The value is longer than 65,536 bytes.
    ValueTooLong,
    /// There is no room (by default 1 MiB).
    Full,
}

/// Writes a line to the operator's log. Levels are in [`crate::level`].
pub fn log(level: u8, message: impl Display) {
    lines::log(level, &message.to_string());
}

/// Writes an error to the operator's log.
pub fn error(message: impl Display) {
    log(level::ERROR, message);
}

/// Writes a warning to the operator's log.
pub fn warn(message: impl Display) {
    log(level::WARNING, message);
}

/// Writes an informational line to the operator's log.
pub fn info(message: impl Display) {
    log(level::INFO, message);
}

/// Returns the value of a key.
#[must_use]
pub fn get(key: &[u8]) -> Option<Vec<u8>> {
    key_value::get(key)
}

/// Stores a value, which replaces the previous one.
///
/// # Errors
/// [`Refusal`]; the previous value is kept.
pub fn set(key: &[u8], value: &[u8]) -> Result<(), Refusal> {
    key_value::set(key, value).map_err(|refusal| match refusal {
        1 => Refusal::KeyTooLong,
        2 => Refusal::ValueTooLong,
        _ => Refusal::Full,
    })
}

/// Removes a key; returns true if it existed.
pub fn remove(key: &[u8]) -> bool {
    key_value::remove(key)
}

/// Returns keys that begin with `prefix`, in ascending order.
#[must_use]
pub fn keys(prefix: &[u8]) -> Vec<Vec<u8>> {
    /// Number of keys per call.
    const PART: u32 = 1000;
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        let after = all.last().cloned().unwrap_or_default();
        let part = key_value::keys(prefix, &after, PART);
        let more = part.len() == PART as usize;
        all.extend(part);
        if !more {
            return all;
        }
    }
}

/// Returns the wall clock time in nanoseconds since 1970, rounded down to 10 ms. (The time of a batch is in
/// [`crate::Flows::time`], without any grant.)
#[must_use]
pub fn now() -> u64 {
    clock::now()
}

/// The services in unit tests: lines and values are kept by the test's thread, and the clock stands still until it is
/// set.
#[cfg(not(target_family = "wasm"))]
pub mod native {
    use std::{
        cell::{Cell, RefCell},
        collections::BTreeMap,
    };

    thread_local! {
        static LINES: RefCell<Vec<(u8, String)>> = const { RefCell::new(Vec::new()) };
        static VALUES: RefCell<BTreeMap<Vec<u8>, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
        static TIME: Cell<u64> = const { Cell::new(0) };
    }

    /// Returns level and text of the lines since the last call.
    #[must_use]
    pub fn take_lines() -> Vec<(u8, String)> {
        LINES.take()
    }

    /// Sets the clock: nanoseconds since 1970.
    pub fn set_time(time: u64) {
        TIME.set(time);
    }

    pub(super) mod log {
        pub(crate) fn log(level: u8, message: &str) {
            super::LINES.with_borrow_mut(|lines| lines.push((level, message.to_string())));
        }
    }

    pub(super) mod key_value {
        use super::VALUES;

        pub(crate) fn get(key: &[u8]) -> Option<Vec<u8>> {
            VALUES.with_borrow(|values| values.get(key).cloned())
        }

        pub(crate) fn set(key: &[u8], value: &[u8]) -> Result<(), u8> {
            if key.len() > 256 {
                return Err(1);
            }
            if value.len() > 65_536 {
                return Err(2);
            }
            VALUES.with_borrow_mut(|values| values.insert(key.into(), value.into()));
            Ok(())
        }

        pub(crate) fn remove(key: &[u8]) -> bool {
            VALUES.with_borrow_mut(|values| values.remove(key)).is_some()
        }

        pub(crate) fn keys(prefix: &[u8], after: &[u8], limit: u32) -> Vec<Vec<u8>> {
            VALUES.with_borrow(|values| {
                values
                    .keys()
                    .filter(|key| key.starts_with(prefix) && (after.is_empty() || key.as_slice() > after))
                    .take(limit as usize)
                    .cloned()
                    .collect()
            })
        }
    }

    pub(super) mod clock {
        pub(crate) fn now() -> u64 {
            super::TIME.get() / 10_000_000 * 10_000_000
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natively_the_services_work_on_memory() {
        info("hello");
        assert_eq!(native::take_lines(), [(level::INFO, "hello".to_string())]);
        for number in 0..2500u32 {
            set(&number.to_be_bytes(), b"x").unwrap();
        }
        assert_eq!(keys(&[]).len(), 2500);
        assert_eq!(keys(&[0, 0, 1]).len(), 256);
        assert_eq!(set(&[0; 300], b""), Err(Refusal::KeyTooLong));
        assert!(remove(&0u32.to_be_bytes()) && get(&0u32.to_be_bytes()).is_none());
        native::set_time(1_234_567_890_123);
        assert_eq!(now(), 1_234_560_000_000);
    }
}
