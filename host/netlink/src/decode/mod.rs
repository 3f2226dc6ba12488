//! Decoding of messages into the columns of the model.

pub mod attribute;
mod columns;
mod expectation;
mod flow;
mod row;
mod statistics;
#[cfg(test)]
mod tests;
mod tuple;
mod unknown;

pub use attribute::{DecodeError, MalformedAttribute};
pub use expectation::ExpectationDecoder;
pub use flow::{Arrival, FlowDecoder};
pub(crate) use row::normalise_labels;
pub use statistics::push_counts;
