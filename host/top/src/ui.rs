//! Keys, and their effect on the screen.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    model::Origin,
    row::FlowRow,
    snapshot::{RowName, Snapshot},
    sort::{Sort, SortKey},
};

/// The current meaning of keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mode {
    /// The table is shown.
    #[default]
    Table,
    /// The filter is being edited.
    Filter,
    /// The condition is being edited.
    Condition,
    /// The help is shown.
    Help,
    /// The question if this flow is to be deleted is shown.
    Confirm(Box<FlowRow>),
}

/// The effect of a key, besides a change of [`Ui`].
#[derive(Clone, Debug, PartialEq)]
pub enum UiAction {
    /// None.
    Nothing,
    /// Ends the program.
    Quit,
    /// Redraws the whole screen.
    Redraw,
    /// Suspends the program.
    Suspend,
    /// Changes the order.
    Sort(Sort),
    /// Changes the filter.
    Filter(String),
    /// Changes the condition; empty for none.
    Condition(String),
    /// Pauses or continues.
    Pause(bool),
    /// Dumps the table now.
    Refresh,
    /// Deletes this flow, after confirmation.
    Delete(Box<FlowRow>),
}

/// The state of the screen.
#[derive(Clone, Debug)]
pub struct Ui {
    /// The origin of the flows.
    pub origin: Origin,
    /// The current meaning of keys.
    pub mode: Mode,
    /// The filter as typed.
    pub filter: String,
    /// The condition as typed.
    pub condition: String,
    /// True if rows are groups.
    pub groups: bool,
    /// The requested order.
    pub sort: Sort,
    /// The rows that are shown while paused.
    pub paused: Option<Arc<Snapshot>>,
    /// Number of the topmost row, of those that pass the filter.
    pub offset: usize,
    /// The selected row, and what is in it: the selection follows the flow or the group.
    pub selected: Option<(usize, RowName)>,
    /// A message that is shown until the next key.
    pub note: Option<String>,
    /// Number of rows that fit the screen.
    pub page: usize,
}

/// The keys, for the help.
pub const KEYS: [(&str, &str); 18] = [
    ("up down, j k", "select a flow; the selection follows it"),
    ("PgUp PgDn Home End", "move by a page, to the first, to the last"),
    ("Esc", "clear the selection, then the filter"),
    ("left right", "sort by the column to the left or to the right"),
    ("r b p", "sort by rate (bytes a second), bytes, packets"),
    ("s a t", "sort by packets a second, age, remaining time"),
    ("f", "sort groups by their number of flows"),
    ("i", "reverse the order"),
    ("/", "filter: words that must occur in addresses, ports, protocol, state, mark"),
    ("w", "condition, as of --where: dport == 443 and bytes > 1M"),
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
    /// Returns the initial state.
    #[must_use]
    pub fn new(origin: Origin, sort: Sort) -> Self {
        Self {
            origin,
            mode: Mode::Table,
            filter: String::new(),
            condition: String::new(),
            groups: false,
            sort,
            paused: None,
            offset: 0,
            selected: None,
            note: None,
            page: 1,
        }
    }

    /// Adapts selection and offset to the rows that are shown now, `page` at once.
    pub fn place(&mut self, snapshot: &Snapshot, page: usize) {
        self.page = page.max(1);
        let length = snapshot.length();
        if let Some((at, name)) = self.selected {
            let found = (0..length).find(|&at| snapshot.name(at) == Some(name));
            // If the flow has gone, the one in its place is selected.
            let at = found.unwrap_or_else(|| at.min(length.saturating_sub(1)));
            self.selected = snapshot.name(at).map(|name| (at, name));
        }
        if let Some((at, _)) = self.selected {
            self.offset = self.offset.clamp((at + 1).saturating_sub(self.page), at);
        }
        self.offset = self.offset.min(length.saturating_sub(self.page));
    }

    /// Returns the selected row.
    #[must_use]
    pub fn chosen<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a FlowRow> {
        let (_, RowName::Flow(name)) = self.selected? else { return None };
        snapshot.rows.iter().find(|row| row.name == name)
    }

    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent, snapshot: &Arc<Snapshot>) -> UiAction {
        self.note = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => UiAction::Quit,
                KeyCode::Char('z') => UiAction::Suspend,
                KeyCode::Char('l') => UiAction::Redraw,
                _ => UiAction::Nothing,
            };
        }
        match std::mem::take(&mut self.mode) {
            Mode::Help => UiAction::Nothing,
            Mode::Confirm(row) => match key.code {
                KeyCode::Char('y' | 'Y') => UiAction::Delete(row),
                _ => {
                    self.note = Some("nothing was deleted".into());
                    UiAction::Nothing
                }
            },
            Mode::Filter => self.filter_key(key.code),
            Mode::Condition => self.condition_key(key.code),
            Mode::Table => self.table_key(key.code, snapshot),
        }
    }

    fn filter_key(&mut self, code: KeyCode) -> UiAction {
        self.mode = Mode::Filter;
        match code {
            KeyCode::Enter => {
                self.mode = Mode::Table;
                return UiAction::Nothing;
            }
            KeyCode::Esc => {
                self.mode = Mode::Table;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if self.filter.len() < 200 => self.filter.push(letter),
            _ => return UiAction::Nothing,
        }
        self.offset = 0;
        UiAction::Filter(self.filter.clone())
    }

    fn condition_key(&mut self, code: KeyCode) -> UiAction {
        self.mode = Mode::Condition;
        match code {
            // If it is wrong, it is edited further.
            KeyCode::Enter => {
                self.mode = Mode::Table;
                return UiAction::Condition(self.condition.clone());
            }
            KeyCode::Esc => {
                self.mode = Mode::Table;
                self.condition.clear();
                return UiAction::Condition(String::new());
            }
            KeyCode::Backspace => {
                self.condition.pop();
            }
            KeyCode::Char(letter) if self.condition.len() < 2000 => self.condition.push(letter),
            _ => {}
        }
        UiAction::Nothing
    }

    fn table_key(&mut self, code: KeyCode, snapshot: &Arc<Snapshot>) -> UiAction {
        let page = self.page as isize;
        match code {
            KeyCode::Char('q') => return UiAction::Quit,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('w') => self.mode = Mode::Condition,
            KeyCode::Char(' ') => {
                let pause = self.paused.is_none();
                self.paused = pause.then(|| snapshot.clone());
                return UiAction::Pause(pause);
            }
            KeyCode::Enter => return UiAction::Refresh,
            KeyCode::Up | KeyCode::Char('k') => self.step(snapshot, -1),
            KeyCode::Down | KeyCode::Char('j') => self.step(snapshot, 1),
            KeyCode::PageUp => self.step(snapshot, -page),
            KeyCode::PageDown => self.step(snapshot, page),
            KeyCode::Home => self.step(snapshot, isize::MIN),
            KeyCode::End => self.step(snapshot, isize::MAX),
            KeyCode::Esc if self.selected.is_some() => (self.selected, self.offset) = (None, 0),
            KeyCode::Esc if !self.filter.is_empty() => {
                self.filter.clear();
                return UiAction::Filter(String::new());
            }
            KeyCode::Left => return self.sort_by(self.sort.key.moved(-1, self.groups)),
            KeyCode::Right => return self.sort_by(self.sort.key.moved(1, self.groups)),
            KeyCode::Char('r') => return self.sort_by(SortKey::Rate),
            KeyCode::Char('b') => return self.sort_by(SortKey::Bytes),
            KeyCode::Char('p') => return self.sort_by(SortKey::Packets),
            KeyCode::Char('s') => return self.sort_by(SortKey::PacketRate),
            KeyCode::Char('a') => return self.sort_by(SortKey::Age),
            KeyCode::Char('t') => return self.sort_by(SortKey::Timeout),
            KeyCode::Char('f') => return self.sort_by(SortKey::Flows),
            KeyCode::Char('i') => {
                self.sort.reverse = !self.sort.reverse;
                return UiAction::Sort(self.sort);
            }
            KeyCode::Char('d') | KeyCode::Delete => self.ask(snapshot),
            _ => {}
        }
        UiAction::Nothing
    }

    fn sort_by(&mut self, key: SortKey) -> UiAction {
        if !SortKey::of(self.groups).iter().any(|(known, _)| *known == key) {
            let of = if self.groups { "groups" } else { "flows" };
            self.note = Some(format!("{of} have no column to sort by that is called {key}"));
            return UiAction::Nothing;
        }
        self.sort = Sort { key, ..self.sort };
        UiAction::Sort(self.sort)
    }

    /// Moves the selection; the first step selects the topmost row.
    fn step(&mut self, snapshot: &Snapshot, by: isize) {
        let last = snapshot.length().saturating_sub(1);
        let at = match self.selected {
            Some((at, _)) => at.saturating_add_signed(by).min(last),
            None if by == isize::MAX => last,
            None => self.offset.min(last),
        };
        self.selected = snapshot.name(at).map(|name| (at, name));
    }

    /// Asks if the selected flow is to be deleted.
    fn ask(&mut self, snapshot: &Snapshot) {
        if self.origin == Origin::Recording {
            self.note = Some("a recording has nothing that could be deleted".into());
            return;
        }
        if self.groups {
            self.note = Some("groups cannot be deleted here; `flowgate delete --where ...` deletes their flows".into());
            return;
        }
        match self.chosen(snapshot) {
            Some(row) => self.mode = Mode::Confirm(Box::new(row.clone())),
            None => self.note = Some("select a flow first, with the arrow keys".into()),
        }
    }
}
