//! Flows and expectations of connection tracking as columns: the types of the WIT package `flowgate:conntrack`
//! ([`wit`]), operations on batches ([`batch`]), limits of what a plugin may return ([`bounds`]), and grants
//! ([`grants`]).
//!
//! Netlink messages are decoded into these types, and the same types are passed to plugins. The comment of each field
//! has its meaning, its unit and the attribute of the kernel that it comes from; the bits of `has` are in [`field`].
//!
//! A batch is a table: a column is a vector with one element for each row, or an empty one if no row carries the field.
//!
//! ```
//! use flowgate_model::{Flows, at, batch, field, protocol};
//!
//! // Two flows, with protocol and mark.
//! let mut flows = Flows {
//!     length: 2,
//!     has: vec![field::PROTOCOL, field::PROTOCOL | field::MARK],
//!     family: vec![2, 10],
//!     protocol: vec![protocol::TCP, protocol::UDP],
//!     mark: vec![0, 7],
//!     ..Flows::default()
//! };
//! assert_eq!(at(&flows.mark, 1), 7);
//! assert_eq!(at(&flows.timeout, 1), 0, "no row has a timeout, so there is no column");
//!
//! // A verdict for each row: the first one goes.
//! batch::retain(&mut flows, &[0, 1]);
//! assert_eq!((flows.length, flows.protocol), (1, vec![protocol::UDP]));
//! ```
//!
//! # Features
//!
//! `component`: the types implement wasmtime's `ComponentType`, `Lift` and `Lower`, so that they can be passed to and
//! from WebAssembly components. Without it, wasmtime is not a dependency.

pub use flowgate_names::{
    action, event, expectation_field, family, field, level, protocol, query, result, state, statistics, status,
    table_column, verdict,
};

mod aggregation;
pub mod batch;
pub mod bounds;
pub mod check;
mod event_groups;
pub mod grants;
mod on_error;
mod option_value;
mod table;
pub mod wit;

pub use event_groups::EventGroups;
pub use on_error::OnError;
pub use table::Table;

pub use wit::{
    action::{Actions, Changes, ExpectationOutcome, Outcome, Results},
    columns::{Addresses, Annotations, Column, RawAttributes, SparseTexts, Texts},
    expectation::{Expectations, ExpectedNat},
    flow::{
        Counters, Dccps, Events, Flows, Masters, Rare, Sctp, Sequences, Synproxies, Tcp, Times, Translations, Tuples,
        Zones,
    },
    query::{Aggregation, Cells, Groups, Operation, Program},
    selector::{Address, Direction, Masked, Network, Selection, Translation},
    setup::{Description, Label, OptionSpec, OptionValue, Setup, UtcOffset},
    statistics::Counts,
};

/// Returns the value of a row in a dense column; 0 if the column is empty or too short.
#[inline]
#[must_use]
pub fn at<T: Copy + Default>(column: &[T], row: usize) -> T {
    column.get(row).copied().unwrap_or_default()
}

/// Sets the value of a row in a dense column, and extends the column if it is shorter.
#[inline]
pub fn put<T: Copy + Default>(column: &mut Vec<T>, row: usize, value: T) {
    if column.len() <= row {
        column.resize(row + 1, T::default());
    }
    if let Some(place) = column.get_mut(row) {
        *place = value;
    }
}
