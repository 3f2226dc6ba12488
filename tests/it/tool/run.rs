//! `plugin run`: a recording passed through a plugin.

use super::{directory, flowgate, plugins, root, text};

#[test]
fn a_recording_is_shown_through_a_plugin() {
    let place = directory("run");
    let recording = root().join("tests/data/flows.pcap");
    let all = flowgate(&place, &["replay", text(&recording)]);
    let plugin = plugins::built("hostile");
    let through = flowgate(&place, &["plugin", "run", text(&plugin), text(&recording)]);
    assert!(!all.stdout.is_empty());
    assert_eq!(through.stdout(0), all.stdout(0), "this plugin keeps everything");
    let with_options = format!("{},do=trap", text(&plugin));
    let outcome = flowgate(&place, &["plugin", "run", &with_options, text(&recording), "--", "-o", "json"]);
    assert_eq!(outcome.status, 1);
    outcome.says("trapped: panicked");
}
