//! Messages and exit statuses that scripts rely on.

use std::{
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use tracing_subscriber::filter::LevelFilter;

use super::{
    standard_error,
    table::{Nothing, Row},
};
use flowgate_base::{
    Warnings, inherited,
    io_error::error_text,
    text::{clean, message, path_text},
};
use flowgate_metrics::MetricsError;
use flowgate_netlink::{NamespaceError, SocketError, source::SourceError};
use flowgate_pipeline::{
    RunError,
    kernel::OpenError,
    load::SpecProblems,
    loader::{LoadPluginError, PluginProblems},
    run::GAP_WARNING,
    sink::SinkError,
};
use flowgate_recording::RecordingError;
use flowgate_runtime::{LoadError, PluginError};
use flowgate_syntax::{CliError, Command, ProgramName, Table};

/// The release of conntrack-tools whose behaviour flowgate reproduces.
pub const COMPATIBLE: &str = "1.4.9";

/// The outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: the command succeeded.
    Success,
    /// 0: events were shown until a signal ended the command.
    Stopped,
    /// 1: the command failed, or found nothing to delete, update or show.
    Failure,
    /// 2: the command line is invalid.
    Usage,
    /// The reader of the output is gone: the process ends as by SIGPIPE.
    BrokenPipe,
}

impl Exit {
    /// Returns the exit status.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Exit::Success | Exit::Stopped => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::BrokenPipe => 141,
        }
    }
}

impl Exit {
    /// Returns the outcome of a command that showed this many entries.
    #[must_use]
    pub(super) fn of(shown: u64, nothing: Nothing, events: bool) -> Self {
        match (shown, nothing) {
            _ if events => Exit::Stopped,
            (0, Nothing::Failure) => Exit::Failure,
            _ => Exit::Success,
        }
    }
}

impl From<&CliError> for Exit {
    fn from(error: &CliError) -> Self {
        if error.status() == 2 { Exit::Usage } else { Exit::Failure }
    }
}

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The kernel refused the operation; the text is that of `conntrack`.
    #[error("Operation failed: {}", clean(text))]
    Kernel {
        /// Error text of `conntrack`.
        text: String,
        /// Error number.
        errno: i32,
    },
    /// The socket for events cannot be opened; the reason was printed before.
    #[error("Can't open netlink socket")]
    EventSocket {
        /// Error number.
        errno: i32,
    },
    /// The socket for events of expectations cannot be opened.
    #[error("Can't open handler")]
    EventHandler {
        /// Error number.
        errno: i32,
    },
    /// The network namespace cannot be used.
    #[error("--netns: {0}")]
    Namespace(#[from] NamespaceError),
    /// A network namespace was given for a replay.
    #[error("--netns and --all-netns are about the kernel, and a replay does not touch it; leave them out")]
    NetnsInReplay,
    /// A file that stands in for netlink cannot be opened.
    #[error("Can't open {}", clean(.0))]
    CannotOpen(String),
    /// A file that stands in for netlink is invalid.
    #[error("Can't read {}", clean(.0))]
    CannotRead(String),
    /// Events cannot be received.
    #[error("failed to received netlink event: {}", clean(.0))]
    Events(String),
    /// A plugin cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A plugin failed.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// A plugin cannot be used in this place.
    #[error(transparent)]
    LoadPlugin(LoadPluginError),
    /// A subcommand of `plugin` failed.
    #[error(transparent)]
    Tool(#[from] super::plugin::ToolError),
    /// The pipeline of a tenant ended.
    #[error("{}", message(.0.as_bytes()))]
    Tenant(String),
    /// The process that starts the workers of tenants has ended.
    #[error(
        "the process that starts the others has ended, and the workers of all tenants with it; start the service again"
    )]
    Spawner,
    /// A subcommand of `policy` failed.
    #[error(transparent)]
    Policy(#[from] super::policy::PolicyError),
    /// A subcommand of `fleet` failed.
    #[cfg(feature = "fleet")]
    #[error(transparent)]
    Fleet(#[from] super::fleet::FleetError),
    /// A plugin needs a service that it was not granted.
    #[error(
        "plugin {} cannot start: it needs flowgate:conntrack/{}, which it was not granted; to allow it: --grant {grant}",
        clean(plugin),
        clean(service)
    )]
    PluginService {
        /// Name of the plugin.
        plugin: String,
        /// Name of the interface.
        service: String,
        /// The grant that allows it.
        grant: &'static str,
    },
    /// A pipeline file cannot be read.
    #[error("cannot read {}: {}", path_text(path), error_text(source))]
    Pipeline {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A pipeline file is invalid; each mistake was printed before.
    #[error("{} has {mistakes} mistake{}", path_text(path), if *mistakes == 1 { "" } else { "s" })]
    Diagnostics {
        /// The file.
        path: PathBuf,
        /// Number of mistakes.
        mistakes: usize,
    },
    /// More actions than `--confirm-above` allows, and nobody to ask.
    #[error(
        "there are {actions} flows, more than --confirm-above {limit}, and no terminal to ask on; nothing was done"
    )]
    Unconfirmed {
        /// Number of actions that would be done.
        actions: u64,
        /// The value of the option.
        limit: u64,
    },
    /// The reader of the output is gone.
    #[error("broken pipe")]
    BrokenPipe,
    /// The output cannot be written.
    #[error(transparent)]
    Output(SinkError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {}", error_text(.0))]
    Thread(io::Error),
    /// A recording cannot be written or played.
    #[error(transparent)]
    Recording(RecordingError),
    /// A command that can be neither recorded nor replayed.
    #[error(
        "cannot {what} the command --{command}: a recording holds what -L lists and what -E shows, and nothing in it can be acted on"
    )]
    NotInRecording {
        /// `record` or `replay`.
        what: &'static str,
        /// The command's long option.
        command: &'static str,
    },
    /// A command that does not fit the kind of the recording.
    #[error("the recording is of {recorded}, which --{command} does not show; leave the command out, or use {instead}")]
    OtherRecording {
        /// The kind of the recording.
        recorded: &'static str,
        /// The command that was given.
        command: &'static str,
        /// The command that fits.
        instead: &'static str,
    },
    /// An option that changes the kernel's counters was given for a replay.
    #[error("-z sets the kernel's counters to zero, and a replay does not touch the kernel; leave it out")]
    ZeroInReplay,
    /// An option that needs the kernel was given for a replay.
    #[error(
        "--resync makes up for lost events from the kernel's table as it is at that time, which is in no recording; leave it out"
    )]
    ResyncInRecording,
    /// The bytes of a recording would be mixed with those of `--show`, or would go to a terminal.
    #[error("{0}")]
    RecordingOutput(&'static str),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A command that `flowgate top` cannot show; the text names an alternative.
    #[error("{}", message(.0.as_bytes()))]
    Top(String),
    /// A command of the classic program that this version does not have.
    #[error("the command --{0} is not available in this version")]
    NotAvailable(&'static str),
}

impl From<SinkError> for CommandError {
    fn from(error: SinkError) -> Self {
        if error.is_broken_pipe() { CommandError::BrokenPipe } else { CommandError::Output(error) }
    }
}

impl From<LoadPluginError> for CommandError {
    fn from(error: LoadPluginError) -> Self {
        match error {
            LoadPluginError::Load(error) => CommandError::Load(error),
            LoadPluginError::Plugin(error) => CommandError::Plugin(error),
            LoadPluginError::Service { plugin, service, grant } => {
                CommandError::PluginService { plugin, service, grant }
            }
            error => CommandError::LoadPlugin(error),
        }
    }
}

impl From<PluginProblems> for CommandError {
    fn from(problems: PluginProblems) -> Self {
        problems.into_first().into()
    }
}

impl From<SpecProblems> for CommandError {
    fn from(problems: SpecProblems) -> Self {
        problems.into_first().error.into()
    }
}

impl From<RecordingError> for CommandError {
    fn from(error: RecordingError) -> Self {
        match error {
            RecordingError::Write(error)
                if error.kind() == io::ErrorKind::BrokenPipe && !inherited::ignores_sigpipe() =>
            {
                Self::BrokenPipe
            }
            error => Self::Recording(error),
        }
    }
}

impl CommandError {
    /// Converts the error of a run, with the messages of this row.
    #[must_use]
    pub(super) fn of_run(row: &Row, error: RunError) -> Self {
        match error {
            RunError::Open(error) => Self::of_open(row, error),
            RunError::Source(SourceError::Other { errno, error }) => match error.downcast::<RecordingError>() {
                Ok(error) => (*error).into(),
                Err(_) => Self::of_errno(row, errno),
            },
            RunError::Source(error) if row.command == Command::Events && row.table != Table::Expect => {
                Self::Events(strerror(error.errno()))
            }
            RunError::Source(error) => Self::of_errno(row, error.errno()),
            RunError::Executor(error) => Self::of_errno(row, error.errno()),
            RunError::Plugin(error) => Self::Plugin(error),
            RunError::Sink(error) => error.into(),
        }
    }

    /// Converts the error of opening the source of a row. For events, conntrack prints the step that failed first.
    #[must_use]
    pub(super) fn of_open(row: &Row, error: OpenError) -> Self {
        match error {
            OpenError::Events(error) if row.table == Table::Expect => Self::EventHandler { errno: error.errno() },
            OpenError::Events(error) => {
                let step =
                    if matches!(error, SocketError::Bind { .. }) { "mnl_socket_bind" } else { "mnl_socket_open" };
                line(&format!("{step}: {}", strerror(error.errno())));
                if matches!(error, SocketError::Option { option: "NETLINK_LISTEN_ALL_NSID", .. }) {
                    line("--all-netns takes the capability CAP_NET_BROADCAST");
                }
                Self::EventSocket { errno: error.errno() }
            }
            OpenError::Recording(error) => error.into(),
            error => Self::of_errno(row, error.errno()),
        }
    }

    /// True if a privilege is missing.
    #[must_use]
    pub(super) fn is_refusal(&self) -> bool {
        let errno = match self {
            Self::Kernel { errno, .. } | Self::EventSocket { errno } | Self::EventHandler { errno } => *errno,
            Self::Namespace(error) => error.errno(),
            _ => 0,
        };
        matches!(errno, libc::EPERM | libc::EACCES)
    }

    /// Converts an error number of the kernel, with the messages of this row.
    #[must_use]
    pub(super) fn of_errno(row: &Row, errno: i32) -> Self {
        Self::Kernel { text: errno_text(row.command, row.table, errno), errno }
    }
}

/// Returns the text of `conntrack` for an error number. ENOTSUPP (524) is internal to the kernel and has no name
/// outside.
fn errno_text(command: Command, table: Table, errno: i32) -> String {
    const ENOTSUPP: i32 = 524;
    use Command::{Add, Count, Create, Delete, Get, List, Statistics};
    let expect = table == Table::Expect;
    let invalid = if expect { !matches!(command, Count | Statistics) } else { !matches!(command, Add | Statistics) };
    let text = match (errno, command) {
        (libc::EPERM, _) => "sorry, you must be root or get CAP_NET_ADMIN capability to do this",
        (libc::EINVAL, _) if invalid => "invalid parameters",
        (libc::ENOENT, Create) if expect => "master conntrack not found",
        _ if expect => return strerror(errno),
        (ENOTSUPP, List) => "function not implemented",
        (libc::EEXIST, Create) => "Such conntrack exists, try -U to update",
        (libc::ENOENT, Create | Add | Get | Delete) => "such conntrack doesn't exist",
        (libc::ENOMEM, Create | Add | Get) => "not enough memory",
        (libc::EAFNOSUPPORT, Get) => "protocol not supported",
        (libc::ETIME, Create | Add) => "conntrack has expired",
        _ => return strerror(errno),
    };
    text.to_string()
}

/// Returns the text of an error number, as strerror(3) does.
pub(super) fn strerror(errno: i32) -> String {
    flowgate_base::io_error::errno_text(errno)
}

/// Returns a handle whose warnings are lines on standard error.
pub(super) fn warnings() -> Warnings {
    Warnings::new(line)
}

/// Warns that events were lost.
pub(super) fn gap() {
    GAP_WARNING.iter().for_each(|text| line(text));
}

/// True if the program is called `conntrack`. It is global because a process has one standard error and one name.
static AS_CONNTRACK: AtomicBool = AtomicBool::new(false);

/// Sets the name that messages begin with.
pub fn set_name(name: &ProgramName) {
    AS_CONNTRACK.store(name.is_conntrack(), Ordering::Relaxed);
}

/// Returns the beginning of messages: the banner of conntrack-tools that programs look for, or flowgate's own name.
fn beginning() -> String {
    if AS_CONNTRACK.load(Ordering::Relaxed) {
        format!("conntrack v{COMPATIBLE} (conntrack-tools): ")
    } else {
        "flowgate: ".to_owned()
    }
}

/// Writes a line to standard error, with the banner that programs look for.
pub fn banner(text: &str) {
    line(&format!("{}{text}", beginning()));
}

/// Does the same as [`banner`] for text that repeats words of the command line: control characters, including line
/// breaks, and bytes that are not UTF-8 are escaped. If the program is called `conntrack` and standard error is not a
/// terminal, they are written as they are, as `conntrack` does.
pub fn banner_bytes(text: &[u8]) {
    if AS_CONNTRACK.load(Ordering::Relaxed) && !io::stderr().is_terminal() {
        standard_error::write(&[beginning().as_bytes(), text, b"\n"].concat());
    } else {
        banner(&flowgate_base::text::line(text));
    }
}

/// Writes lines to standard error, without banner. Terminal control sequences are escaped, even in text that its origin
/// should have cleaned.
pub fn text(text: &[u8]) {
    standard_error::write(flowgate_base::text::message(text).as_bytes());
}

/// Writes a line to standard error.
pub fn line(text: &str) {
    self::text(format!("{text}\n").as_bytes());
}

/// Standard error as a writer that never fails.
#[derive(Clone, Copy, Debug)]
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        standard_error::write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the log that plugins write to: lines on standard error, coloured on a terminal only. `FLOWGATE_LOG` sets the
/// level: `error`, `warn`, `info` (the default), `debug`, or `off`.
pub(super) fn start_log() {
    start_log_into(|| StandardError, io::stderr().is_terminal());
}

/// Does the same as [`start_log`], with another writer.
pub(super) fn start_log_into<W>(writer: impl Fn() -> W + Send + Sync + 'static, colours: bool)
where
    W: Write + 'static,
{
    let level = std::env::var("FLOWGATE_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    let subscriber = tracing_subscriber::fmt()
        .compact()
        .with_target(false)
        .with_max_level(level)
        .with_ansi(colours)
        .with_writer(writer)
        .finish();
    // An earlier command of a load file has started it already.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Returns the output of `-V`: the line of conntrack-tools, and one that names this program.
#[must_use]
pub fn version() -> String {
    format!("conntrack v{COMPATIBLE} (conntrack-tools)\nflowgate {}\n", env!("CARGO_PKG_VERSION"))
}
