//! Loads the pipeline of a tenant and checks that its plugins have the digests in the policy, that their options exist,
//! and that their services are granted.

use std::time::Duration;

use super::service;
use crate::command::{shipping, worker};
use flowgate_base::{files::Trust, text::clean};
use flowgate_config::{Diagnostic, SourceText};
use flowgate_model::grants::StateStorage;
use flowgate_pipeline::{
    LoadedSpec,
    load::SpecPart,
    loader::{LoadPluginError, PluginLoader, ProblemPlace, Purpose, offsets},
};
use flowgate_policy::{Policy, Tenant};
use flowgate_runtime::{PluginEngine, services::state::State};
use flowgate_worker::{
    protocol::{Part, Report},
    setup::Setup,
};

/// CPU time of a worker for its own work at the start.
const OWN_WORK: Duration = Duration::from_secs(4);
/// Problems and grants of a plugin that are reported.
const PROBLEMS: usize = 256;

/// Loads the pipeline of a tenant.
///
/// # Errors
/// All mistakes, with their places in the policy.
pub(super) fn load(
    text: &SourceText,
    tenant: &Tenant,
    loader: &PluginLoader,
    purpose: Purpose,
) -> Result<LoadedSpec, Vec<Diagnostic>> {
    tenant.spec().load(loader, purpose).map_err(|problems| {
        let mistake = |part: SpecPart, error| match part {
            SpecPart::Stage(index) => tenant
                .plugins
                .get(index)
                .map(|plugin| plugin.plugin.diagnostic(text, &plugin.options, Some(plugin.digest.offset), &error)),
            SpecPart::Selection | SpecPart::Aggregation | SpecPart::Format => {
                Some(text.diagnostic(tenant.offset, error.to_string()))
            }
        };
        problems.into_all().into_iter().filter_map(|problem| mistake(problem.part, problem.error)).collect()
    })
}

/// Starts the plugins of a tenant as the service does, in a worker, which ends then. Returns notes on services that
/// they would use without a grant for them.
///
/// # Errors
/// All mistakes, with their places in the policy.
pub(super) fn start(
    policy: &Policy,
    tenant: &Tenant,
    engine: &PluginEngine,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let text = &policy.text;
    let code = service::compile(text, tenant, engine, true)?;
    let mistake = |what: String| vec![text.diagnostic(tenant.offset, what)];
    let execution = engine.execution().map_err(|error| mistake(error.to_string()))?;
    let mut setup = Setup::of(&tenant.spec(), &policy.labels.labels(), &offsets());
    (setup.interpreted, setup.checked) = (execution.is_interpreted(), execution.limit.is_some());
    setup.time = u64::try_from(tenant.limits.time.as_nanos()).unwrap_or(u64::MAX);
    setup.check = true;
    let length = code.iter().filter_map(|code| code.metadata().ok()).map(|data| data.len()).sum();
    let start_up: Duration = tenant.plugins.iter().map(|plugin| plugin.plugin.limits.instance.start_up).sum();
    let mut found = Found { text, tenant, problems: Vec::new(), ungranted: vec![Vec::new(); tenant.plugins.len()] };
    let run = worker::run(&mut setup, &code, service::limits(tenant, length), start_up + OWN_WORK, &mut |report| {
        found.take(&report)
    });
    let Found { mut problems, ungranted, .. } = found;
    match run {
        Ok(()) if problems.is_empty() => {
            let plugins = tenant.plugins.iter().zip(&ungranted).filter(|(_, ungranted)| !ungranted.is_empty());
            Ok(plugins.filter_map(|(plugin, grants)| plugin.plugin.note(text, &tenant.title(plugin), grants)).collect())
        }
        Err(reason) if problems.is_empty() => Err(mistake(reason)),
        _ => {
            problems.truncate(PROBLEMS);
            Err(problems)
        }
    }
}

/// What a worker reports while plugins start.
struct Found<'a> {
    text: &'a SourceText,
    tenant: &'a Tenant,
    problems: Vec<Diagnostic>,
    /// For each plugin the grants that it would use and does not have.
    ungranted: Vec<Vec<String>>,
}

impl Found<'_> {
    fn take(&mut self, report: &Report<'_>) -> Result<(), String> {
        match report {
            Report::Problem { part, place, what } if self.problems.len() < PROBLEMS => {
                self.problems.push(problem(self.text, self.tenant, *part, place, what));
            }
            Report::Output(bytes) => {
                let (index, grant) = bytes.split_first_chunk().ok_or("the worker sent what is no grant")?;
                let grants = self.ungranted.get_mut(usize::from(u16::from_ne_bytes(*index)));
                let grants =
                    grants.filter(|grants| grants.len() < PROBLEMS).ok_or("the worker sent what is no grant")?;
                grants.push(clean(&String::from_utf8_lossy(grant)));
            }
            // Logs and changes of states are those of a run that nobody wants.
            _ => {}
        }
        Ok(())
    }
}

/// Returns a problem that a worker reports, with its place in the policy.
pub(super) fn problem(text: &SourceText, tenant: &Tenant, part: Part, place: &ProblemPlace, what: &str) -> Diagnostic {
    let what = clean(what);
    let plugin = match part {
        Part::Plugin(index) => tenant.plugins.get(usize::from(index)),
        Part::Pipeline => None,
    };
    match plugin {
        Some(plugin) => plugin.plugin.diagnostic_at(text, &plugin.options, Some(plugin.digest.offset), place, what),
        None => text.diagnostic(tenant.offset, what),
    }
}

/// Returns the files of a tenant that the service could not write. The directories of states are created by the package
/// or the unit, possibly on another machine: those that are not there are not checked.
pub(super) fn outputs(policy: &Policy, tenant: &Tenant) -> Vec<Diagnostic> {
    let text = &policy.text;
    let sinks =
        tenant.sinks.iter().filter_map(|sink| Some(text.diagnostic(sink.offset, shipping::problem(&sink.spec)?)));
    let states = tenant.plugins.iter().filter_map(|plugin| {
        let Some(StateStorage::File(path)) = &plugin.plugin.grants.value.state else { return None };
        path.parent().filter(|parent| parent.is_dir())?;
        let error = State::check(path, plugin.plugin.limits.state, Trust::Exclusive).err()?;
        let error = LoadPluginError::State { plugin: tenant.title(plugin), error };
        Some(plugin.plugin.diagnostic(text, &plugin.options, None, &error))
    });
    sinks.chain(states).collect()
}
