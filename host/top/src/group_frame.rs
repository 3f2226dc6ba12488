//! Groups as lines, for the screen and for a frame as text, and as JSON.

use super::{
    cells::{bytes, count, number},
    groups::{GroupRow, GroupTable},
    sort::{Sort, SortKey},
};

/// The columns after the keys.
const COLUMNS: [(&str, SortKey); 5] = [
    ("FLOWS", SortKey::Flows),
    ("RATE", SortKey::Rate),
    ("PKT/S", SortKey::PacketRate),
    ("BYTES", SortKey::Bytes),
    ("PACKETS", SortKey::Packets),
];
/// The columns in the order in which they are left out where there is no room.
const LEAVING: [SortKey; 4] = [SortKey::PacketRate, SortKey::Packets, SortKey::Bytes, SortKey::Rate];
/// The width to which keys are shortened before columns are left out.
const SHORTEST: usize = 15;
/// What stands for a value that is absent.
const ABSENT: &str = "-";

fn cell(row: &GroupRow, key: SortKey, counted: bool) -> String {
    let known = |text: String| if counted { text } else { ABSENT.to_owned() };
    match key {
        SortKey::Flows => count(row.flows),
        SortKey::Rate => row.rate.map_or_else(|| ABSENT.to_owned(), |rate| known(format!("{}/s", bytes(rate.bytes)))),
        SortKey::PacketRate => row.rate.map_or_else(|| ABSENT.to_owned(), |rate| known(number(rate.packets))),
        SortKey::Bytes => known(bytes(row.bytes as f64)),
        SortKey::Packets => known(number(row.packets as f64)),
        SortKey::Age | SortKey::Timeout => ABSENT.to_owned(),
    }
}

/// Returns the groups from `start` on, `length` of them, as lines, the heading first; no line is longer than `width`.
/// `counted` is true if packets are counted.
#[must_use]
pub fn lines(
    table: &GroupTable,
    (start, length): (usize, usize),
    sort: Sort,
    counted: bool,
    width: Option<usize>,
) -> Vec<String> {
    let end = start.saturating_add(length).min(table.rows.len());
    let rows = table.rows.get(start..end).unwrap_or_default();
    let arrow = if sort.reverse { '▲' } else { '▼' };
    let heading =
        |title: &str, key: SortKey| if key == sort.key { format!("{title}{arrow}") } else { title.to_owned() };
    let width_of = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max().unwrap_or_default();
    let keys: Vec<Vec<String>> = (0..table.keys.len())
        .map(|at| {
            let title = table.keys.get(at).map(|key| key.to_uppercase()).unwrap_or_default();
            let text = |row: &GroupRow| row.keys.get(at).cloned().flatten().unwrap_or_else(|| ABSENT.to_owned());
            std::iter::once(title).chain(rows.iter().map(text)).collect()
        })
        .collect();
    let mut numbers: Vec<(SortKey, Vec<String>)> = COLUMNS
        .iter()
        .map(|(title, key)| {
            let cells = rows.iter().map(|row| cell(row, *key, counted));
            (*key, std::iter::once(heading(title, *key)).chain(cells).collect())
        })
        .collect();
    let mut widths: Vec<usize> = keys.iter().map(|column| width_of(column)).collect();
    let room = width.unwrap_or(usize::MAX);
    let total = |widths: &[usize], numbers: &[(SortKey, Vec<String>)]| -> usize {
        let columns = widths.len() + numbers.len();
        widths.iter().sum::<usize>()
            + numbers.iter().map(|(_, texts)| width_of(texts)).sum::<usize>()
            + columns.saturating_sub(1)
    };
    let shorten = |widths: &mut [usize], numbers: &[(SortKey, Vec<String>)], least: usize| {
        for at in 0..widths.len() {
            let over = total(widths, numbers).saturating_sub(room);
            if let Some(width) = widths.get_mut(at) {
                *width = width.saturating_sub(over).max(least.min(*width));
            }
        }
    };
    shorten(&mut widths, &numbers, SHORTEST);
    for leaving in LEAVING {
        if total(&widths, &numbers) > room && leaving != sort.key {
            numbers.retain(|(key, _)| *key != leaving);
        }
    }
    shorten(&mut widths, &numbers, 1);
    (0..=rows.len())
        .map(|at| {
            let text = |column: &[String]| column.get(at).cloned().unwrap_or_default();
            let keys = keys.iter().zip(&widths).map(|(column, &width)| {
                let text = text(column);
                let cut = text.chars().count() > width;
                let text: String =
                    if cut { text.chars().take(width.saturating_sub(1)).chain(['…']).collect() } else { text };
                format!("{text:<width$}")
            });
            let numbers = numbers.iter().map(|(_, column)| {
                let width = width_of(column);
                format!("{:>width$}", text(column))
            });
            let line: Vec<String> = keys.chain(numbers).collect();
            line.join(" ").trim_end().to_owned()
        })
        .collect()
}

/// Returns a group as an object.
#[must_use]
pub fn object(table: &GroupTable, row: &GroupRow, counted: bool) -> serde_json::Value {
    let keys = table.keys.iter().zip(&row.keys).filter_map(|(name, key)| Some((name.clone(), key.clone()?.into())));
    let keys: serde_json::Map<String, serde_json::Value> = keys.collect();
    let mut object = serde_json::json!({ "keys": keys, "flows": row.flows });
    if counted && let Some(members) = object.as_object_mut() {
        members.insert("bytes".into(), row.bytes.into());
        members.insert("packets".into(), row.packets.into());
        if let Some(rate) = row.rate {
            members.insert("bytes_per_second".into(), rate.bytes.into());
            members.insert("packets_per_second".into(), rate.packets.into());
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Rate;

    fn table() -> GroupTable {
        let row = |source: Option<&str>, flows, rate: f64| GroupRow {
            name: flows,
            keys: vec![source.map(str::to_owned), Some("443".into())],
            flows,
            bytes: flows * 1000,
            packets: flows,
            rate: Some(Rate { bytes: rate, packets: rate / 100.0 }),
        };
        let rows = vec![row(Some("2001:db8:1:2:3:4:5:6"), 12_345, 2e6), row(None, 1, 0.0)];
        GroupTable { keys: vec!["src".into(), "dport".into()], rows }
    }

    #[test]
    fn groups_are_aligned_and_fit_the_width() {
        let sort = Sort { key: SortKey::Rate, reverse: false };
        let all = lines(&table(), (0, 10), sort, true, None);
        assert_eq!(
            all,
            [
                "SRC                  DPORT  FLOWS    RATE▼ PKT/S   BYTES PACKETS",
                "2001:db8:1:2:3:4:5:6 443   12,345 2.0 MB/s 20.0k 12.3 MB   12.3k",
                "-                    443        1    0 B/s     0  1.0 kB       1",
            ]
        );
        for width in 0..80 {
            let fitted = lines(&table(), (0, 10), sort, true, Some(width));
            let widest = fitted.iter().map(|line| line.chars().count()).max().unwrap();
            // The keys keep a character each, and the order and the number of flows stay visible.
            assert!(widest <= width.max(2 + 2 + "12,345".len() + 1 + "2.0 MB/s".len()), "{width}: {fitted:?}");
            assert!(fitted[0].contains("RATE▼") && fitted[0].contains("FLOWS"), "{width}: {fitted:?}");
        }
        let uncounted = lines(&table(), (1, 1), sort, false, None);
        assert_eq!(uncounted[1].split_whitespace().collect::<Vec<_>>(), ["-", "443", "1", "-", "-", "-", "-"]);
    }

    #[test]
    fn an_object_has_no_member_for_what_is_absent() {
        let table = table();
        let object = |counted| object(&table, &table.rows[1], counted);
        assert_eq!(object(false), serde_json::json!({ "keys": { "dport": "443" }, "flows": 1 }));
        assert_eq!(object(true)["bytes_per_second"], 0.0);
    }
}
