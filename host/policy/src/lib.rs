//! Policies: tenants, each with its own flows and plugins, and the enforcement of their limits.
//!
//! * [`keys`] is the table of all sections and keys of a policy file, [`mod@file`] its typed content, and `parser` the
//!   conversion.
//! * [`neighbours`] compares tenants with each other.
//! * [`guard`] decides about actions, by the kernel's entry as it is and as it would be afterwards.
//! * [`audit`] is the record of all actions.
//! * [`control`] is the protocol between the service and those that give it orders.
//! * [`delivery`] delivers each tenant its own flows, within its limits.
//! * [`scope`] decides which flows are a tenant's own; [`sets`] has the sets in its rules, [`prefilter`] the bounds
//!   that are compared first.

pub mod audit;
pub mod control;
pub mod delivery;
pub mod file;
pub mod guard;
pub mod keys;
pub mod neighbours;
mod parser;
pub mod prefilter;
pub mod scope;
pub mod sets;
#[cfg(test)]
mod tests;

pub use file::{Policy, Tenant, TenantLimits, TenantPlugin, WorkerUids};
pub use scope::{Scope, ScopeView};

/// Returns the text of the JSON schema of policy files, for editors.
#[must_use]
pub fn schema() -> String {
    let about = "Tenants that `flowgate run` holds to their flows. docs/POLICY.md explains it.";
    let mut schema = flowgate_config::schema::of(&keys::SECTIONS, "flowgate policy", about, &["tenant"]);
    let tenant = "/properties/tenant/items";
    for (place, names) in [
        (tenant.to_string(), &["name", "scope", "plugin"][..]),
        (format!("{tenant}/properties/plugin/items"), &["file", "sha256"]),
        (format!("{tenant}/properties/sink/items"), &["kind"]),
    ] {
        if let Some(serde_json::Value::Object(table)) = schema.pointer_mut(&place) {
            table.insert("required".into(), serde_json::json!(names));
        }
    }
    flowgate_config::schema::pretty(&schema)
}
