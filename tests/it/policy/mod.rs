//! `flowgate run` with a policy: tenants on real flows of private namespaces.

mod attacks;
mod calls;
mod checks;
mod compiling;
mod files;
mod held_up;
mod limits;
mod metrics;
mod neighbours;
mod notify;
mod privileges;
mod recording;
mod reload;
mod replay;
mod resume;
mod revoking;
mod service;
mod shares;
mod starting;
mod voices;
mod workers;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use flowgate_test_support::{
    Background, Namespace, Outcome, Program, entries, flowgate, json, plugins, until_or_explain,
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The tenant's own flow, then flows of others that differ from it in one property each.
const FLOWS: [&str; 9] = [
    "-I -t 3000 -w 7 -p udp -s 10.1.0.1 -d 192.0.2.1 --sport 1001 --dport 53 -m 0x120100",
    "-I -t 3000 -w 8 -p udp -s 10.1.0.1 -d 192.0.2.1 --sport 1001 --dport 53",
    "-I -t 3000 -p udp -s 10.1.0.1 -d 192.0.2.1 --sport 1001 --dport 53",
    "-I -t 3000 -w 65535 -p udp -s 10.1.0.1 -d 192.0.2.1 --sport 1001 --dport 53",
    "-I -t 3000 -w 7 -p udp -s 10.2.0.1 -d 192.0.2.1 --sport 2001 --dport 53",
    "-I -t 3000 -w 7 -p udp -s 10.0.255.255 -d 192.0.2.1 --sport 9 --dport 53",
    "-I -t 3000 -w 7 -p udp -s 10.2.0.0 -d 192.0.2.1 --sport 9 --dport 53",
    "-I -t 3000 -w 7 -p udp -s 10.2.0.5 -d 10.1.0.7 --sport 5 --dport 53",
    "-I -t 3000 -w 8 -p udp -s ::ffff:10.1.0.1 -d ::ffff:192.0.2.1 --sport 1001 --dport 53",
];
/// A flow that is translated to a neighbour's address.
const TRANSLATED: &str = "-I -t 3000 -w 7 -p udp -s 10.1.0.3 -d 192.0.2.9 --sport 3001 --dport 53 -g 10.2.0.9";

fn fill() -> Vec<String> {
    FLOWS.iter().chain([&TRANSLATED]).map(ToString::to_string).collect()
}

/// Returns the table without timeouts.
fn table() -> Vec<String> {
    let text = Program::new("conntrack").must(&["-L", "-o", "id"]);
    let six = Program::new("conntrack").must(&["-L", "-o", "id", "-f", "ipv6"]);
    let steady = |line: &str| {
        line.split_whitespace()
            .enumerate()
            .filter(|(at, _)| *at != 2)
            .map(|(_, word)| word)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut lines: Vec<String> = text.lines().chain(six.lines()).map(steady).collect();
    lines.sort();
    lines
}

/// Returns the attacking plugin and its digest.
fn attacker() -> (PathBuf, String) {
    let path = plugins::built("attacker");
    let digest = plugins::digest(&path);
    (path, digest)
}

/// Writes a policy with this text, in which `PLUGIN` is replaced by the keys of the attacker and `DIR` by the
/// directory. It does not follow changes of its file.
fn policy(namespace: &Namespace, text: &str) -> PathBuf {
    let path = namespace.directory().join("policy.toml");
    fs::write(&path, policy_text(namespace, "reload-on-change = false\n", text)).unwrap();
    path
}

/// Returns the text of [`policy`] with these keys of the service.
fn policy_text(namespace: &Namespace, service: &str, text: &str) -> String {
    let (plugin, digest) = attacker();
    let directory = namespace.directory().display().to_string();
    let head =
        format!("[service]\nsocket = \"{directory}/socket\"\n{service}[audit]\npath = \"{directory}/audit.jsonl\"\n");
    let plugin = format!("file = \"{}\"\nsha256 = \"{digest}\"", plugin.display());
    head + &text.replace("PLUGIN", &plugin).replace("DIR", &directory)
}

/// A running service.
struct Serving {
    background: Background,
    directory: PathBuf,
}

impl Serving {
    fn start(namespace: &Namespace, text: &str) -> Self {
        policy(namespace, text);
        let serving = Self::launch(namespace, &flowgate(), &[]);
        serving.until("it runs", || serving.errors().contains("generation 1 runs"));
        serving
    }

    /// Starts the service on the existing file with these options, and does not wait.
    fn launch(namespace: &Namespace, program: &Program, options: &[&str]) -> Self {
        let path = namespace.directory().join("policy.toml").display().to_string();
        let mut command = program.command(&[&["run", &path], options].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::spawn(namespace, command)
    }

    /// Starts a command as the service.
    fn spawn(namespace: &Namespace, command: Command) -> Self {
        Serving { background: Background::spawn(command), directory: namespace.directory().to_path_buf() }
    }

    fn errors(&self) -> String {
        self.background.errors()
    }

    /// Returns the lines of the audit, each of which must be an object.
    fn audit(&self) -> Vec<Value> {
        json::lines_so_far(&self.directory.join("audit.jsonl"))
    }

    /// Returns the lines of the audit whose member `name` has this value.
    fn audited(&self, name: &str, value: &str) -> Vec<Value> {
        self.audit().into_iter().filter(|line| line[name] == value).collect()
    }

    fn ask(&self, words: &[&str]) -> Outcome {
        let socket = self.directory.join("socket").display().to_string();
        flowgate().run(&[&["policy", words[0], "--socket", &socket], &words[1..]].concat())
    }

    /// Waits until a condition holds.
    fn until(&self, what: &str, is: impl FnMut() -> bool) {
        until_or_explain(what, is, || format!("{}\n{:#?}", self.errors(), self.audit()));
    }

    fn signal(&self, signal: Signal) {
        self.background.signal(signal);
    }

    /// Returns its directory in `/proc`.
    fn proc(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.background.process()))
    }

    /// Ends it; returns what it wrote to standard error.
    fn end(mut self) -> String {
        let outcome = self.background.end_by(Signal::SIGTERM);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        outcome.errors()
    }
}
