//! Errors.

use std::{io, path::PathBuf};

/// Why bindings or a component cannot be generated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindgenError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The directory is not a WIT package.
    #[error("{path} is no WIT package: {said}; name the directory `wit` of flowgate")]
    Wit {
        /// The directory.
        path: PathBuf,
        /// The parser's message.
        said: String,
    },
    /// The package has no such world.
    #[error("the package has no world `{world}`; it has {there}")]
    World {
        /// The requested world.
        world: String,
        /// The existing worlds.
        there: String,
    },
    /// The bindings of the world cannot be generated.
    #[error("no bindings for the world `{world}`: {said}")]
    Generate {
        /// The world.
        world: String,
        /// The generator's message.
        said: String,
    },
    /// The module cannot be turned into a component.
    #[error(
        "{path} cannot be made a component: {said}; it has to be a core module for wasm32 that the object file of its \
         world is linked into, without imports of its own"
    )]
    Component {
        /// The module.
        path: PathBuf,
        /// The encoder's message.
        said: String,
    },
}
