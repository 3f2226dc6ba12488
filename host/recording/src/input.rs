//! The input of a recording: a file, or a pipe that may have to be waited for.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    path::Path,
    time::Duration,
};

use super::RecordingError;
use flowgate_netlink::{Stop, poll};

/// Polling interval for the stop signal, if it cannot wake the wait.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A file, standard input, or bytes in memory.
#[derive(Debug)]
pub enum RecordingInput {
    /// A regular file.
    File(File),
    /// A pipe or a terminal, which produces bytes over time.
    Pipe(File),
    /// Bytes in memory.
    Bytes(io::Cursor<Vec<u8>>),
}

impl RecordingInput {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// [`RecordingError::Open`].
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let file = if path.as_os_str() == "-" {
            io::stdin().as_fd().try_clone_to_owned().map(File::from)
        } else {
            File::open(path)
        };
        file.and_then(|file| {
            let regular = file.metadata()?.is_file();
            Ok(if regular { RecordingInput::File(file) } else { RecordingInput::Pipe(file) })
        })
        .map_err(|source| RecordingError::Open { path: path.display().to_string(), source })
    }

    /// Returns true if reading would block.
    pub(super) fn would_wait(&self) -> bool {
        match self {
            RecordingInput::Pipe(file) => matches!(poll([file.as_fd()], Some(Duration::ZERO)), Ok([false])),
            _ => false,
        }
    }

    /// Waits until input is available; returns false if the stop signal came first.
    pub(super) fn wait(&self, stop: &Stop) -> bool {
        match self {
            RecordingInput::Pipe(file) => loop {
                if stop.is_stopped() {
                    return false;
                }
                let ready = match stop.descriptor() {
                    Ok(descriptor) => poll([file.as_fd(), descriptor], None).map(|[ready, _]| ready),
                    // No descriptor can wake the wait, so it polls.
                    Err(_) => poll([file.as_fd()], Some(POLL_INTERVAL)).map(|[ready]| ready),
                };
                match ready {
                    _ if stop.is_stopped() => return false,
                    Ok(true) => return true,
                    Err(error) if error.kind() != io::ErrorKind::Interrupted => return true,
                    _ => {}
                }
            },
            _ => true,
        }
    }
}

impl Read for RecordingInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            RecordingInput::File(file) | RecordingInput::Pipe(file) => file.read(buffer),
            RecordingInput::Bytes(bytes) => bytes.read(buffer),
        }
    }
}
