//! What native code may try in a process that only computes: system calls that end it, calls that computing needs, and
//! what the resource limits refuse. The tests of the compiling process and of workers include this file.

use libc::*;

/// A name, and a function that returns a negative number if the kernel refuses.
pub(crate) type Attack = (&'static str, fn() -> c_long);

/// Expands to a system call with these arguments.
macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {
        unsafe { syscall($number as c_long $(, $argument as c_long)*) }
    };
}

fn map(length: usize, protection: c_int, flags: c_int, file: c_int) -> c_long {
    call!(SYS_mmap, 0, length, protection, flags, file, 0)
}

fn page() -> c_long {
    map(1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1)
}

fn protect(protection: c_int) -> c_long {
    call!(SYS_mprotect, page(), 1 << 20, protection)
}

const PRIVATE: c_int = MAP_PRIVATE | MAP_ANONYMOUS;
const BOTH: c_int = PROT_READ | PROT_WRITE;
/// The process ID of another process.
const OTHER: c_long = 1;

/// Attacks that end the process.
pub(crate) const FORBIDDEN: &[Attack] = &[
    ("open a file", || call!(SYS_openat, AT_FDCWD, c"/etc/passwd".as_ptr(), O_RDONLY)),
    ("open its own memory", || call!(SYS_openat, AT_FDCWD, c"/proc/self/mem".as_ptr(), O_RDWR)),
    ("open what it has open", || call!(SYS_openat, AT_FDCWD, c"/proc/self/fd/3".as_ptr(), O_RDWR)),
    ("look at a file", || call!(SYS_statx, AT_FDCWD, c"/".as_ptr(), 0, 0, 0)),
    ("a socket of the network", || call!(SYS_socket, AF_INET, SOCK_STREAM, 0)),
    ("a socket of netlink", || call!(SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)),
    ("a socket of its machine", || call!(SYS_socket, AF_UNIX, SOCK_STREAM, 0)),
    ("two sockets", || call!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 0)),
    ("connect", || call!(SYS_connect, 3, 0, 0)),
    ("pass descriptors", || call!(SYS_sendmsg, 3, 0, 0)),
    ("receive descriptors", || call!(SYS_recvmsg, 3, 0, 0)),
    ("set options of its channel", || call!(SYS_setsockopt, 3, SOL_SOCKET, SO_SNDBUF, 0, 0)),
    ("duplicate a descriptor", || call!(SYS_dup, 3)),
    ("change a descriptor", || call!(SYS_fcntl, 3, F_SETFL, 0)),
    ("a request to a device", || call!(SYS_ioctl, 0, TIOCSTI, 0)),
    ("a pipe", || call!(SYS_pipe2, 0, 0)),
    ("a file in memory", || call!(SYS_memfd_create, c"x".as_ptr(), 0)),
    ("make a file longer", || call!(SYS_ftruncate, 4, 1)),
    ("a process", || call!(SYS_clone, SIGCHLD, 0, 0, 0, 0)),
    ("a thread", || call!(SYS_clone, CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, 0, 0)),
    ("a process by flags in memory", || call!(SYS_clone3, 0, 0)),
    ("a program", || call!(SYS_execve, c"/bin/sh".as_ptr(), 0, 0)),
    ("a program by descriptor", || call!(SYS_execveat, 4, c"".as_ptr(), 0, 0, AT_EMPTY_PATH)),
    ("end its owner", || call!(SYS_kill, OTHER, SIGKILL)),
    ("end everybody", || call!(SYS_kill, -1, SIGKILL)),
    ("end a thread of somebody", || call!(SYS_tgkill, OTHER, OTHER, SIGKILL)),
    ("a handle of a process", || call!(SYS_pidfd_open, OTHER, 0)),
    ("a descriptor of a process", || call!(SYS_pidfd_getfd, 3, 0, 0)),
    ("trace a process", || call!(SYS_ptrace, PTRACE_SEIZE, OTHER, 0, 0)),
    ("be traced", || call!(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0)),
    ("read the memory of a process", || call!(SYS_process_vm_readv, OTHER, 0, 0, 0, 0, 0)),
    ("write the memory of a process", || call!(SYS_process_vm_writev, OTHER, 0, 0, 0, 0, 0)),
    ("change its limits", || call!(SYS_prlimit64, 0, RLIMIT_DATA, 0, 0)),
    ("change limits of others", || call!(SYS_prlimit64, OTHER, RLIMIT_NOFILE, 0, 0)),
    ("become dumpable", || call!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)),
    ("another filter", || call!(SYS_seccomp, 1, 0, 0)),
    ("become root", || call!(SYS_setresuid, 0, 0, 0)),
    ("have capabilities", || call!(SYS_capset, 0, 0)),
    ("a user namespace", || call!(SYS_unshare, CLONE_NEWUSER)),
    ("another namespace", || call!(SYS_setns, 3, 0)),
    ("mount", || call!(SYS_mount, 0, c"/".as_ptr(), 0, MS_BIND, 0)),
    ("a program of the kernel", || call!(SYS_bpf, 0, 0, 0)),
    ("a queue of requests", || call!(SYS_io_uring_setup, 1, 0)),
    ("events of the processor", || call!(SYS_perf_event_open, 0, 0, -1, -1, 0)),
    ("faults of pages", || call!(SYS_userfaultfd, 0)),
    ("a key", || call!(SYS_keyctl, 0, 0)),
    ("shared memory", || call!(SYS_shmget, 0, 4096, IPC_CREAT)),
    ("a handler of a signal", || call!(SYS_rt_sigaction, SIGSYS, 0, 0, 8)),
    ("an alarm", || call!(SYS_setitimer, ITIMER_REAL, 0, 0)),
    ("executable memory", || map(4096, PROT_READ | PROT_EXEC, PRIVATE, -1)),
    ("memory for all", || map(4096, PROT_READ | PROT_WRITE | PROT_EXEC, PRIVATE, -1)),
    ("memory that is shared", || map(4096, BOTH, MAP_SHARED | MAP_ANONYMOUS, -1)),
    ("memory that grows downwards", || map(4096, BOTH, PRIVATE | MAP_GROWSDOWN, -1)),
    ("large pages", || map(2 << 20, BOTH, PRIVATE | MAP_HUGETLB, -1)),
    ("memory that is locked", || map(4096, BOTH, PRIVATE | MAP_LOCKED, -1)),
    ("memory that is filled", || map(4096, BOTH, PRIVATE | MAP_POPULATE, -1)),
    ("memory of a file", || map(4096, PROT_READ, MAP_PRIVATE, 4)),
    ("memory that only is read", || map(4096, PROT_READ, PRIVATE, -1)),
    ("make memory executable", || protect(PROT_READ | PROT_EXEC)),
    ("hide memory that was written", || protect(PROT_NONE)),
    ("protect memory that was written", || protect(PROT_READ)),
    ("keep a copy of what is moved", || call!(SYS_mremap, page(), 4096, 4096, MREMAP_MAYMOVE | MREMAP_DONTUNMAP)),
    ("advice of a kind that splits pages", || call!(SYS_madvise, page(), 4096, MADV_HUGEPAGE)),
    ("lock memory", || call!(SYS_mlock, page(), 4096)),
    ("change the kind of its machine", || call!(SYS_personality, 0)),
    ("a number of another kind of program", || call!(SYS_getppid | 0x4000_0000)),
];

/// Calls that are allowed because computing needs them.
pub(crate) const ALLOWED: &[Attack] = &[
    ("memory", || page().min(0)),
    ("a reservation", || map(1 << 30, PROT_NONE, PRIVATE | MAP_NORESERVE, -1).min(0)),
    ("write to what was reserved", || {
        let reserved = map(1 << 20, PROT_NONE, PRIVATE | MAP_NORESERVE, -1);
        call!(SYS_mprotect, reserved, 1 << 20, BOTH)
    }),
    ("give memory back", || call!(SYS_madvise, page(), 4096, MADV_DONTNEED)),
    ("random numbers", || {
        let mut byte = [0u8; 1];
        call!(SYS_getrandom, byte.as_mut_ptr(), 1, 0).min(0)
    }),
];

/// Attacks that the resource limits refuse.
pub(crate) const BEYOND: &[Attack] = &[
    ("more memory than it may have", || map(65 << 20, BOTH, PRIVATE, -1).min(0)),
    ("a little each time", || {
        let mut last = 0;
        for _ in 0..100 {
            last = page();
        }
        last.min(0)
    }),
    ("reserve first and write then", || {
        let reserved = map(1 << 30, PROT_NONE, PRIVATE | MAP_NORESERVE, -1);
        call!(SYS_mprotect, reserved, 65 << 20, BOTH)
    }),
    ("grow what it has", || call!(SYS_mremap, page(), 1 << 20, 65 << 20, MREMAP_MAYMOVE).min(0)),
    ("more address space than it may have", || map(17 << 30, PROT_NONE, PRIVATE | MAP_NORESERVE, -1).min(0)),
    ("a long file", || {
        let kib = [0u8; 1024];
        let mut written = 0;
        for _ in 0..1025 {
            written = call!(SYS_write, 4, kib.as_ptr(), kib.len());
        }
        written.min(0)
    }),
];
