//! The speed of a replay.

use std::{str::FromStr, time::Duration};

/// The pace of a replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// As fast as the file can be read.
    Max,
    /// A multiple of the recorded speed; 1 is real time.
    Times(f64),
}

impl Speed {
    /// Returns when a datagram is due that was recorded `later` nanoseconds after the first one, as the time since the
    /// first was played; `None` if it is due at once.
    #[must_use]
    pub fn due(self, later: u64) -> Option<Duration> {
        match self {
            Speed::Max => None,
            // A time beyond the range of the clock never comes.
            Speed::Times(factor) => {
                Some(Duration::try_from_secs_f64(later as f64 / 1e9 / factor).unwrap_or(Duration::MAX))
            }
        }
    }
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Speed::Max),
            "real" => Ok(Speed::Times(1.0)),
            _ => {
                match text.parse::<f64>() {
                    Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(Speed::Times(factor)),
                    _ => Err("a speed is `max`, `real`, or a number above 0: 2 is twice as fast as recorded, 0.5 half"
                        .into()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_words_or_factors() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("real".parse(), Ok(Speed::Times(1.0)));
        assert_eq!("0.5".parse(), Ok(Speed::Times(0.5)));
        for wrong in ["", "fast", "0", "-1", "inf", "NaN", "1x"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_due_when() {
        assert_eq!(Speed::Max.due(5), None);
        assert_eq!(Speed::Times(2.0).due(3_000_000_000), Some(Duration::from_millis(1500)));
        assert_eq!(Speed::Times(f64::MIN_POSITIVE).due(u64::MAX), Some(Duration::MAX));
    }
}
