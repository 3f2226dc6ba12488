//! The limits of a worker as a whole, derived from those of its plugins.

use std::time::Duration;

use flowgate_isolation::Limits;
use flowgate_policy::Tenant;

/// Memory of a worker besides that of its plugins: the program's own data, the engine, stock plugins and batches.
const BASE: u64 = 48 << 20;
/// Address space of a memory: what wasmtime reserves for it, and its guards.
const MEMORY: u64 = (4 << 30) + (64 << 20);
/// Address space besides memories.
const SPACE: u64 = 4 << 30;
/// Memories that an instance may have: a component may consist of several modules.
const MEMORIES: u64 = 4;

/// Returns the limits of a worker for a tenant, whose compiled code has this many bytes.
pub(super) fn limits(tenant: &Tenant, code: u64) -> Limits {
    let of = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let instances = tenant.plugins.iter().map(|plugin| plugin.plugin.limits.instance);
    let (mut plugins, mut largest) = (0u64, 0);
    for limits in instances {
        plugins = plugins.saturating_add(of(limits.memory)).saturating_add(of(limits.output));
        largest = largest.max(of(limits.memory));
    }
    let states: u64 = tenant.plugins.iter().map(|plugin| 2 * of(plugin.plugin.limits.state)).sum();
    // An instance that is replaced exists beside its successor, and what a call returns is copied.
    let memory = [BASE, 2 * code, plugins, 2 * largest, states].into_iter().fold(0u64, u64::saturating_add);
    let count = tenant.plugins.len() as u64;
    Limits {
        memory,
        address_space: SPACE.saturating_add(memory).saturating_add((2 * count + 2) * MEMORIES * MEMORY),
        stack: 8 << 20,
        // A worker lives as long as its tenant; its owner reads its clock.
        time: Duration::MAX,
        file: 0,
    }
}
