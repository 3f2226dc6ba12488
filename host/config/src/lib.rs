//! Pipeline files: TOML becomes a [`Config`], or a list of mistakes with their places. Nothing else knows TOML.
//!
//! * [`keys`] is the table of all sections and keys; checks, suggestions, the JSON schema and the documentation follow
//!   it.
//! * `reader` compares a file with that table, and collects all mistakes instead of stopping at the first.
//! * [`pipeline`] and [`sinks`] are the content of a file, typed.
//! * [`diagnostic`] has places in a file and diagnostics, [`schema`] the schema for editors.
//!
//! What cannot be checked without loading a plugin, such as the names of its options, is checked by `command/run`, with
//! the places from here.

pub mod diagnostic;
pub mod keys;
mod lower;
pub mod pipeline;
pub mod plugin;
pub mod reader;
pub mod schema;
pub mod sinks;
pub mod stock_format;

#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, Located, SourceText};
pub use pipeline::{Config, FormatConfig, RecordingConfig, SourceConfig, SourceKind, StageConfig, StageKind};
pub use plugin::Plugin;
pub use sinks::SinkConfig;
pub use stock_format::FormatContext;
