//! The text of a batch under construction: a buffer optimised for short pieces.
//!
//! A `Vec<u8>` keeps its length in memory and copies every short text by a call, which in WebAssembly costs more than
//! the text itself. A page writes pieces of fixed size past its end and then moves the end by the actual length: a few
//! instructions each, and none of them unsafe. For the best code, keep the page in a local variable and pass it to
//! functions by value.

use crate::text::{COLONS, colons, digits, quad};

/// Text under construction.
#[derive(Default)]
pub struct Page {
    /// Zeros, or what was written past the end, from `end` on.
    bytes: Vec<u8>,
    end: usize,
}

impl Page {
    /// Makes an empty page with room for `bytes` bytes; it grows if they do not suffice.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Page { bytes: vec![0; bytes], end: 0 }
    }

    /// Returns the text.
    #[must_use]
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.end);
        self.bytes
    }

    /// Returns the text so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.end).unwrap_or_default()
    }

    /// Returns the number of bytes written.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.end
    }

    /// Returns true if nothing was written.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Removes everything after the first `length` bytes.
    #[inline(always)]
    pub fn truncate(&mut self, length: usize) {
        self.end = self.end.min(length);
    }

    /// Writes a short text whose length is known to the compiler.
    #[inline(always)]
    pub fn text<const N: usize>(&mut self, text: &[u8; N]) {
        self.piece(text, N);
    }

    /// Writes the first `length` bytes of a short text.
    #[inline(always)]
    pub fn piece<const N: usize>(&mut self, text: &[u8; N], length: usize) {
        match self.bytes.get_mut(self.end..self.end + N) {
            Some(place) => place.copy_from_slice(text),
            None => self.bytes = grown(std::mem::take(&mut self.bytes), self.end, text),
        }
        self.end += length.min(N);
    }

    /// Writes one byte.
    #[inline(always)]
    pub fn byte(&mut self, byte: u8) {
        self.text(&[byte]);
    }

    /// Writes a text of any length.
    pub fn bytes(&mut self, text: &[u8]) {
        match self.bytes.get_mut(self.end..self.end + text.len()) {
            Some(place) => place.copy_from_slice(text),
            None => self.bytes = grown(std::mem::take(&mut self.bytes), self.end, text),
        }
        self.end += text.len();
    }

    /// Returns the last byte; `None` on an empty page.
    #[inline(always)]
    #[must_use]
    pub fn last(&self) -> Option<u8> {
        self.bytes.get(self.end.wrapping_sub(1)).copied()
    }

    /// Replaces the last byte; does nothing on an empty page.
    #[inline(always)]
    pub fn replace_last(&mut self, byte: u8) {
        if let Some(last) = self.bytes.get_mut(self.end.wrapping_sub(1)) {
            *last = byte;
        }
    }

    /// Writes an unsigned number in decimal.
    #[inline(always)]
    pub fn number(&mut self, number: u64) {
        if number < 100_000_000 {
            self.digits(digits(number as u32));
        } else {
            let (high, low) = (number / 100_000_000, (number % 100_000_000) as u32);
            if high < 100_000_000 {
                self.digits(digits(high as u32));
            } else {
                self.digits(digits((high / 100_000_000) as u32));
                self.eight((high % 100_000_000) as u32);
            }
            self.eight(low);
        }
    }

    #[inline(always)]
    fn digits(&mut self, text: u64) {
        self.piece(&text.to_le_bytes(), 8 - (text.leading_zeros() / 8) as usize);
    }

    /// Writes eight digits of a number below 10^8, with leading zeros.
    #[inline]
    fn eight(&mut self, number: u32) {
        let text = digits(number);
        let missing = text.leading_zeros() & !7;
        let zeros = 0x3030_3030_3030_3030u64;
        let text = if missing == 0 { text } else { (text << missing) | (zeros >> (64 - missing)) };
        self.text(&text.to_le_bytes());
    }

    /// Writes a number with leading zeros up to a width of at most 8 digits; a longer number is written in full.
    pub fn zero_padded(&mut self, number: u64, width: usize) {
        if number < 100_000_000 {
            let length = 8 - (digits(number as u32).leading_zeros() / 8) as usize;
            for _ in length..width {
                self.byte(b'0');
            }
        }
        self.number(number);
    }

    /// Writes a signed number of any size.
    #[inline(never)]
    pub fn integer(&mut self, number: i128) {
        if number < 0 {
            self.byte(b'-');
        }
        let (high, low) = (number.unsigned_abs() / 1_000_000_000, (number.unsigned_abs() % 1_000_000_000) as u64);
        if high == 0 {
            self.number(low);
            return;
        }
        self.integer(high.cast_signed());
        self.zero_padded(low / 10, 8);
        self.number(low % 10);
    }

    /// Writes an unsigned number in lower-case hexadecimal without a prefix.
    pub fn hex(&mut self, number: u64) {
        let mut shift = (63 - (number | 1).leading_zeros()) / 4 * 4;
        loop {
            self.byte(b"0123456789abcdef"[(number >> shift & 15) as usize]);
            if shift == 0 {
                break;
            }
            shift -= 4;
        }
    }

    /// Writes a byte as two hexadecimal digits.
    pub fn hex_byte(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.text(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }

    /// Writes an IPv4 address in dotted-quad form.
    #[inline(always)]
    pub fn ipv4(&mut self, address: u32) {
        let (first, second) = (quad((address >> 16) as u16), quad(address as u16));
        self.digits(first);
        self.digits(second);
        self.end -= 1;
    }

    /// Writes an IPv6 address as `inet_ntop` does (RFC 5952, with dotted-quad tails of mapped and compatible
    /// addresses).
    #[inline(always)]
    pub fn ipv6(&mut self, address: u128) {
        let mut text = [0; COLONS];
        let length = colons(address, &mut text);
        self.piece(&text, length);
    }

    /// Writes a foreign text so that it is safe for terminals: control characters and invalid UTF-8 become `\xNN`.
    #[inline(never)]
    pub fn clean(&mut self, text: &[u8]) {
        self.clean_of(text, char::is_control);
    }

    /// Writes a foreign text as [`clean`](Self::clean) does, and escapes the characters for which `hidden` returns
    /// true; those from space to tilde are never escaped.
    pub fn clean_of(&mut self, text: &[u8], hidden: impl Fn(char) -> bool) {
        if text.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            self.bytes(text);
            return;
        }
        for chunk in text.utf8_chunks() {
            for c in chunk.valid().chars() {
                let mut utf8 = [0; 4];
                let utf8 = c.encode_utf8(&mut utf8).as_bytes();
                if hidden(c) { self.escaped(utf8) } else { self.bytes(utf8) }
            }
            self.escaped(chunk.invalid());
        }
    }

    fn escaped(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.text(b"\\x");
            self.hex_byte(byte);
        }
    }

    /// Writes a text as a JSON string (RFC 8259) in quotes; invalid UTF-8 becomes U+FFFD, and control characters (also
    /// DEL and U+0080 to U+009F, which terminals interpret) are escaped.
    #[inline(never)]
    pub fn json(&mut self, text: &[u8]) {
        self.byte(b'"');
        if text.iter().all(|byte| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\')) {
            self.bytes(text);
        } else {
            for chunk in text.utf8_chunks() {
                for c in chunk.valid().chars() {
                    self.json_char(c);
                }
                if !chunk.invalid().is_empty() {
                    self.bytes("\u{fffd}".as_bytes());
                }
            }
        }
        self.byte(b'"');
    }

    fn json_char(&mut self, c: char) {
        match c {
            '"' => self.text(b"\\\""),
            '\\' => self.text(b"\\\\"),
            '\n' => self.text(b"\\n"),
            '\r' => self.text(b"\\r"),
            '\t' => self.text(b"\\t"),
            c if c.is_control() => {
                // All of them are below U+0100.
                self.text(b"\\u00");
                self.hex_byte(c as u8);
            }
            c => self.bytes(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }

    /// Writes a key or a value of `key=value`: unchanged, or as a JSON string if blanks, quotes, `=`, control
    /// characters or invalid UTF-8 would make it ambiguous.
    #[inline(never)]
    pub fn word(&mut self, text: &[u8]) {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\'' | '=');
        match std::str::from_utf8(text) {
            Ok(word) if !word.is_empty() && word.chars().all(plain) => self.bytes(text),
            _ => self.json(text),
        }
    }
}

/// Returns the bytes with room for the text, and the text at `end`.
#[cold]
#[inline(never)]
fn grown(mut bytes: Vec<u8>, end: usize, text: &[u8]) -> Vec<u8> {
    let least = end + text.len();
    bytes.resize((bytes.len() * 2).max(least + 256), 0);
    if let Some(place) = bytes.get_mut(end..least) {
        place.copy_from_slice(text);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Page)) -> String {
        let mut page = Page::default();
        write(&mut page);
        String::from_utf8(page.into_bytes()).unwrap()
    }

    #[test]
    fn numbers() {
        let mut number = 1u64;
        for _ in 0..64 {
            for n in [number, number - 1, number + 1, !number, number.wrapping_mul(0x9e37_79b9_7f4a_7c15)] {
                assert_eq!(text(|p| p.number(n)), n.to_string());
                assert_eq!(text(|p| p.hex(n)), format!("{n:x}"));
            }
            number <<= 1;
        }
        let mut ten = 1u64;
        for _ in 0..20 {
            for n in [ten - 1, ten, ten + 1] {
                assert_eq!(text(|p| p.number(n)), n.to_string());
                assert_eq!(text(|p| p.zero_padded(n, 6)), format!("{n:06}"));
                assert_eq!(text(|p| p.zero_padded(n, 8)), format!("{n:08}"));
            }
            ten = ten.wrapping_mul(10);
        }
    }

    #[test]
    fn integers_have_any_size() {
        for number in [0, 7, -1, 999_999_999, 1_000_000_000, -1_000_000_007, 10_i128.pow(27), i128::MAX, i128::MIN] {
            assert_eq!(text(|p| p.integer(number)), number.to_string());
        }
    }

    #[test]
    fn foreign_text_is_cleaned() {
        assert_eq!(text(|p| p.clean(b"ftp")), "ftp");
        assert_eq!(text(|p| p.clean("h\u{e9}\u{1b}[2J\u{9b}".as_bytes())), "h\u{e9}\\x1b[2J\\xc2\\x9b");
        assert_eq!(text(|p| p.clean(b"a\xffb")), "a\\xffb");
        assert_eq!(text(|p| p.json(b"a\"b\\c\n\x01\x7f\xff")), "\"a\\\"b\\\\c\\n\\u0001\\u007f\u{fffd}\"");
        assert_eq!(text(|p| p.word(b"DE")), "DE");
        for odd in ["", "a b", "a=b", "say \"x\"", "it's", "\u{1b}[0m"] {
            assert!(text(|p| p.word(odd.as_bytes())).starts_with('"'), "{odd:?}");
        }
        assert_eq!(text(|p| p.word(b"\xfe")), "\"\u{fffd}\"");
    }

    #[test]
    fn pages_grow() {
        let long = "x".repeat(5000);
        let page = text(|p| {
            for _ in 0..3 {
                p.bytes(long.as_bytes());
                p.number(7);
                p.ipv4(0x0102_0304);
                p.text(b" ");
            }
            p.replace_last(b'\n');
        });
        assert_eq!(page, format!("{long}71.2.3.4 {long}71.2.3.4 {long}71.2.3.4\n"));
    }
}
