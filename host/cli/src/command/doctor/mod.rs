//! `flowgate doctor`: causes on this machine for which flows are not shown, each with the command that removes it.
//!
//! * `privileges`: capabilities and the network namespace.
//! * `kernel`: loaded and built-in modules.
//! * `settings`: sysctls.
//! * `plugins`: execution of plugins' code.
//! * `rules`: rules that enable tracking.
//! * `unit`: restrictions of the unit or container.
//! * `workers`: separation of the processes that run plugins of tenants.
//! * `features`: capabilities of the kernel, tested in a temporary network namespace.

mod features;
mod kernel;
mod plugins;
mod privileges;
mod rules;
mod settings;
mod unit;
mod workers;

use std::{
    ffi::OsStr,
    fmt::Write as _,
    io::{self, IsTerminal as _},
    path::Path,
};

use serde::Serialize;

use super::{CommandError, Exit};
use flowgate_netlink::{Namespace, namespace};
use flowgate_pipeline::sink::{Sink, SinkError};

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Everything is in order.
    Ok,
    /// Something is slower or is not shown, but everything shown is correct.
    Warning,
    /// Commands fail, or nothing is shown at all.
    Problem,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    /// Name of the check for programs; it is the same on all machines.
    check: &'static str,
    /// The state and its consequences.
    text: String,
    /// The command that changes it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Finding {
    fn new(level: Level, check: &'static str, text: impl Into<String>) -> Self {
        Finding { level, check, text: text.into(), mend: None }
    }

    fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Ok, check, text)
    }

    fn warning(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Warning, check, text)
    }

    fn problem(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Problem, check, text)
    }

    fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }
}

/// The examined network namespace.
struct Patient<'a> {
    /// `None` for the namespace of the process.
    namespace: Option<&'a Namespace>,
}

impl Patient<'_> {
    /// Runs a function in the namespace.
    fn within<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, CommandError> {
        Ok(namespace::run_in(self.namespace, work)?)
    }

    /// Reads a file of procfs in the namespace, without surrounding white space.
    fn read(&self, path: &str) -> Option<String> {
        let text = self.within(|| std::fs::read_to_string(path)).ok()?.ok()?;
        Some(text.trim().to_string())
    }

    /// Reads a numeric sysctl, such as `net.netfilter.nf_conntrack_acct`.
    fn sysctl(&self, name: &str) -> Option<u64> {
        self.read(&file_of(name))?.parse().ok()
    }

    /// Returns a command line that runs a command in the namespace.
    fn command(&self, command: &str) -> String {
        match self.namespace {
            Some(namespace) => format!("nsenter --net={} {command}", namespace.path().display()),
            None => command.to_string(),
        }
    }
}

/// Returns the path of a sysctl in procfs.
fn file_of(sysctl: &str) -> String {
    Path::new("/proc/sys").join(sysctl.replace('.', "/")).display().to_string()
}

/// Examines a network namespace and prints the findings. If `json` is true, each is an object on a line of its own.
pub(super) fn run(netns: Option<&OsStr>, json: bool, sink: &mut dyn Sink) -> Result<Exit, CommandError> {
    let namespace = netns.map(Namespace::find).transpose()?;
    let patient = Patient { namespace: namespace.as_ref() };
    let mut findings = privileges::examine(&patient);
    let counts = kernel::Counts::of(&patient);
    findings.extend(kernel::examine(&patient, &counts));
    findings.push(rules::examine(&patient, counts.as_ref().ok().and_then(|counts| counts.flows)));
    findings.extend(settings::examine(&patient, counts.as_ref().ok()));
    findings.extend(unit::examine(&patient, counts.is_ok()));
    findings.push(plugins::examine(flowgate_runtime::Execution::detect()));
    findings.extend(workers::examine());
    findings.extend(features::examine());
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut text = String::new();
    for finding in &findings {
        if json {
            text.push_str(
                &serde_json::to_string(finding)
                    .map_err(|error| CommandError::Output(SinkError::Stdout(error.into())))?,
            );
            text.push('\n');
        } else {
            show(&mut text, finding, colour);
        }
    }
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    if !json {
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        let _ = writeln!(text, "{} problems, {} warnings", count(Level::Problem), count(Level::Warning));
    }
    sink.write(text.as_bytes())?;
    Ok(if worst == Level::Problem { Exit::Failure } else { Exit::Success })
}

/// Appends a finding for people: the level and the text, then the command on a line of its own.
fn show(text: &mut String, finding: &Finding, colour: bool) {
    let (word, code) = match finding.level {
        Level::Ok => ("ok", 32),
        Level::Warning => ("warning", 33),
        Level::Problem => ("problem", 31),
    };
    let (on, off) = if colour { (format!("\x1b[{code}m"), "\x1b[0m") } else { (String::new(), "") };
    let _ = writeln!(text, "{on}{word:<8}{off} {}", finding.text);
    if let Some(mend) = &finding.mend {
        let _ = writeln!(text, "         -> {mend}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_where_they_are_wanted() {
        let finding = Finding::warning("check", "it is so").mend("do this");
        let mut text = String::new();
        show(&mut text, &finding, false);
        assert_eq!(text, "warning  it is so\n         -> do this\n");
        text.clear();
        show(&mut text, &finding, true);
        assert_eq!(text, "\x1b[33mwarning \x1b[0m it is so\n         -> do this\n");
    }

    #[test]
    fn for_programs_it_is_an_object() {
        let finding = Finding::ok("check", "a \"b\"");
        assert_eq!(serde_json::to_string(&finding).unwrap(), r#"{"level":"ok","check":"check","text":"a \"b\""}"#);
        assert_eq!(file_of("net.netfilter.nf_conntrack_acct"), "/proc/sys/net/netfilter/nf_conntrack_acct");
    }
}
