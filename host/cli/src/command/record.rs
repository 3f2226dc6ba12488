//! `flowgate record`: writes messages of the kernel to a file, and shows them through the pipeline of the command if
//! asked to.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd as _,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::{
    Context, long_name, lower,
    report::{self, CommandError, Exit},
    table::{self, Row},
};
use flowgate_base::files::{BlockingFile, Directory, Trust};
use flowgate_netlink::source::{Datagram, Source};
use flowgate_pipeline::{RunError, kernel::OpenOptions};
use flowgate_recording::{Recorder, RecordingError, RecordingStats};
use flowgate_syntax::{Command, Settings, Table};

/// Interval of the progress display.
const PROGRESS: Duration = Duration::from_millis(500);

/// Limits after which a recording ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Maximum length of the file.
    pub bytes: Option<u64>,
    /// Maximum duration.
    pub time: Option<Duration>,
}

/// Runs the subcommand.
pub(super) fn run(
    context: &mut Context<'_>,
    file: &Path,
    show: bool,
    limits: Limits,
    words: &[OsString],
) -> Result<Exit, CommandError> {
    let settings = match context.classic(words, (Command::Events, Table::Conntrack)) {
        Ok(settings) => settings,
        Err(exit) => return Ok(exit),
    };
    if settings.resync {
        return Err(CommandError::ResyncInRecording);
    }
    let row = recordable(&settings)?;
    if settings.explain {
        return context.explain(row, &settings, None, false);
    }
    let stop = context.stop;
    let namespace = context.namespace(&settings)?;
    // The socket is opened first: if the kernel refuses it, an existing file stays as it is.
    let spec = lower::command(row, &settings, namespace)?;
    let warnings = report::warnings();
    let options = OpenOptions { stop, counters: &context.counters, warnings: &warnings, flush_when_idle: true };
    let source = spec.open_kernel(&options).map_err(|error| CommandError::of_open(row, error))?;
    let output = output(file, show)?;
    let mut recorder = Recorder::new(source, settings.table, output, show, limits.bytes, stop)?;
    let result = thread::scope(|scope| {
        let (done, over) = mpsc::channel::<()>();
        if let Some(time) = limits.time {
            thread::Builder::new()
                .name("duration".into())
                .spawn_scoped(scope, move || {
                    if over.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
                        stop.stop();
                    }
                })
                .map_err(CommandError::Thread)?;
        }
        let result = if show {
            context.entries(row, &settings, spec, Some(&mut recorder), false)
        } else {
            write(row, &mut recorder)
        };
        drop(done);
        result
    });
    // This is done even if the pipeline failed, so that the file ends with a whole packet.
    recorder.finish()?;
    let exit = result?;
    report_count(recorder.count());
    Ok(if exit == Exit::Success { Exit::Stopped } else { exit })
}

/// Returns the row of a command, or an error if the command cannot be recorded.
fn recordable(settings: &Settings) -> Result<&'static Row, CommandError> {
    let refused = || CommandError::NotInRecording { what: "record", command: long_name(settings.command) };
    if !matches!(settings.command, Command::List | Command::Events) {
        return Err(refused());
    }
    let row = table::row(settings.command, settings.table).ok_or_else(refused)?;
    Ok(row)
}

/// Opens the output file.
fn output(path: &Path, show: bool) -> Result<BlockingFile, CommandError> {
    let file: io::Result<File> = if path.as_os_str() == "-" {
        if show {
            return Err(CommandError::RecordingOutput(
                "a recording on standard output leaves no place for --show; give it a file",
            ));
        }
        if io::stdout().is_terminal() {
            return Err(CommandError::RecordingOutput(
                "a recording is not for a terminal; redirect standard output, or give it a file",
            ));
        }
        io::stdout().as_fd().try_clone_to_owned().map(File::from)
    } else {
        Directory::of(path, Trust::Typed).and_then(|(directory, name)| directory.replace(&name))
    };
    file.map(BlockingFile::from)
        .map_err(|source| RecordingError::Create { path: path.display().to_string(), source }.into())
}

/// Records without showing anything.
fn write(row: &Row, recorder: &mut Recorder<BlockingFile>) -> Result<Exit, CommandError> {
    let terminal = io::stderr().is_terminal();
    let mut reported = Instant::now();
    let mut datagram = Datagram::new();
    let mut gaps = 0;
    let result = loop {
        match recorder.next(&mut datagram) {
            Ok(true) => {}
            Ok(false) => break Ok(Exit::Stopped),
            Err(error) => break Err(CommandError::of_run(row, RunError::Source(error))),
        }
        let count = recorder.count();
        if count.gaps > gaps {
            gaps = count.gaps;
            report::gap();
        }
        if terminal && reported.elapsed() >= PROGRESS {
            reported = Instant::now();
            // A progress line that cannot be written does not end the recording.
            let _ = write!(io::stderr(), "\r{} messages, {} bytes", count.messages, count.bytes);
        }
    };
    if terminal {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    result
}

/// Prints the final line.
fn report_count(count: RecordingStats) {
    let RecordingStats { messages, gaps, bytes, full, .. } = count;
    let mut text = format!("{messages} messages have been recorded, {bytes} bytes");
    if gaps > 0 {
        text.push_str(&format!(", with {gaps} gaps where the kernel lost events"));
    }
    text.push_str(if full { "; the file would have become longer than --max-size." } else { "." });
    report::banner(&text);
}
