//! A guard: decides about every action that a stage requests before it is sent to the kernel, and receives the results.

use super::{Executor, ExecutorError, Requester, Sent, set_result};
use crate::{
    entries::Entries,
    outcome::{ActionResults, Requests},
};
use flowgate_model::result;
use flowgate_netlink::Request;
use flowgate_runtime::deadline::Watch;

/// The decision about an action.
#[derive(Debug)]
pub enum Judgement {
    /// The request is sent to the kernel.
    Send(Request),
    /// Nothing is sent; the plugin gets this result ([`result`]) and error number.
    Refuse(u8, u32),
}

/// Decides about actions, including whether they are granted.
pub trait Guard<T> {
    /// Returns one judgement for each action, in order. If the time is over before all of them are decided, all are
    /// refused.
    fn review(
        &mut self,
        watch: &mut Watch,
        requester: Requester<'_>,
        batch: &T,
        requests: &Requests<T>,
    ) -> Vec<Judgement>;

    /// Receives the results of the last review's actions: a result and an error number for each.
    fn settled(&mut self, results: &[(u8, u32)]);
}

impl<T: Entries> Executor<T> {
    /// Makes this guard decide about every action of plugins from files, instead of their grants alone.
    #[must_use]
    pub fn watched_by(mut self, guard: Box<dyn Guard<T>>) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Does the work of [`Executor::perform_within`], under a guard.
    pub(super) fn perform_under(
        &mut self,
        watch: &mut Watch,
        guard: &mut dyn Guard<T>,
        requester: Requester<'_>,
        batch: &T,
        requests: &Requests<T>,
    ) -> ActionResults<T> {
        let lists = &requests.actions;
        let mut results = vec![(result::INVALID, 0); lists.kinds.len()];
        let mut sent = Vec::new();
        let mut messages = Vec::new();
        let judgements = guard.review(watch, requester, batch, requests);
        for (index, judgement) in judgements.into_iter().enumerate() {
            match judgement {
                Judgement::Send(message) => {
                    let (kind, row, value) = requests.action(index).unwrap_or_default();
                    sent.push(Sent { index, kind, row, value });
                    messages.push(message);
                    // Actions without an answer from the kernel count as refused.
                    set_result(&mut results, index, result::REFUSED, libc::EIO as u32);
                }
                Judgement::Refuse(result, errno) => {
                    set_result(&mut results, index, result, errno);
                    self.refused += 1;
                }
            }
        }
        self.carry_out(requester, batch, requests, (&sent, &messages), (&mut results, &mut []));
        guard.settled(&results);
        if let Some(ExecutorError::Refused { errno, .. }) = &self.failure {
            // A failed socket of one tenant does not end the run: its actions are refused, and a warning is given.
            let warning = format!("WARNING: actions of plugin {} cannot be sent: error {errno}.", requester.plugin);
            self.failure = None;
            self.batches = None;
            self.warn(&warning);
        }
        ActionResults { results, ..ActionResults::default() }
    }
}
