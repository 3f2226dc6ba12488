//! The main function of a process that compiles.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    panic::{self, AssertUnwindSafe},
    path::Path,
};

use flowgate_base::text::of_panic;
use flowgate_isolation::{Channel, Role};
use wasmtime::Engine;

use super::{
    super::{
        component::checked,
        engine::engine_error,
        error::{self, LoadError},
        execution::Execution,
    },
    protocol::{Task, write_answer},
};

/// Exit status of a process that was started without a task, for example by hand.
const NO_TASK: u8 = 2;

/// Compiles the plugin passed to this process, and returns its exit status.
#[must_use]
pub fn serve() -> u8 {
    let Ok((channel, files)) = Role::Compiler.descriptors(2) else { return NO_TASK };
    let mut buffer = Channel::buffer();
    let Ok(Some(record)) = channel.receive(&mut buffer) else { return NO_TASK };
    let Ok(task) = Task::read(record) else { return NO_TASK };
    let result = prepare(&task).and_then(|engine| {
        // Confines the process before any of the plugin is read.
        flowgate_privileges::sandbox::confine().map_err(|error| LoadError::Compiler {
            path: task.path.clone(),
            what: format!("is not confined: {error}"),
        })?;
        let compile = AssertUnwindSafe(|| compile(&engine, &task, files));
        panic::catch_unwind(compile)
            .unwrap_or_else(|payload| Err(LoadError::Panicked(of_panic(payload.as_ref()).into())))
    });
    let sent = write_answer(&result).map_err(io::Error::other).and_then(|answer| channel.send(&answer, &[]));
    u8::from(sent.is_err()).saturating_mul(NO_TASK)
}

/// Returns the engine for which the code is compiled, with a single compilation thread.
fn prepare(task: &Task) -> Result<Engine, LoadError> {
    let mut config = Execution::elsewhere(task.interpreted, task.checked).config().map_err(engine_error)?;
    config.parallel_compilation(false);
    Engine::new(&config).map_err(engine_error)
}

/// Compiles the plugin; returns the length of the code.
fn compile(engine: &Engine, task: &Task, files: Vec<OwnedFd>) -> Result<u64, LoadError> {
    let path: &Path = &task.path;
    let failed = |error: io::Error| LoadError::Compiler { path: path.into(), what: format!("cannot go on: {error}") };
    let [plugin, code] = <[OwnedFd; 2]>::try_from(files).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
    let length = usize::try_from(task.length).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
    let mut content = vec![0; length];
    File::from(plugin).read_exact(&mut content).map_err(failed)?;
    let component = checked(path, &content)?;
    let compiled = engine.precompile_component(&component).map_err(|error| error::not_compiled(path, &error))?;
    File::from(code).write_all(&compiled).map_err(failed)?;
    Ok(compiled.len() as u64)
}
