//! The terminal: taken for the screen, and given back whatever happens.

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
    model::{Shared, Snapshot},
    row::Row,
    source::Wishes,
    ui::{Ui, Wish},
    view::{self, Around},
};
use flowgate_netlink::Stop;
use flowgate_pipeline::stats::Board;

/// How often the picture is drawn where no key is pressed.
const FRAME: Duration = Duration::from_millis(250);
/// How long it takes at most to see the stop signal.
const GLANCE: Duration = Duration::from_millis(50);

/// Whether the terminal is taken.
static TAKEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The terminal while it is taken; dropped, it is given back.
struct Taken(Terminal<CrosstermBackend<Stdout>>);

impl Taken {
    fn new() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |what| {
                give_back();
                before(what);
            }));
        });
        TAKEN.store(true, SeqCst);
        let taken = terminal::enable_raw_mode()
            .and_then(|()| execute!(stdout(), terminal::EnterAlternateScreen, cursor::Hide))
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        if taken.is_err() {
            give_back();
        }
        taken.map(Self)
    }
}

impl Taken {
    /// Clears the screen, so that the next picture is drawn as a whole. Unlike `Terminal::clear` it does not ask the terminal where its
    /// cursor is: some answer nothing, which would be an error after two seconds.
    fn redraw(&mut self) -> io::Result<()> {
        execute!(stdout(), terminal::Clear(terminal::ClearType::All))?;
        self.0 = Terminal::new(CrosstermBackend::new(stdout()))?;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back, if it is taken.
fn give_back() {
    if TAKEN.swap(false, SeqCst) {
        // A terminal that has gone needs nothing.
        let _ = execute!(stdout(), cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// Deletes a flow; whether it was still there, or why it could not be deleted.
pub type Delete<'a> = Box<dyn FnMut(&Row) -> Result<bool, String> + Send + 'a>;

/// What the screen shows, and what it can do.
pub struct Screen<'a> {
    /// The flows.
    pub model: Shared,
    /// What is typed goes here.
    pub ui: Ui,
    /// The plugins.
    pub board: &'a Board,
    /// Where the flows come from, in words.
    pub title: String,
    /// What the source is asked for.
    pub wishes: Arc<Wishes>,
    /// Deletes flows.
    pub delete: Delete<'a>,
    /// Ends it.
    pub stop: &'a Stop,
}

impl Screen<'_> {
    /// Shows the flows until the user, or the stop signal, ends it.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn run(&mut self) -> io::Result<()> {
        let mut taken = Taken::new()?;
        while !self.stop.is_stopped() {
            let snapshot = match &self.ui.paused {
                Some(snapshot) => snapshot.clone(),
                None => Arc::new(self.model.lock().snapshot()),
            };
            let around = Around { title: self.title.clone(), stages: self.board.stages(), message: messages::last() };
            let ui = &mut self.ui;
            taken.0.draw(|frame| view::draw(frame, &snapshot, ui, &around))?;
            match self.wait(&snapshot)? {
                Some(Wish::Quit) => return Ok(()),
                Some(Wish::Suspend) => {
                    drop(taken);
                    raise(libc::SIGTSTP)?;
                    taken = Taken::new()?;
                }
                Some(Wish::Redraw) => taken.redraw()?,
                Some(wish) => self.fulfil(wish),
                None => {}
            }
        }
        Ok(())
    }

    /// Waits for a key, at most until the next picture is due.
    fn wait(&mut self, snapshot: &Arc<Snapshot>) -> io::Result<Option<Wish>> {
        let until = Instant::now() + FRAME;
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            if event::poll(rest.min(GLANCE))? {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        return Ok(Some(self.ui.key(key, snapshot)));
                    }
                    Event::Resize(..) => return Ok(None),
                    _ => {}
                }
            }
            if rest.is_zero() || self.stop.is_stopped() {
                return Ok(None);
            }
        }
    }

    fn fulfil(&mut self, wish: Wish) {
        match wish {
            Wish::Nothing | Wish::Quit | Wish::Suspend | Wish::Redraw => {}
            Wish::Sort(sort) => {
                self.model.lock().set_sort(sort);
                self.again();
                self.soon();
            }
            Wish::Filter(typed) => {
                self.model.lock().set_filter(Filter::new(&typed));
                self.again();
                self.soon();
            }
            Wish::Pause(pause) => {
                self.wishes.paused.store(pause, SeqCst);
                self.soon();
            }
            Wish::Refresh => self.wishes.soon.store(true, SeqCst),
            Wish::Delete(row) => {
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
                self.soon();
            }
        }
    }

    /// Asks for a dump, unless the picture stands still.
    fn soon(&self) {
        if self.ui.paused.is_none() {
            self.wishes.soon.store(true, SeqCst);
        }
    }

    /// What stands still is sorted and filtered too, as it was last known.
    fn again(&mut self) {
        if let Some(paused) = &mut self.ui.paused {
            let now = paused.now;
            *paused = Arc::new(Snapshot { now, ..self.model.lock().snapshot() });
        }
    }
}
