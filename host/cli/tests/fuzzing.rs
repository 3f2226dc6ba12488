//! Runs the fuzz targets (`fuzz/`) on inputs from a seeded generator: each target is compiled and run with the other
//! tests, without a fuzzing engine. Each runs for some seconds. `FLOWGATE_SEED=N` repeats a run, `INPUTS=N` makes it
//! longer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

#[path = "../../../fuzz/oracles/allocation.rs"]
mod allocation;
#[path = "../../../fuzz/oracles/commands.rs"]
mod commands;
#[path = "../../../fuzz/oracles/component.rs"]
mod component;
#[path = "../../../fuzz/oracles/control.rs"]
mod control;
#[path = "../../../fuzz/oracles/decode.rs"]
mod decode;
#[path = "../../../fuzz/oracles/describe.rs"]
mod describe;
#[path = "../../../fuzz/oracles/files.rs"]
mod files;
#[path = "../../../fuzz/oracles/fixture.rs"]
mod fixture;
#[cfg(feature = "fleet")]
#[path = "../../../fuzz/oracles/fleet.rs"]
mod fleet;
#[path = "../../../fuzz/oracles/frames.rs"]
mod frames;
#[path = "../../../fuzz/oracles/input.rs"]
mod input;
#[path = "../../../fuzz/oracles/linear.rs"]
mod linear;
#[path = "../../../fuzz/oracles/names.rs"]
mod names;
#[path = "../../../fuzz/oracles/outcome.rs"]
mod outcome;
#[path = "../../../fuzz/oracles/proposal.rs"]
mod proposal;
#[path = "../../../fuzz/oracles/query.rs"]
mod query;
#[path = "../../../fuzz/oracles/recording.rs"]
mod recording;
#[path = "../../../fuzz/oracles/reports.rs"]
mod reports;
#[path = "../../../fuzz/oracles/text.rs"]
mod text;

use std::time::Duration;

use flowgate_base::clock::thread_time;
use flowgate_test_support::{Namespace, Random};

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

/// Minimum CPU time that a target runs.
const TIME: Duration = Duration::from_secs(3);

/// Runs a target with at least `inputs` inputs, or as many as INPUTS says, and for at least three seconds of CPU time.
/// The inputs depend on the seed alone, so a failing one can be reproduced by its seed and number.
fn fuzz(target: fn(&[u8]), inputs: usize) {
    let seed = Random::seed("FLOWGATE_SEED");
    let inputs = std::env::var("INPUTS").map_or(inputs, |text| text.parse().expect("INPUTS is a number"));
    println!("FLOWGATE_SEED={seed}");
    let (mut random, begun) = (Random::new(seed), thread_time());
    for number in 0.. {
        if number >= inputs && thread_time() - begun >= TIME {
            println!("{number} inputs");
            return;
        }
        let length = random.below(400);
        // Half of the bytes are small, so that choices among a few alternatives vary.
        let input: Vec<u8> = (0..length)
            .map(|_| if random.chance(1, 2) { random.below(8) as u8 } else { random.bits() as u8 })
            .collect();
        println!("input {number}");
        target(&input);
    }
}

#[test]
fn outcomes_of_plugins() {
    // The guard asks the kernel for entries; this namespace has none.
    Namespace::run(|_| {
        fuzz(outcome::run, 2000);
        // Whether an action is allowed depends on the inputs; after each input the target itself has a plain creation
        // allowed.
        let (allowed, refused) = outcome::judged();
        println!("{allowed} actions allowed, {refused} refused");
        assert!(refused > 0, "no action was refused, so that little was tried");
    });
}

#[test]
fn datagrams_of_the_kernel() {
    fuzz(decode::run, 20_000);
}

#[test]
fn records_of_a_channel() {
    fuzz(frames::run, 50_000);
}

#[test]
fn requests_that_are_proposed() {
    fuzz(proposal::run, 20_000);
    let (accepted, refused) = proposal::read_so_far();
    println!("{accepted} requests accepted, {refused} refused");
    assert!(accepted > 1000 && refused > 1000, "{accepted} requests accepted, {refused} refused");
}

#[test]
fn reports_of_workers() {
    fuzz(reports::run, 50_000);
    let (read, refused) = reports::read_so_far();
    println!("{read} reports read, {refused} records refused");
    assert!(read > 500 && refused > 1000, "{read} reports read, {refused} records refused");
}

#[cfg(feature = "fleet")]
#[test]
fn messages_of_a_fleet() {
    fuzz(fleet::run, 2000);
    let (read, refused) = fleet::read_so_far();
    println!("{read} messages read, {refused} refused");
    assert!(read > 500 && refused > 1000, "{read} messages read, {refused} refused");
}

#[test]
fn recordings() {
    fuzz(recording::run, 5000);
}

#[test]
fn pipeline_files_and_policies() {
    fuzz(files::run, 1000);
}

#[test]
fn command_lines_and_load_files() {
    fuzz(commands::run, 1000);
}

#[test]
fn requests_to_the_service_and_its_answers() {
    fuzz(control::run, 2000);
}

#[test]
fn expressions_of_the_query_language() {
    fuzz(query::run, 2000);
    let (accepted, refused) = query::read_so_far();
    println!("{accepted} expressions accepted, {refused} refused");
    assert!(accepted > 50 && refused > 500, "{accepted} expressions accepted, {refused} refused");
}

#[test]
fn fixtures() {
    fuzz(fixture::run, 1000);
}

#[test]
fn components() {
    fuzz(component::run, 5000);
}

#[test]
fn descriptions_of_plugins() {
    fuzz(describe::run, 2000);
}

#[test]
fn names_in_components() {
    fuzz(names::run, 5000);
    assert!(names::escaped() > 0, "no message had anything to escape, so that little was tried");
}

/// The targets rely on the allocation counter.
#[test]
fn allocations_are_counted() {
    allocation::begin();
    let bytes = vec![1u8; 2000];
    drop(std::hint::black_box(bytes));
    let more = std::hint::black_box(vec![1u8; 1000]);
    assert_eq!(allocation::counted(), (2000, 3000));
    drop(more);
}
