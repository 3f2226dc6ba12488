//! Puts the plugins of a pipeline together: loaded, described, their options checked, configured.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Mutex, Once, PoisonError},
};

use jiff::{Timestamp, tz::TimeZone};

use super::report::{self, CommandError};
use flowgate_base::text::clean;
use flowgate_model::{
    Description, Label, OptionValue, Selection, Setup, UtcOffset, field,
    grants::{Grants, Keeping},
};
use flowgate_pipeline::{
    executor::{Plan, Planned},
    format::Format,
    stage::Stage,
    supervisor::Policy,
};
use flowgate_runtime::{
    Cache, Capabilities, Failure, Instance, Limits, LoadError, PluginComponent, PluginEngine, PluginError, Services,
    services::{
        log::Log,
        needs,
        state::{CAPACITY, State},
    },
};
use flowgate_syntax::{Command, PluginSpec, Settings};

/// What all plugins of a command have in common.
pub struct Assembly {
    engine: PluginEngine,
    limits: Limits,
    labels: Vec<Label>,
    users: bool,
    offsets: Vec<UtcOffset>,
    stock: RefCell<HashMap<&'static str, Rc<PluginComponent>>>,
    /// What plugins keep beyond this assembly.
    states: Option<Arc<States>>,
    /// Of which generation of a policy its plugins are, if they are a tenant's.
    generation: Option<u64>,
}

/// Tells once if plugins from files run slower here than elsewhere, and why.
///
/// # Errors
/// [`LoadError::Engine`] if they cannot run at all.
pub(in crate::command) fn tell_execution(engine: &PluginEngine) -> Result<(), LoadError> {
    static TOLD: Once = Once::new();
    let execution = engine.execution()?;
    if execution.is_slowed() {
        TOLD.call_once(|| report::line(&format!("NOTICE: Plugins from files run as {execution}.")));
    }
    Ok(())
}

/// What plugins keep, by their names: it outlives an assembly, for those that take the place of others.
#[derive(Debug, Default)]
pub struct States(Mutex<HashMap<String, Arc<Mutex<State>>>>);

/// A plugin of the user, and all that is decided about it.
#[derive(Debug)]
pub struct UserPlugin<'a> {
    /// File and options.
    pub spec: &'a PluginSpec,
    /// What it may use up.
    pub limits: Limits,
    /// What happens when it fails.
    pub policy: Policy,
    /// Bytes that it may keep, if it may keep any.
    pub capacity: usize,
}

impl<'a> UserPlugin<'a> {
    /// With the limits that hold unless others are named.
    #[must_use]
    pub fn new(spec: &'a PluginSpec) -> Self {
        let policy = Policy { on_error: spec.on_error, ..Policy::default() };
        UserPlugin { spec, limits: Limits::default(), policy, capacity: CAPACITY }
    }

    /// With these limits.
    #[must_use]
    pub fn limited(spec: &'a PluginSpec, limits: &flowgate_config::Limits) -> Self {
        UserPlugin { spec, limits: limits.instance, policy: limits.policy, capacity: limits.capacity }
    }
}

/// What for a plugin is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be run.
    Run,
    /// To be looked at: nothing is opened that a run would change.
    Look,
}

impl Purpose {
    /// What a plugin is granted. For one that is only looked at the file of its state is neither made nor locked.
    #[must_use]
    pub fn grants(self, granted: &Grants) -> Grants {
        let state = match self {
            Purpose::Run => granted.state.clone(),
            Purpose::Look => granted.state.as_ref().map(|_| Keeping::Memory),
        };
        Grants { state, ..granted.clone() }
    }
}

/// What a plugin is to do in a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Look at flows.
    FlowStage,
    /// Look at expectations.
    ExpectationStage,
    /// Show flows.
    FlowFormat,
    /// Show expectations.
    ExpectationFormat,
    /// Show statistics.
    StatisticsFormat,
}

impl Role {
    /// Whether a component can play it.
    pub fn is_within(self, can: Capabilities) -> bool {
        match self {
            Role::FlowStage => can.flow_stage,
            Role::ExpectationStage => can.expectation_stage,
            Role::FlowFormat => can.flow_format,
            Role::ExpectationFormat => can.expectation_format,
            Role::StatisticsFormat => can.statistics_format,
        }
    }

    /// The interface that it needs.
    pub fn interface(self) -> &'static str {
        match self {
            Role::FlowStage => "flow-stage",
            Role::ExpectationStage => "expectation-stage",
            Role::FlowFormat => "flow-format",
            Role::ExpectationFormat => "expectation-format",
            Role::StatisticsFormat => "statistics-format",
        }
    }
}

impl Assembly {
    /// Starts the engine. `users`: whether plugins from files will follow, which are kept compiled in a cache.
    ///
    /// # Errors
    /// [`CommandError::Load`] if the engine cannot start.
    pub fn new(labels: Vec<Label>, users: bool, local_time: bool) -> Result<Self, CommandError> {
        let engine = PluginEngine::new(if users { Cache::of_environment() } else { None })?;
        if users {
            tell_execution(&engine)?;
        }
        Ok(Assembly {
            engine,
            limits: Limits::default(),
            labels,
            users,
            offsets: if users || local_time { offsets() } else { Vec::new() },
            stock: RefCell::default(),
            states: None,
            generation: None,
        })
    }

    /// An assembly of a tenant, on an engine that others use too; plugins of the same name share what they keep. In the log they
    /// are called by their whole names and the generation.
    #[must_use]
    pub fn sharing(engine: PluginEngine, labels: Vec<Label>, states: Arc<States>, generation: u64) -> Self {
        Assembly {
            engine,
            limits: Limits::default(),
            labels,
            users: true,
            offsets: offsets(),
            stock: RefCell::default(),
            states: Some(states),
            generation: Some(generation),
        }
    }

    /// As [`Assembly::new`], for tests of plugins: local time is UTC, so that they give the same everywhere.
    ///
    /// # Errors
    /// As [`Assembly::new`].
    pub fn in_utc(labels: Vec<Label>) -> Result<Self, CommandError> {
        let utc = vec![UtcOffset { since: 0, offset: 0 }];
        Ok(Assembly { offsets: utc, ..Self::new(labels, true, false)? })
    }

    /// The engine.
    pub fn engine(&self) -> &PluginEngine {
        &self.engine
    }

    /// A plugin, started for a role with these options and with the services that it is granted.
    ///
    /// # Errors
    /// [`CommandError`] if it is no plugin for this role, needs a service that it was not granted, or does not accept its
    /// options.
    pub fn started(
        &self,
        component: &PluginComponent,
        role: Role,
        options: &[OptionValue],
        grants: &Grants,
    ) -> Result<(Instance, Description), CommandError> {
        let services = self.services(component, grants, CAPACITY, None)?;
        let instance = Instance::with_services(component, self.limits, services)?;
        let (mut instance, description, _) = self.configured(component, instance, role, options, true)?;
        instance.started();
        Ok((instance, description))
    }

    /// Whether plugins would be told the same by an assembly that is made anew.
    pub fn suits(&self, labels: &[Label], users: bool, local_time: bool) -> bool {
        self.labels == labels && (self.users || !users) && (!self.offsets.is_empty() || !local_time)
    }

    /// A stock stage that applies the selector.
    ///
    /// # Errors
    /// [`CommandError`] if it cannot be started.
    pub fn selecting_stage(&self, name: &'static str, selection: &Selection) -> Result<Stage, CommandError> {
        let select = |instance: &mut Instance| instance.select(selection);
        Ok(self.stock_stage(name, Role::FlowStage, &[], Grants::NONE, select)?.selecting())
    }

    /// The stock stage that carries out what a command is about; the user asked for it, so it may.
    ///
    /// # Errors
    /// [`CommandError`] if it cannot be started.
    pub fn acting_stage(&self, name: &'static str, role: Role, settings: &Settings) -> Result<Stage, CommandError> {
        let mut options = Vec::new();
        if settings.command == Command::Add {
            options.push(OptionValue { name: "or-update".into(), value: "true".into() });
        }
        let takes_template = self.stock(name)?.capabilities.flow_template;
        let template = |instance: &mut Instance| {
            if takes_template { instance.template(&settings.template) } else { Ok(()) }
        };
        Ok(self.stock_stage(name, role, &options, Grants::ALL, template)?.strict())
    }

    /// A stock stage. `tell` gives it what it needs to know besides its options.
    ///
    /// # Errors
    /// [`CommandError`] if it cannot be started.
    pub fn stock_stage(
        &self,
        name: &'static str,
        role: Role,
        options: &[OptionValue],
        grants: Grants,
        tell: impl FnOnce(&mut Instance) -> Result<(), PluginError>,
    ) -> Result<Stage, CommandError> {
        let (mut instance, description) = self.start(&*self.stock(name)?, role, options, true)?;
        tell(&mut instance)?;
        instance.started();
        Ok(Stage::new(instance, description.reads, grants))
    }

    /// What a plugin says of itself.
    ///
    /// # Errors
    /// It cannot be started, or failed.
    pub fn describe(&self, component: &PluginComponent, limits: Limits) -> Result<Description, PluginError> {
        Instance::new(component, limits)?.describe()
    }

    /// A stage of the user.
    ///
    /// # Errors
    /// [`CommandError`] if the file is no plugin for this role, needs a service that it was not granted, or does not accept
    /// its options.
    pub fn user_stage(&self, plugin: &UserPlugin<'_>, role: Role) -> Result<Stage, CommandError> {
        self.compiled_stage(PluginComponent::open(&self.engine, &plugin.spec.file)?, plugin, role)
    }

    /// As [`Assembly::user_stage`], of a plugin that has been compiled.
    ///
    /// # Errors
    /// As [`Assembly::user_stage`].
    pub fn compiled_stage(
        &self,
        component: PluginComponent,
        plugin: &UserPlugin<'_>,
        role: Role,
    ) -> Result<Stage, CommandError> {
        let UserPlugin { spec, limits, policy, capacity } = *plugin;
        let services = self.services(&component, &spec.grants, capacity, self.states.as_deref())?;
        let instance = Instance::with_services(&component, limits, services.clone())?;
        let (mut instance, description, setup) = self.configured(&component, instance, role, &spec.options, true)?;
        let can = component.capabilities;
        let interval = if can.flow_tick && spec.grants.tick { instance.tick_interval()? } else { 0 };
        instance.started();
        let stage = Stage::new(instance, description.reads, spec.grants.clone());
        let again = services.clone();
        let recipe = move || {
            let mut instance = Instance::with_services(&component, limits, again.clone())?;
            instance.configure(&setup)?;
            instance.started();
            Ok(instance)
        };
        Ok(stage.supervised(Box::new(recipe), policy).serving(services).called(can, interval))
    }

    /// What a plugin of the user says of itself, once it has been told its options.
    ///
    /// # Errors
    /// As [`Assembly::user_stage`].
    pub fn description(&self, plugin: &UserPlugin<'_>, role: Role) -> Result<Description, CommandError> {
        let UserPlugin { spec, limits, capacity, .. } = *plugin;
        let component = PluginComponent::open(&self.engine, &spec.file)?;
        let services = self.services(&component, &spec.grants, capacity, None)?;
        let instance = Instance::with_services(&component, limits, services)?;
        Ok(self.configured(&component, instance, role, &spec.options, true)?.1)
    }

    /// What a dry run writes with.
    ///
    /// # Errors
    /// [`CommandError`] if it cannot be started.
    pub fn plan<T: Planned>(&self, role: Role) -> Result<Plan<T>, CommandError> {
        let format = |command: &str| {
            let options = [("command", command), ("complete", "true")]
                .map(|(name, value)| OptionValue { name: name.into(), value: value.into() });
            self.format("save", role, &options, true)
        };
        Ok(Plan::new([format("D")?, format("U")?, format("I")?, format("A")?]))
    }

    /// A stock format. `labels`: whether it is told their names, and so prints them.
    ///
    /// # Errors
    /// [`CommandError`] if it cannot be started.
    pub fn format(
        &self,
        name: &'static str,
        role: Role,
        options: &[OptionValue],
        labels: bool,
    ) -> Result<Format, CommandError> {
        let (mut instance, description) = self.start(&*self.stock(name)?, role, options, labels)?;
        instance.started();
        Ok(Format::new(instance, description.reads))
    }

    /// A format of the user, compiled.
    ///
    /// # Errors
    /// As [`Assembly::user_stage`].
    pub fn compiled_format(
        &self,
        component: &PluginComponent,
        plugin: &UserPlugin<'_>,
        role: Role,
    ) -> Result<Format, CommandError> {
        let services = self.services(component, &plugin.spec.grants, plugin.capacity, None)?;
        let instance = Instance::with_services(component, plugin.limits, services)?;
        let (mut instance, description, _) = self.configured(component, instance, role, &plugin.spec.options, true)?;
        instance.started();
        Ok(Format::new(instance, description.reads))
    }

    /// A stock plugin, loaded once.
    pub fn stock(&self, name: &'static str) -> Result<Rc<PluginComponent>, CommandError> {
        if let Some(component) = self.stock.borrow().get(name) {
            return Ok(component.clone());
        }
        let component = Rc::new(PluginComponent::stock(&self.engine, name)?);
        self.stock.borrow_mut().insert(name, component.clone());
        Ok(component)
    }

    /// Instantiates, describes and configures.
    fn start(
        &self,
        component: &PluginComponent,
        role: Role,
        options: &[OptionValue],
        labels: bool,
    ) -> Result<(Instance, Description), CommandError> {
        let instance = Instance::new(component, self.limits)?;
        let (instance, description, _) = self.configured(component, instance, role, options, labels)?;
        Ok((instance, description))
    }

    /// Describes and configures an instance. What it was configured with is returned, for the instances after it.
    fn configured(
        &self,
        component: &PluginComponent,
        mut instance: Instance,
        role: Role,
        options: &[OptionValue],
        labels: bool,
    ) -> Result<(Instance, Description, Setup), CommandError> {
        fits(component, role)?;
        let description = instance.describe()?;
        let options = checked(&component.name, &description, options)?;
        let setup = Setup {
            options,
            labels: if labels { self.labels.clone() } else { Vec::new() },
            offsets: self.offsets.clone(),
            host: concat!("flowgate ", env!("CARGO_PKG_VERSION")).into(),
        };
        instance.configure(&setup)?;
        Ok((instance, Description { reads: description.reads & field::ALL, ..description }, setup))
    }

    /// What a plugin is called in the log: as its file, without directory and extension; that of a tenant as everywhere else, so that
    /// no name of a file makes it look like another one's.
    fn title(&self, component: &PluginComponent) -> String {
        match self.generation {
            Some(generation) => clean(&format!("{} (generation {generation})", component.name)),
            None => short(&component.name),
        }
    }

    /// The services that a plugin has been granted.
    fn services(
        &self,
        component: &PluginComponent,
        grants: &Grants,
        capacity: usize,
        states: Option<&States>,
    ) -> Result<Services, CommandError> {
        let state = kept(component, grants, capacity, states)?;
        for wanted in &component.services {
            if let Some(grant) = needs(wanted).filter(|grant| !grants.covers(grant)) {
                let plugin = component.name.clone();
                return Err(CommandError::PluginService { plugin, service: wanted.clone(), grant });
            }
        }
        let log = if grants.log { Log::of(&self.title(component)) } else { Log::default() };
        Ok(Services { log: Arc::new(log), state, time: grants.time })
    }
}

/// Whether a component can play a role.
fn fits(component: &PluginComponent, role: Role) -> Result<(), CommandError> {
    if role.is_within(component.capabilities) {
        return Ok(());
    }
    Err(CommandError::Plugin(PluginError {
        plugin: component.name.clone(),
        failure: Failure::Host(format!(
            "it does not export flowgate:conntrack/{}, which this command needs of it",
            role.interface()
        )),
    }))
}

/// A plugin's name in the log: the file's without directory and extension.
fn short(name: &str) -> String {
    std::path::Path::new(name).file_stem().map_or_else(|| name.to_string(), |stem| stem.to_string_lossy().into_owned())
}

/// What a plugin keeps, if it was granted to keep anything: what one of the same name kept before, if there is such.
fn kept(
    component: &PluginComponent,
    grants: &Grants,
    capacity: usize,
    states: Option<&States>,
) -> Result<Option<Arc<Mutex<State>>>, CommandError> {
    let Some(keeping) = &grants.state else { return Ok(None) };
    let mut all = states.map(|states| states.0.lock().unwrap_or_else(PoisonError::into_inner));
    let key = format!("{} {capacity} {:?}", component.name, grants.state);
    if let Some(state) = all.as_ref().and_then(|all| all.get(&key)) {
        return Ok(Some(state.clone()));
    }
    let state = match keeping {
        Keeping::Memory => State::in_memory(capacity),
        Keeping::File(path) => State::in_file(path, capacity)
            .map_err(|error| CommandError::PluginState { plugin: component.name.clone(), error })?,
    };
    let state = Arc::new(Mutex::new(state));
    if let Some(all) = &mut all {
        all.insert(key, state.clone());
    }
    Ok(Some(state))
}

/// The options that a plugin is given: those of the user, which it must know, and its own defaults.
pub(super) fn checked(
    plugin: &str,
    description: &Description,
    given: &[OptionValue],
) -> Result<Vec<OptionValue>, CommandError> {
    if let Some((_, problem)) = option_problems(description, given).into_iter().next() {
        return Err(CommandError::PluginOption { plugin: plugin.to_string(), problem });
    }
    let mut options = Vec::new();
    for spec in &description.options {
        if let Some(default) = &spec.default
            && !given.iter().any(|option| option.name == spec.name)
        {
            options.push(OptionValue { name: spec.name.clone(), value: default.clone() });
        }
    }
    options.extend_from_slice(given);
    Ok(options)
}

/// What is wrong with the options that a plugin is given: with that of this number, or with none but for its want.
pub fn option_problems(description: &Description, given: &[OptionValue]) -> Vec<(Option<usize>, String)> {
    let unknown = given
        .iter()
        .enumerate()
        .filter(|(_, option)| !description.options.iter().any(|spec| spec.name == option.name))
        .map(|(index, option)| {
            (Some(index), format!("it has no option `{}`; {}", clean(&option.name), known(description)))
        });
    let missing = description
        .options
        .iter()
        .filter(|spec| spec.required && spec.default.is_none() && !given.iter().any(|option| option.name == spec.name))
        .map(|spec| {
            let (name, placeholder, help) = (clean(&spec.name), clean(&spec.placeholder), clean(&spec.help));
            (None, format!("it needs the option `{name}={placeholder}` ({help})"))
        });
    unknown.chain(missing).collect()
}

/// The options that a plugin has, in a sentence.
fn known(description: &Description) -> String {
    if description.options.is_empty() {
        return "it has none".into();
    }
    let list: Vec<String> = description
        .options
        .iter()
        .map(|spec| format!("{}={} ({})", clean(&spec.name), clean(&spec.placeholder), clean(&spec.help)))
        .collect();
    format!("it has {}", list.join(", "))
}

/// How local time differs from UTC, from 1970 until thirty years from now.
fn offsets() -> Vec<UtcOffset> {
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
