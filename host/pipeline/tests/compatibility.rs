//! Plugins that were compiled for a release keep running, and the WIT package changes only as `wit/VERSIONING.md`
//! allows.
//!
//! `tests/compatibility/VERSION` is a snapshot of that release: `wit/`, its WIT package, and `*.wasm`, components that
//! were built with its SDK. They are never rebuilt.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use flowgate_base::Warnings;
use flowgate_model::{Flows, OptionValue, Setup, event, field, grants::Grants, result};
use flowgate_netlink::decode::FlowDecoder;
use flowgate_pipeline::{
    executor::{Executor, Shows},
    stage::{Reason, Stage},
};
use flowgate_runtime::{
    Instance, Limits, PluginComponent, PluginEngine, Services,
    services::state::{CAPACITY, State},
};
use flowgate_test_support::until;
use wit_parser::Resolve;

/// The last release.
const RELEASE: &str = "0.1.0";

/// Worlds with a stable shape. `everything` is not among them: it lists the exports that a plugin may have, not those
/// that it must have.
const WORLDS: [&str; 9] = [
    "stage",
    "selecting-stage",
    "template-stage",
    "full-stage",
    "format",
    "table-format",
    "full-format",
    "services",
    "active-stage",
];

fn released() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/compatibility").join(RELEASE)
}

fn present() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")
}

/// Returns the WIT files of a directory, each as one text, changed by `edit`.
fn package(directory: &Path, edit: impl Fn(&str, String) -> String) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wit") {
            let name = path.file_name().unwrap().to_str().unwrap();
            fs::write(copy.path().join(name), edit(name, fs::read_to_string(&path).unwrap())).unwrap();
        }
    }
    copy
}

/// Checks that `new` may follow `old`, world by world.
fn follows(old: &Path, new: &Path) -> Result<(), String> {
    // Two packages of the same name and version cannot be loaded together. Versions are not part of the comparison.
    let old = package(old, |_, text| text.replace(RELEASE, "0.0.1"));
    for world in WORLDS {
        let mut resolve = Resolve::default();
        let (old, _) = resolve.push_dir(old.path()).map_err(|error| format!("{error:#}"))?;
        let (new, _) = resolve.push_dir(new).map_err(|error| format!("{error:#}"))?;
        let find = |resolve: &Resolve, package| {
            resolve.select_world(&[package], Some(world)).map_err(|error| format!("{world}: {error:#}"))
        };
        let (old, new) = (find(&resolve, old)?, find(&resolve, new)?);
        wit_component::semver_check(resolve, old, new).map_err(|error| format!("{world}: {error:#}"))?;
    }
    Ok(())
}

#[test]
fn the_package_is_compatible_with_the_last_release() {
    follows(&released().join("wit"), &present()).unwrap();
}

#[test]
fn what_breaks_compiled_plugins_is_noticed() {
    let released = released().join("wit");
    for (file, from, to) in [
        // An additional field in a record.
        ("flow.wit", "record flows {", "record flows {\n    more-and-more: u32,"),
        // A different parameter.
        ("flow-stage.wit", "process: func(batch: flows)", "process: func(batch: flows, more: u32)"),
        // A different type.
        ("log.wit", "log: func(level: u8,", "log: func(level: u16,"),
        // An additional function that a plugin must export.
        ("plugin.wit", "  configure: func", "  reconfigure: func();\n\n  @since(version = 0.1.0)\n  configure: func"),
        // A function that a plugin can no longer call.
        ("clock.wit", "now: func", "later: func"),
    ] {
        let broken = package(&present(), |name, text| {
            if name != file {
                return text;
            }
            assert!(text.contains(from), "{file} has no `{from}`");
            text.replacen(from, to, 1)
        });
        assert!(follows(&released, broken.path()).is_err(), "{file}: {to}");
    }
}

fn frozen(name: &str) -> PluginComponent {
    let engine = PluginEngine::new(None).unwrap();
    PluginComponent::open(&engine, &released().join(name)).unwrap()
}

fn setup(options: &[(&str, &str)]) -> Setup {
    Setup { options: options.iter().map(|(name, value)| OptionValue::new(*name, *value)).collect(), ..Setup::default() }
}

fn executor() -> Executor<Flows> {
    let warnings = Warnings::new(|warning| panic!("{warning}"));
    let mut executor = Executor::new(Shows::Entries, FlowDecoder::new(0)).with_warnings(warnings);
    executor.detach();
    executor
}

/// Returns rows with an original tuple, a mark and counters.
fn batch(rows: u32) -> Flows {
    let column = |value: u64| vec![value; rows as usize];
    let mut flows = Flows {
        length: rows,
        has: vec![field::ORIGINAL | field::MARK | field::COUNTERS | field::STATUS; rows as usize],
        family: vec![2; rows as usize],
        protocol: vec![6; rows as usize],
        mark: (0..rows).collect(),
        status: vec![0; rows as usize],
        ..Flows::default()
    };
    flows.original.source.lo = column(0xffff_0a00_0001);
    flows.original.destination.lo = column(0xffff_0808_0808);
    flows.original.source_l4 = vec![1000; rows as usize];
    flows.original.destination_l4 = vec![443; rows as usize];
    flows
}

#[test]
fn a_frozen_stage_with_everything_still_runs() {
    let component = frozen("active.wasm");
    let can = component.capabilities;
    assert!(can.flow_stage && can.flow_tick && can.flow_look_back && can.action_results);
    assert_eq!(component.services.len(), 3, "{:?}", component.services);
    let state = std::sync::Arc::new(std::sync::Mutex::new(State::in_memory(CAPACITY)));
    let services = Services { state: Some(state.clone()), time: true, ..Services::default() };
    let mut instance = Instance::with_services(&component, Limits::default(), services.clone()).unwrap();
    let description = instance.describe().unwrap();
    assert_eq!((description.name.as_str(), description.options.len()), ("active", 3));
    instance.configure(&setup(&[("do", "annotate+transform+delete+count+time+log"), ("interval", "100")])).unwrap();
    assert_eq!(instance.tick_interval().unwrap(), 100);
    instance.end_start_up();
    let grants: Grants = "delete,tick,look-back,log,time,state".parse().unwrap();
    let mut stage = Stage::new(instance, description.reads, grants).serving(services).called(can, 100);

    let mut rows = batch(3);
    stage.batch(&mut rows, &mut executor()).unwrap();
    assert_eq!(rows.mark, [77, 77, 77]);
    assert_eq!(rows.rare.as_ref().unwrap().annotations.rows, [0, 1, 2]);
    assert_eq!(stage.stats().lock().actions[usize::from(result::PRINTED)], 3);
    assert_eq!(state.lock().unwrap().get(b"seen"), Some(&3u64.to_be_bytes()[..]));
    // The results of the actions, the table, a tick, and the end.
    stage.begin_look_back(Reason::Start, &mut executor()).unwrap();
    stage.look_back(&mut batch(2), &mut executor()).unwrap();
    stage.end_look_back(&mut executor()).unwrap();
    until("a tick is due", || {
        stage.tick(&mut executor()).unwrap();
        stage.stats().lock().ticks == 1
    });
    stage.finish(&mut executor()).unwrap();
    assert_eq!(stage.stats().lock().failures, 0);
}

#[test]
fn a_frozen_filter_still_decides() {
    let component = frozen("heavy_tcp.wasm");
    let mut instance = Instance::new(&component, Limits::default()).unwrap();
    let description = instance.describe().unwrap();
    assert_eq!(description.name, "heavy-tcp");
    let options: Vec<OptionValue> = description
        .options
        .iter()
        .filter_map(|option| Some(OptionValue::new(&option.name, option.default.clone()?)))
        .collect();
    instance.configure(&Setup { options, ..Setup::default() }).unwrap();
    instance.end_start_up();
    let mut stage = Stage::new(instance, description.reads, Grants::NONE);
    let mut rows = batch(4);
    let before = rows.length;
    stage.batch(&mut rows, &mut executor()).unwrap();
    assert!(rows.length <= before && rows.events.as_ref().is_none_or(|events| !events.kind.contains(&event::GAP)));
}
