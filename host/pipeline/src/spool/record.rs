//! Records of a spool, as they are in a file.
//!
//! A record is the length of its content (4 bytes, little endian), a checksum (CRC-32, 4 bytes) of all that follows, an
//! epoch and a number (8 bytes each), a kind (1 byte), and its content.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::MAX_BATCH;

/// Bytes of a record besides those of its content.
pub(super) const HEADER: u64 = 25;
/// Bytes in front of those that the checksum is of.
const UNSUMMED: usize = 8;
/// Kinds of records.
const BATCH: u8 = 1;
const GAP: u8 = 2;
/// Bytes of the record of a gap.
pub(super) const GAP_RECORD: u64 = HEADER + 24;

/// What is missing at a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// At least so many batches.
    pub batches: u64,
    /// At least so many lines; 0 if that is not known.
    pub lines: u64,
    /// When the first of them was lost, in nanoseconds since 1970; 0 if that is not known.
    pub time: u64,
}

/// What there is at a place of a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A batch.
    Batch(Vec<u8>),
    /// Batches are missing here.
    Gap(Gap),
}

/// A record with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Random for each time that the spool was opened: with the number it is unique, although the numbers of records
    /// that a crash of the machine took are used again. 0 for a gap where something was damaged.
    pub epoch: u64,
    /// Its number.
    pub number: u64,
    /// What it is.
    pub record: Record,
}

/// The content of a record that is to be written.
pub(super) enum Content<'a> {
    Batch(&'a [u8]),
    Gap(Gap),
}

/// Returns a record as bytes.
pub(super) fn encode(epoch: u64, number: u64, content: &Content<'_>) -> Vec<u8> {
    let (kind, content) = match content {
        Content::Batch(bytes) => (BATCH, bytes.to_vec()),
        Content::Gap(gap) => (GAP, [gap.batches, gap.lines, gap.time].iter().flat_map(|it| it.to_le_bytes()).collect()),
    };
    let mut summed = Vec::with_capacity(content.len() + HEADER as usize);
    summed.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    summed.extend_from_slice(&[0; 4]);
    summed.extend_from_slice(&epoch.to_le_bytes());
    summed.extend_from_slice(&number.to_le_bytes());
    summed.push(kind);
    summed.extend_from_slice(&content);
    let sum = checksum(&[summed.get(UNSUMMED..).unwrap_or_default()]);
    summed.iter_mut().skip(4).zip(sum.to_le_bytes()).for_each(|(to, from)| *to = from);
    summed
}

/// Reads the record at a place of a file with this many valid bytes, and returns how long it is; `None` if there is no
/// valid one. Nothing is read with a length that has not been compared with the file's.
pub(super) fn read(file: &File, place: u64, length: u64) -> io::Result<Option<(Entry, u64)>> {
    let Some(room) = length.checked_sub(place).and_then(|left| left.checked_sub(HEADER)) else { return Ok(None) };
    let mut header = [0; HEADER as usize];
    if !read_at(file, &mut header, place)? {
        return Ok(None);
    }
    let (unsummed, summed) = header.split_at(UNSUMMED);
    let content_length = number::<4>(unsummed, 0).map_or(u64::MAX, |bytes| u32::from_le_bytes(bytes).into());
    let sum = number::<4>(unsummed, 4).map(u32::from_le_bytes);
    if content_length > room || content_length > MAX_BATCH as u64 {
        return Ok(None);
    }
    let mut content = vec![0; content_length as usize];
    if !read_at(file, &mut content, place + HEADER)? || Some(checksum(&[summed, &content])) != sum {
        return Ok(None);
    }
    let of = |bytes: &[u8], at| number::<8>(bytes, at).map(u64::from_le_bytes).unwrap_or_default();
    let record = match summed.last() {
        Some(&BATCH) => Record::Batch(content),
        Some(&GAP) if content.len() == 24 => {
            Record::Gap(Gap { batches: of(&content, 0), lines: of(&content, 8), time: of(&content, 16) })
        }
        // Of a later version.
        _ => Record::Gap(Gap { batches: 1, ..Gap::default() }),
    };
    Ok(Some((Entry { epoch: of(summed, 0), number: of(summed, 8), record }, HEADER + content_length)))
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut sum = flate2::Crc::new();
    parts.iter().for_each(|part| sum.update(part));
    sum.sum()
}

/// Fills a buffer; returns false at the end of the file.
fn read_at(file: &File, buffer: &mut [u8], place: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, place) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
