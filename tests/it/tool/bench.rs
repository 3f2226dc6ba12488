//! `plugin bench`: the form of its report, not its figures.

use super::{directory, flowgate, plugins, root, text};

#[test]
fn costs_are_reported_beside_a_plugin_that_does_nothing() {
    let place = directory("bench");
    let plugin = plugins::built("heavy-tcp");
    let outcome = flowgate(&place, &["plugin", "bench", text(&plugin), "--flows", "5000"]);
    let rows: Vec<&str> = outcome.stdout(0).lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(rows.get(2..4), Some(&["heavy-tcp", "pass"][..]), "{}", outcome.stdout);

    let fixture = root().join("examples/heavy-tcp/flows.txt");
    let with_options = format!("{},bytes=1", text(&plugin));
    let arguments =
        ["plugin", "bench", &with_options, "--from", text(&fixture), "--flows", "800", "--batch", "80", "-o", "json"];
    let outcome = flowgate(&place, &arguments);
    let object: serde_json::Value = serde_json::from_str(outcome.stdout(0)).expect("JSON");
    assert_eq!(
        (object["flows"].as_u64(), object["batch"].as_u64(), object["calls"].as_u64()),
        (Some(800), Some(80), Some(10))
    );
    assert_eq!(object["pass"]["kept"], 800);
    // Of the eight flows of the fixture, three are established, to public addresses, and have transferred bytes.
    assert_eq!(object["plugin"]["kept"], 300);
    assert!(object["plugin"]["ns_per_flow_p50"].as_f64().expect("a number") > 0.0);
}

#[test]
fn what_is_no_stage_cannot_be_measured() {
    let place = directory("bench-no-stage");
    let outcome = flowgate(&place, &["plugin", "bench", "missing.wasm"]);
    assert_eq!(outcome.status, 1);
    outcome.says("cannot read plugin missing.wasm");
    let outcome = flowgate(&place, &["plugin", "bench", &format!("{},x=1", text(&plugins::built("heavy-tcp")))]);
    assert_eq!(outcome.status, 1);
    outcome.says("it has no option `x`; it has bytes=N");
}
