//! `--netns` and `--all-netns`: every command in namespaces that the test makes, named by name, process and path; events of
//! several at once; what is wrong with a namespace.
//!
//! Each test has a /run of its own, so that the names of the host are neither seen nor touched.

mod commands;
mod events;
mod refused;

use flowgate_test_support::flowgate;
use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use flowgate_test_support::{Namespace, Outcome, Program, program::must_heed_signals};
use nix::{sys::signal::Signal, unistd::Pid};

/// A flow that can be made anywhere.
const FLOW: &str = "-t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn run(line: &str) -> Outcome {
    flowgate().run(&words(line))
}

fn must(line: &str) -> String {
    flowgate().must(&words(line))
}

/// Two named namespaces, `blue` and `red`, beside that of the test. They end with the mounts of the test's thread.
fn with_two(body: impl FnOnce(&Namespace) + Send) {
    Namespace::run(|namespace| {
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        for name in ["blue", "red"] {
            namespace.ip(&format!("netns add {name}"));
        }
        body(namespace);
    });
}

/// A process in a named namespace, which ends with this.
struct Inhabitant(Child);

impl Inhabitant {
    fn of(name: &str) -> Self {
        let child = Command::new("ip")
            .args(["netns", "exec", name, "sh", "-c", "echo here; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("ip is there");
        let mut here = [0; 4];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut here).expect("it has started");
        Inhabitant(child)
    }

    fn process(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A flowgate that listens.
struct Listening {
    child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Listening {
    fn start(line: &str) -> Self {
        must_heed_signals();
        let mut child = flowgate().spawn(&words(line));
        let (sender, lines) = channel();
        let (out, errors) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        for stream in [Box::new(out) as Box<dyn std::io::Read + Send>, Box::new(errors)] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
            });
        }
        let mut listening = Listening { child, lines, heard: Vec::new() };
        listening.wait_for_socket();
        listening
    }

    /// Waits until its socket has joined groups: it has, when a flow that is made and removed in its namespace is seen. Any
    /// namespace may be meant, so that this is asked of the kernel: a netlink socket of the process with groups.
    fn wait_for_socket(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        let sockets = format!("/proc/{}/fd", self.child.id());
        loop {
            let inodes: Vec<String> = std::fs::read_dir(&sockets)
                .expect("it runs")
                .flatten()
                .filter_map(|entry| std::fs::read_link(entry.path()).ok()?.to_str().map(str::to_string))
                .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_string()))
                .collect();
            let mut tables = vec![std::fs::read_to_string("/proc/thread-self/net/netlink").expect("the sockets here")];
            for name in ["blue", "red"] {
                tables.push(Program::new("ip").run(&["netns", "exec", name, "cat", "/proc/net/netlink"]).text());
            }
            let joined = tables.iter().flat_map(|table| table.lines()).any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.get(1) == Some(&"12")
                    && words.get(3).is_some_and(|groups| *groups != "00000000")
                    && words.last().is_some_and(|inode| inodes.iter().any(|known| known == inode))
            });
            if joined {
                return;
            }
            assert!(Instant::now() < end, "it does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a line with these words has come.
    fn wait(&mut self, words: &str) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(rest).unwrap_or_else(|_| panic!("no `{words}`: {:#?}", self.heard));
            self.heard.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Ends it as a user does; all that it wrote.
    fn stop(mut self) -> Vec<String> {
        let process = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(process, Signal::SIGINT).expect("it takes signals");
        let status = self.child.wait().expect("it ends");
        self.heard.extend(self.lines.iter());
        assert_eq!(status.code(), Some(0), "{:#?}", self.heard);
        self.heard
    }
}
