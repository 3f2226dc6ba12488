//! Entries that cannot be made as they are asked for: one that exists is given what can be changed of it, and one is made without
//! what the kernel does not have. What is left out of either is noted.

use super::{Actionable, Asker, Executor, ExecutorError, Requests, Sent, put};
use flowgate_model::result;
use flowgate_netlink::{Fate, Request, message::Content};

/// A request that asks for less.
#[derive(Debug)]
pub struct Reduced {
    /// The request; none if nothing is left to ask for.
    pub request: Option<Request>,
    /// What it leaves out, and why, in words; empty if all that was asked for is so already.
    pub kept: Vec<String>,
}

impl<T: Actionable> Executor<T> {
    /// Where the command asks for entries to be made or changed, one that exists is given what can be changed of it, and one is
    /// made without a helper that the kernel does not know. What is left out is noted. `orphans`: one is also made without the
    /// flow that it was expected by, if that is not there.
    #[must_use]
    pub fn merging(mut self, orphans: bool) -> Self {
        (self.merging, self.orphans) = (true, orphans);
        self
    }

    /// Rows of which something was left out since the last time, and what.
    pub fn take_kept(&mut self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.kept)
    }

    /// How many of the actions that were done changed an entry that existed, where those that make one are told apart.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// Deals with entries that could not be made.
    pub(super) fn reduce(
        &mut self,
        asker: Asker<'_>,
        batch: &T,
        requests: &Requests<T>,
        refused: Vec<(&Sent, Fate)>,
        (results, keep): (&mut [(u8, u32)], &mut [u8]),
    ) {
        let mut asked = Vec::new();
        let mut others = Vec::new();
        for (one, fate) in refused {
            match (&fate, one.row.map(|row| (row, T::reread(batch, row)))) {
                (Fate::Refused { errno: libc::EEXIST, .. }, Some((row, Ok(request)))) => {
                    asked.push((one, fate, row, request));
                }
                _ => others.push((one, fate)),
            }
        }
        let found = self.look_up(&asked.iter().map(|(.., request)| request.clone()).collect::<Vec<_>>());
        let mut reduced = Vec::new();
        for ((one, fate, row, _), found) in asked.into_iter().zip(found) {
            match found.and_then(|found| T::merge(batch, row, &found)) {
                Some(merged) => reduced.push((one, row, merged, true)),
                // What is in its way is another one, with the same reply.
                None => others.push((one, fate)),
            }
        }
        for (one, fate) in std::mem::take(&mut others) {
            let errno = if let Fate::Refused { errno, .. } = &fate { *errno } else { 0 };
            match one.row.and_then(|row| Some((row, T::without(batch, row, errno, self.orphans)?))) {
                Some((row, less)) => reduced.push((one, row, less, false)),
                None => others.push((one, fate)),
            }
        }
        let messages: Vec<Request> = reduced.iter().filter_map(|(.., reduced, _)| reduced.request.clone()).collect();
        let mut fates = self.submit(&messages).into_iter();
        for (one, row, Reduced { request, mut kept }, existed) in reduced {
            let mut fate = match request {
                None => Fate::Done,
                Some(_) => fates.next().unwrap_or(Fate::Unknown),
            };
            let errno = if let Fate::Refused { errno, .. } = &fate { *errno } else { 0 };
            if let (true, Some(text)) = (existed, T::left_out(batch, row, errno)) {
                // The kernel did all the rest before it came to this.
                kept.push(text);
                fate = Fate::Done;
            }
            let done = fate == Fate::Done;
            self.enter(asker, requests, one, fate, (&mut *results, &mut *keep));
            if done {
                self.changed += u64::from(existed);
                if !kept.is_empty() {
                    self.kept.push((row, kept.join("; ")));
                }
            }
        }
        for (one, fate) in others {
            self.enter(asker, requests, one, fate, (&mut *results, &mut *keep));
        }
    }

    /// Enters what became of an action.
    pub(super) fn enter(
        &mut self,
        asker: Asker<'_>,
        requests: &Requests<T>,
        one: &Sent,
        fate: Fate,
        (results, keep): (&mut [(u8, u32)], &mut [u8]),
    ) {
        let values = one.value.map(|value| (&requests.values, value));
        let (result, errno) = self.settle(asker, one, values, fate);
        put(results, one.index, result, errno);
        if let (result::DONE, Some(keep)) = (result, one.row.and_then(|row| keep.get_mut(row))) {
            *keep = 1;
        }
    }

    /// The entries that these requests are about, as the kernel has them; none for one that it does not have.
    fn look_up(&mut self, requests: &[Request]) -> Vec<Option<T>> {
        let mut found: Vec<Option<T>> = requests.iter().map(|_| None).collect();
        let mut fates = Vec::new();
        let Some(batches) = self.batches.as_mut().filter(|_| !requests.is_empty()) else { return found };
        let result = batches.exchange(requests, &mut fates, &mut |number, message| {
            if let (Content::Netfilter(_), Some(place)) = (message.content(), found.get_mut(number)) {
                *place = T::whole(message);
            }
        });
        if let Err(error) = result {
            self.fail(ExecutorError::Refused { errno: error.errno(), text: None });
        }
        found
    }
}
