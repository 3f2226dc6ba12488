//! Changing the user of a process, for processes that run code of others: each gets a user that nothing else has.
#![allow(unsafe_code)]

use std::{io, ptr};

use caps::Capability;
use libc::{_exit, SYS_setgroups, SYS_setresgid, SYS_setresuid, c_long, geteuid, gid_t, syscall};
use nix::{
    errno::Errno,
    sys::{
        resource::{Resource, setrlimit},
        wait::waitpid,
    },
    unistd::{self, ForkResult},
};

use super::capabilities::CapabilitySets;

/// Returns the capabilities of a process that starts others as users of their own, as bits: it sets users and groups,
/// and ends what runs as another user. `PR_SET_PDEATHSIG` needs CAP_KILL as well: the signal is sent by the process
/// that ends.
#[must_use]
pub fn capabilities() -> u64 {
    [Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_KILL]
        .iter()
        .fold(0, |bits, capability| bits | capability.bitmask())
}

/// Returns true if the calling thread has the [`capabilities`] to start processes as other users.
#[must_use]
pub fn can_be_changed() -> bool {
    CapabilitySets::read().is_ok_and(|has| has.effective & capabilities() == capabilities())
}

/// Returns true if the calling thread may make namespaces.
#[must_use]
pub fn can_make_namespaces() -> bool {
    CapabilitySets::read().is_ok_and(|has| has.effective & Capability::CAP_SYS_ADMIN.bitmask() != 0)
}

/// Returns true if the calling process runs as root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: takes nothing, and always succeeds.
    unsafe { geteuid() == 0 }
}

/// Makes the calling process, which must be single-threaded, one of a user and a group with this number, without
/// further groups. Its capabilities are unchanged unless it was one of root.
///
/// # Errors
/// The step that failed, and why.
pub fn become_user(number: u32) -> Result<(), (&'static str, io::Error)> {
    let done = |step, result: c_long| if result == 0 { Ok(()) } else { Err((step, io::Error::last_os_error())) };
    // The C library's functions change all threads, by signals; the system calls change the calling one.
    // SAFETY: takes numbers, and no list.
    unsafe {
        done("cannot leave all groups", syscall(SYS_setgroups, 0usize, ptr::null::<gid_t>()))?;
        done("cannot change the group", syscall(SYS_setresgid, number, number, number))?;
        done("cannot change the user", syscall(SYS_setresuid, number, number, number))
    }
}

/// Returns true if the user of the calling process has another process or thread in its user namespace, whether it can
/// be seen from here or not. The calling process must be single-threaded, no process of root, and have no capability;
/// it cannot start more than one process afterwards.
#[must_use]
pub fn has_another_process() -> bool {
    // This process and another one, which cannot be started if there is one already.
    if setrlimit(Resource::RLIMIT_NPROC, 2, 2).is_err() {
        return false;
    }
    // SAFETY: the child only exits.
    match unsafe { unistd::fork() } {
        Ok(ForkResult::Parent { child }) => {
            let _ = waitpid(child, None);
            false
        }
        // SAFETY: takes a number and does not return.
        Ok(ForkResult::Child) => unsafe { _exit(0) },
        Err(errno) => errno == Errno::EAGAIN,
    }
}
