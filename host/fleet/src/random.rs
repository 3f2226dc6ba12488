//! Random numbers: ids that nobody can guess, and jitter.

use std::time::Duration;

/// Returns random bytes of the kernel.
///
/// # Panics
/// If the kernel has none, which it has since it was started.
#[must_use]
#[allow(clippy::expect_used, reason = "nothing can go on without: ids would be guessed")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel has random numbers");
    bytes
}

/// Returns an id of 32 hexadecimal digits, which nobody can guess.
#[must_use]
pub fn id() -> String {
    hex(&bytes::<16>())
}

/// Returns bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the bytes of hexadecimal digits; `None` if it has others.
#[must_use]
pub fn of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<u8> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// Returns a random time from `least` to twice that, so that many agents do not do the same at the same time.
#[must_use]
pub fn jitter(least: Duration) -> Duration {
    let part = u32::from(u16::from_le_bytes(bytes()));
    least + least.saturating_mul(part) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_read_back() {
        let bytes: [u8; 32] = bytes();
        assert_eq!(of_hex(&hex(&bytes)).as_deref(), Some(&bytes[..]));
        assert!(of_hex("0").is_none() && of_hex("0g").is_none() && of_hex("ä").is_none());
        assert_ne!(id(), id());
        assert_eq!(id().len(), 32);
    }

    #[test]
    fn jitter_is_bounded() {
        let least = Duration::from_secs(10);
        for _ in 0..1000 {
            let time = jitter(least);
            assert!((least..=2 * least).contains(&time), "{time:?}");
        }
    }
}
