//! Statistics of a plugin.

use flowgate_isolation::{Body, Record, Violation};
use flowgate_pipeline::stats::{Health, StageStats};

use super::{STEPS, TEXT, counted, reports};

/// The counters of statistics, in the order in which they cross: their values, or references to them.
macro_rules! counters {
    ($stats:ident $(, $reference:tt)*) => {
        [
            $($reference)* $stats.calls,
            $($reference)* $stats.rows_in,
            $($reference)* $stats.rows_out,
            $($reference)* $stats.rows_dropped,
            $($reference)* $stats.rows_without,
            $($reference)* $stats.ticks,
            $($reference)* $stats.nanoseconds,
            $($reference)* $stats.longest,
            $($reference)* $stats.memory,
            $($reference)* $stats.failures,
            $($reference)* $stats.restarts,
            $($reference)* $stats.log_lines,
            $($reference)* $stats.log_dropped,
            $($reference)* $stats.state_bytes,
        ]
    };
}

pub(super) fn read_statistics(body: &mut Body<'_>) -> Result<StageStats, Violation> {
    let mut stats = StageStats {
        health: match body.u8()? {
            0 => Health::Running,
            1 => Health::BackingOff,
            2 => Health::Quarantined,
            other => return Err(Violation::Value(other.into())),
        },
        ..StageStats::default()
    };
    for counter in counters!(stats, &, mut) {
        *counter = body.u64()?;
    }
    for count in &mut stats.actions {
        *count = body.u64()?;
    }
    if body.bool()? {
        stats.last_error = Some(body.text(TEXT)?.into());
    }
    for _ in 0..counted(body, STEPS)? {
        let (step, count) = (body.u16()?, body.u64()?);
        if !stats.times.set_count(step.into(), count) {
            return Err(Violation::Value(step.into()));
        }
    }
    Ok(stats)
}

/// Returns the frame of statistics.
pub(crate) fn statistics(frame: impl FnOnce(u16) -> Record, plugin: u16, stats: &StageStats) -> Record {
    let record = frame(reports::STATISTICS).u16(plugin).u8(match stats.health {
        Health::Running => 0,
        Health::BackingOff => 1,
        Health::Quarantined => 2,
    });
    let record = counters!(stats).into_iter().fold(record, Record::u64);
    let record = stats.actions.iter().fold(record, |record, count| record.u64(*count));
    let record = match &stats.last_error {
        Some(error) => record.bool(true).text(error, TEXT),
        None => record.bool(false),
    };
    let count = u16::try_from(stats.times.counts().count()).unwrap_or(STEPS);
    stats
        .times
        .counts()
        .fold(record.u16(count), |record, (step, count)| record.u16(u16::try_from(step).unwrap_or(u16::MAX)).u64(count))
}

#[cfg(test)]
/// Returns the counters, to be set.
pub(super) fn counters(stats: &mut StageStats) -> [&mut u64; 14] {
    counters!(stats, &, mut)
}
