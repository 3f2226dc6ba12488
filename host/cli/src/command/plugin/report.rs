//! Reports of tests: for people, in colour on a terminal, and for programs.

use std::{
    env,
    io::{self, IsTerminal as _},
    path::Path,
};

use serde_json::json;
use similar::{ChangeTag, TextDiff};

use super::super::{CommandError, Exit};
use crate::args::Report;
use flowgate_base::text::{self, clean};
use flowgate_pipeline::sink::Sink;

/// Number of equal lines that are shown around different ones.
const CONTEXT: usize = 2;

/// The result of a case.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The output is as expected.
    Passed,
    /// The output was written to the file of expected output.
    Blessed,
    /// The output is not as expected, or the case failed.
    Failed {
        /// The mistake, in one line or more.
        message: String,
        /// Expected and actual output.
        expected: Option<(String, String)>,
    },
}

/// A case and its result.
pub(super) struct CaseReport<'a> {
    /// Directory of the case.
    pub directory: &'a Path,
    /// The plugin.
    pub plugin: &'a Path,
    /// Name of the case.
    pub name: &'a str,
    /// Result of the case.
    pub verdict: Verdict,
}

/// Writes reports and counts results.
pub(super) struct Reporter<'a> {
    sink: &'a mut dyn Sink,
    output: Report,
    colour: bool,
    passed: u64,
    blessed: u64,
    failed: u64,
}

impl<'a> Reporter<'a> {
    /// Returns a reporter with all counts zero.
    pub(super) fn new(output: Report, sink: &'a mut dyn Sink) -> Self {
        let colour = output == Report::Text && io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
        Reporter { sink, output, colour, passed: 0, blessed: 0, failed: 0 }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_string() }
    }

    fn write(&mut self, text: &str) -> Result<(), CommandError> {
        Ok(self.sink.write(text.as_bytes())?)
    }

    /// Begins the report of a directory.
    pub(super) fn suite(&mut self, directory: &Path, plugin: &Path) -> Result<(), CommandError> {
        if self.output == Report::Json {
            return Ok(());
        }
        self.write(&format!("{} ({})\n", clean(&directory.display().to_string()), clean(&plugin.display().to_string())))
    }

    /// Reports a directory whose cases cannot be run.
    pub(super) fn broken(&mut self, directory: &Path, message: &str) -> Result<(), CommandError> {
        self.failed += 1;
        if self.output == Report::Json {
            let object = json!({"type": "suite", "directory": directory.display().to_string(), "result": "failed", "message": message});
            return self.write(&text::json(&format!("{object}\n")));
        }
        let text = format!(
            "{}\n  {}  {}\n",
            clean(&directory.display().to_string()),
            self.paint("31", "FAIL"),
            indented(message)
        );
        self.write(&text)
    }

    /// Reports a case.
    pub(super) fn case(&mut self, report: &CaseReport<'_>) -> Result<(), CommandError> {
        let word = match report.verdict {
            Verdict::Passed => "passed",
            Verdict::Blessed => "blessed",
            Verdict::Failed { .. } => "failed",
        };
        match report.verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Blessed => self.blessed += 1,
            Verdict::Failed { .. } => self.failed += 1,
        }
        if self.output == Report::Json {
            let mut object = json!({
                "type": "case",
                "directory": report.directory.display().to_string(),
                "plugin": report.plugin.display().to_string(),
                "name": report.name,
                "result": word,
            });
            if let (Verdict::Failed { message, expected }, Some(members)) = (&report.verdict, object.as_object_mut()) {
                members.insert("message".into(), message.as_str().into());
                if let Some((expected, found)) = expected {
                    members.insert("expected".into(), expected.as_str().into());
                    members.insert("found".into(), found.as_str().into());
                }
            }
            return self.write(&text::json(&format!("{object}\n")));
        }
        let name = clean(report.name);
        let text = match &report.verdict {
            Verdict::Passed => format!("  {}    {name}\n", self.paint("32", "ok")),
            Verdict::Blessed => format!("  {} {name}\n", self.paint("33", "wrote")),
            Verdict::Failed { message, expected } => {
                let mut text = format!("  {}  {name}\n        {}\n", self.paint("31", "FAIL"), indented(message));
                if let Some((expected, found)) = expected {
                    text.push_str(&self.difference(expected, found));
                }
                text
            }
        };
        self.write(&text)
    }

    /// Returns the different lines, with some equal ones around them.
    fn difference(&self, expected: &str, found: &str) -> String {
        let mut text = String::new();
        let diff = TextDiff::from_lines(expected, found);
        for (index, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
            if index > 0 {
                text.push_str("        ...\n");
            }
            for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
                let line = clean(change.value().trim_end_matches('\n'));
                text.push_str(&match change.tag() {
                    ChangeTag::Equal => format!("          {line}\n"),
                    ChangeTag::Delete => format!("        {}\n", self.paint("31", &format!("- {line}"))),
                    ChangeTag::Insert => format!("        {}\n", self.paint("32", &format!("+ {line}"))),
                });
            }
        }
        text
    }

    /// Writes the numbers of passed and failed cases, and returns the exit status.
    pub(super) fn summary(mut self) -> Result<Exit, CommandError> {
        let (passed, blessed, failed) = (self.passed, self.blessed, self.failed);
        let text = if self.output == Report::Json {
            format!("{}\n", json!({"type": "summary", "passed": passed, "blessed": blessed, "failed": failed}))
        } else if blessed > 0 {
            format!("{passed} passed, {failed} failed, {blessed} written\n")
        } else {
            format!("{passed} passed, {failed} failed\n")
        };
        self.write(&text)?;
        // A run without cases is a failure.
        Ok(if failed > 0 || passed + blessed == 0 { Exit::Failure } else { Exit::Success })
    }
}

/// Returns lines of which all but the first are indented.
fn indented(message: &str) -> String {
    message.lines().map(clean).collect::<Vec<_>>().join("\n        ")
}
