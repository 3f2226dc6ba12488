//! Errors of plugins: each kind has a name, and the message names the plugin.
//!
//! Text from a file, a plugin or the kernel is cleaned when a message is built, so that no message moves the cursor.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::execution;
use flowgate_base::text::{clean, path_text};
use flowgate_model::{batch::AnnotationError, bounds};

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
    /// The file is not WebAssembly.
    #[error(
        "{} is not a WebAssembly component: it {}; build one with `cargo build --release --target wasm32-wasip2`",
        shown(path),
        clean(found)
    )]
    NotWasm {
        /// The file.
        path: PathBuf,
        /// Its apparent format, as the rest of a sentence that begins with "it".
        found: String,
    },
    /// A core module without the metadata of a component's world.
    #[error(
        "{} is a core WebAssembly module without the metadata of a component ({}); build it with the SDK, or with wit-bindgen against wit/",
        shown(path),
        clean(said)
    )]
    NotComponent {
        /// The file.
        path: PathBuf,
        /// The encoder's message.
        said: String,
    },
    /// It exceeds a limit of plugins, and is not compiled.
    #[error("plugin {} is not compiled: it {}", shown(path), clean(excess))]
    Excessive {
        /// The file.
        path: PathBuf,
        /// The number and its limit, as the rest of a sentence that begins with "it".
        excess: String,
    },
    /// The process has not dropped privileges that foreign code must not have.
    #[error(
        "plugin {} is not loaded: it would run with privileges that code of others must not have ({})",
        shown(path),
        clean(reason)
    )]
    Unconfined {
        /// The file.
        path: PathBuf,
        /// What has not been dropped, and why.
        reason: String,
    },
    /// The component cannot be compiled.
    #[error("cannot compile plugin {}: {}", shown(path), clean(said))]
    Compile {
        /// The file.
        path: PathBuf,
        /// wasmtime's message.
        said: String,
    },
    /// Compiling it takes more memory than it may.
    #[error("plugin {} is not compiled: that takes more than {limit} bytes of memory (`compile-memory`)", shown(path))]
    CompileMemory {
        /// The file.
        path: PathBuf,
        /// Bytes that it may take.
        limit: u64,
    },
    /// Compiling it takes more time than it may.
    #[error(
        "plugin {} is not compiled: that takes more than {} s of CPU time (`compile-time`)",
        shown(path),
        limit.as_secs_f64()
    )]
    CompileTime {
        /// The file.
        path: PathBuf,
        /// What it may take.
        limit: Duration,
    },
    /// The process that compiles it has failed.
    #[error("plugin {} is not compiled: the process for that {}", shown(path), clean(what))]
    Compiler {
        /// The file.
        path: PathBuf,
        /// How it failed, as the rest of a sentence.
        what: String,
    },
    /// There is no memory for its code.
    #[error("cannot load plugin {}: {}", shown(path), no_memory(*limit))]
    Memory {
        /// The file.
        path: PathBuf,
        /// The limit of the process's address space in bytes, if there is one.
        limit: Option<u64>,
    },
    /// The component is for another host.
    #[error("plugin {} cannot run here: {}", shown(path), clean(reason))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What it requires, what the host provides, and how to make them match.
        reason: String,
    },
    /// The engine cannot start.
    #[error("cannot start the WebAssembly engine: {}", clean(.0))]
    Engine(String),
    /// The inspection or compilation of the file panicked.
    #[error("the compiler panicked, which is a fault of its own that this file brings out; nothing of it runs: {}", clean(.0))]
    Panicked(String),
}

/// Formats a path for a message.
fn shown(path: &Path) -> String {
    clean(&path_text(path))
}

/// Returns the message for a lack of memory.
fn no_memory(limit: Option<u64>) -> String {
    match limit {
        Some(limit) => format!(
            "there is not enough address space; that of this process is limited to {limit} bytes (RLIMIT_AS, `ulimit -v`, \
             `LimitAS=` of systemd)"
        ),
        None => "the kernel gives no more memory (Cannot allocate memory)".into(),
    }
}

/// Returns true if an error of wasmtime means that the kernel provided no memory.
pub(super) fn lacks_memory(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("(os error 12)"))
}

/// Returns the error for a file that wasmtime did not compile.
pub(super) fn not_compiled(path: &Path, error: &wasmtime::Error) -> LoadError {
    if lacks_memory(error) {
        return LoadError::Memory { path: path.into(), limit: execution::address_space() };
    }
    LoadError::Compile { path: path.into(), said: one_line(&format!("{error:#}")) }
}

/// Joins an error of a library, which may have several lines and repetitions, into one clean line.
pub(super) fn one_line(text: &str) -> String {
    clean(&text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; "))
}

impl From<AnnotationError> for Failure {
    fn from(error: AnnotationError) -> Self {
        match error {
            AnnotationError::OfRow(_) => Failure::BadValue(error.to_string()),
            AnnotationError::Amplified { returned, bytes } => {
                Failure::Amplified { returned, bytes, limit: bounds::MAX_TEXT }
            }
        }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The code trapped: a panic, an `unreachable`, a division by zero, an access out of bounds.
    #[error("trapped: {}", clean(.0))]
    Trap(String),
    /// The call exceeded its deadline.
    #[error("ran longer than {} ms and was stopped", .0.as_millis())]
    Deadline(Duration),
    /// It exceeded its memory limit.
    #[error("wanted {wanted} bytes of memory; the limit is {limit}")]
    Memory {
        /// Requested bytes.
        wanted: usize,
        /// Permitted bytes.
        limit: usize,
    },
    /// The kernel provided no memory to the process, although the plugin is within its limit.
    #[error("did not get the memory that it may have: {}", no_memory(*limit))]
    NoMemory {
        /// The limit of the process's address space in bytes, if there is one.
        limit: Option<u64>,
    },
    /// The recursion was too deep.
    #[error("used up its stack")]
    Stack,
    /// It returned more bytes than permitted.
    #[error("returned more than {limit} bytes from one call")]
    Output {
        /// Permitted bytes.
        limit: usize,
    },
    /// It returned a value whose copies in the host would exceed the limit.
    #[error("returned {returned} bytes of which the host would have to make {bytes}; it may make {limit} of them")]
    Amplified {
        /// Relevant bytes that the plugin returned.
        returned: usize,
        /// Bytes that the host would write.
        bytes: usize,
        /// Permitted bytes ([`flowgate_model::bounds`]).
        limit: usize,
    },
    /// It requested more actions than permitted.
    #[error("asked for {asked} actions in one call; the limit is {limit}")]
    Actions {
        /// Requested actions.
        asked: usize,
        /// Permitted actions.
        limit: usize,
    },
    /// It called a function that plugins do not have.
    #[error("called `{}`, which plugins are not given", clean(.0))]
    Forbidden(String),
    /// It returned an invalid value.
    #[error("returned {}", clean(.0))]
    BadValue(String),
    /// It refused its options, selector or template.
    #[error("{}", clean(.0))]
    Refused(String),
    /// A bug of the host or of wasmtime.
    #[error("cannot be called: {}", clean(.0))]
    Host(String),
}

/// The failure of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {}: {failure}", clean(plugin))]
pub struct PluginError {
    /// The plugin's name: the stock plugin's, or the file's as given.
    pub plugin: String,
    /// The failure.
    pub failure: Failure,
}

/// Returns the failure for a lack of memory.
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
            LoadError::CompileMemory { path: path.clone(), limit: 1 }.to_string(),
            LoadError::CompileTime { path: path.clone(), limit: Duration::from_secs(1) }.to_string(),
            LoadError::Compiler { path: path.clone(), what: dirty.clone() }.to_string(),
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
