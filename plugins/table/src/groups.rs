//! Results of aggregations.

use flowgate_sdk::{Cells, Groups, Page, family, query::kind, time::SECOND};

use crate::{
    Output, Table,
    delimited::{Line, end},
    sheet::{Column, Tone},
    value::{Value, duration, is_number, write_number},
};

/// The longest bar, in characters.
const BAR: u64 = 20;

impl Table {
    /// Writes a result: a row for each group, and at the end of a table the number of flows and groups.
    pub(crate) fn groups(&mut self, page: &mut Page, groups: &Groups) {
        match self.output {
            Output::Table => self.groups_table(page, groups),
            Output::Csv | Output::Tsv => self.delimited_groups(page, groups),
        }
    }

    fn delimited_groups(&mut self, page: &mut Page, groups: &Groups) {
        let tabs = self.output == Output::Tsv;
        let window = groups.until != 0;
        let errors = !groups.errors.is_empty();
        if !std::mem::replace(&mut self.begun, true) && self.sheet.header {
            let mut line = Line::new(page, &self.style, tabs);
            if window {
                line.heading("since");
                line.heading("until");
            }
            groups.columns.iter().for_each(|column| line.heading(&column.name));
            if errors {
                line.heading("errors");
            }
            end(page, tabs);
        }
        for row in 0..groups.length as usize {
            let mut line = Line::new(page, &self.style, tabs);
            if window {
                line.value(kind::TIME, &Value::Number(groups.since.into()));
                line.value(kind::TIME, &Value::Number(groups.until.into()));
            }
            for column in &groups.columns {
                line.value(column.kind, &value(column, row));
            }
            if errors {
                line.value(kind::PLAIN, &groups.errors.get(row).copied().into());
            }
            end(page, tabs);
        }
    }

    fn groups_table(&mut self, page: &mut Page, groups: &Groups) {
        let rows = groups.length as usize;
        if groups.until != 0 {
            self.style.day(page, groups.since);
            page.byte(b' ');
            self.style.clock(page, groups.since);
            page.text(b" +");
            duration(page, groups.until.saturating_sub(groups.since).saturating_add(SECOND / 2) / SECOND);
            page.byte(b'\n');
        }
        let sorting = sorting(groups);
        let columns: Vec<Column> = groups.columns.iter().map(heading).collect();
        self.sheet.columns = columns;
        let bars = self.bars && sorting.is_some();
        if let Some(sorting) = sorting.filter(|_| bars) {
            let bar = Column { rank: 1, wanted: true, ..Column::default() };
            self.sheet.columns.insert(sorting + 1, bar);
        }
        let largest = sorting
            .and_then(|at| groups.columns.get(at))
            .map_or(0.0, |column| (0..rows).filter_map(|row| amount(&value(column, row))).fold(0.0, f64::max));
        for row in 0..rows {
            for (at, column) in groups.columns.iter().enumerate() {
                let value = value(column, row);
                let error = groups.errors.get(row).filter(|error| **error > 0 && Some(at) == sorting);
                let style = &self.style;
                self.sheet.cell(Tone::Plain, |page| {
                    // A flow without a value of the key is in a group of its own.
                    match value {
                        Value::Absent => page.byte(b'-'),
                        ref value => style.write(page, column.kind, value),
                    }
                    if let Some(&error) = error {
                        page.bytes(" ±".as_bytes());
                        style.write(page, column.kind, &Value::Number(error.into()));
                    }
                });
                if bars && Some(at) == sorting {
                    self.sheet.cell(Tone::Good, |page| bar(page, amount(&value), largest));
                }
            }
        }
        self.sheet.flush(page);
        for (number, one, many) in [(groups.flows, " flow in ", " flows in "), (groups.total, " group", " groups")] {
            write_number(page, number);
            page.bytes(if number == 1 { one } else { many }.as_bytes());
        }
        if groups.total > groups.length.into() {
            page.text(b", ");
            write_number(page, groups.length.into());
            page.text(b" shown");
        }
        page.byte(b'\n');
    }
}

fn heading(column: &Cells) -> Column {
    let mut title = Page::default();
    crate::value::clean(&mut title, column.name.to_ascii_uppercase().as_bytes());
    Column {
        title: String::from_utf8_lossy(title.as_bytes()).into_owned(),
        right: is_number(column.kind),
        text: column.kind == kind::TEXT,
        wanted: true,
        ..Column::default()
    }
}

/// Returns the value of a row.
pub(crate) fn value(column: &Cells, row: usize) -> Value<'_> {
    if !column.has(row) {
        return Value::Absent;
    }
    let bits = column.bits(row);
    match column.kind {
        kind::TEXT => Value::text(column.texts.get(row)),
        kind::ADDRESS => Value::Address(bits, family::is_ipv4(bits)),
        kind::NETWORK => Value::Network(bits, family::is_ipv4(bits), column.real(row) as u8),
        kind::MEAN..=kind::BYTE_RATE => Value::Real(column.real(row)),
        _ => Value::Number(bits.cast_signed()),
    }
}

/// Returns a value as a length.
fn amount(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number as f64),
        Value::Real(real) => Some(*real),
        _ => None,
    }
}

/// Returns the first measure by which the groups are sorted in descending order, which is the one that they were asked
/// to be sorted by, or has the same order.
fn sorting(groups: &Groups) -> Option<usize> {
    let descends = |at: &usize| {
        let Some(column) = groups.columns.get(*at) else { return false };
        let mut last = f64::INFINITY;
        (0..groups.length as usize).all(|row| match amount(&value(column, row)) {
            Some(amount) => std::mem::replace(&mut last, amount) >= amount,
            // Absent values are last.
            None => {
                last = f64::NEG_INFINITY;
                true
            }
        })
    };
    (groups.keys as usize..groups.columns.len()).find(descends)
}

/// Writes a bar in eighths of a character.
fn bar(page: &mut Page, amount: Option<f64>, largest: f64) {
    let Some(amount) = amount.filter(|amount| *amount > 0.0 && largest > 0.0) else { return };
    let eighths = ((amount / largest * (BAR * 8) as f64 + 0.5) as u64).clamp(1, BAR * 8);
    for _ in 0..eighths / 8 {
        page.bytes("█".as_bytes());
    }
    let rest = (eighths % 8) as usize;
    if rest > 0 {
        page.bytes(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][rest].as_bytes());
    }
}
