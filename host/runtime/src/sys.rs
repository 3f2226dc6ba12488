//! Queries the kernel about this process, and about executable memory.
#![allow(unsafe_code)]

use std::{io, ptr};

/// Returns true if the process must not make memory executable (`PR_GET_MDWE` in prctl(2), since Linux 6.3; systemd
/// sets it for `MemoryDenyWriteExecute=yes`). False on older kernels.
pub(super) fn denies_write_execute() -> bool {
    const PR_GET_MDWE: libc::c_int = 66;
    const PR_MDWE_REFUSE_EXEC_GAIN: libc::c_int = 1;
    // SAFETY: this request of prctl takes four arguments that must be 0, and touches no memory.
    let flags = unsafe { libc::prctl(PR_GET_MDWE, 0, 0, 0, 0) };
    flags > 0 && flags & PR_MDWE_REFUSE_EXEC_GAIN != 0
}

/// Makes a page executable as a compiler would, to find out whether that is permitted.
///
/// # Errors
/// The error of the kernel: system-call filters, SELinux and others forbid it too.
pub(super) fn make_executable() -> io::Result<()> {
    const LENGTH: usize = 4096;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new private mapping, at a place that the kernel chooses; it overlaps nothing.
    let page = unsafe { libc::mmap(ptr::null_mut(), LENGTH, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `page` is the mapping from above, which nothing refers to.
    let protected = unsafe { libc::mprotect(page, LENGTH, libc::PROT_READ | libc::PROT_EXEC) };
    let result = if protected == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: as above; it is not used afterwards.
    unsafe { libc::munmap(page, LENGTH) };
    result
}

/// Returns true if the kernel started the program with more privileges than its caller has: set-user-ID, set-group-ID,
/// or file capabilities (`AT_SECURE` in getauxval(3)). Its environment is then that of another user.
pub(super) fn is_privileged_start() -> bool {
    // SAFETY: getauxval accepts any number and reads only what the kernel passed to the process at its start.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Returns true if the effective user or group differs from the real one.
pub(super) fn acts_for_another() -> bool {
    // SAFETY: none of the four takes anything, touches memory or can fail.
    unsafe { libc::getuid() != libc::geteuid() || libc::getgid() != libc::getegid() }
}
