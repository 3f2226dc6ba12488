//! Sinks as values, which are opened when a pipeline runs.

use std::{path::PathBuf, time::Duration};

use super::{
    Sink, SinkError, Stdout,
    file::{FileOptions, FileSink},
    nats::NatsOptions,
    outbox::{Outbox, OutboxOptions, WhenFull},
    spooled::{Shipper, Spooled},
    stream::{Tcp, Unix},
    syslog::{Syslog, Target},
};
use flowgate_base::{Warnings, files};
use flowgate_netlink::Stop;

/// The longest path of a socket: `sun_path` of `struct sockaddr_un` without its NUL.
const MAX_SOCKET_PATH: usize = 107;

/// A sink that can be opened.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkSpec {
    /// The destination.
    pub kind: SinkKind,
    /// The buffer in front of it; sockets only.
    pub buffer: BufferSpec,
}

/// The buffer of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSpec {
    /// Its size in bytes.
    pub capacity: usize,
    /// The handling of lines when it is full. `None`: lines of a live source are dropped, other sources wait.
    pub when_full: Option<WhenFull>,
    /// Time that the end of the pipeline waits for a peer that accepts nothing.
    pub linger: Duration,
    /// True if undelivered lines are no failure of the run.
    pub optional: bool,
}

impl Default for BufferSpec {
    fn default() -> Self {
        BufferSpec { capacity: 1 << 20, when_full: None, linger: Duration::from_secs(5), optional: false }
    }
}

/// The destination of a sink.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkKind {
    /// Standard output.
    Stdout,
    /// A file.
    File(FileOptions),
    /// A stream socket of the Unix family, by its path.
    Unix(PathBuf),
    /// TCP, as `HOST:PORT`.
    Tcp(String),
    /// The system log.
    Syslog {
        /// The log server.
        target: Target,
        /// The facility, by number.
        facility: u8,
        /// The severity, by number.
        severity: u8,
        /// APP-NAME of each message.
        app_name: String,
        /// The maximum length of a message in bytes.
        max_message: usize,
    },
    /// A stream of NATS.
    Nats(NatsOptions),
}

/// What makes the shippers of sinks that have a spool.
#[derive(Clone, Copy, Debug)]
pub struct Shippers(pub fn(&NatsOptions) -> Result<Box<dyn Shipper>, SinkError>);

impl Shippers {
    /// Returns none, for programs without a client of NATS.
    #[must_use]
    pub fn none() -> Self {
        Shippers(|options| {
            let reason = "this program has no client of NATS".into();
            Err(SinkError::Unavailable { sink: options.name(), reason })
        })
    }
}

impl From<SinkKind> for SinkSpec {
    fn from(kind: SinkKind) -> Self {
        SinkSpec { kind, buffer: BufferSpec::default() }
    }
}

impl SinkSpec {
    /// Returns standard output.
    #[must_use]
    pub fn stdout() -> Self {
        SinkKind::Stdout.into()
    }

    /// Returns a file to which lines are appended. It is created if it does not exist.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let trust = files::Trust::Sticky;
        SinkKind::File(FileOptions { path: path.into(), append: true, rotation: None, mode: None, trust }).into()
    }

    /// Returns the problem that would make [`SinkSpec::open`] fail, as far as it can be found without opening or
    /// creating anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match &self.kind {
            SinkKind::File(options) => {
                let directory = options.path.parent().filter(|path| !path.as_os_str().is_empty());
                match directory.filter(|directory| !directory.is_dir()) {
                    Some(directory) => Some(format!(
                        "there is no directory {}, in which the file is to be",
                        flowgate_base::text::path_text(directory)
                    )),
                    None => options.check().err().map(|error| error.to_string()),
                }
            }
            SinkKind::Unix(path) | SinkKind::Syslog { target: Target::Local(path), .. } => {
                let length = path.as_os_str().len();
                (length > MAX_SOCKET_PATH)
                    .then(|| format!("the path of a socket has at most {MAX_SOCKET_PATH} bytes, not {length}"))
            }
            SinkKind::Nats(options) => options.problem(),
            SinkKind::Stdout | SinkKind::Tcp(_) | SinkKind::Syslog { .. } => None,
        }
    }

    /// Returns the identity of the file, or directory, that the sink writes; `None` if it writes none.
    #[must_use]
    pub fn output(&self) -> Option<files::OutputFile> {
        match &self.kind {
            SinkKind::File(options) => Some(files::OutputFile::new(&options.path, options.rotation.is_some())),
            SinkKind::Nats(options) => Some(files::OutputFile::new(&options.spool.path, false)),
            _ => None,
        }
    }

    /// Returns the handling of lines when the buffer is full; `live`: the source does not wait.
    #[must_use]
    pub fn when_full(&self, live: bool) -> WhenFull {
        self.buffer.when_full.unwrap_or(if live { WhenFull::Drop } else { WhenFull::Wait })
    }

    /// Opens the sink. Sockets are connected in the background. `live`: the source does not wait. `shippers` deliver
    /// what goes into spools.
    ///
    /// # Errors
    /// [`SinkError`] if a file cannot be opened or a thread cannot be started.
    pub fn open(
        &self,
        live: bool,
        stop: &Stop,
        warnings: Warnings,
        shippers: Shippers,
    ) -> Result<Box<dyn Sink>, SinkError> {
        let buffer = OutboxOptions {
            capacity: self.buffer.capacity,
            when_full: self.when_full(live),
            linger: self.buffer.linger,
        };
        let sink: Box<dyn Sink> = match &self.kind {
            SinkKind::Stdout => Box::new(Stdout::new()),
            SinkKind::File(options) => {
                let sink = FileSink::open(options.clone(), warnings.clone())?;
                // Events do not wait for a compression.
                Box::new(if live { sink.postponing_rotation() } else { sink })
            }
            SinkKind::Unix(path) => Box::new(Outbox::start(Unix(path.clone()), buffer, stop, warnings.clone())?),
            SinkKind::Tcp(address) => Box::new(Outbox::start(Tcp(address.clone()), buffer, stop, warnings.clone())?),
            SinkKind::Syslog { target, facility, severity, app_name, max_message } => {
                let syslog = Syslog::new(target.clone(), *facility, *severity, app_name, *max_message);
                Box::new(Outbox::start(syslog, buffer, stop, warnings.clone())?)
            }
            SinkKind::Nats(options) => {
                let when_full = (buffer.when_full, buffer.linger);
                Box::new(Spooled::start(shippers.0(options)?, &options.spool, when_full, stop, warnings.clone())?)
            }
        };
        Ok(if self.buffer.optional { Box::new(Optional { sink, warnings }) } else { sink })
    }
}

/// A sink whose undelivered lines are no failure of the run.
struct Optional {
    sink: Box<dyn Sink>,
    warnings: Warnings,
}

impl Sink for Optional {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.sink.write(bytes)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        match self.sink.finish() {
            Err(error @ SinkError::Undelivered { .. }) => {
                self.warnings.line(&format!("WARNING: {error}."));
                Ok(())
            }
            end => end,
        }
    }
}
