//! Loads plugins from files and stock plugins, and makes configured stages and formats of them.
//!
//! Command lines, pipeline files, tenants and embedding programs load their plugins through [`PluginLoader`], so that
//! all of them make the same checks ([`PluginLoader::prepare`]) and return the same [`LoadPluginError`].

mod error;
pub mod options;
mod plugin;
mod remote;

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{Timestamp, tz::TimeZone};

pub use error::ProblemPlace;
pub use error::{LoadPluginError, PluginProblems};
pub use plugin::{LoadedPlugin, PluginLimits, PluginSpec, PreparedPlugin};
pub use remote::{RemoteHost, ServiceReceiver, StateEntries};

pub use crate::role::Role;

use crate::format::Format;
use flowgate_base::files::Trust;
use flowgate_model::{
    Label, OptionValue, Setup, UtcOffset, field,
    grants::{Grants, StateStorage},
};
use flowgate_runtime::{
    Cache, Instance, Limits, LoadError, PluginComponent, PluginEngine, Services,
    services::{log::Log, state::State},
};

/// The purpose for which a plugin is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The plugin is run.
    Run,
    /// The plugin is checked or explained: nothing is opened that a run would change.
    Inspect,
}

impl Purpose {
    /// Returns the grants in effect. If the plugin is only inspected, the file of its state is neither created nor
    /// locked.
    fn grants(self, granted: &Grants) -> Grants {
        let state = match self {
            Purpose::Run => granted.state.clone(),
            Purpose::Inspect => granted.state.as_ref().map(|_| StateStorage::Memory),
        };
        Grants { state, ..granted.clone() }
    }
}

/// The state of plugins by name. It outlives a loader, for plugins that replace others.
#[derive(Debug, Default)]
pub struct StateStores(Mutex<HashMap<String, Arc<Mutex<State>>>>);

/// Loads the plugins of a pipeline, which share an engine and the host's part of their setup.
pub struct PluginLoader {
    engine: PluginEngine,
    labels: Vec<Label>,
    users: bool,
    offsets: Vec<UtcOffset>,
    stock: RefCell<HashMap<&'static str, Rc<PluginComponent>>>,
    /// The process that provides compiled code and services, if plugins run in one of their own.
    remote: Option<RemoteHost>,
}

impl PluginLoader {
    /// Starts an engine. `users`: plugins from files will be loaded, whose compiled code is kept in a cache;
    /// `local_time`: formats will print local time.
    ///
    /// # Errors
    /// [`LoadError::Engine`] if the engine cannot start.
    pub fn new(labels: Vec<Label>, users: bool, local_time: bool) -> Result<Self, LoadError> {
        let engine = PluginEngine::new(if users { Cache::of_environment() } else { None })?;
        let offsets = if users || local_time { offsets() } else { Vec::new() };
        Ok(PluginLoader { users, ..Self::with_offsets(engine, labels, offsets) })
    }

    /// Has plugins loaded by this engine.
    #[must_use]
    pub fn on_engine(self, engine: PluginEngine) -> Self {
        PluginLoader { engine, ..self }
    }

    /// Returns a loader that passes these offsets of local time to plugins. Reading those of the machine takes 0.6 ms,
    /// which a command without local time saves.
    fn with_offsets(engine: PluginEngine, labels: Vec<Label>, offsets: Vec<UtcOffset>) -> Self {
        let stock = RefCell::default();
        PluginLoader { engine, labels, users: true, offsets, stock, remote: None }
    }

    /// Returns a loader in a process of its own, whose plugins get their code and their services from another one.
    /// `offsets` are those of local time.
    #[must_use]
    pub fn remote(engine: PluginEngine, labels: Vec<Label>, offsets: Vec<UtcOffset>, host: RemoteHost) -> Self {
        PluginLoader { remote: Some(host), ..Self::with_offsets(engine, labels, offsets) }
    }

    /// Returns the process that provides code and services, if plugins run in one of their own.
    #[must_use]
    pub fn remote_host(&self) -> Option<&RemoteHost> {
        self.remote.as_ref()
    }

    /// Does the work of [`PluginLoader::new`], for tests of plugins: local time is UTC, so that the output is the same
    /// everywhere.
    ///
    /// # Errors
    /// As [`PluginLoader::new`].
    pub fn in_utc(labels: Vec<Label>) -> Result<Self, LoadError> {
        let utc = vec![UtcOffset { since: 0, offset: 0 }];
        Ok(PluginLoader { offsets: utc, ..Self::new(labels, true, false)? })
    }

    /// Returns the engine.
    #[must_use]
    pub fn engine(&self) -> &PluginEngine {
        &self.engine
    }

    /// Returns true if a new loader with these arguments would give plugins the same setup.
    #[must_use]
    pub fn suits(&self, labels: &[Label], users: bool, local_time: bool) -> bool {
        self.labels == labels && (self.users || !users) && (!self.offsets.is_empty() || !local_time)
    }

    /// Returns a stock format. `labels`: the format gets the names of labels, and prints them.
    ///
    /// # Errors
    /// [`LoadPluginError`] if it cannot be started.
    pub fn format(
        &self,
        name: &'static str,
        role: Role,
        options: &[OptionValue],
        labels: bool,
    ) -> Result<Format, LoadPluginError> {
        let started = self.start(name, role, options, labels);
        let (mut instance, plugin) = started.map_err(PluginProblems::into_first)?;
        instance.end_start_up();
        Ok(Format::new(instance, plugin.description.reads & field::ALL))
    }

    /// Returns a stock plugin, which is loaded once.
    ///
    /// # Errors
    /// [`LoadError`] if there is no stock plugin of this name.
    pub fn stock(&self, name: &'static str) -> Result<Rc<PluginComponent>, LoadError> {
        if let Some(component) = self.stock.borrow().get(name) {
            return Ok(component.clone());
        }
        let component = Rc::new(PluginComponent::stock(&self.engine, name)?);
        self.stock.borrow_mut().insert(name, component.clone());
        Ok(component)
    }

    /// Instantiates a stock plugin and configures it.
    ///
    /// # Errors
    /// [`PluginProblems`] with all problems.
    pub(crate) fn start(
        &self,
        name: &'static str,
        role: Role,
        options: &[OptionValue],
        labels: bool,
    ) -> Result<(Instance, LoadedPlugin), PluginProblems> {
        self.start_within(Limits::default(), name, role, options, labels)
    }

    /// As [`start`](Self::start), with other limits than the usual ones.
    ///
    /// # Errors
    /// [`PluginProblems`] with all problems.
    pub(crate) fn start_within(
        &self,
        limits: Limits,
        name: &'static str,
        role: Role,
        options: &[OptionValue],
        labels: bool,
    ) -> Result<(Instance, LoadedPlugin), PluginProblems> {
        let component = self.stock(name)?;
        error::check_role(&component, role)?;
        let mut instance = Instance::new(&component, limits)?;
        let description = instance.describe()?;
        if let Some(problems) = PluginProblems::collect(options::problems(&component.name, &description, options)) {
            return Err(problems);
        }
        let options = options::with_defaults(&description, options);
        instance.configure(&self.setup(options.clone(), labels))?;
        let plugin = LoadedPlugin {
            name: name.into(),
            file: None,
            digest: None,
            description,
            interfaces: component.capabilities.interfaces(),
            services: component.services.clone(),
            options,
            grants: Grants::NONE,
            ungranted: Vec::new(),
            limits: None,
            text: None,
        };
        Ok((instance, plugin))
    }

    /// Returns the setup that a plugin is configured with.
    fn setup(&self, options: Vec<OptionValue>, labels: bool) -> Setup {
        Setup {
            options,
            labels: if labels { self.labels.clone() } else { Vec::new() },
            offsets: self.offsets.clone(),
            host: concat!("flowgate ", env!("CARGO_PKG_VERSION")).into(),
        }
    }

    /// Returns the services that a plugin has been granted.
    fn services(
        &self,
        component: &PluginComponent,
        grants: &Grants,
        capacity: usize,
    ) -> Result<Services, LoadPluginError> {
        if let Some(remote) = &self.remote {
            return Ok(remote.services(&component.name, grants, capacity));
        }
        let state = StateStores::default().open(&component.name, grants, capacity, Trust::Sticky)?;
        let log = if grants.log { Log::of(&log_name(&component.name)) } else { Log::default() };
        Ok(Services { log: Arc::new(log), state, time: grants.time })
    }
}

impl StateStores {
    /// Returns the state of a plugin that was granted one, which is shared with an earlier plugin of the same name,
    /// limit and grant. `trust` is what is required of the directory of its file.
    ///
    /// # Errors
    /// [`LoadPluginError::State`] if its file cannot be used.
    pub fn open(
        &self,
        plugin: &str,
        grants: &Grants,
        capacity: usize,
        trust: Trust,
    ) -> Result<Option<Arc<Mutex<State>>>, LoadPluginError> {
        let Some(keeping) = &grants.state else { return Ok(None) };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{plugin} {capacity} {:?}", grants.state);
        if let Some(state) = all.get(&key) {
            return Ok(Some(state.clone()));
        }
        let state = match keeping {
            StateStorage::Memory => State::in_memory(capacity),
            StateStorage::File(path) => State::in_file(path, capacity, trust)
                .map_err(|error| LoadPluginError::State { plugin: plugin.into(), error })?,
        };
        let state = Arc::new(Mutex::new(state));
        all.insert(key, state.clone());
        Ok(Some(state))
    }
}

/// Returns the name of a plugin in the log: its file without directory and extension.
fn log_name(plugin: &str) -> String {
    let stem = std::path::Path::new(plugin).file_stem();
    stem.map_or_else(|| plugin.to_string(), |stem| stem.to_string_lossy().into_owned())
}

/// Returns the differences of local time from UTC, from 1970 until thirty years from now.
#[must_use]
pub fn offsets() -> Vec<UtcOffset> {
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    let end = Timestamp::now().as_second().saturating_add(30 * 366 * 86_400);
    let first = UtcOffset { since: 0, offset: zone.to_offset(Timestamp::UNIX_EPOCH).seconds() };
    let later = zone
        .following(Timestamp::UNIX_EPOCH)
        .map(|transition| UtcOffset {
            since: transition.timestamp().as_second(),
            offset: transition.offset().seconds(),
        })
        .take_while(|offset| offset.since < end);
    std::iter::once(first).chain(later).collect()
}
