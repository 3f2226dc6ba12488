//! The state of tenants and of the processes that run their plugins, as the service reports it.

use std::fmt::Write as _;

use flowgate_base::text::clean;
use flowgate_pipeline::stats::StageReport;
use serde::{Deserialize, Serialize};

/// State and counters of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TenantStatus {
    /// Its name.
    pub tenant: String,
    /// The generation of the policy that it was started by.
    pub generation: u64,
    /// Whether it runs.
    pub state: TenantState,
    /// Why it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Events in its scope.
    pub events: u64,
    /// Events that were handed to it.
    pub handed: u64,
    /// Events that it has lost.
    pub lost: u64,
    /// Gaps that these are in.
    pub gaps: u64,
    /// Bytes of events that wait for it.
    pub waiting: u64,
    /// Lines of output that were dropped.
    pub output_dropped: u64,
    /// The process in which its plugins run.
    #[serde(default)]
    pub worker: WorkerStatus,
    /// Its plugins.
    #[serde(default)]
    pub plugins: Vec<StageReport>,
}

/// The process in which the plugins of a tenant run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WorkerStatus {
    /// Its state.
    pub state: WorkerState,
    /// Number of workers after the first.
    pub restarts: u64,
    /// Its process ID, as the service sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<i32>,
    /// CPU time of all of them, in nanoseconds.
    pub nanoseconds: u64,
    /// How the last one that did not finish has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<WorkerEndReport>,
    /// Workers of the tenant in other generations: of one that is being loaded, and of those that have been replaced
    /// and have not finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<OtherWorker>,
}

/// A worker of another generation than the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherWorker {
    /// Its generation.
    pub generation: u64,
    /// Its state.
    pub state: WorkerState,
}

/// State of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerState {
    /// Its plugins are being compiled, loaded or started.
    #[default]
    Starting,
    /// Its plugins have started, and it waits until it is decided whether the tenant begins.
    Ready,
    /// It processes events.
    Running,
    /// It processes what is left, since the service ends.
    Draining,
    /// It processes what is left, and its actions are refused: a reload has replaced its tenant.
    Revoked,
    /// The one before has ended, and another one starts.
    Restarting,
    /// The service or the kernel has killed it, and there is no other one.
    Killed,
    /// It has ended by itself, and there is no other one.
    Ended,
}

impl WorkerState {
    /// All states.
    pub const ALL: [WorkerState; 8] = [
        WorkerState::Starting,
        WorkerState::Ready,
        WorkerState::Running,
        WorkerState::Draining,
        WorkerState::Revoked,
        WorkerState::Restarting,
        WorkerState::Killed,
        WorkerState::Ended,
    ];

    /// Returns its name in answers and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WorkerState::Starting => "starting",
            WorkerState::Ready => "ready",
            WorkerState::Running => "running",
            WorkerState::Draining => "draining",
            WorkerState::Revoked => "revoked",
            WorkerState::Restarting => "restarting",
            WorkerState::Killed => "killed",
            WorkerState::Ended => "ended",
        }
    }

    /// Returns the action under which the audit records that a worker has got there; `None` for those that are recorded
    /// by the end of a worker, or by the start of the next one.
    #[must_use]
    pub fn action(self) -> Option<&'static str> {
        match self {
            WorkerState::Starting => Some("worker-started"),
            WorkerState::Ready => Some("worker-ready"),
            WorkerState::Running => Some("worker-running"),
            WorkerState::Draining => Some("worker-draining"),
            WorkerState::Revoked => Some("worker-revoked"),
            WorkerState::Restarting | WorkerState::Killed | WorkerState::Ended => None,
        }
    }
}

/// How a worker has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WorkerEndReport {
    /// The reason, for programs.
    pub code: WorkerEnd,
    /// The reason, for people.
    pub reason: String,
}

/// Why a worker has ended that did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerEnd {
    /// It had no more memory.
    OutOfMemory,
    /// It was killed, since it did not start or did not process an event within its CPU time.
    Deadline,
    /// It made a system call that no worker makes.
    SystemCall,
    /// It sent what no worker sends.
    Violation,
    /// It ended by itself, with this or another exit status.
    ExitStatus,
    /// A signal ended it.
    Signal,
    /// It was killed, since it did not answer or did not receive.
    NoAnswer,
    /// It was killed, since it used more than a multiple of its CPU time.
    Overuse,
    /// Its plugins did not start.
    NotStarted,
    /// Its pipeline has failed.
    Failed,
    /// It was killed by an order: its tenant was quarantined, or did not finish in time.
    Order,
    /// It could not be started or reached: the service lacks something.
    Unavailable,
}

impl WorkerEnd {
    /// All reasons.
    pub const ALL: [WorkerEnd; 12] = [
        WorkerEnd::OutOfMemory,
        WorkerEnd::Deadline,
        WorkerEnd::SystemCall,
        WorkerEnd::Violation,
        WorkerEnd::ExitStatus,
        WorkerEnd::Signal,
        WorkerEnd::NoAnswer,
        WorkerEnd::Overuse,
        WorkerEnd::NotStarted,
        WorkerEnd::Failed,
        WorkerEnd::Order,
        WorkerEnd::Unavailable,
    ];

    /// Returns its name in answers, metrics and the audit.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            WorkerEnd::OutOfMemory => "out-of-memory",
            WorkerEnd::Deadline => "deadline",
            WorkerEnd::SystemCall => "system-call",
            WorkerEnd::Violation => "violation",
            WorkerEnd::ExitStatus => "exit-status",
            WorkerEnd::Signal => "signal",
            WorkerEnd::NoAnswer => "no-answer",
            WorkerEnd::Overuse => "overuse",
            WorkerEnd::NotStarted => "not-started",
            WorkerEnd::Failed => "failed",
            WorkerEnd::Order => "order",
            WorkerEnd::Unavailable => "unavailable",
        }
    }

    /// Returns the action under which the audit records it.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            WorkerEnd::SystemCall | WorkerEnd::Violation => "worker-violation",
            WorkerEnd::Deadline | WorkerEnd::NoAnswer | WorkerEnd::Overuse | WorkerEnd::Order => "worker-killed",
            _ => "worker-ended",
        }
    }

    /// Returns the state of a tenant whose last worker has ended like this.
    #[must_use]
    pub fn state(self) -> WorkerState {
        if self.action() == "worker-ended" { WorkerState::Ended } else { WorkerState::Killed }
    }
}

/// Whether a tenant runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TenantState {
    /// It is handed its events.
    Running,
    /// It is handed nothing until it is resumed.
    Paused,
    /// It is handed nothing until the next reload.
    Quarantined,
    /// It has ended, or has never started.
    Ended,
}

impl TenantState {
    /// Returns its name in answers and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TenantState::Running => "running",
            TenantState::Paused => "paused",
            TenantState::Quarantined => "quarantined",
            TenantState::Ended => "ended",
        }
    }
}

impl TenantStatus {
    /// Appends it as lines for a terminal.
    pub(super) fn write(&self, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "tenant {}: {}, {} events, {} lost in {} gaps, {} bytes waiting, {} lines of output dropped",
            clean(&self.tenant),
            self.state.name(),
            self.events,
            self.lost,
            self.gaps,
            self.waiting,
            self.output_dropped,
        );
        if let Some(reason) = self.reason.as_deref().map(clean).filter(|reason| !reason.is_empty()) {
            let _ = writeln!(text, "  {reason}");
        }
        let worker = &self.worker;
        let _ = write!(
            text,
            "  worker: {}, {} restarts, {} ms of CPU time",
            worker.state.name(),
            worker.restarts,
            worker.nanoseconds / 1_000_000,
        );
        if let Some(process) = worker.process {
            let _ = write!(text, ", process {process}");
        }
        if let Some(end) = &worker.last_end {
            let _ = write!(text, ", last end: {} ({})", end.code.code(), clean(&end.reason));
        }
        text.push('\n');
        for other in &worker.others {
            let _ = writeln!(text, "  worker of generation {}: {}", other.generation, other.state.name());
        }
        for plugin in &self.plugins {
            let _ = writeln!(
                text,
                "  plugin {}: {}, {} rows, {} failures",
                clean(&plugin.plugin),
                plugin.health.name(),
                plugin.rows_in,
                plugin.failures,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Codes are in the audit and in metrics, which others compare with them.
    #[test]
    fn states_and_ends_are_named_as_in_answers() {
        let name = |value: serde_json::Value| value.as_str().unwrap().to_string();
        for state in WorkerState::ALL {
            assert_eq!(name(serde_json::to_value(state).unwrap()), state.name());
        }
        for end in WorkerEnd::ALL {
            assert_eq!(name(serde_json::to_value(end).unwrap()), end.code());
        }
        assert_eq!(WorkerEnd::ALL.map(WorkerEnd::action).iter().filter(|action| **action == "worker-ended").count(), 6);
        assert_eq!(WorkerEnd::SystemCall.action(), "worker-violation");
        assert_eq!(WorkerEnd::Overuse.action(), "worker-killed");
        assert_eq!((WorkerEnd::Overuse.state(), WorkerEnd::Failed.state()), (WorkerState::Killed, WorkerState::Ended));
        // The audit has each state under an action of its own, or as the end of a worker.
        let actions: BTreeSet<&str> = WorkerState::ALL.into_iter().filter_map(WorkerState::action).collect();
        assert_eq!(actions.len(), 5, "{actions:?}");
    }
}
