//! From the plugin of a tenant to a stage that runs: the file is the one that the policy names by its digest, its options
//! are known, its services are granted.

use super::super::assemble::{Assembly, Purpose, Role, UserPlugin, option_problems};
use flowgate_base::text::clean;
use flowgate_config::{Mistake, Text, pipeline::option_values};
use flowgate_pipeline::stage::Stage;
use flowgate_policy::{Guest, Tenant};
use flowgate_runtime::{PluginComponent, services};
use flowgate_syntax::PluginSpec;

/// What is wrong, and what is worth knowing.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub mistakes: Vec<Mistake>,
    pub notes: Vec<Mistake>,
}

/// A stage of a plugin; none if there are mistakes.
pub(super) fn guest(
    assembly: &Assembly,
    text: &Text,
    tenant: &Tenant,
    guest: &Guest,
    purpose: Purpose,
    findings: &mut Findings,
) -> Option<Stage> {
    let plugin = &guest.plugin;
    let (at, file) = (plugin.file.at, &plugin.file.value);
    let mut wrong = |at: usize, what: String| findings.mistakes.push(text.mistake(at, what));
    let bytes = match PluginComponent::content(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            wrong(at, error.to_string());
            return None;
        }
    };
    // What is hashed is what is compiled, whatever becomes of the file meanwhile.
    let digest = PluginComponent::digest(&bytes);
    if digest != guest.digest.value {
        wrong(guest.digest.at, format!("the SHA-256 of {} is {digest}", file.display()));
        return None;
    }
    let mut component = match PluginComponent::from_bytes(assembly.engine(), file, &bytes) {
        Ok(component) => component,
        Err(error) => {
            wrong(at, error.to_string());
            return None;
        }
    };
    component.name = tenant.title(guest);
    if !Role::FlowStage.is_within(component.capabilities) {
        let has = component.capabilities.interfaces().join(", ");
        wrong(at, format!("{} does not export flowgate:conntrack/flow-stage; it exports {has}", file.display()));
        return None;
    }
    let description = match assembly.describe(&component, plugin.limits.instance) {
        Ok(description) => description,
        Err(error) => {
            wrong(at, error.to_string());
            return None;
        }
    };
    let options = option_values(&guest.options);
    let problems = option_problems(&description, &options);
    for (index, problem) in &problems {
        let place = index.and_then(|index| guest.options.get(index)).map_or(at, |(name, _)| name.at);
        wrong(place, format!("plugin {}: {problem}", component.name));
    }
    let grants = &plugin.grants.value;
    let missing: Vec<(&String, &str)> = component
        .services
        .iter()
        .filter_map(|service| Some((service, services::needs(service)?)))
        .filter(|(_, grant)| !grants.covers(grant))
        .collect();
    for (service, grant) in &missing {
        let what = "cannot start without the grant";
        wrong(plugin.grants.at, format!("plugin {} {what} `{grant}`: it uses the service {service}", component.name));
    }
    if !problems.is_empty() || !missing.is_empty() {
        return None;
    }
    let wanted: Vec<String> = description
        .grants
        .iter()
        .filter(|grant| *grant != "annotate" && !grants.covers(grant))
        .map(|grant| format!("\"{}\"", clean(grant)))
        .collect();
    if !wanted.is_empty() {
        let what = format!("note: plugin {} would like grants = [{}]", component.name, wanted.join(", "));
        findings.notes.push(text.mistake(plugin.grants.at, what));
    }
    let (grants, limits) = (purpose.grants(grants), &plugin.limits);
    let spec = PluginSpec { file: file.clone(), options, grants, on_error: limits.policy.on_error };
    let user = UserPlugin::limited(&spec, limits);
    match assembly.compiled_stage(component, &user, Role::FlowStage) {
        Ok(stage) => Some(stage),
        Err(error) => {
            findings.mistakes.push(text.mistake(at, error.to_string()));
            None
        }
    }
}
