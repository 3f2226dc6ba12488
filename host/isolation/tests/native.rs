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

#[macro_use]
mod attacks;

use attacks::{ALLOWED, Attack, BEYOND, FORBIDDEN};
use flowgate_isolation::{
    Channel, Child, Ending, Frame, Limits, Order, Record, Role, Separation, Spawner, cgroup::GroupLimits,
};
use libc::*;

const LIMITS: Limits =
    Limits { memory: 64 << 20, address_space: 16 << 30, stack: 8 << 20, time: Duration::from_secs(2), file: 1 << 20 };

/// Not used, since there are no groups.
const GROUP: GroupLimits = GroupLimits { memory: 0, processes: 0, weight: 0 };

/// Exit status of an attack that the kernel allowed.
const GOT_THROUGH: u8 = 42;
/// Exit status of an attack that the kernel refused with an error.
const REFUSED: u8 = 43;

type Test = (&'static str, fn(&Owner));

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
        let order = Order { role: Role::Compiler, limits: LIMITS, nice: 3, group: GROUP };
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
        &Order { role: Role::Compiler, limits: LIMITS, nice: 0, group: GROUP },
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
    let owner = Owner { spawner: unsafe { Spawner::fork(|_| 99, Separation::default(), None) }.unwrap() };
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
