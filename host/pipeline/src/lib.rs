//! The pipeline of flowgate as a library: source -> stage* -> executor -> format -> sink.
//!
//! A [`Spec`] describes the pipeline to run. A [`PluginLoader`](loader::PluginLoader) loads its plugins and returns a
//! [`LoadedSpec`], which becomes a [`Pipeline`] that runs on the kernel or on another source.
//!
//! * [`spec`] is the pipeline as a value, [`load`] loads and joins its parts, [`explain`] explains it; [`loader`] loads
//!   plugins, which play one of several [roles](loader::Role).
//! * [`run`] has the loop that joins the parts. A [source](flowgate_netlink::source) yields datagrams, which are
//!   received on a separate thread; [`kernel`] opens the kernel as a source.
//! * [`entries`] has the common interface of flows and expectations: how they are decoded, processed and rendered.
//! * [`stage`] is a plugin that processes batches, [`outcome`] the result that it returns; [`supervisor`] keeps it
//!   running, [`stats`] has its statistics, [`histogram`] counts the durations of calls.
//! * [`executor`] performs the actions that a stage requests and is [granted](flowgate_model::grants); it is the only
//!   part with authority over the kernel's table.
//! * [`consumer`] takes the rows at the end: [`mod@format`] renders them, [`aggregate`] groups them before,
//!   [`flow_metrics`] counts them, [`sink`] writes the bytes.
//! * [`cells`] are the values of groups; [`counters`] count received messages; [`resync`] makes up for lost events.

pub mod aggregate;
pub mod cells;
pub mod consumer;
mod context;
pub mod counters;
pub mod entries;
pub mod executor;
pub mod explain;
pub mod flow_metrics;
pub mod format;
pub mod histogram;
pub mod kernel;
pub mod load;
pub mod loader;
mod merge;
pub mod outcome;
mod problems;
mod queue;
pub mod resync;
mod role;
pub mod run;
pub mod sink;
pub mod spec;
pub mod spool;
pub mod stage;
pub mod stats;
pub mod supervisor;

pub use load::LoadedSpec;
pub use problems::Problems;
pub use run::{Pipeline, RunError, Tally};
pub use spec::{FormatSpec, Spec, StageSpec, StockStage};
