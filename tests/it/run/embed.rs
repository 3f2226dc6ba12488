//! The example of a program that embeds a pipeline.

use crate::run::{conntrack, plugins};
use flowgate_test_support::{Background, Namespace, Program, built::profile_directory};

fn embed() -> Program {
    let program = profile_directory().join("embed");
    assert!(program.exists(), "{} is not built: cargo build --release --workspace", program.display());
    Program::new(program)
}

#[test]
fn an_embedded_pipeline_prints_events_as_json() {
    Namespace::run(|_| {
        let plugin = plugins::built("active").display().to_string();
        let mut embedded = Background::start(&embed(), &[&plugin]);
        embedded.wait_until_listening();
        for port in [53, 123] {
            let line = format!("-I -t 60 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 4000 --dport {port}");
            conntrack().must(&line.split(' ').collect::<Vec<_>>());
            embedded.wait_for_output(&format!(r#""destination_port":{port}"#));
        }
        conntrack().must(&["-F"]);
        embedded.wait_for_output(r#""event":"destroy""#);
        let outcome = embedded.finish();
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        for line in outcome.text().lines() {
            let event: serde_json::Value = serde_json::from_str(line).expect("one object a line");
            assert_eq!(event["protocol_name"], "udp", "{line}");
        }
        assert!(outcome.errors().ends_with(" events shown, 0 gaps, 0 events lost\n"), "{}", outcome.errors());
    });
}

#[test]
fn what_is_wrong_with_the_plugin_of_an_embedded_pipeline_is_an_error() {
    let outcome = embed().run(&["/nowhere.wasm"]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.errors().contains("/nowhere.wasm"), "{}", outcome.errors());
    assert!(embed().run(&[]).errors().contains("usage: embed PLUGIN.wasm"));
}
