//! Sizes and times in options and files: `64MiB`, `1500ms`.
//!
//! A size is a number and a unit; without a unit it is in bytes. `k` (or `K`), `M`, `G` and `T`, and the same with
//! `iB`, are powers of 1024; `kB` (or `KB`), `MB`, `GB` and `TB` are powers of 1000; `B` is a byte. A time is in
//! seconds without a unit; the units are `ms`, `s`, `m`, `h` and `d`. The number may have a fraction (`1.5MiB`) if the
//! result is a whole number of bytes, and a space may precede the unit.

use std::time::Duration;

/// Units of sizes, in bytes.
const SIZES: [(&str, u64); 16] = [
    ("", 1),
    ("B", 1),
    ("k", 1 << 10),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("KB", 1_000),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("T", 1 << 40),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
];
/// Units of times, in milliseconds.
const TIMES: [(&str, u64); 6] =
    [("", 1000), ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Describes the syntax of a size, for messages.
pub const SIZE: &str = "a size such as \"64MiB\" (bytes without a unit; B, k, M, G, T or KiB, MiB, GiB, TiB)";
/// Describes the syntax of a time, for messages.
pub const TIME: &str = "a time such as \"10s\" (seconds without a unit; ms, s, m, h, d)";
/// The grammar of both, for the manual page.
pub const GRAMMAR: [&str; 2] = [
    "A size is in bytes without a unit. *k*, *M*, *G*, *T* and *KiB*, *MiB*, *GiB*, *TiB* are powers of 1024; *kB*, *MB*, *GB*, *TB* \
     are powers of 1000; *B* is a byte.",
    "A time is in seconds without a unit; the units are *ms*, *s*, *m*, *h* and *d*. Numbers may have a fraction: *1.5MiB*, *0.5s*.",
];
/// Regular expression of a size, for editors.
pub const SIZE_PATTERN: &str = r"^[0-9]+(\.[0-9]+)? *([kKMGT]|[kKMGT]?B|[KMGT]iB)?$";
/// Regular expression of a time, for editors.
pub const TIME_PATTERN: &str = r"^[0-9]+(\.[0-9]+)? *(ms|s|m|h|d)?$";

/// Parses a size and returns its number of bytes.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    match split(text, &SIZES)? {
        (Number::Whole(number), unit) => number.checked_mul(unit),
        (Number::Fraction(number), unit) => {
            let bytes = number * unit as f64;
            // Above this, not every integer can be represented.
            const EXACT: f64 = (1u64 << 53) as f64;
            (bytes.fract() == 0.0 && bytes <= EXACT).then_some(bytes as u64)
        }
    }
}

/// Parses a time, which is limited to 64 bits of milliseconds.
#[must_use]
pub fn time(text: &str) -> Option<Duration> {
    let most = Duration::from_millis(u64::MAX);
    match split(text, &TIMES)? {
        (Number::Whole(number), unit) => number.checked_mul(unit).map(Duration::from_millis),
        (Number::Fraction(number), unit) => {
            Duration::try_from_secs_f64(number * unit as f64 / 1000.0).ok().filter(|time| *time <= most)
        }
    }
}

/// Parses a time of whole seconds, as the kernel has them.
#[must_use]
pub fn seconds(text: &str) -> Option<u32> {
    let time = time(text).filter(|time| time.subsec_nanos() == 0)?;
    u32::try_from(time.as_secs()).ok()
}

/// Parses a minimum and a maximum in seconds, separated by two dots: `1..3600`, `1m..1h`. A missing bound is that of
/// `open`.
#[must_use]
pub fn range_of_seconds(text: &str, open: Option<(u32, u32)>) -> Option<(u32, u32)> {
    let (least, most) = text.split_once("..")?;
    let bound = |text: &str, open: Option<u32>| if text.is_empty() { open } else { seconds(text) };
    let least = bound(least.trim(), open.map(|(least, _)| least))?;
    let most = bound(most.trim(), open.map(|(_, most)| most))?;
    (least <= most).then_some((least, most))
}

/// A number that is not negative.
enum Number {
    Whole(u64),
    Fraction(f64),
}

/// Splits a text into the number at its beginning and the factor of its unit.
fn split(text: &str, units: &[(&str, u64)]) -> Option<(Number, u64)> {
    let unit = text.find(|letter: char| !matches!(letter, '0'..='9' | '.' | '+' | '-' | 'e')).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(unit)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    let number = match number.parse::<u64>() {
        Ok(number) => Number::Whole(number),
        Err(_) => {
            Number::Fraction(number.parse::<f64>().ok().filter(|number| *number >= 0.0 && !number.is_sign_negative())?)
        }
    };
    Some((number, *factor))
}

/// Formats bytes in the largest unit that fits.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    match bytes {
        0 => "0B".into(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => format!("{bytes}B"),
    }
}

/// Formats a time in the largest unit that fits.
#[must_use]
pub fn show_time(time: Duration) -> String {
    let nanoseconds = time.as_nanos();
    if !nanoseconds.is_multiple_of(1_000_000) {
        return format!("{}ms", nanoseconds as f64 / 1e6);
    }
    let milliseconds = time.as_millis();
    for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if milliseconds > 0 && milliseconds.is_multiple_of(factor) {
            return format!("{}{unit}", milliseconds / factor);
        }
    }
    format!("{milliseconds}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_or_are_bytes() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1 KiB", 1024),
            ("7B", 7),
            ("7", 7),
            ("0", 0),
            ("64k", 64 << 10),
            ("64K", 64 << 10),
            ("64kB", 64_000),
            ("64KB", 64_000),
            ("10M", 10 << 20),
            ("10MB", 10_000_000),
            ("2G", 2 << 30),
            ("1T", 1 << 40),
            ("3TiB", 3 << 40),
            ("1.5MiB", 3 << 19),
            ("1.5k", 1536),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for wrong in [
            "",
            "MiB",
            "64mib",
            "64m",
            "64Kib",
            "64E",
            "5e",
            "-1B",
            "-0",
            "1.5B",
            "0.3k",
            "1..2k",
            "1,5M",
            "inf",
            "nan",
            " 1k",
            "1k ",
            "1\tk",
            "0x10",
            "99999999999999999999B",
            "18446744073709551615KiB",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_have_units_or_are_seconds() {
        for (text, milliseconds) in [
            ("1500ms", 1500),
            ("2d", 172_800_000),
            ("10", 10_000),
            ("0.5", 500),
            ("1.5h", 5_400_000),
            ("2 m", 120_000),
            ("18446744073709551615ms", u64::MAX),
        ] {
            assert_eq!(time(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(time("0.25ms"), Some(Duration::from_micros(250)));
        for wrong in ["", "s", "1y", "1w", "1min", "-1", "-0s", "nan", "inf", "1 2s", "1e30", "18446744073709551615s"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_kernels_times_are_whole_seconds() {
        assert_eq!((seconds("600"), seconds("10m"), seconds("4294967295")), (Some(600), Some(600), Some(u32::MAX)));
        assert_eq!((seconds("0.5"), seconds("500ms"), seconds("4294967296")), (None, None, None));
        assert_eq!(range_of_seconds("1..3600", None), Some((1, 3600)));
        assert_eq!(range_of_seconds("1m .. 1h", None), Some((60, 3600)));
        assert_eq!(range_of_seconds("..1h", Some((0, 9))), Some((0, 3600)));
        assert_eq!(range_of_seconds("5s..", Some((0, 9))), Some((5, 9)));
        for wrong in ["", "5", "9..1", "..", "1..x", "1...5", "5s.."] {
            assert_eq!(range_of_seconds(wrong, None), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for text in ["1GiB", "64MiB", "3KiB", "1025B"] {
            assert_eq!(size(text).map(show_size).as_deref(), Some(text));
        }
        for text in ["1d", "25h", "90m", "10s", "1500ms", "0.25ms", "0ms"] {
            assert_eq!(time(text).map(show_time).as_deref(), Some(text));
        }
    }
}
