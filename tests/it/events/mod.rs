//! Events that are lost and made up for: listeners that are stopped, that are not read, that end at any moment, while the
//! table changes. A consumer that applies what it is told must end up with the table that `conntrack` lists.
//!
//! Needs root, and `conntrack`: `make setup` installs it. Nothing here measures time; deadlines are for what hangs.

mod consumer;
mod endings;
mod gaps;
mod pressure;

use flowgate_test_support::Program;
use flowgate_test_support::flowgate;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// After this, what is waited for will not come.
const PATIENCE: Duration = Duration::from_secs(120);

fn conntrack(line: &str) -> flowgate_test_support::Outcome {
    Program::new("conntrack").run(&line.split_whitespace().collect::<Vec<_>>())
}

/// Waits until something holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// UDP flows from `10.GROUP.x.y`.
fn flows(group: u32, count: u32) -> Vec<String> {
    (0..count)
        .map(|number| {
            let (high, low) = (number >> 8, number & 0xff);
            format!("-I -t 3600 -p udp -s 10.{group}.{high}.{low} -d 10.99.0.1 --sport {} --dport 53", 1024 + number)
        })
        .collect()
}

/// A flowgate that listens.
struct Listener {
    child: Child,
    stdout: Option<ChildStdout>,
    lines: Arc<Mutex<Vec<String>>>,
    errors: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

/// Collects the lines of a pipe.
fn collect(pipe: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let lines = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    })
}

impl Listener {
    /// Starts it, and waits until it has joined its event groups. Nobody reads what it writes, yet.
    fn start(line: &str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut child = flowgate().spawn(&words);
        let errors = Arc::default();
        let threads = vec![collect(child.stderr.take().expect("a pipe"), &errors)];
        let stdout = child.stdout.take();
        let listener = Self { child, stdout, lines: Arc::default(), errors, threads };
        eventually("it listens", || {
            let table = std::fs::read_to_string("/proc/thread-self/net/netlink").expect("the table of sockets");
            table.lines().skip(1).any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.get(1) == Some(&"12") && words.get(3).is_some_and(|groups| !groups.trim_matches('0').is_empty())
            })
        });
        listener
    }

    /// Starts it, and reads what it writes.
    fn read(line: &str) -> Self {
        let mut listener = Self::start(line);
        listener.take_output();
        listener
    }

    fn take_output(&mut self) {
        if let Some(stdout) = self.stdout.take() {
            self.threads.push(collect(stdout, &self.lines));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).expect("it takes signals");
    }

    /// Stops it, lets something happen, and lets it go on.
    fn while_stopped(&self, happens: impl FnOnce()) {
        self.signal(Signal::SIGSTOP);
        let path = format!("/proc/{}/stat", self.child.id());
        eventually("it is stopped", || {
            let stat = std::fs::read_to_string(&path).expect("its state");
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        });
        happens();
        self.signal(Signal::SIGCONT);
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn errors(&self) -> String {
        self.errors.lock().unwrap().join("\n")
    }

    /// Resident memory, in KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its state");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Waits for its end: exit status as a shell has it.
    fn end(&mut self) -> i32 {
        self.take_output();
        let status = flowgate_test_support::program::shell_status(self.child.wait().expect("its end"));
        for thread in self.threads.drain(..) {
            thread.join().expect("a reader");
        }
        status
    }

    /// Ends it as a user does: all that it wrote.
    fn finish(&mut self) -> Vec<String> {
        self.signal(Signal::SIGINT);
        assert_eq!(self.end(), 0, "{}", self.errors());
        self.lines()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Only of use where a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
