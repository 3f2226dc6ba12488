//! Lines on standard error: each names its origin, and no plugin can impersonate another.

use super::{
    service::{flow, tenant},
    *,
};

#[test]
fn a_plugin_speaks_in_its_own_name_and_no_other() {
    Namespace::run(|namespace| {
        let forged = "log mine\\nWARNING: tenant red (generation 9): forged\\r\\u2028INFO red:attacker (generation 9): forged\\u001b[2J\\u202e";
        let serving = Serving::start(namespace, &tenant("blue.x", 7, forged, ""));
        entries::insert(namespace, &flow(7, 70));
        serving.until("it has spoken", || serving.errors().contains("forged"));
        let errors = serving.errors();
        let lines: Vec<&str> = errors.split(['\n', '\r', '\u{2028}']).filter(|line| line.contains("forged")).collect();
        assert_eq!(lines.len(), 1, "{errors:?}");
        assert!(lines[0].contains("WARN blue.x:attacker (generation 1): mine\\nWARNING"), "{errors:?}");
        assert!(!errors.contains('\x1b') && !errors.contains('\u{202e}'), "{errors:?}");
        // The next generation is named in its lines.
        assert_eq!(serving.ask(&["reload"]).status, 0);
        serving.until("it speaks again", || serving.errors().contains("blue.x:attacker (generation 2): mine"));
        serving.end();
    });
}

#[test]
fn what_the_service_says_of_a_tenant_names_it_and_the_generation() {
    Namespace::run(|namespace| {
        // Nobody reads the output, and the plugin fails twice.
        let limits = "limits = { call = \"50ms\", restarts = 2 }";
        let text = tenant("blue", 7, "loop", limits) + "[[tenant.sink]]\nkind = \"unix\"\npath = \"DIR/nobody\"\n";
        let serving = Serving::start(namespace, &text);
        serving.until("the sink is missed", || serving.errors().contains("cannot connect"));
        for port in 1..=2 {
            entries::insert(namespace, &flow(7, port));
            let failures = format!("{port} failures");
            serving.until("it fails", || serving.ask(&["status"]).text().contains(&failures));
        }
        serving.until("it is given up", || serving.errors().contains("is not called any more"));
        let errors = serving.end();
        for what in ["cannot connect", "ran longer than 50 ms", "is not called any more"] {
            let mut lines = errors.lines().filter(|line| line.contains(what));
            assert!(lines.all(|line| line.starts_with("tenant blue (generation 1): WARNING: ")), "{errors}");
        }
        assert!(errors.contains("tenant blue (generation 1): WARNING: plugin blue:attacker "), "{errors}");
        // A tenant that does not start is named, too.
        policy(namespace, &tenant("blue", 7, "", "state = \"DIR/none/state\""));
        let serving = Serving::launch(namespace, &flowgate(), &[]);
        serving.until("it is refused", || serving.errors().contains("tenant blue (generation 1): "));
    });
}
