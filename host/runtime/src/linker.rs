//! The imports of a plugin: the host services that it was granted, and nothing else.
//!
//! The standard libraries of several languages import WASI even if the plugin does not use it. The few functions that
//! such a library calls by itself return harmless values that disclose nothing; every other import can be linked, and
//! fails with its name when it is called.

use wasmtime::component::{Component, Linker, types::ComponentItem};

/// State of a store, which imports can access.
pub(super) struct HostState {
    pub guard: super::limits::MemoryLimiter,
    pub services: super::services::Services,
    pub deadline: super::deadline::Deadline,
}

/// Returns a linker that satisfies all imports of a component without granting it anything.
pub(super) fn linker(component: &Component) -> wasmtime::Result<Linker<HostState>> {
    let engine = component.engine();
    let mut linker = Linker::new(engine);
    for (name, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        let interface = name.split('@').next().unwrap_or(name);
        super::services::define(&mut linker, name, interface)?;
        for (function, _) in instance.exports(engine) {
            harmless(&mut linker, name, interface, function)?;
        }
    }
    linker.define_unknown_imports_as_traps(component)?;
    Ok(linker)
}

/// Defines a function if it is one of those that standard libraries call by themselves.
pub(super) fn harmless(
    linker: &mut Linker<HostState>,
    import: &str,
    interface: &str,
    function: &str,
) -> wasmtime::Result<()> {
    match (interface, function) {
        // Hash maps are seeded; a constant seed discloses nothing and makes tests repeatable.
        ("wasi:random/insecure-seed", "insecure-seed" | "get-insecure-seed") => {
            linker.instance(import)?.func_wrap(function, |_, (): ()| Ok(((0x666c_6f77u64, 0x6761_7465u64),)))
        }
        ("wasi:random/random", "get-random-u64") => {
            linker.instance(import)?.func_wrap(function, |_, (): ()| Ok((0x666c_6f77_6761_7465u64,)))
        }
        ("wasi:random/random", "get-random-bytes") => {
            linker.instance(import)?.func_wrap(function, |_, (length,): (u64,)| {
                let length = usize::try_from(length.min(4096)).unwrap_or(4096);
                Ok((b"flowgate".iter().copied().cycle().take(length).collect::<Vec<u8>>(),))
            })
        }
        ("wasi:cli/environment", "get-environment") => {
            linker.instance(import)?.func_wrap(function, |_, (): ()| Ok((Vec::<(String, String)>::new(),)))
        }
        ("wasi:cli/environment", "get-arguments") => {
            linker.instance(import)?.func_wrap(function, |_, (): ()| Ok((Vec::<String>::new(),)))
        }
        _ => Ok(()),
    }
}
