//! Errors of the tools for authors of plugins.

use std::{io, path::PathBuf};

use flowgate_base::{
    io_error::error_text,
    text::{clean, line, message, path_text},
};

/// An error of a subcommand of `plugin`.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// A file cannot be read.
    #[error("cannot read {}: {}", path_text(path), error_text(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {}", path_text(path), error_text(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A test.toml is invalid TOML or has unknown keys.
    #[error("{}: {}", path_text(path), message(said.as_bytes()))]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line, column and description of the mistake.
        said: String,
    },
    /// A test.toml has an invalid value.
    #[error("{}: case `{}`: {}", path_text(path), clean(case), message(problem.as_bytes()))]
    Case {
        /// The file.
        path: PathBuf,
        /// Name of the case.
        case: String,
        /// The mistake and its correction.
        problem: String,
    },
    /// A test.toml without cases.
    #[error(
        "{} has no [[case]]; each has a name, flows = \"FILE\" or expectations = \"FILE\", and what is expected",
        path_text(path)
    )]
    NoCases {
        /// The file.
        path: PathBuf,
    },
    /// The plugin of a test cannot be found.
    #[error("no plugin was found for {}: build it, or name it in test.toml (plugin = \"FILE\") or by --plugin; looked for {}", path_text(directory), line(looked.join(", ").as_bytes()))]
    NoPlugin {
        /// The directory of the test.
        directory: PathBuf,
        /// The places that were searched.
        looked: Vec<String>,
    },
    /// The name of a new project is invalid.
    #[error("`{}` is no name for a plugin: {problem}", clean(name))]
    Name {
        /// The name.
        name: String,
        /// The mistake and its correction.
        problem: &'static str,
    },
    /// The directory of a new project is not empty.
    #[error("{} exists already and is not empty; choose another name, or another place with --dir", path_text(path))]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// A plugin cannot be measured.
    #[error("{} cannot be measured: {}", path_text(path), message(problem.as_bytes()))]
    Bench {
        /// The plugin.
        path: PathBuf,
        /// The reason and its remedy.
        problem: String,
    },
    /// A fixture is invalid.
    #[error(transparent)]
    Fixture(#[from] flowgate_fixture::FixtureError),
}
