//! A plugin from a file: its specification, its checks, and the stage or format made of it.

use std::{path::PathBuf, rc::Rc};

use super::{LoadPluginError, PluginLoader, PluginProblems, Purpose, Role, error::check_role, options};
use crate::{format::Format, stage::Stage, supervisor::Policy};
use flowgate_base::text::clean;
use flowgate_model::{Description, OnError, OptionValue, Setup, field, grants::Grants};
use flowgate_runtime::{
    CompileLimits, Instance, Limits, PluginCode, PluginComponent, Services,
    services::{self, state::CAPACITY},
};

/// A plugin from a file, with its options, grants and limits.
#[derive(Clone, Debug, Default)]
pub struct PluginSpec {
    /// The file.
    pub file: PathBuf,
    /// Its name in messages; `None` for the path of the file as given.
    pub name: Option<String>,
    /// The required SHA-256 of the file, in lower-case hexadecimal digits; `None` for any.
    pub digest: Option<String>,
    /// Its options, in order.
    pub options: Vec<OptionValue>,
    /// Its grants.
    pub grants: Grants,
    /// Its limits, and the policy for its failures.
    pub limits: PluginLimits,
}

/// The limits of a plugin, and the policy for its failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginLimits {
    /// The limits of compiling it.
    pub compile: CompileLimits,
    /// The limits of an instance.
    pub instance: Limits,
    /// The policy for failures.
    pub restart: Policy,
    /// Maximum size of its state in bytes.
    pub state: usize,
}

impl Default for PluginLimits {
    fn default() -> Self {
        PluginLimits {
            compile: CompileLimits::default(),
            instance: Limits::default(),
            restart: Policy::default(),
            state: CAPACITY,
        }
    }
}

impl PluginSpec {
    /// Returns a plugin without grants, which ends the run when it fails.
    #[must_use]
    pub fn file(file: impl Into<PathBuf>) -> Self {
        PluginSpec { file: file.into(), ..PluginSpec::default() }
    }

    /// Sets the grants.
    #[must_use]
    pub fn grants(self, grants: Grants) -> Self {
        PluginSpec { grants, ..self }
    }

    /// Sets what happens to a batch when the plugin fails.
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.limits.restart.on_error = on_error;
        self
    }
}

/// A plugin that has passed all checks and is configured.
pub struct PreparedPlugin {
    /// The component.
    pub component: Rc<PluginComponent>,
    /// Its description.
    pub description: Description,
    /// The SHA-256 of its file, if the specification names one or the plugin is inspected.
    pub digest: Option<String>,
    /// Grants that it would use and does not have.
    pub ungranted: Vec<String>,
    limits: PluginLimits,
    grants: Grants,
    instance: Instance,
    setup: Setup,
    services: Services,
    /// Milliseconds between ticks; 0 for none.
    interval: u32,
}

impl PluginLoader {
    /// Loads a plugin and checks it: its file, its role, its options, its grants.
    ///
    /// # Errors
    /// [`PluginProblems`], all at once.
    pub fn prepare(&self, spec: &PluginSpec, role: Role, purpose: Purpose) -> Result<PreparedPlugin, PluginProblems> {
        let (component, digest) = self.open(spec, purpose)?;
        let prepared = self.prepare_component(Rc::new(component), spec, role, purpose)?;
        Ok(PreparedPlugin { digest, ..prepared })
    }

    /// Reads and compiles the file. The hashed bytes are the compiled ones, even if the file changes meanwhile.
    fn open(&self, spec: &PluginSpec, purpose: Purpose) -> Result<(PluginComponent, Option<String>), LoadPluginError> {
        let path = &spec.file;
        if let Some(code) = self.remote_code(spec) {
            let mut component = PluginComponent::from_code(self.engine(), path, code)?;
            if let Some(name) = &spec.name {
                component.name.clone_from(name);
            }
            return Ok((component, spec.digest.clone()));
        }
        // The digest decides if this is the right file, so its content need not be a component.
        let bytes = if spec.digest.is_some() { PluginComponent::content(path)? } else { PluginComponent::read(path)? };
        let wanted = spec.digest.is_some() || purpose == Purpose::Inspect;
        let digest = wanted.then(|| PluginComponent::digest(&bytes));
        if let (Some(expected), Some(found)) = (&spec.digest, &digest)
            && expected != found
        {
            return Err(LoadPluginError::Digest { path: path.clone(), found: found.clone() });
        }
        let mut component = PluginComponent::from_bytes_within(self.engine(), path, &bytes, spec.limits.compile)?;
        if let Some(name) = &spec.name {
            component.name.clone_from(name);
        }
        Ok((component, digest))
    }

    /// Returns the code of a plugin that another process has provided.
    fn remote_code(&self, spec: &PluginSpec) -> Option<&PluginCode> {
        self.remote.as_ref()?.code.get(spec.digest.as_ref()?)
    }

    /// Does the work of [`PluginLoader::prepare`] for a compiled component.
    ///
    /// # Errors
    /// [`PluginProblems`] with all problems.
    pub fn prepare_component(
        &self,
        component: Rc<PluginComponent>,
        spec: &PluginSpec,
        role: Role,
        purpose: Purpose,
    ) -> Result<PreparedPlugin, PluginProblems> {
        check_role(&component, role)?;
        let mut problems = missing_services(&component, &spec.grants);
        let grants = purpose.grants(&spec.grants);
        // Without its services the plugin can still be described, so that other problems are found.
        let services = match problems.is_empty() {
            true => self.services(&component, &grants, spec.limits.state)?,
            false => Services::default(),
        };
        let mut instance = Instance::with_services(&component, spec.limits.instance, services.clone())?;
        let description = instance.describe()?;
        problems.extend(options::problems(&component.name, &description, &spec.options));
        if let Some(problems) = PluginProblems::collect(problems) {
            return Err(problems);
        }
        let setup = self.setup(options::with_defaults(&description, &spec.options), true);
        instance.configure(&setup)?;
        let ticks = role == Role::FlowStage && component.capabilities.flow_tick && grants.tick;
        let interval = if ticks { instance.tick_interval()? } else { 0 };
        instance.end_start_up();
        let ungranted = ungranted(&component, &description, &spec.grants);
        let limits = spec.limits;
        let digest = None;
        Ok(PreparedPlugin {
            component,
            description,
            digest,
            ungranted,
            limits,
            grants,
            instance,
            setup,
            services,
            interval,
        })
    }
}

/// A plugin of a pipeline, loaded.
#[derive(Clone, Debug)]
pub struct LoadedPlugin {
    /// Its name in messages.
    pub name: String,
    /// Its file; `None` for stock plugins.
    pub file: Option<PathBuf>,
    /// The SHA-256 of its file, if the spec names one or the plugin is inspected.
    pub digest: Option<String>,
    /// Its description.
    pub description: Description,
    /// The interfaces that it exports.
    pub interfaces: Vec<&'static str>,
    /// The services of the host that it imports.
    pub services: Vec<String>,
    /// The options that it was configured with.
    pub options: Vec<OptionValue>,
    /// Its grants.
    pub grants: Grants,
    /// Grants that it would use and does not have.
    pub ungranted: Vec<String>,
    /// Its limits; `None` for stock plugins, which have none of their own.
    pub limits: Option<PluginLimits>,
    /// The input of a stock stage as it was written.
    pub text: Option<String>,
}

impl PreparedPlugin {
    /// Returns the information about the plugin; `spec` is the specification that it was prepared from.
    #[must_use]
    pub fn loaded(&self, spec: &PluginSpec) -> LoadedPlugin {
        LoadedPlugin {
            name: self.component.name.clone(),
            file: Some(spec.file.clone()),
            digest: self.digest.clone(),
            description: self.description.clone(),
            interfaces: self.component.capabilities.interfaces(),
            services: self.component.services.clone(),
            options: self.options().to_vec(),
            grants: spec.grants.clone(),
            ungranted: self.ungranted.clone(),
            limits: Some(self.limits),
            text: None,
        }
    }

    /// Returns the options that it was configured with.
    #[must_use]
    pub fn options(&self) -> &[OptionValue] {
        &self.setup.options
    }

    /// Returns the fields that it reads.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.description.reads & field::ALL
    }

    /// Makes a stage of it. When the plugin fails, a new instance takes over.
    #[must_use]
    pub fn into_stage(self) -> Stage {
        let (reads, can) = (self.reads(), self.component.capabilities);
        let PreparedPlugin { component, limits, grants, instance, setup, services, interval, .. } = self;
        let again = services.clone();
        let recipe = move || {
            let mut instance = Instance::with_services(&component, limits.instance, again.clone())?;
            instance.configure(&setup)?;
            instance.end_start_up();
            Ok(instance)
        };
        let stage = Stage::new(instance, reads, grants);
        stage.supervised(Box::new(recipe), limits.restart).serving(services).called(can, interval)
    }

    /// Makes a format of it.
    #[must_use]
    pub fn into_format(self) -> Format {
        let reads = self.reads();
        Format::new(self.instance, reads)
    }

    /// Returns the instance alone, for callers that call it themselves.
    #[must_use]
    pub fn into_instance(self) -> Instance {
        self.instance
    }
}

/// Returns an error for each service that a component imports and was not granted.
fn missing_services(component: &PluginComponent, grants: &Grants) -> Vec<LoadPluginError> {
    let missing = component.services.iter().filter_map(|service| {
        let grant = services::required_grant(service).filter(|grant| !grants.covers(grant))?;
        Some(LoadPluginError::Service { plugin: component.name.clone(), service: service.clone(), grant })
    });
    missing.collect()
}

/// Returns the grants that a plugin would use and does not have: optional services, optional calls, and those that its
/// description names.
fn ungranted(component: &PluginComponent, description: &Description, grants: &Grants) -> Vec<String> {
    let can = component.capabilities;
    let services = component.services.iter().filter(|service| services::required_grant(service).is_none()).cloned();
    let calls = [(can.flow_tick, "tick"), (can.flow_look_back, "look-back")];
    let calls = calls.iter().filter(|(can, _)| *can).map(|(_, grant)| (*grant).to_string());
    // Annotations need no grant.
    let named = description.grants.iter().filter(|grant| *grant != "annotate").cloned();
    let mut ungranted: Vec<String> =
        services.chain(calls).chain(named).filter(|grant| !grants.covers(grant)).map(|grant| clean(&grant)).collect();
    ungranted.dedup();
    ungranted
}
