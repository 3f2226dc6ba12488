//! Numbers and marks.

use super::super::error::CliError;

/// A number at the start of a text, as strtoul(3) parses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeadingNumber {
    /// The value of the digits, u64::MAX on overflow.
    pub magnitude: u64,
    /// True if a minus sign precedes them.
    pub negative: bool,
    /// Number of bytes that belong to the number, 0 if there is none.
    pub length: usize,
}

impl LeadingNumber {
    /// Returns it as an `unsigned long`: a minus sign wraps around, an overflow stays the largest value.
    pub(crate) fn wrapping(self) -> u64 {
        if self.negative && self.magnitude != u64::MAX { self.magnitude.wrapping_neg() } else { self.magnitude }
    }

    /// Returns it as a `long`: an overflow becomes the largest or smallest value.
    fn saturating(self) -> i64 {
        let magnitude = i64::try_from(self.magnitude).unwrap_or(i64::MAX);
        match self.negative {
            true if self.magnitude > i64::MAX as u64 => i64::MIN,
            true => -magnitude,
            false => magnitude,
        }
    }
}

/// Returns true for the characters that isspace(3) accepts.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Parses a number in the given base; base 0 stands for the base of its prefix (`0x` hexadecimal, `0` octal). Blanks
/// and a sign may precede it, anything may follow.
pub(crate) fn number(text: &[u8], base: u32) -> LeadingNumber {
    let blanks = text.iter().take_while(|byte| is_space(**byte)).count();
    let signed = text.get(blanks..).unwrap_or_default();
    let negative = signed.first() == Some(&b'-');
    let sign = usize::from(matches!(signed.first(), Some(b'-' | b'+')));
    let digits = signed.get(sign..).unwrap_or_default();
    let digit = |byte: &u8, base: u32| char::from(*byte).to_digit(base);
    let (base, prefix) = match (base, digits) {
        (0, [b'0', b'x' | b'X', first, ..]) if digit(first, 16).is_some() => (16, 2),
        (0, [b'0', ..]) => (8, 0),
        (0, _) => (10, 0),
        (base, _) => (base, 0),
    };
    let mut magnitude: u64 = 0;
    let mut count = 0;
    for value in digits.get(prefix..).unwrap_or_default().iter().map_while(|byte| digit(byte, base)) {
        magnitude = magnitude.saturating_mul(u64::from(base)).saturating_add(u64::from(value));
        count += 1;
    }
    let length = if count == 0 { 0 } else { blanks + sign + prefix + count };
    LeadingNumber { magnitude, negative, length }
}

/// Maximum receive buffer in bytes: the kernel doubles it and stores it as an int.
pub const MAX_RECEIVE_BUFFER: u32 = (1 << 30) - 1;

/// The format and the range of the numbers that an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberFormat {
    /// 10, or 0 for the base of the number's prefix.
    base: u32,
    /// The largest value.
    maximum: u32,
    /// The bits that `conntrack` keeps of a larger number.
    kept: u32,
    /// The letter in the message of `conntrack`, for options with which it rejects invalid numbers.
    reject_letter: Option<char>,
}

/// A parsed number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedNumber {
    /// The value that `conntrack` uses.
    pub value: u32,
    /// True if the whole text is a number in range, without a minus sign.
    pub exact: bool,
    /// True if `conntrack` rejects it.
    pub rejected: bool,
}

impl NumberFormat {
    /// A port or an ICMP identifier: decimal.
    pub const WORD: Self = Self::loose(10, 0xffff);
    /// A GRE key: decimal, octal or hexadecimal.
    pub const KEY: Self = Self::loose(0, 0xffff);
    /// An ICMP type or code: decimal.
    pub const BYTE: Self = Self::loose(10, 0xff);
    /// A timeout in seconds, or a verification tag: decimal.
    pub const LONG: Self = Self::loose(10, u32::MAX);
    /// A size of a receive buffer in bytes: decimal.
    pub const BUFFER: Self = Self { base: 10, maximum: MAX_RECEIVE_BUFFER, kept: u32::MAX, reject_letter: None };

    const fn loose(base: u32, maximum: u32) -> Self {
        Self { base, maximum, kept: maximum, reject_letter: None }
    }

    /// A zone, of the option with this letter: decimal, octal or hexadecimal.
    pub const fn zone(letter: char) -> Self {
        Self { base: 0, maximum: 0xffff, kept: 0xffff, reject_letter: Some(letter) }
    }

    /// An id or a security mark, of the option with this letter: decimal, octal or hexadecimal.
    pub const fn id(letter: char) -> Self {
        Self { base: 0, maximum: u32::MAX, kept: u32::MAX, reject_letter: Some(letter) }
    }

    /// Returns true if the number must be decimal.
    pub fn is_decimal(self) -> bool {
        self.base == 10
    }

    /// Returns the largest value.
    pub fn maximum(self) -> u32 {
        self.maximum
    }

    /// Returns the letter in the message of `conntrack`, if it rejects invalid numbers.
    pub fn reject_letter(self) -> Option<char> {
        self.reject_letter
    }

    /// Parses any text. All numbers of options are parsed here.
    pub fn read(self, text: &[u8]) -> ParsedNumber {
        let number = number(text, self.base);
        let whole = number.length != 0 && number.length == text.len() && number.magnitude <= u64::from(self.maximum);
        let exact = whole && !number.negative;
        let rejected = self.reject_letter.is_some() && !(exact || whole && number.magnitude == 0);
        // As atol(3) for decimal numbers, as strtoul(3) for the others.
        let value = if self.base == 10 { number.saturating() as u32 } else { number.wrapping() as u32 };
        ParsedNumber { value: value & self.kept, exact, rejected }
    }
}

/// A mark and its mask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MarkValue {
    /// The values that `conntrack` uses.
    pub masked: flowgate_model::Masked,
    /// True if both are complete numbers from 0 to 4294967295.
    pub exact: bool,
}

/// Parses `MARK[/MASK]`. The mark must fit 32 bits; `conntrack` truncates the mask to 32 bits and takes an empty mask
/// for 0.
pub(crate) fn mark(text: &[u8]) -> Result<MarkValue, CliError> {
    let wrong = || CliError::UnexpectedValue { value: text.into(), option: 'm' };
    let first = number(text, 0);
    if first.length == 0 {
        return Err(wrong());
    }
    let value = u32::try_from(first.wrapping()).map_err(|_| wrong())?;
    match text.get(first.length..).unwrap_or_default() {
        [] => Ok(MarkValue { masked: flowgate_model::Masked { value, mask: u32::MAX }, exact: !first.negative }),
        [b'/', rest @ ..] => {
            let mask = number(rest, 0);
            if mask.length != rest.len() {
                return Err(wrong());
            }
            let exact = !first.negative && NumberFormat::id('m').read(rest).exact;
            Ok(MarkValue { masked: flowgate_model::Masked { value, mask: mask.wrapping() as u32 }, exact })
        }
        _ => Err(wrong()),
    }
}

/// Parses the number of a layer-4 protocol: base 0, the whole text, at most 255.
pub(crate) fn protocol_number(text: &[u8]) -> Option<u8> {
    let number = number(text, 0);
    (number.length != 0 && number.length == text.len()).then(|| u8::try_from(number.wrapping()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtoul_reads_them() {
        let read = |text: &str| {
            let number = number(text.as_bytes(), 0);
            (number.wrapping(), number.length)
        };
        assert_eq!(read("0x1Fz"), (31, 4));
        assert_eq!(read("0x"), (0, 1));
        assert_eq!(read("0755"), (493, 4));
        assert_eq!(read("09"), (0, 1));
        assert_eq!(read(" \t+7 "), (7, 4));
        assert_eq!(read("-1"), (u64::MAX, 2));
        assert_eq!(read("99999999999999999999999"), (u64::MAX, 23));
        assert_eq!(read("-99999999999999999999999"), (u64::MAX, 24));
        assert_eq!(read("abc"), (0, 0));
        assert_eq!(read("-"), (0, 0));
        assert_eq!(read(""), (0, 0));
    }

    #[test]
    fn loose_numbers_never_fail() {
        let loose = |text: &[u8]| NumberFormat::LONG.read(text).value;
        assert_eq!(loose(b"abc"), 0);
        assert_eq!(loose(b"-1"), u32::MAX);
        assert_eq!(loose(b"5x"), 5);
        assert_eq!(loose(b"010"), 10);
        assert_eq!(loose(b"4294967296"), 0);
        assert_eq!(loose(b"99999999999999999999"), u32::MAX);
        assert_eq!(loose(b"-99999999999999999999"), 0);
        assert_eq!(NumberFormat::WORD.read(b"70000").value, 4464);
        assert_eq!(NumberFormat::KEY.read(b"0x12345").value, 0x2345);
        assert_eq!(NumberFormat::BYTE.read(b"264").value, 8);
    }

    #[test]
    fn exact_numbers_take_the_whole_word_and_are_in_range() {
        let exact = |kind: NumberFormat, text: &str| {
            let reading = kind.read(text.as_bytes());
            reading.exact.then_some(reading.value)
        };
        assert_eq!(exact(NumberFormat::id('i'), "0x10"), Some(16));
        assert_eq!(exact(NumberFormat::id('i'), " 7"), Some(7));
        assert_eq!(exact(NumberFormat::zone('w'), "65535"), Some(65535));
        assert_eq!(exact(NumberFormat::WORD, "010"), Some(10));
        assert_eq!(exact(NumberFormat::KEY, "010"), Some(8));
        assert_eq!(exact(NumberFormat::LONG, "4294967295"), Some(u32::MAX));
        assert_eq!(exact(NumberFormat::BUFFER, "1073741824"), None);
        for wrong in
            ["", "abc", "5x", "-1", "-0", "65536", "99999999999999999999", "5 ", "8000-8999", "80,443", "0x10 "]
        {
            for kind in [NumberFormat::WORD, NumberFormat::KEY, NumberFormat::BYTE, NumberFormat::zone('w')] {
                assert_eq!(exact(kind, wrong), None, "{wrong}");
            }
        }
        assert_eq!(exact(NumberFormat::WORD, "0x10"), None);
    }

    #[test]
    fn marks_have_masks() {
        let masked = |value, mask, exact| Ok(MarkValue { masked: flowgate_model::Masked { value, mask }, exact });
        assert_eq!(mark(b"5"), masked(5, u32::MAX, true));
        assert_eq!(mark(b"0x10/0xf0"), masked(16, 0xf0, true));
        assert_eq!(mark(b"5/"), masked(5, 0, false));
        assert_eq!(mark(b"5/-1"), masked(5, u32::MAX, false));
        assert_eq!(mark(b"5/0x100000001"), masked(5, 1, false));
        for wrong in ["", "x", "5x", "-1", "4294967296", "5/x", "5/1x", "/5"] {
            assert!(mark(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
