//! The sandbox of a process that only computes: it has memory, its channel, and the descriptors passed to it.
//!
//! The input of the computation is treated as if it were native code of an attacker: whatever takes over the process
//! has no capability, opens nothing, starts nothing, reaches no other process, and makes no memory executable. A system
//! call that the process does not need kills it (SIGSYS).
#![allow(unsafe_code)]

use std::{collections::BTreeMap, ptr};

use caps::{CapSet, Capability};
use libc::*;
use nix::{
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        wait::{WaitStatus, waitpid},
    },
    unistd::{self, ForkResult},
};
use seccompiler::{
    Error, SeccompAction, SeccompCmpArgLen::Qword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{PrivilegesError, capabilities::CapabilitySets, syscalls};

/// What confines a process that only computes, besides its system-call filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The version of Landlock in force, which denies all files, all ports, and signals to processes outside; `None`
    /// where the kernel does not support Landlock (before Linux 5.13).
    pub landlock: Option<u32>,
    /// True if no memory can become executable (`PR_SET_MDWE`, since Linux 6.3). The system-call filter refuses it as
    /// well.
    pub no_executable_memory: bool,
}

/// System calls allowed unconditionally.
const CALLS: &[c_long] = &[
    SYS_read,
    SYS_write,
    SYS_recvfrom,
    SYS_sendto,
    SYS_close,
    SYS_munmap,
    SYS_brk,
    SYS_futex,
    SYS_sched_yield,
    SYS_rt_sigreturn,
    SYS_rt_sigprocmask,
    SYS_sigaltstack,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_restart_syscall,
    SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    SYS_poll,
    SYS_getrandom,
    SYS_exit,
    SYS_exit_group,
    SYS_gettid,
    SYS_getpid,
];

/// System calls of a process that loads code, besides [`CALLS`].
const LOADING: &[c_long] = &[
    SYS_fcntl,
    SYS_fstat,
    SYS_lseek,
    SYS_pread64,
    SYS_statx,
    SYS_prctl,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_sched_getaffinity,
    SYS_set_robust_list,
    SYS_membarrier,
];

/// Additional flags allowed for a private anonymous mapping. `MAP_GROWSDOWN` is excluded because RLIMIT_DATA does not
/// count such memory.
const MAPPING: c_int = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_STACK;

/// Returns the condition that an argument equals this value.
fn exactly(argument: u8, value: c_int) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, Qword, SeccompCmpOp::Eq, wide(value))?)
}

/// Returns a flag as the 64-bit argument that the kernel sees.
fn wide(value: c_int) -> u64 {
    u64::from(value.cast_unsigned())
}

/// Compiles the filter to a program for the kernel. RLIMIT_DATA counts memory from the moment it becomes writable until
/// it is unmapped. Calls that would bypass this accounting are not allowed: shared mappings, files in memory, growing
/// mappings, and making pages read-only or inaccessible after they were written.
fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = CALLS.iter().map(|&call| (call, Vec::new())).collect();
    let private = wide(MAP_PRIVATE | MAP_ANONYMOUS);
    let mapping = || Ok(SeccompCondition::new(3, Qword, SeccompCmpOp::MaskedEq(!wide(MAPPING)), private)?);
    let protections = [PROT_NONE, PROT_READ | PROT_WRITE];
    let mappings = protections.map(|protection| syscalls::rule([exactly(2, protection), mapping()]));
    rules.insert(SYS_mmap, mappings.into_iter().collect::<Result<_, _>>()?);
    rules.insert(SYS_mprotect, vec![syscalls::rule([exactly(2, PROT_READ | PROT_WRITE)])?]);
    let moves = [0, MREMAP_MAYMOVE].map(|flags| syscalls::rule([exactly(3, flags)]));
    rules.insert(SYS_mremap, moves.into_iter().collect::<Result<_, _>>()?);
    let advice = [MADV_DONTNEED, MADV_FREE].map(|advice| syscalls::rule([syscalls::is(2, wide(advice))]));
    rules.insert(SYS_madvise, advice.into_iter().collect::<Result<_, _>>()?);
    // With debug assertions the standard library makes sure that what it closes is open.
    if cfg!(debug_assertions) {
        rules.insert(SYS_fcntl, vec![syscalls::rule([exactly(1, F_GETFD)])?]);
    }
    rules.insert(SYS_tgkill, vec![syscalls::rule([syscalls::is(0, u64::from(std::process::id()))])?]);
    Ok(rules)
}

/// Compiles the filter to a program for the kernel; any other system call kills the process.
fn program() -> Result<seccompiler::BpfProgram, Error> {
    compiled(rules()?, SeccompAction::KillProcess)
}

/// Compiles the filter for a process that loads compiled code and has not run any of it: it also makes memory
/// executable, starts threads of its own, and sets signal handlers, limits and filters. Other system calls fail with
/// ENOSYS.
fn loading_program() -> Result<seccompiler::BpfProgram, Error> {
    let mut rules = rules()?;
    let protections = [PROT_READ, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE, PROT_NONE];
    let protections = protections.map(|protection| syscalls::rule([exactly(2, protection)]));
    rules.insert(SYS_mprotect, protections.into_iter().collect::<Result<_, _>>()?);
    let thread = wide(CLONE_THREAD);
    let thread = SeccompCondition::new(0, Qword, SeccompCmpOp::MaskedEq(thread), thread)?;
    rules.insert(SYS_clone, vec![SeccompRule::new(vec![thread])?]);
    // Only its own limits: those of its owner and of other workers of the same user it could lower as well.
    rules.insert(SYS_prlimit64, vec![syscalls::rule([exactly(0, 0)])?]);
    rules.extend(LOADING.iter().map(|&call| (call, Vec::new())));
    compiled(rules, SeccompAction::Errno(ENOSYS.unsigned_abs()))
}

fn compiled(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
) -> Result<seccompiler::BpfProgram, Error> {
    let filter = SeccompFilter::new(rules, otherwise, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// Confines the calling process, which must be single-threaded, to computing. It can still use the descriptors that it
/// has.
///
/// # Errors
/// If the kernel has no system-call filters, or another mandatory restriction cannot be applied.
pub fn confine() -> Result<Sandbox, PrivilegesError> {
    let landlock = isolate()?;
    let no_executable_memory = deny_executable_memory();
    limit(0)?;
    confine_thread()?;
    Ok(Sandbox { landlock, no_executable_memory })
}

/// Confines the calling process, which must be single-threaded, to loading compiled code that has been made elsewhere,
/// and to what [`confine_running`] leaves. Returns the version of Landlock in force, as in [`Sandbox`].
///
/// # Errors
/// As [`confine`].
pub fn confine_loading() -> Result<Option<u32>, PrivilegesError> {
    let landlock = isolate()?;
    syscalls::load(loading_program()?)?;
    Ok(landlock)
}

/// Confines a process that has loaded all of its code to running it, and the calling thread to computing; each other
/// thread calls [`confine_thread`]. Returns true if no memory can become executable.
///
/// # Errors
/// As [`confine`].
pub fn confine_running() -> Result<bool, PrivilegesError> {
    let no_executable_memory = deny_executable_memory();
    // One descriptor, which standard input is: poll(2) fails for more than there may be.
    limit(1)?;
    confine_thread()?;
    Ok(no_executable_memory)
}

/// Limits the process to the threads that it has, and to descriptors below this number.
fn limit(descriptors: u64) -> Result<(), PrivilegesError> {
    setrlimit(Resource::RLIMIT_NOFILE, descriptors, descriptors).map_err(PrivilegesError::Resources)?;
    setrlimit(Resource::RLIMIT_NPROC, 0, 0).map_err(PrivilegesError::Resources)
}

/// Confines the calling thread, and those that it starts, to computing.
///
/// # Errors
/// The kernel has no system-call filters.
pub fn confine_thread() -> Result<(), PrivilegesError> {
    syscalls::load(program()?)
}

/// Takes everything from the calling process, which must be single-threaded, that is outside of it. Returns the version
/// of Landlock.
fn isolate() -> Result<Option<u32>, PrivilegesError> {
    // Prevents other processes of the same user from reading its memory or its descriptors.
    prctl::set_dumpable(false).map_err(PrivilegesError::Visible)?;
    drop_capabilities()?;
    Ok(survives(|| close_files().is_some()).then(close_files).flatten())
}

/// Drops all capabilities and the right to gain any, including those that a program executed by root would get. The
/// calling process must be single-threaded.
///
/// A hardened unit may have the kernel kill a process for `capset`. Where a filter is in force, a child process tries
/// the call first; if it fails or is killed, the capabilities permitted by the unit are kept, which a later [`confine`]
/// makes useless.
///
/// # Errors
/// If the kernel refuses to drop them.
pub fn drop_capabilities() -> Result<(), PrivilegesError> {
    keep_capabilities(0)
}

/// Drops all capabilities but those in `kept`, as [`drop_capabilities`].
///
/// # Errors
/// If the kernel refuses to drop them.
pub fn keep_capabilities(kept: u64) -> Result<(), PrivilegesError> {
    prctl::set_no_new_privs().map_err(PrivilegesError::NewPrivileges)?;
    // Capabilities that cannot be removed from these sets have no effect without the right to gain privileges.
    let _ = caps::clear(None, CapSet::Ambient);
    let has = CapabilitySets::read().map_err(PrivilegesError::Capabilities)?;
    let left = CapabilitySets { inheritable: 0, ..has.only(kept) };
    if has == left {
        return Ok(());
    }
    if has.effective & Capability::CAP_SETPCAP.bitmask() != 0 {
        let _ = caps::clear(None, CapSet::Bounding);
    }
    if !survives(|| left.apply().is_ok()) {
        return Ok(());
    }
    left.apply().map_err(PrivilegesError::Capabilities)
}

/// Lowers the scheduling priority of the calling process, which must be single-threaded (`nice(2)`), if that is
/// permitted.
pub fn give_way(nice: u8) {
    let set = || {
        // SAFETY: takes three numbers.
        unsafe { setpriority(PRIO_PROCESS, 0, nice.into()) == 0 }
    };
    if nice > 0 && survives(set) {
        set();
    }
}

/// Returns true if the system calls in `attempt` succeed and do not kill the process. The filter of a unit or container
/// may kill it for any call, so where a filter is in force a child process tries them.
fn survives(attempt: impl FnOnce() -> bool) -> bool {
    if !syscalls::are_filtered() {
        return true;
    }
    // SAFETY: the child only makes the system calls and exits.
    match unsafe { unistd::fork() } {
        Ok(ForkResult::Parent { child }) => {
            matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0)))
        }
        Ok(ForkResult::Child) => {
            let status = i32::from(!attempt());
            // SAFETY: takes a number and does not return.
            unsafe { _exit(status) }
        }
        Err(_) => false,
    }
}

/// Denies access to all files and all ports, and sending signals to other processes (`landlock(7)`). Returns the
/// Landlock version; `None` if the kernel does not support it, or a filter refuses.
fn close_files() -> Option<u32> {
    /// `struct landlock_ruleset_attr`.
    #[repr(C)]
    struct Ruleset {
        files: u64,
        ports: u64,
        scoped: u64,
    }
    const VERSION: c_uint = 1;
    // SAFETY: with this flag the call takes no structure, and returns a number.
    let version = unsafe { syscall(SYS_landlock_create_ruleset, ptr::null::<Ruleset>(), 0usize, VERSION) };
    let version = u32::try_from(version).ok().filter(|version| *version > 0)?;
    // Number of access rights on files by Landlock version: later ones added moving and linking files, truncation, and
    // ioctls on devices.
    let known = [13u32, 14, 15, 15, 16];
    let rights = usize::try_from(version - 1).ok().and_then(|index| known.get(index)).copied().unwrap_or(16);
    let rules = Ruleset {
        files: (1 << rights) - 1,
        ports: if version >= 4 { 3 } else { 0 },
        scoped: if version >= 6 { 3 } else { 0 },
    };
    let size: usize = match version {
        1..4 => 8,
        4..6 => 16,
        _ => size_of::<Ruleset>(),
    };
    // SAFETY: the kernel reads `size` bytes of the structure. The descriptor is new, and closed once it has been used.
    unsafe {
        let ruleset = c_int::try_from(syscall(SYS_landlock_create_ruleset, &raw const rules, size, 0)).ok()?;
        if ruleset < 0 {
            return None;
        }
        let result = syscall(SYS_landlock_restrict_self, ruleset, 0);
        close(ruleset);
        (result == 0).then_some(version)
    }
}

/// Forbids the process executable memory that is or was writable (`PR_SET_MDWE`). Returns false on kernels without
/// support for this (before Linux 6.3).
pub fn deny_executable_memory() -> bool {
    const REFUSE_EXEC_GAIN: c_ulong = 1;
    let none: c_ulong = 0;
    // SAFETY: takes numbers.
    unsafe { prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, none, none, none) == 0 }
}
