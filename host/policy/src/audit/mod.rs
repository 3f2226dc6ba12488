//! The audit: each action, allowed or refused, as a JSON object on its own line. The intent is written before the
//! kernel is asked and the result afterwards, so that a crash loses at most results.
//!
//! * [`mod@entry`] formats an entry; [`filter`] searches for lines; [`share`] limits how much of it each tenant may
//!   fill.

pub mod entry;
pub mod filter;
pub mod share;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use share::{Shares, Use};

use crate::control::WorkerEnd;
use flowgate_base::Warnings;
use flowgate_base::clock::now;
use flowgate_pipeline::sink::{
    Sink, SinkError,
    file::{FileOptions, FileSink},
};

/// Stage of an action that a line records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The kernel is about to be asked.
    #[default]
    Intent,
    /// The result of the action.
    Result,
    /// The kernel was not asked.
    Refused,
    /// The service itself: started, reloaded, a tenant paused or ended.
    Service,
}

/// A line of the audit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Record {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Stage of the action.
    pub stage: Stage,
    /// The run of the service, by its start in nanoseconds since 1970.
    pub run: u64,
    /// Number of the action in this run, the same for the intent and its result.
    pub id: u64,
    /// The tenant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// The plugin.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub plugin: String,
    /// SHA-256 of its file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// Generation of the policy.
    pub generation: u64,
    /// The requested action.
    pub action: String,
    /// The result of the action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<&'static str>,
    /// The kernel's error number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<u32>,
    /// Code of the refusal, or of the end of a worker, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The same for people, and other reasons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of actions that the line stands for, if more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The entry before the action, as in `-o json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// The entry as it would be after the action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
    /// The attributes of the request to the kernel, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// A formatted line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its content.
    pub record: Record,
    /// Its bytes, with the newline.
    bytes: Vec<u8>,
}

impl Line {
    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.len()
    }
}

/// The audit file, shared by all tenants.
pub struct Audit {
    sink: Mutex<Box<dyn Sink + Send>>,
    run: u64,
    next: AtomicU64,
    /// Number of lines that were written.
    written: AtomicU64,
    failures: AtomicU64,
    /// Number of refused actions by tenant and code.
    refused: Mutex<BTreeMap<String, BTreeMap<&'static str, u64>>>,
    shares: Shares,
    warnings: Warnings,
}

impl Audit {
    /// Opens the file. Lines in it and in rotated files are kept for at least `history`. `warnings` receives warnings.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(options: FileOptions, history: Duration, warnings: Warnings) -> Result<Self, SinkError> {
        let capacity = options.rotation.map_or(u64::MAX, |rotation| {
            rotation.size.unwrap_or(u64::MAX).saturating_mul(u64::from(rotation.keep) + 1)
        });
        let audit =
            Self::to(Box::new(FileSink::open(options, warnings.clone())?.postponing_rotation()), warnings.clone());
        Ok(Audit { shares: Shares::new(capacity, history), ..audit })
    }

    /// Writes to this sink.
    #[must_use]
    pub fn to(sink: Box<dyn Sink + Send>, warnings: Warnings) -> Self {
        Audit {
            sink: Mutex::new(sink),
            run: now(),
            next: AtomicU64::new(1),
            written: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            refused: Mutex::default(),
            shares: Shares::new(u64::MAX, Duration::from_secs(1)),
            warnings,
        }
    }

    /// Returns the number of the next action.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the shares of the tenants.
    #[must_use]
    pub fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Formats a record as a line.
    #[must_use]
    pub fn line(&self, record: Record) -> Line {
        let record = Record { run: self.run, ..record };
        // Such a record can always be serialised, with control characters escaped.
        let mut bytes = serde_json::to_vec(&record).unwrap_or_default();
        bytes.push(b'\n');
        Line { record, bytes }
    }

    /// Writes lines in one operation.
    ///
    /// # Errors
    /// They could not be written; the operator has been warned.
    pub fn write(&self, lines: &[Line]) -> Result<(), SinkError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.count(lines);
        let bytes: Vec<u8> = lines.iter().flat_map(|line| &line.bytes).copied().collect();
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let written = sink.write(&bytes);
        drop(sink);
        match &written {
            Ok(()) => self.written.fetch_add(lines.len() as u64, Ordering::Relaxed),
            Err(error) => {
                self.warnings.line(&format!("WARNING: audit: {error}."));
                self.failures.fetch_add(1, Ordering::Relaxed)
            }
        };
        written
    }

    /// Removes rotated files that are too old, also if nothing is written for a while.
    pub fn tidy(&self) {
        // Nothing is written, so nothing can fail.
        let _ = self.sink.lock().unwrap_or_else(PoisonError::into_inner).write(&[]);
    }

    /// Writes results, which count in the tenant's share and are written in any case.
    ///
    /// # Errors
    /// The same as [`Audit::write`].
    pub fn write_results(&self, tenant: &str, records: impl IntoIterator<Item = Record>) -> Result<(), SinkError> {
        let lines: Vec<Line> = records.into_iter().map(|record| self.line(record)).collect();
        self.shares.take(tenant, lines.iter().map(|line| line.length() as u64).sum(), Use::Result);
        self.write(&lines)
    }

    /// Warns the operator that a tenant has used up its share for the moment.
    pub fn exhausted(&self, generation: u64, tenant: &str) {
        let what = "it has used up its share of the audit: its actions are refused until there is room again";
        self.warnings.line(&format!("WARNING: tenant {tenant} (generation {generation}): {what}."));
        self.service(generation, tenant, "audit-share", Some(what.into()));
    }

    /// Counts refusals.
    fn count(&self, lines: &[Line]) {
        let refusals = lines.iter().map(|line| &line.record).filter(|record| record.stage == Stage::Refused);
        let mut counts = None;
        for (record, code) in refusals.filter_map(|record| Some((record, record.code?))) {
            let counts = counts.get_or_insert_with(|| self.refused.lock().unwrap_or_else(PoisonError::into_inner));
            *counts.entry(record.tenant.clone()).or_default().entry(code).or_default() += record.count.unwrap_or(1);
        }
    }

    /// Returns the number of refused actions of a tenant by code. Those of a flood count once they are summed up in a
    /// line.
    #[must_use]
    pub fn refusals(&self, tenant: &str) -> BTreeMap<&'static str, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned().unwrap_or_default()
    }

    /// Drops the counts of all other tenants.
    pub fn keep(&self, is_kept: impl Fn(&str) -> bool) {
        self.shares.keep(&is_kept);
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).retain(|tenant, _| is_kept(tenant));
    }

    /// Returns the number of lines written and of failed writes.
    #[must_use]
    pub fn figures(&self) -> [u64; 2] {
        [self.written.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed)]
    }

    /// Writes a line about the service itself.
    pub fn service(&self, generation: u64, tenant: &str, action: &str, reason: Option<String>) {
        self.about(Record { generation, tenant: tenant.into(), action: action.into(), reason, ..Record::default() });
    }

    /// Writes a line about the end of a tenant's worker.
    pub fn worker_end(&self, generation: u64, tenant: &str, end: WorkerEnd, reason: String) {
        self.about(Record {
            generation,
            tenant: tenant.into(),
            action: end.action().into(),
            code: Some(end.code()),
            reason: Some(reason),
            ..Record::default()
        });
    }

    fn about(&self, record: Record) {
        let record = Record { time: now(), stage: Stage::Service, id: self.number(), ..record };
        // The operator has been warned if it could not be written.
        let _ = self.write(&[self.line(record)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_pipeline::sink::file::Rotation;
    use flowgate_test_support::Random;

    /// A line that does not become much shorter when it is compressed.
    fn line(audit: &Audit, length: usize) -> Line {
        let mut random = Random::new(1);
        let text: String = std::iter::repeat_with(|| format!("{:016x}", random.bits())).take(length / 16).collect();
        audit.line(Record { reason: Some(text), ..Record::default() })
    }

    /// Actions do not wait until an old file of the audit has been compressed.
    #[test]
    fn recording_does_not_wait_for_a_compression() {
        // It must be going on while the next lines are written: with more and more to be compressed.
        for length in [8 << 20, 32 << 20, 128 << 20] {
            let directory = tempfile::tempdir().unwrap();
            let at = |name: &str| directory.path().join(name);
            let size = Some(1 << 20);
            let rotation = Rotation { size, interval: None, keep: 3, keep_time: None, compress: true };
            let options = FileOptions {
                path: at("audit"),
                append: true,
                mode: None,
                rotation: Some(rotation),
                trust: flowgate_base::files::Trust::Exclusive,
            };
            let audit =
                Audit::open(options, Duration::from_secs(3600), Warnings::new(|warning| panic!("{warning}"))).unwrap();
            let [old, next, last] = [length, 2 << 20, 100].map(|length| line(&audit, length));
            audit.write(&[old]).unwrap();
            // The first of these puts the old one aside, and the second one would put the first one aside.
            audit.write(std::slice::from_ref(&next)).unwrap();
            audit.write(std::slice::from_ref(&last)).unwrap();
            let written = std::fs::metadata(at("audit")).unwrap().len();
            if at("audit.1").exists() && !at("audit.1.gz").exists() {
                assert_eq!(written, (next.length() + last.length()) as u64);
                return;
            }
        }
        panic!("nothing was compressed while lines were written");
    }
}
