//! The frame format used on a channel.
//!
//! Each record of the socket is one frame: a 16-byte header followed by fields. Numbers are in the machine's byte
//! order, which both ends share.
//!
//! | offset | type | content |
//! |---|---|---|
//! | 0 | `u16` | kind |
//! | 2 | `u16` | flags; 1: another frame of the same message follows |
//! | 4 | `u32` | length of the record |
//! | 8 | `u64` | sequence number: 0, 1, 2 ... for each direction |
//!
//! Reading does not allocate: the values returned are slices of the record. The reader passes the maximum length that
//! it accepts for each field, and finishes with [`Body::end`], which rejects unread bytes.

/// Length of a header in bytes.
pub const HEADER: usize = 16;
/// Maximum length of a record in bytes, including the header.
pub const LONGEST: usize = 65_536;
/// Flag of a frame that is followed by another one of the same message.
const MORE: u16 = 1;

/// Why a record was rejected. Both ends are the same program, so a violation indicates a bug or an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The record is shorter than a header. An empty record looks like the end of the channel.
    #[error("a record of {0} bytes, which is shorter than a header")]
    Short(usize),
    /// The record exceeds the maximum length.
    #[error("a record of {0} bytes; {LONGEST} are the most")]
    Long(usize),
    /// The length in the header is not the length of the record.
    #[error("a record of {is} bytes that claims to have {said}")]
    Length {
        /// The length according to the header.
        said: u32,
        /// The length as received.
        is: usize,
    },
    /// The record has unknown flags.
    #[error("a record with the flags {0:#x}")]
    Flags(u16),
    /// The record is out of sequence.
    #[error("a record with the number {is} in the place of {expected}")]
    Sequence {
        /// The expected sequence number.
        expected: u64,
        /// The received sequence number.
        is: u64,
    },
    /// The kind is unknown, or not allowed here.
    #[error("a record of kind {0}, which does not belong here")]
    Kind(u16),
    /// A field extends past the end of the record.
    #[error("a field of {wanted} bytes with {left} left in the record")]
    Field {
        /// The length of the field.
        wanted: usize,
        /// The number of bytes left in the record.
        left: usize,
    },
    /// A field exceeds its maximum length.
    #[error("a field of {length} bytes; {most} are the most")]
    Excessive {
        /// The length of the field.
        length: usize,
        /// The maximum length of the field.
        most: usize,
    },
    /// A text is not UTF-8.
    #[error("a text that is not UTF-8")]
    Text,
    /// A number is outside the range of its field.
    #[error("the value {0}, which means nothing here")]
    Value(u64),
    /// Bytes are left after the last field.
    #[error("{0} bytes behind the last field")]
    Trailing(usize),
}

/// A frame parsed from a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The kind of frame; each protocol defines its own.
    pub kind: u16,
    /// True if another frame of the same message follows.
    pub more: bool,
    /// The sequence number.
    pub sequence: u64,
    /// The fields.
    pub body: Body<'a>,
}

impl<'a> Frame<'a> {
    /// Parses the header of a record, whose sequence number must be `expected`.
    ///
    /// # Errors
    /// [`Violation`] if the record is not a valid frame, or is out of sequence.
    pub fn read(record: &'a [u8], expected: u64) -> Result<Self, Violation> {
        if record.len() > LONGEST {
            return Err(Violation::Long(record.len()));
        }
        if record.len() < HEADER {
            return Err(Violation::Short(record.len()));
        }
        let mut body = Body(record);
        let (kind, flags, said, sequence) = (body.u16()?, body.u16()?, body.u32()?, body.u64()?);
        if usize::try_from(said) != Ok(record.len()) {
            return Err(Violation::Length { said, is: record.len() });
        }
        if flags & !MORE != 0 {
            return Err(Violation::Flags(flags));
        }
        if sequence != expected {
            return Err(Violation::Sequence { expected, is: sequence });
        }
        Ok(Frame { kind, more: flags & MORE != 0, sequence, body })
    }
}

/// The unread fields of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Violation::Field { wanted: N, left: self.0.len() })?;
        self.0 = rest;
        Ok(*taken)
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// [`Violation::Field`] if no byte is left. The same holds for the wider integers.
    pub fn u8(&mut self) -> Result<u8, Violation> {
        self.take().map(u8::from_ne_bytes)
    }

    /// Reads a boolean: 0 or 1.
    ///
    /// # Errors
    /// [`Violation::Value`] for any other number.
    pub fn bool(&mut self) -> Result<bool, Violation> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Violation::Value(other.into())),
        }
    }

    /// Reads a two-byte integer.
    ///
    /// # Errors
    /// [`Violation::Field`].
    pub fn u16(&mut self) -> Result<u16, Violation> {
        self.take().map(u16::from_ne_bytes)
    }

    /// Reads a four-byte integer.
    ///
    /// # Errors
    /// [`Violation::Field`].
    pub fn u32(&mut self) -> Result<u32, Violation> {
        self.take().map(u32::from_ne_bytes)
    }

    /// Reads an eight-byte integer.
    ///
    /// # Errors
    /// [`Violation::Field`].
    pub fn u64(&mut self) -> Result<u64, Violation> {
        self.take().map(u64::from_ne_bytes)
    }

    /// Reads a length-prefixed byte string of at most `most` bytes.
    ///
    /// # Errors
    /// [`Violation::Excessive`] or [`Violation::Field`].
    pub fn bytes(&mut self, most: usize) -> Result<&'a [u8], Violation> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if length > most {
            return Err(Violation::Excessive { length, most });
        }
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or(Violation::Field { wanted: length, left: self.0.len() })?;
        self.0 = rest;
        Ok(taken)
    }

    /// Reads a length-prefixed text of at most `most` bytes.
    ///
    /// # Errors
    /// The errors of [`Body::bytes`], or [`Violation::Text`].
    pub fn text(&mut self, most: usize) -> Result<&'a str, Violation> {
        std::str::from_utf8(self.bytes(most)?).map_err(|_| Violation::Text)
    }

    /// Returns the remaining bytes.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Checks that no bytes remain.
    ///
    /// # Errors
    /// [`Violation::Trailing`].
    pub fn end(self) -> Result<(), Violation> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(Violation::Trailing(left)),
        }
    }
}

/// A frame under construction.
#[derive(Clone, Debug)]
pub struct Record(Vec<u8>);

impl Record {
    /// Starts a frame.
    #[must_use]
    pub fn new(kind: u16, sequence: u64) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(0u16.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        Record(bytes)
    }

    /// Sets the flag that another frame of the same message follows.
    #[must_use]
    pub fn more(mut self) -> Self {
        self.0.splice(2..4, MORE.to_ne_bytes());
        self
    }

    /// Appends a byte.
    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Appends a boolean.
    #[must_use]
    pub fn bool(self, value: bool) -> Self {
        self.u8(value.into())
    }

    /// Appends a two-byte integer.
    #[must_use]
    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    /// Appends a four-byte integer.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    /// Appends an eight-byte integer.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    /// Appends a length-prefixed byte string.
    #[must_use]
    pub fn bytes(mut self, value: &[u8]) -> Self {
        // `finish` rejects a value that does not fit into a record.
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend_from_slice(value.get(..LONGEST).unwrap_or(value));
        self
    }

    /// Appends bytes without a length, which are the last field ([`Body::rest`]).
    #[must_use]
    pub fn append(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value.get(..LONGEST).unwrap_or(value));
        self
    }

    /// Appends a length-prefixed text, truncated to at most `most` bytes at a character boundary.
    #[must_use]
    pub fn text(self, value: &str, most: usize) -> Self {
        let mut end = value.len().min(most);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes(value.get(..end).unwrap_or_default().as_bytes())
    }

    /// Returns the finished record.
    ///
    /// # Errors
    /// [`Violation::Long`] if it exceeds the maximum length of a record.
    pub fn finish(mut self) -> Result<Vec<u8>, Violation> {
        let length = u32::try_from(self.0.len()).ok().filter(|_| self.0.len() <= LONGEST);
        let length = length.ok_or(Violation::Long(self.0.len()))?;
        self.0.splice(4..8, length.to_ne_bytes());
        Ok(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a generator of pseudo-random numbers (SplitMix64).
    fn numbers(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }

    fn record() -> Vec<u8> {
        Record::new(7, 3).u8(1).u16(2).u32(3).u64(4).bytes(b"five").text("s\u{e9}chs", 100).bool(true).finish().unwrap()
    }

    /// Reads back the fields written by `record`.
    fn read(record: &[u8]) -> Result<(), Violation> {
        let frame = Frame::read(record, 3)?;
        let mut body = frame.body;
        let _ = (body.u8()?, body.u16()?, body.u32()?, body.u64()?);
        let _ = (body.bytes(4)?, body.text(100)?, body.bool()?);
        body.end()
    }

    #[test]
    fn what_is_written_is_read() {
        let record = record();
        let frame = Frame::read(&record, 3).unwrap();
        assert_eq!((frame.kind, frame.more, frame.sequence), (7, false, 3));
        let mut body = frame.body;
        assert_eq!((body.u8(), body.u16(), body.u32(), body.u64()), (Ok(1), Ok(2), Ok(3), Ok(4)));
        assert_eq!((body.bytes(4), body.text(100), body.bool()), (Ok(&b"five"[..]), Ok("s\u{e9}chs"), Ok(true)));
        assert_eq!(body.end(), Ok(()));
        let more = Record::new(1, 0).more().finish().unwrap();
        assert!(Frame::read(&more, 0).unwrap().more);
    }

    #[test]
    fn a_text_is_cut_at_the_end_of_a_character() {
        for (most, cut) in [(0, ""), (1, "a"), (2, "a"), (3, "a\u{e9}"), (9, "a\u{e9}b")] {
            let record = Record::new(1, 0).text("a\u{e9}b", most).finish().unwrap();
            assert_eq!(Frame::read(&record, 0).unwrap().body.text(9), Ok(cut), "{most}");
        }
    }

    #[test]
    fn a_record_has_a_longest_length_in_both_directions() {
        let longest = vec![0; LONGEST - HEADER - 4];
        assert_eq!(Record::new(1, 0).bytes(&longest).finish().unwrap().len(), LONGEST);
        let longer = vec![0; LONGEST - HEADER - 3];
        assert_eq!(Record::new(1, 0).bytes(&longer).finish(), Err(Violation::Long(LONGEST + 1)));
        assert!(Record::new(1, 0).bytes(&vec![0; 10 * LONGEST]).finish().is_err());
        assert_eq!(Frame::read(&vec![0; LONGEST + 1], 0), Err(Violation::Long(LONGEST + 1)));
    }

    #[test]
    fn what_is_no_frame_is_named() {
        let good = record();
        for length in 0..HEADER {
            assert_eq!(read(&good[..length]), Err(Violation::Short(length)));
        }
        assert!(matches!(read(&good[..HEADER]), Err(Violation::Length { .. })));
        assert!(matches!(read(&[&good[..], &[0]].concat()), Err(Violation::Length { .. })));
        assert_eq!(Frame::read(&good, 4), Err(Violation::Sequence { expected: 4, is: 3 }));
        let mut flags = good.clone();
        flags[2] = 3;
        assert_eq!(read(&flags), Err(Violation::Flags(3)));
        let trailing = Record::new(1, 0).u8(0).finish().unwrap();
        assert_eq!(Frame::read(&trailing, 0).unwrap().body.end(), Err(Violation::Trailing(1)));
    }

    #[test]
    fn lengths_of_fields_are_bounded_before_they_are_believed() {
        let lie = Record::new(1, 0).u32(u32::MAX).u8(0).finish().unwrap();
        let (mut short, mut long) = (Frame::read(&lie, 0).unwrap().body, Frame::read(&lie, 0).unwrap().body);
        assert!(matches!(short.bytes(10), Err(Violation::Excessive { most: 10, .. })));
        assert!(matches!(long.bytes(usize::MAX), Err(Violation::Field { left: 1, .. })));
        let bytes = Record::new(1, 0).bytes(&[0xff, 0xfe]).finish().unwrap();
        assert_eq!(Frame::read(&bytes, 0).unwrap().body.text(10), Err(Violation::Text));
        let two = Record::new(1, 0).u8(2).finish().unwrap();
        assert_eq!(Frame::read(&two, 0).unwrap().body.bool(), Err(Violation::Value(2)));
    }

    /// A record with any one byte changed, and any random bytes, are either parsed or rejected.
    #[test]
    fn no_bytes_make_it_panic() {
        let (good, mut next) = (record(), numbers(1));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut changed = good.clone();
                changed[at] ^= 1 << bit;
                let _ = read(&changed);
            }
        }
        for _ in 0..20_000 {
            let length = usize::try_from(next() % 80).unwrap();
            let mut bytes: Vec<u8> = (0..length).map(|_| next().to_ne_bytes()[0] >> (next() % 8)).collect();
            if let (Some(place), Ok(length)) = (bytes.get_mut(4..8), u32::try_from(length)) {
                place.copy_from_slice(&length.to_ne_bytes());
            }
            let _ = read(&bytes);
        }
    }

    /// Fields are read back unchanged, in order, with nothing left over.
    #[test]
    fn fields_come_back_as_they_were() {
        let mut next = numbers(2);
        for _ in 0..2000 {
            let kinds: Vec<u64> = (0..next() % 20).map(|_| next() % 5).collect();
            let values: Vec<u64> = kinds.iter().map(|_| next()).collect();
            let mut record = Record::new(9, 5);
            for (kind, value) in kinds.iter().zip(&values) {
                let bytes = value.to_ne_bytes();
                record = match kind {
                    0 => record.u8(bytes[0]),
                    1 => record.u16(u16::from_ne_bytes([bytes[0], bytes[1]])),
                    2 => record.u32(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
                    3 => record.u64(*value),
                    _ => record.bytes(&bytes[..usize::from(bytes[0] % 9)]),
                };
            }
            let record = record.finish().unwrap();
            let mut body = Frame::read(&record, 5).unwrap().body;
            for (kind, value) in kinds.iter().zip(&values) {
                let bytes = value.to_ne_bytes();
                match kind {
                    0 => assert_eq!(body.u8(), Ok(bytes[0])),
                    1 => assert_eq!(body.u16(), Ok(u16::from_ne_bytes([bytes[0], bytes[1]]))),
                    2 => assert_eq!(body.u32(), Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))),
                    3 => assert_eq!(body.u64(), Ok(*value)),
                    _ => assert_eq!(body.bytes(8), Ok(&bytes[..usize::from(bytes[0] % 9)])),
                }
            }
            assert_eq!(body.end(), Ok(()));
        }
    }
}
