//! Counters: one object for each CPU, or one for the table as a whole.

use flowgate_sdk::{Counts, Page, statistics};

use crate::value::{close, key, named, object, plain};

/// Returns the counters as text.
pub(crate) fn render(counts: &Counts) -> Vec<u8> {
    let subject = match counts.subject {
        statistics::CPU => Some("cpu"),
        statistics::EXPECTATION_CPU => Some("expectation_cpu"),
        statistics::GLOBAL => Some("table"),
        statistics::PROC => Some("proc"),
        _ => None,
    };
    let rows = counts.cpus.len().max(counts.rows.last().map_or(0, |&row| row as usize + 1));
    let mut page = Page::default();
    for row in 0..rows {
        page.text(b"{\"type\":\"statistics\",");
        named(&mut page, b"subject", counts.subject.into(), subject);
        if let Some(&cpu) = counts.cpus.get(row) {
            plain(&mut page, b"cpu", cpu.into());
        }
        object(&mut page, b"counters", |page| counters(page, counts, row as u32));
        close(&mut page, b'}');
        page.byte(b'\n');
    }
    page.into_bytes()
}

/// Writes the counters of a row; a counter without a name has its attribute's number.
fn counters(page: &mut Page, counts: &Counts, row: u32) {
    let first = counts.rows.partition_point(|&of| of < row);
    let last = counts.rows.partition_point(|&of| of <= row);
    for item in first..last {
        let (Some(&attribute), Some(&value)) = (counts.attributes.get(item), counts.values.get(item)) else { return };
        let name = match counts.subject {
            statistics::PROC => counts.names.get(attribute.into()),
            subject => statistics::name(subject, attribute).map(str::as_bytes),
        };
        match name {
            Some(name) => key(page, name),
            None => {
                page.byte(b'"');
                page.number(attribute.into());
                page.text(b"\":");
            }
        }
        page.number(value);
        page.byte(b',');
    }
}
