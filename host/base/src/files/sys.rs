//! The system calls that the standard library does not offer: files relative to a directory descriptor, and waiting for
//! a descriptor to become writable. Each call into libc is on memory that is borrowed here.
#![allow(unsafe_code)]

use std::{
    ffi::CStr,
    fs::File,
    io, mem,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _},
};

/// Returns the result of a system call, or its error.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls `open(2)` on an existing file; O_CLOEXEC is added.
pub(super) fn open(path: &CStr, flags: i32) -> io::Result<File> {
    // SAFETY: as for `open_at`.
    unsafe {
        checked(libc::open(path.as_ptr(), flags | libc::O_CLOEXEC)).map(|descriptor| File::from_raw_fd(descriptor))
    }
}

/// Calls `openat(2)`; O_CLOEXEC is added.
pub(super) fn open_at(directory: BorrowedFd<'_>, name: &CStr, flags: i32, mode: libc::mode_t) -> io::Result<File> {
    // SAFETY: the name ends with NUL, and what is returned is a new descriptor that nothing else owns.
    unsafe {
        let descriptor = libc::openat(directory.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC, mode);
        checked(descriptor).map(|descriptor| File::from_raw_fd(descriptor))
    }
}

/// Calls `fstatat(2)` without following a link.
pub(super) fn status_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<libc::stat> {
    // SAFETY: all-zero bytes are a valid `struct stat`, which the call fills in; the name ends with NUL.
    unsafe {
        let mut status: libc::stat = mem::zeroed();
        checked(libc::fstatat(directory.as_raw_fd(), name.as_ptr(), &raw mut status, libc::AT_SYMLINK_NOFOLLOW))?;
        Ok(status)
    }
}

/// Calls `readlinkat(2)`, which returns the target of a link.
pub(super) fn read_link_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<u8>> {
    let mut target = vec![0; libc::PATH_MAX as usize];
    // SAFETY: the buffer has the length that is given, and the name ends with NUL.
    let length =
        unsafe { libc::readlinkat(directory.as_raw_fd(), name.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    target.truncate(length);
    Ok(target)
}

/// Calls `renameat(2)` within a directory.
pub(super) fn rename_at(directory: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    let directory = directory.as_raw_fd();
    // SAFETY: both names end with NUL.
    checked(unsafe { libc::renameat(directory, from.as_ptr(), directory, to.as_ptr()) }).map(|_| ())
}

/// Calls `unlinkat(2)` for a file.
pub(super) fn remove_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends with NUL.
    checked(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) }).map(|_| ())
}

/// Calls `mkdirat(2)`; a directory that exists already is no error.
pub(super) fn make_at(directory: BorrowedFd<'_>, name: &CStr, mode: libc::mode_t) -> io::Result<()> {
    // SAFETY: the name ends with NUL.
    match checked(unsafe { libc::mkdirat(directory.as_raw_fd(), name.as_ptr(), mode) }) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Calls `faccessat(2)` to check that the process may write here, by its effective ids.
pub(super) fn may_write_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends with NUL.
    checked(unsafe { libc::faccessat(directory.as_raw_fd(), name.as_ptr(), libc::W_OK, libc::AT_EACCESS) }).map(|_| ())
}

/// Returns the effective user id.
#[must_use]
pub fn effective_user() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Returns true if a write to the descriptor would not block, even if it would fail.
pub(super) fn is_writable(descriptor: &impl AsFd) -> bool {
    let mut entry = libc::pollfd { fd: descriptor.as_fd().as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    unsafe { libc::poll(&raw mut entry, 1, 0) == 1 }
}

/// Waits until a write to the descriptor would not block. A caught signal ends the wait early, which is no error.
pub(super) fn wait_writable(descriptor: &impl AsFd) -> io::Result<()> {
    let mut entry = libc::pollfd { fd: descriptor.as_fd().as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    match checked(unsafe { libc::poll(&raw mut entry, 1, -1) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}
