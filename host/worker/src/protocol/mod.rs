//! What crosses the channels between a worker and its owner.
//!
//! There are two channels. Through the one for **events**, the owner sends what the kernel reports and nothing comes
//! back; its end is the order to finish. Through the one for **calls**, the worker reports, asks and is answered: it
//! never has more than one question open.
//!
//! The worker is not trusted. [`Report::read`] reads what it sends: slices of the record with bounded lengths, and
//! nothing is allocated. What the owner sends is believed.
//!
//! * `report` is what a worker sends, with its `statistics`.
//! * `requests` has the lists of requests in it.

mod report;
mod requests;
mod statistics;

use std::iter;

use flowgate_isolation::{Body, Violation};

pub use report::{Part, Report};
pub use requests::{ActionList, NoRequest, ProposedAction, RequestList};
pub(crate) use requests::{actions, look_up};
pub(crate) use statistics::statistics;

/// Maximum length of a text, in bytes.
pub const TEXT: usize = 4096;
/// Maximum number of bytes of output, of a part of a listing and of messages in a frame: with its header and its other
/// fields it is not longer than a frame may be.
pub const BYTES: usize = 60_000;
/// Maximum number of requests in a frame.
pub const REQUESTS: u16 = 1024;
/// Maximum length of a request, in bytes.
pub const REQUEST: usize = flowgate_netlink::proposal::MAX_LENGTH;
/// Maximum length of the reason why an action cannot be proposed, in bytes.
pub const REASON: usize = 200;
/// Maximum number of lookups in a frame.
pub const LOOKUPS: u16 = 64;
/// Maximum length of a key of a state, in bytes.
pub const KEY: usize = flowgate_runtime::services::state::MAX_KEY;
/// Maximum length of a part of a value of a state, in bytes.
pub const VALUE: usize = 32_768;
/// Maximum number of listings that a worker has open at a time: one of a resync, and one of a look-back.
pub const LISTINGS: u8 = 2;
/// Maximum number of steps of a histogram in a frame.
const STEPS: u16 = 496;

/// Kinds of frames that the owner sends.
pub mod kind {
    /// The worker may begin.
    pub const BEGIN: u16 = 1;
    /// A change of a state since the worker was set up.
    pub const STATE: u16 = 2;
    /// The results of actions.
    pub const RESULTS: u16 = 3;
    /// Entries of a listing, or found entries; more of them follow.
    pub const ENTRIES: u16 = 4;
    /// There are no more of them.
    pub const END: u16 = 5;
    /// The question cannot be answered: an error number.
    pub const FAILED: u16 = 6;
    /// The number of a barrier.
    pub const BARRIER: u16 = 7;
    /// Events.
    pub const EVENTS: u16 = 16;
    /// Events were lost.
    pub const GAP: u16 = 17;
}

/// Kinds of frames that a worker sends.
mod reports {
    pub(super) const READY: u16 = 32;
    pub(super) const PROBLEM: u16 = 33;
    pub(super) const WARNING: u16 = 34;
    pub(super) const LOG: u16 = 35;
    pub(super) const STATE: u16 = 36;
    pub(super) const OUTPUT: u16 = 37;
    pub(super) const ACTIONS: u16 = 38;
    pub(super) const LIST: u16 = 39;
    pub(super) const NEXT: u16 = 40;
    pub(super) const LOOK_UP: u16 = 41;
    pub(super) const BARRIER: u16 = 42;
    pub(super) const DONE: u16 = 43;
    pub(super) const STATISTICS: u16 = 44;
    pub(super) const FAILED: u16 = 45;
    pub(super) const FINISHED: u16 = 46;
    pub(super) const CONFINED: u16 = 47;
}

/// Reads a number of items.
fn counted(body: &mut Body<'_>, most: u16) -> Result<u16, Violation> {
    let count = body.u16()?;
    if count > most { Err(Violation::Value(count.into())) } else { Ok(count) }
}

/// Returns the parts in which the value of a state crosses, each with true if another one follows. An empty value has
/// one.
pub fn parts(value: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let mut left = Some(value);
    iter::from_fn(move || {
        let (part, rest) = left?.split_at_checked(VALUE).unwrap_or((left?, &[]));
        left = Some(rest).filter(|rest| !rest.is_empty());
        Some((part, left.is_some()))
    })
}

/// Divides items into those that a frame has room for, of which there is at least one, and the rest: at most this many,
/// and [`BYTES`] by their lengths.
pub(crate) fn split_at_frame<T>(items: &[T], most: u16, length: impl Fn(&T) -> usize) -> (&[T], &[T]) {
    let mut total = 0;
    let fits = |item: &&T| {
        total += length(item);
        total <= BYTES
    };
    let count = items.iter().take(most.into()).take_while(fits).count().max(1);
    items.split_at(count.min(items.len()))
}

#[cfg(test)]
mod tests;
