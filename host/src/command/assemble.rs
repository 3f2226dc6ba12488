//! Puts the plugins of a pipeline together: loaded, described, their options checked, configured.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use jiff::{Timestamp, tz::TimeZone};

use super::report::CommandError;
use crate::{
    cli::{Command, PluginSpec, Settings},
    model::{Description, Label, OptionValue, Selection, Setup, UtcOffset, field},
    pipeline::{format::Format, grants::Grants, stage::Stage},
    text::clean,
    wasm::{Capabilities, Failure, Instance, Limits, PluginComponent, PluginEngine, PluginError},
};

/// What all plugins of a command have in common.
pub struct Assembly {
    engine: PluginEngine,
    limits: Limits,
    labels: Vec<Label>,
    users: bool,
    offsets: Vec<UtcOffset>,
    stock: RefCell<HashMap<&'static str, Rc<PluginComponent>>>,
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
    fn is_within(self, can: Capabilities) -> bool {
        match self {
            Role::FlowStage => can.flow_stage,
            Role::ExpectationStage => can.expectation_stage,
            Role::FlowFormat => can.flow_format,
            Role::ExpectationFormat => can.expectation_format,
            Role::StatisticsFormat => can.statistics_format,
        }
    }

    fn interface(self) -> &'static str {
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
        let cache = if users { PluginEngine::cache_directory() } else { None };
        Ok(Assembly {
            engine: PluginEngine::new(cache.as_deref())?,
            limits: Limits::default(),
            labels,
            users,
            offsets: if users || local_time { offsets() } else { Vec::new() },
            stock: RefCell::default(),
        })
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

    /// A plugin, started for a role with these options: `labels` says whether it is told their names.
    ///
    /// # Errors
    /// [`CommandError`] if it is no plugin for this role, or does not accept its options.
    pub fn started(
        &self,
        component: &PluginComponent,
        role: Role,
        options: &[OptionValue],
    ) -> Result<(Instance, Description), CommandError> {
        let (mut instance, description) = self.start(component, role, options, true)?;
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
        let (mut instance, description) = self.start(&*self.stock(name)?, Role::FlowStage, &[], true)?;
        instance.select(selection)?;
        instance.started();
        Ok(Stage::new(instance, description.reads, Grants::NONE))
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
        let component = self.stock(name)?;
        let (mut instance, description) = self.start(&component, role, &options, true)?;
        if component.capabilities.flow_template {
            instance.template(&settings.template)?;
        }
        instance.started();
        Ok(Stage::new(instance, description.reads, Grants::ALL))
    }

    /// A stage of the user.
    ///
    /// # Errors
    /// [`CommandError`] if the file is no plugin for this role, or does not accept its options.
    pub fn user_stage(&self, spec: &PluginSpec, role: Role, grants: Grants) -> Result<Stage, CommandError> {
        let component = PluginComponent::open(&self.engine, &spec.file)?;
        let (mut instance, description) = self.start(&component, role, &spec.options, true)?;
        instance.started();
        Ok(Stage::new(instance, description.reads, grants))
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

    /// A stock plugin, loaded once.
    fn stock(&self, name: &'static str) -> Result<Rc<PluginComponent>, CommandError> {
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
        if !role.is_within(component.capabilities) {
            return Err(CommandError::Plugin(PluginError {
                plugin: component.name.clone(),
                failure: Failure::Host(format!(
                    "it does not export flowgate:conntrack/{}, which this command needs of it",
                    role.interface()
                )),
            }));
        }
        let mut instance = Instance::new(component, self.limits)?;
        let description = instance.describe()?;
        let options = checked(&component.name, &description, options)?;
        instance.configure(&Setup {
            options,
            labels: if labels { self.labels.clone() } else { Vec::new() },
            offsets: self.offsets.clone(),
            host: concat!("flowgate ", env!("CARGO_PKG_VERSION")).into(),
        })?;
        Ok((instance, Description { reads: description.reads & field::ALL, ..description }))
    }
}

/// The options that a plugin is given: those of the user, which it must know, and its own defaults.
pub(super) fn checked(
    plugin: &str,
    description: &Description,
    given: &[OptionValue],
) -> Result<Vec<OptionValue>, CommandError> {
    let problem = |problem: String| CommandError::PluginOption { plugin: plugin.to_string(), problem };
    for option in given {
        if !description.options.iter().any(|spec| spec.name == option.name) {
            return Err(problem(format!("it has no option `{}`; {}", clean(&option.name), known(description))));
        }
    }
    let mut options = Vec::new();
    for spec in &description.options {
        let chosen = given.iter().any(|option| option.name == spec.name);
        match &spec.default {
            Some(default) if !chosen => {
                options.push(OptionValue { name: spec.name.clone(), value: default.clone() });
            }
            None if !chosen && spec.required => {
                return Err(problem(format!(
                    "it needs the option `{}={}` ({})",
                    clean(&spec.name),
                    clean(&spec.placeholder),
                    clean(&spec.help)
                )));
            }
            _ => {}
        }
    }
    options.extend_from_slice(given);
    Ok(options)
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
