//! The list of columns of a batch of flows. Every operation on a whole batch uses it, so that no operation can miss a
//! column.

use crate::{SparseTexts, Texts, field};

/// Expands `$visit!(FIELD BITS, column path)` for every dense column outside the optional groups.
macro_rules! with_dense {
    ($visit:ident) => {
        $visit!(field::SOURCE, original.source.hi);
        $visit!(field::SOURCE, original.source.lo);
        $visit!(field::DESTINATION, original.destination.hi);
        $visit!(field::DESTINATION, original.destination.lo);
        $visit!(field::SOURCE_L4, original.source_l4);
        $visit!(field::DESTINATION_L4, original.destination_l4);
        $visit!(field::REPLY_SOURCE, reply.source.hi);
        $visit!(field::REPLY_SOURCE, reply.source.lo);
        $visit!(field::REPLY_DESTINATION, reply.destination.hi);
        $visit!(field::REPLY_DESTINATION, reply.destination.lo);
        $visit!(field::REPLY_SOURCE_L4, reply.source_l4);
        $visit!(field::REPLY_DESTINATION_L4, reply.destination_l4);
        $visit!(field::PROTOCOL | field::REPLY_PROTOCOL, protocol);
        $visit!(field::STATUS, status);
        $visit!(field::TIMEOUT, timeout);
        $visit!(field::MARK, mark);
        $visit!(field::USE, use_count);
        $visit!(field::ID, id);
        $visit!(field::STATE, state);
    };
}

/// Expands `$visit!(FIELD BITS, group, column)` for every dense column of the optional groups.
macro_rules! with_grouped {
    ($visit:ident) => {
        $visit!(field::ZONE, zones, zone);
        $visit!(field::ORIGINAL_ZONE, zones, original);
        $visit!(field::REPLY_ZONE, zones, reply);
        $visit!(field::ORIGINAL_COUNTERS, counters, original_packets);
        $visit!(field::ORIGINAL_COUNTERS, counters, original_bytes);
        $visit!(field::REPLY_COUNTERS, counters, reply_packets);
        $visit!(field::REPLY_COUNTERS, counters, reply_bytes);
        $visit!(field::START, times, start);
        $visit!(field::STOP, times, stop);
        $visit!(field::ORIGINAL_WINDOW_SCALE, tcp, original_window_scale);
        $visit!(field::REPLY_WINDOW_SCALE, tcp, reply_window_scale);
        $visit!(field::ORIGINAL_TCP_FLAGS, tcp, original_flags);
        $visit!(field::REPLY_TCP_FLAGS, tcp, reply_flags);
        $visit!(field::ORIGINAL_VTAG, sctp, original_vtag);
        $visit!(field::REPLY_VTAG, sctp, reply_vtag);
        $visit!(field::EVENT_TIME, events, time);
        $visit!(field::PORT_ID, events, port_id);
        $visit!(field::NAMESPACE, events, namespace_id);
        $visit!(field::SECMARK, rare, secmark);
        $visit!(field::MARK_MASK, rare, mark_mask);
    };
}

/// Expands `$visit!(FIELD, group, column)` for the sparse columns of byte strings.
macro_rules! with_texts {
    ($visit:ident) => {
        $visit!(field::HELPER, rare, helper);
        $visit!(field::HELPER_INFO, rare, helper_info);
        $visit!(field::LABELS, rare, labels);
        $visit!(field::LABELS_MASK, rare, labels_mask);
        $visit!(field::SECURITY_CONTEXT, rare, security_context);
        $visit!(field::PROGRAM, events, program);
        $visit!(field::NAMESPACE_NAME, events, namespace_name);
    };
}

/// Expands `$visit!(group, maximum items of a row, column path...)` for the sparse groups of `rare`, whose columns are
/// as long as their list of rows.
macro_rules! with_sparse {
    ($visit:ident) => {
        $visit!(
            master,
            1,
            protocol,
            zone,
            tuple.source.hi,
            tuple.source.lo,
            tuple.destination.hi,
            tuple.destination.lo,
            tuple.source_l4,
            tuple.destination_l4
        );
        $visit!(sequence, 2, reply, position, before, after);
        $visit!(synproxy, 1, isn, its, tsoff);
        $visit!(dccp, 1, role, handshake);
        $visit!(nat, 2, destination, first.hi, first.lo, last.hi, last.lo, first_port, last_port);
    };
}

pub(super) use {with_dense, with_grouped, with_sparse, with_texts};

/// Fields of each optional group. A group is passed as a whole; `has` defines which of its fields a plugin may read.
pub(super) const ZONES: u64 = field::ZONES;
pub(super) const COUNTERS: u64 = field::COUNTERS;
pub(super) const TIMES: u64 = field::START | field::STOP;
pub(super) const TCP: u64 =
    field::ORIGINAL_WINDOW_SCALE | field::REPLY_WINDOW_SCALE | field::ORIGINAL_TCP_FLAGS | field::REPLY_TCP_FLAGS;
pub(super) const SCTP: u64 = field::ORIGINAL_VTAG | field::REPLY_VTAG;
pub(super) const RARE: u64 = field::RARE;

/// Returns a byte string of a heap; empty if there is no such item.
#[must_use]
#[inline]
pub fn text(texts: &Texts, item: usize) -> &[u8] {
    let end = texts.ends.get(item).copied().unwrap_or(0) as usize;
    let start = item.checked_sub(1).and_then(|before| texts.ends.get(before)).copied().unwrap_or(0) as usize;
    texts.bytes.get(start..end).unwrap_or_default()
}

/// Appends a byte string to a heap.
#[inline]
pub fn push_text(texts: &mut Texts, text: &[u8]) {
    texts.bytes.extend_from_slice(text);
    texts.ends.push(u32::try_from(texts.bytes.len()).unwrap_or(u32::MAX));
}

/// Appends the byte string of a row after all rows that have one.
#[inline]
pub fn push_sparse(column: &mut SparseTexts, row: usize, text: &[u8]) {
    column.rows.push(row as u32);
    push_text(&mut column.texts, text);
}
