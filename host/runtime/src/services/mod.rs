//! Host services: functions that a plugin may call, each with its own grant.
//!
//! * [`log`]: lines for the operator's log, rate-limited.
//! * [`state`]: a bounded store that outlives the instance.
//! * the clock, with a resolution of 10 ms.

pub mod log;
pub mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::{HasSelf, Linker};

use self::{log::Log, state::State};
use super::linker::HostState;
use crate::bindings::flowgate::conntrack::{clock, key_value, log as wit_log};
use flowgate_base::clock::now;

/// Resolution of the plugins' clock in nanoseconds.
const CLOCK_RESOLUTION: u64 = 10_000_000;

/// Returns the grant that a plugin needs in order to import this interface of the package, or `None` if it needs none.
#[must_use]
pub fn required_grant(interface: &str) -> Option<&'static str> {
    match interface {
        "key-value" => Some("state"),
        "clock" => Some("time"),
        _ => None,
    }
}

/// The services granted to one plugin. Cheap to clone: successive instances of a plugin share it.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// The destination of its log lines.
    pub log: Arc<Log>,
    /// Its state store, or `None` without the grant.
    pub state: Option<Arc<Mutex<State>>>,
    /// True if it may read the clock.
    pub time: bool,
}

impl Services {
    /// Returns the plugin's state store. A poisoned lock is safe to ignore: every update is atomic.
    #[must_use]
    pub fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.state.as_ref().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Lets components of this linker call the services.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wit_log::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)?;
    key_value::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)?;
    clock::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)
}

impl wit_log::Host for HostState {
    fn log(&mut self, level: u8, message: String) {
        self.services.log.write(level, &message);
    }
}

impl clock::Host for HostState {
    fn now(&mut self) -> u64 {
        // Without the grant such a plugin does not start; this is the second line of defence.
        if self.services.time { now() / CLOCK_RESOLUTION * CLOCK_RESOLUTION } else { 0 }
    }
}

impl key_value::Host for HostState {
    fn get(&mut self, key: Vec<u8>) -> Option<Vec<u8>> {
        self.services.state().and_then(|state| state.get(&key).map(<[u8]>::to_vec))
    }

    fn set(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), u8> {
        self.services.state().map_or(Err(state::FULL), |mut state| state.set(key, value))
    }

    fn remove(&mut self, key: Vec<u8>) -> bool {
        self.services.state().is_some_and(|mut state| state.remove(&key))
    }

    fn keys(&mut self, prefix: Vec<u8>, after: Vec<u8>, limit: u32) -> Vec<Vec<u8>> {
        self.services.state().map_or_else(Vec::new, |state| state.keys(&prefix, &after, limit as usize))
    }
}
