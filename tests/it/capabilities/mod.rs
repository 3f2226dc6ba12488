//! Capabilities of plugins on real flows of the kernel: changes of what is shown, annotations, actions, services of the
//! host, ticks, look-backs; and what is refused without a grant. The plugin is `tests/plugins/active`.

mod actions;
mod expectations;
mod listening;
mod services;

use flowgate_test_support::{Background, Namespace, Outcome, conntrack, entries, flowgate, plugins};
use nix::sys::signal::Signal;

/// All that the plugin needs to start.
const BASE: &str = "state,time";

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

/// A flowgate that listens, and writes down what the plugin logs.
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

    /// Waits until a line with these words has come, counted from the last one that was waited for.
    fn wait(&mut self, words: &str) -> String {
        self.0.wait_for_error(words)
    }

    fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }

    /// Ends it as a user does; what it wrote.
    fn stop(mut self) -> (String, Vec<String>) {
        let outcome = self.0.finish();
        (outcome.text(), outcome.errors().lines().map(str::to_owned).collect())
    }
}
