//! `--metrics` with a policy: figures of each tenant, checked by promtool.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use super::{
    service::{flow, output, tenant},
    *,
};

/// Returns the metrics.
pub(super) fn scrape(serving: &Serving) -> String {
    let mut stream = UnixStream::connect(serving.directory.join("metrics")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_string()
}

/// Returns the value of a metric, by its name and labels as in the text.
pub(super) fn value(text: &str, metric: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("flowgate_{metric} ")));
    line.unwrap_or_else(|| panic!("no {metric} in\n{text}")).parse().unwrap()
}

#[test]
fn what_each_tenant_did_is_exported_and_promtool_is_content() {
    Namespace::run(|namespace| {
        entries::insert(namespace, &flow(9, 90));
        let other = "delete src=10.1.0.1 dst=192.0.2.1 sport=90 dport=53 zone=9";
        let text = tenant("blue", 7, "delete shown", "") + &tenant("red", 8, other, "");
        policy(namespace, &text);
        let address = format!("unix:{}", namespace.directory().join("metrics").display());
        let serving = Serving::launch(namespace, &flowgate(), &["--metrics", &address]);
        serving.until("it runs", || serving.errors().contains("generation 1 runs"));
        assert!(serving.errors().contains(&format!("Metrics are served at {address}.")), "{}", serving.errors());
        entries::insert(namespace, &flow(7, 70));
        entries::insert(namespace, &flow(8, 80));
        // New and gone for blue, new for red; the next event shows that the figures of the earlier ones are complete.
        serving.until("both have acted", || {
            let text = scrape(&serving);
            value(&text, "tenant_handed_events_total{tenant=\"blue\"}") == 2.0
                && value(&text, "stage_rows_in_total{tenant=\"blue\",plugin=\"attacker\",stage=\"0\"}") == 2.0
                && text.contains("flowgate_tenant_refusals_total{tenant=\"red\",reason=\"out-of-scope\"} 1")
                && value(&text, "stage_actions_total{tenant=\"red\",plugin=\"attacker\",stage=\"0\",result=\"gone\"}")
                    == 1.0
        });
        let text = scrape(&serving);
        for (metric, expected) in [
            ("tenants", 2.0),
            ("policy_generation", 1.0),
            ("events_total{kind=\"new\"}", 2.0),
            ("events_total{kind=\"destroy\"}", 1.0),
            ("gaps_total", 0.0),
            ("tenant_events_total{tenant=\"blue\"}", 2.0),
            ("tenant_events_total{tenant=\"red\"}", 1.0),
            ("tenant_lost_events_total{tenant=\"blue\"}", 0.0),
            ("tenant_state{tenant=\"blue\",state=\"running\"}", 1.0),
            ("tenant_state{tenant=\"blue\",state=\"ended\"}", 0.0),
            ("tenant_generation{tenant=\"red\"}", 1.0),
            ("tenant_actions_total{tenant=\"blue\",result=\"done\"}", 1.0),
            ("tenant_actions_total{tenant=\"red\",result=\"gone\"}", 1.0),
            ("stage_actions_total{tenant=\"blue\",plugin=\"attacker\",stage=\"0\",result=\"done\"}", 1.0),
            ("stage_failures_total{tenant=\"blue\",plugin=\"attacker\",stage=\"0\"}", 0.0),
        ] {
            assert_eq!(value(&text, metric), expected, "{metric}\n{text}");
        }
        for metric in ["calls_total", "seconds_total", "memory_bytes"] {
            let metric = format!("stage_{metric}{{tenant=\"blue\",plugin=\"attacker\",stage=\"0\"}}");
            assert!(value(&text, &metric) > 0.0, "{metric}\n{text}");
        }
        assert!(value(&text, "receive_buffer_bytes") > 0.0 && value(&text, "received_bytes_total") > 0.0);
        assert!(value(&text, "audit_lines_total") >= 4.0 && value(&text, "audit_failures_total") == 0.0);
        let names = crate::metrics::documented(true);
        assert!(names.len() > 15, "{names:?}");
        let missing: Vec<_> = names.iter().filter(|name| !text.contains(&format!("# TYPE {name} "))).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let judged = Program::new("promtool").run_with(&["check", "metrics"], text.as_bytes());
        assert_eq!((judged.status, judged.text() + &judged.errors()), (0, String::new()), "{text}");
        // No label has a value of a flow.
        assert!(!text.contains("10.1.0.1") && !text.contains("192.0.2.1"), "{text}");
        serving.end();
    });
}

#[test]
fn a_reload_takes_nothing_back_and_tenants_that_are_gone_are_forgotten() {
    Namespace::run(|namespace| {
        let both = tenant("blue", 7, "", "") + &tenant("red", 8, "", "");
        policy(namespace, &both);
        let address = format!("unix:{}", namespace.directory().join("metrics").display());
        let serving = Serving::launch(namespace, &flowgate(), &["--metrics", &address]);
        serving.until("it runs", || serving.errors().contains("generation 1 runs"));
        let events = "tenant_events_total{tenant=\"blue\"}";
        let rows = "stage_rows_in_total{tenant=\"blue\",plugin=\"attacker\",stage=\"0\"}";
        for port in 1..=3 {
            entries::insert(namespace, &flow(7, port));
        }
        serving.until("they are counted", || value(&scrape(&serving), rows) >= 3.0);
        for generation in 2..=4 {
            let before = value(&scrape(&serving), rows);
            assert_eq!(serving.ask(&["reload"]).status, 0);
            let text = scrape(&serving);
            assert!(value(&text, events) >= 3.0 && value(&text, rows) >= before, "{before}\n{text}");
            assert_eq!(value(&text, "tenant_generation{tenant=\"blue\"}"), f64::from(generation), "{text}");
            let shown = format!("sport={} ", 100 + generation);
            entries::insert(namespace, &flow(7, 100 + generation));
            serving.until("it goes on", || output(&serving, "blue").contains(&shown));
        }
        policy(namespace, &(both.clone() + "colour = 1\n"));
        assert_eq!(serving.ask(&["reload"]).status, 1);
        assert_eq!(serving.ask(&["pause", "blue"]).status, 0);
        let text = scrape(&serving);
        assert_eq!(value(&text, "policy_reloads_total{result=\"done\"}"), 3.0, "{text}");
        assert_eq!(value(&text, "policy_reloads_total{result=\"failed\"}"), 1.0, "{text}");
        assert_eq!(value(&text, events), 6.0, "{text}");
        assert_eq!(value(&text, "tenant_state{tenant=\"blue\",state=\"paused\"}"), 1.0, "{text}");
        policy(namespace, &tenant("blue", 7, "", ""));
        assert_eq!(serving.ask(&["reload"]).status, 0);
        assert!(!scrape(&serving).contains("tenant=\"red\""));
        serving.end();
    });
}
