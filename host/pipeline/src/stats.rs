//! Statistics of the stages of a running pipeline, for `--plugin-stats`, SIGUSR1 and metrics.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{flow_metrics::FlowMetric, histogram::Histogram};
use flowgate_model::result;

/// Number of kinds of results of actions.
pub const RESULTS: usize = result::NAMES.len();

/// The health of a stage's plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It works.
    #[default]
    Running,
    /// It failed, and is restarted after a pause.
    BackingOff,
    /// It failed too often, and is not called any more.
    Quarantined,
}

impl Health {
    /// Returns the health as text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Health::Running => "running",
            Health::BackingOff => "backing off",
            Health::Quarantined => "quarantined",
        }
    }
}

/// The statistics of one stage.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(into = "StageReport")]
pub struct StageStats {
    /// The plugin.
    pub plugin: String,
    /// Its health.
    pub health: Health,
    /// Number of calls with a batch.
    pub calls: u64,
    /// Number of rows that it was given.
    pub rows_in: u64,
    /// Number of rows that passed it.
    pub rows_out: u64,
    /// Number of rows that its verdicts dropped.
    pub rows_dropped: u64,
    /// Number of rows that passed, or were dropped as `on-error` says, without a call because the plugin did not work.
    pub rows_without: u64,
    /// Number of ticks that it was given.
    pub ticks: u64,
    /// Total time of its calls, in nanoseconds.
    pub nanoseconds: u64,
    /// Time of the longest call, in nanoseconds.
    pub longest: u64,
    /// Distribution of these times.
    pub times: Histogram,
    /// Size of the instance's linear memory in bytes.
    pub memory: u64,
    /// Number of failures.
    pub failures: u64,
    /// The last failure.
    pub last_error: Option<String>,
    /// Number of instances after the first.
    pub restarts: u64,
    /// Number of actions with each [`result`].
    pub actions: [u64; RESULTS],
    /// Number of lines that it wrote to the log.
    pub log_lines: u64,
    /// Number of log lines that were dropped.
    pub log_dropped: u64,
    /// Size of its state in bytes.
    pub state_bytes: u64,
}

impl StageStats {
    /// Adds the statistics of an earlier stage of the same plugin: counters are summed up, current values are kept.
    pub fn add(&mut self, before: &Self) {
        for (sum, more) in [
            (&mut self.calls, before.calls),
            (&mut self.rows_in, before.rows_in),
            (&mut self.rows_out, before.rows_out),
            (&mut self.rows_dropped, before.rows_dropped),
            (&mut self.rows_without, before.rows_without),
            (&mut self.ticks, before.ticks),
            (&mut self.nanoseconds, before.nanoseconds),
            (&mut self.failures, before.failures),
            (&mut self.restarts, before.restarts),
            (&mut self.log_lines, before.log_lines),
            (&mut self.log_dropped, before.log_dropped),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.longest = self.longest.max(before.longest);
        for (sum, more) in self.actions.iter_mut().zip(before.actions) {
            *sum = sum.saturating_add(more);
        }
    }
}

/// The statistics of one stage in JSON, with two percentiles of its times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// The plugin.
    pub plugin: String,
    /// Its health.
    pub health: Health,
    /// Number of calls with a batch.
    pub calls: u64,
    /// Number of rows that it was given.
    pub rows_in: u64,
    /// Number of rows that passed it.
    pub rows_out: u64,
    /// Number of rows that its verdicts dropped.
    pub rows_dropped: u64,
    /// Number of rows that passed, or were dropped, without a call because the plugin did not work.
    pub rows_without: u64,
    /// Number of ticks that it was given.
    pub ticks: u64,
    /// Total time of its calls, in nanoseconds.
    pub nanoseconds: u64,
    /// Time of the longest call, in nanoseconds.
    pub longest: u64,
    /// Time within which half of the calls ended, in nanoseconds.
    pub p50: u64,
    /// Time within which 99 % of the calls ended, in nanoseconds.
    pub p99: u64,
    /// Size of the instance's linear memory in bytes.
    pub memory: u64,
    /// Number of failures.
    pub failures: u64,
    /// The last failure.
    pub last_error: Option<String>,
    /// Number of instances after the first.
    pub restarts: u64,
    /// Number of actions with each [`result`].
    pub actions: [u64; RESULTS],
    /// Number of lines that it wrote to the log.
    pub log_lines: u64,
    /// Number of log lines that were dropped.
    pub log_dropped: u64,
    /// Size of its state in bytes.
    pub state_bytes: u64,
}

impl From<StageStats> for StageReport {
    fn from(stats: StageStats) -> Self {
        StageReport {
            plugin: stats.plugin,
            health: stats.health,
            calls: stats.calls,
            rows_in: stats.rows_in,
            rows_out: stats.rows_out,
            rows_dropped: stats.rows_dropped,
            rows_without: stats.rows_without,
            ticks: stats.ticks,
            nanoseconds: stats.nanoseconds,
            longest: stats.longest,
            p50: stats.times.within(500),
            p99: stats.times.within(990),
            memory: stats.memory,
            failures: stats.failures,
            last_error: stats.last_error,
            restarts: stats.restarts,
            actions: stats.actions,
            log_lines: stats.log_lines,
            log_dropped: stats.log_dropped,
            state_bytes: stats.state_bytes,
        }
    }
}

/// The statistics of the stages of a running pipeline, and its metrics of flows, shared with their readers.
#[derive(Clone, Debug, Default)]
pub struct Board {
    stages: Arc<Mutex<Vec<SharedStageStats>>>,
    patience: Arc<AtomicU64>,
    metrics: Arc<Mutex<Vec<Arc<FlowMetric>>>>,
}

/// The statistics of a stage, shared between the stage and the board.
#[derive(Clone, Debug, Default)]
pub struct SharedStageStats(Arc<Mutex<StageStats>>);

impl SharedStageStats {
    /// Locks the statistics for reading or updating. A panic of another holder leaves them consistent.
    pub fn lock(&self) -> MutexGuard<'_, StageStats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    /// Sets the time that the pipeline needs to end after a signal.
    pub fn end_within(&self, time: Duration) {
        self.patience.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the time that the pipeline needs to end after a signal; 0 if it was not set.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.patience.load(Ordering::Relaxed))
    }

    /// Removes all stages.
    pub fn clear(&self) {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Adds a stage.
    pub fn add(&self, stage: SharedStageStats) {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).push(stage);
    }

    /// Adds a metric of flows.
    pub fn add_metric(&self, metric: Arc<FlowMetric>) {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).push(metric);
    }

    /// Returns the metrics of flows.
    #[must_use]
    pub fn metrics(&self) -> Vec<Arc<FlowMetric>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the current statistics of all stages.
    #[must_use]
    pub fn stages(&self) -> Vec<StageStats> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|stage| stage.lock().clone()).collect()
    }

    /// Returns the statistics as text, some lines for each stage; empty without stages.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for stage in self.stages() {
            describe(&stage, &mut text);
        }
        text
    }

    /// Returns the statistics as JSON, one object per line for each stage.
    #[must_use]
    pub fn json(&self) -> String {
        // Numbers and text can always be represented in JSON.
        self.stages().iter().filter_map(|stage| serde_json::to_string(stage).ok()).map(|line| line + "\n").collect()
    }
}

fn describe(stage: &StageStats, text: &mut String) {
    let milliseconds = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3;
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "plugin {}: {}, {} calls, {} rows in, {} out, {:.3} ms in all, half of them within {:.3} ms, \
         99 % within {:.3} ms, {:.3} ms the longest, {} KiB of memory",
        stage.plugin,
        stage.health.name(),
        stage.calls,
        stage.rows_in,
        stage.rows_out,
        milliseconds(stage.nanoseconds),
        milliseconds(stage.times.within(500)),
        milliseconds(stage.times.within(990)),
        milliseconds(stage.longest),
        stage.memory >> 10,
    );
    if stage.failures > 0 {
        let _ = writeln!(
            text,
            "  {} failures, {} restarts, {} rows without it; the last: {}",
            stage.failures,
            stage.restarts,
            stage.rows_without,
            stage.last_error.as_deref().unwrap_or("unknown")
        );
    }
    let actions: Vec<String> = result::NAMES
        .iter()
        .zip(stage.actions)
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    if !actions.is_empty() {
        let _ = writeln!(text, "  actions: {}", actions.join(", "));
    }
    if stage.ticks > 0 {
        let _ = writeln!(text, "  {} ticks", stage.ticks);
    }
    if stage.log_lines + stage.log_dropped > 0 {
        let _ = writeln!(text, "  log: {} lines, {} dropped", stage.log_lines, stage.log_dropped);
    }
    if stage.state_bytes > 0 {
        let _ = writeln!(text, "  state: {} bytes", stage.state_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_told_and_what_did_not_is_not() {
        let board = Board::default();
        assert_eq!(board.text(), "");
        let stage = SharedStageStats::default();
        board.add(stage.clone());
        stage.lock().plugin = "p.wasm".into();
        let text = board.text();
        assert!(text.starts_with("plugin p.wasm: running, 0 calls") && text.lines().count() == 1, "{text}");
        {
            let mut stats = stage.lock();
            stats.health = Health::Quarantined;
            stats.failures = 5;
            stats.last_error = Some("trapped: x".into());
            stats.actions[usize::from(result::NOT_GRANTED)] = 3;
            stats.log_dropped = 7;
        }
        let text = board.text();
        for words in ["quarantined", "5 failures", "trapped: x", "actions: 3 not granted", "log: 0 lines, 7 dropped"] {
            assert!(text.contains(words), "{text}");
        }
        let json: serde_json::Value = serde_json::from_str(board.json().trim()).unwrap();
        assert_eq!(json["health"], "quarantined");
        assert_eq!(json["actions"][1], 3);
        assert_eq!((&json["p50"], &json["p99"]), (&0.into(), &0.into()));
    }
}
