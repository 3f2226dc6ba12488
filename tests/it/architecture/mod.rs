//! The crates of the host depend on each other as ARCHITECTURE.md says, downward only.

mod engine;
mod folders;
mod promises;

use std::{collections::BTreeMap, process::Command};

use flowgate_test_support::built::root;

/// The crates of the host, without `flowgate-`, from the lowest to the highest, each with those that it may depend on.
/// These precede it in the list, so the graph has no cycle.
const LAYERS: &[(&str, &[&str])] = &[
    ("names", &[]),
    ("base", &["names"]),
    ("privileges", &["base"]),
    ("isolation", &["base", "privileges"]),
    ("stock", &[]),
    ("model", &["names", "base"]),
    ("netlink", &["base", "model"]),
    ("query", &["names", "base", "model"]),
    ("syntax", &["base", "model", "query"]),
    ("runtime", &["base", "privileges", "isolation", "stock", "model"]),
    ("recording", &["base", "model", "netlink"]),
    ("fixture", &["names", "base", "model", "syntax"]),
    ("fleet", &["base", "model"]),
    ("pipeline", &["base", "model", "netlink", "query", "runtime", "recording"]),
    ("worker", &["base", "privileges", "isolation", "model", "netlink", "runtime", "pipeline"]),
    ("metrics", &["base", "model", "netlink", "pipeline"]),
    ("top", &["base", "model", "netlink", "pipeline"]),
    ("config", &["base", "model", "netlink", "query", "syntax", "runtime", "recording", "pipeline"]),
    ("policy", &["base", "model", "netlink", "syntax", "runtime", "pipeline", "config"]),
    (
        "flowgate",
        &[
            "base",
            "privileges",
            "isolation",
            "model",
            "netlink",
            "query",
            "syntax",
            "runtime",
            "recording",
            "fixture",
            "fleet",
            "pipeline",
            "metrics",
            "top",
            "config",
            "policy",
            "worker",
        ],
    ),
];

/// Returns the name of a crate as in [`LAYERS`].
fn short(name: &str) -> &str {
    name.strip_prefix("flowgate-").unwrap_or(name)
}

/// Returns the crates below `host/`, each with the crates of the workspace that it depends on, and whether only for its
/// tests.
fn arrows() -> BTreeMap<String, Vec<(String, bool)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut arrows = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("a list of packages") {
        let manifest = text(&package["manifest_path"]);
        if !manifest.contains("/host/") || manifest.contains("/host/netlink/testing/") {
            continue;
        }
        let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
        let of_workspace = dependencies.iter().filter(|dependency| !dependency["path"].is_null());
        let named = of_workspace
            .map(|dependency| (short(&text(&dependency["name"])).to_owned(), text(&dependency["kind"]) == "dev"));
        arrows.insert(short(&text(&package["name"])).to_owned(), named.collect());
    }
    arrows
}

#[test]
fn every_crate_depends_on_what_the_list_says_and_on_nothing_else() {
    let arrows = arrows();
    for (name, found) in &arrows {
        let (_, allowed) = LAYERS.iter().find(|(layer, _)| layer == name).unwrap_or_else(|| {
            panic!("the crate {name} is not in the list of {}; put it where it belongs", file!());
        });
        let mut found: Vec<&str> =
            found.iter().filter(|(_, only_tests)| !only_tests).map(|(name, _)| name.as_str()).collect();
        found.sort_unstable();
        let mut allowed = allowed.to_vec();
        allowed.sort_unstable();
        assert_eq!(found, allowed, "what {name} depends on, and what it may by the list of {}", file!());
    }
    for (name, _) in LAYERS.iter().filter(|(name, _)| *name != "names") {
        assert!(arrows.contains_key(*name), "the crate {name} is in the list and not below host/");
    }
}

#[test]
fn the_list_goes_downward() {
    for (position, (name, below)) in LAYERS.iter().enumerate() {
        for other in *below {
            let lower = LAYERS.iter().position(|(layer, _)| layer == other);
            assert!(lower.is_some_and(|lower| lower < position), "{name} -> {other}");
        }
    }
}
