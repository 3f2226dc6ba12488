//! What scripts know: banner, messages, exit statuses.

use std::io::{self, Write};

use crate::{
    cli::{CliError, Command},
    pipeline::RunError,
    wasm::{LoadError, PluginError},
};

/// The release of conntrack-tools whose behaviour flowgate reproduces.
pub const COMPATIBLE: &str = "1.4.9";

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Success,
    /// 1: it failed, or nothing was there to be deleted, updated or found.
    Failure,
    /// 2: the command line makes no sense.
    Usage,
    /// Nobody reads the output any more: ended as by SIGPIPE.
    BrokenPipe,
}

impl Exit {
    /// The exit status.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::BrokenPipe => 141,
        }
    }
}

impl From<&CliError> for Exit {
    fn from(error: &CliError) -> Self {
        if error.status() == 2 { Exit::Usage } else { Exit::Failure }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The kernel refused; the text is that of `conntrack`.
    #[error("Operation failed: {0}")]
    Kernel(String),
    /// A plugin cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A plugin failed.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// An option of a plugin that it does not have, or one that it needs.
    #[error("plugin {plugin}: {problem}")]
    PluginOption {
        /// The plugin.
        plugin: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Nobody reads the output any more.
    #[error("broken pipe")]
    BrokenPipe,
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(io::Error),
    /// No thread can be had.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A command of the classic program that this version does not have.
    #[error("the command --{0} is not available in this version")]
    NotAvailable(&'static str),
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { CommandError::BrokenPipe } else { CommandError::Output(error) }
    }
}

impl CommandError {
    /// What became of a run, in the words for this command.
    #[must_use]
    pub fn of_run(command: Command, error: RunError) -> Self {
        match error {
            RunError::Source(error) => Self::of_errno(command, error.errno()),
            RunError::Plugin(error) => Self::Plugin(error),
            RunError::Sink(error) => error.into(),
            RunError::Thread(error) => Self::Thread(error),
        }
    }

    /// An error number of the kernel, in the words for this command.
    #[must_use]
    pub fn of_errno(command: Command, errno: i32) -> Self {
        Self::Kernel(errno_text(command, errno))
    }
}

/// What `conntrack` calls an error number. ENOTSUPP (524) is internal to the kernel and has no name outside.
fn errno_text(command: Command, errno: i32) -> String {
    const ENOTSUPP: i32 = 524;
    use Command::{Add, Count, Create, Delete, Get, List, Statistics};
    let text = match (errno, command) {
        (ENOTSUPP, List) => "function not implemented",
        (libc::EINVAL, command) if !matches!(command, Add | Statistics | Count) => "invalid parameters",
        (libc::EEXIST, Create) => "Such conntrack exists, try -U to update",
        (libc::ENOENT, Create | Add | Get | Delete) => "such conntrack doesn't exist",
        (libc::ENOMEM, Create | Add | Get) => "not enough memory",
        (libc::EAFNOSUPPORT, Get) => "protocol not supported",
        (libc::ETIME, Create | Add) => "conntrack has expired",
        (libc::EPERM, _) => "sorry, you must be root or get CAP_NET_ADMIN capability to do this",
        _ => {
            let text = io::Error::from_raw_os_error(errno).to_string();
            return match text.find(" (os error ") {
                Some(end) => text[..end].to_string(),
                None => text,
            };
        }
    };
    text.to_string()
}

/// A line on standard error, with the banner that programs look for.
pub fn banner(text: &str) {
    line(&format!("conntrack v{COMPATIBLE} (flowgate): {text}"));
}

/// As [`banner`], for text that repeats what was typed and need not be UTF-8.
pub fn banner_bytes(text: &[u8]) {
    let mut line = format!("conntrack v{COMPATIBLE} (flowgate): ").into_bytes();
    line.extend_from_slice(text);
    line.push(b'\n');
    // Nobody to tell is no reason to stop.
    let _ = io::stderr().lock().write_all(&line);
}

/// Lines on standard error, without banner.
pub fn text(text: &[u8]) {
    // Nobody to tell is no reason to stop.
    let _ = io::stderr().lock().write_all(text);
}

/// A line on standard error.
pub fn line(text: &str) {
    super::tell(text);
}

/// What `-V` prints.
#[must_use]
pub fn version() -> String {
    format!("conntrack v{COMPATIBLE} (flowgate {})\n", env!("CARGO_PKG_VERSION"))
}
