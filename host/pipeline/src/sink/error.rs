//! Errors of sinks. Each of them names the sink.

use std::{io, path::PathBuf};

use crate::spool::SpoolError;
use flowgate_base::{
    inherited,
    io_error::error_text,
    text::{clean, path_text},
};

/// The reason for which a sink did not accept its input.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Standard output cannot be written.
    #[error("cannot write: {}", error_text(.0))]
    Stdout(io::Error),
    /// A file cannot be opened.
    #[error("cannot open {} for writing: {}", path_text(path), error_text(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file that is not a regular file cannot be rotated.
    #[error("{} is no regular file, and cannot be rotated; leave out `rotate-size` and `rotate-time`", path_text(path))]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written. It ends with the last line that was written completely.
    #[error("cannot write {}: {}", path_text(path), error_text(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file cannot be renamed for rotation.
    #[error("cannot rename {} to {}: {}", path_text(from), path_text(to), error_text(source))]
    Rotate {
        /// The file.
        from: PathBuf,
        /// Its new name.
        to: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The thread that writes to a socket cannot be started.
    #[error("sink {}: cannot start a thread: {}", clean(sink), error_text(source))]
    Thread {
        /// The sink.
        sink: String,
        /// The cause.
        source: io::Error,
    },
    /// The spool of a sink cannot be used.
    #[error("sink {}: {source}", clean(sink))]
    Spool {
        /// The sink.
        sink: String,
        /// The cause.
        source: SpoolError,
    },
    /// There is nothing that would deliver what is written to the sink.
    #[error("sink {}: {}", clean(sink), clean(reason))]
    Unavailable {
        /// The sink.
        sink: String,
        /// Why.
        reason: String,
    },
    /// Lines were undelivered when the run ended.
    #[error("sink {}: {lines} lines could not be delivered before the end", clean(sink))]
    Undelivered {
        /// The sink.
        sink: String,
        /// The number of lines.
        lines: u64,
    },
}

impl SinkError {
    /// Returns true if standard output or a pipe has no reader any more, and the process must end as by SIGPIPE. If its
    /// parent had the signal ignored, this is an error like any other.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            SinkError::Stdout(source) | SinkError::Write { source, .. } => {
                source.kind() == io::ErrorKind::BrokenPipe && !inherited::ignores_sigpipe()
            }
            _ => false,
        }
    }
}
