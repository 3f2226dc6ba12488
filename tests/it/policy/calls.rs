//! The system calls of workers and compilers, as strace sees them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    service::{flow, output},
    workers::{status, workers},
    *,
};
use nix::{sys::signal::kill, unistd::Pid};

/// From the beginning of the program to its first filter: what the C library and the standard library do at the start
/// of each process, and what the process gives up.
const START: &[&str] = &[
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "close",
    "fcntl",
    "getpid",
    "getrandom",
    "getsockopt",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "mmap",
    "mprotect",
    "munmap",
    "prctl",
    "prlimit64",
    "readlink",
    "readlinkat",
    "recvfrom",
    "rseq",
    "rt_sigaction",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
];
/// What loading compiled code takes, from the first filter of a worker to the last one.
const LOADING: &[&str] = &[
    "brk",
    "clock_gettime",
    "clone",
    "clone3",
    "close",
    "futex",
    "getpid",
    "getrandom",
    "madvise",
    "membarrier",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "prctl",
    "prlimit64",
    "read",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "sendto",
    "set_robust_list",
    "sigaltstack",
];
/// What plugins, the pipeline and the clock of deadlines take.
const RUNNING: &[&str] = &[
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "exit_group",
    "futex",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "poll",
    "ppoll",
    "recvfrom",
    "restart_syscall",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "sendto",
    "sigaltstack",
];
/// What compiling takes.
const COMPILING: &[&str] =
    &["brk", "close", "exit_group", "madvise", "mmap", "mprotect", "mremap", "munmap", "read", "sendto", "write"];

/// Between which filters a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Start,
    Loading,
    Running,
    Compiling,
}

impl Phase {
    const ALL: [(Phase, &[&str]); 4] =
        [(Phase::Start, START), (Phase::Loading, LOADING), (Phase::Running, RUNNING), (Phase::Compiling, COMPILING)];
}

/// A line of strace: the thread, the system call, and the rest.
fn call(line: &str) -> Option<(i32, &str, &str)> {
    let (thread, rest) = line.trim_start().split_once(' ')?;
    let rest = rest.trim_start();
    let resumed = rest.strip_prefix("<... ");
    let (name, rest) = match resumed {
        Some(rest) => rest.split_once(" resumed>")?,
        None => rest.split_once('(')?,
    };
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some((thread.parse().ok()?, name, rest))
}

/// Returns the system calls of workers and compilers in each phase.
fn phases(trace: &str) -> BTreeMap<Phase, BTreeSet<String>> {
    let mut threads: BTreeMap<i32, Phase> = BTreeMap::new();
    let mut compilers = BTreeSet::new();
    // A thread may be seen before the call that has started it.
    let calls: Vec<_> = trace.lines().filter_map(call).collect();
    let started = |name: &str, rest: &str| -> Option<i32> {
        (name == "clone").then(|| rest.rsplit_once(" = ")?.1.trim().parse().ok())?.filter(|thread| *thread > 0)
    };
    let mut seen: BTreeMap<Phase, BTreeSet<String>> = BTreeMap::new();
    let mut roles: BTreeMap<i32, bool> = BTreeMap::new();
    for (thread, name, rest) in &calls {
        if name.starts_with("execve") {
            for (role, is_compiler) in [("[\"flowgate-worker\"]", false), ("[\"flowgate-compiler\"]", true)] {
                if rest.contains(role) {
                    roles.insert(*thread, is_compiler);
                }
            }
        } else if let Some(started) = started(name, rest).filter(|_| roles.get(thread) == Some(&false)) {
            // The clock of a worker, which has the filter for loading from its beginning.
            threads.insert(started, Phase::Loading);
        }
    }
    // Threads that install a filter; strace may tell the result later.
    let mut filtering = BTreeSet::new();
    for (thread, name, rest) in calls {
        if name.starts_with("execve") {
            if let Some(is_compiler) = roles.get(&thread) {
                threads.insert(thread, Phase::Start);
                if *is_compiler {
                    compilers.insert(thread);
                }
            }
            continue;
        }
        let Some(phase) = threads.get_mut(&thread) else { continue };
        seen.entry(*phase).or_default().insert(name.to_owned());
        if name == "prctl" && rest.contains("PR_SET_SECCOMP") {
            filtering.insert(thread);
        }
        if name == "prctl" && rest.ends_with("= 0") && filtering.remove(&thread) {
            *phase = match *phase {
                Phase::Start if compilers.contains(&thread) => Phase::Compiling,
                Phase::Start => Phase::Loading,
                _ => Phase::Running,
            };
        }
    }
    seen
}

/// What workers and compilers call from their start through events, traps, restarts and reloads to their end is listed:
/// a C library or an engine that calls more is found here, and not where the filter ends the process.
#[test]
fn no_call_but_these() {
    Namespace::run(|namespace| {
        let hostile = plugins::built("hostile");
        let trapping = format!("file = \"{}\"\nsha256 = \"{}\"", hostile.display(), plugins::digest(&hostile));
        let text = service::tenant("blue", 7, "", "")
            + &service::tenant("red", 8, "", "").replace("PLUGIN", &trapping).replace("act = \"\"", "do = \"trap\"");
        policy(namespace, &text);
        let trace = namespace.directory().join("calls");
        let mut command = Program::new("setpriv").command(&[
            // Without a PID namespace of their own: there, calls return other numbers than those of the tracer.
            "--bounding-set=-sys_admin",
            "strace",
            // The tracer is a grandchild, so that the service is the child that gets signals.
            "-D",
            "-f",
            "-q",
            "-o",
            trace.to_str().unwrap(),
            flowgate().path.to_str().unwrap(),
            "run",
            namespace.directory().join("policy.toml").to_str().unwrap(),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let serving = Serving::spawn(namespace, command);
        serving.until("it runs", || serving.errors().contains("generation 1 runs"));
        let sees = |port: u16| {
            entries::insert(namespace, &flow(7, port));
            serving.until("blue gets the event", || output(&serving, "blue").contains(&format!("sport={port} ")));
        };
        sees(70);
        entries::insert(namespace, &flow(8, 80));
        let failures = || status(&serving)["tenants"][1]["plugins"][0]["failures"].as_u64().unwrap();
        serving.until("its plugin has trapped, and been started again", || failures() > 0);
        entries::insert(namespace, &flow(8, 81));
        serving.until("it has trapped again", || failures() > 1);
        for worker in workers(&serving) {
            kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
        }
        serving.until("both workers have been started again", || {
            let now = status(&serving);
            let is_new = |tenant: &Value| tenant["worker"]["restarts"] == 1 && tenant["worker"]["state"] == "running";
            now["tenants"].as_array().unwrap().iter().all(is_new)
        });
        sees(71);
        let reported = serving.ask(&["reload"]);
        assert_eq!(reported.text(), "generation 2\n", "{}", reported.errors());
        sees(72);
        // The tracer has written all when it has closed the standard error that it shares with the service.
        serving.end();
        let trace = fs::read_to_string(&trace).unwrap();
        let seen = phases(&trace);
        for (phase, listed) in Phase::ALL {
            let seen = seen.get(&phase).unwrap_or_else(|| panic!("nothing was seen of {phase:?}"));
            let more: Vec<&String> = seen.iter().filter(|name| !listed.contains(&name.as_str())).collect();
            assert!(more.is_empty(), "{phase:?}: {more:?} are not listed");
        }
        for name in ["recvfrom", "sendto", "rt_sigreturn", "exit_group"] {
            assert!(seen[&Phase::Running].contains(name), "no worker has called {name}");
        }
    });
}

#[test]
fn calls_are_told_apart_by_phase() {
    let trace = "1 execveat(128, \"\", [\"flowgate-worker\"], 0x1 /* 0 vars */, AT_EMPTY_PATH) = 0\n\
                 1 brk(NULL) = 0x1\n\
                 1 prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, {len=9, filter=0x1}) = 0\n\
                 2     set_robust_list(0x1, 24) = 0\n\
                 1 clone(child_stack=0x1, flags=CLONE_VM|CLONE_THREAD <unfinished ...>\n\
                 1 <... clone resumed>, parent_tid=[2]) = 2\n\
                 2 prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, {len=9, filter=0x1} <unfinished ...>\n\
                 1 mprotect(0x1, 4096, PROT_READ|PROT_EXEC) = 0\n\
                 2 <... prctl resumed>) = 0\n\
                 2 futex(0x1) = 0\n\
                 1 prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, {len=9, filter=0x1}) = 0\n\
                 --- SIGCHLD ---\n\
                 1 read(3, \"x\", 1) = 1\n\
                 3 openat(AT_FDCWD, \"/\", O_RDONLY) = 3\n\
                 1 +++ exited with 0 +++\n";
    let seen = phases(trace);
    let of = |phase: Phase| seen[&phase].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of(Phase::Start), ["brk", "prctl"]);
    assert_eq!(of(Phase::Loading), ["clone", "mprotect", "prctl", "set_robust_list"]);
    assert_eq!(of(Phase::Running), ["futex", "read"]);
}
