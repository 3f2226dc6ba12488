//! Operations that clear and fill columns and groups of columns and keep their allocations.

use flowgate_model::{
    Addresses, Annotations, Counters, Dccps, Events, ExpectedNat, Masters, Rare, RawAttributes, Sctp, Sequences,
    SparseTexts, Synproxies, Tcp, Texts, Times, Translations, Tuples, Zones, field,
};

/// A batch is full when one of its text columns has this many bytes: one further message still fits into 32-bit
/// offsets.
pub(super) const TEXT_LIMIT: usize = 1 << 31;
/// A batch is full at this many rows.
pub(super) const ROW_LIMIT: u32 = 1 << 24;

/// Appends a byte string.
#[inline]
pub(super) fn push_text(texts: &mut Texts, text: &[u8]) {
    texts.bytes.extend_from_slice(text);
    texts.ends.push(u32::try_from(texts.bytes.len()).unwrap_or(u32::MAX));
}

/// Appends a byte string for `row`.
#[inline]
pub(super) fn push_sparse(column: &mut SparseTexts, row: u32, text: &[u8]) {
    column.rows.push(row);
    push_text(&mut column.texts, text);
}

/// Appends an address.
#[inline]
pub(super) fn push_address(column: &mut Addresses, (hi, lo): (u64, u64)) {
    column.hi.push(hi);
    column.lo.push(lo);
}

/// Clears a column of byte strings.
pub(super) fn clear_texts(texts: &mut Texts) {
    texts.ends.clear();
    texts.bytes.clear();
}

/// Clears a sparse column of byte strings.
pub(super) fn clear_sparse(column: &mut SparseTexts) {
    column.rows.clear();
    clear_texts(&mut column.texts);
}

/// Clears a column of addresses.
pub(super) fn clear_addresses(column: &mut Addresses) {
    column.hi.clear();
    column.lo.clear();
}

/// Clears the columns of one direction.
pub(super) fn clear_tuples(tuples: &mut Tuples) {
    clear_addresses(&mut tuples.source);
    clear_addresses(&mut tuples.destination);
    tuples.source_l4.clear();
    tuples.destination_l4.clear();
}

/// Clears a column of raw attributes.
pub(super) fn clear_raw(column: &mut RawAttributes) {
    column.rows.clear();
    column.paths.clear();
    clear_texts(&mut column.payloads);
}

/// Clears annotations.
pub(super) fn clear_annotations(column: &mut Annotations) {
    column.rows.clear();
    clear_texts(&mut column.keys);
    clear_texts(&mut column.values);
}

/// Clears the translations of expectations.
pub(super) fn clear_expected_nat(column: &mut ExpectedNat) {
    column.rows.clear();
    column.direction.clear();
    column.protocol.clear();
    clear_tuples(&mut column.tuple);
}

/// A group of columns that is absent as long as no row has any of them.
pub(super) trait ColumnGroup: Default {
    /// Fills the dense columns among `wanted` with one zero for each of the `rows` rows before.
    fn pad(&mut self, wanted: u64, rows: usize);
    /// Clears all columns.
    fn clear(&mut self);
}

/// Returns the group in `place`. If there is none, inserts a spare or new one, padded for the rows before.
#[inline]
pub(super) fn get_or_insert<'g, G: ColumnGroup>(
    place: &'g mut Option<G>,
    spare: &mut Vec<G>,
    wanted: u64,
    rows: usize,
) -> &'g mut G {
    place.get_or_insert_with(|| {
        let mut group = spare.pop().unwrap_or_default();
        group.pad(wanted, rows);
        group
    })
}

/// Removes the group and keeps its allocations in `spare`, for [`get_or_insert`].
pub(super) fn recycle<G: ColumnGroup>(place: &mut Option<G>, spare: &mut Vec<G>) {
    if let Some(mut group) = place.take() {
        group.clear();
        spare.push(group);
    }
}

/// Implements [`ColumnGroup`] for a group of dense columns, each of which is filled if one of its bits is wanted.
macro_rules! dense_group {
    ($group:ident { $($column:ident: $bits:expr),* $(,)? } $(also $others:expr)?) => {
        impl ColumnGroup for $group {
            fn pad(&mut self, wanted: u64, rows: usize) {
                $(if wanted & $bits != 0 { self.$column.resize(rows, 0); })*
            }
            fn clear(&mut self) {
                $(self.$column.clear();)*
                $(let others: fn(&mut Self) = $others; others(self);)?
            }
        }
    };
}

dense_group!(Zones { zone: field::ZONE, original: field::ORIGINAL_ZONE, reply: field::REPLY_ZONE });
dense_group!(Counters {
    original_packets: field::ORIGINAL_COUNTERS,
    original_bytes: field::ORIGINAL_COUNTERS,
    reply_packets: field::REPLY_COUNTERS,
    reply_bytes: field::REPLY_COUNTERS,
});
dense_group!(Times { start: field::START, stop: field::STOP });
dense_group!(Tcp {
    original_window_scale: field::ORIGINAL_WINDOW_SCALE,
    reply_window_scale: field::REPLY_WINDOW_SCALE,
    original_flags: field::ORIGINAL_TCP_FLAGS,
    reply_flags: field::REPLY_TCP_FLAGS,
});
dense_group!(Sctp { original_vtag: field::ORIGINAL_VTAG, reply_vtag: field::REPLY_VTAG });
dense_group!(Events {
    // Every event has a kind and a time of receipt.
    kind: u64::MAX,
    received: u64::MAX,
    time: field::EVENT_TIME,
    port_id: field::PORT_ID,
    namespace_id: field::NAMESPACE,
} also |events| {
    clear_sparse(&mut events.program);
    clear_sparse(&mut events.namespace_name);
});

impl ColumnGroup for Rare {
    /// Dense columns stay empty until a row has a value for them.
    fn pad(&mut self, _: u64, _: usize) {}

    fn clear(&mut self) {
        let Self {
            helper,
            helper_info,
            labels,
            labels_mask,
            security_context,
            secmark,
            mark_mask,
            master,
            sequence,
            synproxy,
            dccp,
            nat,
            unknown,
            annotations,
        } = self;
        for column in [helper, helper_info, labels, labels_mask, security_context] {
            clear_sparse(column);
        }
        secmark.clear();
        mark_mask.clear();
        let Masters { rows, protocol, tuple, zone } = master;
        rows.clear();
        protocol.clear();
        clear_tuples(tuple);
        zone.clear();
        let Sequences { rows, reply, position, before, after } = sequence;
        reply.clear();
        for column in [rows, position, before, after] {
            column.clear();
        }
        let Synproxies { rows, isn, its, tsoff } = synproxy;
        for column in [rows, isn, its, tsoff] {
            column.clear();
        }
        let Dccps { rows, role, handshake } = dccp;
        rows.clear();
        role.clear();
        handshake.clear();
        let Translations { rows, destination, first, last, first_port, last_port } = nat;
        rows.clear();
        destination.clear();
        clear_addresses(first);
        clear_addresses(last);
        first_port.clear();
        last_port.clear();
        clear_raw(unknown);
        clear_annotations(annotations);
    }
}
