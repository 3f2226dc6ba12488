//! The process that provides a loader with compiled code and services, because plugins run in a process of their own.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use flowgate_model::grants::Grants;
use flowgate_runtime::{
    PluginCode, Services,
    services::{log::Log, state::State},
};

/// The entries of a plugin's state.
pub type StateEntries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Receives what plugins pass to their host, each with its name.
pub trait ServiceReceiver: Send + Sync {
    /// Receives a line of a plugin's log.
    fn log(&self, plugin: &str, level: u8, message: &str);

    /// Receives a change of a plugin's state: the key, and its value unless it has been removed.
    fn changed(&self, plugin: &str, key: &[u8], value: Option<&[u8]>);
}

/// The other process.
pub struct RemoteHost {
    /// Code of plugins by the SHA-256 of their files, in lower-case hexadecimal digits.
    pub code: HashMap<String, PluginCode>,
    /// States of plugins by name.
    pub states: RefCell<HashMap<String, StateEntries>>,
    /// Receives lines of logs and changes of states.
    pub receiver: Arc<dyn ServiceReceiver>,
    /// The states that plugins have been given, by name.
    pub opened: RefCell<HashMap<String, Arc<Mutex<State>>>>,
}

impl RemoteHost {
    /// Returns the services that a plugin has been granted.
    pub(super) fn services(&self, plugin: &str, grants: &Grants, capacity: usize) -> Services {
        let log = if grants.log {
            let (receiver, name) = (self.receiver.clone(), plugin.to_string());
            Log::to(Arc::new(move |level, message| receiver.log(&name, level, message)))
        } else {
            Log::default()
        };
        let state = grants.state.is_some().then(|| {
            let (receiver, name) = (self.receiver.clone(), plugin.to_string());
            let entries = self.states.borrow_mut().remove(plugin).unwrap_or_default();
            let changed = Box::new(move |key: &[u8], value: Option<&[u8]>| receiver.changed(&name, key, value));
            let state = Arc::new(Mutex::new(State::copied(entries, capacity, changed)));
            self.opened.borrow_mut().insert(plugin.into(), state.clone());
            state
        });
        Services { log: Arc::new(log), state, time: grants.time }
    }
}
