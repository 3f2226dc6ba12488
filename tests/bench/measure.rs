//! Wall clock, CPU time and peak memory of a run of a program.
//!
//! Peak memory counts from before the new program replaces the one that started it, so that a large parent would be
//! measured instead of a small child. The benchmark therefore calls itself, and that small process starts the program.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// First word of the command line that makes this program start, measure and report another.
pub(crate) const WORD: &str = "--measure";

/// Standard output of the measured program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sink {
    /// `/dev/null`.
    Null,
    /// A pipe that is read as fast as possible.
    Pipe,
}

/// The cost of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// Wall clock in milliseconds.
    pub wall: f64,
    /// User and system time, in milliseconds.
    pub cpu: f64,
    /// Peak resident memory in MiB.
    pub memory: f64,
}

impl Figures {
    /// Returns the median of each figure.
    pub(crate) fn median(runs: &[Self]) -> Self {
        let middle = |of: fn(&Self) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        Self { wall: middle(|run| run.wall), cpu: middle(|run| run.cpu), memory: middle(|run| run.memory) }
    }
}

/// Measures two programs in turn; returns the medians.
pub(crate) fn in_turn(programs: [(&str, &[String]); 2], rounds: u32, sink: Sink) -> [Figures; 2] {
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for ((program, words), figures) in programs.iter().zip(&mut figures) {
            figures.push(outside(program, words, sink));
        }
    }
    figures.map(|figures| Figures::median(&figures))
}

/// Measures a program, which must succeed, from a separate process.
fn outside(program: &str, words: &[String], sink: Sink) -> Figures {
    attempt(program, words, sink).unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until the machine is idle, for at most ten seconds: the kernel removes the tables of former namespaces in the
/// background, which would slow down a program that needs both processors.
pub(crate) fn settle() {
    const LOOK: Duration = Duration::from_millis(50);
    let idle = || {
        let stat = std::fs::read_to_string("/proc/stat").expect("the kernel's statistics");
        let times = stat.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
        let times: Vec<f64> = times.filter_map(|time| time.parse().ok()).collect();
        (times.iter().skip(3).take(2).sum::<f64>(), times.iter().take(8).sum::<f64>())
    };
    let end = Instant::now() + Duration::from_secs(10);
    let mut before = idle();
    while Instant::now() < end {
        std::thread::sleep(LOOK);
        let now = idle();
        if now.0 - before.0 >= 0.9 * (now.1 - before.1) {
            return;
        }
        before = now;
    }
}

/// Measures a program from a separate process; returns the message of that process if it fails.
pub(crate) fn attempt(program: &str, words: &[String], sink: Sink) -> Result<Figures, String> {
    settle();
    at_once(program, words, sink)
}

/// The same as [`attempt`], on a machine where others have something to do.
pub(crate) fn at_once(program: &str, words: &[String], sink: Sink) -> Result<Figures, String> {
    let this = std::env::current_exe().expect("this program's path");
    let sink = if sink == Sink::Pipe { "pipe" } else { "null" };
    let output = Command::new(this).args([WORD, sink, program]).args(words).output().expect("starting this program");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [wall, cpu, memory] if output.status.success() => Ok(Figures { wall, cpu, memory }),
        _ => Err(format!("measuring {program} {words:?}: {text}{}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// The separate process of [`outside`]: runs the program named on the command line and prints its figures.
pub(crate) fn inside() {
    let mut arguments = std::env::args().skip(2);
    let piped = arguments.next().as_deref() == Some("pipe");
    let program = arguments.next().expect("a program to measure");
    let mut command = Command::new(&program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    command.stdout(if piped { Stdio::piped() } else { Stdio::null() });
    let start = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    if let Some(mut pipe) = child.stdout.take() {
        let mut buffer = [0; 1 << 16];
        while pipe.read(&mut buffer).is_ok_and(|length| length > 0) {}
    }
    let status = child.wait().expect("its end");
    let wall = start.elapsed();
    if !status.success() {
        eprintln!("{program} ended with {status}");
        std::process::exit(1);
    }
    // There is one child only, so that the sum and the maximum over all children are its own.
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("its usage");
    let milliseconds = |time: TimeVal| time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3;
    println!(
        "{} {} {}",
        wall.as_secs_f64() * 1e3,
        milliseconds(usage.user_time()) + milliseconds(usage.system_time()),
        usage.max_rss() as f64 / 1024.0
    );
}
