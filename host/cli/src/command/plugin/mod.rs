//! `plugin`: tools for authors of plugins.
//!
//! * `new` creates a project from the templates that the binary contains.
//! * `test` runs the cases of a `test.toml` (`suite`) with the real component (`trial`), each in a worker, without the
//!   kernel.
//! * `inspect` describes a file and starts it.
//! * `bench` measures a plugin.
//! * `run` is `replay` with a plugin.

mod bench;
mod error;
mod generator;
mod inspect;
mod new;
mod report;
mod suite;
mod templates;
mod test;
mod trial;

pub use error::ToolError;
pub(super) use trial::do_job;

use super::{CommandError, Context, Exit, replay};
use crate::args::PluginCommand;

/// Carries out a subcommand of `plugin`.
pub(super) fn run(context: &mut Context<'_>, command: &PluginCommand) -> Result<Exit, CommandError> {
    let sink = &mut *context.sink;
    match command {
        PluginCommand::New { name, lang, dir } => new::run(name, lang, dir.as_deref(), sink),
        PluginCommand::Inspect { file, output } => inspect::run(file, *output, sink),
        PluginCommand::Test { directories, plugin, case, bless, output } => {
            let options =
                test::TestOptions { directories, plugin: plugin.as_deref(), case: case.as_deref(), bless: *bless };
            test::run(&options, *output, sink)
        }
        PluginCommand::Bench { plugin, grant, flows, from, batch, output } => {
            let options = bench::BenchOptions {
                plugin,
                grants: grant.as_ref(),
                flows: *flows,
                from: from.as_deref(),
                batch: *batch,
            };
            bench::run(&options, *output, sink)
        }
        PluginCommand::Run { plugin, recording, speed, command } => {
            let mut words = command.clone();
            words.extend(["--plugin".into(), plugin.clone()]);
            replay::run(context, recording, *speed, &words)
        }
    }
}
