//! Native code of an attacker in place of a process that computes: every attempt must be denied, and the owner must
//! learn how the process really ended. This program starts itself in a role, as the real one does, with an attack
//! instead of work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]
#![allow(unsafe_code, reason = "an attack is made of system calls")]

use std::{
    collections::BTreeSet,
    env, fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    process::exit,
    ptr,
    time::{Duration, Instant},
};

use flowgate_isolation::{Channel, Child, Ending, Frame, Limits, Order, Record, Role, Spawner};
use libc::*;

const LIMITS: Limits =
    Limits { memory: 64 << 20, address_space: 16 << 30, stack: 8 << 20, time: Duration::from_secs(2), file: 1 << 20 };

/// Exit status of an attack that the kernel allowed.
const GOT_THROUGH: u8 = 42;
/// Exit status of an attack that the kernel refused with an error.
const REFUSED: u8 = 43;

type Test = (&'static str, fn(&Owner));
type Attack = (&'static str, fn() -> c_long);

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
const FORBIDDEN: &[Attack] = &[
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
const ALLOWED: &[Attack] = &[
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
const BEYOND: &[Attack] = &[
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

fn all() -> impl Iterator<Item = &'static Attack> {
    FORBIDDEN.iter().chain(ALLOWED).chain(BEYOND)
}

/// Runs the process in a role: confines itself like the real one, then performs the attack that it is sent.
fn role() -> u8 {
    let (channel, _files) = Role::Compiler.descriptors(1).expect("it has a channel");
    let mut buffer = Channel::buffer();
    let record = channel.receive(&mut buffer).expect("it is told").expect("what to do");
    let attack = Frame::read(record, 0).unwrap().body.text(100).unwrap().to_owned();
    if attack == "before" {
        loop {
            std::hint::spin_loop();
        }
    }
    flowgate_privileges::sandbox::confine().expect("it is confined");
    match attack.as_str() {
        "loop" => loop {
            std::hint::spin_loop();
        },
        "wait" => {
            // Reports that it is confined, then waits for the attack.
            channel.send(b"ready", &[]).unwrap();
            let _ = channel.receive(&mut buffer);
            return 0;
        }
        "garbage" => {
            channel.send(&[0xff; 100], &[]).unwrap();
            return 0;
        }
        "flood" => loop {
            channel.send(&[0xff; 16], &[]).unwrap();
        },
        "abort" => std::process::abort(),
        _ => {}
    }
    let (_, attack) = all().find(|(name, _)| *name == attack).expect("an attack");
    if attack() < 0 { REFUSED } else { GOT_THROUGH }
}

/// The owner's side.
struct Owner {
    spawner: Spawner,
}

impl Owner {
    fn start(&self, attack: &str) -> (Channel, Child) {
        let (channel, other) = Channel::pair().unwrap();
        let file = call!(SYS_memfd_create, c"file".as_ptr(), MFD_CLOEXEC);
        let file = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(file.try_into().unwrap()) };
        let order = Order { role: Role::Compiler, limits: LIMITS, nice: 3 };
        let child = self.spawner.start(&order, other, &[file.as_fd()]).unwrap();
        channel.send(&Record::new(1, 0).text(attack, 100).finish().unwrap(), &[]).unwrap();
        (channel, child)
    }

    fn end(&self, attack: &str) -> Ending {
        let (_channel, child) = self.start(attack);
        child.wait(Instant::now() + Duration::from_secs(60)).unwrap().expect("it ends")
    }
}

// #[test], run by `main`: tests/it/architecture/promises.rs looks for this attribute.
fn native_code_gets_nothing(owner: &Owner) {
    for (attack, _) in FORBIDDEN {
        assert_eq!(owner.end(attack).status, Err(SIGSYS), "{attack}");
    }
    for (attack, _) in ALLOWED {
        assert_eq!(owner.end(attack).status, Ok(GOT_THROUGH.into()), "{attack}");
    }
}

// #[test], run by `main`.
fn limits_hold_whatever_is_tried(owner: &Owner) {
    for (attack, _) in BEYOND {
        let ending = owner.end(attack);
        let held = matches!(ending.status, Ok(status) if status == i32::from(REFUSED)) || ending.status == Err(SIGXFSZ);
        assert!(held, "{attack}: {ending:?}");
        assert!(ending.memory < 80 << 20, "{attack}: {ending:?}");
    }
    let ending = owner.end("loop");
    assert_eq!(ending.status, Err(SIGXCPU), "{ending:?}");
    // The kernel accounts CPU time in ticks.
    let second = Duration::from_secs(1);
    assert!(ending.time >= LIMITS.time - second && ending.time < LIMITS.time + second, "{ending:?}");
    assert_eq!(owner.end("abort").status, Err(SIGABRT));
}

/// Returns a field of the status of a process.
fn status(process: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect(field);
    line.trim().to_owned()
}

/// Returns the child processes of a process.
fn children(parent: i32) -> BTreeSet<i32> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let parent_of = |process: &i32| {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        text.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<i32>().ok()
    };
    numbers.filter(|process| parent_of(process) == Some(parent)).collect()
}

fn only(numbers: BTreeSet<i32>) -> i32 {
    assert_eq!(numbers.len(), 1, "{numbers:?}");
    *numbers.first().unwrap()
}

// #[test], run by `main`.
fn a_process_has_nothing_but_what_it_was_given(owner: &Owner) {
    let (channel, child) = owner.start("wait");
    assert_eq!(channel.receive(&mut Channel::buffer()).unwrap(), Some(&b"ready"[..]));
    assert!(!owner.spawner.has_ended());
    let spawner = only(children(std::process::id().try_into().unwrap()));
    let process = only(children(spawner));
    for number in [spawner, process] {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(number, set), "0000000000000000", "{set}");
        }
        assert_eq!(status(number, "NoNewPrivs"), "1");
        assert_eq!(status(number, "Threads"), "1");
    }
    assert_eq!(status(process, "Seccomp"), "2");
    assert_eq!(fs::read_to_string(format!("/proc/{process}/environ")).unwrap_or_default(), "");
    assert_eq!(fs::read_to_string(format!("/proc/{process}/comm")).unwrap().trim(), "flowgate-compil");
    let open = |process: i32| -> BTreeSet<i32> {
        let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
    };
    // Standard streams redirected to nowhere, the channel, and the file.
    assert_eq!(open(process), (0..=4).collect());
    for stream in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{process}/fd/{stream}")).unwrap().to_str(), Some("/dev/null"));
    }
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    for (name, value) in [
        ("Max open files", "0"),
        ("Max data size", "67108864"),
        ("Max address space", "17179869184"),
        ("Max core file size", "0"),
        ("Max processes", "0"),
        ("Max cpu time", "2"),
        ("Max file size", "1048576"),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        assert_eq!(line.split_whitespace().next(), Some(value), "{limits}");
    }
    assert_eq!(fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap().trim(), "500");
    // The process is not dumpable: its files in /proc belong to root, and other processes of its user cannot read its
    // memory.
    let maps = fs::metadata(format!("/proc/{process}/maps")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&maps), 0);
    drop(channel);
    assert_eq!(child.wait(Instant::now() + Duration::from_secs(60)).unwrap().unwrap().status, Ok(0));
}

// #[test], run by `main`.
fn what_it_sends_is_not_believed(owner: &Owner) {
    let (channel, child) = owner.start("garbage");
    let mut buffer = Channel::buffer();
    let record = channel.receive(&mut buffer).unwrap().unwrap();
    assert!(Frame::read(record, 0).is_err());
    drop(child);
    // A process that floods the channel is blocked by the kernel, and is killed when its handle is dropped.
    let (channel, child) = owner.start("flood");
    assert!(channel.receive(&mut buffer).unwrap().is_some());
    drop((channel, child));
    until_gone();
}

fn until_gone() {
    let spawner = only(children(std::process::id().try_into().unwrap()));
    let end = Instant::now() + Duration::from_secs(30);
    while !children(spawner).is_empty() {
        assert!(Instant::now() < end, "a process is left");
        std::thread::yield_now();
    }
}

// #[test], run by `main`.
fn who_is_let_go_ends(owner: &Owner) {
    for attack in ["before", "loop"] {
        let (channel, child) = owner.start(attack);
        assert!(child.wait(Instant::now()).unwrap().is_none(), "it runs");
        drop(child);
        until_gone();
        drop(channel);
    }
}

// #[test], run by `main`: must be the last one, since it ends the spawner.
fn nobody_outlives_the_spawner(owner: &Owner) {
    let (channel, child) = owner.start("wait");
    assert!(channel.receive(&mut Channel::buffer()).unwrap().is_some());
    let spawner = only(children(std::process::id().try_into().unwrap()));
    let process = only(children(spawner));
    unsafe {
        kill(spawner, SIGKILL);
        waitpid(spawner, ptr::null_mut(), 0);
    }
    assert!(owner.spawner.has_ended());
    let error = child.wait(Instant::now() + Duration::from_secs(60)).unwrap_err();
    assert!(error.to_string().contains("has ended"), "{error}");
    let end = Instant::now() + Duration::from_secs(30);
    let runs = || fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while runs() {
        assert!(Instant::now() < end, "it outlives the spawner");
        std::thread::yield_now();
    }
    let again = owner.spawner.start(
        &Order { role: Role::Compiler, limits: LIMITS, nice: 0 },
        Channel::pair().unwrap().0,
        &[io::stdin().as_fd()],
    );
    assert!(again.is_err(), "there is nobody to start it");
    assert!(channel.as_fd().as_raw_fd() > 2);
}

fn main() {
    let name = env::args_os().next().unwrap_or_default();
    if Role::of(name.as_encoded_bytes()).is_some() {
        exit(role().into());
    }
    // The filter that `cargo test` passes on: a part of a test's name.
    let wanted = env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    if env::args().any(|word| word == "--list") {
        return;
    }
    // SAFETY: this program has one thread.
    let owner = Owner { spawner: unsafe { Spawner::fork(|_| 99) }.unwrap() };
    let tests: [Test; 6] = [
        ("native_code_gets_nothing", native_code_gets_nothing),
        ("limits_hold_whatever_is_tried", limits_hold_whatever_is_tried),
        ("a_process_has_nothing_but_what_it_was_given", a_process_has_nothing_but_what_it_was_given),
        ("what_it_sends_is_not_believed", what_it_sends_is_not_believed),
        ("who_is_let_go_ends", who_is_let_go_ends),
        ("nobody_outlives_the_spawner", nobody_outlives_the_spawner),
    ];
    let mut passed = 0;
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(&wanted)) {
        test(&owner);
        println!("test {name} ... ok");
        passed += 1;
    }
    println!("\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}
