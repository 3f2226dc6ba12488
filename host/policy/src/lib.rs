//! Policy: tenants, each with flows and plugins of its own, and what holds each to them.
//!
//! * [`keys`] is the table of all sections and keys of a policy file, [`mod@file`] what a file says, typed, and
//!   `reading` how it comes to that.
//! * [`neighbours`] compares tenants with each other.
//! * [`guard`] decides about actions: the kernel's entry as it stands, and as it would stand afterwards.
//! * [`audit`] is the record of all of them.
//! * [`control`] is what the service and those that give it orders say to each other.
//! * [`share`] hands each tenant what is its own, and no more than its share.
//! * [`scope`] decides which flows are a tenant's own; [`sets`] are what its rules consist of, [`gate`] what a flow must be like
//!   at least to be in one.

pub mod audit;
pub mod control;
pub mod file;
pub mod gate;
pub mod guard;
pub mod keys;
pub mod neighbours;
mod reading;
pub mod scope;
pub mod sets;
pub mod share;
#[cfg(test)]
mod tests;

pub use file::{Guest, Policy, Share, Tenant};
pub use scope::{Scope, Sight};

/// The JSON schema of policy files, for editors, as it is kept in a file.
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
