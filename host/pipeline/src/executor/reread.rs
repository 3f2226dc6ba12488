//! Reads entries again after actions on them.

use super::{Executor, ExecutorError};
use crate::{entries::Entries, outcome::ActionResults};
use flowgate_netlink::{
    RequestResult,
    decode::Arrival,
    message::{Content, Message},
};

impl<T: Entries> Executor<T> {
    /// Reads the kept rows again.
    pub(super) fn reread(&mut self, batch: &T, mut keep: Vec<u8>) -> ActionResults<T> {
        let mut rows = Vec::new();
        let mut messages = Vec::new();
        for (row, keep) in keep.iter_mut().enumerate().filter(|(_, keep)| **keep != 0) {
            match batch.lookup(row) {
                Ok(message) => {
                    rows.push(row);
                    messages.push(message);
                }
                Err(_) => *keep = 0,
            }
        }
        let mut table = T::default();
        let mut kernel_results = Vec::with_capacity(messages.len());
        let decoder = &mut self.decoder;
        let mut answer = |_: usize, message: &Message<'_>| {
            if matches!(message.content(), Content::Netfilter(_)) {
                // A message that cannot be decoded is missing from the table, like an entry that no longer exists.
                let _ = table.push(decoder, message, Arrival::Entry);
            }
        };
        if let (Some(batches), false) = (&mut self.batches, messages.is_empty())
            && let Err(error) = batches.exchange(&messages, &mut kernel_results, &mut answer)
        {
            self.fail(ExecutorError::Refused { errno: error.errno(), text: None });
        }
        for (index, row) in rows.into_iter().enumerate() {
            let done = match kernel_results.get(index) {
                Some(RequestResult::Done) => true,
                Some(RequestResult::Refused { errno: libc::ENOENT, .. }) => false,
                Some(RequestResult::Refused { errno, text }) => {
                    self.fail(ExecutorError::Refused { errno: *errno, text: text.clone() });
                    false
                }
                Some(RequestResult::Unknown) | None => false,
            };
            if let (false, Some(keep)) = (done, keep.get_mut(row)) {
                *keep = 0;
            }
        }
        ActionResults { keep: Some(keep), replacement: Some(table), results: Vec::new() }
    }
}
