//! Host services: functions that a plugin may call, each with its own grant.
//!
//! * [`log`]: lines for the operator's log, rate-limited.
//! * [`state`]: a bounded store that outlives the instance.
//! * the clock, with a resolution of 10 ms.

pub mod log;
pub mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::{Linker, LinkerInstance};

use self::{log::Log, state::State};
use super::linker::HostState;
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

/// Defines the services of an interface, if it has any, under the name by which a component imports it: one of a
/// plugin for an earlier version of the package has that version in it.
pub(super) fn define(linker: &mut Linker<HostState>, import: &str, interface: &str) -> wasmtime::Result<()> {
    match interface {
        "flowgate:conntrack/log" => {
            linker.instance(import)?.func_wrap("log", |store, (level, message): (u8, String)| {
                store.data().services.log.write(level, &message);
                Ok(())
            })
        }
        // Without the grant such a plugin does not start; this is the second line of defence.
        "flowgate:conntrack/clock" => linker.instance(import)?.func_wrap("now", |store, (): ()| {
            let granted = store.data().services.time;
            Ok((if granted { now() / CLOCK_RESOLUTION * CLOCK_RESOLUTION } else { 0 },))
        }),
        "flowgate:conntrack/key-value" => key_value(&mut linker.instance(import)?),
        _ => Ok(()),
    }
}

fn key_value(linker: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    linker.func_wrap("get", |store, (key,): (Vec<u8>,)| {
        Ok((store.data().services.state().and_then(|state| state.get(&key).map(<[u8]>::to_vec)),))
    })?;
    linker.func_wrap("set", |store, (key, value): (Vec<u8>, Vec<u8>)| {
        let services = &store.data().services;
        Ok((services.state().map_or(Err(state::FULL), |mut state| state.set(key, value)),))
    })?;
    linker.func_wrap("remove", |store, (key,): (Vec<u8>,)| {
        Ok((store.data().services.state().is_some_and(|mut state| state.remove(&key)),))
    })?;
    linker.func_wrap("keys", |store, (prefix, after, limit): (Vec<u8>, Vec<u8>, u32)| {
        let state = store.data().services.state();
        Ok((state.map_or_else(Vec::new, |state| state.keys(&prefix, &after, limit as usize)),))
    })
}
