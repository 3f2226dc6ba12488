//! The types of the WIT package `flowgate:conntrack`: a module for each of its interfaces, with its comments.
//!
//! A name in backticks is that of WIT, where words are joined by hyphens: `tuples.source-l4` is the field
//! `source_l4` of `Tuples`.

// Written from wit/ by tests/wit.rs: change it there, and set BLESS=1 when that test is run.

pub mod action;
pub mod columns;
pub mod expectation;
pub mod flow;
pub mod query;
pub mod selector;
pub mod setup;
pub mod statistics;
