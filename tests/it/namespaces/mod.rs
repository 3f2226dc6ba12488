//! `--netns` and `--all-netns`: every command in namespaces that the test creates, specified by name, process and path;
//! events of several namespaces at once; errors about namespaces.
//!
//! Each test has a private /run, so that the names of the host are neither visible nor changed.

mod commands;
mod events;
mod refused;

use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
};

use flowgate_test_support::{Background, Namespace, Outcome, Program, flowgate, words};

/// A flow that can be created in any namespace.
const FLOW: &str = "-t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53";

fn run(line: &str) -> Outcome {
    flowgate().run(&words(line))
}

fn must(line: &str) -> String {
    flowgate().must(&words(line))
}

/// Runs `body` with two named namespaces, `blue` and `red`, besides that of the test. They end with the mounts of the
/// test's thread.
fn with_two(body: impl FnOnce(&Namespace) + Send) {
    Namespace::run(|namespace| {
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        for name in ["blue", "red"] {
            namespace.ip(&format!("netns add {name}"));
        }
        body(namespace);
    });
}

/// A process in a named namespace, which is killed when this is dropped.
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

/// Starts a flowgate, and waits until it listens in any of the namespaces.
fn listen(line: &str) -> Background {
    let listening = Background::start(&flowgate(), &words(line));
    listening.wait_until_listening_in(&["blue", "red"]);
    listening
}

/// Ends it by SIGINT, as a user would; returns all lines that it wrote.
fn stop(mut listening: Background) -> Vec<String> {
    let outcome = listening.finish();
    (outcome.text() + &outcome.errors()).lines().map(str::to_owned).collect()
}
