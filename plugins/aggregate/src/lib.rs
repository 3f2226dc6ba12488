//! Stock plugin: groups flows, and computes measures of the groups.
//!
//! Keys are evaluated column by column into words of a fixed number for each row, by which the group of each row is
//! found in a hash table; then each measure goes over its column once and adds to the values of these groups.
//!
//! The number of groups is bounded, with the distinct values that are kept of them. One more is an error, or the start
//! of an approximation: from then on each row is added by itself, by the algorithm Space-Saving (module `heavy`).

mod distinct;
mod figures;
mod heavy;
mod keys;
mod measure;
mod result;
mod sketch;
mod slots;
#[cfg(test)]
mod tests;
mod texts;

use distinct::{Full, Store};
use flowgate_sdk::{
    Aggregation, Description, FlowAggregate, Flows, Groups, Plugin, Setup, bindings::flowgate::conntrack::query::Sort,
    event, field,
};
use heavy::Heavy;
use keys::{Found, Key, Rows};
use measure::{Accumulator, Measure, Operand};
use result::Parts;
use sketch::Sketch;
use slots::Hasher;
use texts::Interner;

/// The plugin.
pub struct Aggregate {
    hasher: Hasher,
    labels: Vec<(u16, String)>,
    keys: Vec<Key>,
    measures: Vec<Measure>,
    sorts: Vec<Sort>,
    top: Option<u32>,
    max_groups: usize,
    approximate: bool,
    /// The measure by which groups weigh in an approximation.
    weighing: Option<usize>,
    rows: Rows,
    /// The group of each row of a batch.
    of_rows: Vec<u32>,
    kept: Kept,
}

/// What is kept until it is taken.
struct Kept {
    found: Found,
    store: Store,
    values: Vec<Accumulator>,
    flows: u64,
    /// Since there are as many groups as are kept.
    heavy: Option<Heaviest>,
}

/// The heaviest groups.
struct Heaviest {
    heavy: Heavy,
    /// The groups that there have been.
    groups: Sketch,
}

/// The fields that keys and measures can read. The host has those decoded that they do read.
const READS: u64 = field::ALL;

/// The bytes that sketches of distinct values may take: for each group that may be kept, and in addition.
const SKETCH_BYTES: (usize, usize) = (64, 16 << 20);

impl Plugin for Aggregate {
    fn describe() -> Description {
        Description::new("aggregate", env!("CARGO_PKG_VERSION"), "Groups flows and computes measures of the groups")
            .option("seed", "NUMBER", "the seed of hashes: a number that senders of packets do not know", Some("0"))
            .reads(READS)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let labels = setup.labels.iter().map(|label| (label.bit, label.name.clone())).collect();
        let hasher = Hasher::new(setup.option("seed")?.unwrap_or_default());
        Ok(Aggregate {
            hasher,
            labels,
            keys: Vec::new(),
            measures: Vec::new(),
            sorts: Vec::new(),
            top: None,
            max_groups: 1,
            approximate: false,
            weighing: None,
            rows: Rows::new(1),
            of_rows: Vec::new(),
            kept: Kept::new(&[], &[], (1, false), hasher),
        })
    }
}

impl FlowAggregate for Aggregate {
    fn aggregate(&mut self, aggregation: Aggregation) -> Result<(), String> {
        let Aggregation { keys, measures, sorts, top, max_groups, approximate } = aggregation;
        if keys.len() > keys::MOST {
            return Err(format!("{} keys: at most {} are possible", keys.len(), keys::MOST));
        }
        self.keys = keys.into_iter().map(Key::new).collect::<Result<_, _>>()?;
        self.measures = measures.into_iter().map(Measure::new).collect::<Result<_, _>>()?;
        let columns = self.keys.len() + self.measures.len();
        if let Some(sort) = sorts.iter().find(|sort| sort.column as usize >= columns) {
            return Err(format!("there is no column {} to sort by: there are {columns}", sort.column));
        }
        let weighs = |sort: &Sort| {
            let measure = (sort.column as usize).checked_sub(self.keys.len())?;
            self.measures.get(measure).filter(|of| sort.descending && of.grows()).map(|_| measure)
        };
        self.weighing = sorts.iter().find_map(weighs);
        if approximate && self.weighing.is_none() {
            return Err("an approximation sorts by a count or a sum, descending".into());
        }
        (self.sorts, self.top, self.approximate) = (sorts, top, approximate);
        self.max_groups = (max_groups as usize).clamp(1, u32::MAX as usize - 2);
        self.rows = Rows::new(self.keys.len() * 2 + 1);
        self.begin();
        Ok(())
    }

    fn add(&mut self, batch: &Flows) -> Result<(), String> {
        let (keys, labels) = (&self.keys, &self.labels);
        self.kept.forget_texts(self.max_groups, keys);
        self.rows.fill(keys, batch, labels, &mut self.kept.store);
        let operands: Vec<Operand<'_>> = self.measures.iter().map(|measure| measure.operand(batch, labels)).collect();
        let kinds = batch.events.as_ref().map_or(&[][..], |events| &events.kind);
        let gap = |row: usize| kinds.get(row) == Some(&event::GAP);
        self.of_rows.clear();
        if self.kept.heavy.is_none() {
            let limits = (self.max_groups, self.approximate);
            let added = self.kept.add(&self.rows, kinds, &operands, limits, &mut self.of_rows);
            added.map_err(|Full| self.too_many())?;
        }
        let rest = self.of_rows.len()..batch.length as usize;
        match self.weighing.filter(|_| self.approximate) {
            _ if rest.is_empty() => Ok(()),
            Some(weighing) => {
                let rest = rest.filter(|row| !gap(*row));
                self.kept.add_heaviest(&self.rows, rest, &operands, (keys, weighing)).map_err(|problem| match problem {
                    Problem::Full => self.too_many(),
                    Problem::Negative(value) => format!(
                        "{} has a value of {value}; an approximation is possible of values that are not negative",
                        self.measures.get(weighing).map_or("", |measure| &measure.name)
                    ),
                })
            }
            None => Err(self.too_many()),
        }
    }

    fn take(&mut self, since: u64, until: u64) -> Groups {
        let window = (until != 0).then(|| until.saturating_sub(since).max(1) as f64 / 1e9);
        let kept = &mut self.kept;
        kept.values.iter_mut().for_each(Accumulator::conclude);
        let parts = Parts {
            keys: &self.keys,
            measures: &self.measures,
            found: &kept.found,
            texts: &kept.store.texts,
            values: &kept.values,
        };
        let order = parts.order(&self.sorts, self.top);
        let groups = kept.found.len() as u64;
        let error = |group: &u32| kept.heavy.as_ref().map_or(0, |heaviest| heaviest.heavy.error(*group));
        let result = Groups {
            length: order.len() as u32,
            columns: parts.columns(&order, window),
            keys: self.keys.len() as u32,
            flows: kept.flows,
            total: kept.heavy.as_ref().map_or(groups, |heaviest| heaviest.groups.estimate().max(groups)),
            errors: if self.approximate { order.iter().map(error).collect() } else { Vec::new() },
            since,
            until,
        };
        self.begin();
        result
    }
}

impl Aggregate {
    /// Forgets everything that has been added.
    fn begin(&mut self) {
        self.kept = Kept::new(&self.keys, &self.measures, (self.max_groups, self.approximate), self.hasher);
    }

    /// Returns the error for one group more than are kept.
    fn too_many(&self) -> String {
        let most = self.max_groups;
        let counts_values = self.measures.iter().any(Measure::counts_values);
        if self.approximate {
            return format!(
                "the distinct values of {most} groups take too much memory; keep fewer groups (max-groups)"
            );
        }
        let what = if counts_values { "groups and distinct values of them" } else { "groups" };
        let heaviest = match self.weighing.and_then(|weighing| self.measures.get(weighing)) {
            Some(measure) => format!("; or use approximate, which finds those with the largest {}", measure.name),
            None => String::new(),
        };
        format!("there are more than {most} {what}; raise max-groups, or group by less{heaviest}")
    }
}

/// What prevents that a row is added to an approximation.
enum Problem {
    Full,
    Negative(i128),
}

impl Kept {
    fn new(keys: &[Key], measures: &[Measure], (max_groups, approximate): (usize, bool), hasher: Hasher) -> Self {
        let (for_each, more) = SKETCH_BYTES;
        let store = Store {
            texts: Interner::default(),
            hasher,
            values_left: max_groups,
            bytes_left: max_groups.saturating_mul(for_each).saturating_add(more),
        };
        let mut kept = Kept {
            found: Found::new(keys.len() * 2 + 1),
            store,
            values: measures.iter().map(|measure| measure.accumulator(approximate)).collect(),
            flows: 0,
            heavy: None,
        };
        if keys.is_empty() {
            // All flows are one group, also if there is none.
            kept.found.only(&hasher);
            kept.values.iter_mut().for_each(|values| values.extend(1));
        }
        kept
    }

    /// Forgets the texts of groups that are no more, if these may be most of them.
    fn forget_texts(&mut self, max_groups: usize, keys: &[Key]) {
        if self.heavy.is_some() && self.store.texts.len() > max_groups.saturating_mul(2).saturating_add(1024) {
            self.found.renumber(keys, &mut self.store);
        }
    }

    /// Adds rows up to the first one that would be in one group too many; `of_rows` becomes their groups.
    fn add(
        &mut self,
        rows: &Rows,
        kinds: &[u8],
        operands: &[Operand<'_>],
        (max_groups, approximate): (usize, bool),
        of_rows: &mut Vec<u32>,
    ) -> Result<(), Full> {
        // Groups and distinct values are counted together.
        let before = self.found.len();
        let left = if approximate { max_groups } else { self.store.values_left };
        let most = max_groups.min(before.saturating_add(left));
        self.found.locate(rows, kinds, of_rows, most, &self.store.hasher);
        let groups = self.found.len();
        if !approximate {
            self.store.values_left -= groups - before;
        }
        self.flows += of_rows.iter().filter(|group| **group != keys::NONE).count() as u64;
        for (values, operand) in self.values.iter_mut().zip(operands) {
            values.extend(groups);
            values.add(operand, of_rows, &mut self.store)?;
        }
        Ok(())
    }

    /// Adds rows one by one to the heaviest groups.
    fn add_heaviest(
        &mut self,
        rows: &Rows,
        numbers: impl Iterator<Item = usize>,
        operands: &[Operand<'_>],
        (keys, weighing): (&[Key], usize),
    ) -> Result<(), Problem> {
        let Kept { found, store, values, flows, heavy } = self;
        let weight = |values: &[Accumulator], group: u32| values.get(weighing).map_or(0, |of| of.weight(group));
        let Heaviest { heavy, groups } = heavy.get_or_insert_with(|| {
            let mut groups = Sketch::default();
            for group in 0..found.len() as u32 {
                groups.add(keys::stable_hash(keys, found.words(group), &store.texts));
            }
            Heaviest { heavy: Heavy::new(found.len(), |group| weight(values, group)), groups }
        });
        for row in numbers {
            *flows += 1;
            let words = rows.row(row);
            groups.add(keys::stable_hash(keys, words, &store.texts));
            let own = match values.get(weighing) {
                Some(Accumulator::Count(_)) => 1,
                _ => operands.get(weighing).and_then(|operand| operand.number(row)).unwrap_or_default(),
            };
            if own < 0 {
                return Err(Problem::Negative(own));
            }
            let hash = store.hasher.words(words);
            let group = match found.find(words, hash) {
                Some(group) => group,
                // What weighs nothing takes no place.
                None if own == 0 => continue,
                None => {
                    let group = heavy.lightest();
                    heavy.set_error(group, weight(values, group));
                    for (_, values) in values.iter_mut().enumerate().filter(|(index, _)| *index != weighing) {
                        values.reset(group, store);
                    }
                    found.replace(group, words, hash, &store.hasher);
                    group
                }
            };
            for (values, operand) in values.iter_mut().zip(operands) {
                values.add_row(operand, row, group, store).map_err(|Full| Problem::Full)?;
            }
            heavy.heavier(group, |group| weight(values, group));
        }
        Ok(())
    }
}

flowgate_sdk::aggregator!(Aggregate);
