//! Why a network namespace cannot be used.

use std::{io, path::PathBuf};

use flowgate_base::{
    io_error::error_text,
    text::{clean, path_text},
};

use super::DIRECTORY;

/// Why a network namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// There is no namespace with this name.
    #[error("there is no network namespace `{}`; {}", clean(name), list(existing))]
    NoSuchName {
        /// The requested name.
        name: String,
        /// The existing names.
        existing: Vec<String>,
    },
    /// There is no process with this number.
    #[error(
        "there is no process {number}, whose network namespace could be used; a namespace whose name is a number is written {DIRECTORY}/{number}",
        number = clean(.0)
    )]
    NoSuchProcess(String),
    /// The file cannot be opened.
    #[error("cannot open the network namespace {}: {}{}", path_text(path), error_text(source), hint(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is not a network namespace.
    #[error("{} is not a network namespace; those of processes are /proc/PID/ns/net, named ones are in {DIRECTORY}", path_text(.0))]
    NotANamespace(PathBuf),
    /// The namespace cannot be entered.
    #[error("cannot enter the network namespace {}: {}{}", clean(name), error_text(source), hint(source))]
    Enter {
        /// The name of the namespace.
        name: String,
        /// The error of the kernel.
        source: io::Error,
    },
    /// No thread can be started.
    #[error("cannot start a thread to enter a network namespace: {}", error_text(.0))]
    Thread(#[source] io::Error),
    /// The kernel does not report namespace ids.
    #[error("cannot ask the kernel for the ids of network namespaces: {}", error_text(.0))]
    Ids(#[source] io::Error),
}

impl NamespaceError {
    /// Returns the underlying error number, as in `errno(3)`.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::NoSuchName { .. } => libc::ENOENT,
            Self::NoSuchProcess(_) => libc::ESRCH,
            Self::NotANamespace(_) => libc::EINVAL,
            Self::Open { source, .. } | Self::Enter { source, .. } | Self::Thread(source) | Self::Ids(source) => {
                source.raw_os_error().unwrap_or(libc::EIO)
            }
        }
    }
}

/// Lists the existing namespaces, for a message.
fn list(existing: &[String]) -> String {
    if existing.is_empty() {
        return format!("there is none in {DIRECTORY} (`ip netns add NAME` makes one)");
    }
    format!("there are: {}", clean(&existing.join(", ")))
}

/// Returns what would permit the failed operation.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => "; entering a network namespace takes the capability CAP_SYS_ADMIN",
        Some(libc::EACCES) => "; looking into the process of another user takes the capability CAP_SYS_PTRACE",
        _ => "",
    }
}
