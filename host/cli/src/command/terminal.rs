//! What there is to know about the terminal: its width, whether tables are coloured, and progress.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use flowgate_config::ColumnOptions;
use flowgate_pipeline::counters::Counters;
use flowgate_syntax::{ColorChoice, Output, Settings};

/// Returns how a command prints columns.
pub(super) fn columns(settings: &Settings) -> ColumnOptions {
    let table = settings.output.contains(Output::TABLE);
    let terminal = table && io::stdout().is_terminal();
    let color = match settings.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => terminal && has_colors(),
    };
    ColumnOptions {
        columns: settings.columns.clone(),
        no_header: !settings.header,
        width: if terminal { width() } else { 0 },
        color: table && color,
    }
}

/// Returns true unless the user does not want colours (<https://no-color.org>) or the terminal has none.
fn has_colors() -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    !refused && !dumb
}

/// Returns the columns of the terminal of standard output: those of the variable COLUMNS, or else those that the
/// terminal has; 0 if they are not known.
fn width() -> u16 {
    let named = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    named.unwrap_or_else(|| rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col))
}

/// Time after which progress is shown.
const PATIENCE: Duration = Duration::from_secs(1);
/// Interval of the progress display.
const INTERVAL: Duration = Duration::from_millis(200);

/// A line on standard error with the number of entries so far, for a command that takes longer than a second and whose
/// output goes elsewhere. It is removed when this is dropped.
pub(super) struct Progress {
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts the display, if standard error is a terminal and standard output is none.
    pub(super) fn start(counters: &Counters) -> Self {
        let none = Progress { end: None, thread: None };
        if io::stdout().is_terminal() || !io::stderr().is_terminal() {
            return none;
        }
        let (end, ended) = mpsc::channel();
        let counters = counters.clone();
        let show = move || {
            let mut wait = PATIENCE;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = INTERVAL;
                let entries = flowgate_top::cells::count(counters.read().entries);
                // A terminal that cannot be written to is nothing to report on it.
                let _ = write!(io::stderr(), "\r{entries} entries so far\x1b[K");
            }
            if wait == INTERVAL {
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
        };
        match thread::Builder::new().name("progress".into()).spawn(show) {
            Ok(thread) => Progress { end: Some(end), thread: Some(thread) },
            Err(_) => none,
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
