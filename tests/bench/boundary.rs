//! Cost of a crossing host -> guest -> host: a stage that passes everything on, and one that reads each flow.
//!
//! `cargo bench --bench boundary`
#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot go on says so")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use flowgate_model::{Flows, OptionValue, Setup, batch, field};
use flowgate_runtime::{Instance, Limits, PluginComponent, PluginEngine};
use flowgate_test_support::plugins;

/// Returns a batch as a dump of TCP flows with accounting fills it.
fn flows(rows: usize) -> Flows {
    let mut flows = Flows { length: rows as u32, ..Flows::default() };
    let all = field::TUPLES
        | field::STATUS
        | field::TIMEOUT
        | field::MARK
        | field::USE
        | field::ID
        | field::STATE
        | field::COUNTERS;
    flows.has = vec![all; rows];
    flows.family = vec![2; rows];
    flows.protocol = vec![6; rows];
    for tuples in [&mut flows.original, &mut flows.reply] {
        for addresses in [&mut tuples.source, &mut tuples.destination] {
            addresses.hi = vec![0; rows];
            addresses.lo = (0..rows as u64).map(|row| 0xffff_0808_0000 + row).collect();
        }
        tuples.source_l4 = vec![40000; rows];
        tuples.destination_l4 = vec![443; rows];
    }
    for column in [&mut flows.status, &mut flows.timeout, &mut flows.mark, &mut flows.use_count, &mut flows.id] {
        *column = vec![14; rows];
    }
    flows.state = vec![3; rows];
    let counters = flows.counters.get_or_insert_with(Default::default);
    for column in [
        &mut counters.original_packets,
        &mut counters.original_bytes,
        &mut counters.reply_packets,
        &mut counters.reply_bytes,
    ] {
        *column = vec![1500; rows];
    }
    flows
}

/// Returns the median of nine runs of 300,000 flows, in nanoseconds per flow.
fn measure(instance: &mut Instance, reads: u64, rows: usize) -> f64 {
    let mut flows = flows(rows);
    let mut hidden = Flows::default();
    let calls = 300_000 / rows;
    let mut runs: Vec<Duration> = (0..9)
        .map(|_| {
            let before = Instant::now();
            for _ in 0..calls {
                let outcome = batch::project(&mut flows, reads, &mut hidden, |seen| instance.process_flows(seen));
                black_box(outcome.expect("the plugin works"));
            }
            before.elapsed()
        })
        .collect();
    runs.sort();
    runs[4].as_nanos() as f64 / (calls * rows) as f64
}

fn main() {
    let engine = PluginEngine::new(None).expect("the engine starts");
    println!("{:<34} {:>8} {:>12}", "host -> guest -> host", "rows", "ns per flow");
    for (package, what) in [("hostile", "pass-through"), ("heavy-tcp", "heavy-tcp, none kept")] {
        let component = PluginComponent::open(&engine, &plugins::built(package)).expect("the plugin loads");
        let mut instance = Instance::new(&component, Limits::default()).expect("it starts");
        let options = if package == "heavy-tcp" { vec![OptionValue::new("bytes", "1000000")] } else { Vec::new() };
        instance.configure(&Setup { options, ..Setup::default() }).expect("it takes its options");
        let reads = instance.describe().expect("it describes itself").reads & field::ALL;
        instance.end_start_up();
        for rows in [64, 256, 1024, 4096] {
            println!("{what:<34} {rows:>8} {:>12.1}", measure(&mut instance, reads, rows));
        }
    }
}
