//! The process of a worker, as its owner sees it.

use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{TenantRecord, limits};
use flowgate_isolation::{Channel, Child, Ending, Order, Role, Spawner};
use flowgate_policy::control::WorkerEnd;
use flowgate_worker::Link;

/// Bytes of events that may wait in a worker's channel. With them a busy worker finds the next events without waiting
/// for its owner.
const EVENTS: usize = 512 << 10;
/// Bytes of reports that may wait for the owner.
const REPORTS: usize = 256 << 10;
/// Time for which the end of a killed process is waited for.
const END: Duration = Duration::from_secs(5);

/// A worker's process and its channels.
pub(in crate::command) struct WorkerProcess {
    pub calls: Link,
    pub child: Arc<Child>,
}

impl WorkerProcess {
    /// Starts a worker that may use this share of a second of CPU time, and gives it the file of its `setup`. Returns
    /// it with the channel for events.
    ///
    /// # Errors
    /// The kernel gives no sockets or no memory, or there is nothing that starts processes any more.
    pub(in crate::command) fn start(
        spawner: &Spawner,
        limits: flowgate_isolation::Limits,
        share: Duration,
        setup: File,
    ) -> io::Result<(Self, Channel)> {
        let (calls, own_calls) = Channel::pair()?;
        let (events, own_events) = Channel::pair()?;
        events.set_buffer(EVENTS);
        own_calls.set_buffer(REPORTS);
        let group = limits::group(&limits, share);
        let order = Order { role: Role::Worker, limits, nice: 0, group };
        let child = spawner.start(&order, own_calls, &[own_events.as_fd(), setup.as_fd()])?;
        Ok((WorkerProcess { calls: Link::new(calls), child: Arc::new(child) }, events))
    }

    /// Returns how the process has ended, and its CPU time if that is known. Its handle kills it if it has not ended by
    /// itself a moment after its channel has.
    pub(in crate::command) fn ended(&self) -> (Cause, Option<Duration>) {
        match self.child.wait(Instant::now() + END) {
            Ok(Some(ending)) if self.child.was_out_of_group_memory() => {
                let reason = "out of memory (cgroup): it had more than its `memory.max`; raise `memory` of its plugins";
                (Cause::new(WorkerEnd::OutOfMemory, reason), Some(ending.time))
            }
            Ok(Some(ending)) => (Cause::of(ending), Some(ending.time)),
            Ok(None) => (Cause::new(WorkerEnd::Violation, "it closed its channel"), None),
            Err(error) => (Cause::new(WorkerEnd::Unavailable, error.to_string()), None),
        }
    }
}

/// Why a worker has ended that did not finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::command) struct Cause {
    /// For programs.
    pub end: WorkerEnd,
    /// For people.
    pub reason: String,
}

impl Cause {
    pub(super) fn new(end: WorkerEnd, reason: impl Into<String>) -> Self {
        Cause { end, reason: reason.into() }
    }

    /// Returns true if the worker has done what a worker of this program never does.
    pub(super) fn is_violation(&self) -> bool {
        matches!(self.end, WorkerEnd::SystemCall | WorkerEnd::Violation)
    }

    /// Returns the cause that the end of a process tells.
    fn of(ending: Ending) -> Self {
        match ending.status {
            // `process/memory.rs` of the program.
            Ok(1) => Cause::new(WorkerEnd::OutOfMemory, "it had no more memory"),
            Ok(status) => Cause::new(WorkerEnd::ExitStatus, format!("exit status {status}")),
            Err(libc::SIGSYS) => {
                Cause::new(WorkerEnd::SystemCall, "SIGSYS: it made a system call that no worker makes")
            }
            Err(libc::SIGKILL) => Cause::new(WorkerEnd::Signal, "SIGKILL: the kernel, or somebody else, has killed it"),
            Err(signal) => {
                let name = nix::sys::signal::Signal::try_from(signal)
                    .map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_string());
                Cause::new(WorkerEnd::Signal, name)
            }
        }
    }
}

/// Charges the CPU time of a process to a budget, as it is used.
#[derive(Clone)]
pub(super) struct Meter {
    child: Arc<Child>,
    budget: Arc<Mutex<flowgate_base::TokenBucket>>,
    charged: Arc<Mutex<Duration>>,
    record: Arc<TenantRecord>,
}

impl Meter {
    pub(super) fn new(
        child: Arc<Child>,
        budget: Arc<Mutex<flowgate_base::TokenBucket>>,
        record: Arc<TenantRecord>,
    ) -> Self {
        Meter { child, budget, charged: Arc::default(), record }
    }

    /// Charges what has been used since the last call. Returns the time that has been used in all.
    pub(super) fn charge(&self) -> Duration {
        self.charge_up_to(self.child.cpu_time())
    }

    /// Counts what has been used without charging it: the first start is not a matter of the tenant's share.
    pub(super) fn waive(&self) {
        self.count(self.child.cpu_time(), |_| {});
    }

    /// Charges what has been used since the last call, given what has been used in all.
    pub(super) fn charge_up_to(&self, used: Option<Duration>) -> Duration {
        self.count(used, |more| self.add(more))
    }

    /// Counts what has been used since the last call, and passes it to `charge`. Returns what has been used in all.
    fn count(&self, used: Option<Duration>, charge: impl FnOnce(Duration)) -> Duration {
        let mut charged = self.charged.lock().unwrap_or_else(PoisonError::into_inner);
        let used = used.unwrap_or(*charged);
        let more = used.saturating_sub(*charged);
        charge(more);
        self.record.add_worker_time(more);
        *charged = used;
        used
    }

    /// Charges time that the owner has used for the worker.
    pub(super) fn add(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if nanoseconds > 0 {
            self.budget.lock().unwrap_or_else(PoisonError::into_inner).charge(nanoseconds);
        }
    }

    /// Returns true if nothing of the budget is left.
    pub(super) fn is_exhausted(&self) -> bool {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_processes_have_codes() {
        for (status, end, reason) in [
            (Ok(1), WorkerEnd::OutOfMemory, "it had no more memory"),
            (Ok(101), WorkerEnd::ExitStatus, "exit status 101"),
            (Err(libc::SIGSYS), WorkerEnd::SystemCall, "SIGSYS: it made a system call that no worker makes"),
            (Err(libc::SIGKILL), WorkerEnd::Signal, "SIGKILL: the kernel, or somebody else, has killed it"),
            (Err(libc::SIGSEGV), WorkerEnd::Signal, "SIGSEGV"),
            (Err(64), WorkerEnd::Signal, "signal 64"),
        ] {
            let ending = Ending { status, time: Duration::ZERO, memory: 0 };
            assert_eq!(Cause::of(ending), Cause::new(end, reason));
        }
    }
}
