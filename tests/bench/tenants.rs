//! Tenants: the events per second that the service delivers, compared with a program that prints all; the time until a
//! single event is written; and the cost of a hostile tenant for the others.

use crate::{events, plugins, settings::Settings, target_directory};
use flowgate_test_support::{Background, Namespace, Program, entries, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    fmt::Write as _,
    fs::{self, File},
    net::UdpSocket,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

/// Zones that the flows are spread over.
const ZONES: u16 = 100;
/// Number of tenants, one of which is hostile.
const NEIGHBOURS: u16 = 20;
/// Maximum number of tenants whose plugins are compiled in one start.
const COMPILED: usize = 200;
/// Number of flows whose events are alone.
const SINGLE: u16 = 200;
/// The port of the first one. Each has a port of its own, so that it is a new flow.
const FIRST_PORT: u16 = 20_000;

/// The result of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    shown: u64,
    lost: u64,
    /// Time until the last event was written, in seconds.
    wall: f64,
    /// CPU time in microseconds.
    cpu: f64,
    /// Time from the start with stored code until all tenants run, in seconds.
    start: f64,
    /// Memory in MiB while nothing happens.
    memory: f64,
}

/// A program that listens, and its output files.
pub(crate) struct Listening {
    pub program: Background,
    outputs: Vec<PathBuf>,
    /// Time that its start has taken.
    started: Duration,
}

impl Listening {
    /// Creates and flushes flows, and waits until all events are written.
    fn measured(&self, ours: &str, flows: &[u8]) -> Run {
        self.idle();
        let memory = events::memory(&self.program);
        let before = events::cpu(&self.program);
        let start = SystemTime::now();
        Program::new(ours).must_with(&["-R", "-"], flows);
        Program::new("conntrack").must(&["-F"]);
        self.idle();
        let cpu = events::cpu(&self.program) - before;
        let written = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
        let last = self.outputs.iter().filter_map(written).max().unwrap_or(start);
        let lines = |path: &PathBuf| fs::read(path).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
        Run {
            shown: self.outputs.iter().map(lines).sum::<usize>() as u64,
            lost: 0,
            wall: last.duration_since(start).unwrap_or_default().as_secs_f64(),
            cpu,
            start: self.started.as_secs_f64(),
            memory,
        }
    }

    /// Waits until nothing happens. The worker of each tenant is looked at twice a second.
    fn idle(&self) {
        events::idle_but_for(&self.program, 100.0 * self.outputs.len() as f64);
    }

    pub(crate) fn end(mut self) {
        self.program.end_by(Signal::SIGINT);
    }
}

/// Returns the keys of a plugin.
pub(crate) fn plugin(path: &Path, more: &str) -> String {
    let digest = plugins::digest(path);
    format!("[[tenant.plugin]]\nfile = \"{}\"\nsha256 = \"{digest}\"\n{more}\n", path.display())
}

/// Returns the stock plugin that passes everything.
pub(crate) fn pass() -> PathBuf {
    target_directory().join("stock-plugins/wasm32-unknown-unknown/plugin/flowgate_plugin_pass.wasm")
}

/// Returns the keys of the plugin of a tenant that harms nobody.
fn harmless(settings: &Settings) -> String {
    plugin(&settings.tenant_plugin.clone().unwrap_or_else(pass), "")
}

/// Starts the service with these tenants: zones, and other keys and the plugin. Compiled code is kept for the next
/// start, which is what a service does.
pub(crate) fn serve(ours: &str, directory: &Path, tenants: &[(String, String)]) -> Listening {
    // Each tenant has code of its own. Some hundred are compiled at a time, so that a start does not take minutes.
    let mut first = 0;
    while first + COMPILED < tenants.len() {
        start(ours, directory, first, &tenants[first..first + COMPILED]).end();
        first += COMPILED;
    }
    start(ours, directory, 0, tenants)
}

/// Starts the service with these tenants, the first of which has this number.
fn start(ours: &str, directory: &Path, first: usize, tenants: &[(String, String)]) -> Listening {
    let place = directory.display();
    let cache = target_directory().join("bench-cache").display().to_string();
    let mut text =
        format!("[service]\nsocket = \"{place}/socket\"\ncache = \"{cache}\"\n[audit]\npath = \"{place}/audit\"\n");
    let mut outputs = Vec::new();
    for (number, (zones, plugin)) in (first..).zip(tenants) {
        let output = directory.join(format!("out{number}"));
        let _ = writeln!(
            text,
            "[[tenant]]\nname = \"t{number}\"\nlimits = {{ output-per-second = \"1GiB\" }}\n[[tenant.scope]]\n\
             zones = \"{zones}\"\n{plugin}[[tenant.sink]]\nkind = \"file\"\npath = \"{}\"\n",
            output.display()
        );
        outputs.push(output);
    }
    let policy = directory.join("policy.toml");
    fs::write(&policy, text).expect("a policy");
    let words = ["run", &policy.display().to_string()];
    let mut program = events::start(Program::new(ours).command(&words), Stdio::null());
    let start = Instant::now();
    program.wait_for_error("generation 1 runs");
    Listening { program, outputs, started: start.elapsed() }
}

/// Returns the state of the tenants.
pub(crate) fn status(ours: &str, directory: &Path) -> Vec<Value> {
    let socket = directory.join("socket").display().to_string();
    let output = Program::new(ours).must(&["policy", "status", "--socket", &socket, "-o", "json"]);
    let answer: Value = serde_json::from_str(&output).expect("an answer");
    answer["tenants"].as_array().cloned().unwrap_or_default()
}

/// Returns the flows of [`entries::busy`], in all zones.
fn flows(count: u32, zones: u16) -> Vec<String> {
    let zoned = |(number, line): (usize, String)| {
        line.replacen("-I ", &format!("-I -w {} ", 1 + number % usize::from(zones)), 1)
    };
    entries::busy(count).into_iter().enumerate().map(zoned).collect()
}

/// Measures, and prints the results.
pub(crate) fn run(settings: &Settings, count: u32, rounds: u32) {
    let ours = settings.program.as_str();
    throughput(settings, count, rounds);
    latency(settings);
    if settings.before.is_none() {
        neighbours(ours, count, rounds);
    }
}

fn throughput(settings: &Settings, count: u32, rounds: u32) {
    let ours = settings.program.as_str();
    let caused = u64::from(count) * 2;
    println!("\n{caused} events in {ZONES} zones, made and flushed at full speed, everything written to files\n");
    println!(
        "{:30} {:>8} {:>8} {:>9} {:>14} {:>6} {:>9} {:>13}",
        "", "shown", "lost", "a second", "us CPU a piece", "ratio", "start, s", "MiB a tenant"
    );
    let flows = flows(count, ZONES).join("\n").into_bytes();
    let plugin = harmless(settings);
    let mut theirs = None;
    let mut numbers = vec![0];
    numbers.extend(&settings.tenants);
    let cases: Vec<(&str, u16)> = match &settings.before {
        Some(before) => numbers.iter().flat_map(|tenants| [(before.as_str(), *tenants), (ours, *tenants)]).collect(),
        None => [("conntrack", 0)].into_iter().chain(numbers.iter().map(|tenants| (ours, *tenants))).collect(),
    };
    for (program, tenants) in cases {
        let one = |_| {
            Namespace::run(|namespace| {
                let directory = namespace.directory();
                if tenants == 0 {
                    let output = directory.join("out");
                    let file = File::create(&output).expect("a file");
                    let listening = Listening {
                        program: events::start(Program::new(program).command(&["-E"]), file),
                        outputs: vec![output],
                        started: Duration::ZERO,
                    };
                    listening.program.wait_until_listening();
                    let mut run = listening.measured(ours, &flows);
                    run.lost = caused.saturating_sub(run.shown);
                    listening.end();
                    return run;
                }
                let tenants = alike(tenants, &plugin);
                serve(program, directory, &tenants).end();
                let service = start(program, directory, 0, &tenants);
                let mut run = service.measured(ours, &flows);
                let sum =
                    |name: &str| status(ours, directory).iter().filter_map(|tenant| tenant[name].as_u64()).sum::<u64>();
                // A resync recovers lost events, so they are among the lines; here they count as lost.
                (run.shown, run.lost) = (sum("handed"), caused.saturating_sub(sum("handed")));
                service.end();
                run
            })
        };
        let mut runs: Vec<Run> = (0..rounds).map(one).collect();
        runs.sort_by(|one, two| one.wall.total_cmp(&two.wall));
        let run = runs.get(runs.len() / 2).copied().unwrap_or_default();
        let each = run.cpu / run.shown.max(1) as f64;
        let ratio = each / *theirs.get_or_insert(each);
        let name = if program == ours { "flowgate" } else { settings.other_name() };
        let name = match tenants {
            0 => format!("{name} -E"),
            1 => format!("{name} run, 1 tenant"),
            many => format!("{name} run, {many} tenants"),
        };
        let rate = run.shown as f64 / run.wall.max(1e-3);
        let (shown, lost, start, memory) = (run.shown, run.lost, run.start, run.memory / f64::from(tenants.max(1)));
        println!("{name:30} {shown:8} {lost:8} {rate:9.0} {each:14.2} {ratio:6.2} {start:9.2} {memory:13.2}");
    }
}

/// Returns tenants that share the zones. Of a thousand, nine tenths are idle: there are no events in their zones.
fn alike(tenants: u16, plugin: &str) -> Vec<(String, String)> {
    let each = (ZONES / tenants).max(1);
    (0..tenants).map(|number| (format!("{}-{}", number * each + 1, (number + 1) * each), plugin.into())).collect()
}

/// Measures the time from a packet until the line of its flow is in the file, while all tenants are idle.
fn latency(settings: &Settings) {
    let ours = settings.program.as_str();
    println!("\n{SINGLE} flows of one of otherwise idle tenants, from the packet until the line is in the file\n");
    println!("{:38} {:>10} {:>10}", "", "p50, us", "p99, us");
    for tenants in settings.tenants.iter().filter(|tenants| **tenants <= ZONES) {
        for program in settings.before.iter().map(String::as_str).chain([ours]) {
            let mut times = Namespace::run(|namespace| {
                namespace.nft(
                    "table inet zones {\n\
                     chain output { type filter hook output priority -300; ct zone set 1; }\n\
                     chain tracked { type filter hook output priority 0; ct state new accept; }\n}",
                );
                let service = serve(program, namespace.directory(), &alike(*tenants, &harmless(settings)));
                service.idle();
                let times = (0..SINGLE).map(|number| single(&service, FIRST_PORT + number)).collect::<Vec<f64>>();
                service.end();
                times
            });
            times.sort_by(f64::total_cmp);
            let name = if program == ours { "flowgate" } else { settings.other_name() };
            let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
            println!("{:38} {:10.0} {:10.0}", format!("{name} run, {tenants} tenants"), at(0.5), at(0.99));
        }
    }
}

/// Sends a packet of a new flow. Returns the time until there is more in the first file, in microseconds.
fn single(service: &Listening, port: u16) -> f64 {
    // Long enough for everything to be at rest.
    std::thread::sleep(Duration::from_millis(30));
    let Some(output) = service.outputs.first() else { return 0.0 };
    let length = || fs::metadata(output).map_or(0, |data| data.len());
    let socket = UdpSocket::bind(("127.0.0.1", port)).expect("a socket");
    let before = length();
    let start = Instant::now();
    socket.send_to(b"x", "127.0.0.1:9").expect("a packet");
    while length() == before {
        assert!(start.elapsed() < Duration::from_secs(10), "the event is not shown");
    }
    start.elapsed().as_secs_f64() * 1e6
}

/// Returns the times of the calls of the other tenants' plugins in microseconds: p50 and p99 of the tenant in the
/// middle, and p99 of the worst; then the number of calls, and of lost events.
fn calls(ours: &str, directory: &Path, hostile: bool) -> [f64; 5] {
    let tenants = status(ours, directory);
    let number = |value: &Value| value.as_u64().unwrap_or_default() as f64;
    let each = |of: &dyn Fn(&Value) -> f64| {
        let mut values: Vec<f64> = tenants.iter().skip(1).map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let plugin = |name: &'static str| each(&move |tenant: &Value| number(&tenant["plugins"][0][name]));
    let (halves, most) = (plugin("p50"), plugin("p99"));
    let failures = tenants.first().map_or(0.0, |tenant| number(&tenant["plugins"][0]["failures"]));
    assert!(!hostile || failures > 0.0, "the hostile tenant did no harm at all: {tenants:?}");
    let lost: f64 = each(&|tenant| number(&tenant["lost"])).iter().sum();
    let worst = most.last().copied().unwrap_or_default();
    [middle(&halves) / 1e3, middle(&most) / 1e3, worst / 1e3, plugin("calls").iter().sum(), lost]
}

/// Returns the median of sorted values.
pub(crate) fn middle(values: &[f64]) -> f64 {
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn neighbours(ours: &str, count: u32, rounds: u32) {
    let harmless = plugin(&pass(), "");
    let hostile = plugin(
        &plugins::built("attacker"),
        "options = { act = \"loop\" }\nlimits = { call = \"50ms\", restarts = 1000 }",
    );
    // Two hundred bursts with pauses between them: the interference is measured, not the amount of work.
    let lines = flows(count, NEIGHBOURS);
    let bursts: Vec<Vec<u8>> =
        lines.chunks((lines.len() / 200).max(1)).map(|chunk| chunk.join("\n").into_bytes()).collect();
    println!("\nThe calls of nineteen tenants' plugins, {} events in {} bursts\n", lines.len(), bursts.len());
    println!("{:28} {:>10} {:>10} {:>12} {:>8} {:>8}", "", "p50, us", "p99, us", "worst p99", "calls", "lost");
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (at, first) in [&harmless, &hostile].into_iter().enumerate() {
            let run = Namespace::run(|namespace| {
                let directory = namespace.directory();
                let tenants: Vec<(String, String)> = (1..=NEIGHBOURS)
                    .map(|zone| (zone.to_string(), if zone == 1 { first.clone() } else { harmless.clone() }))
                    .collect();
                let service = serve(ours, directory, &tenants);
                for burst in &bursts {
                    Program::new(ours).must_with(&["-R", "-"], burst);
                    std::thread::sleep(Duration::from_millis(20));
                }
                // The queue of the hostile tenant may take longer to drain than is worth measuring.
                let waits = |tenant: &Value| tenant["waiting"].as_u64() != Some(0);
                until("the others have what is theirs", || !status(ours, directory).iter().skip(1).any(waits));
                let run = calls(ours, directory, at == 1);
                service.end();
                run
            });
            figures[at].push(run);
        }
    }
    let medians = [0, 1].map(|at: usize| {
        [0, 1, 2, 3, 4].map(|of: usize| {
            let mut values: Vec<f64> = figures[at].iter().map(|run| run[of]).collect();
            values.sort_by(f64::total_cmp);
            middle(&values)
        })
    });
    for (name, [half, most, worst, calls, lost]) in
        ["twenty tenants", "the first of them loops"].into_iter().zip(medians)
    {
        println!("{name:28} {half:10.1} {most:10.1} {worst:12.1} {calls:8.0} {lost:8.0}");
    }
    let [without, with] = medians;
    let ratio = |of: usize| with[of] / without[of];
    println!("{:28} {:10.2} {:10.2} {:12.2}", "ratio", ratio(0), ratio(1), ratio(2));
}
