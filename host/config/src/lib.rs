//! Pipeline files: TOML becomes a [`Config`], or a list of mistakes with their places. Nothing else knows TOML.
//!
//! * [`keys`] is the table of all sections and keys; checks, suggestions, the JSON schema and the documentation follow
//!   it.
//! * `reader` compares a file with that table, and collects all mistakes instead of stopping at the first.
//! * [`pipeline`], with `source`, `stage`, [`plugin`], [`sinks`] and `nats`, is the content of a file, typed.
//! * [`diagnostic`] has places in a file and diagnostics, [`schema`] the schema for editors.
//!
//! What cannot be checked without loading a plugin, such as the names of its options, is checked by `command/run`, with
//! the places from here.

mod aggregate;
pub mod diagnostic;
pub mod keys;
mod lower;
mod metric;
mod nats;
pub mod pipeline;
pub mod plugin;
pub mod reader;
pub mod schema;
pub mod selector;
pub mod sinks;
mod source;
mod stage;
pub mod stock_format;

#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, Located, SourceText};
pub use lower::aggregation;
pub use metric::MetricConfig;
pub use pipeline::{Config, FormatConfig};
pub use plugin::Plugin;
pub use sinks::SinkConfig;
pub use source::{RecordingConfig, SourceConfig, SourceKind};
pub use stage::{StageConfig, StageKind};
pub use stock_format::{ColumnOptions, FormatContext};
