//! `plugin inspect`: plugins that run here, and files that do not.

use super::{directory, flowgate, plugins, text, write};

#[test]
fn a_plugin_says_what_it_is() {
    let place = directory("inspect-good");
    let plugin = plugins::built("heavy-tcp");
    let outcome = flowgate(&place, &["plugin", "inspect", text(&plugin)]);
    outcome.stdout(0);
    for line in [
        "name        heavy-tcp",
        "version     1.0.0",
        "summary     Established TCP flows to the outside with many bytes",
        "kind        core module, which the host makes a component of",
        "package     flowgate:conntrack 0.1.1 (this host offers 0.1.1)",
        "exports     plugin@0.1.1, flow-stage@0.1.1",
        "imports     nothing",
        "option      bytes=N  keep flows that have moved more bytes than this; 1000000 if not given",
        "grants      it asks for none",
        "reads       destination, protocol, original-counters, reply-counters, state",
        "runs here   yes",
    ] {
        assert!(outcome.stdout.lines().any(|found| found == line), "{line}\n{}", outcome.stdout);
    }
    let digest =
        outcome.stdout.lines().find_map(|line| line.strip_prefix("sha256")).expect("a digest").trim().to_owned();
    let sum = std::process::Command::new("sha256sum").arg(&plugin).output().expect("sha256sum runs");
    assert!(String::from_utf8_lossy(&sum.stdout).starts_with(&digest), "{digest}");
}

#[test]
fn programs_read_json() {
    let place = directory("inspect-json");
    let outcome = flowgate(&place, &["plugin", "inspect", "-o", "json", text(&plugins::built("heavy-tcp"))]);
    let object: serde_json::Value = serde_json::from_str(outcome.stdout(0)).expect("JSON");
    assert_eq!(object["name"], "heavy-tcp");
    assert_eq!(object["runs"], true);
    assert_eq!(object["wants"], serde_json::json!(["0.1.1"]));
    assert_eq!(object["options"][0]["default"], "1000000");
    assert!(object["memory"].as_u64().expect("a number") > 0);
}

#[test]
fn a_plugin_that_misbehaves_when_called_is_still_described() {
    let place = directory("inspect-hostile");
    let outcome = flowgate(&place, &["plugin", "inspect", text(&plugins::built("hostile"))]);
    outcome.stdout(0);
    outcome.says("option      do=WHAT  what to do; nothing if not given");
}

#[test]
fn foreign_files_are_told_in_words() {
    let place = directory("inspect-foreign");
    for (name, content, expected) in [
        ("empty", "", "no: empty is not a WebAssembly component: it is empty"),
        ("text", "(module)", "looks like WebAssembly text"),
        ("script", "#!/bin/sh\n", "begins with `#!/bin/s`"),
        (
            "module.wasm",
            "\0asm\u{1}\0\0\0\u{1}\u{4}\u{1}\u{60}\0\0\u{2}\u{9}\u{1}\u{3}env\u{1}f\0\0",
            "is a core WebAssembly module without the metadata of a component",
        ),
        (
            "component.wasm",
            "\0asm\u{d}\0\u{1}\0",
            "it exports nothing, and none of the interfaces of flowgate:conntrack@0.1.1",
        ),
    ] {
        write(&place, name, content);
        let outcome = flowgate(&place, &["plugin", "inspect", name]);
        assert!(outcome.stdout(1).contains("runs here   no: "), "{}", outcome.stdout);
        outcome.says(expected);
        let outcome = flowgate(&place, &["plugin", "inspect", "-o", "json", name]);
        let object: serde_json::Value = serde_json::from_str(outcome.stdout(1)).expect("JSON");
        assert_eq!(object["runs"], false);
        assert!(object["problem"].as_str().expect("a text").contains(expected.trim_start_matches("no: ")), "{object}");
    }
    let missing = flowgate(&place, &["plugin", "inspect", "missing.wasm"]);
    assert_eq!(missing.status, 1);
    missing.says("cannot read missing.wasm: No such file or directory");
}
