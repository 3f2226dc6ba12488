//! A plugin's lines in the operator's log: cleaned, limited in number and length, and counted.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use flowgate_base::{TokenBucket, text};
use flowgate_model::level;

/// Maximum number of lines in a burst, and in each period.
const BURST: u64 = 100;
/// The period: one more line is permitted every 100 ms.
const PERIOD: Duration = Duration::from_secs(10);

/// Receives log lines: the level and the message.
pub type LogReceiver = Arc<dyn Fn(u8, &str) + Send + Sync>;

/// Writes a plugin's log lines.
#[derive(Debug, Default)]
pub struct Log {
    to: Destination,
    lines: Mutex<LineCounts>,
}

/// Where log lines go.
#[derive(Default)]
enum Destination {
    /// Nowhere.
    #[default]
    Nowhere,
    /// To the operator's log, with this plugin's name.
    Operator(String),
    /// To this receiver.
    Receiver(LogReceiver),
}

impl fmt::Debug for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Destination::Nowhere => "Nowhere",
            Destination::Operator(_) => "Operator",
            Destination::Receiver(_) => "Receiver",
        })
    }
}

#[derive(Debug)]
struct LineCounts {
    written: u64,
    dropped: u64,
    /// LineCounts dropped since the last written line.
    silent: u64,
    /// The lines that are permitted now.
    room: TokenBucket,
}

impl Log {
    /// Returns a log that writes lines with this plugin's name.
    #[must_use]
    pub fn of(plugin: &str) -> Self {
        Log { to: Destination::Operator(plugin.into()), lines: Mutex::default() }
    }

    /// Returns a log that passes lines to this receiver.
    #[must_use]
    pub fn to(receiver: LogReceiver) -> Self {
        Log { to: Destination::Receiver(receiver), lines: Mutex::default() }
    }

    /// Writes a line, or only counts it without a grant or beyond the rate limit.
    pub fn write(&self, level: u8, message: &str) {
        self.write_at(level, message, Instant::now());
    }

    fn write_at(&self, level: u8, message: &str, now: Instant) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let permitted = !matches!(self.to, Destination::Nowhere) && lines.room.take_at(1, now) == 1;
        if !permitted {
            lines.dropped += 1;
            lines.silent += 1;
            return;
        }
        lines.written += 1;
        let silent = std::mem::take(&mut lines.silent);
        let plugin = match &self.to {
            Destination::Nowhere => return,
            Destination::Receiver(receiver) => return receiver(level, message),
            Destination::Operator(plugin) => plugin,
        };
        if silent > 0 {
            tracing::warn!(target: "plugin", "{plugin}: {silent} lines of its log were dropped");
        }
        let message = text::clean(message);
        match level {
            level::ERROR => tracing::error!(target: "plugin", "{plugin}: {message}"),
            level::WARNING => tracing::warn!(target: "plugin", "{plugin}: {message}"),
            level::INFO => tracing::info!(target: "plugin", "{plugin}: {message}"),
            _ => tracing::debug!(target: "plugin", "{plugin}: {message}"),
        }
    }

    /// Returns the numbers of written and of dropped lines.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        (lines.written, lines.dropped)
    }
}

impl Default for LineCounts {
    fn default() -> Self {
        LineCounts { written: 0, dropped: 0, silent: 0, room: TokenBucket::new(BURST, PERIOD) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_dropped_and_counted_and_a_trickle_is_not() {
        let log = Log::of("p");
        let start = Instant::now();
        for _ in 0..1000 {
            log.write_at(level::INFO, "x", start);
        }
        assert_eq!(log.counts(), (100, 900));
        for second in 1..=10 {
            log.write_at(level::INFO, "x", start + Duration::from_secs(second));
        }
        assert_eq!(log.counts(), (110, 900));
    }

    #[test]
    fn without_the_grant_lines_are_counted_only() {
        let log = Log::default();
        log.write(level::ERROR, "x");
        assert_eq!(log.counts(), (0, 1));
    }
}
