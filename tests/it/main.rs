//! Tests of flowgate through its program, as it is invoked by users, scripts and units: compared with the installed
//! `conntrack`, on real flows of private network namespaces.
//!
//! The program is the one in the build directory, and must be up to date: `cargo test --workspace` builds it.
//!
//! Needs root, and what `make setup` installs. A test that cannot run fails; none is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

mod architecture;
mod capabilities;
mod columns;
mod confirm;
mod conformance;
mod events;
mod field;
mod fleet;
mod metrics;
mod namespaces;
mod operations;
mod policy;
mod query;
mod recording;
mod run;
mod scale;
mod tool;
mod top;
