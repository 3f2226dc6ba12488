//! The domain model: the types of the WIT package, generated, and beside them what is done to columns ([`batch`]), how much of it a
//! plugin may ask for ([`bounds`]), and what it may do ([`grants`]).
//!
//! Netlink is decoded straight into these, and they are what crosses into the plugins. What each field means, in which
//! unit and from which kernel attribute, is said in `wit/*.wit`; the bits of `has` are in [`field`].

pub use flowgate_names::{
    action, event, expectation_field, family, field, level, protocol, result, state, statistics, status, verdict,
};

pub mod batch;
pub mod bounds;
pub mod check;
pub mod grants;
mod on_error;
mod table;
pub mod wit;

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
    selector::{Address, Direction, Masked, Network, Selection, Translation},
    setup::{Description, Label, OptionSpec, OptionValue, Setup, UtcOffset},
    statistics::Counts,
};

/// The value of a row in a dense column; 0 where the column is empty or too short.
#[inline]
#[must_use]
pub fn at<T: Copy + Default>(column: &[T], row: usize) -> T {
    column.get(row).copied().unwrap_or_default()
}

/// Sets the value of a row in a dense column, which may be shorter so far.
#[inline]
pub fn put<T: Copy + Default>(column: &mut Vec<T>, row: usize, value: T) {
    if column.len() <= row {
        column.resize(row + 1, T::default());
    }
    if let Some(place) = column.get_mut(row) {
        *place = value;
    }
}
