//! Tests that the documentation and the dashboard name exactly the exported metrics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

/// Returns the words that begin with `flowgate_`.
fn names(text: &str) -> Vec<&str> {
    let word = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
    text.split(|byte| !word(byte)).filter(|name| name.starts_with("flowgate_")).collect()
}

#[test]
fn dashboard_and_documentation_speak_of_what_is_exported() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let exported = [flowgate_metrics::names(), flowgate_metrics::tenant_names()].concat();
    let dashboard = read("examples/grafana/flowgate.json");
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    assert!(parsed["panels"].as_array().is_some_and(|panels| panels.len() > 5));
    let documentation = read("docs/METRICS.md");
    for (file, text) in [("the dashboard", &dashboard), ("docs/METRICS.md", &documentation)] {
        assert!(!names(text).is_empty());
        // Pipeline files name metrics with this beginning.
        for name in names(text).into_iter().filter(|name| !name.starts_with("flowgate_flow_")) {
            assert!(exported.iter().any(|exported| exported == name), "{file} speaks of {name}, which is not exported");
        }
    }
    for name in &exported {
        assert!(names(&documentation).contains(&name.as_str()), "docs/METRICS.md does not speak of {name}");
    }
    // Each metric is in the table of its section.
    let (others, tenants) = documentation.split_once("\n## Tenants\n").expect("a section about tenants");
    for (text, exported) in [(others, flowgate_metrics::names()), (tenants, flowgate_metrics::tenant_names())] {
        let rows = text.lines().filter(|line| line.starts_with("| `flowgate_"));
        let mut rows: Vec<&str> = rows.flat_map(|row| names(row.split('|').nth(1).unwrap_or_default())).collect();
        let mut exported: Vec<&str> = exported.iter().map(String::as_str).collect();
        rows.sort_unstable();
        exported.sort_unstable();
        assert_eq!(rows, exported);
    }
}
