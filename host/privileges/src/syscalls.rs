//! The system calls of a process that runs foreign code: files, memory, threads, signals to itself, time, and sockets
//! of four families. All other system calls fail with ENOSYS (`seccomp(2)`), so that the C library falls back to an
//! older call if it tries one that is newer than this list.

use std::{collections::BTreeMap, io};

use libc::*;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::PrivilegesError;

/// Files, subject to their permissions.
const FILES: &[c_long] = &[
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_pwrite64,
    SYS_preadv,
    SYS_pwritev,
    SYS_openat,
    SYS_openat2,
    SYS_close,
    SYS_close_range,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_statfs,
    SYS_fstatfs,
    SYS_lseek,
    SYS_fsync,
    SYS_fdatasync,
    SYS_ftruncate,
    SYS_fallocate,
    SYS_fadvise64,
    SYS_flock,
    SYS_fcntl,
    SYS_dup,
    SYS_dup3,
    SYS_getdents64,
    SYS_readlinkat,
    SYS_renameat,
    SYS_renameat2,
    SYS_linkat,
    SYS_unlinkat,
    SYS_mkdirat,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_fchown,
    SYS_utimensat,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_umask,
    SYS_getcwd,
    SYS_copy_file_range,
    SYS_sendfile,
    SYS_splice,
    SYS_memfd_create,
    SYS_pipe2,
    SYS_inotify_init1,
    SYS_inotify_add_watch,
    SYS_inotify_rm_watch,
];

/// Equivalent and further calls that exist on this architecture only.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    SYS_open,
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_readlink,
    SYS_rename,
    SYS_unlink,
    SYS_mkdir,
    SYS_rmdir,
    SYS_chmod,
    SYS_dup2,
    SYS_pipe,
    SYS_poll,
    SYS_select,
    SYS_epoll_create,
    SYS_epoll_wait,
    SYS_eventfd,
    SYS_inotify_init,
    SYS_arch_prctl,
    SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

/// Memory. Plugins are compiled to machine code, which is then made executable.
const MEMORY: &[c_long] = &[
    SYS_mmap,
    SYS_munmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_madvise,
    SYS_brk,
    SYS_mlock,
    SYS_munlock,
    SYS_mincore,
    SYS_msync,
    SYS_membarrier,
];

/// Threads and the process itself. (The flags of clone3 are in memory, which a filter cannot read: when clone3 is
/// refused, the C library uses clone.)
const PROCESS: &[c_long] = &[
    SYS_futex,
    SYS_set_robust_list,
    SYS_get_robust_list,
    SYS_rseq,
    SYS_set_tid_address,
    SYS_exit,
    SYS_exit_group,
    // For its own child, the process that starts compilers.
    SYS_wait4,
    SYS_restart_syscall,
    SYS_gettid,
    SYS_getpid,
    SYS_getppid,
    SYS_getpgid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_sched_setaffinity,
    SYS_sched_getscheduler,
    SYS_sched_getparam,
    SYS_getpriority,
    SYS_getrusage,
    SYS_getrlimit,
    SYS_times,
    SYS_sysinfo,
    SYS_uname,
    SYS_getcpu,
    SYS_prctl,
    SYS_capget,
    SYS_capset,
    SYS_getrandom,
    // Subject to the kernel's capability check.
    SYS_setns,
];

/// Signals: receiving them.
const SIGNALS: &[c_long] = &[
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigpending,
    SYS_rt_sigtimedwait,
    SYS_rt_sigsuspend,
    SYS_sigaltstack,
    SYS_signalfd4,
];

/// Time, and waiting.
const WAITING: &[c_long] = &[
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_gettimeofday,
    // The grace period after a signal.
    SYS_setitimer,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_timerfd_gettime,
    SYS_ppoll,
    SYS_pselect6,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_eventfd2,
];

/// Operations on open sockets.
const SOCKETS: &[c_long] = &[
    SYS_bind,
    SYS_connect,
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    SYS_getsockname,
    SYS_getpeername,
    SYS_getsockopt,
    SYS_setsockopt,
    SYS_sendto,
    SYS_recvfrom,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_sendmmsg,
    SYS_recvmmsg,
    SYS_shutdown,
];

/// ioctl requests that the standard library and terminals need, without those that inject input into the user's
/// terminal.
const CONTROLS: &[c_ulong] =
    &[FIONBIO, FIONREAD, FIOCLEX, TCGETS, TCSETS, TCSETSW, TCSETSF, TCGETS2, TCSETS2, TCSETSW2, TCSETSF2, TIOCGWINSZ];

/// Returns the condition that an argument has this value.
pub(super) fn is(argument: u8, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, Dword, SeccompCmpOp::Eq, value)?)
}

/// Returns a rule that matches if all conditions do.
pub(super) fn rule(
    conditions: impl IntoIterator<Item = Result<SeccompCondition, Error>>,
) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)?)
}

/// Compiles the filter to a program for the kernel.
fn program() -> Result<BpfProgram, Error> {
    let whole = [FILES, OLD, MEMORY, PROCESS, SIGNALS, WAITING, SOCKETS];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        whole.into_iter().flatten().map(|&call| (call, Vec::new())).collect();
    let own = u64::from(std::process::id());
    rules.insert(SYS_kill, vec![rule([is(0, own)])?]);
    rules.insert(SYS_tgkill, vec![rule([is(0, own)])?]);
    // The process reads its own limits to find its stack.
    rules.insert(SYS_prlimit64, vec![rule([is(0, 0)])?, rule([is(0, own)])?]);
    let thread = CLONE_THREAD as u64;
    let threads = SeccompCondition::new(0, Dword, SeccompCmpOp::MaskedEq(thread), thread)?;
    rules.insert(SYS_clone, vec![SeccompRule::new(vec![threads])?]);
    let controls = CONTROLS.iter().map(|&control| rule([is(1, control)]));
    rules.insert(SYS_ioctl, controls.collect::<Result<_, _>>()?);
    let families = [AF_UNIX, AF_INET, AF_INET6].map(|family| rule([is(0, family as u64)]));
    let netlink =
        [NETLINK_ROUTE, NETLINK_NETFILTER].map(|protocol| rule([is(0, AF_NETLINK as u64), is(2, protocol as u64)]));
    rules.insert(SYS_socket, families.into_iter().chain(netlink).collect::<Result<_, _>>()?);
    rules.insert(SYS_socketpair, vec![rule([is(0, AF_UNIX as u64)])?]);
    let missing = SeccompAction::Errno(ENOSYS as u32);
    let filter = SeccompFilter::new(rules, missing, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// Restricts the calling thread, and the threads that it starts, to these system calls.
///
/// # Errors
/// If the kernel does not support filters, or not on this architecture.
pub(super) fn confine() -> Result<(), PrivilegesError> {
    load(program()?)
}

/// Installs a filter for the calling thread and the threads that it starts. It uses `prctl` instead of `seccomp(2)`,
/// which systemd's set `@system-service` lacks.
///
/// # Errors
/// If the kernel does not support filters.
#[allow(unsafe_code)]
pub(super) fn load(mut filter: BpfProgram) -> Result<(), PrivilegesError> {
    let length = u16::try_from(filter.len()).map_err(|_| PrivilegesError::Calls(io::ErrorKind::InvalidInput.into()))?;
    let program = sock_fprog { len: length, filter: filter.as_mut_ptr().cast() };
    // SAFETY: the kernel copies the program, whose instructions have the layout of `struct sock_filter`.
    let result = unsafe { prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &raw const program) };
    if result == 0 { Ok(()) } else { Err(PrivilegesError::Calls(io::Error::last_os_error())) }
}

/// Returns true if a filter is in force for the calling thread.
#[allow(unsafe_code)]
pub(super) fn are_filtered() -> bool {
    // SAFETY: takes no pointers and changes nothing.
    let mode = unsafe { prctl(PR_GET_SECCOMP) };
    u32::try_from(mode).is_ok_and(|mode| mode == SECCOMP_MODE_FILTER)
}
