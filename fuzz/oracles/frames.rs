//! Arbitrary bytes as a record of a channel: reading does not panic, returns nothing that is not in the record, and the
//! fields read are written back as the same bytes.

use flowgate_isolation::{Frame, Record, Violation};

/// A field that a reader expects, and its value.
enum Field<'a> {
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    Bytes(&'a [u8]),
}

/// Reads the record as specified by the first bytes of the input, and writes it again.
///
/// # Panics
/// If one of these properties does not hold.
pub(crate) fn run(input: &[u8]) {
    // The first byte is the number of fields to read, followed by one byte for the type of each; the rest is the
    // record.
    let Some((count, rest)) = input.split_first() else { return };
    let Some((kinds, record)) = rest.split_at_checked(usize::from(count % 16)) else { return };
    let mut record = record.to_vec();
    // Half of the records have the length that they claim, so that more than the header is read.
    if let (true, Some(place), Ok(length)) =
        (count & 0x80 == 0, record.get(4..8).map(|_| 4..8), u32::try_from(record.len()))
    {
        record.splice(place, length.to_ne_bytes());
    }
    let expected = record.get(8..16).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes);
    let frame = match Frame::read(&record, expected) {
        Ok(frame) => frame,
        Err(violation) => {
            assert!(!violation.to_string().contains(char::is_control), "{violation}");
            return;
        }
    };
    assert!(Frame::read(&record, expected.wrapping_add(1)).is_err(), "each record has one place");
    let inside = record.as_ptr_range();
    let mut body = frame.body;
    let mut read = || -> Result<Vec<Field<'_>>, Violation> {
        let mut fields = Vec::new();
        for kind in kinds {
            let most = usize::from(kind >> 3);
            fields.push(match kind & 7 {
                0 => Field::U8(body.u8()?),
                1 => Field::U16(body.u16()?),
                2 => Field::U32(body.u32()?),
                3 => Field::U64(body.u64()?),
                4 => Field::U8(body.bool()?.into()),
                5 => Field::Bytes(body.text(most)?.as_bytes()),
                _ => Field::Bytes(body.bytes(most)?),
            });
            if let Some(Field::Bytes(bytes)) = fields.last() {
                assert!(bytes.len() <= most && bytes.iter().all(|byte| inside.contains(&std::ptr::from_ref(byte))));
            }
        }
        body.end()?;
        Ok(fields)
    };
    let Ok(fields) = read() else { return };
    let again = Record::new(frame.kind, frame.sequence);
    let again = if frame.more { again.more() } else { again };
    let again = fields.iter().fold(again, |record, field| match field {
        Field::U8(value) => record.u8(*value),
        Field::U16(value) => record.u16(*value),
        Field::U32(value) => record.u32(*value),
        Field::U64(value) => record.u64(*value),
        Field::Bytes(bytes) => record.bytes(bytes),
    });
    assert_eq!(again.finish().as_deref(), Ok(&record[..]));
}
