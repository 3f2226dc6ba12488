//! Places in a pipeline file, and the mistakes found there.

use std::{fmt, path::PathBuf};

use flowgate_base::{
    similar::nearest,
    text::{clean, line},
};

/// Maximum number of mistakes of a file that are reported, and of notes.
const MAX_DIAGNOSTICS: usize = 100;

/// A value with its offset in the file, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// The offset.
    pub offset: usize,
}

impl<T> Located<T> {
    /// Returns a value with its offset.
    pub fn new(value: T, offset: usize) -> Self {
        Located { value, offset }
    }
}

/// A file and its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceText {
    /// Path of the file, as given.
    pub path: PathBuf,
    /// Content of the file.
    pub text: String,
}

impl SourceText {
    /// Returns a mistake at an offset.
    #[must_use]
    pub fn diagnostic(&self, offset: usize, message: impl Into<String>) -> Diagnostic {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(start..).map_or(0, |line| line.chars().count()) + 1;
        Diagnostic { path: self.path.clone(), line, column, message: message.into() }
    }

    /// Adds a mistake at an offset to the others, unless there are `MAX_DIAGNOSTICS` already: finding the line of each
    /// takes time.
    pub fn report(&self, diagnostics: &mut Vec<Diagnostic>, offset: usize, message: impl Into<String>) {
        match diagnostics.len() {
            0..MAX_DIAGNOSTICS => diagnostics.push(self.diagnostic(offset, message)),
            MAX_DIAGNOSTICS => {
                let more =
                    format!("there are more than {MAX_DIAGNOSTICS} of these lines; those above were found first");
                diagnostics.push(self.diagnostic(self.text.len(), more));
            }
            _ => {}
        }
    }
}

/// A mistake in a file, displayed as `file:line:column: message`, as compilers do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostic {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, message) = (clean(&self.path.display().to_string()), line(self.message.as_bytes()));
        write!(formatter, "{path}:{}:{}: {message}", self.line, self.column)
    }
}

/// Returns `` there is no WHAT `name`; did you mean `x`? ``, or a list of all names if none is similar.
pub fn no_such(what: &str, name: &str, known: &[&str]) -> String {
    let near = nearest(name, known.iter().copied());
    let name = clean(name);
    match near {
        Some(near) => format!("there is no {what} `{name}`; did you mean `{near}`?"),
        None => format!("there is no {what} `{name}`; there are {}", list(known)),
    }
}

/// Returns `` `a`, `b` and `c` ``.
pub fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
