//! A guard: looks at every action that a stage asks for before the kernel is asked, and hears what became of it.

use super::{Asker, Executor, ExecutorError, Sent, put, words};
use crate::{
    entries::Entries,
    outcome::{ActionResults, Requests},
};
use flowgate_model::result;
use flowgate_netlink::Request;
use flowgate_runtime::deadline::Watch;

/// What a guard says of an action.
#[derive(Debug)]
pub enum Judgement {
    /// This is what the kernel is to be asked for.
    Send(Request),
    /// Nothing is asked; the plugin is told this result ([`result`]) and error number.
    Refuse(u8, u32),
}

/// Decides about actions, grants included.
pub trait Guard<T> {
    /// One judgement for each action, in their order. If the time is over before it has decided about all of them, it refuses all.
    fn review(&mut self, watch: &mut Watch, asker: Asker<'_>, batch: &T, requests: &Requests<T>) -> Vec<Judgement>;

    /// What became of the actions of the last review: a result and an error number for each.
    fn settled(&mut self, results: &[(u8, u32)]);
}

impl<T: Entries> Executor<T> {
    /// Every action of a plugin of the user is decided about by this guard, instead of by its grants alone.
    #[must_use]
    pub fn watched_by(mut self, guard: Box<dyn Guard<T>>) -> Self {
        self.guard = Some(guard);
        self
    }

    /// As [`Executor::perform_within`], under a guard.
    pub(super) fn perform_under(
        &mut self,
        watch: &mut Watch,
        guard: &mut dyn Guard<T>,
        asker: Asker<'_>,
        batch: &T,
        requests: &Requests<T>,
    ) -> ActionResults<T> {
        let lists = &requests.actions;
        let mut results = vec![(result::INVALID, 0); lists.kinds.len()];
        let mut sent = Vec::new();
        let mut messages = Vec::new();
        let judgements = guard.review(watch, asker, batch, requests);
        for (index, judgement) in judgements.into_iter().enumerate() {
            match judgement {
                Judgement::Send(message) => {
                    let (kind, row, value) = words::action(lists, index).unwrap_or_default();
                    sent.push(Sent { index, kind, row, value });
                    messages.push(message);
                    // Whatever the kernel has no answer to counts as refused.
                    put(&mut results, index, result::REFUSED, libc::EIO as u32);
                }
                Judgement::Refuse(result, errno) => {
                    put(&mut results, index, result, errno);
                    self.refused += 1;
                }
            }
        }
        self.carry_out(asker, batch, requests, (&sent, &messages), (&mut results, &mut []));
        guard.settled(&results);
        if let Some(ExecutorError::Refused { errno, .. }) = &self.failure {
            // One tenant's socket is no reason to end anything: its actions were refused, and it is told.
            let warning = format!("WARNING: actions of plugin {} cannot be sent: error {errno}.", asker.plugin);
            self.failure = None;
            self.batches = None;
            self.warn(&warning);
        }
        ActionResults { results, ..ActionResults::default() }
    }
}
