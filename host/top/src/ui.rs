//! What is typed, and what it does to what is on the screen.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    model::{Origin, Snapshot},
    row::{Name, Row},
    sort::{Key, Sort},
};

/// What the keys mean at the moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mode {
    /// The table is looked at.
    #[default]
    Table,
    /// The filter is typed.
    Filter,
    /// The help is read.
    Help,
    /// The question whether this flow is to be deleted waits for its answer.
    Confirm(Box<Row>),
}

/// What a key asks for, besides a change of [`Ui`].
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// Nothing.
    Nothing,
    /// The end.
    Quit,
    /// The same once more, on an empty screen.
    Redraw,
    /// The shell, for a while.
    Suspend,
    /// Another order.
    Sort(Sort),
    /// Another filter.
    Filter(String),
    /// What is shown stays as it is, or no longer.
    Pause(bool),
    /// A dump now.
    Refresh,
    /// This flow is to go; the question has been answered.
    Delete(Box<Row>),
}

/// The state of the screen.
#[derive(Clone, Debug)]
pub struct Ui {
    /// Where the flows come from.
    pub origin: Origin,
    /// What the keys mean.
    pub mode: Mode,
    /// The filter as it was typed.
    pub filter: String,
    /// The order that was asked for.
    pub sort: Sort,
    /// What was shown when it was said that it should stay.
    pub paused: Option<Arc<Snapshot>>,
    /// Row at the top, of those that pass the filter.
    pub offset: usize,
    /// The selected row, and the flow in it: the selection follows the flow.
    pub selected: Option<(usize, Name)>,
    /// What is to be said, until the next key.
    pub note: Option<String>,
    /// Rows that the screen has room for.
    pub page: usize,
}

/// The keys, for the help.
pub const KEYS: [(&str, &str); 16] = [
    ("up down, j k", "select a flow; the selection follows it"),
    ("PgUp PgDn Home End", "move by a page, to the first, to the last"),
    ("Esc", "clear the selection, then the filter"),
    ("left right", "sort by the column to the left or to the right"),
    ("r b p", "sort by rate (bytes a second), bytes, packets"),
    ("s a t", "sort by packets a second, age, remaining time"),
    ("i", "reverse the order"),
    ("/", "filter: words that must occur in addresses, ports, protocol, state, mark"),
    ("space", "pause the screen and the dumps, or continue"),
    ("Enter", "dump the table now"),
    ("d, Del", "delete the selected flow, after a confirmation"),
    ("? h", "this help"),
    ("Ctrl-L", "redraw"),
    ("Ctrl-Z", "suspend; `fg` comes back"),
    ("q, Ctrl-C", "quit"),
    ("", "docs/TOP.md says what the columns mean"),
];

impl Ui {
    /// At the start.
    #[must_use]
    pub fn new(origin: Origin, sort: Sort) -> Self {
        Self {
            origin,
            mode: Mode::Table,
            filter: String::new(),
            sort,
            paused: None,
            offset: 0,
            selected: None,
            note: None,
            page: 1,
        }
    }

    /// Brings selection and place in line with what is shown now, in `page` rows.
    pub fn place(&mut self, snapshot: &Snapshot, page: usize) {
        self.page = page.max(1);
        let rows = &snapshot.rows;
        if let Some((at, name)) = self.selected {
            let found = rows.iter().position(|row| row.name == name);
            // Where the flow has gone, the one that came to its place is selected.
            let at = found.unwrap_or_else(|| at.min(rows.len().saturating_sub(1)));
            self.selected = rows.get(at).map(|row| (at, row.name));
        }
        if let Some((at, _)) = self.selected {
            self.offset = self.offset.clamp((at + 1).saturating_sub(self.page), at);
        }
        self.offset = self.offset.min(rows.len().saturating_sub(self.page));
    }

    /// The selected row.
    #[must_use]
    pub fn chosen<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Row> {
        let (_, name) = self.selected?;
        snapshot.rows.iter().find(|row| row.name == name)
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent, snapshot: &Arc<Snapshot>) -> Wish {
        self.note = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::Quit,
                KeyCode::Char('z') => Wish::Suspend,
                KeyCode::Char('l') => Wish::Redraw,
                _ => Wish::Nothing,
            };
        }
        match std::mem::take(&mut self.mode) {
            Mode::Help => Wish::Nothing,
            Mode::Confirm(row) => match key.code {
                KeyCode::Char('y' | 'Y') => Wish::Delete(row),
                _ => {
                    self.note = Some("nothing was deleted".into());
                    Wish::Nothing
                }
            },
            Mode::Filter => self.filter_key(key.code),
            Mode::Table => self.table_key(key.code, snapshot),
        }
    }

    fn filter_key(&mut self, code: KeyCode) -> Wish {
        self.mode = Mode::Filter;
        match code {
            KeyCode::Enter => {
                self.mode = Mode::Table;
                return Wish::Nothing;
            }
            KeyCode::Esc => {
                self.mode = Mode::Table;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if self.filter.len() < 200 => self.filter.push(letter),
            _ => return Wish::Nothing,
        }
        self.offset = 0;
        Wish::Filter(self.filter.clone())
    }

    fn table_key(&mut self, code: KeyCode, snapshot: &Arc<Snapshot>) -> Wish {
        let page = self.page as isize;
        match code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char(' ') => {
                let pause = self.paused.is_none();
                self.paused = pause.then(|| snapshot.clone());
                return Wish::Pause(pause);
            }
            KeyCode::Enter => return Wish::Refresh,
            KeyCode::Up | KeyCode::Char('k') => self.step(snapshot, -1),
            KeyCode::Down | KeyCode::Char('j') => self.step(snapshot, 1),
            KeyCode::PageUp => self.step(snapshot, -page),
            KeyCode::PageDown => self.step(snapshot, page),
            KeyCode::Home => self.step(snapshot, isize::MIN),
            KeyCode::End => self.step(snapshot, isize::MAX),
            KeyCode::Esc if self.selected.is_some() => (self.selected, self.offset) = (None, 0),
            KeyCode::Esc if !self.filter.is_empty() => {
                self.filter.clear();
                return Wish::Filter(String::new());
            }
            KeyCode::Left => return self.sort_by(self.sort.key.moved(-1)),
            KeyCode::Right => return self.sort_by(self.sort.key.moved(1)),
            KeyCode::Char('r') => return self.sort_by(Key::Rate),
            KeyCode::Char('b') => return self.sort_by(Key::Bytes),
            KeyCode::Char('p') => return self.sort_by(Key::Packets),
            KeyCode::Char('s') => return self.sort_by(Key::PacketRate),
            KeyCode::Char('a') => return self.sort_by(Key::Age),
            KeyCode::Char('t') => return self.sort_by(Key::Timeout),
            KeyCode::Char('i') => {
                self.sort.reverse = !self.sort.reverse;
                return Wish::Sort(self.sort);
            }
            KeyCode::Char('d') | KeyCode::Delete => self.ask(snapshot),
            _ => {}
        }
        Wish::Nothing
    }

    fn sort_by(&mut self, key: Key) -> Wish {
        self.sort = Sort { key, ..self.sort };
        Wish::Sort(self.sort)
    }

    /// Moves the selection; the first step selects the row at the top.
    fn step(&mut self, snapshot: &Snapshot, by: isize) {
        let last = snapshot.rows.len().saturating_sub(1);
        let at = match self.selected {
            Some((at, _)) => at.saturating_add_signed(by).min(last),
            None if by == isize::MAX => last,
            None => self.offset.min(last),
        };
        self.selected = snapshot.rows.get(at).map(|row| (at, row.name));
    }

    /// Asks whether the selected flow is to be deleted.
    fn ask(&mut self, snapshot: &Snapshot) {
        if self.origin == Origin::Recording {
            self.note = Some("a recording has nothing that could be deleted".into());
            return;
        }
        match self.chosen(snapshot) {
            Some(row) => self.mode = Mode::Confirm(Box::new(row.clone())),
            None => self.note = Some("select a flow first, with the arrow keys".into()),
        }
    }
}
