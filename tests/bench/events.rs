//! Events: the share of events at full speed that each program shows, and the cost of one.

use crate::{measure, settings::Settings};
use flowgate_test_support::{Background, Namespace, Program};
use nix::sys::signal::Signal;
use std::{
    cmp::Ordering,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Goal for the CPU time per shown event, as a share of that of `conntrack`.
const CPU: f64 = 0.7;

/// The result of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    shown: u64,
    /// CPU time in microseconds.
    cpu: f64,
}

/// Returns a program and the processes that it has started.
fn tree(program: &Background) -> Vec<i32> {
    let own = program.process().as_raw();
    let parents: Vec<(i32, i32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let process = entry.file_name().to_str()?.parse().ok()?;
            let text = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((process, text.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut tree = vec![own];
    let mut at = 0;
    while let Some(parent) = tree.get(at).copied() {
        tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process));
        at += 1;
    }
    tree
}

/// Returns the memory of a program and of the processes that it has started, of which they share some, in MiB.
pub(crate) fn memory(program: &Background) -> f64 {
    let share = |process: i32| {
        let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    tree(program).into_iter().filter_map(share).sum::<f64>() / 1024.0
}

/// Returns the CPU time that a program and the processes that it has started have used, in microseconds.
pub(crate) fn cpu(program: &Background) -> f64 {
    let tree = tree(program);
    let nanoseconds = tree.iter().flat_map(|process| {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<f64>().ok()
        })
    });
    nanoseconds.sum::<f64>() / 1e3
}

/// Waits until a program is idle: it uses less than a hundredth of the time, since its clock may tick.
pub(crate) fn idle(program: &Background) {
    idle_but_for(program, 0.0);
}

/// Waits until a program is idle but for this much CPU time in each second, in microseconds.
pub(crate) fn idle_but_for(program: &Background, time: f64) {
    let mut before = -1.0;
    let mut since = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(300));
        // Counting takes a while if there are many processes.
        let (now, elapsed) = (cpu(program), since.elapsed().as_secs_f64());
        if now - before < (10_000.0 + time) * elapsed {
            return;
        }
        (before, since) = (now, Instant::now());
    }
}

/// Starts a program once the machine is otherwise idle. Its standard error is read.
pub(crate) fn start(mut command: Command, stdout: impl Into<Stdio>) -> Background {
    measure::settle();
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    Background::spawn(command)
}

/// Runs a program that listens while flows are created and flushed.
fn listen(program: &str, words: &[&str], ours: &str, flows: &[u8]) -> Run {
    let mut listening = start(Program::new(program).command(words), Stdio::null());
    listening.wait_until_listening();
    idle(&listening);
    let before = cpu(&listening);
    Program::new(ours).must_with(&["-R", "-"], flows);
    Program::new("conntrack").must(&["-F"]);
    idle(&listening);
    let cpu = cpu(&listening) - before;
    let errors = listening.end_by(Signal::SIGINT).errors();
    let shown = errors
        .lines()
        .find_map(|line| line.strip_suffix(" flow events have been shown.")?.rsplit(' ').next()?.parse().ok());
    Run { shown: shown.unwrap_or_else(|| panic!("{program} does not say how many it has shown: {errors}")), cpu }
}

/// Measures, and prints the results.
pub(crate) fn run(settings: &Settings, count: u32, rounds: u32) {
    let ours = settings.program.as_str();
    let flows = flowgate_test_support::entries::busy(count).join("\n").into_bytes();
    let own: [&[&str]; 3] = [&["-E"], &["-E", "-o", "json"], &["-E", "--resync"]];
    let cases: Vec<(&str, &[&str])> = match &settings.before {
        Some(before) => own.into_iter().flat_map(|words| [(before.as_str(), words), (ours, words)]).collect(),
        None => {
            let theirs: [&[&str]; 2] = [&["-E"], &["-E", "-b", "8388608"]];
            theirs.map(|words| ("conntrack", words)).into_iter().chain(own.map(|words| (ours, words))).collect()
        }
    };
    let caused = f64::from(count) * 2.0;
    println!("\n{caused} events, made and flushed at full speed while one program listens\n");
    println!("{:34} {:>8} {:>8} {:>14} {:>6}", "", "shown", "share", "us CPU a piece", "ratio");
    // In turns, so that what changes on the machine meets all of them.
    let turns: Vec<Vec<Run>> = (0..rounds)
        .map(|_| {
            cases.iter().map(|(program, words)| Namespace::run(|_| listen(program, words, ours, &flows))).collect()
        })
        .collect();
    let mut theirs = None;
    for (at, (program, words)) in cases.into_iter().enumerate() {
        let mut runs: Vec<Run> = turns.iter().filter_map(|turn| turn.get(at).copied()).collect();
        // The median by the number shown, and by the CPU time where all show the same.
        runs.sort_by(|one, other| {
            (one.shown, one.cpu).partial_cmp(&(other.shown, other.cpu)).unwrap_or(Ordering::Equal)
        });
        let run = runs.get(runs.len() / 2).copied().unwrap_or_default();
        let each = run.cpu / (run.shown.max(1) as f64);
        let ratio = each / *theirs.get_or_insert(each);
        let name = if program == ours { "flowgate" } else { settings.other_name() };
        let share = run.shown as f64 / caused * 100.0;
        let goal = match name {
            _ if program != ours || settings.before.is_some() => "",
            _ if ratio <= CPU && run.shown as f64 >= caused => "reached",
            _ => "MISSED",
        };
        println!(
            "{:34} {:8} {share:7.2}% {each:14.2} {ratio:6.2} {goal}",
            format!("{name} {}", words.join(" ")),
            run.shown
        );
    }
    if settings.before.is_some() {
        return;
    }
    println!("To reach: all of them shown, at {CPU} of conntrack's CPU for each.");
}
