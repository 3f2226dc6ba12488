//! How plugins fail: each way has a name and says which plugin it was.
//!
//! What a file, a plugin or the kernel supplied is cleaned when a message is made of it, so that no message moves a cursor.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::execution;
use flowgate_base::text::clean;
use flowgate_model::{batch::NotesError, bounds};

/// Why a file cannot be used as a plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read plugin {}: {}", shown(path), flowgate_base::io_error::error_text(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file holds something else than WebAssembly.
    #[error(
        "{} is not a WebAssembly component: it {}; build one with `cargo build --release --target wasm32-wasip2`",
        shown(path),
        clean(found)
    )]
    NotWasm {
        /// The file.
        path: PathBuf,
        /// What it looks like, as the rest of a sentence that begins with "it".
        found: String,
    },
    /// A core module that carries no description of a component's world.
    #[error(
        "{} is a core WebAssembly module without the metadata of a component ({}); build it with the SDK, or with wit-bindgen against wit/",
        shown(path),
        clean(said)
    )]
    NotComponent {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        said: String,
    },
    /// More of something than plugins may have: it is not compiled.
    #[error("plugin {} is not compiled: it {}", shown(path), clean(excess))]
    Excessive {
        /// The file.
        path: PathBuf,
        /// What it has and how much it may have, as the rest of a sentence that begins with "it".
        excess: String,
    },
    /// The process has not given up what code of others must not have.
    #[error(
        "plugin {} is not loaded: it would run with privileges that code of others must not have ({reason})",
        shown(path)
    )]
    Unconfined {
        /// The file.
        path: PathBuf,
        /// What has not been given up, and why.
        reason: String,
    },
    /// The component cannot be compiled.
    #[error("cannot compile plugin {}: {}", shown(path), clean(said))]
    Compile {
        /// The file.
        path: PathBuf,
        /// What wasmtime said.
        said: String,
    },
    /// There is no memory for its code.
    #[error("cannot load plugin {}: {}", shown(path), no_memory(*limit))]
    Memory {
        /// The file.
        path: PathBuf,
        /// The limit of the process's address space in bytes, if there is one.
        limit: Option<u64>,
    },
    /// A component for something else.
    #[error("plugin {} cannot run here: {}", shown(path), clean(reason))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What it wants, what there is, and how to make the two meet.
        reason: String,
    },
    /// The engine itself cannot start.
    #[error("cannot start the WebAssembly engine: {}", clean(.0))]
    Engine(String),
    /// What looks at a file and compiles it has a fault that the file brings out.
    #[error("the compiler panicked, which is a fault of its own that this file brings out; nothing of it runs: {}", clean(.0))]
    Panicked(String),
}

/// A path in a message.
fn shown(path: &Path) -> String {
    clean(&path.display().to_string())
}

/// What stands in the way where the kernel gives no more memory.
fn no_memory(limit: Option<u64>) -> String {
    match limit {
        Some(limit) => format!(
            "there is not enough address space; that of this process is limited to {limit} bytes (RLIMIT_AS, `ulimit -v`, \
             `LimitAS=` of systemd)"
        ),
        None => "the kernel gives no more memory (Cannot allocate memory)".into(),
    }
}

/// Whether an error of wasmtime is that the kernel gave no memory.
pub(super) fn lacks_memory(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("(os error 12)"))
}

/// Why wasmtime did not make a component of a file.
pub(super) fn not_compiled(path: &Path, error: &wasmtime::Error) -> LoadError {
    if lacks_memory(error) {
        return LoadError::Memory { path: path.into(), limit: execution::address_space() };
    }
    LoadError::Compile { path: path.into(), said: one_line(&format!("{error:#}")) }
}

/// Errors of libraries come in several lines, and repeat what they found; ours is one, and clean.
pub(super) fn one_line(text: &str) -> String {
    clean(&text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; "))
}

impl From<NotesError> for Failure {
    fn from(error: NotesError) -> Self {
        match error {
            NotesError::OfRow(_) => Failure::BadValue(error.to_string()),
            NotesError::Amplified { returned, bytes } => Failure::Amplified { returned, bytes, limit: bounds::TEXTS },
        }
    }
}

/// What went wrong in a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The code trapped: a panic, an `unreachable`, a division by zero, an access out of bounds.
    #[error("trapped: {}", clean(.0))]
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
    /// The kernel gives the process no more memory, which is within what the plugin may have.
    #[error("did not get the memory that it may have: {}", no_memory(*limit))]
    NoMemory {
        /// The limit of the process's address space in bytes, if there is one.
        limit: Option<u64>,
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
    /// It returned what the host would have to copy more often than it may.
    #[error("returned {returned} bytes of which the host would have to make {bytes}; it may make {limit} of them")]
    Amplified {
        /// Bytes that came from the plugin, as far as they matter here.
        returned: usize,
        /// Bytes that the host would write.
        bytes: usize,
        /// Bytes that it may write ([`flowgate_model::bounds`]).
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
    #[error("called `{}`, which plugins are not given", clean(.0))]
    Forbidden(String),
    /// It returned something that makes no sense.
    #[error("returned {}", clean(.0))]
    BadValue(String),
    /// It did not accept its options, selector or template.
    #[error("{}", clean(.0))]
    Refused(String),
    /// A bug of the host or of wasmtime.
    #[error("cannot be called: {}", clean(.0))]
    Host(String),
}

/// A plugin and what went wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {}: {failure}", clean(plugin))]
pub struct PluginError {
    /// The plugin's name: the stock plugin's, or the file's as given.
    pub plugin: String,
    /// What it did.
    pub failure: Failure,
}

/// What a failure is where the kernel gave no memory.
pub(super) fn no_memory_failure() -> Failure {
    Failure::NoMemory { limit: execution::address_space() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_carries_what_moves_a_cursor() {
        let dirty = String::from("a\x1b]0;t\x07\u{202e}b");
        let path = PathBuf::from("p\x1b[2J\u{9b}1m");
        let plugin = dirty.clone();
        let messages = [
            LoadError::Read { path: path.clone(), source: io::Error::other("x") }.to_string(),
            LoadError::NotWasm { path: path.clone(), found: dirty.clone() }.to_string(),
            LoadError::NotComponent { path: path.clone(), said: dirty.clone() }.to_string(),
            LoadError::Excessive { path: path.clone(), excess: dirty.clone() }.to_string(),
            LoadError::Compile { path: path.clone(), said: dirty.clone() }.to_string(),
            LoadError::Memory { path: path.clone(), limit: None }.to_string(),
            LoadError::Mismatch { path, reason: dirty.clone() }.to_string(),
            LoadError::Engine(dirty.clone()).to_string(),
            LoadError::Panicked(dirty.clone()).to_string(),
            Failure::Trap(dirty.clone()).to_string(),
            Failure::Forbidden(dirty.clone()).to_string(),
            Failure::BadValue(dirty.clone()).to_string(),
            Failure::Refused(dirty.clone()).to_string(),
            Failure::Host(dirty.clone()).to_string(),
            PluginError { plugin, failure: Failure::Stack }.to_string(),
            one_line(&format!("{dirty}\n  {dirty}")),
        ];
        for message in messages {
            assert!(!message.contains(char::is_control) && !message.contains('\u{202e}'), "{message:?}");
        }
    }

    #[test]
    fn the_limit_of_address_space_is_named() {
        let source = wasmtime::Error::from(io::Error::from_raw_os_error(libc::ENOMEM)).context("mmap failed");
        assert!(matches!(not_compiled(Path::new("p"), &source), LoadError::Memory { .. }));
        assert!(lacks_memory(&source));
        assert!(!lacks_memory(&wasmtime::Error::msg("other")));
        let text = Failure::NoMemory { limit: Some(536_870_912) }.to_string();
        assert!(text.contains("limited to 536870912 bytes (RLIMIT_AS, `ulimit -v`"), "{text}");
    }
}
