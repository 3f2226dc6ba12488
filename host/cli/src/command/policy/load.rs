//! Loads the pipeline of a tenant and checks that its plugins have the digests in the policy, that their options exist,
//! and that their services are granted.

use flowgate_config::{Diagnostic, SourceText};
use flowgate_pipeline::{
    LoadedSpec,
    load::SpecPart,
    loader::{PluginLoader, Purpose},
};
use flowgate_policy::Tenant;

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
            SpecPart::Selection | SpecPart::Format => Some(text.diagnostic(tenant.offset, error.to_string())),
        };
        problems.into_all().into_iter().filter_map(|problem| mistake(problem.part, problem.error)).collect()
    })
}

/// Returns notes on services that plugins would use without a grant for them.
pub(super) fn notes(text: &SourceText, tenant: &Tenant, loaded: &LoadedSpec) -> Vec<Diagnostic> {
    let plugins = tenant.plugins.iter().zip(&loaded.stage_plugins);
    plugins.filter_map(|(plugin, loaded)| plugin.plugin.note(text, &loaded.name, &loaded.ungranted)).collect()
}
