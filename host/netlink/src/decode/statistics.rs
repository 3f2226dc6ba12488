//! Decoding of statistics: the counters of a CPU or of the table.

use super::attribute::{Attributes, DecodeError, be32, be64};
use crate::message::{Message, MessageKind};
use flowgate_model::{Counts, statistics};

/// Appends the counters of one message to a table, as its next row. The CPU number is the message's `res_id`; the
/// table's subject follows from the message's type.
///
/// Attributes that are neither 32 nor 64 bits long are no counters and are ignored.
///
/// # Errors
/// The message is malformed; the table is unchanged.
pub fn push_counts(counts: &mut Counts, message: &Message<'_>) -> Result<(), DecodeError> {
    let Some(body) = message.netfilter() else {
        return Err(DecodeError::Header { length: message.body.len() });
    };
    counts.subject = match message.kind() {
        MessageKind::ExpectationStatistics => statistics::EXPECTATION_CPU,
        MessageKind::GlobalStatistics => statistics::GLOBAL,
        _ => statistics::CPU,
    };
    let row = if counts.subject == statistics::GLOBAL {
        counts.rows.last().map_or(0, |row| row.saturating_add(1))
    } else {
        u32::try_from(counts.cpus.len()).map_err(|_| DecodeError::Full)?
    };
    let before = counts.rows.len();
    let mut walk = Attributes::new(body.attributes);
    while let Some((kind, value)) = walk.next() {
        if let Some(value) = be32(value).map(u64::from).or_else(|| be64(value)) {
            counts.rows.push(row);
            counts.attributes.push(kind);
            counts.values.push(value);
        }
    }
    if let Err(error) = walk.finish(0) {
        counts.rows.truncate(before);
        counts.attributes.truncate(before);
        counts.values.truncate(before);
        return Err(error);
    }
    if counts.subject != statistics::GLOBAL {
        counts.cpus.push(u32::from(body.resource));
    }
    Ok(())
}
