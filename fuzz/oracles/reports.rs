//! Arbitrary bytes as the report of a worker: reading does not panic and allocates little, and what is read is written
//! as something that is read as the same.

use std::sync::atomic::{AtomicU64, Ordering};

use flowgate_isolation::{Frame, Record};
use flowgate_worker::protocol::Report;

use super::{allocation, input::Input};

/// Bytes that reading a report may allocate in all: statistics with a histogram and a text.
const MOST: usize = 16 << 10;

/// Reports that were read, and records that were refused.
static READ: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Returns how many reports were read, and how many records were refused.
#[allow(dead_code, reason = "an engine has no use for it")]
pub(crate) fn read_so_far() -> (u64, u64) {
    (READ.load(Ordering::Relaxed), REFUSED.load(Ordering::Relaxed))
}

/// Reads the record that the input describes: a kind, and fields of all types or bytes.
///
/// # Panics
/// If one of the properties does not hold.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let mut record = Record::new(30 + input.up_to(19) as u16, 0);
    if input.one_in(4) {
        record = record.more();
    }
    let plugins = input.up_to(3) as u16;
    // Many reports have one field or none.
    let fields = input.up_to(7);
    for _ in 0..fields {
        record = match input.up_to(5) {
            0 => record.u8(input.byte()),
            1 => record.u16(input.byte().into()),
            2 => record.u32(input.bits() as u32 >> (input.byte() % 32)),
            3 => record.u64(input.bits()),
            4 => record.u16(input.bits() as u16),
            _ => {
                let length = input.up_to(40).min(input.0.len());
                let (bytes, rest) = input.0.split_at(length);
                input.0 = rest;
                record.bytes(bytes)
            }
        };
    }
    if input.one_in(3) {
        record = record.append(input.0);
    }
    let Ok(record) = record.finish() else { return };
    let frame = Frame::read(&record, 0).expect("a frame");
    allocation::begin();
    let report = Report::read(frame, plugins);
    let (_, allocated) = allocation::counted();
    assert!(allocated <= MOST, "{allocated} bytes are allocated");
    let report = match report {
        Ok(report) => report,
        Err(violation) => {
            assert!(!violation.to_string().contains(char::is_control), "{violation}");
            REFUSED.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    READ.fetch_add(1, Ordering::Relaxed);
    let write =
        |report: &Report<'_>| report.write(|kind| Record::new(kind, 0)).finish().expect("it fits into a record");
    let again = write(&report);
    let same = Report::read(Frame::read(&again, 0).expect("a frame"), plugins).expect("a report");
    assert_eq!(write(&same), again, "{report:?}");
}
