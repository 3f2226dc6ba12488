//! System calls for which the standard library and nix have no safe interface. All unsafe code of the crate is here.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString},
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    time::Duration,
};

use nix::{
    sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, UnixCredentials, recvmsg, setsockopt, sockopt},
    unistd::{ForkResult, Pid},
};

use super::{channel::Channel, child::Ending, frame::LONGEST};

/// Maximum number of descriptors sent with a record.
pub(super) const DESCRIPTORS: usize = 100;
/// Above all descriptor numbers used by a role, and below any reasonable limit on descriptors.
const HIGH: RawFd = 128;

/// Forks. Returns the child's process ID, or `None` in the child.
///
/// # Safety
/// The process must be single-threaded: in the child of a multi-threaded process, locks held by the other threads are
/// never released.
///
/// # Errors
/// If the kernel cannot create a process.
pub(super) unsafe fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: guaranteed by the caller.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Forks into a PID namespace of its own, in which the child is process 1: when it ends, the kernel ends all others
/// there. Returns the child's process ID, or `None` in the child.
///
/// # Safety
/// As [`fork`].
///
/// # Errors
/// If the kernel refuses; it takes CAP_SYS_ADMIN.
pub(super) unsafe fn fork_as_first() -> io::Result<Option<Pid>> {
    let flags = libc::CLONE_NEWPID | libc::SIGCHLD;
    // The C library has no function for this. It does not notice, either, which makes no difference to a single thread.
    // SAFETY: guaranteed by the caller; without a stack of its own the child has a copy of this one. The arguments
    // behind are not used with these flags, so that their order, which depends on the architecture, does not matter.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        child => Ok(i32::try_from(child).ok().map(Pid::from_raw)),
    }
}

/// Ends the process without running destructors.
pub(super) fn exit(status: u8) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(status.into()) }
}

/// Waits until data can be read or the other end is closed, for at most `time`. Returns true if so.
///
/// # Errors
/// If the kernel has no memory.
pub(super) fn readable(descriptor: BorrowedFd<'_>, time: Duration) -> io::Result<bool> {
    ready(descriptor, libc::POLLIN, time)
}

/// Waits until something can be written or the other end is closed, at most for this time; returns true if so.
///
/// # Errors
/// The kernel has no memory.
pub(super) fn writable(descriptor: BorrowedFd<'_>, time: Duration) -> io::Result<bool> {
    ready(descriptor, libc::POLLOUT, time)
}

fn ready(descriptor: BorrowedFd<'_>, events: libc::c_short, time: Duration) -> io::Result<bool> {
    let mut one = [libc::pollfd { fd: descriptor.as_raw_fd(), events, revents: 0 }];
    // Rounded up, so that waiting for less than a millisecond does not become a busy loop.
    let milliseconds = i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    poll(&mut one, milliseconds).map(|ready| ready > 0)
}

/// Waits for events on descriptors (`poll(2)`). An interruption by a signal is treated as a timeout.
///
/// # Errors
/// If the kernel has no memory.
pub(super) fn poll(descriptors: &mut [libc::pollfd], milliseconds: i32) -> io::Result<usize> {
    let count = libc::nfds_t::try_from(descriptors.len()).unwrap_or(libc::nfds_t::MAX);
    // SAFETY: the kernel reads and writes as many structures as the slice has.
    let ready = unsafe { libc::poll(descriptors.as_mut_ptr(), count, milliseconds) };
    match usize::try_from(ready) {
        Ok(ready) => Ok(ready),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            error => Err(error),
        },
    }
}

/// Receives a record and the descriptors sent with it. Returns the length; 0 at the end of the stream.
///
/// # Errors
/// InvalidData if the record is longer than the buffer, or carries more than [`DESCRIPTORS`] descriptors.
pub(super) fn receive(channel: &Channel, buffer: &mut [u8; LONGEST]) -> io::Result<(usize, Vec<OwnedFd>)> {
    use std::os::fd::AsFd as _;
    let mut slices = [io::IoSliceMut::new(buffer)];
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(channel.as_fd().as_raw_fd(), &mut slices, Some(&mut space), flags)
        .map_err(io::Error::from)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs().map_err(io::Error::from)? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just opened them for this process, and nothing else knows their numbers.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((message.bytes, descriptors))
}

/// Asks the kernel to say who has sent each record that is received here.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn ask_for_senders(channel: &Channel) -> io::Result<()> {
    use std::os::fd::AsFd as _;
    setsockopt(&channel.as_fd(), sockopt::PassCred, &true).map_err(io::Error::from)
}

/// Receives a record, and the process ID of its sender as this process sees it. Returns the length, which is 0 at the
/// end of the stream.
///
/// # Errors
/// The socket has failed, or the record is longer than the buffer.
pub(super) fn receive_from(channel: &Channel, buffer: &mut [u8; LONGEST]) -> io::Result<(usize, Option<i32>)> {
    use std::os::fd::AsFd as _;
    let mut slices = [io::IoSliceMut::new(buffer)];
    let mut space = nix::cmsg_space!(UnixCredentials);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<UnixAddr>(channel.as_fd().as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Err(nix::errno::Errno::EINTR) => {}
            received => break received.map_err(io::Error::from)?,
        }
    };
    let mut sender = None;
    for control in message.cmsgs().map_err(io::Error::from)? {
        if let ControlMessageOwned::ScmCredentials(credentials) = control {
            sender = Some(credentials.pid()).filter(|process| *process > 0);
        }
    }
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((message.bytes, sender))
}

/// Checks that the process may write a file or directory.
///
/// # Errors
/// Why it may not.
pub(super) fn is_writable(path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: takes a text that ends with a zero, and numbers.
    match unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK, libc::AT_EACCESS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns true if an extended attribute of a file is `1`.
pub(super) fn attribute_is_set(path: &CStr, name: &CStr) -> bool {
    let mut value = [0u8; 8];
    // SAFETY: the kernel reads two texts that end with a zero, and writes at most as many bytes as the array has.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    length == 1 && value.first() == Some(&b'1')
}

/// Takes ownership of a descriptor that the process was started with.
///
/// # Errors
/// EBADF if there is no such descriptor.
pub(super) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes no argument and changes nothing.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and this function is only called in the process of a role, where nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Moves open descriptors to consecutive numbers from `first` on, and closes all above. Their old numbers may be
/// reused.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn place(descriptors: &[OwnedFd], first: RawFd) -> io::Result<RawFd> {
    let mut high = Vec::with_capacity(descriptors.len());
    for descriptor in descriptors {
        // SAFETY: duplicates an open descriptor; nothing is closed.
        let number = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH) };
        high.push(if number == -1 { Err(io::Error::last_os_error()) } else { Ok(number) }?);
    }
    let mut next = first;
    for number in high {
        // SAFETY: the process is about to execute a program or to run one role: whatever had this number is no longer
        // used.
        if unsafe { libc::dup2(number, next) } == -1 {
            return Err(io::Error::last_os_error());
        }
        next += 1;
    }
    Ok(next)
}

/// Duplicates a descriptor to a number that [`place`] does not touch.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn aside(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: duplicates an open descriptor; nothing else owns the new one.
    unsafe {
        match libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH) {
            -1 => Err(io::Error::last_os_error()),
            number => Ok(OwnedFd::from_raw_fd(number)),
        }
    }
}

/// Closes all descriptors from `first` on.
pub(super) fn close_from(first: RawFd) {
    close_all_but(first, &[]);
}

/// Closes all descriptors from `first` on, except those in `kept`.
pub(super) fn close_all_but(first: RawFd, kept: &[RawFd]) {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let mut from = first;
    for number in kept.into_iter().filter(|number| *number >= first) {
        if number > from {
            close(from, number - 1);
        }
        from = number + 1;
    }
    close(from, RawFd::MAX);
}

/// Closes the descriptors from `first` to `last`.
fn close(first: RawFd, last: RawFd) {
    let number = |descriptor: RawFd| libc::c_uint::try_from(descriptor).unwrap_or_default();
    // SAFETY: takes three numbers. The process is single-threaded and no longer uses any of these descriptors.
    if unsafe { libc::syscall(libc::SYS_close_range, number(first), number(last), 0) } == 0 {
        return;
    }
    // Kernels before 5.9 lack the system call: closes one by one up to the descriptor limit, which is capped.
    let most = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(1024, |limit| limit.0);
    let most = RawFd::try_from(most.min(65_536)).unwrap_or(1024);
    for number in first..=last.min(most) {
        // SAFETY: as above.
        unsafe { libc::close(number) };
    }
}

/// Redirects standard input, output and error to `/dev/null`.
///
/// # Errors
/// If the kernel cannot open a descriptor.
pub(super) fn close_standard_streams() -> io::Result<()> {
    // SAFETY: opens a constant path, or a file in memory where there is no /dev, and duplicates it to the numbers of
    // the program's standard streams, which it no longer uses.
    unsafe {
        let mut nowhere = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if nowhere == -1 {
            nowhere =
                libc::syscall(libc::SYS_memfd_create, c"nowhere".as_ptr(), libc::MFD_CLOEXEC).try_into().unwrap_or(-1);
        }
        for number in 0..3 {
            if nowhere == -1 || libc::dup2(nowhere, number) == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        if nowhere > 2 {
            libc::close(nowhere);
        }
    }
    Ok(())
}

/// Reaps a child that has ended; returns `None` if it is still running.
pub(super) fn collect(pid: Pid) -> Option<Ending> {
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid `struct rusage`; the kernel writes to both.
    let (ended, usage) = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        (libc::wait4(pid.as_raw(), &raw mut status, libc::WNOHANG, &raw mut usage), usage)
    };
    if ended == 0 {
        return None;
    }
    let time = |time: libc::timeval| {
        let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
        seconds + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or_default())
    };
    let status = match libc::WIFSIGNALED(status) {
        true => Err(libc::WTERMSIG(status)),
        false => Ok(libc::WEXITSTATUS(status)),
    };
    let memory = u64::try_from(usage.ru_maxrss).unwrap_or_default().saturating_mul(1024);
    Some(Ending { status, time: time(usage.ru_utime) + time(usage.ru_stime), memory })
}

/// Makes new files of the process accessible to its user only (umask).
pub(super) fn keep_files_private() {
    // SAFETY: takes a number, and always succeeds.
    unsafe {
        libc::umask(0o077);
    }
}

/// Returns the CPU time of another process; `None` if it has ended.
pub(super) fn cpu_time(pid: i32) -> Option<Duration> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to a number and a structure that outlive the calls.
    let read = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) == 0 && libc::clock_gettime(clock, &raw mut time) == 0
    };
    let (seconds, rest) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
    read.then(|| Duration::new(seconds, rest))
}

/// Checks that the user of the process may execute an open program.
///
/// # Errors
/// The step that failed, and why.
pub(super) fn is_executable(program: BorrowedFd<'_>) -> Result<(), (&'static str, io::Error)> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_EACCESS;
    // SAFETY: takes a descriptor, an empty text and numbers.
    let result = unsafe { libc::syscall(libc::SYS_faccessat2, program.as_raw_fd(), c"".as_ptr(), libc::X_OK, flags) };
    // Kernels before 5.8 lack the call.
    match io::Error::last_os_error() {
        error if result != 0 && error.raw_os_error() == Some(libc::EACCES) => {
            Err(("cannot execute the program, whose file others must be able to execute", error))
        }
        _ => Ok(()),
    }
}

/// Limits the processes and threads that the user of the process has, to which those count that it has already.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn limit_processes(most: u64) -> io::Result<()> {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NPROC, most, most).map_err(io::Error::from)
}

/// Executes an open program with one argument and an empty environment.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn execute(program: BorrowedFd<'_>, name: &CStr) -> io::Error {
    let none: [CString; 0] = [];
    match nix::unistd::fexecve(program, &[name], &none) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}
