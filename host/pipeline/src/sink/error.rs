//! How sinks fail: each way says which sink it was.

use std::{io, path::PathBuf};

use flowgate_base::{inherited, io_error::error_text};

/// Why a sink did not take what it was given.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Standard output cannot be written.
    #[error("cannot write: {}", error_text(.0))]
    Stdout(io::Error),
    /// A file cannot be opened.
    #[error("cannot open {} for writing: {}", path.display(), error_text(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something that is no regular file cannot be rotated.
    #[error("{} is no regular file, and cannot be rotated; leave out `rotate-size` and `rotate-time`", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written. It ends with the last line that was written as a whole.
    #[error("cannot write {}: {}", path.display(), error_text(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that is full, or old, cannot be put aside.
    #[error("cannot rename {} to {}: {}", from.display(), to.display(), error_text(source))]
    Rotate {
        /// The file.
        from: PathBuf,
        /// What it was to be called.
        to: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The thread that writes to a socket cannot be had.
    #[error("sink {sink}: cannot start a thread: {}", error_text(source))]
    Thread {
        /// The sink.
        sink: String,
        /// Why not.
        source: io::Error,
    },
    /// Lines were left when the run ended.
    #[error("sink {sink}: {lines} lines could not be delivered before the end")]
    Undelivered {
        /// The sink.
        sink: String,
        /// How many.
        lines: u64,
    },
}

impl SinkError {
    /// Whether nobody reads standard output, or a pipe, any more, and the process is to end as SIGPIPE would end it. Where its parent
    /// has the signal ignored this is an error like any other.
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
