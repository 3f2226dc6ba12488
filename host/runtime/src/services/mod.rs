//! Host services: what a plugin may call, each granted alone.
//!
//! * [`log`]: lines for the operator's log, rate-limited.
//! * [`state`]: a bounded memory that outlives the instance.
//! * the clock, to 10 ms.

pub mod log;
pub mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::{HasSelf, Linker};

use self::{log::Log, state::State};
use super::imports::HostState;
use crate::bindings::flowgate::conntrack::{clock, key_value, log as wit_log};
use flowgate_base::clock::now;

/// How coarse the plugins' clock is, in nanoseconds.
const COARSE: u64 = 10_000_000;

/// The grant without which a plugin that imports this interface of the package does not start; none if it may go without.
#[must_use]
pub fn needs(interface: &str) -> Option<&'static str> {
    match interface {
        "key-value" => Some("state"),
        "clock" => Some("time"),
        _ => None,
    }
}

/// What one plugin was granted. Cheap to clone: the instances of a plugin, one after the other, share it.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// Where its lines go.
    pub log: Arc<Log>,
    /// What it keeps; none without the grant.
    pub state: Option<Arc<Mutex<State>>>,
    /// Whether it may know the time.
    pub time: bool,
}

impl Services {
    /// What the plugin keeps, to be read or changed. A panic while it was held left nothing half done.
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
        // Without the grant such a plugin does not start; should it, it learns nothing.
        if self.services.time { now() / COARSE * COARSE } else { 0 }
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
