//! Loads the pipeline of a tenant and checks that its plugins have the digests in the policy, that their options exist,
//! and that their services are granted.

use flowgate_config::{Mistake, Text};
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
    text: &Text,
    tenant: &Tenant,
    loader: &PluginLoader,
    purpose: Purpose,
) -> Result<LoadedSpec, Vec<Mistake>> {
    tenant.spec().load(loader, purpose).map_err(|problems| {
        let mistake = |part: SpecPart, error| match part {
            SpecPart::Stage(index) => tenant
                .plugins
                .get(index)
                .map(|guest| guest.plugin.mistake(text, &guest.options, Some(guest.digest.at), &error)),
            SpecPart::Selection | SpecPart::Format => Some(text.mistake(tenant.at, error.to_string())),
        };
        problems.into_all().into_iter().filter_map(|problem| mistake(problem.part, problem.error)).collect()
    })
}

/// Returns notes on services that plugins would use without a grant for them.
pub(super) fn notes(text: &Text, tenant: &Tenant, loaded: &LoadedSpec) -> Vec<Mistake> {
    let plugins = tenant.plugins.iter().zip(&loaded.stage_plugins);
    plugins.filter_map(|(guest, loaded)| guest.plugin.note(text, &loaded.name, &loaded.ungranted)).collect()
}
