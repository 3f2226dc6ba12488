//! `audit`: searches the audit and shows the matching lines.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde_json::Value;

use super::PolicyError;
use crate::{
    args::{Report, policy_command::AuditOptions},
    command::report::{self, CommandError, Exit},
};
use flowgate_base::{
    clock::now,
    text::{clean, path_text},
};
use flowgate_pipeline::sink::{Sink, SinkError};
use flowgate_policy::{
    audit::filter::{Filter, raw},
    file::AUDIT,
};

/// Runs the subcommand. If nothing matches, it fails as grep does.
pub(in crate::command) fn audit(options: &AuditOptions, stdout: &mut dyn Sink) -> Result<Exit, CommandError> {
    let filter = filter(options);
    let files = if options.files.is_empty() { vec![PathBuf::from(AUDIT)] } else { options.files.clone() };
    let show = form(options);
    let mut lines = 0;
    for path in &files {
        let mut output = Output { sink: &mut *stdout, failure: None };
        let found = open(path).and_then(|from| filter.copy(from, &mut output, show));
        if let Some(failure) = output.failure {
            return Err(failure.into());
        }
        let found = found.map_err(|source| PolicyError::Audit { path: path.clone(), source })?;
        if found.broken > 0 {
            report::line(&format!("WARNING: {}: {} lines are broken.", path_text(path), found.broken));
        }
        lines += found.lines;
    }
    Ok(if lines > 0 { Exit::Success } else { Exit::Failure })
}

/// Returns the criteria of a command line.
pub(in crate::command) fn filter(options: &AuditOptions) -> Filter {
    Filter {
        tenant: options.tenant.clone(),
        plugin: options.plugin.clone(),
        stage: options.stage.clone(),
        action: options.action.clone(),
        result: options.result.clone(),
        since: options.since.map(|since| now().saturating_sub(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))),
        #[cfg(feature = "fleet")]
        plan: options.plan.clone(),
        #[cfg(not(feature = "fleet"))]
        plan: None,
        open: options.open,
    }
}

/// Returns how lines are shown.
pub(in crate::command) fn form(options: &AuditOptions) -> fn(&Value, &[u8]) -> Vec<u8> {
    if options.output == Report::Json { raw } else { shown }
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = File::open(path)?;
    Ok(match path.extension().is_some_and(|end| end == "gz") {
        true => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file))),
        false => Box::new(BufReader::new(file)),
    })
}

/// Adapts a sink to a writer.
pub(in crate::command) struct Output<'a> {
    pub sink: &'a mut dyn Sink,
    pub failure: Option<SinkError>,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.sink.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failure = Some(error);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Formats a line for people. The host wrote the line, but some of its text comes from others, so it is cleaned.
fn shown(line: &Value, _: &[u8]) -> Vec<u8> {
    let word = |name: &str| clean(line.get(name).and_then(Value::as_str).unwrap_or_default());
    let number = |name: &str| line.get(name).and_then(Value::as_u64);
    let time = number("time").and_then(|time| Timestamp::from_nanosecond(time.into()).ok()).unwrap_or_default();
    let mut text = format!("{time:.3} {:<7}", word("stage"));
    let who = ["agent", "plugin", "tenant"].map(word).into_iter().find(|who| !who.is_empty()).unwrap_or_default();
    for part in [who, word("action"), word("result"), word("code")] {
        if !part.is_empty() {
            text.push_str(&format!(" {part}"));
        }
    }
    if let Some(count) = number("count") {
        text.push_str(&format!(" x{count}"));
    }
    if let Some(errno) = number("errno") {
        text.push_str(&format!(" (error {errno})"));
    }
    // A line of an agent of a fleet has the hash of the line before there.
    if let Some(flow) = line.get("before").filter(|before| before.is_object()).or_else(|| line.get("after")) {
        text.push_str(&format!(" {}", flow_of(flow)));
    }
    let reason = word("reason");
    if !reason.is_empty() {
        text.push_str(&format!(": {reason}"));
    }
    if line.get("later").and_then(Value::as_bool) == Some(true) {
        text.push_str(" (left for it while it was absent)");
    }
    // A line of an agent of a fleet has its number in the agent's audit, and the plan.
    match (number("number"), word("plan")) {
        (None, _) => text.push_str(&format!(" #{} of {}", number("id").unwrap_or(0), number("run").unwrap_or(0))),
        (Some(number), plan) if plan.is_empty() => text.push_str(&format!(" #{number}")),
        (Some(number), plan) => text.push_str(&format!(" #{number} of plan {plan}")),
    }
    text.push('\n');
    text.into_bytes()
}

/// Formats the tuple of a flow.
fn flow_of(flow: &Value) -> String {
    let of = |side: &Value, name: &str| match side.get(name) {
        Some(Value::String(text)) => clean(text),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let side = flow.get("original").unwrap_or(&Value::Null);
    let mut text = format!(
        "{} {} {} -> {} {}",
        of(flow, "protocol_name"),
        of(side, "source"),
        of(side, "source_port"),
        of(side, "destination"),
        of(side, "destination_port"),
    );
    for name in ["zone", "mark", "id"] {
        let value = of(flow, name);
        if !value.is_empty() {
            text.push_str(&format!(" {name}={value}"));
        }
    }
    text
}
