//! Counters of the kernel.

use flowgate_sdk::{Counts, Page, query::kind, statistics};

use crate::{
    Output, Table,
    delimited::{Line, end},
    sheet::{Column, Tone},
    value::{Value, write_number},
};

impl Table {
    /// Writes counters: tables have a row for each counter with its sum and its value on each CPU, as far as there is
    /// room; CSV and TSV have a row for each CPU.
    pub(crate) fn statistics(&mut self, page: &mut Page, counts: &Counts) {
        let matrix = Matrix::new(counts);
        match self.output {
            Output::Table => self.statistics_table(page, counts, &matrix),
            Output::Csv | Output::Tsv => self.delimited_statistics(page, counts, &matrix),
        }
    }

    fn delimited_statistics(&self, page: &mut Page, counts: &Counts, matrix: &Matrix) {
        let tabs = self.output == Output::Tsv;
        let per_cpu = !counts.cpus.is_empty();
        if self.sheet.header {
            let mut line = Line::new(page, &self.style, tabs);
            if per_cpu {
                line.heading("cpu");
            }
            matrix.attributes.iter().for_each(|&attribute| line.heading(&name(counts, attribute)));
            end(page, tabs);
        }
        for (row, values) in matrix.rows().enumerate() {
            let mut line = Line::new(page, &self.style, tabs);
            if per_cpu {
                line.value(kind::PLAIN, &counts.cpus.get(row).copied().into());
            }
            for &value in values {
                line.value(kind::PLAIN, &value.into());
            }
            end(page, tabs);
        }
    }

    fn statistics_table(&mut self, page: &mut Page, counts: &Counts, matrix: &Matrix) {
        let column = |title: String, rank: u32| Column {
            right: rank > 0 || title == "TOTAL" || title == "VALUE",
            title,
            rank,
            wanted: true,
            ..Column::default()
        };
        let total = if counts.cpus.is_empty() { "VALUE" } else { "TOTAL" };
        self.sheet.columns = vec![column("COUNTER".into(), 0), column(total.into(), 0)];
        // The sum of one CPU is its value.
        let cpus = if counts.cpus.len() > 1 { counts.cpus.as_slice() } else { &[] };
        for (index, cpu) in cpus.iter().enumerate() {
            self.sheet.columns.push(column(format!("CPU {cpu}"), index as u32 + 1));
        }
        for (at, &attribute) in matrix.attributes.iter().enumerate() {
            self.sheet.cell(Tone::Plain, |page| crate::value::clean(page, name(counts, attribute).as_bytes()));
            let of_cpus = || matrix.rows().map(|values| values.get(at).copied().flatten());
            let sum = of_cpus().flatten().fold(0, u64::saturating_add);
            self.sheet.cell(Tone::Plain, |page| write_number(page, sum));
            for value in of_cpus().take(cpus.len()) {
                let value = Value::from(value);
                self.sheet.cell(Tone::Plain, |page| self.style.write(page, kind::PLAIN, &value));
            }
        }
        self.sheet.flush(page);
    }
}

/// Returns the name of a counter, or its number.
fn name(counts: &Counts, attribute: u16) -> String {
    let name = match counts.subject {
        statistics::PROC => counts.names.get(attribute.into()).map(|name| String::from_utf8_lossy(name).into_owned()),
        subject => statistics::name(subject, attribute).map(str::to_owned),
    };
    name.unwrap_or_else(|| attribute.to_string())
}

/// Counters by row, which is a CPU or the table, and attribute.
struct Matrix {
    /// The attributes in the order of their first appearance.
    attributes: Vec<u16>,
    /// The counters row by row, one for each attribute.
    values: Vec<Option<u64>>,
    rows: usize,
}

impl Matrix {
    fn new(counts: &Counts) -> Self {
        let mut attributes: Vec<u16> = Vec::new();
        // The place of each attribute among them.
        let mut places: Vec<Option<u16>> = Vec::new();
        for &attribute in &counts.attributes {
            let number = usize::from(attribute);
            if places.len() <= number {
                places.resize(number + 1, None);
            }
            if let Some(place @ None) = places.get_mut(number) {
                *place = Some(attributes.len() as u16);
                attributes.push(attribute);
            }
        }
        let rows = counts.cpus.len().max(counts.rows.last().map_or(0, |&row| row as usize + 1));
        let mut values = vec![None; rows * attributes.len()];
        for ((&row, &attribute), &value) in counts.rows.iter().zip(&counts.attributes).zip(&counts.values) {
            let place = places.get(usize::from(attribute)).copied().flatten().unwrap_or_default();
            if let Some(cell @ None) = values.get_mut(row as usize * attributes.len() + usize::from(place)) {
                *cell = Some(value);
            }
        }
        Matrix { attributes, values, rows }
    }

    /// Returns the counters of each row, in the order of the attributes.
    fn rows(&self) -> impl Iterator<Item = &[Option<u64>]> {
        let width = self.attributes.len();
        (0..self.rows).map(move |row| self.values.get(row * width..(row + 1) * width).unwrap_or_default())
    }
}
