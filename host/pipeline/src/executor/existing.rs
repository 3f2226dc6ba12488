//! Entries that cannot be created as requested. If the entry exists, it gets the values that can still be changed;
//! otherwise it is created without what the kernel does not have. Omitted values are recorded.

use super::{Executor, ExecutorError, Requester, Sent, set_result};
use crate::{entries::Entries, outcome::Requests};
use flowgate_model::result;
use flowgate_netlink::{Request, RequestResult, message::Content};

impl<T: Entries> Executor<T> {
    /// Merges the command's creations and updates: an entry that exists gets the values that can still be changed, and
    /// an entry is created without a helper that the kernel does not know. Omitted values are recorded. `orphans`: an
    /// entry is also created without its master, if that does not exist.
    #[must_use]
    pub fn merging(mut self, orphans: bool) -> Self {
        (self.merging, self.orphans) = (true, orphans);
        self
    }

    /// Returns the rows of which values were omitted since the last call, with these values.
    pub fn take_kept(&mut self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.kept)
    }

    /// Returns the number of performed actions that changed an existing entry, if creations are merged.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// Handles entries that could not be created.
    pub(super) fn reduce(
        &mut self,
        requester: Requester<'_>,
        batch: &T,
        requests: &Requests<T>,
        refused: Vec<(&Sent, RequestResult)>,
        (results, keep): (&mut [(u8, u32)], &mut [u8]),
    ) {
        let mut asked = Vec::new();
        let mut others = Vec::new();
        for (one, kernel_result) in refused {
            match (&kernel_result, one.row.map(|row| (row, batch.lookup(row)))) {
                (RequestResult::Refused { errno: libc::EEXIST, .. }, Some((row, Ok(request)))) => {
                    asked.push((one, kernel_result, row, request));
                }
                _ => others.push((one, kernel_result)),
            }
        }
        let found = self.look_up(&asked.iter().map(|(.., request)| request.clone()).collect::<Vec<_>>());
        let mut reduced = Vec::new();
        for ((one, kernel_result, row, _), found) in asked.into_iter().zip(found) {
            match found.and_then(|found| batch.merge(row, &found)) {
                Some(merged) => reduced.push((one, row, merged, true)),
                // The conflicting entry is another one, with the same reply tuple.
                None => others.push((one, kernel_result)),
            }
        }
        for (one, kernel_result) in std::mem::take(&mut others) {
            let errno = if let RequestResult::Refused { errno, .. } = &kernel_result { *errno } else { 0 };
            match one.row.and_then(|row| Some((row, batch.without(row, errno, self.orphans)?))) {
                Some((row, less)) => reduced.push((one, row, less, false)),
                None => others.push((one, kernel_result)),
            }
        }
        let messages: Vec<Request> = reduced.iter().filter_map(|(.., reduced, _)| reduced.request.clone()).collect();
        let mut kernel_results = self.submit(&messages).into_iter();
        for (one, row, crate::merge::Reduced { request, mut kept }, existed) in reduced {
            let mut kernel_result = match request {
                None => RequestResult::Done,
                Some(_) => kernel_results.next().unwrap_or(RequestResult::Unknown),
            };
            let errno = if let RequestResult::Refused { errno, .. } = &kernel_result { *errno } else { 0 };
            if let (true, Some(text)) = (existed, batch.left_out(row, errno)) {
                // The kernel set all other values before this one failed.
                kept.push(text);
                kernel_result = RequestResult::Done;
            }
            let done = kernel_result == RequestResult::Done;
            self.enter(requester, requests, one, kernel_result, (&mut *results, &mut *keep));
            if done {
                self.changed += u64::from(existed);
                if !kept.is_empty() {
                    self.kept.push((row, kept.join("; ")));
                }
            }
        }
        for (one, kernel_result) in others {
            self.enter(requester, requests, one, kernel_result, (&mut *results, &mut *keep));
        }
    }

    /// Records the result of an action.
    pub(super) fn enter(
        &mut self,
        requester: Requester<'_>,
        requests: &Requests<T>,
        one: &Sent,
        kernel_result: RequestResult,
        (results, keep): (&mut [(u8, u32)], &mut [u8]),
    ) {
        let values = one.value.map(|value| (&requests.values, value));
        let (result, errno) = self.settle(requester, one, values, kernel_result);
        set_result(results, one.index, result, errno);
        if let (result::DONE, Some(keep)) = (result, one.row.and_then(|row| keep.get_mut(row))) {
            *keep = 1;
        }
    }

    /// Returns the kernel's entry for each of these requests; `None` for one that does not exist.
    fn look_up(&mut self, requests: &[Request]) -> Vec<Option<T>> {
        let mut found: Vec<Option<T>> = requests.iter().map(|_| None).collect();
        let mut kernel_results = Vec::new();
        let Some(batches) = self.batches.as_mut().filter(|_| !requests.is_empty()) else { return found };
        let result = batches.exchange(requests, &mut kernel_results, &mut |number, message| {
            if let (Content::Netfilter(_), Some(place)) = (message.content(), found.get_mut(number)) {
                *place = T::decode_whole(message);
            }
        });
        if let Err(error) = result {
            self.fail(ExecutorError::Refused { errno: error.errno(), text: None });
        }
        found
    }
}
