//! Scale: tables that are full or large, other writers, readers that are slow, signals in the middle.
//!
//! Needs root, and `conntrack`: `make setup` installs it. Nothing here measures time; deadlines are for what hangs.

mod interrupted;
mod large;
mod writers;

use flowgate_test_support::flowgate;
use flowgate_test_support::{Outcome, program::shell_status};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::Read,
    process::Child,
    sync::{Mutex, MutexGuard},
    thread::JoinHandle,
};

/// The limit on entries belongs to the whole host: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The number that stands before ` flow entries have been ...` on standard error.
fn told(errors: &str) -> usize {
    let line =
        errors.lines().find(|line| line.contains("flow entries have been")).unwrap_or_else(|| panic!("{errors}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "flow").expect("the word");
    words[at - 1].parse().expect("a number")
}

/// UDP flows from `10.GROUP.x.y`.
fn flows(group: u32, numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers
        .map(|number| {
            let (high, low) = (number >> 8, number & 0xff);
            format!(
                "-I -t 3600 -u ASSURED,SEEN_REPLY -p udp -s 10.{group}.{}.{low} -d 10.99.0.1 --sport {} --dport 53",
                high & 0xff,
                1024 + high / 256 * 7 + group
            )
        })
        .collect()
}

/// flowgate at work.
struct Running {
    child: Child,
    errors: JoinHandle<String>,
}

impl Running {
    /// Starts it; what it writes is to be read.
    fn start(line: &str) -> Self {
        let mut child = flowgate().spawn(&words(line));
        let mut pipe = child.stderr.take().expect("a pipe");
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = pipe.read_to_string(&mut text);
            text
        });
        Self { child, errors }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).expect("it takes signals");
    }

    /// Its largest resident memory so far, in KiB; none if it has ended.
    fn peak(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Reads to the end.
    fn end(mut self) -> Outcome {
        let mut stdout = Vec::new();
        self.child.stdout.take().expect("a pipe").read_to_end(&mut stdout).expect("its output");
        let status = shell_status(self.child.wait().expect("its end"));
        Outcome { stdout, stderr: self.errors.join().expect("a reader").into_bytes(), status }
    }
}
