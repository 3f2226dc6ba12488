//! `flowgate doctor`: what on this machine keeps connection tracking from being seen, and the command that mends it.
//!
//! * `privileges`: capabilities, and the network namespace.
//! * `kernel`: what is loaded or built in.
//! * `settings`: sysctls.
//! * `plugins`: how the code of plugins runs here.
//! * `rules`: whether anything turns tracking on.
//! * `unit`: what the unit or container keeps from the process.
//! * `features`: what this kernel can do, tried out in a network namespace that is made for it.

mod features;
mod kernel;
mod plugins;
mod privileges;
mod rules;
mod settings;
mod unit;

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

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Something is slower, or is not seen, but what is seen is right.
    Warning,
    /// Commands fail, or nothing is seen at all.
    Problem,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    /// What was looked at, for programs: it does not change from one machine to the other.
    check: &'static str,
    /// What is so, and what it means.
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

/// The patient: a network namespace, and how commands are to be written that act on it.
struct Patient<'a> {
    /// None for that of the process.
    namespace: Option<&'a Namespace>,
}

impl Patient<'_> {
    /// Does something where the patient is.
    fn within<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, CommandError> {
        Ok(namespace::run_in(self.namespace, work)?)
    }

    /// A file of procfs as it is there, without the newline at its end.
    fn read(&self, path: &str) -> Option<String> {
        let text = self.within(|| std::fs::read_to_string(path)).ok()?.ok()?;
        Some(text.trim().to_string())
    }

    /// A number of sysctl, such as `net.netfilter.nf_conntrack_acct`.
    fn sysctl(&self, name: &str) -> Option<u64> {
        self.read(&file_of(name))?.parse().ok()
    }

    /// A command that is to be run there.
    fn command(&self, command: &str) -> String {
        match self.namespace {
            Some(namespace) => format!("nsenter --net={} {command}", namespace.path().display()),
            None => command.to_string(),
        }
    }
}

/// Where procfs has a sysctl.
fn file_of(sysctl: &str) -> String {
    Path::new("/proc/sys").join(sysctl.replace('.', "/")).display().to_string()
}

/// Examines the network namespace, and prints what was found. `json`: one object a line.
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

/// A finding in words: the level, the text, and below it the command.
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
