//! The engines of plugins from files, which are compiled in processes of their own.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use flowgate_isolation::{Role, Spawner};
use flowgate_privileges::PrivilegeProfile;
use flowgate_runtime::{Cache, Compiler, LoadError, PluginEngine, compiler};

/// What compiles plugins in this process; empty where none is loaded.
static COMPILER: OnceLock<Arc<Compiler>> = OnceLock::new();
/// What starts processes of this process; empty where there are none, or it could not be started.
static SPAWNER: OnceLock<Arc<Spawner>> = OnceLock::new();

/// Starts the spawner of compiling processes, if this profile runs plugins. This happens before the profile is applied,
/// which removes the ability to start processes.
///
/// # Safety
/// The calling process has one thread.
#[allow(unsafe_code)]
pub(super) unsafe fn provide(profile: PrivilegeProfile) {
    if !profile.is_confined() {
        return;
    }
    // SAFETY: the caller's.
    let spawner = unsafe { Spawner::fork(work) }.map(Arc::new);
    if let Ok(spawner) = &spawner {
        let _ = SPAWNER.set(spawner.clone());
    }
    // A process has one command line.
    let _ = COMPILER.set(Arc::new(Compiler::new(spawner, profile.is_strict())));
}

/// Ends what compiles plugins in this process.
pub fn end() {
    if let Some(compiler) = COMPILER.get() {
        compiler.end();
    }
}

/// Returns what starts processes, if there is anything that does.
pub(super) fn spawner() -> Option<Arc<Spawner>> {
    SPAWNER.get().cloned()
}

/// Returns true if what starts processes has ended, whatever ended it.
pub(super) fn has_ended() -> bool {
    SPAWNER.get().is_some_and(|spawner| spawner.has_ended())
}

/// Works in a role. Returns the exit status.
pub fn work(role: Role) -> u8 {
    match role {
        Role::Compiler => compiler::serve(),
        Role::Worker => flowgate_worker::serve(),
    }
}

/// Returns an engine whose plugins from files are compiled in processes of their own.
///
/// # Errors
/// [`LoadError::Engine`] if it cannot start.
pub(super) fn engine(cache: Option<Cache>) -> Result<PluginEngine, LoadError> {
    let none = || Arc::new(Compiler::new(Err(io::Error::other("this process loads no plugins")), false));
    PluginEngine::with(cache, Some(COMPILER.get().cloned().unwrap_or_else(none)))
}
