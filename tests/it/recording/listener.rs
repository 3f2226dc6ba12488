//! A recorder of events in the background, and how it is ended.

use flowgate_test_support::program::{must_heed_signals, shell_status};
use flowgate_test_support::{Outcome, Program, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Read;
use std::path::Path;
use std::process::Child;

/// A program that runs until it is told to end.
pub struct Listener(Child);

impl Listener {
    /// Starts a recorder; `FILE` stands for the recording.
    pub fn start(program: &Program, file: &Path, line: &str) -> Self {
        must_heed_signals();
        let file = file.display().to_string();
        let words: Vec<&str> =
            line.split_whitespace().map(|word| if word == "FILE" { file.as_str() } else { word }).collect();
        let child = program.spawn(&words);
        Self(child)
    }

    /// Waits until this many netfilter sockets of the namespace have joined groups.
    pub fn wait_for(listeners: usize) {
        until("somebody listens", || {
            let table = std::fs::read_to_string("/proc/thread-self/net/netlink").expect("the table of netlink sockets");
            let joined = table.lines().skip(1).filter(|line| {
                let mut words = line.split_whitespace();
                words.nth(1) == Some("12")
                    && words.nth(1).is_some_and(|groups| !groups.trim_start_matches('0').is_empty())
            });
            joined.count() >= listeners
        });
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("sending a signal");
    }

    /// Ends it as a user would.
    pub fn end(self) -> Outcome {
        self.signal(Signal::SIGINT);
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Outcome {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.0.stdout.take().expect("a pipe").read_to_end(&mut stdout).expect("output");
        self.0.stderr.take().expect("a pipe").read_to_end(&mut stderr).expect("errors");
        Outcome { stdout, stderr, status: shell_status(self.0.wait().expect("its end")) }
    }
}

/// A test that failed leaves nobody behind who goes on writing.
impl Drop for Listener {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a recording that is being written holds these bytes.
pub fn until_recorded(file: &Path, what: &[u8]) {
    until("it is recorded", || {
        std::fs::read(file).is_ok_and(|bytes| bytes.windows(what.len()).any(|window| window == what))
    });
}
