//! What can go wrong.

use std::{io, path::PathBuf};

/// Why there are no bindings, or no component.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindgenError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The directory is no WIT package.
    #[error("{path} is no WIT package: {said}; name the directory `wit` of flowgate")]
    Wit {
        /// The directory.
        path: PathBuf,
        /// What the parser says.
        said: String,
    },
    /// The package has no such world.
    #[error("the package has no world `{world}`; it has {there}")]
    World {
        /// The world that was asked for.
        world: String,
        /// Those that there are.
        there: String,
    },
    /// No bindings could be made of the world.
    #[error("no bindings for the world `{world}`: {said}")]
    Generate {
        /// The world.
        world: String,
        /// What the generator says.
        said: String,
    },
    /// The module cannot be made a component.
    #[error(
        "{path} cannot be made a component: {said}; it has to be a core module for wasm32 that the object file of its \
         world is linked into, without imports of its own"
    )]
    Component {
        /// The module.
        path: PathBuf,
        /// What the encoder says.
        said: String,
    },
}
