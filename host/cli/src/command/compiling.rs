//! The engines of plugins from files, which are compiled in processes of their own.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use super::{policy::PolicyError, report};
use flowgate_base::io_error::error_text;
use flowgate_isolation::{Role, Separation, Spawner, UserRange, cgroup::Groups};
use flowgate_policy::{WorkerUids, control::CgroupControllers};
use flowgate_privileges::{PrivilegeProfile, users};
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
///
/// # Errors
/// [`PolicyError::WorkerUids`].
#[allow(unsafe_code)]
pub(super) unsafe fn provide(profile: PrivilegeProfile, worker_uids: WorkerUids) -> Result<(), PolicyError> {
    if !profile.is_confined() {
        return Ok(());
    }
    // SAFETY: the caller's.
    let users = unsafe { users_of(worker_uids) }?;
    let is_service = profile.is_strict();
    let separation = Separation { users, pid_namespace: is_service && users::can_make_namespaces() };
    let groups = is_service.then(|| Groups::open().ok()).flatten();
    // SAFETY: the caller's.
    let spawner = unsafe { Spawner::fork(work, separation, groups) }.map(Arc::new);
    if let Ok(spawner) = &spawner {
        let _ = SPAWNER.set(spawner.clone());
    }
    // A process has one command line.
    let _ = COMPILER.set(Arc::new(Compiler::new(spawner, is_service)));
    Ok(())
}

/// Returns the users of processes, if each is to have one of its own. Unless the policy names them, all have the same
/// where root lacks the capabilities, as in a hardened unit, or the users, as in a user namespace.
///
/// # Safety
/// The calling process has one thread.
///
/// # Errors
/// [`PolicyError::WorkerUids`].
#[allow(unsafe_code)]
unsafe fn users_of(worker_uids: WorkerUids) -> Result<Option<UserRange>, PolicyError> {
    let range = match worker_uids {
        WorkerUids::Shared => None,
        WorkerUids::Default => (users::is_root() && users::can_be_changed()).then_some(UserRange::DEFAULT),
        WorkerUids::Range(first, last) => UserRange::new(first, last),
    };
    let Some(range) = range else { return Ok(None) };
    // SAFETY: the caller's.
    match unsafe { Spawner::check_users(range) } {
        Ok(()) => Ok(Some(range)),
        Err(error) if worker_uids == WorkerUids::Default => {
            report::line(&format!("NOTE: workers have the user of the service, not {range}: {}", error_text(&error)));
            Ok(None)
        }
        Err(source) => Err(PolicyError::WorkerUids { range, source }),
    }
}

/// Returns what separates the processes that are started, besides what they give up themselves.
pub(super) fn separation() -> Separation {
    SPAWNER.get().map(|spawner| spawner.separation()).unwrap_or_default()
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

/// Returns the controllers of the control groups of processes, if each has one.
pub(super) fn controllers() -> Option<CgroupControllers> {
    let controllers = SPAWNER.get()?.controllers()?;
    Some(CgroupControllers { memory: controllers.memory, pids: controllers.pids, cpu: controllers.cpu })
}

/// Removes control groups of processes that have ended.
pub(super) fn tidy() {
    if let Some(spawner) = SPAWNER.get() {
        spawner.tidy();
    }
}

/// Works in a role. Returns the exit status.
pub fn work(role: Role) -> u8 {
    match role {
        Role::Compiler => compiler::serve(),
        Role::Worker => flowgate_worker::serve(super::plugin::do_job),
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
