//! Tests of the netlink layer with the real kernel, each in a network namespace of its own. They need root, `conntrack`
//! and `ip`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

mod dumps;
mod events;
mod expectations;
mod filters;
mod requests;
mod rows;
