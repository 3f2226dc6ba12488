//! Shows a plugin no more columns than it reads.

use std::mem;

use super::columns::{COUNTERS, RARE, SCTP, TCP, TIMES, ZONES, with_dense};
use crate::model::{Flows, field};

/// Swaps the columns of these fields between two batches.
///
/// Towards an empty batch this hides columns from a plugin, and the second time it brings them back, without copying.
fn exchange(one: &mut Flows, other: &mut Flows, fields: u64) {
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
}

/// Shows a plugin no more than it reads while `call` runs.
pub fn shown<R>(batch: &mut Flows, reads: u64, hidden: &mut Flows, call: impl FnOnce(&Flows) -> R) -> R {
    let away = field::ALL & !reads;
    if away == 0 {
        return call(batch);
    }
    exchange(batch, hidden, away);
    hidden.has.clear();
    // Events' columns are few and always shown; what is left says so in `has`.
    hidden.has.extend(batch.has.iter().map(|has| has & (reads | field::SYNTHETIC)));
    mem::swap(&mut batch.has, &mut hidden.has);
    let result = call(batch);
    mem::swap(&mut batch.has, &mut hidden.has);
    exchange(batch, hidden, away);
    result
}
