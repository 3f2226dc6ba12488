//! Expectations as rows.

use flowgate_plugin_query::fields::event_name;
use flowgate_sdk::{
    Direction, Expectation, Expectations, Page, event, expectation_field as field, expectation_flag, family, protocol,
    query::kind,
};

use crate::{
    Output, Table,
    delimited::Line,
    field::socket,
    flow::event_tone,
    sheet::{Column, Tone},
    value::{Style, Value, address, clean, event_word},
};

/// Headings of a table, the ranks of the columns, and if they are texts.
const COLUMNS: [(&str, u32, bool); 12] = [
    ("EVENT", 0, false),
    ("PROTO", 0, false),
    ("SOURCE", 0, false),
    ("DESTINATION", 0, false),
    ("MASTER SOURCE", 4, false),
    ("MASTER DESTINATION", 5, false),
    ("HELPER", 3, true),
    ("FUNCTION", 7, true),
    ("FLAGS", 6, false),
    ("ZONE", 2, false),
    ("NOTES", 1, true),
    ("TIMEOUT", 8, false),
];

/// Headings of CSV and TSV.
const NAMES: [&str; 24] = [
    "event_name",
    "family_name",
    "protocol",
    "protocol_name",
    "timeout",
    "expected.source",
    "expected.destination",
    "expected.source_port",
    "expected.destination_port",
    "mask.source",
    "mask.destination",
    "mask.source_port",
    "mask.destination_port",
    "master.protocol",
    "master.source",
    "master.destination",
    "master.source_port",
    "master.destination_port",
    "zone",
    "flags",
    "class",
    "id",
    "helper",
    "function",
];

impl Table {
    /// Writes a batch of expectations.
    pub(crate) fn expectations(&mut self, page: &mut Page, batch: &Expectations) {
        if self.output != Output::Table {
            self.expectation_headings(page);
            for row in batch.expectations() {
                delimited(&mut Line::new(page, &self.style, self.output == Output::Tsv), &row);
                crate::delimited::end(page, self.output == Output::Tsv);
            }
            return;
        }
        if !std::mem::replace(&mut self.begun, true) {
            let column = |&(title, rank, text): &(&str, u32, bool)| Column {
                title: title.into(),
                right: matches!(title, "ZONE" | "TIMEOUT"),
                text,
                rank,
                ..Column::default()
            };
            self.sheet.columns = COLUMNS.iter().map(column).collect();
        }
        for row in batch.expectations() {
            let carried = [
                row.event() != event::NONE,
                true,
                true,
                true,
                row.has(field::MASTER),
                row.has(field::MASTER),
                row.helper().is_some(),
                row.function().is_some(),
                row.flags().is_some_and(|flags| flags != 0),
                row.zone().is_some_and(|zone| zone != 0),
                row.has(field::ANNOTATIONS),
                row.has(field::TIMEOUT),
            ];
            for (column, carried) in self.sheet.columns.iter_mut().zip(carried) {
                column.wanted |= carried;
            }
        }
        for row in batch.expectations() {
            for at in 0..COLUMNS.len() {
                if self.sheet.columns.get(at).is_some_and(|column| column.wanted) {
                    let tone = if at == 0 { event_tone(row.event()) } else { Tone::Plain };
                    let style = &self.style;
                    self.sheet.cell(tone, |page| cell(page, style, at, &row));
                }
            }
        }
        self.sheet.flush(page);
    }

    fn expectation_headings(&mut self, page: &mut Page) {
        if !std::mem::replace(&mut self.begun, true) && self.sheet.header {
            let mut line = Line::new(page, &self.style, self.output == Output::Tsv);
            NAMES.iter().for_each(|name| line.heading(name));
            crate::delimited::end(page, self.output == Output::Tsv);
        }
    }

    /// Ends the output of expectations.
    pub(crate) fn finish_expectations(&mut self) -> Vec<u8> {
        let mut page = Page::default();
        if self.output != Output::Table {
            self.expectation_headings(&mut page);
        }
        page.into_bytes()
    }
}

/// Writes a cell of a table.
fn cell(page: &mut Page, style: &Style, at: usize, row: &Expectation<'_>) {
    let master = match row.master_protocol() {
        0 => row.protocol(),
        master => master,
    };
    match at {
        0 if row.event() != event::NONE => page.bytes(event_word(row.event()).as_bytes()),
        1 if row.has(field::EXPECTED) => style.write(page, kind::PROTOCOL, &Value::Number(row.protocol().into())),
        // An address of 0.0.0.0 or :: and a port of 0 match any.
        2 if row.has(field::EXPECTED) => {
            endpoint(page, row.expected(), row.protocol(), true, row.has(field::EXPECTED_L4));
        }
        3 if row.has(field::EXPECTED) => {
            endpoint(page, row.expected(), row.protocol(), false, row.has(field::EXPECTED_L4));
        }
        4 if row.has(field::MASTER) => endpoint(page, row.master(), master, true, row.has(field::MASTER_L4)),
        5 if row.has(field::MASTER) => endpoint(page, row.master(), master, false, row.has(field::MASTER_L4)),
        6 => clean(page, row.helper().unwrap_or_default()),
        7 => clean(page, row.function().unwrap_or_default()),
        8 => {
            let start = page.len();
            let flags = row.flags().unwrap_or_default();
            for (_, name) in expectation_flag::NAMES.iter().filter(|(bit, _)| flags & bit != 0) {
                if page.len() > start {
                    page.byte(b',');
                }
                page.bytes(name.as_bytes());
            }
        }
        9 => style.write(page, kind::PLAIN, &row.zone().into()),
        10 => {
            for (index, (key, value)) in row.annotations().enumerate() {
                if index > 0 {
                    page.byte(b' ');
                }
                clean(page, key);
                page.byte(b'=');
                clean(page, value);
            }
        }
        11 => style.write(page, kind::SECONDS, &row.timeout().into()),
        _ => {}
    }
}

/// Writes one end of a tuple.
fn endpoint(page: &mut Page, of: Direction<'_>, number: u8, source: bool, with_l4: bool) {
    let (bits, word) = match source {
        true => (of.source_bits(), of.source_l4()),
        false => (of.destination_bits(), of.destination_l4()),
    };
    let ipv4 = of.family() == family::IPV4;
    // A port of 0 stands for any.
    if with_l4 && word != 0 && protocol::has_ports(number) {
        socket(page, bits, ipv4, word);
    } else {
        address(page, bits, ipv4);
    }
}

/// Writes the values of a line.
fn delimited(line: &mut Line<'_>, row: &Expectation<'_>) {
    let kind_of_event = row.event();
    let name = |name: Option<&'static str>| Value::text(name.map(str::as_bytes));
    let expected = row.has(field::EXPECTED);
    line.value(kind::TEXT, &name(Some(event_name(kind_of_event)).filter(|_| kind_of_event != event::NONE)));
    line.value(kind::TEXT, &name(family::name(row.family()).filter(|_| kind_of_event != event::GAP)));
    line.value(kind::PROTOCOL, &expected.then_some(row.protocol()).into());
    line.value(kind::TEXT, &name(protocol::name(row.protocol()).filter(|_| expected)));
    line.value(kind::SECONDS, &row.timeout().into());
    tuple(line, row.expected(), row.protocol(), expected, row.has(field::EXPECTED_L4));
    tuple(line, row.mask(), row.protocol(), row.has(field::MASK), row.has(field::MASK_L4));
    line.value(kind::PROTOCOL, &row.has(field::MASTER).then_some(row.master_protocol()).into());
    tuple(line, row.master(), row.master_protocol(), row.has(field::MASTER), row.has(field::MASTER_L4));
    line.value(kind::PLAIN, &row.zone().into());
    line.value(kind::PLAIN, &row.flags().into());
    line.value(kind::PLAIN, &row.class().into());
    line.value(kind::PLAIN, &row.id().into());
    line.value(kind::TEXT, &Value::text(row.helper()));
    line.value(kind::TEXT, &Value::text(row.function()));
}

fn tuple(line: &mut Line<'_>, of: Direction<'_>, number: u8, carried: bool, with_l4: bool) {
    let ipv4 = of.family() == family::IPV4;
    for bits in [of.source_bits(), of.destination_bits()] {
        let value = if carried { Value::Address(bits, ipv4) } else { Value::Absent };
        line.value(kind::ADDRESS, &value);
    }
    for word in [of.source_l4(), of.destination_l4()] {
        line.value(kind::PORT, &(carried && with_l4 && protocol::has_ports(number)).then_some(word).into());
    }
}
