//! Workers that this program starts itself, without a service.
#![allow(unsafe_code, reason = "an attack is made of system calls")]

use std::{
    ffi::CString,
    fs,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use flowgate_isolation::{Channel, Child, Ending, Limits, Order, Role, Spawner, cgroup::GroupLimits};
use flowgate_model::{OptionValue, grants::Grants};
use flowgate_pipeline::{
    Spec,
    loader::{PluginLimits, PluginSpec},
};
use flowgate_runtime::memory_file::sealed;
use flowgate_worker::setup::Setup;
use libc::*;

use super::{
    attacks::{ALLOWED, BEYOND, FORBIDDEN},
    hostile::{GOT_THROUGH, REFUSED},
};

const LIMITS: Limits =
    Limits { memory: 64 << 20, address_space: 16 << 30, stack: 8 << 20, time: Duration::from_secs(10), file: 0 };

/// Not used, since there are no groups.
const GROUP: GroupLimits = GroupLimits { memory: 0, processes: 0, weight: 0 };

/// A name, and a function that returns a negative number if the kernel refuses.
type OnOther = (&'static str, fn(pid_t) -> c_long);

/// What a worker tries on another process.
const ON_OTHERS: [OnOther; 12] = [
    ("trace it", |other| unsafe { syscall(SYS_ptrace, PTRACE_SEIZE, other, 0, 0) }),
    ("attach to it", |other| unsafe { syscall(SYS_ptrace, PTRACE_ATTACH, other, 0, 0) }),
    ("end it", |other| unsafe { syscall(SYS_kill, other, SIGKILL) }),
    ("end its thread", |other| unsafe { syscall(SYS_tgkill, other, other, SIGKILL) }),
    ("queue a signal", |other| unsafe { syscall(SYS_rt_sigqueueinfo, other, SIGKILL, 0) }),
    ("limit it", |other| {
        let none = rlimit { rlim_cur: 0, rlim_max: 0 };
        unsafe { syscall(SYS_prlimit64, other, RLIMIT_NOFILE, &raw const none, 0) }
    }),
    ("read its memory", |other| unsafe { syscall(SYS_process_vm_readv, other, 0, 0, 0, 0, 0) }),
    ("write its memory", |other| unsafe { syscall(SYS_process_vm_writev, other, 0, 0, 0, 0, 0) }),
    ("have a handle", |other| unsafe { syscall(SYS_pidfd_open, other, 0) }),
    ("open its memory", |other| {
        let path = CString::new(format!("/proc/{other}/mem")).unwrap();
        unsafe { syscall(SYS_openat, AT_FDCWD, path.as_ptr(), O_RDWR) }
    }),
    ("open its channel", |other| {
        let path = CString::new(format!("/proc/{other}/fd/3")).unwrap();
        unsafe { syscall(SYS_openat, AT_FDCWD, path.as_ptr(), O_RDWR) }
    }),
    ("slow it down", |other| unsafe { syscall(SYS_setpriority, PRIO_PROCESS, other, 19) }),
];

/// Performs an attack on another process: its number in [`ON_OTHERS`] and the process.
pub(crate) fn attack_other(what: &str) -> c_long {
    let (number, process) = what.split_once(' ').unwrap();
    ON_OTHERS[number.parse::<usize>().unwrap()].1(process.parse().unwrap())
}

/// Starts a worker that does this. Returns its channels, too.
fn start(spawner: &Spawner, act: &str) -> (Channel, Channel, Child) {
    let plugin = PluginSpec {
        file: "/none.wasm".into(),
        name: Some("none".into()),
        digest: Some(String::new()),
        options: vec![OptionValue::new("native", act)],
        grants: Grants::NONE,
        limits: PluginLimits::default(),
    };
    let spec = Spec { stages: vec![plugin.into()], ..Spec::events() };
    let setup = Setup::of(&spec, &[], &[]).to_file(&[sealed("code", b"").unwrap()]).unwrap();
    let ((calls, own_calls), (events, own_events)) = (Channel::pair().unwrap(), Channel::pair().unwrap());
    let order = Order { role: Role::Worker, limits: LIMITS, nice: 0, group: GROUP };
    let child = spawner.start(&order, own_calls, &[own_events.as_fd(), setup.as_fd()]).unwrap();
    (calls, events, child)
}

fn end(spawner: &Spawner, act: &str) -> Ending {
    let (_calls, _events, child) = start(spawner, act);
    child.wait(Instant::now() + Duration::from_secs(60)).unwrap().expect("it ends")
}

// #[test], run by `main`: tests/it/architecture/promises.rs looks for this attribute.
pub(crate) fn what_a_worker_cannot_do(spawner: &Spawner) {
    for (attack, _) in FORBIDDEN {
        assert_eq!(end(spawner, &format!("attack {attack}")).status, Err(SIGSYS), "{attack}");
    }
    for (attack, _) in ALLOWED {
        assert_eq!(end(spawner, &format!("attack {attack}")).status, Ok(GOT_THROUGH), "{attack}");
    }
    // A worker has no file.
    for (attack, _) in BEYOND.iter().filter(|(attack, _)| *attack != "a long file") {
        let ending = end(spawner, &format!("attack {attack}"));
        assert_eq!(ending.status, Ok(REFUSED), "{attack}: {ending:?}");
        assert!(ending.memory < 128 << 20, "{attack}: {ending:?}");
    }
}

/// Neither before nor after a worker has loaded its code does it reach another worker, or its owner, whether both have
/// the same user or not.
// #[test], run by `main`.
pub(crate) fn siblings(spawner: &Spawner) {
    let (calls, _events, sibling) = start(spawner, "start-wait");
    assert!(calls.receive(&mut Channel::buffer()).unwrap().is_some(), "it is confined");
    let process = sibling.started(Instant::now()).unwrap().unwrap();
    let own = std::process::id().cast_signed();
    let user = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let user = user.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap().split_whitespace().next().unwrap();
    let user: u32 = user.parse().unwrap();
    assert_eq!((524_288..=525_287).contains(&user), spawner.separation().users.is_some(), "{user}");
    let limits = |process: i32| fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let before = (limits(process), limits(own));
    for other in [process, own] {
        for (number, (attack, _)) in ON_OTHERS.iter().enumerate() {
            let ending = end(spawner, &format!("other {number} {other}"));
            assert_eq!(ending.status, Err(SIGSYS), "{attack}");
            let ending = end(spawner, &format!("loading {number} {other}"));
            assert_eq!(ending.status, Ok(REFUSED), "{attack}, while it loads");
        }
    }
    assert_eq!((limits(process), limits(own)), before);
    assert_eq!(sibling.wait(Instant::now()).unwrap(), None, "it still runs");
    drop(calls);
    assert_eq!(sibling.wait(Instant::now() + Duration::from_secs(60)).unwrap().unwrap().status, Ok(0));
}
