//! Numbers of distinct values: exactly, by the set of all pairs of a group and a value, or estimated.

use flowgate_plugin_query::Column;

use crate::{
    measure::{Operand, Operands},
    sketch::{self, Sketch},
    slots::{Hasher, Slots},
    texts::Interner,
};

/// What keys and measures have in common.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) texts: Interner,
    pub(crate) hasher: Hasher,
    /// How many values may be added to sets.
    pub(crate) values_left: usize,
    /// How many bytes sketches may take in addition.
    pub(crate) bytes_left: usize,
}

/// There is no room for another value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Full;

/// The distinct values of each group.
#[derive(Clone, Debug)]
pub(crate) enum Distinct {
    /// The pairs, as words: the group, and the halves of the value. Texts are numbers.
    Exact { pairs: Vec<[u64; 3]>, slots: Slots, counts: Vec<u64> },
    /// A sketch for each group, and finally its estimate.
    Estimated { sketches: Vec<Sketch>, estimates: Vec<u64> },
}

impl Distinct {
    pub(crate) fn new(approximate: bool) -> Self {
        if approximate {
            Distinct::Estimated { sketches: Vec::new(), estimates: Vec::new() }
        } else {
            Distinct::Exact { pairs: Vec::new(), slots: Slots::default(), counts: Vec::new() }
        }
    }

    pub(crate) fn extend(&mut self, groups: usize) {
        match self {
            Distinct::Exact { counts, .. } => counts.resize(groups, 0),
            Distinct::Estimated { sketches, .. } => sketches.resize(groups, Sketch::default()),
        }
    }

    /// Adds the value of a row to a group.
    pub(crate) fn add(&mut self, group: u32, operand: &Operand<'_>, row: usize, store: &mut Store) -> Result<(), Full> {
        let bits = match &operand.values {
            Operands::Column(Column::Texts(texts)) => {
                let Some(Some(text)) = texts.get(row) else { return Ok(()) };
                match self {
                    Distinct::Exact { .. } => store.texts.number(text, &store.hasher).into(),
                    Distinct::Estimated { sketches, .. } => {
                        return sketched(&mut sketches[group as usize], sketch::hasher().bytes(text), store);
                    }
                }
            }
            _ if !operand.has(row) => return Ok(()),
            Operands::Column(Column::Numbers(numbers)) => numbers.get(row).cast_unsigned(),
            Operands::Column(Column::Addresses(addresses)) => addresses.get(row),
            Operands::Flows | Operands::Figures(_) => return Ok(()),
        };
        let (low, high) = (bits as u64, (bits >> 64) as u64);
        match self {
            Distinct::Exact { pairs, slots, counts } => {
                let pair = [low, high, group.into()];
                let hash = store.hasher.words(&pair);
                if slots.find(hash, |index| pairs[index as usize] == pair).is_none() {
                    store.values_left = store.values_left.checked_sub(1).ok_or(Full)?;
                    slots.insert(hash, pairs.len() as u32);
                    pairs.push(pair);
                    counts[group as usize] += 1;
                }
                Ok(())
            }
            Distinct::Estimated { sketches, .. } => {
                sketched(&mut sketches[group as usize], sketch::hasher().words(&[low, high, 0]), store)
            }
        }
    }

    pub(crate) fn reset(&mut self, group: u32, store: &mut Store) {
        // Exact sets are not kept of groups that may be replaced.
        if let Distinct::Estimated { sketches, .. } = self {
            store.bytes_left += std::mem::take(&mut sketches[group as usize]).size();
        }
    }

    pub(crate) fn conclude(&mut self) {
        match self {
            Distinct::Exact { pairs, slots, .. } => {
                *pairs = Vec::new();
                *slots = Slots::default();
            }
            Distinct::Estimated { sketches, estimates } => {
                *estimates = std::mem::take(sketches).iter().map(Sketch::estimate).collect();
            }
        }
    }

    pub(crate) fn count(&self, group: u32) -> u64 {
        let (Distinct::Exact { counts, .. } | Distinct::Estimated { estimates: counts, .. }) = self;
        counts.get(group as usize).copied().unwrap_or_default()
    }
}

fn sketched(sketch: &mut Sketch, hash: u64, store: &mut Store) -> Result<(), Full> {
    let grown = sketch.add(hash);
    store.bytes_left = store.bytes_left.checked_sub(grown).ok_or(Full)?;
    Ok(())
}
