//! What the kernel can be asked for: the selection, and what the query implies.

use std::borrow::Cow;

use flowgate_model::{Direction, Selection};

use super::Spec;

impl Spec {
    /// Returns a selection that all flows satisfy which satisfy the selection and the query: what the kernel's filter
    /// is made of.
    #[must_use]
    pub fn kernel_selection(&self) -> Cow<'_, Selection> {
        match &self.query {
            Some(query) => Cow::Owned(narrowed(&self.selection, &query.implied)),
            None => Cow::Borrowed(&self.selection),
        }
    }
}

/// Returns the conditions of both. Where both have one on the same field, that of the first stands: it suffices for a
/// superset.
fn narrowed(first: &Selection, second: &Selection) -> Selection {
    let direction = |first: &Direction, second: &Direction| Direction {
        source: first.source.or(second.source),
        destination: first.destination.or(second.destination),
        source_l4: first.source_l4.or(second.source_l4),
        destination_l4: first.destination_l4.or(second.destination_l4),
        zone: first.zone.or(second.zone),
    };
    Selection {
        family: first.family.or(second.family),
        protocol: first.protocol.or(second.protocol),
        original: direction(&first.original, &second.original),
        reply: direction(&first.reply, &second.reply),
        status: first.status.or(second.status),
        mark: first.mark.or(second.mark),
        zone: first.zone.or(second.zone),
        ..first.clone()
    }
}
