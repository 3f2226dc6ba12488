//! Turns a file into a component that can be instantiated, or into an error that says why it cannot be.

use std::{borrow::Cow, path::Path};

use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, InstancePre};

use super::{
    compiler::CompileLimits,
    engine::{PluginCode, PluginEngine},
    error::{LoadError, one_line},
    file,
    linker::{self, HostState},
    outline::{Outline, Rejection},
    weight,
};
use crate::bindings::exports::flowgate::conntrack as exports;

/// The version of the WIT package that this host provides, and that a plugin's exported interfaces must match.
pub(super) const VERSION: &str = "0.1.1";

/// The capabilities of a component, derived from its exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Stage for flows.
    pub flow_stage: bool,
    /// Applies a selector.
    pub flow_selection: bool,
    /// Applies a query.
    pub flow_query: bool,
    /// Applies a template.
    pub flow_template: bool,
    /// Format for flows.
    pub flow_format: bool,
    /// Groups flows.
    pub flow_aggregate: bool,
    /// Format for the results of aggregations.
    pub groups_format: bool,
    /// Stage for expectations.
    pub expectation_stage: bool,
    /// Format for expectations.
    pub expectation_format: bool,
    /// Format for statistics.
    pub statistics_format: bool,
    /// Is called periodically.
    pub flow_tick: bool,
    /// Receives the table before live events.
    pub flow_look_back: bool,
    /// Receives the results of its actions.
    pub action_results: bool,
}

impl Capabilities {
    /// Returns the names of the interfaces.
    #[must_use]
    pub fn interfaces(self) -> Vec<&'static str> {
        [
            (self.flow_stage, "flow-stage"),
            (self.flow_selection, "flow-selection"),
            (self.flow_query, "flow-query"),
            (self.flow_template, "flow-template"),
            (self.flow_format, "flow-format"),
            (self.flow_aggregate, "flow-aggregate"),
            (self.groups_format, "groups-format"),
            (self.expectation_stage, "expectation-stage"),
            (self.expectation_format, "expectation-format"),
            (self.statistics_format, "statistics-format"),
            (self.flow_tick, "flow-tick"),
            (self.flow_look_back, "flow-look-back"),
            (self.action_results, "action-results"),
        ]
        .iter()
        .filter(|(has, _)| *has)
        .map(|(_, name)| *name)
        .collect()
    }
}

/// The origin of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A stock plugin: this project's own code.
    Stock,
    /// A file.
    File,
}

/// A compiled plugin, ready to be instantiated.
pub struct PluginComponent {
    pub(super) engine: PluginEngine,
    pub(super) origin: Origin,
    pub(super) instance: InstancePre<HostState>,
    pub(super) indices: Indices,
    /// The name in messages: the stock plugin's, or the file's as given.
    pub name: String,
    /// Its capabilities.
    pub capabilities: Capabilities,
    /// The host services that it imports: names of interfaces of the WIT package, such as `log`.
    pub services: Vec<String>,
}

/// Indices of the exports.
pub(super) struct Indices {
    pub plugin: exports::plugin::GuestIndices,
    pub flow_stage: Option<exports::flow_stage::GuestIndices>,
    pub flow_selection: Option<exports::flow_selection::GuestIndices>,
    pub flow_query: Option<exports::flow_query::GuestIndices>,
    pub flow_template: Option<exports::flow_template::GuestIndices>,
    pub flow_format: Option<exports::flow_format::GuestIndices>,
    pub flow_aggregate: Option<exports::flow_aggregate::GuestIndices>,
    pub groups_format: Option<exports::groups_format::GuestIndices>,
    pub expectation_stage: Option<exports::expectation_stage::GuestIndices>,
    pub expectation_format: Option<exports::expectation_format::GuestIndices>,
    pub statistics_format: Option<exports::statistics_format::GuestIndices>,
    pub flow_tick: Option<exports::flow_tick::GuestIndices>,
    pub flow_look_back: Option<exports::flow_look_back::GuestIndices>,
    pub action_results: Option<exports::action_results::GuestIndices>,
}

impl PluginComponent {
    /// Loads a stock plugin.
    ///
    /// # Errors
    /// [`LoadError`] if there is none with this name, or if the program was built incorrectly.
    pub fn stock(engine: &PluginEngine, name: &str) -> Result<Self, LoadError> {
        let component = engine.load_stock(name)?.ok_or_else(|| LoadError::Mismatch {
            path: name.into(),
            reason: "there is no stock plugin of this name".into(),
        })?;
        Self::prepare(engine, Path::new(name), &component, Origin::Stock)
    }

    /// Loads a plugin from a file: a component, or a core module with a component's metadata.
    ///
    /// # Errors
    /// Any [`LoadError`]: the file cannot be read, has another format, or is a component for another host; or the
    /// process has [privileges](flowgate_privileges::may_run_foreign_code) that foreign code must not have.
    pub fn open(engine: &PluginEngine, path: &Path) -> Result<Self, LoadError> {
        Self::from_bytes(engine, path, &Self::read(path)?)
    }

    /// Reads a plugin's file, of at most 32 MiB.
    ///
    /// # Errors
    /// [`LoadError::Read`], [`LoadError::NotWasm`] after the first bytes of any other format, [`LoadError::Excessive`]
    /// if it is too large.
    pub fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
        file::read(path)
    }

    /// Reads a file of any format, whose digest decides whether it is the right one.
    ///
    /// # Errors
    /// [`LoadError::Read`] or [`LoadError::Excessive`].
    pub fn content(path: &Path) -> Result<Vec<u8>, LoadError> {
        file::content(path)
    }

    /// Returns the SHA-256 of a file's content in hexadecimal digits.
    #[must_use]
    pub fn digest(bytes: &[u8]) -> String {
        file::hexadecimal(&Sha256::digest(bytes))
    }

    /// Loads a plugin from the content of its file.
    ///
    /// # Errors
    /// The same as [`PluginComponent::open`], except for reading.
    pub fn from_bytes(engine: &PluginEngine, path: &Path, bytes: &[u8]) -> Result<Self, LoadError> {
        Self::from_bytes_within(engine, path, bytes, CompileLimits::default())
    }

    /// As [`PluginComponent::from_bytes`], with limits of what compiling it may take.
    ///
    /// # Errors
    /// The same as [`PluginComponent::from_bytes`].
    pub fn from_bytes_within(
        engine: &PluginEngine,
        path: &Path,
        bytes: &[u8],
        limits: CompileLimits,
    ) -> Result<Self, LoadError> {
        flowgate_privileges::may_run_foreign_code()
            .map_err(|reason| LoadError::Unconfined { path: path.into(), reason })?;
        let component = engine.compile(path, bytes, limits)?;
        Self::prepare(engine, path, &component, Origin::File)
    }

    /// Makes a plugin of loaded code; `path` is its name in errors.
    ///
    /// # Errors
    /// [`LoadError::Mismatch`] if it is a component for another host.
    pub fn from_code(engine: &PluginEngine, path: &Path, code: &PluginCode) -> Result<Self, LoadError> {
        Self::prepare(engine, path, &code.0, Origin::File)
    }

    /// Finds the exports and links the imports.
    fn prepare(shared: &PluginEngine, path: &Path, component: &Component, origin: Origin) -> Result<Self, LoadError> {
        let engine = component.engine();
        let mismatch = |reason: String| LoadError::Mismatch { path: path.into(), reason };
        let exported: Vec<String> =
            component.component_type().exports(engine).map(|(name, _)| name.to_string()).collect();
        let capabilities = capabilities(&exported).map_err(mismatch)?;
        let imported: Vec<String> =
            component.component_type().imports(engine).map(|(name, _)| name.to_string()).collect();
        let services = services(&imported).map_err(mismatch)?;

        let pre = linker::linker(component)
            .and_then(|linker| linker.instantiate_pre(component))
            .map_err(|error| mismatch(one_line(&format!("{error:#}"))))?;
        let indices = indices(&pre, capabilities).map_err(|error| {
            mismatch(format!(
                "an interface has another shape than flowgate:conntrack@{VERSION} of this host ({}); \
                 rebuild the plugin against the wit/ of this version",
                one_line(&format!("{error:#}"))
            ))
        })?;
        Ok(PluginComponent {
            engine: shared.clone(),
            origin,
            instance: pre,
            indices,
            name: path.display().to_string(),
            capabilities,
            services,
        })
    }
}

/// Returns the component in a file's bytes if it can run here and is not too expensive to compile.
pub(super) fn checked<'a>(path: &Path, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, LoadError> {
    let (bytes, outline) = componentize(path, bytes)?;
    let mismatch = |reason: String| LoadError::Mismatch { path: path.into(), reason };
    capabilities(&outline.exports).map_err(mismatch)?;
    services(&outline.imports).map_err(mismatch)?;
    weight::weigh(&bytes).map_err(|rejection| rejected(path, rejection))?;
    Ok(bytes)
}

/// Returns the component in a file's bytes and its outline, without compiling anything.
pub(super) fn componentize<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Cow<'a, [u8]>, Outline), LoadError> {
    let outline = |bytes: &[u8]| Outline::of(bytes).map_err(|rejection| rejected(path, rejection));
    match bytes.get(..8) {
        // The second word of the preamble: 1 for a module, 0x1000d for a component.
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            outline(bytes)?;
            let component = wit_component::ComponentEncoder::default()
                .validate(true)
                .module(bytes)
                .and_then(|mut encoder| encoder.encode())
                .map_err(|error| LoadError::NotComponent {
                    path: path.into(),
                    said: one_line(&format!("{error:#}")),
                })?;
            let outline = outline(&component)?;
            Ok((Cow::Owned(component), outline))
        }
        Some([0, b'a', b's', b'm', ..]) => Ok((Cow::Borrowed(bytes), outline(bytes)?)),
        _ => Err(file::not_wasm(path, bytes)),
    }
}

/// Returns the error for a file that is not compiled.
pub(super) fn rejected(path: &Path, rejection: Rejection) -> LoadError {
    match rejection {
        Rejection::Malformed(said) => LoadError::Compile { path: path.into(), said: one_line(&said) },
        Rejection::Excessive(excess) => LoadError::Excessive { path: path.into(), excess },
    }
}

/// Derives the capabilities from the exports.
fn capabilities(exported: &[String]) -> Result<Capabilities, String> {
    let ours: Vec<(&str, &str)> = exported
        .iter()
        .filter_map(|name| name.strip_prefix("flowgate:conntrack/"))
        .map(|name| name.split_once('@').unwrap_or((name, "")))
        .collect();
    if ours.is_empty() {
        let what = if exported.is_empty() { "nothing".to_string() } else { list(exported) };
        return Err(format!(
            "it exports {what}, and none of the interfaces of flowgate:conntrack@{VERSION}; \
             build it for one of the worlds in wit/worlds.wit, such as `stage`"
        ));
    }
    if let Some((name, version)) = ours.iter().find(|(_, version)| !compatible(version)) {
        return Err(format!(
            "it wants flowgate:conntrack/{name}@{version}, and this host offers {VERSION}; \
             rebuild the plugin against the wit/ of this version, or use a host that offers {version}"
        ));
    }
    let has = |name: &str| ours.iter().any(|(ours, _)| *ours == name);
    let capabilities = Capabilities {
        flow_stage: has("flow-stage"),
        flow_selection: has("flow-selection"),
        flow_query: has("flow-query"),
        flow_template: has("flow-template"),
        flow_format: has("flow-format"),
        flow_aggregate: has("flow-aggregate"),
        groups_format: has("groups-format"),
        expectation_stage: has("expectation-stage"),
        expectation_format: has("expectation-format"),
        statistics_format: has("statistics-format"),
        flow_tick: has("flow-tick"),
        flow_look_back: has("flow-look-back"),
        action_results: has("action-results"),
    };
    if !has("plugin") {
        return Err(format!(
            "it does not export flowgate:conntrack/plugin@{VERSION} (describe and configure), which every plugin must"
        ));
    }
    let helpers = Capabilities { flow_tick: false, flow_look_back: false, action_results: false, ..capabilities };
    if helpers == Capabilities::default() {
        return Err(format!(
            "it exports flowgate:conntrack/plugin@{VERSION} but nothing to do: no stage and no format; \
             build it for one of the worlds in wit/worlds.wit, such as `stage`"
        ));
    }
    Ok(capabilities)
}

/// Interfaces of data types, which a component imports if any function uses one of the types.
const TYPES: [&str; 8] = ["columns", "flow", "expectation", "statistics", "selector", "query", "action", "setup"];
/// Interfaces with functions that the host provides.
const SERVICES: [&str; 3] = ["log", "key-value", "clock"];

/// Returns the host services among the imports.
fn services(imported: &[String]) -> Result<Vec<String>, String> {
    let mut services = Vec::new();
    for name in imported.iter().filter_map(|name| name.strip_prefix("flowgate:conntrack/")) {
        let (name, version) = name.split_once('@').unwrap_or((name, ""));
        if !compatible(version) || !(TYPES.contains(&name) || SERVICES.contains(&name)) {
            return Err(format!(
                "it asks for flowgate:conntrack/{name}@{version}, and this host offers {} of {VERSION}; \
                 rebuild the plugin against the wit/ of this version, or use a host that offers it",
                SERVICES.join(", ")
            ));
        }
        if SERVICES.contains(&name) {
            services.push(name.to_string());
        }
    }
    Ok(services)
}

/// Returns true if a plugin for this version of the package runs on this host: the same 0.x line, and not a later minor
/// version.
fn compatible(version: &str) -> bool {
    let numbers = |text: &str| -> Option<(u64, u64, u64)> {
        let mut parts = text.split('.').map(str::parse);
        let triple = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        parts.next().is_none().then_some(triple)
    };
    match (numbers(version), numbers(VERSION)) {
        (Some((major, minor, patch)), Some((our_major, our_minor, our_patch))) => {
            if major == 0 {
                our_major == 0 && minor == our_minor && patch <= our_patch
            } else {
                major == our_major && (minor, patch) <= (our_minor, our_patch)
            }
        }
        _ => false,
    }
}

fn indices(pre: &InstancePre<HostState>, can: Capabilities) -> wasmtime::Result<Indices> {
    Ok(Indices {
        plugin: exports::plugin::GuestIndices::new(pre)?,
        flow_stage: can.flow_stage.then(|| exports::flow_stage::GuestIndices::new(pre)).transpose()?,
        flow_selection: can.flow_selection.then(|| exports::flow_selection::GuestIndices::new(pre)).transpose()?,
        flow_template: can.flow_template.then(|| exports::flow_template::GuestIndices::new(pre)).transpose()?,
        flow_query: can.flow_query.then(|| exports::flow_query::GuestIndices::new(pre)).transpose()?,
        flow_format: can.flow_format.then(|| exports::flow_format::GuestIndices::new(pre)).transpose()?,
        flow_aggregate: can.flow_aggregate.then(|| exports::flow_aggregate::GuestIndices::new(pre)).transpose()?,
        groups_format: can.groups_format.then(|| exports::groups_format::GuestIndices::new(pre)).transpose()?,
        expectation_stage: can
            .expectation_stage
            .then(|| exports::expectation_stage::GuestIndices::new(pre))
            .transpose()?,
        expectation_format: can
            .expectation_format
            .then(|| exports::expectation_format::GuestIndices::new(pre))
            .transpose()?,
        statistics_format: can
            .statistics_format
            .then(|| exports::statistics_format::GuestIndices::new(pre))
            .transpose()?,
        flow_tick: can.flow_tick.then(|| exports::flow_tick::GuestIndices::new(pre)).transpose()?,
        flow_look_back: can.flow_look_back.then(|| exports::flow_look_back::GuestIndices::new(pre)).transpose()?,
        action_results: can.action_results.then(|| exports::action_results::GuestIndices::new(pre)).transpose()?,
    })
}

/// Lists at most five names, and the number of the others.
fn list(names: &[String]) -> String {
    let mut text = names.iter().take(5).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > 5 {
        text.push_str(&format!(" and {} more", names.len() - 5));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// Exports are checked before the code is weighed, and thus before it is compiled.
    #[test]
    fn what_exports_nothing_is_not_even_weighed() {
        use flowgate_test_support::wasm::{NOTHING, code, component, id, items};
        let loops = [&[0][..], &[0x03, 0x40, 0x0b].repeat(10_000), &[0x0b]].concat();
        let heavy = component(&[items(id::TYPES, 1, NOTHING), items(id::FUNCTIONS, 1, &[0]), code([&loops[..]])]);
        let engine = PluginEngine::new(None).unwrap();
        let path = Path::new("some.wasm");
        let error = PluginComponent::from_bytes(&engine, path, &heavy).err().unwrap();
        assert!(matches!(error, LoadError::Mismatch { .. }), "{error}");
        let rejection = weight::weigh(&heavy).unwrap_err();
        assert!(matches!(rejection, Rejection::Excessive(_)), "it would be refused for its weight: {rejection:?}");
    }

    /// The same of what it imports.
    #[test]
    fn what_imports_something_unknown_is_not_even_weighed() {
        use flowgate_test_support::wasm::{NOTHING, code, component, id, items, name, section};
        let loops = [&[0][..], &[0x03, 0x40, 0x0b].repeat(10_000), &[0x0b]].concat();
        let heavy = component(&[items(id::TYPES, 1, NOTHING), items(id::FUNCTIONS, 1, &[0]), code([&loops[..]])]);
        // The type of an instance without exports; an import of one, which is exported under two names.
        let types = section(7, &[1, 0x42, 0]);
        let import = |called: &str| section(10, &[&[1, 0][..], &name(called), &[5, 0]].concat());
        let export = |called: &str| [&[0][..], &name(called), &[5, 0, 0]].concat();
        let exports = ["flowgate:conntrack/plugin@0.1.0", "flowgate:conntrack/flow-stage@0.1.0"].map(export).concat();
        let exports = section(11, &[&[2][..], &exports].concat());
        let load = |called: &str| {
            let bytes = [heavy.clone(), types.clone(), import(called), exports.clone()].concat();
            PluginComponent::from_bytes(&PluginEngine::new(None).unwrap(), Path::new("some.wasm"), &bytes)
                .err()
                .unwrap()
        };
        let error = load("flowgate:conntrack/teleport@0.1.0");
        assert!(matches!(&error, LoadError::Mismatch { reason, .. } if reason.contains("teleport@0.1.0")), "{error}");
        let error = load("flowgate:conntrack/log@0.1.0");
        assert!(matches!(error, LoadError::Excessive { .. }), "it would be refused for its weight: {error}");
    }

    #[test]
    fn exports_become_capabilities() {
        let can = capabilities(&names(&["flowgate:conntrack/plugin@0.1.0", "flowgate:conntrack/flow-stage@0.1.0"]));
        assert_eq!(can, Ok(Capabilities { flow_stage: true, ..Capabilities::default() }));
    }

    #[test]
    fn a_count_loads_what_prints_counters_and_nothing_else() {
        let engine = PluginEngine::new(None).unwrap();
        let counters = PluginComponent::stock(&engine, "counters").unwrap();
        assert_eq!(counters.capabilities.interfaces(), ["statistics-format"]);
        let text = PluginComponent::stock(&engine, "text").unwrap();
        assert_eq!(text.capabilities.interfaces(), ["flow-format", "expectation-format"]);
        assert!(counters.services.is_empty() && text.services.is_empty());
    }

    #[test]
    fn mismatches_are_put_in_words() {
        let other = capabilities(&names(&["wasi:http/handler@0.2.0"])).unwrap_err();
        assert!(other.contains("wasi:http/handler@0.2.0") && other.contains("wit/worlds.wit"), "{other}");
        let newer = capabilities(&names(&["flowgate:conntrack/plugin@0.2.0"])).unwrap_err();
        assert!(newer.contains("wants flowgate:conntrack/plugin@0.2.0") && newer.contains("offers 0.1.1"), "{newer}");
        let idle = capabilities(&names(&["flowgate:conntrack/plugin@0.1.0"])).unwrap_err();
        assert!(idle.contains("no stage and no format"), "{idle}");
        let half = capabilities(&names(&["flowgate:conntrack/flow-stage@0.1.0"])).unwrap_err();
        assert!(half.contains("does not export flowgate:conntrack/plugin"), "{half}");
        assert!(capabilities(&[]).unwrap_err().contains("exports nothing"));
    }

    #[test]
    fn services_are_found_among_the_imports() {
        let imported = ["wasi:io/poll@0.2.0", "flowgate:conntrack/flow@0.1.0", "flowgate:conntrack/log@0.1.0"];
        assert_eq!(services(&names(&imported)).unwrap(), ["log"]);
        let unknown = services(&names(&["flowgate:conntrack/teleport@0.1.0"])).unwrap_err();
        assert!(unknown.contains("asks for flowgate:conntrack/teleport@0.1.0"), "{unknown}");
        let newer = services(&names(&["flowgate:conntrack/log@0.1.7"])).unwrap_err();
        assert!(newer.contains("log@0.1.7"), "{newer}");
    }

    #[test]
    fn versions_of_the_same_line_agree() {
        assert!(compatible("0.1.0") && compatible("0.1.1"));
        for other in ["0.1.2", "0.2.0", "1.0.0", "0.0.9", "", "0.1", "0.1.0.0", "x"] {
            assert!(!compatible(other), "{other}");
        }
    }
}
