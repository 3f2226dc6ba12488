//! What can go wrong with the author's tools, apart from what is wrong with a plugin.

use std::{io, path::PathBuf};

use flowgate_base::io_error::error_text;

/// Why one of the subcommands of `plugin` cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// A file cannot be read.
    #[error("cannot read {}: {}", path.display(), error_text(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {}", path.display(), error_text(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A test.toml is no TOML, or has keys that mean nothing.
    #[error("{}: {said}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line, column, and what is wrong there.
        said: String,
    },
    /// A test.toml says something that makes no sense.
    #[error("{}: case `{case}`: {problem}", path.display())]
    Case {
        /// The file.
        path: PathBuf,
        /// The case's name.
        case: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A test.toml without cases.
    #[error("{} has no [[case]]; each has a name, flows = \"FILE\" or expectations = \"FILE\", and what is expected", path.display())]
    NoCases {
        /// The file.
        path: PathBuf,
    },
    /// The plugin of a test cannot be found.
    #[error("no plugin was found for {}: build it, or name it in test.toml (plugin = \"FILE\") or by --plugin; looked for {}", directory.display(), looked.join(", "))]
    NoPlugin {
        /// The directory of the test.
        directory: PathBuf,
        /// Where a plugin would have been found.
        looked: Vec<String>,
    },
    /// A project's name that cannot be one.
    #[error("`{name}` is no name for a plugin: {problem}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong, and what would be right.
        problem: &'static str,
    },
    /// The place of a new project is taken.
    #[error("{} exists already and is not empty; choose another name, or another place with --dir", path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// Nothing can be measured.
    #[error("{} cannot be measured: {problem}", path.display())]
    Bench {
        /// The plugin.
        path: PathBuf,
        /// Why not, and what would be right.
        problem: String,
    },
    /// A fixture.
    #[error(transparent)]
    Fixture(#[from] flowgate_fixture::FixtureError),
}
