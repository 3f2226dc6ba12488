//! `completions`: writes the completion script of a shell.

use super::{CommandError, Exit};
use crate::args::{self, Shell};
use flowgate_pipeline::sink::{Sink, SinkError};

/// Writes the script.
pub(super) fn run(shell: Shell, name: &str, sink: &mut dyn Sink) -> Result<Exit, CommandError> {
    let script = args::completion_script(shell, name).map_err(SinkError::Stdout)?;
    sink.write(script.as_bytes())?;
    Ok(Exit::Success)
}
