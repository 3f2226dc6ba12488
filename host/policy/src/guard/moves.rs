//! Updates of one call that change those bits of marks that the scope looks at.
//!
//! All actions of a call are judged by the entries as they were before it, so each update is allowed or not by itself. Two
//! updates of one flow can be within the scope each, and lead out of it one after the other; and whether the first one will have
//! been done, the kernel says only afterwards. So a call can move a flow within the scope once.

use std::collections::BTreeSet;

use super::{
    judge::Ruling,
    ledger::Name,
    reason::{Reason, Refusal},
};
use crate::scope::{Scope, Sight};
use flowgate_model::result;

/// Flows that this call has moved.
#[derive(Debug, Default)]
pub(super) struct Moves(BTreeSet<Name>);

impl Moves {
    /// Notes a ruling about an entry.
    ///
    /// # Errors
    /// The entry was moved by this call already.
    pub(super) fn note(&mut self, scope: &Scope, ruling: Ruling, of: &Sight) -> Result<Ruling, Refusal> {
        if ruling.moves & scope.mark_bits() == 0 || self.0.insert(Name::of(of)) {
            return Ok(ruling);
        }
        Err(Refusal { result: result::OUTSIDE, errno: 0, reason: Reason::Again })
    }
}
