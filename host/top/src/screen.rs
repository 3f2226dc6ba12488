//! The terminal: acquired for the screen, and always restored.

use std::{
    io::{self, Stdout, stdout},
    panic,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor, event,
        event::{Event, KeyEventKind},
        execute, terminal,
    },
};
use signal_hook::low_level::raise;

use super::{
    filter::Filter,
    messages,
    model::SharedModel,
    row::FlowRow,
    snapshot::Snapshot,
    source::Controls,
    ui::{Mode, Ui, UiAction},
    view::{self, ScreenInfo},
};
use flowgate_netlink::Stop;
use flowgate_pipeline::stats::Board;

/// Interval between frames while no key is pressed.
const FRAME: Duration = Duration::from_millis(250);
/// Maximum delay until the stop signal is noticed.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// True while the terminal is in use.
static ACQUIRED: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The terminal in use; dropping it restores the terminal.
struct AcquiredTerminal(Terminal<CrosstermBackend<Stdout>>);

impl AcquiredTerminal {
    fn new() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |what| {
                restore();
                before(what);
            }));
        });
        ACQUIRED.store(true, SeqCst);
        let taken = terminal::enable_raw_mode()
            .and_then(|()| execute!(stdout(), terminal::EnterAlternateScreen, cursor::Hide))
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        if taken.is_err() {
            restore();
        }
        taken.map(Self)
    }
}

impl AcquiredTerminal {
    /// Clears the screen, so that the next frame is drawn completely. Unlike `Terminal::clear` it does not query the
    /// cursor position: some terminals do not answer, which would be an error after two seconds.
    fn redraw(&mut self) -> io::Result<()> {
        execute!(stdout(), terminal::Clear(terminal::ClearType::All))?;
        self.0 = Terminal::new(CrosstermBackend::new(stdout()))?;
        Ok(())
    }
}

impl Drop for AcquiredTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal if it is in use.
fn restore() {
    if ACQUIRED.swap(false, SeqCst) {
        // A terminal that has gone need not be restored.
        let _ = execute!(stdout(), cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// Deletes a flow. Returns false if it was gone already, or why it could not be deleted.
pub type Delete<'a> = Box<dyn FnMut(&FlowRow) -> Result<bool, String> + Send + 'a>;

/// Checks a condition, and says what is wrong with it.
pub type Check<'a> = Box<dyn Fn(&str) -> Result<(), String> + Send + 'a>;

/// Why the screen has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScreenEnd {
    /// The user, or a signal, ends the program.
    Quit,
    /// Other flows are to be shown: those that satisfy a condition, or all.
    Condition(String),
}

/// The screen with everything that it shows and can do.
pub struct Screen<'a> {
    /// The flows.
    pub model: SharedModel,
    /// The state of the user interface.
    pub ui: Ui,
    /// The plugins.
    pub board: &'a Board,
    /// Description of the origin of the flows.
    pub title: String,
    /// Requests to the source.
    pub controls: Arc<Controls>,
    /// Deletes flows.
    pub delete: Delete<'a>,
    /// Checks conditions.
    pub check: Check<'a>,
    /// The condition in effect; empty for none.
    pub condition: String,
    /// The stop signal of the program.
    pub stop: &'a Stop,
    /// The stop signal of what fills the model, which the screen ends with.
    pub ended: &'a Stop,
}

impl Screen<'_> {
    /// Shows the flows until the user, or the stop signal, ends it, or other flows are to be shown.
    ///
    /// # Errors
    /// Returns an error if the terminal cannot be used.
    pub fn run(&mut self) -> io::Result<ScreenEnd> {
        let mut taken = AcquiredTerminal::new()?;
        while !self.is_over() {
            let snapshot = match &self.ui.paused {
                Some(snapshot) => snapshot.clone(),
                None => Arc::new(self.model.lock().snapshot()),
            };
            let around =
                ScreenInfo { title: self.title.clone(), stages: self.board.stages(), message: messages::last() };
            let ui = &mut self.ui;
            taken.0.draw(|frame| view::draw(frame, &snapshot, ui, &around))?;
            match self.wait(&snapshot)? {
                Some(UiAction::Quit) => return Ok(ScreenEnd::Quit),
                Some(UiAction::Suspend) => {
                    drop(taken);
                    raise(libc::SIGTSTP)?;
                    taken = AcquiredTerminal::new()?;
                }
                Some(UiAction::Redraw) => taken.redraw()?,
                Some(UiAction::Condition(condition)) => match (self.check)(&condition) {
                    Ok(()) if condition == self.condition => {}
                    Ok(()) => return Ok(ScreenEnd::Condition(condition)),
                    Err(error) => {
                        self.ui.mode = Mode::Condition;
                        self.ui.note = Some(error);
                    }
                },
                Some(action) => self.perform(action),
                None => {}
            }
        }
        Ok(ScreenEnd::Quit)
    }

    fn is_over(&self) -> bool {
        self.stop.is_stopped() || self.ended.is_stopped()
    }

    /// Waits for a key, at most until the next frame is due.
    fn wait(&mut self, snapshot: &Arc<Snapshot>) -> io::Result<Option<UiAction>> {
        let until = Instant::now() + FRAME;
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            if event::poll(rest.min(STOP_POLL_INTERVAL))? {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        return Ok(Some(self.ui.key(key, snapshot)));
                    }
                    Event::Resize(..) => return Ok(None),
                    _ => {}
                }
            }
            if rest.is_zero() || self.is_over() {
                return Ok(None);
            }
        }
    }

    fn perform(&mut self, action: UiAction) {
        match action {
            UiAction::Nothing | UiAction::Quit | UiAction::Suspend | UiAction::Redraw | UiAction::Condition(_) => {}
            UiAction::Sort(sort) => {
                self.model.lock().set_sort(sort);
                self.refresh_paused();
                self.request_dump();
            }
            UiAction::Filter(typed) => {
                self.model.lock().set_filter(Filter::new(&typed));
                self.refresh_paused();
                self.request_dump();
            }
            UiAction::Pause(pause) => {
                self.controls.paused.store(pause, SeqCst);
                self.request_dump();
            }
            UiAction::Refresh => self.controls.dump_now.store(true, SeqCst),
            UiAction::Delete(row) => {
                let what = view::describe(&row);
                self.ui.note = Some(match (self.delete)(&row) {
                    Ok(true) => {
                        if let Some(paused) = &mut self.ui.paused {
                            Arc::make_mut(paused).rows.retain(|shown| shown.name != row.name);
                        }
                        format!("deleted: {what}")
                    }
                    Ok(false) => format!("it had gone already: {what}"),
                    Err(error) => format!("cannot delete {what}: {error}"),
                });
                self.request_dump();
            }
        }
    }

    /// Requests a dump, unless the screen is paused.
    fn request_dump(&self) {
        if self.ui.paused.is_none() {
            self.controls.dump_now.store(true, SeqCst);
        }
    }

    /// Sorts and filters a paused screen as well, in its last state.
    fn refresh_paused(&mut self) {
        if let Some(paused) = &mut self.ui.paused {
            let now = paused.now;
            *paused = Arc::new(Snapshot { now, ..self.model.lock().snapshot() });
        }
    }
}
