//! `make bench`: flowgate beside `conntrack` on one table, wall clock, CPU and peak memory, in one run.
//!
//! It measures and never fails on a figure. `FLOWS` (200000) is the size of the table, `ROUNDS` (5) how often each case
//! is run for each program, in turn; shown are the medians. The figures are also written to `target/bench.tsv`.
//! `CASE=TEXT` runs only cases whose names have this text in them; `events` and `tenants` are such names too.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a panic is how it says that it cannot measure

#[path = "../plugins/mod.rs"]
mod plugins;

mod bare;
mod bulk;
mod events;
mod growth;
mod measure;
mod report;
mod tenants;

use flowgate_test_support::{Limit, Namespace, Program, entries};
use measure::Sink;
use report::Row;
use std::path::{Path, PathBuf};

/// What is compared: a name, the command line of `conntrack`, what only flowgate is given, and the goals.
struct Case {
    name: &'static str,
    words: Vec<String>,
    /// Words that `conntrack` does not know, for flowgate only.
    more: Vec<String>,
    sink: Sink,
    /// To reach, as a share of the figure of `conntrack`.
    wall: Option<f64>,
    cpu: Option<f64>,
    /// To reach, in milliseconds.
    wall_ms: Option<f64>,
}

impl Case {
    fn new(name: &'static str, words: &[&str], wall: impl Into<Option<f64>>) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Self { name, words, more: Vec::new(), sink: Sink::Null, wall: wall.into(), cpu: None, wall_ms: None }
    }

    /// A listing of the whole table.
    fn listing(name: &'static str, words: &[&str]) -> Self {
        Self { cpu: Some(0.8), ..Self::new(name, words, 0.62) }
    }
}

/// A number from the environment.
fn number(variable: &str, usual: u32) -> u32 {
    std::env::var(variable)
        .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")))
}

/// Whether a case of this name is to be run: `CASE` is a part of it, or not set.
fn chosen(name: &str) -> bool {
    std::env::var("CASE").map_or(true, |part| name.contains(&part))
}

/// Where cargo builds to.
fn target_directory() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_flowgate")).ancestors().nth(2).expect("the target directory").to_owned()
}

/// The example plugin, named by `PLUGIN` or where `make` builds it.
fn plugin() -> PathBuf {
    std::env::var_os("PLUGIN")
        .map_or_else(|| target_directory().join("wasm32-unknown-unknown/plugin/heavy_tcp.wasm"), Into::into)
}

fn main() {
    // The program calls itself to start each measured program from a small process.
    if std::env::args().nth(1).as_deref() == Some(measure::WORD) {
        measure::inside();
        return;
    }
    if std::env::args().nth(1).as_deref() == Some(bare::WORD) {
        bare::receive();
        return;
    }
    let (flows, rounds) = (number("FLOWS", 200_000), number("ROUNDS", 5).max(1));
    let ours = std::env::var("FLOWGATE_UNDER_TEST").unwrap_or_else(|_| env!("CARGO_BIN_EXE_flowgate").to_owned());
    if let Some(path) = std::env::var_os("GROWTH") {
        growth::run(&ours, rounds, Path::new(&path));
        return;
    }
    let _limit = Limit::of(u64::from(flows)).with_buckets(u64::from(flows));
    // First the empty table: entries of other namespaces stand in the same hash table, and outlive them for a while.
    let empty = Namespace::run(|_| {
        let empty = ["-L", "-C"].map(|word| Case {
            wall_ms: Some(8.0),
            ..Case::new(if word == "-L" { "-L, empty table" } else { "-C, empty table" }, &[word], None)
        });
        let empty = empty.iter().filter(|case| chosen(case.name));
        empty.filter_map(|case| run(case, &ours, rounds * 4)).collect::<Vec<_>>()
    });
    let listings: Vec<Case> = cases().into_iter().filter(|case| chosen(case.name)).collect();
    let mut rows = Namespace::run(|namespace| {
        if listings.is_empty() && !chosen(BARE) {
            return Vec::new();
        }
        entries::load(namespace, &entries::busy(flows));
        let version = Program::new("conntrack").must(&["-V"]);
        // Every dump walks all buckets, so that their number is the least that any listing costs.
        let buckets = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_buckets").unwrap_or_default();
        println!("{flows} flows in {} buckets, {rounds} rounds, {} against {ours}", buckets.trim(), version.trim());
        let mut rows: Vec<_> = listings.iter().filter_map(|case| run(case, &ours, rounds)).collect();
        rows.extend(chosen(BARE).then(|| beside_a_bare_reader(&ours, rounds)));
        rows
    });
    rows.extend(empty);
    rows.extend(bulk::run(&ours, flows, rounds.min(3)));
    if chosen("events") {
        events::run(&ours, (flows / 2).max(1), rounds.min(3));
    }
    if chosen("tenants") {
        tenants::run(&ours, (flows / 2).max(1), rounds.min(3));
    }
    report::print(&rows);
    report::write(&target_directory().join("bench.tsv"), &report::tsv(&rows));
}

/// The cases, in the order of the report; the empty table is none of them.
fn cases() -> Vec<Case> {
    let plugin = plugin();
    let mut cases = vec![
        Case::listing("-L", &["-L"]),
        Case::listing("-L -o extended", &["-L", "-o", "extended"]),
        Case::listing("-L -o xml", &["-L", "-o", "xml"]),
        Case::listing("-L -o save", &["-L", "-o", "save"]),
        Case::new("-L -s ONE", &["-L", "-s", "10.0.39.24"], 0.15),
        Case::new("-L -p udp --dport 53", &["-L", "-p", "udp", "--dport", "53"], 0.6),
        Case::new("-L -p udp -s CIDR", &["-L", "-p", "udp", "-s", "10.1.0.0/16"], None),
        Case { sink: Sink::Pipe, ..Case::listing("-L, to a pipe", &["-L"]) },
        Case { sink: Sink::Pipe, ..Case::listing("-L -o xml, to a pipe", &["-L", "-o", "xml"]) },
    ];
    let stages = ["flowgate_plugin_pass.wasm"].map(|name| {
        target_directory().join("stock-plugins/wasm32-unknown-unknown/plugin").join(name).display().to_string()
    });
    let [pass] = stages;
    let example = |name: &str| target_directory().join("examples").join(name).display().to_string();
    let with = |plugins: &[String]| plugins.iter().flat_map(|plugin| ["--plugin".to_owned(), plugin.clone()]).collect();
    // Three that look at every flow, and keep all of them.
    let networks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/fixtures/networks.txt");
    let three = [
        pass.clone(),
        format!("{},all=true", example("port-scan.wasm")),
        format!("{},table=@{}", example("net-labels.wasm"), networks.display()),
    ];
    cases.insert(6, Case { more: with(&[pass]), ..Case::new("-L, a stage that passes all", &["-L"], 0.65) });
    if three.iter().all(|plugin| Path::new(plugin.split(',').next().unwrap_or_default()).exists()) {
        cases.insert(7, Case { more: with(&three), ..Case::new("-L, three Rust stages", &["-L"], 0.7) });
    } else {
        println!("target/examples is missing, so the case with three stages is left out; `make bench` builds it");
    }
    if plugin.exists() {
        let more = vec!["--plugin".to_owned(), plugin.display().to_string()];
        cases.insert(6, Case { more, ..Case::new("-L --plugin example", &["-L"], 0.8) });
    } else {
        println!("{} is missing, so the case with a plugin is left out; `make bench` builds it", plugin.display());
    }
    cases
}

/// The name of the case of [`beside_a_bare_reader`].
const BARE: &str = "-L, to a bare reader";

/// A listing beside a program that only receives: in this row the columns of `conntrack` are that one's.
fn beside_a_bare_reader(ours: &str, rounds: u32) -> Row {
    let this = std::env::current_exe().expect("this program's path").display().to_string();
    let programs = [(this.as_str(), &[bare::WORD.to_owned()][..]), (ours, &["-L".to_owned()])];
    let [theirs, ours] = measure::in_turn(programs, rounds, Sink::Null);
    Row { name: BARE, lines: [0; 2], theirs, ours, wall: Some(1.12), cpu: None, wall_ms: None }
}

/// Runs a case for both programs in turn.
fn run(case: &Case, ours: &str, rounds: u32) -> Option<Row> {
    let more = [case.words.as_slice(), &case.more].concat();
    let programs = [("conntrack", case.words.as_slice()), (ours, &more)];
    // The first call of each warms caches and is not counted; it also tells whether both list the same.
    let mut lines = [0; 2];
    for (at, (program, words)) in programs.into_iter().enumerate() {
        let outcome = Program::new(program).run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        if outcome.status != 0 {
            println!("{}: {program} ended with status {}: {}", case.name, outcome.status, outcome.errors().trim());
            return None;
        }
        lines[at] = outcome.stdout.iter().filter(|byte| **byte == b'\n').count();
    }
    let [theirs, ours] = measure::in_turn(programs, rounds, case.sink);
    Some(Row { name: case.name, lines, theirs, ours, wall: case.wall, cpu: case.cpu, wall_ms: case.wall_ms })
}
