//! Conflicts between the tenants of a policy: shared files, mark bits and labels, and marks that move flows.

use super::{
    file::{Policy, Tenant, TenantPlugin},
    scope::{Rule, Scope},
};
use flowgate_base::{
    files::OutputFile,
    text::{clean, path_text},
};
use flowgate_config::{Diagnostic, SinkConfig};
use flowgate_model::grants::StateStorage;
use flowgate_netlink::namespace;
use flowgate_pipeline::sink::SinkKind;

/// Diagnostics and notes.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// The mistakes.
    pub diagnostics: Vec<Diagnostic>,
    /// The notes.
    pub notes: Vec<Diagnostic>,
}

/// Compares the tenants of a policy with each other. Namespaces are compared by identity, whatever their names; those
/// that cannot be opened are compared by name.
#[must_use]
pub fn compare(policy: &Policy) -> Neighbours {
    let identities: Vec<Option<namespace::Identity>> =
        policy.tenants.iter().map(|tenant| namespace::identity(tenant.namespace.as_deref())).collect();
    let mut found = flows(policy, &identities);
    files(policy, &mut found.diagnostics);
    found
}

/// Returns what tenants could do to each other's flows. `identities` has the network namespaces of the tenants, in
/// their order; `None` if unknown.
#[must_use]
pub fn flows(policy: &Policy, identities: &[Option<namespace::Identity>]) -> Neighbours {
    let mut found = Neighbours::default();
    let identity = |index: usize| identities.get(index).copied().flatten();
    for (number, tenant) in policy.tenants.iter().enumerate() {
        for (index, other) in policy.tenants.iter().enumerate().take(number) {
            let named = other.namespace == tenant.namespace;
            if named || (identity(number).is_some() && identity(number) == identity(index)) {
                pair(policy, tenant, other, &mut found);
            }
        }
    }
    found
}

fn pair(policy: &Policy, tenant: &Tenant, other: &Tenant, found: &mut Neighbours) {
    let called = |tenant: &Tenant| match &tenant.namespace {
        Some(name) => format!("`{}`", clean(name)),
        None => "that of flowgate".into(),
    };
    let why = if other.namespace == tenant.namespace {
        String::new()
    } else {
        format!(" (the network namespaces {} and {} are the same one)", called(other), called(tenant))
    };
    for (owner, neighbour) in [(tenant, other), (other, tenant)] {
        if let Some(bits) = moves_into(owner, neighbour) {
            let (one, two) = (&owner.name, &neighbour.name);
            let what = format!(
                "tenant `{one}` owns the mark bits {bits:#x}, so that it could move flows into the scope of `{two}`, \
                 which looks at them{why}"
            );
            policy.text.report(&mut found.diagnostics, owner.offset, what);
        }
    }
    if tenant.scope.excludes(&other.scope) {
        return;
    }
    let marks = tenant.bounds.mark & other.bounds.mark;
    let labels = tenant.bounds.labels & other.bounds.labels;
    let (one, two) = (&other.name, &tenant.name);
    if marks != 0 || labels != 0 {
        let what = if marks != 0 { format!("the mark bits {marks:#x}") } else { "labels".into() };
        let what = format!("tenants `{one}` and `{two}` own {what} both, and a flow may be in both their scopes{why}");
        policy.text.report(&mut found.diagnostics, tenant.offset, what);
    } else {
        let what = format!("note: a flow may be in the scopes of both `{one}` and `{two}`{why}");
        policy.text.report(&mut found.notes, tenant.offset, what);
    }
}

/// Finds files that more than one tenant writes.
fn files(policy: &Policy, diagnostics: &mut Vec<Diagnostic>) {
    let file = |sink: &SinkConfig| match &sink.spec.kind {
        SinkKind::File(options) => Some((options.path.clone(), options.rotation.is_some())),
        SinkKind::Nats(options) => Some((options.spool.path.clone(), false)),
        _ => None,
    };
    let state = |plugin: &TenantPlugin| match &plugin.plugin.grants.value.state {
        Some(StateStorage::File(path)) => Some((plugin.plugin.file.offset, (path.clone(), false))),
        _ => None,
    };
    // By identity: a file may have several names.
    let mut files = vec![OutputFile::new(&policy.audit.path, true)];
    for tenant in &policy.tenants {
        let sinks = tenant.sinks.iter().filter_map(|sink| Some((sink.offset, file(sink)?)));
        for (offset, (path, rotates)) in sinks.chain(tenant.plugins.iter().filter_map(state)) {
            let output = OutputFile::new(&path, rotates);
            if files.iter().any(|other| output.clashes_with(other)) {
                let what = "is written by somebody else already; each needs a file of its own";
                policy.text.report(diagnostics, offset, format!("{} {what}", path_text(&path)));
            }
            files.push(output);
        }
    }
}

/// Returns the mark bits by which one tenant could move flows to the other, if there are any.
fn moves_into(owner: &Tenant, neighbour: &Tenant) -> Option<u32> {
    let without = |scope: &Scope| {
        Scope::new(scope.rules().iter().map(|rule| Rule { marks: Vec::new(), ..rule.clone() }).collect())
    };
    let own = without(&owner.scope);
    let reachable = neighbour.scope.rules().iter().filter(|rule| {
        let alone = Scope::new(vec![Rule { marks: Vec::new(), ..(*rule).clone() }]);
        !own.excludes(&alone)
    });
    let looked_at = reachable.flat_map(|rule| &rule.marks).fold(0, |bits, (_, mask)| bits | mask);
    Some(looked_at & owner.bounds.mark).filter(|bits| *bits != 0)
}
