//! From the plugin of a tenant to a stage that runs: the file is the one that the policy names by its digest, its options
//! are known, its services are granted.

use flowgate_config::{Mistake, Text};
use flowgate_pipeline::{
    loader::{PluginLoader, Purpose, Role},
    stage::Stage,
};
use flowgate_policy::{Guest, Tenant};

/// What is wrong, and what is worth knowing.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub mistakes: Vec<Mistake>,
    pub notes: Vec<Mistake>,
}

/// A stage of a plugin; none if there are mistakes.
pub(super) fn guest(
    loader: &PluginLoader,
    text: &Text,
    tenant: &Tenant,
    guest: &Guest,
    purpose: Purpose,
    findings: &mut Findings,
) -> Option<Stage> {
    let Guest { plugin, digest, options } = guest;
    match loader.prepare(&tenant.plugin(guest), Role::FlowStage, purpose) {
        Ok(prepared) => {
            findings.notes.extend(plugin.note(text, &prepared.component.name, &prepared.ungranted));
            Some(prepared.into_stage())
        }
        Err(problems) => {
            findings.mistakes.extend(plugin.mistakes(text, options, Some(digest.at), &problems));
            None
        }
    }
}
