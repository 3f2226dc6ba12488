//! The limits of a worker as a whole, derived from those of its plugins.

use std::time::Duration;

use flowgate_isolation::{Limits, cgroup::GroupLimits};
use flowgate_policy::Tenant;

/// Memory of a worker besides that of its plugins: the program's own data, the engine, stock plugins and batches.
const BASE: u64 = 48 << 20;
/// Address space of a memory: what wasmtime reserves for it, and its guards.
const MEMORY: u64 = (4 << 30) + (64 << 20);
/// Address space besides memories.
const SPACE: u64 = 4 << 30;
/// Memory of the control group beyond that of the process: page tables, sockets, pages of files.
const GROUP_MEMORY: u64 = 32 << 20;
/// Processes and threads of the control group: a worker has two threads.
const PROCESSES: u64 = 8;
/// Memories that an instance may have: a component may consist of several modules.
const MEMORIES: u64 = 4;

/// Returns the limits of a worker for a tenant, whose compiled code has this many bytes.
pub(in crate::command) fn limits(tenant: &Tenant, code: u64) -> Limits {
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

/// Returns the limits of a worker's control group: memory of all kinds, which is more than the writable memory of the
/// process, and a share of the processors by that of the tenant, which is CPU time in a second.
pub(super) fn group(limits: &Limits, share: Duration) -> GroupLimits {
    let share = u64::try_from(share.as_millis() / 10).unwrap_or(u64::MAX);
    GroupLimits {
        memory: limits.memory.saturating_add(GROUP_MEMORY),
        processes: PROCESSES,
        weight: share.clamp(1, 100),
    }
}

#[cfg(test)]
mod tests {
    use flowgate_policy::Policy;

    use super::*;

    /// Returns the only tenant of a policy with these plugins.
    fn tenant(plugins: &[&str]) -> Tenant {
        let digest = "0".repeat(64);
        let plugins: String = plugins
            .iter()
            .enumerate()
            .map(|(number, limits)| {
                format!("[[tenant.plugin]]\nname = \"p{number}\"\nfile = \"/p.wasm\"\nsha256 = \"{digest}\"\nlimits = {{ {limits} }}\n")
            })
            .collect();
        let text =
            format!("[audit]\npath = \"/audit\"\n[[tenant]]\nname = \"blue\"\n[[tenant.scope]]\nzones = 7\n{plugins}");
        let (mut policy, mistakes, _) = Policy::of_bytes("policy.toml".as_ref(), text.into_bytes());
        assert!(mistakes.is_empty(), "{mistakes:?}");
        policy.tenants.remove(0)
    }

    #[test]
    fn memory_is_the_sum_of_what_the_plugins_may_have() {
        let small = "memory = \"16MiB\", output = \"1MiB\", state = \"64KiB\"";
        let one = limits(&tenant(&[small]), 1000);
        // Its memory, that of an instance that replaces it, and the copy of what a call returns.
        assert_eq!(one.memory, BASE + 2 * 1000 + (17 << 20) + (32 << 20) + (128 << 10));
        let large = "memory = \"100MiB\", output = \"2MiB\", state = \"1MiB\"";
        let two = limits(&tenant(&[small, large]), 0);
        assert_eq!(two.memory, BASE + (17 << 20) + (102 << 20) + (200 << 20) + (128 << 10) + (2 << 20));
        // Address space for each memory that there may be, and more than all that may be written.
        assert_eq!(one.address_space, SPACE + one.memory + 4 * MEMORIES * MEMORY);
        assert_eq!(two.address_space, SPACE + two.memory + 6 * MEMORIES * MEMORY);
        assert_eq!((one.file, one.time, one.stack), (0, Duration::MAX, 8 << 20));
        let own = group(&one, Duration::from_millis(500));
        assert_eq!(own, GroupLimits { memory: one.memory + (32 << 20), processes: 8, weight: 50 });
    }

    #[test]
    fn sums_do_not_overflow() {
        let limits = super::limits(&tenant(&["memory = \"1GiB\"", "memory = \"1GiB\""]), u64::MAX / 2);
        assert_eq!((limits.memory, limits.address_space), (u64::MAX, u64::MAX));
        assert_eq!(group(&limits, Duration::ZERO).memory, u64::MAX);
    }
}
