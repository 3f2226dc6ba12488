//! Checks the consistency of a table: dense columns are as long as the table or empty, sparse columns have as many
//! values as rows, rows are in order and within the table, ends of texts are in order and within their bytes.
//!
//! Decoders produce only consistent tables, which tests and the fuzz target verify with this check. Check tables from
//! other sources before reading them by row.

use thiserror::Error;

use crate::{
    Addresses, Annotations, Counters, Dccps, Events, Expectations, ExpectedNat, Flows, Masters, Rare, RawAttributes,
    Sctp, Sequences, SparseTexts, Synproxies, Tcp, Texts, Times, Translations, Tuples, Zones,
};

/// Why a table is inconsistent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Inconsistency {
    /// A dense column is neither empty nor as long as the table.
    #[error("column {column} has {elements} elements, but there are {rows} rows")]
    Length {
        /// The column's name in the WIT package.
        column: &'static str,
        /// Number of elements.
        elements: usize,
        /// Number of rows.
        rows: usize,
    },
    /// The number of values of a sparse column differs from its number of rows.
    #[error("sparse column {column} has {elements} values for {rows} rows")]
    Values {
        /// The column's name.
        column: &'static str,
        /// Number of values.
        elements: usize,
        /// Number of rows that it names.
        rows: usize,
    },
    /// The rows of a sparse column are not in ascending order, or outside the table.
    #[error("sparse column {column} names row {row} out of order or beyond {rows} rows")]
    Row {
        /// The column's name.
        column: &'static str,
        /// The row.
        row: u32,
        /// Number of rows.
        rows: usize,
    },
    /// The ends of a column of texts are not in ascending order, or outside its bytes.
    #[error("the texts of {column} end at {end}, out of order or beyond {bytes} bytes")]
    Text {
        /// The column's name.
        column: &'static str,
        /// The end.
        end: u32,
        /// Number of bytes.
        bytes: usize,
    },
}

/// How many times a sparse column may name a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowUse {
    Once,
    Often,
}

/// Checks a batch of flows.
///
/// # Errors
/// Returns the first inconsistency.
pub fn flows(batch: &Flows) -> Result<(), Inconsistency> {
    let rows = batch.length as usize;
    exact("has", batch.has.len(), rows)?;
    exact("family", batch.family.len(), rows)?;
    for (column, elements) in [
        ("protocol", batch.protocol.len()),
        ("status", batch.status.len()),
        ("timeout", batch.timeout.len()),
        ("mark", batch.mark.len()),
        ("use-count", batch.use_count.len()),
        ("id", batch.id.len()),
        ("state", batch.state.len()),
    ] {
        dense(column, elements, rows)?;
    }
    tuples("original", &batch.original, rows)?;
    tuples("reply", &batch.reply, rows)?;
    if let Some(Zones { zone, original, reply }) = &batch.zones {
        for column in [zone, original, reply] {
            dense("zones", column.len(), rows)?;
        }
    }
    if let Some(Counters { original_packets, original_bytes, reply_packets, reply_bytes }) = &batch.counters {
        for column in [original_packets, original_bytes, reply_packets, reply_bytes] {
            dense("counters", column.len(), rows)?;
        }
    }
    if let Some(Times { start, stop }) = &batch.times {
        dense("times.start", start.len(), rows)?;
        dense("times.stop", stop.len(), rows)?;
    }
    if let Some(Tcp { original_window_scale, reply_window_scale, original_flags, reply_flags }) = &batch.tcp {
        dense("tcp.original-window-scale", original_window_scale.len(), rows)?;
        dense("tcp.reply-window-scale", reply_window_scale.len(), rows)?;
        dense("tcp.original-flags", original_flags.len(), rows)?;
        dense("tcp.reply-flags", reply_flags.len(), rows)?;
    }
    if let Some(Sctp { original_vtag, reply_vtag }) = &batch.sctp {
        dense("sctp.original-vtag", original_vtag.len(), rows)?;
        dense("sctp.reply-vtag", reply_vtag.len(), rows)?;
    }
    if let Some(Events { kind, time, received, port_id, program, namespace_id, namespace_name }) = &batch.events {
        dense("events.kind", kind.len(), rows)?;
        dense("events.time", time.len(), rows)?;
        dense("events.received", received.len(), rows)?;
        dense("events.port-id", port_id.len(), rows)?;
        dense("events.namespace-id", namespace_id.len(), rows)?;
        sparse("events.program", program, rows)?;
        sparse("events.namespace-name", namespace_name, rows)?;
    }
    batch.rare.as_ref().map_or(Ok(()), |group| rare(group, rows))
}

/// Checks a batch of expectations.
///
/// # Errors
/// Returns the first inconsistency.
pub fn expectations(batch: &Expectations) -> Result<(), Inconsistency> {
    let rows = batch.length as usize;
    exact("has", batch.has.len(), rows)?;
    exact("family", batch.family.len(), rows)?;
    for (column, elements) in [
        ("event", batch.event.len()),
        ("protocol", batch.protocol.len()),
        ("mask-protocol", batch.mask_protocol.len()),
        ("master-protocol", batch.master_protocol.len()),
        ("timeout", batch.timeout.len()),
        ("id", batch.id.len()),
        ("zone", batch.zone.len()),
        ("flags", batch.flags.len()),
        ("class-number", batch.class_number.len()),
        ("port-id", batch.port_id.len()),
    ] {
        dense(column, elements, rows)?;
    }
    tuples("expected", &batch.expected, rows)?;
    tuples("mask", &batch.mask, rows)?;
    tuples("master", &batch.master, rows)?;
    sparse("helper", &batch.helper, rows)?;
    sparse("function", &batch.function, rows)?;
    sparse("program", &batch.program, rows)?;
    if let Some(ExpectedNat { rows: named, direction, protocol, tuple }) = &batch.nat {
        order("nat", named, rows, RowUse::Once)?;
        values("nat.direction", direction.len(), named.len())?;
        values("nat.protocol", protocol.len(), named.len())?;
        all_tuples("nat.tuple", tuple, named.len())?;
    }
    if let Some(column) = &batch.unknown {
        raw("unknown", column, rows)?;
    }
    batch.annotations.as_ref().map_or(Ok(()), |column| annotations(column, rows))
}

fn rare(group: &Rare, rows: usize) -> Result<(), Inconsistency> {
    sparse("rare.helper", &group.helper, rows)?;
    sparse("rare.helper-info", &group.helper_info, rows)?;
    sparse("rare.labels", &group.labels, rows)?;
    sparse("rare.labels-mask", &group.labels_mask, rows)?;
    sparse("rare.security-context", &group.security_context, rows)?;
    dense("rare.secmark", group.secmark.len(), rows)?;
    dense("rare.mark-mask", group.mark_mask.len(), rows)?;
    let Masters { rows: named, protocol, tuple, zone } = &group.master;
    order("rare.master", named, rows, RowUse::Once)?;
    values("rare.master.protocol", protocol.len(), named.len())?;
    all_tuples("rare.master.tuple", tuple, named.len())?;
    values("rare.master.zone", zone.len(), named.len())?;
    let Sequences { rows: named, reply, position, before, after } = &group.sequence;
    order("rare.sequence", named, rows, RowUse::Often)?;
    for elements in [reply.len(), position.len(), before.len(), after.len()] {
        values("rare.sequence", elements, named.len())?;
    }
    let Synproxies { rows: named, isn, its, tsoff } = &group.synproxy;
    order("rare.synproxy", named, rows, RowUse::Once)?;
    for elements in [isn.len(), its.len(), tsoff.len()] {
        values("rare.synproxy", elements, named.len())?;
    }
    let Dccps { rows: named, role, handshake } = &group.dccp;
    order("rare.dccp", named, rows, RowUse::Once)?;
    values("rare.dccp.role", role.len(), named.len())?;
    values("rare.dccp.handshake", handshake.len(), named.len())?;
    let Translations { rows: named, destination, first, last, first_port, last_port } = &group.nat;
    order("rare.nat", named, rows, RowUse::Often)?;
    for elements in [
        destination.len(),
        first.hi.len(),
        first.lo.len(),
        last.hi.len(),
        last.lo.len(),
        first_port.len(),
        last_port.len(),
    ] {
        values("rare.nat", elements, named.len())?;
    }
    raw("rare.unknown", &group.unknown, rows)?;
    annotations(&group.annotations, rows)
}

fn exact(column: &'static str, elements: usize, rows: usize) -> Result<(), Inconsistency> {
    if elements == rows { Ok(()) } else { Err(Inconsistency::Length { column, elements, rows }) }
}

fn dense(column: &'static str, elements: usize, rows: usize) -> Result<(), Inconsistency> {
    if elements == 0 { Ok(()) } else { exact(column, elements, rows) }
}

fn values(column: &'static str, elements: usize, rows: usize) -> Result<(), Inconsistency> {
    if elements == rows { Ok(()) } else { Err(Inconsistency::Values { column, elements, rows }) }
}

fn parts(tuples: &Tuples) -> [usize; 6] {
    let Tuples { source, destination, source_l4, destination_l4 } = tuples;
    let address = |Addresses { hi, lo }: &Addresses| [hi.len(), lo.len()];
    let ([a, b], [c, d]) = (address(source), address(destination));
    [a, b, c, d, source_l4.len(), destination_l4.len()]
}

fn tuples(column: &'static str, tuples: &Tuples, rows: usize) -> Result<(), Inconsistency> {
    for (half, other) in [(&tuples.source.hi, &tuples.source.lo), (&tuples.destination.hi, &tuples.destination.lo)] {
        values(column, half.len(), other.len())?;
    }
    parts(tuples).into_iter().try_for_each(|elements| dense(column, elements, rows))
}

fn all_tuples(column: &'static str, tuples: &Tuples, rows: usize) -> Result<(), Inconsistency> {
    parts(tuples).into_iter().try_for_each(|elements| values(column, elements, rows))
}

fn order(column: &'static str, named: &[u32], rows: usize, often: RowUse) -> Result<(), Inconsistency> {
    let mut next = 0;
    for row in named {
        let number = *row as usize;
        if number < next || number >= rows {
            return Err(Inconsistency::Row { column, row: *row, rows });
        }
        next = if often == RowUse::Often { number } else { number + 1 };
    }
    Ok(())
}

fn texts(column: &'static str, texts: &Texts, items: usize) -> Result<(), Inconsistency> {
    values(column, texts.ends.len(), items)?;
    let bytes = texts.bytes.len();
    let mut before = 0;
    for end in &texts.ends {
        if *end < before || *end as usize > bytes {
            return Err(Inconsistency::Text { column, end: *end, bytes });
        }
        before = *end;
    }
    Ok(())
}

fn sparse(column: &'static str, texts_of: &SparseTexts, rows: usize) -> Result<(), Inconsistency> {
    order(column, &texts_of.rows, rows, RowUse::Once)?;
    texts(column, &texts_of.texts, texts_of.rows.len())
}

fn raw(column: &'static str, attributes: &RawAttributes, rows: usize) -> Result<(), Inconsistency> {
    order(column, &attributes.rows, rows, RowUse::Often)?;
    values(column, attributes.paths.len(), attributes.rows.len())?;
    texts(column, &attributes.payloads, attributes.rows.len())
}

fn annotations(column: &Annotations, rows: usize) -> Result<(), Inconsistency> {
    order("annotations", &column.rows, rows, RowUse::Often)?;
    texts("annotations.keys", &column.keys, column.rows.len())?;
    texts("annotations.values", &column.values, column.rows.len())
}
