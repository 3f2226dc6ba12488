//! Encodes actions as requests to the kernel. If there are many, another thread encodes the next ones while the kernel
//! processes the previous ones.

use std::{ops::Range, sync::mpsc::sync_channel, thread};

use crate::{entries::Entries, outcome::Requests};
use flowgate_model::action;
use flowgate_netlink::{Request, encode::EncodeError};

/// Minimum number of actions for which a thread pays off: files of `-R`, but no batch of a listing.
const MIN_AHEAD: usize = 2048;
/// Number of actions that are encoded at a time: some 0.3 ms of work, and twice as much for the kernel.
const PART: usize = 512;
/// Number of actions in the first part, for which the kernel waits.
const FIRST_PART: usize = 64;

/// The requests for some actions; errors for those that cannot be encoded.
type EncodedRequests = Vec<Result<Request, EncodeError>>;

/// Returns the kind of request with which an action is tried first: creation, where existing entries must be
/// distinguished.
pub(super) fn first_try(kind: u8, exclusive: bool) -> u8 {
    if exclusive && kind == action::CREATE_OR_UPDATE { action::CREATE } else { kind }
}

/// Calls `perform` with the indices of actions and their requests, in order and part by part, until it returns `false`.
/// Unless requests are encoded `ahead`, there are none, and a part has at most `at_once` actions. `exclusive` as in
/// [`first_try`].
pub(super) fn encode<T: Entries>(
    batch: &T,
    requests: &Requests<T>,
    (ahead, at_once, exclusive): (bool, usize, bool),
    mut perform: impl FnMut(Range<usize>, EncodedRequests) -> bool,
) {
    let count = requests.actions.kinds.len();
    if !ahead || count < MIN_AHEAD {
        let mut start = 0;
        while start < count {
            let end = count.min(start.saturating_add(at_once));
            if !perform(start..end, EncodedRequests::new()) {
                return;
            }
            start = end;
        }
        return;
    }
    let one = |index: usize| {
        let (kind, row, value) = requests.action(index).unwrap_or_default();
        T::request(
            first_try(kind, exclusive),
            row.map(|row| (batch, row)),
            value.map(|value| (&requests.values, value)),
        )
    };
    thread::scope(|scope| {
        let (give, take) = sync_channel(2);
        let work = move || {
            let mut end = 0;
            while end < count {
                let numbers = end..count.min(end + if end == 0 { FIRST_PART } else { PART });
                end = numbers.end;
                let encoded: EncodedRequests = numbers.clone().map(one).collect();
                if give.send((numbers, encoded)).is_err() {
                    return;
                }
            }
        };
        let mut done = 0;
        if thread::Builder::new().spawn_scoped(scope, work).is_ok() {
            for (numbers, encoded) in &take {
                done = numbers.end;
                if !perform(numbers, encoded) {
                    return;
                }
            }
        }
        // Without another thread, or if it ended early, this one encodes the rest.
        if done < count {
            perform(done..count, EncodedRequests::new());
        }
    });
}
