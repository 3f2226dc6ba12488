//! What a plugin may do, each on real flows of the kernel: change what is shown, note, act, use the host's services, be called
//! from time to time, look back; and what it may not without a grant. The plugin is `tests/plugins/active`.

mod actions;
mod expectations;
mod listening;
mod services;

use flowgate_test_support::flowgate;
use flowgate_test_support::plugins;
use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::Child,
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use flowgate_test_support::{Namespace, Outcome, Program, entries};
use nix::{sys::signal::Signal, unistd::Pid};

/// All that the plugin needs to start.
const BASE: &str = "state,time";

fn conntrack() -> Program {
    Program::new("conntrack")
}

/// The plugin with these options.
fn active(options: &str) -> String {
    format!("{},{options}", plugins::built("active").display())
}

/// Runs a command with the plugin.
fn run(command: &str, options: &str, grants: &str) -> Outcome {
    let plugin = active(options);
    let grants = [BASE, grants].into_iter().filter(|grants| !grants.is_empty()).collect::<Vec<_>>().join(",");
    let mut words: Vec<&str> = command.split_whitespace().collect();
    words.extend(["--plugin", plugin.as_str(), "--grant", grants.as_str()]);
    flowgate().run(&words)
}

/// Flows of several protocols and both families.
fn some_flows(namespace: &Namespace) -> usize {
    let flows = entries::every_protocol();
    entries::load(namespace, &flows);
    table().len()
}

/// The table, in lines.
fn table() -> Vec<String> {
    conntrack().must(&["-L"]).lines().map(str::to_string).collect()
}

/// A flowgate that listens, and the lines that it has written.
struct Listening {
    child: Child,
    errors: Receiver<String>,
    heard: Vec<String>,
}

impl Listening {
    fn start(command: &str, options: &str, grants: &str, more: &[&str]) -> Self {
        let plugin = active(options);
        let grants = format!("{BASE},log,{grants}");
        let mut words: Vec<&str> = command.split_whitespace().collect();
        words.extend(["--plugin", plugin.as_str(), "--grant", grants.as_str()]);
        words.extend(more);
        let mut child = flowgate().spawn(&words);
        let stderr = child.stderr.take().expect("it has a standard error");
        let (sender, errors) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Listening { child, errors, heard: Vec::new() }
    }

    /// Waits until a line with these words has come, counted from the last one that was waited for.
    fn wait(&mut self, words: &str) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            let line = self.errors.recv_timeout(rest).unwrap_or_else(|_| panic!("no `{words}`: {:#?}", self.heard));
            self.heard.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(process, signal).expect("it takes signals");
    }

    /// Ends it as a user does; what it wrote.
    fn stop(mut self) -> (String, Vec<String>) {
        self.signal(Signal::SIGINT);
        let mut text = String::new();
        self.child.stdout.take().expect("it has a standard output").read_to_string(&mut text).expect("it is text");
        let status = self.child.wait().expect("it ends");
        self.heard.extend(self.errors.iter());
        assert_eq!(status.code(), Some(0), "{:#?}", self.heard);
        (text, self.heard)
    }
}
