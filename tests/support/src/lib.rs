//! Shared code of the tests and benchmarks of flowgate: private network namespaces, created entries, real traffic.
//!
//! Nothing here touches the connection-tracking table of the host: each helper that creates entries or traffic requires
//! a [`Namespace`], and the only way to get one is [`Namespace::run`], which creates and removes it.
//!
//! A failure is a panic with a message that says what to do: a test that cannot run fails, and is never skipped.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a panic is how a test helper reports

pub mod background;
pub mod bombs;
pub mod built;
pub mod dying;
pub mod entries;
pub mod hostile;
pub mod json;
pub mod limit;
pub mod namespace;
pub mod netlink;
pub mod plugins;
pub mod program;
pub mod random;
pub mod sample;
pub mod traffic;
pub mod wait;
pub mod wasm;

pub use background::Background;
pub use built::flowgate;
pub use limit::Limit;
pub use namespace::Namespace;
pub use program::{AS_NOBODY_WITH_NET_ADMIN, NOBODY, Outcome, Program, conntrack, words};
pub use random::Random;
pub use wait::{PATIENCE, until, until_or_explain, until_within};
