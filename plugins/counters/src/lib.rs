//! Stock plugin: the counters of connection tracking in the format of `conntrack -C` and `-S`: the number of entries,
//! or one line for each CPU.
//!
//! A count is hardly more than the start of the program, and loading a plugin takes longer the more it can do; this one
//! therefore does nothing else.

use flowgate_sdk::{Counts, Description, Page, Plugin, Setup, StatisticsFormat, statistics};

/// Attribute of CTA_STATS_GLOBAL_*: number of entries in the table.
const ENTRIES: u16 = 1;

/// The plugin.
pub struct Counters;

impl Plugin for Counters {
    fn describe() -> Description {
        Description::new("counters", env!("CARGO_PKG_VERSION"), "Counters as conntrack prints them")
    }

    fn configure(_setup: &Setup) -> Result<Self, String> {
        Ok(Counters)
    }
}

impl StatisticsFormat for Counters {
    fn render(&mut self, counts: &Counts) -> Vec<u8> {
        let mut page = Page::default();
        if counts.subject == statistics::GLOBAL {
            for (_, value) in counts.attributes.iter().zip(&counts.values).filter(|(of, _)| **of == ENTRIES) {
                page.number(*value);
                page.byte(b'\n');
            }
        } else {
            lines(&mut page, counts);
        }
        page.into_bytes()
    }
}

/// Writes one line for each CPU.
fn lines(page: &mut Page, counts: &Counts) {
    // By row, then by attribute: `conntrack -S` prints attributes in the order of their numbers.
    let mut values: Vec<(u32, u16, u64)> =
        counts.rows.iter().zip(&counts.attributes).zip(&counts.values).map(|((&r, &a), &v)| (r, a, v)).collect();
    values.sort_by_key(|&(row, attribute, _)| (row, attribute));
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
}

flowgate_sdk::statistics_format!(Counters);

#[cfg(test)]
mod tests {
    use super::*;

    fn render(counts: &Counts) -> String {
        String::from_utf8(Counters.render(counts)).unwrap()
    }

    #[test]
    fn the_table_is_a_number() {
        let counts = Counts {
            subject: statistics::GLOBAL,
            rows: vec![0, 0],
            attributes: vec![1, 2],
            values: vec![42, 262_144],
            ..Counts::default()
        };
        assert_eq!(render(&counts), "42\n");
    }

    #[test]
    fn each_cpu_is_a_line() {
        let counts = Counts {
            subject: statistics::CPU,
            cpus: vec![0, 12],
            rows: vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
            attributes: vec![2, 4, 8, 9, 10, 11, 12, 13, 15, 25, 14],
            values: vec![0, 0, 1, 0, 0, 0, 0, 0, 0, 7, 8],
            ..Counts::default()
        };
        assert_eq!(
            render(&counts),
            "cpu=0   \tfound=0 invalid=0 insert=1 insert_failed=0 drop=0 early_drop=0 error=0 search_restart=0 chaintoolong=0 \ncpu=12  \tclash_resolve=8 \n"
        );
        let expectations = Counts {
            subject: statistics::EXPECTATION_CPU,
            cpus: vec![1],
            rows: vec![0, 0, 0],
            attributes: vec![1, 2, 3],
            values: vec![0, 2, 1],
            ..Counts::default()
        };
        assert_eq!(render(&expectations), "cpu=1   \texpect_new=0 expect_create=2 expect_delete=1 \n");
    }
}
