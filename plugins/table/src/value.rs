//! Values as text, by their kind.

use flowgate_sdk::{
    Page, event, family, protocol,
    query::kind,
    state, status,
    text::is_hidden,
    time::{SECOND, TimeZone},
};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// None.
    Absent,
    /// A number.
    Number(i128),
    /// An address, IPv4 in its mapped form, and true for IPv4.
    Address(u128, bool),
    /// A network, as an address, and the length of its prefix.
    Network(u128, bool, u8),
    /// A mean or a rate.
    Real(f64),
    /// A text from outside.
    Text(&'a [u8]),
}

impl<T: Into<i128>> From<Option<T>> for Value<'_> {
    fn from(number: Option<T>) -> Self {
        number.map_or(Value::Absent, |number| Value::Number(number.into()))
    }
}

impl<'a> Value<'a> {
    /// Returns a text, if there is one.
    pub(crate) fn text(text: Option<&'a [u8]>) -> Self {
        text.map_or(Value::Absent, Value::Text)
    }
}

/// How values are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Style {
    /// True if sizes and times are written with units.
    pub human: bool,
    /// True if protocols, states and the like are written by name.
    pub names: bool,
    /// The zone of points in time.
    pub zone: TimeZone,
}

/// Returns true if values of a kind are aligned to the right.
pub(crate) fn is_number(of: u8) -> bool {
    !matches!(
        of,
        kind::TEXT
            | kind::ADDRESS
            | kind::NETWORK
            | kind::TIME
            | kind::PROTOCOL
            | kind::FAMILY
            | kind::EVENT
            | kind::STATUS
            | kind::STATE
    )
}

impl Style {
    /// Writes a value; nothing for an absent one. Text is cleaned.
    pub(crate) fn write(&self, page: &mut Page, of: u8, value: &Value<'_>) {
        match value {
            Value::Absent => {}
            Value::Number(number) => self.integer(page, of, *number),
            Value::Address(bits, ipv4) => address(page, *bits, *ipv4),
            Value::Network(bits, ipv4, length) => {
                address(page, *bits, *ipv4);
                page.byte(b'/');
                write_number(page, (*length).into());
            }
            Value::Real(real) => self.real(page, of, *real),
            Value::Text(text) => clean(page, text),
        }
    }

    fn integer(&self, page: &mut Page, of: u8, value: i128) {
        let positive = u64::try_from(value);
        let name = match (of, u8::try_from(value)) {
            (kind::PROTOCOL, Ok(number)) => protocol::name(number),
            (kind::FAMILY, Ok(number)) => family::name(number),
            (kind::STATE, Ok(number)) => state::name(protocol::TCP, number),
            (kind::EVENT, Ok(number)) => Some(event_word(number)),
            _ => None,
        };
        match (of, positive) {
            (kind::PROTOCOL | kind::FAMILY | kind::STATE | kind::EVENT, _) if self.names && name.is_some() => {
                page.bytes(name.unwrap_or_default().as_bytes());
            }
            (kind::BITS, Ok(bits)) if self.names => {
                page.text(b"0x");
                page.hex(bits);
            }
            (kind::STATUS, Ok(bits)) if self.names => status_words(page, bits as u32),
            (kind::BYTES, Ok(bytes)) if self.human => scaled(page, bytes),
            (kind::SECONDS, Ok(seconds)) if self.human => duration(page, seconds),
            (kind::NANOSECONDS, Ok(nanoseconds)) if self.human => {
                if nanoseconds < 60 * SECOND {
                    fraction(page, nanoseconds / 1_000_000, 3, 3);
                    page.byte(b's');
                } else {
                    duration(page, nanoseconds / SECOND);
                }
            }
            (kind::TIME, Ok(time)) if self.human => {
                self.day(page, time);
                page.byte(b' ');
                self.clock(page, time);
            }
            (_, Ok(value)) => write_number(page, value),
            (_, Err(_)) => page.integer(value),
        }
    }

    /// Writes a mean or a rate with at most three digits after the point.
    fn real(&self, page: &mut Page, of: u8, real: f64) {
        if real < 0.0 {
            page.byte(b'-');
        }
        let real = real.abs();
        match of {
            kind::BYTE_RATE | kind::MEAN_BYTES if self.human => {
                scaled(page, real as u64);
                if of == kind::BYTE_RATE {
                    page.text(b"/s");
                }
            }
            kind::RATE if self.human => {
                decimal(page, real, 1);
                page.text(b"/s");
            }
            _ => decimal(page, real, if self.human { 1 } else { 3 }),
        }
    }

    /// Writes a point in time as date.
    pub(crate) fn day(&self, page: &mut Page, time: u64) {
        let local = self.zone.local(time);
        write_number(page, local.year.unsigned_abs());
        for part in [local.month, local.day] {
            page.byte(b'-');
            page.zero_padded(part.into(), 2);
        }
    }

    /// Writes a point in time as time of day with milliseconds.
    pub(crate) fn clock(&self, page: &mut Page, time: u64) {
        let local = self.zone.local(time);
        for (part, end) in [(local.hour, b':'), (local.minute, b':'), (local.second, b'.')] {
            page.zero_padded(part.into(), 2);
            page.byte(end);
        }
        page.zero_padded(time % SECOND / 1_000_000, 3);
    }
}

/// Writes a number. Not part of its callers, of which there are many, as it is in formats that write lines.
#[inline(never)]
pub(crate) fn write_number(page: &mut Page, number: u64) {
    page.number(number);
}

/// Writes an address.
#[inline(never)]
pub(crate) fn address(page: &mut Page, bits: u128, ipv4: bool) {
    if ipv4 { page.ipv4(bits as u32) } else { page.ipv6(bits) }
}

/// Returns the word for a kind of event.
pub(crate) fn event_word(kind: u8) -> &'static str {
    match kind {
        event::NEW => "NEW",
        event::UPDATE => "UPDATE",
        event::DESTROY => "DESTROY",
        event::GAP => "GAP",
        _ => "UNKNOWN",
    }
}

/// Writes the names of status bits, with commas; 0 for none.
fn status_words(page: &mut Page, bits: u32) {
    let start = page.len();
    for (_, name) in status::NAMES.iter().filter(|(bit, _)| bits & bit != 0) {
        if page.len() > start {
            page.byte(b',');
        }
        page.bytes(name.as_bytes());
    }
    if page.len() == start {
        page.byte(b'0');
    }
}

/// Writes a number in powers of 1000, as `top` does: `999`, `12.3k`, `1.0M`.
pub(crate) fn scaled(page: &mut Page, value: u64) {
    if value < 1000 {
        write_number(page, value);
        return;
    }
    let mut tenth = 1;
    for unit in b"kMGTPE" {
        tenth *= if *unit == b'k' { 100 } else { 1000 };
        // In tenths, rounded; numbers above would be rounded up to 1000.
        let tenths = value.saturating_add(tenth / 2) / tenth;
        if tenths < 10_000 || *unit == b'E' {
            write_number(page, tenths / 10);
            page.byte(b'.');
            write_number(page, tenths % 10);
            page.byte(*unit);
            return;
        }
    }
}

/// Writes seconds: `59s`, `1m59s`, `3h02m`, `4d23h`, `400d`.
pub(crate) fn duration(page: &mut Page, seconds: u64) {
    let (large, unit, small, small_unit) = match seconds {
        0..60 => (seconds, b's', None, b's'),
        60..3600 => (seconds / 60, b'm', Some(seconds % 60), b's'),
        3600..86_400 => (seconds / 3600, b'h', Some(seconds / 60 % 60), b'm'),
        86_400..8_640_000 => (seconds / 86_400, b'd', Some(seconds / 3600 % 24), b'h'),
        _ => (seconds / 86_400, b'd', None, b'h'),
    };
    write_number(page, large);
    page.byte(unit);
    if let Some(small) = small {
        page.zero_padded(small, 2);
        page.byte(small_unit);
    }
}

/// Writes a positive real number with up to so many digits after the point.
fn decimal(page: &mut Page, real: f64, digits: u32) {
    let scale = 10_u64.pow(digits);
    // From 2^53 on there is no fraction.
    if real < 9_007_199_254_740_992.0 / 1000.0 {
        fraction(page, (real * scale as f64 + 0.5) as u64, digits, 0);
    } else {
        page.integer(real as i128);
    }
}

/// Writes a number of units of a power of ten, with at least so many digits after the point.
fn fraction(page: &mut Page, value: u64, digits: u32, least: u32) {
    let scale = 10_u64.pow(digits);
    write_number(page, value / scale);
    let mut rest = value % scale;
    let mut length = digits;
    while length > least && rest.is_multiple_of(10) {
        rest /= 10;
        length -= 1;
    }
    if length > 0 {
        page.byte(b'.');
        page.zero_padded(rest, length as usize);
    }
}

/// Writes a text from outside; invisible characters and invalid UTF-8 become `\xNN`, byte by byte.
#[inline(never)]
pub(crate) fn clean(page: &mut Page, text: &[u8]) {
    page.clean_of(text, is_hidden);
}

/// Returns the columns that a character takes up on a terminal: 2 for those of East Asian scripts and pictures, none
/// for combining marks.
fn character_width(character: char) -> usize {
    match character {
        '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// Returns the columns that a cleaned text takes up on a terminal.
pub(crate) fn width(text: &[u8]) -> usize {
    match std::str::from_utf8(text) {
        Ok(text) if !text.is_ascii() => text.chars().map(character_width).sum(),
        _ => text.len(),
    }
}

/// Returns the beginning of a cleaned text that takes up at most so many columns.
pub(crate) fn beginning(text: &[u8], columns: usize) -> &[u8] {
    let Ok(characters) = std::str::from_utf8(text) else { return text.get(..columns).unwrap_or(text) };
    let mut taken = 0;
    for (at, character) in characters.char_indices() {
        taken += character_width(character);
        if taken > columns {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}
