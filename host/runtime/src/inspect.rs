//! Inspects the exports and imports of a file without running it, even if it cannot run here.

use std::path::Path;

use wasmparser::{Validator, component_types::ComponentEntityType, types::TypesRef};
use wasmtime::component::Linker;

use super::{
    component::{VERSION, componentize, rejected},
    engine::PluginEngine,
    error::{LoadError, one_line},
    linker::harmless,
    weight,
};

/// How the host handles an imported function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportKind {
    /// It is a service of the host's own package.
    Service,
    /// Standard libraries call it by themselves; the answer discloses nothing.
    Harmless,
    /// It can be linked, and ends the plugin if it is called.
    Refused,
}

/// An imported interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its name with its version, such as `wasi:cli/environment@0.2.3`.
    pub interface: String,
    /// Its functions, and how the host handles each.
    pub functions: Vec<(String, ImportKind)>,
}

/// The exports and imports of a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComponentInfo {
    /// True if the file is a core module with component metadata.
    pub module: bool,
    /// Exported interfaces with their versions.
    pub exports: Vec<String>,
    /// Imported interfaces.
    pub imports: Vec<Import>,
}

impl ComponentInfo {
    /// Inspects the content of a file without compiling it; `path` is its name in errors.
    ///
    /// # Errors
    /// [`LoadError`] if it is not a component, or exceeds the limits of plugins.
    pub fn of(engine: &PluginEngine, path: &Path, content: &[u8]) -> Result<Self, LoadError> {
        engine.on_compile_thread(|| {
            let module = content.get(4..8) == Some(&[1, 0, 0, 0]);
            let (bytes, outline) = componentize(path, content)?;
            weight::weigh(&bytes).map_err(|rejection| rejected(path, rejection))?;
            let types = Validator::new()
                .validate_all(&bytes)
                .map_err(|error| LoadError::Compile { path: path.into(), said: one_line(&error.to_string()) })?;
            let imports = outline.imports.into_iter().map(|name| import(engine, types.as_ref(), name));
            Ok(ComponentInfo { module, imports: imports.collect::<Result<_, _>>()?, exports: outline.exports })
        })?
    }

    /// Returns the versions of the host's package that exports and imports name, each once.
    #[must_use]
    pub fn versions(&self) -> Vec<String> {
        let names = self.exports.iter().chain(self.imports.iter().map(|import| &import.interface));
        let mut versions: Vec<String> = names
            .filter_map(|name| name.strip_prefix("flowgate:conntrack/"))
            .filter_map(|name| name.split_once('@').map(|(_, version)| version.to_string()))
            .collect();
        versions.sort();
        versions.dedup();
        versions
    }

    /// Returns the version of the package that this host provides.
    #[must_use]
    pub fn offered() -> &'static str {
        VERSION
    }
}

/// Returns an imported interface and its functions.
fn import(engine: &PluginEngine, types: TypesRef<'_>, interface: String) -> Result<Import, LoadError> {
    let functions = match types.component_item_for_import(&interface).map(|item| item.ty) {
        Some(ComponentEntityType::Instance(id)) => types
            .get(id)
            .map(|instance| &instance.exports)
            .into_iter()
            .flatten()
            .filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)))
            .map(|(function, _)| Ok((function.clone(), provision(engine, &interface, function)?)))
            .collect::<Result<_, LoadError>>()?,
        Some(ComponentEntityType::Func(_)) => vec![(interface.clone(), ImportKind::Refused)],
        _ => Vec::new(),
    };
    Ok(Import { interface, functions })
}

/// Returns how the host handles a function. This queries the definitions themselves: a linker accepts a name only once,
/// so that a second definition fails exactly if there was a first one.
fn provision(engine: &PluginEngine, import: &str, function: &str) -> Result<ImportKind, LoadError> {
    let interface = import.split('@').next().unwrap_or(import);
    if interface.starts_with("flowgate:conntrack/") {
        return Ok(ImportKind::Service);
    }
    let mut linker = Linker::new(engine.user_engine()?);
    let mut define = || harmless(&mut linker, import, interface, function).is_ok();
    Ok(if define() && !define() { ImportKind::Harmless } else { ImportKind::Refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_makes_of_imports_is_known_beforehand() {
        let engine = PluginEngine::new(None).unwrap();
        for (interface, function, expected) in [
            ("wasi:cli/environment@0.2.3", "get-environment", ImportKind::Harmless),
            ("wasi:random/insecure-seed@0.2.0", "insecure-seed", ImportKind::Harmless),
            ("wasi:cli/environment@0.2.3", "initial-cwd", ImportKind::Refused),
            ("wasi:filesystem/types@0.2.3", "[method]descriptor.read", ImportKind::Refused),
            ("flowgate:conntrack/log@0.1.1", "write", ImportKind::Service),
        ] {
            assert_eq!(provision(&engine, interface, function).unwrap(), expected, "{interface} {function}");
        }
    }
}
