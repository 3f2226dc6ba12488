//! Sizes and times as people write them: `64MiB`, `1500ms`.

use std::time::Duration;

/// Units of sizes, in bytes.
const SIZES: [(&str, u64); 5] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];
/// Units of times, in milliseconds.
const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// What a size looks like.
pub const SIZE: &str = "a size such as \"64MiB\" (B, KiB, MiB, GiB)";
/// What a time looks like.
pub const TIME: &str = "a time such as \"10s\" (ms, s, m, h, d)";

/// Bytes.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    number(text, &SIZES)
}

/// A time.
#[must_use]
pub fn time(text: &str) -> Option<Duration> {
    number(text, &TIMES).map(Duration::from_millis)
}

fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Bytes, in the largest unit that fits.
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

/// A time, in the largest unit that fits.
#[must_use]
pub fn show_time(time: Duration) -> String {
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
    fn sizes_and_times_have_units() {
        assert_eq!((size("64MiB"), size("1 KiB"), size("7B")), (Some(64 << 20), Some(1024), Some(7)));
        assert_eq!(
            (time("1500ms"), time("2d")),
            (Some(Duration::from_millis(1500)), Some(Duration::from_secs(172_800)))
        );
        for wrong in ["", "64", "MiB", "64mib", "-1B", "1.5MiB", "99999999999999999999B", "18446744073709551615KiB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
        assert_eq!((time("10"), time("1y")), (None, None));
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for text in ["1GiB", "64MiB", "3KiB", "1025B"] {
            assert_eq!(size(text).map(show_size).as_deref(), Some(text));
        }
        for text in ["1d", "25h", "90m", "10s", "1500ms"] {
            assert_eq!(time(text).map(show_time).as_deref(), Some(text));
        }
    }
}
