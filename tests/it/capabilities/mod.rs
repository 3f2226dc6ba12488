//! Capabilities of plugins on real flows of the kernel: changes of displayed values, annotations, actions, services of
//! the host, ticks, look-backs; and what is refused without a grant. The plugin is `tests/plugins/active`.

mod actions;
mod expectations;
mod listening;
mod services;

use flowgate_test_support::{Background, Namespace, Outcome, conntrack, entries, flowgate, plugins};
use nix::sys::signal::Signal;

/// The grants that the plugin needs to start.
const BASE: &str = "state,time";

/// Returns the `--plugin` value for the plugin with these options.
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

/// Creates flows of several protocols and both families; returns their number.
fn some_flows(namespace: &Namespace) -> usize {
    let flows = entries::every_protocol();
    entries::load(namespace, &flows);
    table().len()
}

/// Returns the lines of the table.
fn table() -> Vec<String> {
    conntrack().must(&["-L"]).lines().map(str::to_string).collect()
}

/// A listening flowgate, whose standard error contains what the plugin logs.
struct Listening(Background);

impl Listening {
    fn start(command: &str, options: &str, grants: &str, more: &[&str]) -> Self {
        let plugin = active(options);
        let grants = format!("{BASE},log,{grants}");
        let mut words: Vec<&str> = command.split_whitespace().collect();
        words.extend(["--plugin", plugin.as_str(), "--grant", grants.as_str()]);
        words.extend(more);
        Listening(Background::start_unread(&flowgate(), &words))
    }

    /// Waits for a line that contains these words, after the last one that was waited for.
    fn wait(&mut self, words: &str) -> String {
        self.0.wait_for_error(words)
    }

    fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }

    /// Ends it by SIGINT, as a user would; returns what it wrote.
    fn stop(mut self) -> (String, Vec<String>) {
        let outcome = self.0.finish();
        (outcome.text(), outcome.errors().lines().map(str::to_owned).collect())
    }
}
