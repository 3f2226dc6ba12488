//! A delegate: performs the actions of plugins from files elsewhere, in place of the kernel's sockets of this process.

use super::{Executor, Requester};
use crate::{entries::Entries, outcome::Requests};
use flowgate_runtime::deadline::Watch;

/// Performs actions in another process, which decides about them.
pub trait Delegate<T> {
    /// Performs the actions that a stage requests. Returns a result ([`flowgate_model::result`]) and an error number
    /// for each, in order; missing ones count as refused.
    fn perform(
        &mut self,
        watch: &mut Watch,
        requester: Requester<'_>,
        batch: &T,
        requests: &Requests<T>,
    ) -> Vec<(u8, u32)>;
}

impl<T: Entries> Executor<T> {
    /// Has a delegate perform every action of plugins from files.
    #[must_use]
    pub fn delegating(mut self, delegate: Box<dyn Delegate<T>>) -> Self {
        self.delegate = Some(delegate);
        self
    }
}
