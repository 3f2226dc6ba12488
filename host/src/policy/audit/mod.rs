//! The audit: every action, allowed or refused, as a JSON object on a line of its own. An intent is written before the kernel is
//! asked, a result after, so that a crash loses results at most.
//!
//! * [`filter`] finds lines again.

pub mod filter;

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use serde::Serialize;

use crate::pipeline::{
    sink::{
        Sink, SinkError,
        file::{FileOptions, FileSink},
    },
    table::now,
    tell::Tell,
};

/// What a line is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The kernel is about to be asked.
    #[default]
    Intent,
    /// What became of it.
    Result,
    /// The kernel was not asked.
    Refused,
    /// The service: started, reloaded, a tenant paused or ended.
    Service,
}

/// A line.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Record {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// What it is about.
    pub stage: Stage,
    /// Of which run of the service this is: when it began, in nanoseconds since 1970.
    pub run: u64,
    /// Number of the action in this run. The intent and its result have the same.
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
    /// How often the policy was loaded before.
    pub generation: u64,
    /// What was asked for.
    pub action: String,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<&'static str>,
    /// The kernel's error number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<u32>,
    /// Why it was refused, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Why it was refused, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many actions the line stands for, if more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The entry as it stood, as `-o json` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// The entry as it was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

/// The record of all actions. Shared by all tenants.
pub struct Audit {
    sink: Mutex<Box<dyn Sink + Send>>,
    run: u64,
    next: AtomicU64,
    tell: Tell,
}

impl Audit {
    /// Opens the file. `tell` gets warnings.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(options: FileOptions, tell: impl Fn(&str) + Send + Sync + 'static) -> Result<Self, SinkError> {
        let tell = Tell::new(tell);
        Ok(Self::to(Box::new(FileSink::open(options, tell.function())?), tell.function()))
    }

    /// Into this sink.
    #[must_use]
    pub fn to(sink: Box<dyn Sink + Send>, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Audit { sink: Mutex::new(sink), run: now(), next: AtomicU64::new(1), tell: Tell::new(tell) }
    }

    /// A number for an action.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes lines, all at once.
    ///
    /// # Errors
    /// They could not be written; the operator has been told.
    pub fn write(&self, records: &[Record]) -> Result<(), SinkError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for record in records {
            let record = Record { run: self.run, ..record.clone() };
            // Such a record always has a form, in which control characters are escaped.
            bytes.extend(serde_json::to_vec(&record).unwrap_or_default());
            bytes.push(b'\n');
        }
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        sink.write(&bytes).inspect_err(|error| self.tell.line(&format!("WARNING: audit: {error}.")))
    }

    /// Writes a line about the service itself.
    pub fn service(&self, generation: u64, tenant: &str, action: &str, reason: Option<String>) {
        let record = Record {
            time: now(),
            stage: Stage::Service,
            id: self.number(),
            tenant: tenant.into(),
            generation,
            action: action.into(),
            reason,
            ..Record::default()
        };
        // The operator has been told if it could not be written.
        let _ = self.write(&[record]);
    }
}
