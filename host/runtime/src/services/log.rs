//! A plugin's lines in the operator's log: cleaned, limited in number and length, and counted.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use flowgate_base::text;
use flowgate_model::level;

/// Maximum number of lines in a burst.
const BURST: u32 = 100;
/// Interval at which one more line is permitted.
const EVERY: Duration = Duration::from_millis(100);

/// Writes a plugin's log lines.
#[derive(Debug, Default)]
pub struct Log {
    /// The plugin's name, or `None` if its lines are discarded.
    plugin: Option<String>,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    written: u64,
    dropped: u64,
    /// Lines dropped since the last written line.
    silent: u64,
    /// Used lines of the burst, and when they were last updated.
    used: u32,
    since: Option<Instant>,
}

impl Log {
    /// Returns a log that writes lines with this plugin's name.
    #[must_use]
    pub fn of(plugin: &str) -> Self {
        Log { plugin: Some(plugin.into()), lines: Mutex::default() }
    }

    /// Writes a line, or only counts it without a grant or beyond the rate limit.
    pub fn write(&self, level: u8, message: &str) {
        self.write_at(level, message, Instant::now());
    }

    fn write_at(&self, level: u8, message: &str, now: Instant) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(plugin) = self.plugin.as_deref().filter(|_| lines.room(now)) else {
            lines.dropped += 1;
            lines.silent += 1;
            return;
        };
        lines.written += 1;
        let silent = std::mem::take(&mut lines.silent);
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

impl Lines {
    /// Returns true if one more line may be written now.
    fn room(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let earned = now.saturating_duration_since(since).as_millis() / EVERY.as_millis();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.used = self.used.saturating_sub(earned);
            self.since = Some(since + EVERY.saturating_mul(earned));
        }
        let room = self.used < BURST;
        self.used += u32::from(room);
        room
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
