//! The explanation of a tenant's pipeline beyond that of any pipeline: the tenant, its scope, and its share.

use super::super::report::CommandError;
use flowgate_base::units::{show_size, show_time};
use flowgate_pipeline::{
    LoadedSpec,
    explain::{Explanation, Title},
};
use flowgate_policy::{Policy, Tenant};

/// Explains the pipeline of a tenant.
pub(super) fn explain(policy: &Policy, tenant: &Tenant, loaded: &LoadedSpec) -> Result<Explanation, CommandError> {
    let mut explanation =
        Explanation::new(loaded).map_err(|error| CommandError::Tenant(format!("tenant {}: {error}", tenant.name)))?;
    let file = policy.text.path.display().to_string();
    let limits = tenant.limits;
    let mut title = Title::default().line("tenant", format!("{} of {file}", tenant.name));
    for (index, rule) in tenant.scope.rules().iter().enumerate() {
        let heading = if index == 0 { "scope" } else { "" };
        title = title.line(heading, format!("{file}:{}", rule.line));
    }
    explanation.title = title
        .line(
            "share",
            format!(
                "{} actions a second, {} at once, {} living entries; {} of CPU time a second; output of {} a second; \
                 a queue of {}",
                limits.actions,
                limits.in_flight,
                limits.entries,
                show_time(limits.time),
                show_size(limits.output),
                show_size(limits.queue)
            ),
        )
        .field("file", file)
        .field("tenant", tenant.name.as_str());
    explanation.namespace = tenant.namespace.clone();
    explanation.source.text = format!("{}; those in the scope reach the plugins", explanation.source.text);
    explanation.actions = explanation.actions.map(|actions| format!("{actions}, behind the guard and the audit"));
    Ok(explanation)
}
