//! Crates that parse kernel messages and user input build without the plugin engine.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

/// The crates that another project can use without WebAssembly, and that are fuzzed without it.
const WITHOUT: &[&str] =
    &["names", "base", "privileges", "isolation", "model", "netlink", "syntax", "recording", "fixture", "fleet"];

/// Name prefixes of the packages that make up the engine, and of those that produce components.
const ENGINE: &[&str] = &["wasm", "wit-", "flowgate-runtime", "flowgate-stock"];

/// Returns the packages of the workspace from `cargo metadata`.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(super::root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Returns the optional dependencies that features of a package enable.
fn turned_on(package: &Value, features: &mut Vec<String>) -> BTreeSet<String> {
    let mut on = BTreeSet::new();
    while let Some(feature) = features.pop() {
        if let Some(dependency) = feature.strip_prefix("dep:") {
            on.insert(dependency.to_owned());
        }
        features.extend(list(&package["features"][&feature]).iter().filter_map(Value::as_str).map(str::to_owned));
    }
    on
}

/// Returns the dependency paths from a package to packages of the engine. Dependencies of tests, and features that
/// other packages of the workspace enable, do not count. `features` are the features enabled for the package. Packages
/// from outside the workspace do not depend on the engine, so they are not followed.
fn engine(metadata: &Value, name: &str, mut features: Vec<String>, path: &[String]) -> Vec<String> {
    let path = [path, &[name.to_owned()]].concat();
    if ENGINE.iter().any(|start| name.starts_with(start)) {
        return vec![path.join(" -> ")];
    }
    let Some(package) = list(&metadata["packages"]).iter().find(|package| package["name"] == name) else {
        return Vec::new();
    };
    let on = turned_on(package, &mut features);
    list(&package["dependencies"])
        .iter()
        .filter(|dependency| dependency["kind"] != "dev")
        .filter(|dependency| dependency["optional"] == false || on.contains(dependency["name"].as_str().unwrap()))
        .flat_map(|dependency| {
            let asked = list(&dependency["features"]).iter().filter_map(Value::as_str).map(str::to_owned);
            let default = (dependency["uses_default_features"] == true).then(|| "default".to_owned());
            engine(metadata, dependency["name"].as_str().unwrap(), asked.chain(default).collect(), &path)
        })
        .collect()
}

#[test]
fn crates_below_the_runtime_build_without_the_engine() {
    let metadata = metadata();
    for name in WITHOUT {
        let found = engine(&metadata, &format!("flowgate-{name}"), vec!["default".to_owned()], &[]);
        assert!(found.is_empty(), "{found:#?}");
    }
    // Check of the search itself: it finds the engine where it is a dependency.
    for (name, feature) in [("flowgate-model", "component"), ("flowgate-pipeline", "default")] {
        let found = engine(&metadata, name, vec![feature.to_owned()], &[]);
        assert!(!found.is_empty(), "{name} with the feature {feature} takes no engine");
    }
}
