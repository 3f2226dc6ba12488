//! Evaluates the programs of queries (`wit/query.wit`) on batches of flows, column by column.
//!
//! A [`Condition`] clears the verdicts of rows that do not satisfy it; an [`Expression`] computes a column of numbers,
//! addresses or texts. Both are compiled once from a program and run for each batch:
//!
//! * [`compile`](Condition::compile) turns the postfix operations into a tree. Comparisons of a field with constants
//!   become tests of one column, which run in a tight loop of a nanosecond or so a row; what they require of a row (the
//!   bits of `flows.has`, a protocol with ports) is checked once for all conditions that are joined by `and`.
//! * Everything else is computed in 64 bits, and once more in 128 if a result does not fit.

mod column;
mod compile;
mod condition;
mod expression;
pub mod fields;
mod set;
#[cfg(test)]
mod tests;
mod text;

pub use column::{Addresses, Column, Numbers, Presence, Texts, Values, carrying, keep};
pub use condition::Condition;
pub use expression::Expression;

/// Names of labels by ascending bit, as plugins get them (`setup.labels`).
pub type LabelNames = [(u16, String)];
