//! Counters: one line for each CPU, or the number of entries.

use flowgate_sdk::{Counts, Page, statistics};

/// Attribute of CTA_STATS_GLOBAL_*: how many entries the table holds.
const ENTRIES: u16 = 1;

/// The counters as text.
pub fn render(counts: &Counts) -> Vec<u8> {
    let mut page = Page::default();
    // By row, then by attribute: the order of `conntrack -S` is that of the attributes' numbers.
    let mut values: Vec<(u32, u16, u64)> =
        counts.rows.iter().zip(&counts.attributes).zip(&counts.values).map(|((&r, &a), &v)| (r, a, v)).collect();
    values.sort_by_key(|&(row, attribute, _)| (row, attribute));
    if counts.subject == statistics::GLOBAL {
        for (_, _, value) in values.iter().filter(|&&(_, attribute, _)| attribute == ENTRIES) {
            page.number(*value);
            page.byte(b'\n');
        }
        return page.into_bytes();
    }
    let mut values = values.into_iter().peekable();
    for (row, &cpu) in counts.cpus.iter().enumerate() {
        page.text(b"cpu=");
        let start = page.len();
        page.number(cpu.into());
        while page.len() < start + 4 {
            page.byte(b' ');
        }
        page.byte(b'\t');
        while let Some((_, attribute, value)) = values.next_if(|&(of, ..)| of as usize <= row) {
            let name = match counts.subject {
                statistics::PROC => counts.names.get(attribute.into()),
                subject => statistics::name(subject, attribute).map(str::as_bytes),
            };
            if let Some(name) = name {
                page.bytes(name);
                page.byte(b'=');
                page.number(value);
                page.byte(b' ');
            }
        }
        page.byte(b'\n');
    }
    page.into_bytes()
}
