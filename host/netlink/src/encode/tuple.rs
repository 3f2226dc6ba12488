//! The directions of a flow to be encoded.

use super::FlowEntry;
use crate::tuple::TupleFields;
use flowgate_model::{at, field};

impl TupleFields {
    /// Returns the original direction of a flow.
    pub(crate) fn original(entry: &FlowEntry<'_>) -> Self {
        let flows = entry.flows;
        let zone = flows.zones.as_ref().map_or(0, |zones| at(&zones.original, entry.row));
        Self::new(&flows.original, entry.row, entry.family, at(&flows.protocol, entry.row), zone, entry.has)
    }

    /// Returns the reply direction of a flow.
    pub(crate) fn reply(entry: &FlowEntry<'_>) -> Self {
        let flows = entry.flows;
        let zone = flows.zones.as_ref().map_or(0, |zones| at(&zones.reply, entry.row));
        let has = [
            (field::REPLY_SOURCE, field::SOURCE),
            (field::REPLY_DESTINATION, field::DESTINATION),
            (field::REPLY_PROTOCOL, field::PROTOCOL),
            (field::REPLY_SOURCE_L4, field::SOURCE_L4),
            (field::REPLY_DESTINATION_L4, field::DESTINATION_L4),
            (field::REPLY_ZONE, field::ORIGINAL_ZONE),
        ]
        .iter()
        .filter(|(reply, _)| entry.has(*reply))
        .fold(0, |has, (_, original)| has | original);
        Self::new(&flows.reply, entry.row, entry.family, at(&flows.protocol, entry.row), zone, has)
    }
}
