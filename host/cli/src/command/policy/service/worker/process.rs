//! The process of a worker, as its owner sees it.

use std::{
    io,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use flowgate_isolation::{Channel, Child, Ending, Order, Role, Spawner};
use flowgate_runtime::compiler::sealed;
use flowgate_worker::Link;

/// Bytes of events that may wait in a worker's channel. With them a busy worker finds the next events without waiting for
/// its owner.
const EVENTS: usize = 512 << 10;
/// Bytes of reports that may wait for the owner.
const REPORTS: usize = 256 << 10;
/// Time for which the end of a killed process is waited for.
const END: Duration = Duration::from_secs(5);

/// A worker's process and its channels.
pub(super) struct WorkerProcess {
    pub calls: Link,
    pub child: Arc<Child>,
}

impl WorkerProcess {
    /// Starts a worker; `setup` is the file that it is given. Returns it with the channel for events.
    ///
    /// # Errors
    /// The kernel gives no sockets or no memory, or there is nothing that starts processes any more.
    pub(super) fn start(
        spawner: &Spawner,
        limits: flowgate_isolation::Limits,
        setup: &[u8],
    ) -> io::Result<(Self, Channel)> {
        let (calls, own_calls) = Channel::pair()?;
        let (events, own_events) = Channel::pair()?;
        events.set_buffer(EVENTS);
        own_calls.set_buffer(REPORTS);
        let setup = sealed("setup", setup)?;
        let order = Order { role: Role::Worker, limits, nice: 0 };
        let child = spawner.start(&order, own_calls, &[own_events.as_fd(), setup.as_fd()])?;
        Ok((WorkerProcess { calls: Link::new(calls), child: Arc::new(child) }, events))
    }

    /// Returns the description of how the process has ended, and whether it tried what a worker never does. Kills it if it
    /// has not ended by itself a moment after its channel has.
    pub(super) fn ended(&self) -> (String, bool) {
        let ending = match self.child.wait(Instant::now() + END) {
            Ok(Some(ending)) => ending,
            Ok(None) => return ("it closed its channel".into(), true),
            Err(error) => return (error.to_string(), false),
        };
        (describe(ending), ending.status == Err(libc::SIGSYS))
    }
}

/// Describes how a process ended.
pub(super) fn describe(ending: Ending) -> String {
    match ending.status {
        // `process/memory.rs` of the program.
        Ok(1) => "it had no more memory".into(),
        Ok(status) => format!("exit status {status}"),
        Err(libc::SIGSYS) => "SIGSYS: it made a system call that no worker makes".into(),
        Err(libc::SIGKILL) => "SIGKILL: the kernel, or somebody else, has killed it".into(),
        Err(signal) => nix::sys::signal::Signal::try_from(signal)
            .map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_string()),
    }
}

/// Charges the CPU time of a process to a budget, as it is used.
#[derive(Clone)]
pub(super) struct Meter {
    child: Arc<Child>,
    budget: Arc<Mutex<flowgate_base::TokenBucket>>,
    charged: Arc<Mutex<Duration>>,
}

impl Meter {
    pub(super) fn new(child: Arc<Child>, budget: Arc<Mutex<flowgate_base::TokenBucket>>) -> Self {
        Meter { child, budget, charged: Arc::default() }
    }

    /// Charges what has been used since the last call. Returns the time that has been used in all.
    pub(super) fn charge(&self) -> Duration {
        let mut charged = self.charged.lock().unwrap_or_else(PoisonError::into_inner);
        let used = self.child.cpu_time().unwrap_or(*charged);
        self.add(used.saturating_sub(*charged));
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
