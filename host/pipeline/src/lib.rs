//! The pipeline: source -> stage* -> executor -> format -> sink.
//!
//! * A [source](flowgate_netlink::source) yields datagrams of the kernel (or a recording), on a thread of its own that only receives.
//! * [`table`] is what flows and expectations have in common: how they are decoded, staged and rendered.
//! * [`stage`] is a plugin that looks at batches, [`supervisor`] keeps it running, [`stats`] is what is known of it.
//! * [`histogram`] counts how long calls take.
//! * [`executor`] does what a stage asks for and [may do](flowgate_model::grants); it is the only place with authority over the kernel's
//!   table.
//! * [`consumer`] takes the rows at the end: [`mod@format`] turns them into bytes, [`sink`] takes these away.
//! * [`counters`] are of what was received.
//! * [`tell`] is whoever is told of what is wrong but no reason to stop.
//! * [`resync`] makes up for lost events.
//! * [`run`] joins them.

mod actionable;
pub mod consumer;
mod context;
pub mod counters;
pub mod executor;
pub mod format;
pub mod histogram;
pub mod loader;
mod merge;
mod queue;
pub mod resync;
pub mod run;
pub mod sink;
pub mod stage;
pub mod stats;
pub mod supervisor;
pub mod table;
pub mod tell;

pub use run::{Pipeline, RunError, Tally};
