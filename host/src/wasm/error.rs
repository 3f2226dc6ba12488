//! How plugins fail: each way has a name and says which plugin it was.

use std::{path::PathBuf, time::Duration};

/// Why a file cannot be used as a plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read plugin {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file holds something else than WebAssembly.
    #[error("{} is not a WebAssembly component: it {found}; build one with `cargo build --release --target wasm32-wasip2`", path.display())]
    NotWasm {
        /// The file.
        path: PathBuf,
        /// What it looks like, as the rest of a sentence that begins with "it".
        found: String,
    },
    /// A core module that carries no description of a component's world.
    #[error("{} is a core WebAssembly module without the metadata of a component ({said}); build it with the SDK, or with wit-bindgen against wit/", path.display())]
    NotComponent {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        said: String,
    },
    /// The component cannot be compiled.
    #[error("cannot compile plugin {}: {said}", path.display())]
    Compile {
        /// The file.
        path: PathBuf,
        /// What wasmtime said.
        said: String,
    },
    /// A component for something else.
    #[error("plugin {} cannot run here: {reason}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What it wants, what there is, and how to make the two meet.
        reason: String,
    },
    /// The engine itself cannot start.
    #[error("cannot start the WebAssembly engine: {0}")]
    Engine(String),
}

/// What went wrong in a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The code trapped: a panic, an `unreachable`, a division by zero, an access out of bounds.
    #[error("trapped: {0}")]
    Trap(String),
    /// The call took longer than it may.
    #[error("ran longer than {} ms and was stopped", .0.as_millis())]
    Deadline(Duration),
    /// It wanted more memory than it may have.
    #[error("wanted {wanted} bytes of memory; the limit is {limit}")]
    Memory {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// It recursed too deeply.
    #[error("used up its stack")]
    Stack,
    /// It returned more than it may.
    #[error("returned more than {limit} bytes from one call")]
    Output {
        /// Bytes allowed.
        limit: usize,
    },
    /// It asked for more actions than it may.
    #[error("asked for {asked} actions in one call; the limit is {limit}")]
    Actions {
        /// Actions asked for.
        asked: usize,
        /// Actions allowed.
        limit: usize,
    },
    /// It called something of the outside that plugins do not have.
    #[error("called `{0}`, which plugins are not given")]
    Forbidden(String),
    /// It returned something that makes no sense.
    #[error("returned {0}")]
    BadValue(String),
    /// It did not accept its options, selector or template.
    #[error("{0}")]
    Refused(String),
    /// A bug of the host or of wasmtime.
    #[error("cannot be called: {0}")]
    Host(String),
}

/// A plugin and what went wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin}: {failure}")]
pub struct PluginError {
    /// The plugin's name: the stock plugin's, or the file's as given.
    pub plugin: String,
    /// What it did.
    pub failure: Failure,
}
