//! Native code of a tenant in place of its worker: whatever it does, the others lose nothing, the kernel's table is
//! changed only as the policy says, and its end has a name. This program is flowgate, except that a worker whose first
//! plugin has the option `native` does what that says (`hostile.rs`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

mod alone;
#[path = "../../../isolation/tests/attacks/mod.rs"]
#[allow(unsafe_code, reason = "an attack is made of system calls")]
mod attacks;
mod bombs;
mod ends;
mod groups;
mod hostile;
mod outlive;
mod protocol;
mod serving;
mod table;
mod users;

use std::{
    env,
    panic::catch_unwind,
    path::Path,
    process::exit,
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use flowgate_isolation::{Role, Separation, Spawner, UserRange};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: flowgate::process::Checked = flowgate::process::Checked;

/// A test that starts processes itself: all of its user, and each of a user of its own.
type Alone = (&'static str, fn(&Spawner));

/// Tests that run at a time: most of the time they wait for a service.
const TOGETHER: usize = 4;

/// The tests with a service, the longest first. Each has the comment that tests/it/architecture/promises.rs looks for.
const TESTS: [(&str, fn()); 17] = [
    ("who_does_not_read_has_a_gap", ends::who_does_not_read_has_a_gap),
    ("loops_in_every_place", ends::loops_in_every_place),
    ("garbage_ends_one_worker_only", protocol::garbage_ends_one_worker_only),
    ("after_a_reload_not_one_action_more", table::after_a_reload_not_one_action_more),
    ("nobody_outlives_the_keeper", outlive::nobody_outlives_the_keeper),
    ("a_paused_worker_stands_still", groups::a_paused_worker_stands_still),
    ("a_memory_bomb_in_a_cgroup_ends_itself", groups::a_memory_bomb_in_a_cgroup_ends_itself),
    ("kill_nine_in_the_middle", table::kill_nine_in_the_middle),
    ("a_flood_costs_the_keeper_little", protocol::a_flood_costs_the_keeper_little),
    ("a_flood_at_the_start_ends_with_it", protocol::a_flood_at_the_start_ends_with_it),
    ("restarts_back_off_and_stop", ends::restarts_back_off_and_stop),
    ("a_memory_bomb_ends_itself", ends::a_memory_bomb_ends_itself),
    ("forged_actions_get_nothing", table::forged_actions_get_nothing),
    ("a_worker_has_nothing", ends::a_worker_has_nothing),
    ("users_can_run_out", users::users_can_run_out),
    ("users_are_had_or_the_reason_is_told", users::users_are_had_or_the_reason_is_told),
    ("what_is_only_checked_gets_no_further", ends::what_is_only_checked_gets_no_further),
];

/// The test that needs all processors, which runs when the others have ended: it compiles a hundred plugins.
const LAST: (&str, fn()) = ("ninety_nine_bombs_beside_one_tenant", bombs::ninety_nine_bombs_beside_one_tenant);

/// The tests that start processes themselves.
const ALONE: [Alone; 2] = [("what_a_worker_cannot_do", alone::what_a_worker_cannot_do), ("siblings", alone::siblings)];

fn main() {
    let name = env::args_os().next().unwrap_or_default();
    match Role::of(name.as_encoded_bytes()) {
        Some(Role::Worker) => exit(hostile::work().into()),
        Some(Role::Compiler) => flowgate::process::main(),
        None if Path::new(&name).file_name().is_some_and(|name| name == "flowgate") => flowgate::process::main(),
        None => {}
    }
    // The filter that `cargo test` passes on: a part of a test's name.
    let wanted = env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    if env::args().any(|word| word == "--list") {
        return;
    }
    // SAFETY: this program has one thread.
    #[allow(unsafe_code)]
    let spawners = [Separation::default(), Separation { users: Some(UserRange::DEFAULT), pid_namespace: true }]
        .map(|separation| unsafe { Spawner::fork(|_| 99, separation, None) }.unwrap());
    let is_wanted = |name: &str| name.contains(&wanted);
    let (mut passed, failed) = (0, Mutex::new(Vec::new()));
    for (name, test) in ALONE.iter().filter(|(name, _)| is_wanted(name)) {
        spawners.iter().for_each(test);
        println!("test {name} ... ok");
        passed += 1;
    }
    spawners.iter().for_each(Spawner::end);
    let left: Mutex<Vec<_>> = Mutex::new(TESTS.iter().rev().filter(|(name, _)| is_wanted(name)).collect());
    passed += left.lock().unwrap().len();
    thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(|| {
                let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
                while let Some((name, test)) = next() {
                    run(name, *test, &failed);
                }
            });
        }
    });
    if is_wanted(LAST.0) {
        passed += 1;
        run(LAST.0, LAST.1, &failed);
    }
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        println!("\nfailures: {failed:?}\n\ntest result: FAILED");
        exit(101);
    }
    println!("\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

/// Runs a test and says how it has ended.
fn run(name: &'static str, test: fn(), failed: &Mutex<Vec<&'static str>>) {
    let begun = Instant::now();
    if catch_unwind(test).is_ok() {
        println!("test {name} ... ok ({:.1?})", begun.elapsed());
    } else {
        println!("test {name} ... FAILED");
        failed.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }
}
