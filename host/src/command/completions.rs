//! `completions`: the script that completes command lines in a shell.

use super::{CommandError, Exit};
use crate::{
    cli::{self, Shell},
    pipeline::sink::Sink,
};

/// Writes the script.
pub(super) fn run(shell: Shell, name: &str, sink: &mut dyn Sink) -> Result<Exit, CommandError> {
    sink.write(cli::completion_script(shell, name)?.as_bytes())?;
    Ok(Exit::Success)
}
