//! Execution of command lines.
//!
//! * `command_line` is a parsed command line, `context` runs each command of it.
//! * [`table`] has one row per classic command and table: source, stock stages, output, summary.
//! * `lower` converts a command line to the spec of a pipeline, `explain` explains it.
//! * `entries` runs the rows that have entries, `tables` those without, `load` a load file.
//! * [`report`] has the texts and exit statuses that scripts rely on.
//! * `compiling` has plugins compiled in processes of their own.
//! * `shipping` delivers what pipelines write into spools.
//! * `terminal` is what there is to know about the terminal: its width, if tables are coloured, progress.
//! * `privilege_profile` determines the privileges that a command line does not need.
//! * Each subcommand has a file of its name.

mod command_line;
mod compiling;
mod completions;
mod confirm;
mod context;
mod doctor;
mod entries;
#[cfg(test)]
mod error_texts;
mod explain;
#[cfg(feature = "fleet")]
pub mod fleet;
#[cfg(test)]
mod kernels;
mod load;
mod lower;
mod man;
pub mod plugin;
pub mod policy;
mod privilege_profile;
mod record;
mod replay;
pub mod report;
mod run;
mod shipping;
mod standard_error;
pub mod table;
mod tables;
mod terminal;
mod top;
mod worker;

use context::{Context, loader, long_name, report_address, report_execution, serve_metrics};

pub use command_line::CommandLine;
pub use compiling::{end as end_compiling, work};
pub use report::{CommandError, Exit};

/// Waits until everything on standard error has been written; in the service for tenants, only as long as there is
/// progress.
pub fn drain_standard_error() {
    standard_error::drain();
}
