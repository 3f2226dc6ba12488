//! `make bench`: flowgate compared with `conntrack` on the same table: wall clock, CPU time and peak memory, in one
//! run.
//!
//! It never fails because of a figure, only if it cannot perform the requested measurement. `FLOWS` (200000) is the
//! size of the table, `ROUNDS` (5) the number of runs of each case for each program, in turn; it prints the medians.
//! The figures are also written to `target/bench.tsv`. `CASE=TEXT` runs only cases whose names contain this text;
//! `events`, `tenants`, `bombs` and `fleet` are also such names. `FLOWGATE_UNDER_TEST` names the program: `make bench`
//! measures the one that it installs. `BEFORE=PROGRAM` measures an earlier flowgate instead of `conntrack`.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)] // a panic is how it says that it cannot measure

mod aggregate;
mod bare;
mod bombs;
mod bulk;
mod events;
mod fleet;
mod growth;
mod measure;
mod queries;
mod report;
mod settings;
mod starts;
mod tenants;

use flowgate_test_support::{Limit, Namespace, Program, entries, plugins};
use measure::Sink;
use report::Row;
use settings::Settings;
use std::path::{Path, PathBuf};

/// A case: its name, the command line of `conntrack`, additional words for flowgate, and the goals.
struct Case {
    name: &'static str,
    words: Vec<String>,
    /// Additional words for flowgate, which `conntrack` does not know.
    more: Vec<String>,
    sink: Sink,
    /// Goals as a share of the figure of `conntrack`.
    wall: Option<f64>,
    cpu: Option<f64>,
    /// Goal in milliseconds.
    wall_ms: Option<f64>,
}

impl Case {
    fn new(name: &'static str, words: &[&str], wall: impl Into<Option<f64>>) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Self { name, words, more: Vec::new(), sink: Sink::Null, wall: wall.into(), cpu: None, wall_ms: None }
    }

    /// Returns a listing of the whole table.
    fn listing(name: &'static str, words: &[&str]) -> Self {
        Self { cpu: Some(0.8), ..Self::new(name, words, 0.62) }
    }
}

/// Returns the build directory of cargo.
fn target_directory() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_flowgate")).ancestors().nth(2).expect("the target directory").to_owned()
}

fn main() {
    // The program executes itself to start each measured program from a small process.
    let outcome = match std::env::args().nth(1).as_deref() {
        Some(measure::WORD) => return measure::inside(),
        Some(starts::WORD) => return starts::inside(),
        Some(bare::WORD) => return bare::receive(),
        // An argument that cargo passes to every benchmark.
        None | Some("--bench") => bench(),
        Some(word) => Err(format!("{word}: the benchmark takes no words; CASE=TEXT chooses what is measured")),
    };
    if let Err(error) = outcome {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// Measures the cases that the environment selects, and prints the results.
fn bench() -> Result<(), String> {
    let settings = Settings::read(env!("CARGO_BIN_EXE_flowgate"), &target_directory())?;
    let Settings { flows, rounds, program: ours, .. } = &settings;
    let run = |case: &Case, rounds| run(case, &settings, rounds);
    let (flows, rounds) = (*flows, *rounds);
    if let Some(directory) = &settings.growth {
        growth::run(ours, rounds, directory);
        return Ok(());
    }
    let (empty, listings) = (on_an_empty_table(), cases(&settings.plugin));
    let names = empty.iter().chain(&listings).map(|case| case.name);
    let names = names.chain(starts::CASES.iter().map(|case| case.name)).chain(bulk::CASES.iter().map(|case| case.name));
    let names = names.chain(aggregate::CASES.iter().map(|(name, _)| *name));
    settings.must_choose_one_of(
        &names.chain(queries::CASES).chain([BARE, EVENTS, TENANTS, BOMBS, FLEET]).collect::<Vec<_>>(),
    )?;

    let _limit = Limit::of(u64::from(flows)).with_buckets(u64::from(flows));
    // Small tables first: entries of other namespaces are in the same hash table, and outlive them for a while.
    starts::run(&settings, &target_directory())?;
    let chosen = |cases: Vec<Case>| cases.into_iter().filter(|case| settings.chooses(case.name)).collect::<Vec<_>>();
    let (empty, listings) = (chosen(empty), chosen(listings));
    let empty: Vec<Row> = Namespace::run(|_| empty.iter().map(|case| run(case, rounds * 4)).collect::<Result<_, _>>())?;
    let mut rows = Namespace::run(|namespace| -> Result<Vec<Row>, String> {
        let queries = queries::CASES.iter().any(|name| settings.chooses(name));
        if listings.is_empty() && !settings.chooses(BARE) && !queries {
            return Ok(Vec::new());
        }
        entries::load(namespace, &entries::busy(flows));
        let version = Program::new(settings.other()).must(&["-V"]);
        let version = version.lines().next().unwrap_or_default();
        // A dump visits all buckets, so their number determines the minimum cost of a listing.
        let buckets = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_buckets").unwrap_or_default();
        println!("{flows} flows in {} buckets, {rounds} rounds, {} against {ours}", buckets.trim(), version);
        let mut rows = listings.iter().map(|case| run(case, rounds)).collect::<Result<Vec<_>, _>>()?;
        rows.extend(queries::run(&settings)?);
        rows.extend(settings.chooses(BARE).then(|| beside_a_bare_reader(ours, rounds)));
        Ok(rows)
    })?;
    rows.extend(empty);
    rows.extend(aggregate::run(&settings, flows, rounds));
    rows.extend(bulk::run(&settings));
    if settings.chooses(EVENTS) {
        events::run(&settings, (flows / 2).max(1), rounds);
    }
    if settings.chooses(TENANTS) {
        tenants::run(&settings, (flows / 2).max(1), rounds.min(3));
    }
    if settings.chooses(BOMBS) {
        bombs::run(ours, rounds.min(3));
    }
    if settings.chooses(FLEET) {
        fleet::run(ours, &target_directory());
    }
    if !rows.is_empty() {
        report::print(&rows, settings.other_name());
        report::write(&target_directory().join("bench.tsv"), &report::tsv(&rows, settings.other_name()));
    }
    Ok(())
}

/// Names of the parts with a report of their own.
const EVENTS: &str = "events";
const TENANTS: &str = "tenants";
const BOMBS: &str = "bombs";
const FLEET: &str = "fleet";

/// Returns the cases without flows.
fn on_an_empty_table() -> Vec<Case> {
    let cases = [("-L, empty table", "-L"), ("-C, empty table", "-C")];
    cases.map(|(name, word)| Case { wall_ms: Some(8.0), ..Case::new(name, &[word], None) }).into()
}

/// Returns the cases on the whole table, in the order of the report.
fn cases(plugin: &Path) -> Vec<Case> {
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
    // Three plugins that read each flow and keep it.
    let networks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/fixtures/networks.txt");
    let three = [
        pass.clone(),
        format!("{},all=true", example("port-scan.wasm")),
        format!("{},table=@{}", example("net-labels.wasm"), networks.display()),
    ];
    cases.insert(6, Case { more: with(&[pass]), ..Case::new("-L, a stage that passes all", &["-L"], 0.65) });
    cases.insert(7, Case { more: with(&three), ..Case::new("-L, three Rust stages", &["-L"], 0.7) });
    let more = with(&[plugin.display().to_string()]);
    cases.insert(6, Case { more, ..Case::new("-L --plugin example", &["-L"], 0.8) });
    cases
}

/// Name of the case of [`beside_a_bare_reader`].
const BARE: &str = "-L, to a bare reader";

/// Compares a listing with a program that only receives: the columns of `conntrack` are those of that program.
fn beside_a_bare_reader(ours: &str, rounds: u32) -> Row {
    let this = std::env::current_exe().expect("this program's path").display().to_string();
    let programs = [(this.as_str(), &[bare::WORD.to_owned()][..]), (ours, &["-L".to_owned()])];
    let [theirs, ours] = measure::in_turn(programs, rounds, Sink::Null);
    Row { name: BARE, lines: [0; 2], theirs, ours, wall: Some(1.12), cpu: None, wall_ms: None }
}

/// Runs a case for both programs in turn.
///
/// # Errors
/// The message of a program that failed.
fn run(case: &Case, settings: &Settings, rounds: u32) -> Result<Row, String> {
    let more = [case.words.as_slice(), &case.more].concat();
    let theirs = if settings.before.is_some() { &more } else { &case.words };
    let programs = [(settings.other(), theirs.as_slice()), (settings.program.as_str(), more.as_slice())];
    // The first call of each warms caches and is not counted; it also shows whether both list the same.
    let mut lines = [0; 2];
    for (at, (program, words)) in programs.into_iter().enumerate() {
        let outcome = Program::new(program).run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        if outcome.status != 0 {
            let (name, status) = (case.name, outcome.status);
            return Err(format!("{name}: {program} ended with status {status}: {}", outcome.errors().trim()));
        }
        lines[at] = outcome.stdout.iter().filter(|byte| **byte == b'\n').count();
    }
    let [theirs, ours] = measure::in_turn(programs, rounds, case.sink);
    let (wall, cpu) = (settings.goal(case.wall), settings.goal(case.cpu).filter(|_| case.cpu.is_some()));
    Ok(Row { name: case.name, lines, theirs, ours, wall, cpu, wall_ms: case.wall_ms })
}
