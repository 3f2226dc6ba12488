//! Hides columns that a plugin does not read.

use std::mem;

use super::columns::{COUNTERS, RARE, SCTP, TCP, TIMES, ZONES, with_dense};
use crate::{Flows, family, field};

/// Swaps the columns of these fields between two batches.
///
/// With an empty batch, the first call hides columns from a plugin, and a second call restores them, without copying.
fn swap_columns(one: &mut Flows, other: &mut Flows, fields: u64) {
    macro_rules! dense {
        ($bits:expr, $($path:ident).+) => {
            if fields & ($bits) == ($bits) {
                mem::swap(&mut one.$($path).+, &mut other.$($path).+);
            }
        };
    }
    with_dense!(dense);
    macro_rules! group {
        ($bits:ident, $name:ident) => {
            if fields & $bits == $bits {
                mem::swap(&mut one.$name, &mut other.$name);
            }
        };
    }
    group!(ZONES, zones);
    group!(COUNTERS, counters);
    group!(TIMES, times);
    group!(TCP, tcp);
    group!(SCTP, sctp);
    group!(RARE, rare);
    // The other fields of the group are small; these have as many items as other plugins and the kernel supplied.
    if fields & RARE != RARE
        && let Some(one) = &mut one.rare
    {
        let other = other.rare.get_or_insert_default();
        if fields & field::ANNOTATIONS != 0 {
            mem::swap(&mut one.annotations, &mut other.annotations);
        }
        if fields & field::UNKNOWN != 0 {
            mem::swap(&mut one.unknown, &mut other.unknown);
        }
    }
}

/// Swaps the upper halves of these addresses between two batches.
fn swap_upper_halves(one: &mut Flows, other: &mut Flows, fields: u64) {
    for (bit, one, other) in [
        (field::SOURCE, &mut one.original.source, &mut other.original.source),
        (field::DESTINATION, &mut one.original.destination, &mut other.original.destination),
        (field::REPLY_SOURCE, &mut one.reply.source, &mut other.reply.source),
        (field::REPLY_DESTINATION, &mut one.reply.destination, &mut other.reply.destination),
    ] {
        if fields & bit != 0 {
            mem::swap(&mut one.hi, &mut other.hi);
        }
    }
}

/// Calls `call` with a batch that has only the fields that the plugin reads. The upper halves of addresses are left out
/// if all rows are IPv4, since they are 0.
pub fn project<R>(batch: &mut Flows, reads: u64, hidden: &mut Flows, call: impl FnOnce(&Flows) -> R) -> R {
    let away = field::ALL & !reads;
    let ipv4 = batch.family.iter().all(|&of| of == family::IPV4);
    swap_columns(batch, hidden, away);
    if ipv4 {
        swap_upper_halves(batch, hidden, reads);
    }
    if away != 0 {
        hidden.has.clear();
        // The columns of events are few and always passed; `has` defines which fields a plugin may read.
        hidden.has.extend(batch.has.iter().map(|has| has & (reads | field::SYNTHETIC)));
        mem::swap(&mut batch.has, &mut hidden.has);
    }
    let result = call(batch);
    if away != 0 {
        mem::swap(&mut batch.has, &mut hidden.has);
    }
    if ipv4 {
        swap_upper_halves(batch, hidden, reads);
    }
    swap_columns(batch, hidden, away);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counters;

    fn batch(families: &[u8]) -> Flows {
        let rows = families.len();
        let mut flows = Flows { length: rows as u32, family: families.to_vec(), ..Flows::default() };
        flows.has = vec![field::TUPLES | field::MARK | field::COUNTERS; rows];
        flows.mark = vec![7; rows];
        for tuples in [&mut flows.original, &mut flows.reply] {
            for addresses in [&mut tuples.source, &mut tuples.destination] {
                addresses.hi = families.iter().map(|&of| u64::from(of == family::IPV6)).collect();
                addresses.lo = vec![5; rows];
            }
        }
        flows.counters = Some(Counters { original_bytes: vec![9; rows], ..Counters::default() });
        flows
    }

    #[test]
    fn a_plugin_sees_what_it_reads_and_the_batch_comes_back_whole() {
        let mut hidden = Flows::default();
        for families in [&[2u8, 2, 2][..], &[2, 10, 2], &[10], &[]] {
            let upper = if families.iter().all(|&of| of == 2) { 0 } else { families.len() };
            for reads in [0, field::MARK, field::SOURCE, field::SOURCE | field::COUNTERS, field::ALL] {
                let mut flows = batch(families);
                project(&mut flows, reads, &mut hidden, |seen| {
                    let rows = |bit: u64, rows: usize| if reads & bit == bit { rows } else { 0 };
                    assert_eq!(seen.length as usize, families.len());
                    assert_eq!(seen.mark.len(), rows(field::MARK, families.len()));
                    assert_eq!(seen.original.source.lo.len(), rows(field::SOURCE, families.len()));
                    assert_eq!(seen.original.source.hi.len(), rows(field::SOURCE, upper));
                    assert_eq!(seen.reply.destination.hi.len(), rows(field::REPLY_DESTINATION, upper));
                    assert_eq!(seen.counters.is_some(), reads & field::COUNTERS == field::COUNTERS);
                    assert!(seen.has.iter().all(|has| has & !reads == 0));
                });
                assert_eq!(flows, batch(families));
            }
        }
    }
}
