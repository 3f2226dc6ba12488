//! Tables for people: aligned columns that are fitted to the width of a terminal.

use flowgate_sdk::Page;

use crate::value::{beginning, width};

/// The narrowest that a text is shortened to.
const NARROWEST: usize = 8;
/// The widest that a column is padded to where the terminal sets no limit: otherwise one long text would widen every
/// line. Longer texts are printed in full then, and what follows them is not aligned.
const WIDEST: usize = 100;

/// A colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// None.
    #[default]
    Plain,
    /// Green: new or established.
    Good,
    /// Yellow: without an answer.
    Open,
    /// Red: ended.
    Ended,
    /// Dim: about to end.
    Closing,
    /// Cyan: offloaded.
    Offloaded,
    /// Magenta: lost.
    Lost,
}

impl Tone {
    fn code(self) -> &'static [u8] {
        match self {
            Tone::Plain => b"",
            Tone::Good => b"\x1b[32m",
            Tone::Open => b"\x1b[33m",
            Tone::Ended => b"\x1b[31m",
            Tone::Closing => b"\x1b[2m",
            Tone::Offloaded => b"\x1b[36m",
            Tone::Lost => b"\x1b[35m",
        }
    }
}

/// A column.
#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    /// The heading.
    pub title: String,
    /// True if cells are aligned to the right.
    pub right: bool,
    /// True if cells may be shortened.
    pub text: bool,
    /// The column with the largest rank is dropped first where there is not enough room; 0 is never dropped.
    pub rank: u32,
    /// The width that it has at least.
    pub least: usize,
    /// True if it is part of the table.
    pub wanted: bool,
    /// The widest of its cells and of its heading.
    pub natural: usize,
    /// The width that it gets; 0 if it is dropped.
    pub width: usize,
}

/// A cell: where its text ends, how wide it is, and its colour.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    end: usize,
    width: usize,
    tone: Tone,
}

/// A table under construction.
#[derive(Default)]
pub(crate) struct Sheet {
    /// All columns.
    pub columns: Vec<Column>,
    /// True if headings are printed.
    pub header: bool,
    /// The columns of the terminal; 0 if there is no limit.
    pub limit: usize,
    /// True if it is coloured.
    pub color: bool,
    /// The cells of the wanted columns, row by row.
    pub cells: Vec<Cell>,
    pub text: Page,
    /// The columns under the last line of headings.
    pub headed: Vec<usize>,
    /// True once there are widths.
    pub laid_out: bool,
}

impl Sheet {
    /// Writes the next cell; cells are written row by row, in the order of the wanted columns.
    pub(crate) fn cell(&mut self, tone: Tone, write: impl FnOnce(&mut Page)) {
        let start = self.text.len();
        write(&mut self.text);
        self.end_cell(tone, start);
    }

    #[inline(never)]
    fn end_cell(&mut self, tone: Tone, start: usize) {
        let width = width(self.text.as_bytes().get(start..).unwrap_or_default());
        self.cells.push(Cell { end: self.text.len(), width, tone });
    }

    /// Writes the rows since the last call to a page, and headings if they are needed.
    pub(crate) fn flush(&mut self, page: &mut Page) {
        let wanted: Vec<usize> = (0..self.columns.len()).filter(|&at| self.columns[at].wanted).collect();
        self.measure(&wanted);
        let shown: Vec<usize> = wanted.iter().copied().filter(|&at| self.columns[at].width > 0).collect();
        if self.header && self.headed != shown {
            self.headings(page, &shown);
        }
        self.headed = shown;
        let mut start = 0;
        for row in self.cells.chunks(wanted.len().max(1)) {
            let mut first = true;
            for (cell, &at) in row.iter().zip(&wanted) {
                let text = self.text.as_bytes().get(start..cell.end).unwrap_or_default();
                start = cell.end;
                let column = &self.columns[at];
                if column.width == 0 {
                    continue;
                }
                if !std::mem::take(&mut first) {
                    page.text(b"  ");
                }
                let shortened = self.limit > 0 && column.text && cell.width > column.width;
                let room = column.width.saturating_sub(cell.width);
                if column.right {
                    blanks(page, room);
                }
                let colored = self.color && cell.tone != Tone::Plain && !text.is_empty();
                if colored {
                    page.bytes(cell.tone.code());
                }
                if shortened {
                    page.bytes(beginning(text, column.width - 1));
                    page.bytes("…".as_bytes());
                } else {
                    page.bytes(text);
                }
                if colored {
                    page.text(b"\x1b[0m");
                }
                if !column.right {
                    blanks(page, room);
                }
            }
            // No line ends with blanks.
            let end = page.as_bytes().iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
            page.truncate(end);
            page.byte(b'\n');
        }
        self.cells.clear();
        self.text.truncate(0);
    }

    /// Makes the widths of columns large enough for the new cells, and fits them to the terminal.
    fn measure(&mut self, wanted: &[usize]) {
        let mut grown = !self.laid_out;
        let mut natural = vec![0; wanted.len()];
        for row in self.cells.chunks(wanted.len().max(1)) {
            for (cell, natural) in row.iter().zip(&mut natural) {
                *natural = cell.width.max(*natural);
            }
        }
        for (&at, natural) in wanted.iter().zip(natural) {
            let column = &mut self.columns[at];
            let heading = if self.header { width(column.title.as_bytes()) } else { 0 };
            let natural = natural.max(heading).max(column.least).max(1).min(self.limit.max(WIDEST));
            if natural > column.natural {
                column.natural = natural;
                grown = true;
            }
        }
        if !grown {
            return;
        }
        self.laid_out = true;
        for column in &mut self.columns {
            column.width = if column.wanted { column.natural } else { 0 };
        }
        if self.limit > 0 {
            self.fit(wanted);
        }
    }

    /// Fits the columns to the terminal.
    fn fit(&mut self, wanted: &[usize]) {
        loop {
            let shown = || wanted.iter().filter(|&&at| self.columns[at].width > 0);
            let total = shown().map(|&at| self.columns[at].width + 2).sum::<usize>().saturating_sub(2);
            let excess = total.saturating_sub(self.limit);
            if excess == 0 {
                self.restore(wanted, self.limit - total);
                break;
            }
            let widest = shown().copied().filter(|&at| self.columns[at].text).max_by_key(|&at| self.columns[at].width);
            if let Some(widest) = widest.filter(|&at| self.columns[at].width > NARROWEST) {
                let column = &mut self.columns[widest];
                column.width = column.width.saturating_sub(excess).max(NARROWEST);
                continue;
            }
            let least =
                shown().copied().filter(|&at| self.columns[at].rank > 0).max_by_key(|&at| self.columns[at].rank);
            let Some(least) = least else { break };
            self.columns[least].width = 0;
        }
    }

    /// Shows columns again that were left out before a wide one was, as far as there is room for them.
    fn restore(&mut self, wanted: &[usize], mut room: usize) {
        // There are few columns, and sorting them is more code than looking for the next one.
        let fits = |column: &Column, room: usize| column.width == 0 && column.natural + 2 <= room;
        while let Some(at) =
            wanted.iter().copied().filter(|&at| fits(&self.columns[at], room)).min_by_key(|&at| self.columns[at].rank)
        {
            let column = &mut self.columns[at];
            column.width = column.natural;
            room -= column.natural + 2;
        }
    }

    fn headings(&self, page: &mut Page, shown: &[usize]) {
        if self.color {
            page.text(b"\x1b[1m");
        }
        for (index, &at) in shown.iter().enumerate() {
            let column = &self.columns[at];
            let title = column.title.as_bytes();
            let title = if self.limit > 0 { beginning(title, column.width) } else { title };
            let room = column.width.saturating_sub(width(title));
            if index > 0 {
                page.text(b"  ");
            }
            if column.right {
                blanks(page, room);
            }
            page.bytes(title);
            if !column.right && index + 1 < shown.len() {
                blanks(page, room);
            }
        }
        if self.color {
            page.text(b"\x1b[0m");
        }
        page.byte(b'\n');
    }
}

fn blanks(page: &mut Page, mut count: usize) {
    while count > 0 {
        page.piece(b"                ", count);
        count = count.saturating_sub(16);
    }
}
