//! Numbers and flows as text of cells, for the screen and for a frame as text.

use super::{
    row::FlowRow,
    sort::{Sort, SortKey},
};
use flowgate_model::field;

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub title: &'static str,
    /// The sort key of the column.
    pub key: Option<SortKey>,
    /// True if its cells are numbers, which are aligned to the right.
    pub number: bool,
}

/// The columns.
pub const COLUMNS: [Column; 11] = [
    column("PROTO", None, false),
    column("STATE", None, false),
    column("SOURCE", None, false),
    column("DESTINATION", None, false),
    column("RATE", Some(SortKey::Rate), true),
    column("PKT/S", Some(SortKey::PacketRate), true),
    column("BYTES", Some(SortKey::Bytes), true),
    column("PACKETS", Some(SortKey::Packets), true),
    column("AGE", Some(SortKey::Age), true),
    column("TIMEOUT", Some(SortKey::Timeout), true),
    column("MARK", None, true),
];

const fn column(title: &'static str, key: Option<SortKey>, number: bool) -> Column {
    Column { title, key, number }
}

/// Returns a heading, with an arrow if the table is sorted by it.
#[must_use]
pub fn heading(column: &Column, sort: Sort) -> String {
    if column.key == Some(sort.key) {
        format!("{}{}", column.title, if sort.reverse { '▲' } else { '▼' })
    } else {
        column.title.to_owned()
    }
}

/// Returns the cells of a flow in the order of [`COLUMNS`], and then the annotations.
#[must_use]
pub fn cells(row: &FlowRow, now: u64) -> [String; COLUMNS.len() + 1] {
    let unknown = || "-".to_owned();
    let counted = |number: String| if row.is_counted() { number } else { unknown() };
    let [source, destination] = row.ends(&row.name.original);
    let notes: Vec<String> = row.notes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    [
        row.protocol(),
        row.state().to_owned(),
        source,
        destination,
        row.rate.map_or_else(unknown, |rate| format!("{}/s", bytes(rate.bytes))),
        row.rate.map_or_else(unknown, |rate| number(rate.packets)),
        counted(bytes(row.bytes as f64)),
        counted(number(row.packets as f64)),
        format!("{}{}", if row.born { "" } else { ">" }, time(row.age(now) / 1_000_000_000)),
        if row.has & field::TIMEOUT != 0 { time(row.timeout.into()) } else { unknown() },
        if row.has & field::MARK != 0 { row.mark.to_string() } else { unknown() },
        notes.join(" "),
    ]
}

/// Formats bytes in at most seven characters: `999 B`, `12.3 kB`, `1.0 GB`; units are powers of 1000.
#[must_use]
pub fn bytes(number: f64) -> String {
    let (number, unit) = scaled(number);
    if unit.is_empty() { format!("{number:.0} B") } else { format!("{number:.1} {unit}B") }
}

/// Formats a number in at most six characters: `999`, `12.3k`, `1.0M`.
#[must_use]
pub fn number(number: f64) -> String {
    let (scaled, unit) = scaled(number);
    match unit {
        "" if scaled > 0.0 && scaled < 10.0 && scaled.fract() != 0.0 => format!("{scaled:.1}"),
        "" => format!("{scaled:.0}"),
        unit => format!("{scaled:.1}{unit}"),
    }
}

fn scaled(mut number: f64) -> (f64, &'static str) {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut unit = "";
    for next in UNITS {
        unit = next;
        // Numbers above would be rounded up to 1000.
        if number < 999.95 {
            break;
        }
        if next != "E" {
            number /= 1000.0;
        }
    }
    (number, unit)
}

/// Formats seconds in at most seven characters: `59s`, `1m59s`, `3h02m`, `4d23h`, `400d`.
#[must_use]
pub fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        86_400..8_640_000 => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Formats a count in groups of three digits: `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let written: Vec<String> =
            [0.0, 999.0, 999.96, 1000.0, 12_345.0, 999_949.0, 1e9, 1.5e19].iter().map(|&n| bytes(n)).collect();
        assert_eq!(written, ["0 B", "999 B", "1.0 kB", "1.0 kB", "12.3 kB", "999.9 kB", "1.0 GB", "15.0 EB"]);
        let written: Vec<String> = [0.0, 0.25, 3.0, 99.6, 1234.0].iter().map(|&n| number(n)).collect();
        assert_eq!(written, ["0", "0.2", "3", "100", "1.2k"]);
        let written: Vec<String> = [0, 59, 119, 3661, 90_000, 8_640_000].iter().map(|&n| time(n)).collect();
        assert_eq!(written, ["0s", "59s", "1m59s", "1h01m", "1d01h", "100d"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
