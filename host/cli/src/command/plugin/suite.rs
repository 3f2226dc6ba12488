//! `test.toml`: the cases of a directory, all of which are read and checked before the first one is run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::error::ToolError;
use flowgate_base::files;
use flowgate_model::{
    Label, OptionValue,
    grants::{Grants, StateStorage},
};
use flowgate_syntax::{DEFAULT_BATCH, Output};

/// Name of the file.
pub(super) const FILE: &str = "test.toml";

/// The cases of a directory.
#[derive(Debug)]
pub(super) struct Suite {
    /// The directory that paths are relative to.
    pub directory: PathBuf,
    /// The plugin, if the file names it.
    pub plugin: Option<PathBuf>,
    /// Names of labels.
    pub labels: Vec<Label>,
    /// The cases in the order of the file.
    pub cases: Vec<Case>,
}

/// The input of a plugin and its expected output.
#[derive(Debug)]
pub(super) struct Case {
    /// Name of the case.
    pub name: String,
    /// Name and content of the fixture.
    pub fixture: (String, Vec<u8>),
    /// True if the rows are expectations.
    pub expectations: bool,
    /// Options of the plugin.
    pub options: Vec<OptionValue>,
    /// Grants of the plugin.
    pub grants: Grants,
    /// Maximum number of rows of a batch.
    pub batch: usize,
    /// Format of the rows in the transcript.
    pub output: Output,
    /// Expected result.
    pub expected: Expected,
}

/// Expected result of a case.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The content of this file.
    File(PathBuf),
    /// This text, from test.toml itself.
    Inline(String),
    /// An error whose message contains this text.
    Error(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSuite {
    plugin: Option<PathBuf>,
    #[serde(default)]
    labels: BTreeMap<String, u16>,
    #[serde(default, rename = "case")]
    cases: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    flows: Option<String>,
    expectations: Option<String>,
    #[serde(default)]
    options: BTreeMap<String, toml::Value>,
    #[serde(default)]
    grants: String,
    batch: Option<u32>,
    #[serde(default)]
    output: String,
    expect: Option<String>,
    error: Option<String>,
}

impl Suite {
    /// Reads the test.toml of a directory and the fixtures that it names.
    ///
    /// # Errors
    /// [`ToolError`]: a file cannot be read or is invalid.
    pub(super) fn read(directory: &Path) -> Result<Self, ToolError> {
        let path = directory.join(FILE);
        let text = files::read_text(&path, files::MAX_FIXTURE_FILE)
            .map_err(|source| ToolError::Read { path: path.clone(), source })?;
        let raw: RawSuite = toml::from_str(&text)
            .map_err(|error| ToolError::Toml { path: path.clone(), said: error.to_string().trim_end().into() })?;
        let labels: Vec<Label> = raw.labels.into_iter().map(|(name, bit)| Label { bit, name }).collect();
        if let Some(label) = labels.iter().find(|label| label.bit > 127) {
            let said = format!("label `{}` is {}; labels are numbers from 0 to 127", label.name, label.bit);
            return Err(ToolError::Toml { path, said });
        }
        let mut cases: Vec<Case> = Vec::new();
        for raw in raw.cases {
            let name = raw.name.clone();
            let wrong = |problem: String| ToolError::Case { path: path.clone(), case: name.clone(), problem };
            let case = Case::checked(directory, raw).map_err(|error| match error {
                Wrong::Problem(problem) => wrong(problem),
                Wrong::Tool(error) => error,
            })?;
            if cases.iter().any(|other| {
                other.name == case.name
                    || (other.expected == case.expected && matches!(case.expected, Expected::File(_)))
            }) {
                return Err(wrong(
                    "another case has the same name, or the same file of what is expected; both are used once".into(),
                ));
            }
            cases.push(case);
        }
        if cases.is_empty() {
            return Err(ToolError::NoCases { path });
        }
        let mut labels = labels;
        labels.sort_by_key(|label| label.bit);
        Ok(Suite {
            directory: directory.into(),
            plugin: raw.plugin.map(|plugin| directory.join(plugin)),
            labels,
            cases,
        })
    }
}

enum Wrong {
    Problem(String),
    Tool(ToolError),
}

impl From<String> for Wrong {
    fn from(problem: String) -> Self {
        Wrong::Problem(problem)
    }
}

impl Case {
    fn checked(directory: &Path, raw: RawCase) -> Result<Self, Wrong> {
        let (given, expectations) = match (raw.flows, raw.expectations) {
            (Some(flows), None) => (flows, false),
            (None, Some(expectations)) => (expectations, true),
            _ => {
                let right = "it needs one of flows = and expectations =: the name of a file, or several lines of it";
                return Err(right.to_string().into());
            }
        };
        let fixture = if given.contains('\n') {
            let key = if expectations { "expectations" } else { "flows" };
            (format!("{} ({key} of `{}`)", FILE, raw.name), given.into_bytes())
        } else {
            let path = directory.join(given);
            let content = files::read(&path, files::MAX_FIXTURE_FILE)
                .map_err(|source| Wrong::Tool(ToolError::Read { path: path.clone(), source }))?;
            (path.display().to_string(), content)
        };
        let expected = match (raw.expect, raw.error) {
            (Some(_), Some(_)) => {
                return Err("it has both expect = and error =; a case that fails has nothing else to expect"
                    .to_string()
                    .into());
            }
            (None, Some(error)) => Expected::Error(error),
            (Some(text), None) if text.contains('\n') => Expected::Inline(text),
            (Some(file), None) => Expected::File(directory.join(file)),
            (None, None) => Expected::File(directory.join("expected").join(format!("{}.txt", slug(&raw.name)))),
        };
        let mut options = Vec::new();
        for (name, value) in raw.options {
            let value = match value {
                toml::Value::String(text) => content(directory, text)?,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                _ => return Err(format!("option `{name}` is neither text nor a number nor true or false").into()),
            };
            options.push(OptionValue::new(name, value));
        }
        Ok(Case {
            fixture,
            expectations,
            options,
            grants: granted(&raw.grants)?,
            batch: match raw.batch.unwrap_or(DEFAULT_BATCH) {
                batch @ 1..=65536 => batch as usize,
                batch => return Err(format!("batch = {batch} is not a number from 1 to 65536").into()),
            },
            output: output(&raw.output)?,
            expected,
            name: raw.name,
        })
    }
}

/// Returns the value of an option: the text itself, or the content of a file after `@`; `@@` stands for one `@`.
fn content(directory: &Path, text: String) -> Result<String, Wrong> {
    match text.strip_prefix('@') {
        None => Ok(text),
        Some(rest) if rest.starts_with('@') => Ok(rest.to_string()),
        Some(file) => {
            let path = directory.join(file);
            files::read_text(&path, files::MAX_FIXTURE_FILE)
                .map_err(|source| Wrong::Tool(ToolError::Read { path, source }))
        }
    }
}

/// Parses grants as on the command line. State is kept in memory only, so that a test leaves no files.
fn granted(text: &str) -> Result<Grants, String> {
    let mut grants: Grants = text.parse().map_err(|error: flowgate_model::grants::GrantError| error.to_string())?;
    grants.state = grants.state.map(|_| StateStorage::Memory);
    Ok(grants)
}

/// Parses the value of `-o`.
fn output(text: &str) -> Result<Output, String> {
    let mut output = Output::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "text") {
        let known = Output::NAMES.iter().copied().chain([(Output::JSON, "json")]);
        match known.clone().find(|(_, name)| *name == word) {
            Some((bit, _)) => output.insert(bit),
            None => {
                let names: Vec<&str> = ["text"].into_iter().chain(known.map(|(_, name)| name)).collect();
                return Err(format!("output `{word}` is not known; the words are {}", names.join(", ")));
            }
        }
    }
    Ok(output)
}

/// Returns a name in the form for a file name.
fn slug(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "case".into() } else { parts.join("-") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_names_of_files() {
        assert_eq!(slug("Keeps big flows: > 1 MB!"), "keeps-big-flows-1-mb");
        assert_eq!(slug("../.."), "case");
    }

    #[test]
    fn words_of_output_are_those_of_the_command_line() {
        assert_eq!(output("").unwrap(), Output::default());
        assert!(output("extended, id").unwrap().contains(Output::ID));
        assert!(output("text,jsn").unwrap_err().contains("`jsn` is not known; the words are text, xml"));
    }
}
