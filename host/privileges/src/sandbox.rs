//! A process that computes, and nothing else: it has memory, its channel, and what else it was given open.
//!
//! It treats what it computes on as if that were native code of an attacker: whatever takes over the process has no
//! capability, opens nothing, starts nothing, reaches no other process, and makes no memory executable. A system call
//! that it does not need ends it (SIGSYS).
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

/// What holds a process that computes, besides its system-call filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The version of Landlock that closes all files, ports, and signals to processes outside; `None` where the kernel
    /// has none (before Linux 5.13).
    pub landlock: Option<u32>,
    /// True if no memory can become executable (`PR_SET_MDWE`, since Linux 6.3). The filter refuses it as well.
    pub no_executable_memory: bool,
}

/// System calls without conditions.
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

/// Flags that a private mapping without a file may have besides. Not `MAP_GROWSDOWN`, which RLIMIT_DATA does not count.
const MAPPING: c_int = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_STACK;

/// Returns the condition that an argument is this value.
fn exactly(argument: u8, value: c_int) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, Qword, SeccompCmpOp::Eq, wide(value))?)
}

/// Returns a flag as the kernel sees an argument.
fn wide(value: c_int) -> u64 {
    u64::from(value.cast_unsigned())
}

/// Compiles the filter to a program for the kernel. Memory counts in RLIMIT_DATA from when it becomes writable until it
/// is given back: what would hide it from that is not allowed (shared mappings, files in memory, mappings that grow,
/// pages that become read-only or inaccessible after they were written).
fn program() -> Result<seccompiler::BpfProgram, Error> {
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
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

/// Confines the calling process, which has one thread, to computing. It can still use the descriptors that it has.
///
/// # Errors
/// The kernel has no system-call filters, or something else cannot be given up that has to be.
pub fn confine() -> Result<Sandbox, PrivilegesError> {
    // No other process of the user reads its memory or its descriptors.
    prctl::set_dumpable(false).map_err(PrivilegesError::Visible)?;
    drop_capabilities()?;
    let landlock = survives(|| close_files().is_some()).then(close_files).flatten();
    let sandbox = Sandbox { landlock, no_executable_memory: deny_executable_memory() };
    for resource in [Resource::RLIMIT_NOFILE, Resource::RLIMIT_NPROC] {
        setrlimit(resource, 0, 0).map_err(PrivilegesError::Resources)?;
    }
    syscalls::load(program()?)?;
    Ok(sandbox)
}

/// Drops all capabilities and the right to gain any: also those that a program would have by its user when it is
/// executed. The calling process has one thread.
///
/// A hardened unit may have the kernel kill a process for `capset`. Where a filter is in force, a process made for that
/// finds out; the capabilities that the unit leaves are then kept, which a later [`confine`] makes useless.
///
/// # Errors
/// The kernel does not drop them.
pub fn drop_capabilities() -> Result<(), PrivilegesError> {
    prctl::set_no_new_privs().map_err(PrivilegesError::NewPrivileges)?;
    // What cannot be removed from these sets has no effect without new privileges.
    let _ = caps::clear(None, CapSet::Ambient);
    let has = CapabilitySets::read().map_err(PrivilegesError::Capabilities)?;
    if has == CapabilitySets::default() {
        return Ok(());
    }
    if has.effective & Capability::CAP_SETPCAP.bitmask() != 0 {
        let _ = caps::clear(None, CapSet::Bounding);
    }
    if !survives(|| CapabilitySets::default().apply().is_ok()) {
        return Ok(());
    }
    CapabilitySets::default().apply().map_err(PrivilegesError::Capabilities)
}

/// Has the calling process, which has one thread, give way to others (`nice(2)`), if that is permitted.
pub fn give_way(nice: u8) {
    let set = || {
        // SAFETY: takes three numbers.
        unsafe { setpriority(PRIO_PROCESS, 0, nice.into()) == 0 }
    };
    if nice > 0 && survives(set) {
        set();
    }
}

/// Returns true if system calls succeed and do not end the process, as a filter of a unit or container may have it for any
/// call: where there is one, a process made for that tries.
fn survives(attempt: impl FnOnce() -> bool) -> bool {
    if !syscalls::are_filtered() {
        return true;
    }
    // SAFETY: the child makes the system calls and ends.
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

/// Closes all files, all ports, and other processes to signals (`landlock(7)`). Returns the version; `None` if the kernel
/// has none, or a filter refuses.
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
    // Each version knows more: moving and linking files, truncating them, requests to devices.
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

/// Forbids executable memory that is or was writable; returns false on kernels that cannot.
fn deny_executable_memory() -> bool {
    const REFUSE_EXEC_GAIN: c_ulong = 1;
    let none: c_ulong = 0;
    // SAFETY: takes numbers.
    unsafe { prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, none, none, none) == 0 }
}
