//! Updates of one call that change mark bits which the scope depends on.
//!
//! All actions of a call are judged by the entries as they were before the call, each update by itself. Two updates of
//! one flow can each stay within the scope and together leave it; and whether the first one succeeds, the kernel says
//! only afterwards. So a call may move a flow within the scope once.

use std::collections::BTreeSet;

use super::{
    judge::Approval,
    ledger::EntryKey,
    reason::{Reason, Refusal},
};
use crate::scope::{Scope, ScopeView};
use flowgate_model::result;

/// The flows that this call has moved.
#[derive(Debug, Default)]
pub(super) struct MarkChanges(BTreeSet<EntryKey>);

impl MarkChanges {
    /// Records a ruling about an entry.
    ///
    /// # Errors
    /// This call has already moved the entry.
    pub(super) fn note(&mut self, scope: &Scope, ruling: Approval, of: &ScopeView) -> Result<Approval, Refusal> {
        if ruling.moves & scope.mark_bits() == 0 || self.0.insert(EntryKey::of(of)) {
            return Ok(ruling);
        }
        Err(Refusal { result: result::OUTSIDE, errno: 0, reason: Reason::Again })
    }
}
